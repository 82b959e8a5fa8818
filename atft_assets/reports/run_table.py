"""Runs side by side, settings × figures, as one HTML file and as a table of the UI; reads nothing, computes nothing."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

HEADLINE = "rank_ic"
HEADLINES = 3  # figures that stand before the settings
SHOWN_IN_UI = 25


@dataclass(frozen=True, eq=False)
class RunLine:
    """One run.

    Attributes:
        fold, phase, run_id: its place, `runs/<fold>/<phase>/<run_id>`.
        status: as `run.json` says, or what is wrong with it.
        published: whether the phase's pointer names it.
        settings, figures: by name; a run that has not ended has no figures.
    """

    fold: str
    phase: str
    run_id: str
    status: str
    parent: str
    published: bool
    settings: Mapping[str, Any]
    figures: Mapping[str, int | float]

    @property
    def place(self) -> tuple[str, str]:
        """Runs of one place may be compared: the same days, the same phase."""
        return self.fold, self.phase


def best_of(lines: Sequence[RunLine]) -> set[RunLine]:
    """The run with the highest headline of each fold and phase; runs that did not end well do not count."""
    best: dict[tuple[str, str], RunLine] = {}
    for line in lines:
        if line.status == "finished" and HEADLINE in line.figures:
            before = best.get(line.place)
            if before is None or line.figures[HEADLINE] > before.figures[HEADLINE]:
                best[line.place] = line
    return set(best.values())


def two_newest(lines: Sequence[RunLine]) -> list[RunLine]:
    """What is overlaid unless a person chose: the newest run, and the one before it of the same fold and phase.

    The newest run that has one before it goes first; without such a pair it is the newest run alone.
    """
    ended = sorted((line for line in lines if line.status == "finished"), key=lambda line: line.run_id, reverse=True)
    for line in ended:
        if other := next((one for one in ended if one.place == line.place and one.run_id < line.run_id), None):
            return [other, line]
    return ended[:1]


def settings_named(lines: Sequence[RunLine]) -> list[str]:
    """Names of all settings, in the order in which the runs have them."""
    return list(dict.fromkeys(name for line in lines for name in line.settings))


def common_settings(lines: Sequence[RunLine]) -> dict[str, Any]:
    """Settings that are the same in all runs: said once."""
    names = settings_named(lines)
    values = {name: {str(line.settings.get(name)) for line in lines} for name in names}
    return {name: lines[0].settings[name] for name in names if len(values[name]) == 1}


def records(lines: Sequence[RunLine]) -> list[dg.TableRecord]:
    """The newest runs for the UI, the best of each fold and phase starred."""
    best, same = best_of(lines), common_settings(lines)
    newest = sorted(lines, key=lambda line: line.run_id, reverse=True)[:SHOWN_IN_UI]
    varying = [name for name in settings_named(lines) if name not in same]
    return [
        dg.TableRecord(
            {
                "run": f"{'★ ' if line in best else ''}{line.fold}/{line.phase} {line.run_id}",
                "RankIC": _text(line.figures.get(HEADLINE)),
                "kept": f"{_text(line.figures.get('kept_epoch'))} of {_text(line.figures.get('epochs'))}",
                "seconds": _text(line.figures.get("seconds")),
                **{name: _text(line.settings.get(name)) for name in varying},
                "status": f"{line.status}{', published' if line.published else ''}",
            }
        )
        for line in newest
    ]


def render(lines: Sequence[RunLine], overlaid: Sequence[RunLine], picture: str | None) -> str:
    """The report as one HTML file that fetches nothing.

    Args:
        overlaid: the runs in the picture.
        picture: a PNG in base64; None where there is nothing to draw.
    """
    best, same = best_of(lines), common_settings(lines)
    varying = [name for name in settings_named(lines) if name not in same]
    measured = list(dict.fromkeys(name for line in lines for name in line.figures))
    body = []
    for fold, phase in sorted({line.place for line in lines}):
        members = sorted((line for line in lines if line.place == (fold, phase)), key=lambda line: line.run_id)
        body.append(f"<h2>{html.escape(fold)} / {html.escape(phase)}</h2>")
        body.append(_table(members, best, varying, measured))
    said = "; ".join(f"{name} {_text(value)}" for name, value in same.items())
    drawn = ""
    if picture:
        names = " and ".join(f"{line.fold}/{line.phase} {line.run_id}" for line in overlaid)
        drawn = (
            f"<h2>Overlaid</h2><p>{html.escape(names)}</p>"
            f'<img alt="loss and RankIC by epoch" src="data:image/png;base64,{picture}">'
        )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Runs: {len(lines)} trainings side by side</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em }}
td, th {{ padding: 0 .6em; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
td:first-child, th:first-child {{ text-align: left; position: sticky; left: 0; background: white }}
tr.best td {{ font-weight: bold }} div {{ overflow-x: auto }} img {{ max-width: 100% }}
</style></head><body>
<h1>{len(lines)} runs</h1>
<p>A star marks the best validation RankIC of a fold and phase; only runs of one fold and phase are judged by the same
days. A choice made by these figures is a choice by the validation block: the test block stays closed for that.</p>
<p>Same in all runs: {html.escape(said) or "nothing"}.</p>
{drawn}
{chr(10).join(body)}
</body></html>
"""


def _table(lines: Sequence[RunLine], best: set[RunLine], settings: Sequence[str], figures: Sequence[str]) -> str:
    first, others = figures[:HEADLINES], figures[HEADLINES:]
    heads = ["run", "status", *first, *settings, *others, "started from"]
    rows = []
    for line in lines:
        star, published = "★ " if line in best else "", " (published)" if line.published else ""
        cells = [f"{star}{line.run_id}{published}", line.status]
        cells += [_text(line.figures.get(name)) for name in first]
        cells += [_text(line.settings.get(name)) for name in settings]
        cells += [*(_text(line.figures.get(name)) for name in others), line.parent]
        marked = ' class="best"' if line in best else ""
        rows.append(f"<tr{marked}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    return f"<div><table><tr>{head}</tr>\n{chr(10).join(rows)}\n</table></div>"


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
