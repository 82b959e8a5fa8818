"""The command line: `python -m atft_model {train,predict,evaluate,bench,sizes,study,fanout,runs,info}`.

Thread limits and the death signal are set here, before torch is imported: they cannot be changed afterwards. This is
also the only place that talks to Dagster, through `dagster_pipes`, and only when the process was started through it.
What the exit codes mean is in `interchange.exits`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from atft_model.cli import build_parser, overrides
from atft_model.interchange.disk import FULL, Unwritable, keep_private
from atft_model.interchange.errors import InterchangeError
from atft_model.interchange.exits import Exit
from atft_model.process import die_with_parent, keep_memory, limit_threads, open_pipes, stop_flag, take_lock

SAFE = "safe"

if TYPE_CHECKING:
    from atft_model.study import Source


def run_train(arguments: argparse.Namespace, stack: ExitStack) -> None:
    """Carry out a training request, telling people and Dagster about it."""
    from atft_model.interchange.records import to_plain
    from atft_model.interchange.request import read_document, train_request
    from atft_model.train import Listener, train

    request = train_request(read_document(arguments.request, arguments.settings))
    stop = stop_flag()
    pipes = open_pipes(stack)

    def record(event: Mapping[str, Any]) -> None:
        if pipes is not None:
            pipes.report_custom_message(to_plain(event))

    def line(text: str) -> None:
        print(text, flush=True)
        if pipes is not None:
            pipes.log.info(text)

    run = train(request, Listener(line, record, stop))
    summary: Mapping[str, Any] = run.validation or {}
    line(
        f"phase {run.phase} {run.name} finished: validation RankIC {summary['rank_ic']:+.4f} on {summary['days']} days "
        f"(epoch {run.kept_epoch} of {run.epochs}, {run.seconds:.1f} s) -> {request.out}"
    )


def run_predict(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Carry out a prediction request."""
    from atft_model.interchange.request import predict_request, read_document
    from atft_model.predict import predict

    print(predict(predict_request(read_document(arguments.request, arguments.settings))))


def run_evaluate(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Print the figures of runs."""
    from atft_model.device import pick_device
    from atft_model.evaluate import evaluate_runs
    from atft_model.interchange.fold import read_fold
    from atft_model.interchange.pointers import resolve

    fold = read_fold(arguments.fold) if arguments.fold else None
    device, mode = pick_device(arguments.device), arguments.mode or SAFE
    print(
        evaluate_runs(
            [resolve(run) for run in arguments.run], resolve(arguments.panel), fold, arguments.block, device, mode,
            neutral=arguments.neutral, as_json=arguments.json,
        )
    )  # fmt: skip


def run_bench(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Print, and write, speeds."""
    from atft_model.bench import bench
    from atft_model.device import pick_device

    device = pick_device(arguments.device)
    bench(
        arguments.size, device, mode=arguments.mode or ("optimized" if device.type == "cuda" else SAFE),
        steps=arguments.steps, seed=arguments.seed, curriculum=arguments.curriculum, compare=arguments.compare,
        preset_name=arguments.preset, overrides=overrides(arguments), out=arguments.out,
    )  # fmt: skip


def _source(arguments: argparse.Namespace) -> Source:
    """The panel and fold of a command, or none of both."""
    from atft_model.interchange.fold import read_fold
    from atft_model.interchange.pointers import resolve
    from atft_model.study import Source

    panel = resolve(arguments.panel) if arguments.panel else None
    return Source(panel, read_fold(arguments.fold) if arguments.fold else None)


def run_sizes(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Print the comparison of presets."""
    from atft_model.device import pick_device
    from atft_model.study import sizes

    source = _source(arguments)
    device, mode = pick_device(arguments.device), arguments.mode or SAFE
    print(sizes(source, arguments.presets, arguments.epochs, arguments.seed, device, mode, overrides(arguments)))


def run_study(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Print, and write, a study."""
    from atft_model.device import pick_device
    from atft_model.interchange.config import preset
    from atft_model.study import study

    study(
        _source(arguments), preset(arguments.preset, **overrides(arguments)), arguments.seeds, arguments.block,
        pick_device(arguments.device), arguments.mode or SAFE, controls=arguments.controls, neutral=arguments.neutral,
        out=arguments.out, against=arguments.against, epochs=arguments.epochs,
    )  # fmt: skip


def run_runs(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Print a table of runs."""
    from atft_model.listing import default_runs, runs_table

    print(runs_table(arguments.runs or default_runs()))


def run_info(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Print what a path holds."""
    from atft_model.info import describe

    print(describe(arguments.path))


def run_fanout(arguments: argparse.Namespace, _: ExitStack) -> None:
    """Have many trainings done by a Ray cluster."""
    from atft_model.fanout import fanout

    if fanout(arguments.spec) is Exit.INTERRUPTED:
        raise KeyboardInterrupt


COMMANDS: Mapping[str, Callable[[argparse.Namespace, ExitStack], None]] = {
    "train": run_train,
    "predict": run_predict,
    "evaluate": run_evaluate,
    "bench": run_bench,
    "sizes": run_sizes,
    "study": run_study,
    "fanout": run_fanout,
    "runs": run_runs,
    "info": run_info,
}
WITHOUT_TORCH = (run_runs, run_info, run_fanout)  # no process is set up


def fail(code: Exit, error: BaseException | str) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    print(f"atft_model: {error}", file=sys.stderr, flush=True)
    return int(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    keep_private()
    if COMMANDS[arguments.command] in WITHOUT_TORCH:
        return without_torch(arguments)
    if arguments.die_with_parent:
        die_with_parent()
    threads = limit_threads(arguments.threads)
    keep_memory()
    with ExitStack() as stack:
        if arguments.lock is not None:
            try:
                take_lock(arguments.lock, stack)
            except BlockingIOError:
                text = f"{arguments.lock} is held by another process: the device is busy, try again when it ends"
                return fail(Exit.LOCK_BUSY, text)
        try:
            import torch
        except KeyboardInterrupt:
            return fail(Exit.INTERRUPTED, "interrupted before it began")
        torch.set_num_threads(threads)
        return carry_out(arguments, stack)


def without_torch(arguments: argparse.Namespace) -> int:
    """The work of a command that reads records, or orders it from other hosts."""
    try:
        COMMANDS[arguments.command](arguments, ExitStack())
    except InterchangeError as error:
        return fail(Exit.BAD_INPUT, error)
    except KeyboardInterrupt:
        return fail(Exit.INTERRUPTED, "interrupted; what had begun is saved")
    except BrokenPipeError:  # whoever read the lines has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(Exit.FINISHED)


def carry_out(arguments: argparse.Namespace, stack: ExitStack) -> int:
    """The command's work, its failures as exit codes and one sentence."""
    from atft_model.fit import Interrupted
    from atft_model.monitor import NonFinite
    from atft_model.train import GuardViolation

    try:
        COMMANDS[arguments.command](arguments, stack)
    except (InterchangeError, Unwritable) as error:
        return fail(Exit.BAD_INPUT, error)
    except (GuardViolation, NonFinite) as error:
        return fail(Exit.GUARD, error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return fail(Exit.DISK_FULL, error.strerror or error)
    except (Interrupted, KeyboardInterrupt):
        return fail(Exit.INTERRUPTED, "interrupted; continue with the same request and resume=true")
    return int(Exit.FINISHED)


if __name__ == "__main__":
    sys.exit(main())
