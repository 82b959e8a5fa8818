"""The board of a walk-forward as Dagster's UI shows it."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import dagster as dg

from atft_assets.reports.scoreboard import by_horizon, figures, legend, records
from atft_assets.reports.spark import line_markdown


def shown(board: Mapping[str, Any]) -> dict[str, Any]:
    """What a person reads first, the tables, and the numbers that plot."""
    missing = [f"{name}: {why}" for name, why in board["missing"].items()]
    return {
        "outcome": outcome(board),
        "curve": dg.MetadataValue.md(curve(board)),
        "table": dg.MetadataValue.table(records(board)),
        **_most_traded(board),
        "by_fold": dg.MetadataValue.table(fold_records(board)),
        "by_horizon": dg.MetadataValue.table(by_horizon(board)),
        "folds": dg.MetadataValue.table(_folds(board)),
        "missing": "\n".join(missing) or "none",
        "closed": ", ".join(board["closed"]) or "none",
        "gaps": ", ".join(board["gaps"]) or "none",
        "legend": legend(board),
        "days": board["days"],
        "rows_left_out": board["rows_left_out"],
        **figures(board),
    }


def _most_traded(board: Mapping[str, Any]) -> dict[str, Any]:
    """The table among the most traded names, where it says something else."""
    narrow = board["most_traded"]
    return {"table_most_traded": dg.MetadataValue.table(records(narrow))} if narrow else {}


def curve(board: Mapping[str, Any]) -> str:
    """The monthly RankICs of the last phase, added up: its slope is the strength, its bends are the years."""
    last = _last_phase(board)["name"]
    months = board["by_month"][last]
    added = dict(zip(months, accumulate(months.values()), strict=True))
    return line_markdown(added, f"{last}, monthly RankIC added up")


def gains(board: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Paired daily differences of the last phase, by baseline."""
    last = _last_phase(board)
    baselines = [row["name"] for row in board["rows"] if row["kind"] == "baseline"]
    return {name: last["against"][name] for name in baselines if name in last["against"]}


def gain_records(board: Mapping[str, Any]) -> list[dg.TableRecord]:
    """The same as a table."""
    return [
        dg.TableRecord({"against": name, **{part: _number(pair[part], "+.4f") for part in ("mean", "low", "high")}})
        for name, pair in gains(board).items()
    ]


def outcome(board: Mapping[str, Any]) -> str:
    """The result in a sentence, and what is not in it."""
    last, names = _last_phase(board), [part["fold"] for part in board["folds"]]
    parts = [
        f"{last['name']} reaches a RankIC of {_number(last['rank_ic'], '.4f')} on the {board['days']} test days of "
        f"{len(names)} folds ({', '.join(names)})"
    ]
    if narrow := board["most_traded"]:
        parts.append(f"{_number(_last_phase(narrow)['rank_ic'], '.4f')} among the most traded names of each year")
    parts += [
        f"{_number(pair['mean'], '+.4f')} against {name} (95 % {_number(pair['low'], '+.4f')} to "
        f"{_number(pair['high'], '+.4f')})"
        for name, pair in gains(board).items()
    ]
    if board["missing"]:
        parts.append(f"missing: {', '.join(board['missing'])}")
    if board["closed"]:
        parts.append(f"kept closed for the end: {', '.join(board['closed'])}")
    return "; ".join(parts)


def fold_records(board: Mapping[str, Any]) -> list[dg.TableRecord]:
    """RankIC of every name in each fold."""
    return [
        dg.TableRecord({"": name, **{fold: _number(value, ".4f") for fold, value in values.items()}})
        for name, values in board["by_fold"].items()
    ]


def _folds(board: Mapping[str, Any]) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "fold": part["fold"],
                **{block: " to ".join(part[block]) for block in ("train", "validation", "test")},
                "kind": "final" if part["final"] else "development",
            }
        )
        for part in board["folds"]
    ]


def _last_phase(board: Mapping[str, Any]) -> Mapping[str, Any]:
    return [row for row in board["rows"] if row["kind"] == "phase"][-1]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or value != value else format(value, form)
