"""The command line: `python -m atft_model {train,predict,evaluate,bench,sizes,study,info}`.

Thread limits and the death signal are set here, before torch is imported: they cannot be changed afterwards. This is
also the only place that talks to Dagster, through `dagster_pipes`, and only when the process was started through it.

Exit codes: 0 finished; 2 bad input; 3 a guard was violated; 74 disk full or over quota; 75 the lock is taken; 130
interrupted.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from atft_model.config import PRESETS

BAD_INPUT, GUARD, DISK, BUSY, INTERRUPTED = 2, 3, 74, 75, 130
PR_SET_PDEATHSIG = 1
SAFE = "safe"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MAX_THREADS = 8


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies (Linux); a parent already gone ends it at once."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed: --die-with-parent needs Linux")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def limit_threads(threads: int | None) -> int:
    """Thread limits of every numeric library, before any of them is loaded; waiting threads sleep instead of
    spinning.
    """
    count = threads or min(len(os.sched_getaffinity(0)), MAX_THREADS)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic cuBLAS asks for
    return count


def keep_memory() -> None:
    """Tells glibc to keep freed blocks: the same large temporaries come back every step, and faulting them in costs a
    tenth.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    group.add_argument(
        "--mode",
        choices=("safe", "optimized"),
        help="safe: deterministic, eager, float32 (default; bench on a GPU: optimized). "
        "optimized: on a GPU compiled regions, bfloat16, TF32",
    )
    group.add_argument("--threads", type=int, metavar="N", help=f"CPU threads (default: all, at most {MAX_THREADS})")
    group.add_argument(
        "--lock", type=Path, metavar="FILE", help="hold this file's lock while running; exit 75 if it is taken"
    )
    group.add_argument(
        "--die-with-parent", action="store_true", help="be killed by the kernel when the parent process dies"
    )


def sizing(parser: argparse.ArgumentParser, default: str | None) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default=default,
        help=f"named sizes (default: {default or 'the parent run, or small'})",
    )
    group.add_argument("--hidden-size", type=int, metavar="H", help="width of the network")
    group.add_argument("--lookback", type=int, metavar="L", help="days that a prediction can see")
    group.add_argument("--fusion", choices=("seed", "highway"), help="how graph and temporal states are joined")
    group.add_argument("--gat-backend", choices=("dense", "pyg"), help="pyg: torch-geometric's GATv2Conv")
    group.add_argument("--dropout", type=float)
    group.add_argument("--chunk-days", type=int, metavar="B", help="days that share one encoding; 1 is the exact mode")
    group.add_argument("--chunks-per-step", type=int, metavar="G")
    group.add_argument("--learning-rate", type=float, metavar="RATE")


SIZING = (
    "hidden_size",
    "lookback",
    "fusion",
    "gat_backend",
    "dropout",
    "chunk_days",
    "chunks_per_step",
    "learning_rate",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m atft_model",
        description="Train, score and measure the ATFT-GAT-FAN network on one panel directory.",
        epilog="Exit codes: 0 done, 2 bad input, 3 a guard was violated, 74 disk full, 75 lock taken, 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    p = commands.add_parser("train", help="train one phase of the curriculum into a run directory")
    p.add_argument("--panel", type=Path, required=True, metavar="DIR", help="panel directory")
    p.add_argument(
        "--phase",
        type=int,
        required=True,
        choices=(0, 1, 2, 3),
        help="0 baseline, 1 + FAN and SAN, 2 + graph attention, 3 fine-tuning",
    )
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="run directory to write")
    p.add_argument("--init", type=Path, metavar="DIR", help="finished run of the phase before")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--n-seeds", type=int, default=1, metavar="K", help="train K members and average their scores")
    p.add_argument("--epochs", type=int, metavar="E", help="at most E epochs (default: the stage's own)")
    p.add_argument("--max-seconds", type=float, metavar="S", help="start no epoch that would end later than this")
    p.add_argument("--resume", action="store_true", help="continue an interrupted or killed run in --out")
    p.add_argument("--shuffle-edges", type=int, metavar="SEED", help="control: replace neighbours by random names")
    p.add_argument("--permute-labels", type=int, metavar="SEED", help="control: shuffle each day's labels")
    sizing(p, None)
    common(p)

    p = commands.add_parser("predict", help="write the scores of a block of days")
    p.add_argument("--panel", type=Path, required=True, metavar="DIR")
    p.add_argument("--run", type=Path, required=True, metavar="DIR", help="finished run directory")
    p.add_argument("--block", choices=("train", "validation", "test", "all"), default="validation")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="parquet file to write")
    p.add_argument("--exact", action="store_true", help="encode every day on its own (slower; B = 1)")
    common(p)

    p = commands.add_parser("evaluate", help="RankIC, IC, t and ICIR of a run on a block of days")
    p.add_argument("--panel", type=Path, required=True, metavar="DIR")
    p.add_argument(
        "--run", type=Path, required=True, metavar="DIR", action="append", help="repeat to compare, paired by day"
    )
    p.add_argument("--block", choices=("train", "validation", "test", "all"), default="validation")
    p.add_argument(
        "--neutral-feature",
        metavar="NAME",
        help="also evaluate after residualising on this feature and sector33 (per day)",
    )
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    common(p)

    p = commands.add_parser("bench", help="measure feeding, step time, throughput and memory on synthetic data")
    p.add_argument(
        "--size",
        choices=("demo", "full"),
        default="demo",
        help="demo: 208 names x 500 days x 56 features, L 20. full: 4480 x 2450 x 150, L 60",
    )
    p.add_argument("--curriculum", action="store_true", help="also run all four phases on the synthetic panel")
    p.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also time per-sample windows with a DataLoader (default: in the demo size)",
    )
    p.add_argument("--steps", type=int, default=20, help="timed steps")
    p.add_argument("--out", type=Path, metavar="FILE", help="also write the figures as JSON")
    p.add_argument("--seed", type=int, default=0)
    sizing(p, None)
    common(p)

    p = commands.add_parser("sizes", help="compare presets: a few epochs each of the whole network on one panel")
    p.add_argument("--panel", type=Path, metavar="DIR", help="panel directory (default: a synthetic panel)")
    p.add_argument("--presets", nargs="+", default=["small", "base", "wide256"], metavar="PRESET")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--lookback", type=int, metavar="L")
    p.add_argument("--chunk-days", type=int, metavar="B")
    common(p)

    p = commands.add_parser("study", help="the whole curriculum over several seeds, with controls, in one table")
    p.add_argument("--panel", type=Path, metavar="DIR", help="panel directory (default: a synthetic panel)")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument(
        "--block",
        choices=("validation", "test"),
        nargs="+",
        default=["validation"],
        help="what to report, a table each",
    )
    p.add_argument("--epochs", type=int, nargs=4, metavar="N", help="epochs of the four phases")
    p.add_argument("--controls", action="store_true", help="also permuted labels and shuffled graph edges")
    p.add_argument("--neutral-feature", metavar="NAME", help="also report figures residualised on it and on sector33")
    p.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE",
        help="score files to compare with on the same rows (date, code, score_<h>d: of `predict`, of the baselines)",
    )  # fmt: skip
    p.add_argument("--out", type=Path, metavar="FILE", help="also write every daily series and figure as JSON")
    sizing(p, "demo")
    common(p)

    p = commands.add_parser("info", help="what a panel or a run directory holds")
    p.add_argument("directory", type=Path)
    common(p)
    return parser


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    return {k: v for k in SIZING if (v := getattr(arguments, k, None)) is not None}


def run_train(arguments: argparse.Namespace, stack: ExitStack) -> None:
    from atft_model.checkpoint import read_run
    from atft_model.config import Preset, from_json, preset, replace_fields
    from atft_model.train import Listener, Request, train

    changed = overrides(arguments)
    config: Preset | None = None
    if arguments.preset or arguments.init is None:
        config = preset(arguments.preset or "small", **changed)
    elif changed:
        config = replace_fields(from_json(read_run(arguments.init)["config"]), **changed)
    stop = stop_flag()
    pipes = open_pipes(stack)

    def record(event: Mapping[str, Any]) -> None:
        if pipes is not None:
            from atft_model.checkpoint import plain

            pipes.report_custom_message(plain(event))

    def line(text: str) -> None:
        print(text, flush=True)
        if pipes is not None:
            pipes.log.info(text)

    request = Request(
        panel=arguments.panel,
        phase=arguments.phase,
        out=arguments.out,
        config=config,
        init=arguments.init,
        seed=arguments.seed,
        n_seeds=arguments.n_seeds,
        device=pick_device(arguments.device),
        mode=arguments.mode or SAFE,
        epochs=arguments.epochs,
        max_seconds=arguments.max_seconds,
        resume=arguments.resume,
        shuffle_edges=arguments.shuffle_edges,
        permute_labels=arguments.permute_labels,
    )
    document = train(request, Listener(line, record, stop))
    summary = document["validation"]
    line(
        f"phase {document['phase']} {document['name']} finished: "
        f"validation RankIC {summary['rank_ic']:+.4f} on {summary['days']} days "
        f"(epoch {document['best_epoch']} of {document['epochs']}, {document['seconds']:.1f} s) -> {arguments.out}"
    )


def run_predict(arguments: argparse.Namespace, _: ExitStack) -> None:
    from atft_model.predict import ensemble, load_run, score_block, write_scores
    from atft_model.train import set_mode

    device = pick_device(arguments.device)
    set_mode(arguments.mode or SAFE, device)
    models, panel = load_run(arguments.run, arguments.panel, device, exact=arguments.exact)
    first, last = panel.meta.block(arguments.block)
    scores = [score_block(m, panel, arguments.block, mode=arguments.mode or SAFE) for m in models]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = write_scores(arguments.out, ensemble(scores, panel.valid[first : last + 1]), panel, arguments.block)
    print(f"{rows:,} scores, {panel.meta.dates[first]} to {panel.meta.dates[last]} -> {arguments.out}")


def run_evaluate(arguments: argparse.Namespace, _: ExitStack) -> None:
    from atft_model.study import evaluate_runs

    print(
        evaluate_runs(
            arguments.run,
            arguments.panel,
            arguments.block,
            pick_device(arguments.device),
            arguments.mode or SAFE,
            arguments.neutral_feature,
            as_json=arguments.json,
        )
    )


def run_bench(arguments: argparse.Namespace, _: ExitStack) -> None:
    from atft_model.bench import bench

    device = pick_device(arguments.device)
    bench(
        arguments.size,
        device,
        mode=arguments.mode or ("optimized" if device.type == "cuda" else "safe"),
        steps=arguments.steps,
        seed=arguments.seed,
        curriculum=arguments.curriculum,
        compare=arguments.compare,
        preset_name=arguments.preset,
        overrides=overrides(arguments),
        out=arguments.out,
    )


def run_sizes(arguments: argparse.Namespace, _: ExitStack) -> None:
    from atft_model.study import sizes

    print(
        sizes(
            arguments.panel,
            arguments.presets,
            arguments.epochs,
            arguments.seed,
            pick_device(arguments.device),
            arguments.mode or SAFE,
            overrides(arguments),
        )
    )


def run_study(arguments: argparse.Namespace, _: ExitStack) -> None:
    from atft_model.config import preset
    from atft_model.study import study

    study(
        arguments.panel,
        preset(arguments.preset, **overrides(arguments)),
        arguments.seeds,
        arguments.block,
        pick_device(arguments.device),
        arguments.mode or SAFE,
        controls=arguments.controls,
        neutral=arguments.neutral_feature,
        out=arguments.out,
        against=arguments.against,
        epochs=arguments.epochs,
    )


def run_info(arguments: argparse.Namespace, _: ExitStack) -> None:
    from atft_model.study import describe

    print(describe(arguments.directory))


COMMANDS: Mapping[str, Callable[[argparse.Namespace, ExitStack], None]] = {
    "train": run_train,
    "predict": run_predict,
    "evaluate": run_evaluate,
    "bench": run_bench,
    "sizes": run_sizes,
    "study": run_study,
    "info": run_info,
}


def pick_device(name: str) -> Any:
    """The torch device of --device; ConfigError when a GPU was asked for and there is none."""
    import torch

    from atft_model.config import ConfigError

    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this machine has no usable GPU; use --device cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def stop_flag() -> Callable[[], bool]:
    """Turns the first SIGINT or SIGTERM into a request to stop at the next step; a second one acts as usual."""
    asked: list[int] = []

    def handler(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    return lambda: bool(asked)


def open_pipes(stack: ExitStack) -> Any:
    """The Dagster Pipes context when this process was started through one, else None."""
    if "DAGSTER_PIPES_CONTEXT" not in os.environ:
        return None
    from dagster_pipes import open_dagster_pipes

    return stack.enter_context(open_dagster_pipes())


def take_lock(path: Path, stack: ExitStack) -> None:
    """Holds an exclusive lock on `path` until the process ends; BlockingIOError if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(path.open("a+"))
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid()}) + "\n")
    file.flush()


def fail(code: int, error: BaseException | str) -> int:
    print(f"atft_model: {error}", file=sys.stderr, flush=True)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    if arguments.die_with_parent:
        die_with_parent()
    threads = limit_threads(arguments.threads)
    keep_memory()
    with ExitStack() as stack:
        if arguments.lock is not None:
            try:
                take_lock(arguments.lock, stack)
            except BlockingIOError:
                return fail(
                    BUSY, f"{arguments.lock} is held by another process: the device is busy, try again when it ends"
                )
        import torch

        torch.set_num_threads(threads)
        from atft_model.checkpoint import DiskFull, Mismatch
        from atft_model.config import ConfigError
        from atft_model.monitor import NonFinite
        from atft_model.panel import PanelError
        from atft_model.train import GuardViolation, Interrupted, InvalidRequest

        try:
            COMMANDS[arguments.command](arguments, stack)
        except (ConfigError, PanelError, Mismatch, InvalidRequest) as error:
            return fail(BAD_INPUT, error)
        except (GuardViolation, NonFinite) as error:
            return fail(GUARD, error)
        except DiskFull as error:
            return fail(DISK, error.strerror or error)
        except (Interrupted, KeyboardInterrupt):
            return fail(INTERRUPTED, "interrupted; continue with the same command and --resume")
    return 0


if __name__ == "__main__":
    sys.exit(main())
