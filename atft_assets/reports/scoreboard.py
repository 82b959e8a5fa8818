"""One table of everything that ranks, as plain values and as the UI shows it; `training.evaluation` stores it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from atft_assets.reports.closing_table import difference_cell, note
from atft_assets.reports.shown import numbers
from atft_assets.scoring.block import Block
from atft_assets.scoring.evaluation import Score
from atft_model.interchange.records import to_plain
from atft_model.interchange.statistics import MeanVerdict, holm, paired_difference

TOLERANCE = 1e-4  # between the trainer's own RankIC and ours
ORACLE = "oracle"


@dataclass
class Row:
    """One line of the table.

    Attributes:
        kind: phase, baseline, blend or oracle.
        scores: date, code, score_<h>d that were judged, where more is to be said of them.
        parts: of a blend the rows that it is made of, the network first.
    """

    name: str
    kind: str
    score: Score
    label: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    scores: pl.DataFrame | None = None
    parts: tuple[str, ...] = ()


def table(rows: Sequence[Row], block: Block, fold: str) -> dict[str, Any]:
    """The scoreboard as plain values: every row with its figures and its paired daily differences.

    A phase is compared with the phase before it and with each baseline, a blend with what it is made of. All
    comparisons of the table are one family: `p_holm` says which are beyond chance though so many were made; the neutral
    ones are a family of their own.
    """
    by_name = {row.name: row for row in rows}
    phases = [row for row in rows if row.kind == "phase"]
    baselines = [row for row in rows if row.kind == "baseline"]
    longest = max(block.panel.horizons)
    lines = []
    raw: dict[tuple[str, str], MeanVerdict] = {}
    neutral: dict[tuple[str, str], MeanVerdict] = {}
    for row in rows:
        against = {other.name: other for other in baselines} if row.kind == "phase" else {}
        against |= {part: by_name[part] for part in row.parts}
        previous = phases[phases.index(row) - 1] if row in phases[1:] else by_name[row.parts[0]] if row.parts else None
        if previous:
            against[previous.name] = previous
        for name, other in against.items():
            raw[row.name, name] = paired_difference(row.score.daily, other.score.daily, longest)
            neutral[row.name, name] = paired_difference(row.score.daily_neutral, other.score.daily_neutral, longest)
        lines.append(
            {
                "name": row.name,
                "kind": row.kind,
                "label": row.label,
                **row.facts,
                **row.score.as_json(),
                "previous": previous.name if previous else None,
                "against": dict.fromkeys(against),
            }
        )
    all_raw, all_neutral = _family(raw), _family(neutral)
    for line in lines:
        line["against"] = {
            name: {**all_raw[line["name"], name], "neutral": all_neutral[line["name"], name]}
            for name in line["against"]
        }
    first, last = block.days[0], block.days[-1]
    return {
        "fold": fold,
        "block": block.name,
        "first": str(block.panel.dates[first]),
        "last": str(block.panel.dates[last]),
        "days": len(block.days),
        "panel_id": block.panel.panel_id,
        "horizons": list(block.panel.horizons),
        "has_oracle": ORACLE in by_name,
        "comparisons": len(raw),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": lines,
    }


def _family(verdicts: Mapping[tuple[str, str], MeanVerdict]) -> dict[tuple[str, str], dict[str, Any]]:
    """The verdicts of a family of comparisons as plain values, each with its p after Holm."""
    adjusted = holm([verdict.p for verdict in verdicts.values()])
    return {
        pair: {**to_plain(verdict), "p_holm": to_plain(p)}
        for (pair, verdict), p in zip(verdicts.items(), adjusted, strict=True)
    }


def records(board: Mapping[str, Any]) -> list[dg.TableRecord]:
    """The table for Dagster's UI, which shows it in place; figures rounded. Narrow: what is beside it is as wide as it
    is, and what is wider than the page is cut.
    """
    return [
        dg.TableRecord(
            {
                "": f"{row['name']} {row['label']}".strip(),
                "RankIC": _cell(row["rank_ic"], ".4f"),
                **{
                    f"Δ {name}": difference_cell(row["against"].get(other)).strip() or "–"
                    for name, other in (("before", row["previous"]), ("ridge", "ridge"), ("lightgbm", "lightgbm"))
                },
                "t": _cell(row["t"], ".1f"),
                "ICIR": _cell(row["icir"], ".2f"),
                "neutral": _cell(row["neutral_rank_ic"], ".4f"),
            }
        )
        for row in board["rows"]
    ]


def by_horizon(board: Mapping[str, Any]) -> list[dg.TableRecord]:
    """RankIC by horizon, t of every h-th day (h the longest horizon), and the share of the rows that have a score."""
    return [
        dg.TableRecord(
            {
                "": row["name"],
                **{f"{h}d": _cell(row["by_horizon"][str(h)]["rank_ic"], ".4f") for h in board["horizons"]},
                f"t, each {max(board['horizons'])}th day": _cell(row["spaced_t"], ".1f"),
                "coverage": _cell(row["coverage"], ".3f"),
            }
        )
        for row in board["rows"]
    ]


def legend(board: Mapping[str, Any]) -> str:
    """What the columns of the table are, and of which days."""
    return (
        f"{board['block']} block of the fold {board['fold']}, {board['first']} to {board['last']}, {board['days']} "
        f"days, panel {board['panel_id']}. "
        "RankIC: mean daily Spearman, horizons weighted 1, 0.8, 0.6, 0.4. Δ: paired daily difference. Neutral: "
        f"residual on 20-day volatility and sector33. {note(board)}"
    )


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def figures(board: Mapping[str, Any]) -> dict[str, int | float]:
    """Numbers that Dagster plots over the evaluations."""
    names = ("rank_ic", "t", "icir", "neutral_rank_ic")
    return numbers({f"{row['name']}/{name}": row[name] for row in board["rows"] for name in names})


def disagreements(board: Mapping[str, Any]) -> list[str]:
    """Phases whose own RankIC is not ours, though both are of the same scores, panel, days and names."""
    found = []
    for row in board["rows"]:
        if row["kind"] == "phase" and row["panel_id"] == board["panel_id"]:
            ours, theirs = row["rank_ic"], row["reported_rank_ic"]
            if ours is None or theirs is None or not abs(ours - theirs) <= TOLERANCE:
                found.append(f"{row['name']} reports {theirs}, its scores give {ours}")
    return found
