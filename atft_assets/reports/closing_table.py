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
from atft_model.interchange.statistics import LEVEL

HEAD = (
    "phase",
    "RankIC",
    "t",
    "ICIR",
    "neutral",
    "seconds",
    "Δ before",
    "95 % interval",
    "p(Δ)",
    "Δ ridge",
    "Δ lightgbm",
)
RIGHT_FROM = 1  # columns from here on are numbers
BEYOND_CHANCE = "*"
OLD_RULE = (
    "An earlier version judged this table, by a rule that takes chance for skill too often: its t are too large, its "
    "intervals and p are not shown. To judge the same runs anew, run: {command}"
)


def render(board: Mapping[str, Any]) -> str:
    """The stored table as aligned text, with one sentence below it."""
    lines = [HEAD, *(_cells(row, judged(board)) for row in board["rows"])]
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
    return "\n".join([*text, "", note(board), "", sentence(board)])


def note(board: Mapping[str, Any]) -> str:
    """What a star and a t of the table mean."""
    if not judged(board):
        return OLD_RULE.format(command=_anew(board))
    if not board["comparisons"]:
        return "Nothing is compared: there is one phase, and no baseline."
    t = next((row["critical"] for row in board["rows"] if row.get("critical")), None)
    beside = f" A t is seldom chance beyond {t:.2f}, not 1.96: neighbouring days share returns." if t else ""
    return (
        f"{BEYOND_CHANCE} beyond chance: p below {LEVEL:.0%} after Holm, of {board['comparisons']} comparisons in this "
        f"table.{beside}"
    )


def judged(board: Mapping[str, Any]) -> bool:
    """Whether the comparisons of a stored table were judged by today's rule; those of earlier versions were not."""
    return "comparisons" in board


def _anew(board: Mapping[str, Any]) -> str:
    """The command that judges what a table judged."""
    if board["block"] == "test":
        return "dagster asset materialize --select test_evaluation, with the config score_again: true"
    fold = board.get("fold", MAIN)
    other = "" if fold == MAIN else f" --partition {fold}"
    return f"dagster asset materialize --select {'fold_' if other else ''}evaluation{other}"


def difference_cell(pair: Mapping[str, Any] | None) -> str:
    """A difference with its sign, and a star or a blank after it; empty where there is none."""
    if pair is None or pair["mean"] is None:
        return ""
    return f"{pair['mean']:+.4f}{BEYOND_CHANCE if beyond_chance(pair) else ' '}"


def beyond_chance(pair: Mapping[str, Any]) -> bool:
    """Whether a difference is more than chance though the table holds many."""
    p = pair.get("p_holm")
    return p is not None and p < LEVEL


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
            chance = "" if beyond_chance(pair) or not judged(board) else " (within chance)"
            parts.append(f"{abs(pair['mean']):.4f} {'above' if pair['mean'] > 0 else 'below'} {name}{chance}")
    if judged(board):
        gained = [row["name"] for row in phases if _gained(_pair(row, row["previous"]))]
        unsure = [row["name"] for row in phases if row["previous"] and row["name"] not in gained]
        if gained:
            parts.append(f"{_and(gained)} gained on the phase before beyond chance")
        if unsure:
            parts.append(f"of {_and(unsure)} that cannot be said")
    seeds = board.get("seeds", 1)
    several = "One seed" if seeds == 1 else f"{seeds} seeds"
    text = "; ".join(parts) + f". {several} and {board['days']} days: read the intervals, not the last digit"
    return text + (", and expect far less on a real market than on this simulated one." if oracle else ".")


def _cells(row: Mapping[str, Any], told: bool) -> tuple[str, ...]:
    """A line; without `told` without intervals and p, which an older rule gave."""
    before = _pair(row, row["previous"])
    judged_before = before if told and before and before["p"] is not None else None
    return (
        f"{row['name']} {row['label']}".strip(),
        _number(row["rank_ic"], ".4f"),
        _number(row["t"], ".1f"),
        _number(row["icir"], ".2f"),
        _number(row["neutral_rank_ic"], ".4f"),
        _number(row.get("seconds"), ".1f"),
        difference_cell(before),
        f"{judged_before['low']:+.4f} {judged_before['high']:+.4f}" if judged_before else "",
        _p(judged_before["p"]) if judged_before else "",
        *(difference_cell(_pair(row, name)) for name in ("ridge", "lightgbm")),
    )


def _pair(row: Mapping[str, Any], other: str | None) -> Mapping[str, Any] | None:
    pair = row["against"].get(other) if other else None
    return pair if pair and pair["mean"] is not None else None


def _gained(pair: Mapping[str, Any] | None) -> bool:
    return pair is not None and pair["mean"] > 0 and beyond_chance(pair)


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"


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
