"""The closing table as plain text: `python -m atft_assets.reports.closing_table [validation.json]`.

Reads what `evaluation` stored; computes nothing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store, StoreError
from atft_model.interchange.errors import RunError
from atft_model.interchange.fold import MAIN
from atft_model.interchange.records import read_json

HEAD = (
    "phase",
    "RankIC",
    "t",
    "ICIR",
    "neutral",
    "seconds",
    "Δ before",
    "95 % interval",
    "t(Δ)",
    "Δ ridge",
    "Δ lightgbm",
)
RIGHT_FROM = 1  # columns from here on are numbers


def render(board: Mapping[str, Any]) -> str:
    """The stored table as aligned text, with one sentence below it."""
    lines = [HEAD, *(_cells(row) for row in board["rows"])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    title = (
        f"{board['block']} block, {board['first']} to {board['last']} ({board['days']} trading days), "
        f"panel {board['panel_id']}"
    )
    text = [title, ""]
    for i, line in enumerate(lines):
        text.append("  ".join(_aligned(cell, widths[c], c) for c, cell in enumerate(line)).rstrip())
        if i == 0:
            text.append("  ".join("-" * width for width in widths))
    return "\n".join([*text, "", sentence(board)])


def sentence(board: Mapping[str, Any]) -> str:
    """What the table says, and what it does not."""
    rows = {row["name"]: row for row in board["rows"]}
    phases = [row for row in board["rows"] if row["kind"] == "phase"]
    if not phases:
        return "No phase has been trained."
    last = phases[-1]
    parts = [f"{last['name']} reaches a RankIC of {_number(last['rank_ic'], '.4f')}"]
    oracle = rows.get("oracle")
    if oracle and oracle["rank_ic"] and last["rank_ic"] is not None:
        parts.append(f"{last['rank_ic'] / oracle['rank_ic']:.0%} of what is attainable on the simulated market")
    for name in ("ridge", "lightgbm"):
        if pair := _pair(last, name):
            chance = "" if pair["low"] > 0 or pair["high"] < 0 else " (within chance)"
            parts.append(f"{abs(pair['mean']):.4f} {'above' if pair['mean'] > 0 else 'below'} {name}{chance}")
    gained = [row["name"] for row in phases if _significant(_pair(row, row["previous"]))]
    unsure = [row["name"] for row in phases if row["previous"] and row["name"] not in gained]
    if gained:
        parts.append(f"{_and(gained)} gained on the phase before beyond chance (95 % interval above zero)")
    if unsure:
        parts.append(f"of {_and(unsure)} that cannot be said")
    text = "; ".join(parts) + f". One seed and {board['days']} days: read the intervals, not the last digit"
    return text + (", and expect far less on a real market than on this simulated one." if oracle else ".")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    before = _pair(row, row["previous"])
    interval = f"{before['low']:+.4f} {before['high']:+.4f}" if before else ""
    return (
        f"{row['name']} {row['label']}".strip(),
        _number(row["rank_ic"], ".4f"),
        _number(row["t"], ".1f"),
        _number(row["icir"], ".2f"),
        _number(row["neutral_rank_ic"], ".4f"),
        _number(row.get("seconds"), ".1f"),
        _number(before["mean"], "+.4f") if before else "",
        interval,
        _number(before["t"], "+.1f") if before else "",
        *(_number(pair["mean"], "+.4f") if (pair := _pair(row, name)) else "" for name in ("ridge", "lightgbm")),
    )


def _pair(row: Mapping[str, Any], other: str | None) -> Mapping[str, Any] | None:
    pair = row["against"].get(other) if other else None
    return pair if pair and pair["mean"] is not None else None


def _significant(pair: Mapping[str, Any] | None) -> bool:
    return pair is not None and pair["low"] > 0


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column >= RIGHT_FROM else cell.ljust(width)


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def main(arguments: list[str]) -> int:
    """Print the table; 1 if there is none yet."""
    try:
        if arguments:
            path = Path(arguments[0])
        else:
            path = Store(root=Settings.from_env().data_root).local("evaluation", MAIN, "validation.json")
        missing = "there is no table yet; run: dagster asset materialize --select evaluation"
        print(render(read_json(path, missing, RunError)))
    except (SettingsError, StoreError, RunError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
