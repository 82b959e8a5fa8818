"""The arguments of `python -m atft_model`. Nothing here needs torch, so `--help` is quick.

What is trained or predicted is a request (`interchange.request`), the same document that Dagster sends; what remains as
flags of those two commands concerns the process alone.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

from atft_model.interchange.config import PRESETS
from atft_model.interchange.exits import MEANING, Exit
from atft_model.interchange.fold import BLOCKS
from atft_model.interchange.records import doc_of
from atft_model.interchange.request import PredictRequest, TrainRequest
from atft_model.process import MAX_THREADS

SIZING = (
    "newest_size", "hidden_size", "temporal_size", "lookback", "fusion", "gat_backend", "dropout", "names",
    "chunk_days", "chunks_per_step", "learning_rate", "schedule", "keep",
)  # fmt: skip
"""Fields of a preset that bench, sizes and study can replace by flags."""

POINTER = ", or `latest` beside it"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    codes = ", ".join(f"{code.value} {MEANING[code].split(':')[0].split(';')[0]}" for code in Exit)
    parser = argparse.ArgumentParser(
        prog="python -m atft_model",
        description="Train, score and measure the ATFT-GAT-FAN network on one panel directory.",
        epilog=f"Exit codes: {codes}.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_request(commands, "train", "train one phase of the curriculum into a run directory", TrainRequest)
    add_request(commands, "predict", "write the scores of days of a panel", PredictRequest)
    add_evaluate(commands)
    add_bench(commands)
    add_sizes(commands)
    add_study(commands)
    add_fanout(commands)
    add_readers(commands)
    return parser


def add_fanout(commands: Any) -> None:
    """`fanout`, the driver of a job on a Ray cluster."""
    p = commands.add_parser("fanout", help="many trainings as tasks of a Ray cluster; started by its Jobs API")
    p.add_argument("--spec", type=Path, required=True, metavar="FILE", help="the batch: batch.json in a shared folder")


def add_readers(commands: Any) -> None:
    """`runs` and `info`, which read records alone."""
    p = commands.add_parser("runs", help="list the runs that were trained, the newest of each phase marked")
    p.add_argument("--runs", type=Path, metavar="DIR", help="folder of runs (default: runs in ATFT_DATA, or in ./data)")
    p = commands.add_parser(
        "info", help="what a directory or a file is and holds",
        description="Say what a path is: a run, panel or baselines directory, a folder of them, a pointer `latest`, a "
        "fold file, a request, a score file, a checkpoint.",
    )  # fmt: skip
    p.add_argument("path", type=Path, metavar="PATH", help="directory or file to describe")


def add_process(parser: argparse.ArgumentParser) -> None:
    """Flags that concern the process: every command that computes has them."""
    group = parser.add_argument_group("process")
    group.add_argument("--threads", type=int, metavar="N", help=f"CPU threads (default: all, at most {MAX_THREADS})")
    group.add_argument(
        "--lock", type=Path, metavar="FILE", help="hold this file's lock while running; exit 75 if it is taken"
    )
    group.add_argument(
        "--die-with-parent", action="store_true", help="be killed by the kernel when the parent process dies"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Device and mode, for the commands that take no request."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    group.add_argument(
        "--mode",
        choices=("safe", "optimized"),
        help="safe: deterministic, eager, float32 (default; bench on a GPU: optimized). "
        "optimized: on a GPU compiled regions, bfloat16, TF32",
    )
    add_process(parser)


def add_sizing(parser: argparse.ArgumentParser, default: str | None) -> None:
    """A preset and the flags that replace its fields."""
    group = parser.add_argument_group("network")
    of_size = default or "the size's own"
    group.add_argument("--preset", choices=tuple(PRESETS), default=default, help=f"named sizes (default: {of_size})")
    group.add_argument("--hidden-size", type=int, metavar="C", help="width of a name's state")
    group.add_argument("--newest-size", type=int, metavar="N", help="width of the first layer over the newest row")
    group.add_argument("--temporal-size", type=int, metavar="A", help="width of the temporal encoder")
    group.add_argument("--lookback", type=int, metavar="L", help="days that a prediction can see")
    group.add_argument("--fusion", choices=("seed", "highway"), help="how graph and own states are joined")
    group.add_argument("--gat-backend", choices=("dense", "pyg"), help="pyg: torch-geometric's GATv2Conv")
    group.add_argument("--dropout", type=float, metavar="P", help="share of activations that training drops")
    group.add_argument("--names", type=int, metavar="N", help="names drawn of each chunk's eligible ones; 0: all")
    group.add_argument("--chunk-days", type=int, metavar="B", help="days that share one encoding; 1 is the exact mode")
    group.add_argument("--chunks-per-step", type=int, metavar="G", help="chunks of days in one optimizer step")
    group.add_argument("--learning-rate", type=float, metavar="RATE", help="of the first phase; phases multiply it")
    group.add_argument("--schedule", choices=("constant", "cosine"), help="of the learning rate after the warm-up")
    group.add_argument("--keep", choices=("last", "best"), help="epoch whose weights are kept")


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of a preset that were given as flags."""
    return {k: v for k in SIZING if (v := getattr(arguments, k, None)) is not None}


def add_request(commands: Any, name: str, what: str, record: type) -> None:
    """A command that carries out a request; its help lists the request's fields."""
    width = max(len(field.name) for field in fields(record))
    lines = "\n".join(
        textwrap.fill(doc_of(f), 110, initial_indent=f"  {f.name:<{width}}  ", subsequent_indent=" " * (width + 4))
        for f in fields(record)
    )
    p = commands.add_parser(
        name,
        help=what,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{what[0].upper()}{what[1:]}, as a request says: a JSON file, single fields set over it, or both.",
        epilog=f"fields of the request (docs/formats.md has their types and defaults):\n{lines}",
    )
    p.add_argument("request", type=Path, nargs="?", metavar="REQUEST.json", help="file with fields of the request")
    p.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NAME=VALUE",
        help="set a field, or one inside a field (seed=1, network.dropout=0.2); repeat for more",
    )  # fmt: skip
    add_process(p)


def add_fold(parser: argparse.ArgumentParser, default: str) -> None:
    """The fold of a panel directory."""
    parser.add_argument("--fold", type=Path, metavar="FILE", help=f"fold file (default: {default})")


def add_evaluate(commands: Any) -> None:
    """`evaluate`."""
    p = commands.add_parser("evaluate", help="RankIC, IC, t and ICIR of runs on a block of days")
    p.add_argument("--panel", type=Path, required=True, metavar="DIR", help=f"panel directory{POINTER}")
    p.add_argument(
        "--run", type=Path, required=True, metavar="DIR", action="append",
        help=f"run directory{POINTER}; repeat to compare, paired by day",
    )  # fmt: skip
    add_fold(p, "the one that the runs record")
    p.add_argument("--block", choices=(*BLOCKS, "all"), default="validation", help="days (default: validation)")
    p.add_argument("--neutral", action="store_true", help="also without what sector33 and 20-day volatility explain")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_machine(p)


def add_bench(commands: Any) -> None:
    """`bench`."""
    p = commands.add_parser("bench", help="measure feeding, step time, throughput and memory on synthetic data")
    p.add_argument(
        "--size",
        choices=("demo", "full"),
        default="demo",
        help="demo: 208 names x 500 days x 56 features, L 20. full: 4480 x 2450 x 150, L 60",
    )
    p.add_argument("--curriculum", action="store_true", help="also run all phases on the synthetic panel")
    p.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also time per-sample windows with a DataLoader (default: in the demo size)",
    )
    p.add_argument("--steps", type=int, default=20, help="timed steps")
    p.add_argument("--out", type=Path, metavar="FILE", help="also write the figures as JSON")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and synthetic data (default: 0)")
    add_sizing(p, None)
    add_machine(p)


def add_sizes(commands: Any) -> None:
    """`sizes`."""
    p = commands.add_parser("sizes", help="compare presets: a few epochs each of the whole network on one panel")
    p.add_argument("--panel", type=Path, metavar="DIR", help=f"panel directory{POINTER} (default: synthetic)")
    add_fold(p, "a synthetic panel's own; needed with --panel")
    p.add_argument(
        "--presets", nargs="+", default=["small", "base", "wide256"], metavar="PRESET",
        help="named sizes to compare (default: small base wide256)",
    )  # fmt: skip
    p.add_argument("--epochs", type=int, default=3, metavar="N", help="of each size (default: 3)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and synthetic data (default: 0)")
    p.add_argument("--lookback", type=int, metavar="L", help="days that a prediction can see (default: the size's own)")
    p.add_argument("--chunk-days", type=int, metavar="B", help="days that share one encoding (default: the size's own)")
    add_machine(p)


def add_study(commands: Any) -> None:
    """`study`."""
    p = commands.add_parser("study", help="the whole curriculum over several seeds, with controls, in one table")
    p.add_argument("--panel", type=Path, metavar="DIR", help=f"panel directory{POINTER} (default: synthetic)")
    add_fold(p, "a synthetic panel's own; needed with --panel")
    p.add_argument("--seeds", type=int, default=5, metavar="N", help="curricula with seeds 0 to N-1 (default: 5)")
    p.add_argument(
        "--block", choices=[b for b in BLOCKS if b != "train"], nargs="+", default=["validation"],
        help="what to report, a table each",
    )  # fmt: skip
    p.add_argument("--epochs", type=int, nargs="+", metavar="N", help="epochs of each phase")
    p.add_argument("--controls", action="store_true", help="also permuted labels and shuffled graph edges")
    p.add_argument("--neutral", action="store_true", help="also without what sector33 and 20-day volatility explain")
    p.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="FILE",
        help="score files to compare with on the same rows (date, code, score_<h>d: of `predict`, of the baselines)",
    )  # fmt: skip
    p.add_argument("--out", type=Path, metavar="FILE", help="also write every daily series and figure as JSON")
    add_sizing(p, "demo")
    add_machine(p)
