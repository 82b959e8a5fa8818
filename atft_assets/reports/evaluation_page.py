"""`reports/evaluation.html`: everything that was judged on a block, in the order in which a person asks.

Who wins; how steadily; how long a ranking is good for; what it would cost to trade it; where it works; what it leans
on. One file that fetches nothing.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import dagster as dg

from atft_assets.reports import evaluation_pictures as pictures
from atft_assets.reports.closing_table import sentence
from atft_assets.reports.evaluation_pictures import Picture
from atft_assets.reports.sector_names import SECTOR33
from atft_assets.scoring.profiles import GroupFigures, Profile, Profiles

BP = 1e4
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #222 }
h2 { margin: 2em 0 .3em; border-top: 1px solid #ddd; padding-top: 1em } figure { margin: 1em 0 }
figcaption { font-weight: 600 } img { max-width: 100% } div { overflow-x: auto }
dt { font-weight: 600; margin-top: .4em }
td, th { padding: .1em .6em; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td:first-child, th:first-child { text-align: left } tr.subject td { font-weight: 600 }
table { font-size: 13.5px } th { font-weight: 600 }
tr:nth-child(even) td { background: #f6f6f6 } details { margin: .5em 0 } .left-out { color: #555 }
@media print { details { display: block } h2 { break-after: avoid } figure { break-inside: avoid } }
"""
RANKING_HEAD = ("", "RankIC", "neutral", "spread, bp", "turnover", "half-life, days", "break-even, bp")
BESIDE_HEAD = (
    "",
    "RankIC",
    "neutral",
    "fully neutral",
    "beyond LightGBM",
    "spread > 0",
    "JPX figure",
    "decay halves, days",
)


def rankings(board: Mapping[str, Any], profiles: Profiles) -> list[dg.TableRecord]:
    """One line a score for Dagster's UI: what the ranking is worth, how long it lasts, what it may cost."""
    labels = _labels(board)
    return [dg.TableRecord(dict(zip(RANKING_HEAD, _line(one, labels), strict=True))) for one in profiles.scores]


def subject_of(board: Mapping[str, Any], profiles: Profiles) -> Profile | None:
    """Whose pictures are shown: the last phase, or the first of the scores where no phase was judged."""
    phases = {row["name"] for row in board["rows"] if row["kind"] == "phase"}
    return next((one for one in reversed(profiles.scores) if one.name in phases), next(iter(profiles.scores), None))


def render(board: Mapping[str, Any], profiles: Profiles) -> str:
    """The page.

    Args:
        board: what `scoreboard.table` gives.
        profiles: of its lines.
    """
    subject = subject_of(board, profiles)
    title = f"Evaluation, {board['block']} block of the fold {board['fold']}"
    where = (
        f"{board['first']} to {board['last']}, {board['days']} trading days, panel {board['panel_id']}, written "
        f"{board['created_at']}. No costs are taken off anywhere."
    )
    body = [] if subject is None else list(_sections(board, profiles, subject))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(sentence(board))}</p>
<p class="left-out">{html.escape(where)}</p>
{chr(10).join(body)}
</body></html>
"""


def _sections(board: Mapping[str, Any], profiles: Profiles, subject: Profile) -> Iterator[str]:
    labels = _labels(board)
    lightgbm = next((one for one in profiles.scores if one.name == "lightgbm" and one is not subject), None)
    yield _section(
        "rankings",
        "Who ranks best",
        "RankIC and neutral: higher is better, 0 is chance. Spread: one-day return of the highest tenth less the "
        "lowest. Turnover: the share of such a tenth that must be sold each day. Half-life: after how long the order "
        "has half faded. Break-even: what a trade may cost before the spread is gone; compare it with half of the "
        "bid-ask spread.",
        _table(RANKING_HEAD, [_line(one, labels) for one in profiles.scores], marked=profiles.scores.index(subject)),
        _shown(pictures.differences(board), "there is nothing to compare"),
    )
    yield _section(
        "steadiness",
        "How steadily",
        "A straight line is steady, a step is one episode. The band is 95 %: two standard errors of a 60-day mean.",
        _shown(pictures.cumulative(profiles, subject)),
        _shown(pictures.rolling(profiles, subject), "no 60-day mean: the block has fewer days with a headline figure"),
        _shown(pictures.by_year(subject, lightgbm)),
    )
    yield _section(
        "deciles",
        "Who carries it",
        "Names sorted into tenths by score. A staircase is a ranking; a drop of the lowest tenth alone cannot be "
        "earned by somebody who may not sell short.",
        _shown(pictures.deciles(subject)),
        _shown(pictures.spread_paths(profiles, subject)),
        _table(
            ("days held", "spread, bp", "spread > 0", "turnover", "break-even, bp", "fully neutral", "beyond LightGBM"),
            [
                (
                    horizon,
                    _bp(figures.spread),
                    _percent(figures.hit),
                    _percent(figures.turnover),
                    _bp(figures.break_even),
                    _number(figures.full_neutral_rank_ic, ".4f"),
                    _number(figures.contribution, "+.4f"),
                )
                for horizon, figures in subject.by_horizon.items()
            ],
        ),
    )
    yield _section(
        "decay",
        "How long it is good for",
        "Each bar is the return of one later day alone; a first bar far above the others may be a bounce of prices. "
        "How fast the order fades decides how much must be traded.",
        _shown(pictures.decay(subject, lightgbm)),
        _shown(pictures.persistence(profiles, subject)),
    )
    yield _section(
        "where",
        "Where it works",
        "Names are ranked within their cell. If only illiquid names glow, it cannot be traded.",
        _shown(pictures.liquidity_heat(subject), profiles.left_out.get("by_liquidity", "no cell has enough names")),
        *(
            _table((what, "RankIC", "days > 0", "days", "names a day"), _group_lines(groups))
            for what, groups in (
                ("market segment", subject.by_segment),
                ("division", subject.by_division),
                ("liquidity", subject.by_liquidity),
            )
            if groups
        ),
    )
    sectors = [
        (f"{code} {SECTOR33.get(code, '')}".strip(), _percent(held.top), _percent(held.universe))
        for code, held in subject.sectors.items()
    ]
    yield _section(
        "exposures",
        "What it leans on",
        "None of these is a forecast. A ranking that is one of them in disguise has a RankIC and no fully neutral one.",
        _shown(pictures.exposures(subject, lightgbm)),
        _shown(pictures.sector_weights(subject), "no day has enough names for tenths"),
        _details("Weights of all sectors", _table(("sector33", "highest tenth", "universe"), sectors)),
    )
    yield _section(
        "beside",
        "The same figures another way",
        "Fully neutral: sector33, volatility, beta, size and trading value are out. Beyond LightGBM: what an ensemble "
        "would gain. JPX figure: as in the competition of 2022, whose winners reached 0.28 to 0.38 on the market of "
        "that year.",
        _table(BESIDE_HEAD, [_beside(one, labels) for one in profiles.scores], marked=profiles.scores.index(subject)),
    )
    missing = {
        **profiles.left_out,
        **{f"{one.name}: {k}": v for one in profiles.scores for k, v in one.left_out.items()},
    }
    yield _section(
        "left-out",
        "What could not be had",
        "" if missing else "Nothing: every figure is there.",
        _definitions(missing),
    )
    yield _section(
        "meanings",
        "What the figures mean",
        "The names are those of validation.json, where all of them stand for each of the scores.",
        _details("All figures", _definitions(profiles.meanings)),
    )


def _line(one: Profile, labels: Mapping[str, str]) -> tuple[str, ...]:
    return (
        labels.get(one.name, one.name),
        _number(one.rank_ic, ".4f"),
        _number(one.neutral_rank_ic, ".4f"),
        _bp(one.spread),
        _percent(one.turnover),
        _number(one.half_life, ".1f"),
        _bp(one.break_even),
    )


def _beside(one: Profile, labels: Mapping[str, str]) -> tuple[str, ...]:
    return (
        labels.get(one.name, one.name),
        _number(one.rank_ic, ".4f"),
        _number(one.neutral_rank_ic, ".4f"),
        _number(one.full_neutral_rank_ic, ".4f"),
        _number(one.contribution, "+.4f"),
        _percent(one.spread_hit),
        f"{_number(one.jpx, '.3f')} ({one.jpx_names})",
        _number(one.decay_half_life, ".1f"),
    )


def _group_lines(groups: Mapping[str, GroupFigures]) -> list[tuple[str, ...]]:
    return [
        (name, _number(one.rank_ic, ".4f"), _percent(one.hit), str(one.days), _number(one.names_a_day, ".0f"))
        for name, one in groups.items()
    ]


def _labels(board: Mapping[str, Any]) -> dict[str, str]:
    return {row["name"]: f"{row['name']} {row['label']}".strip() for row in board["rows"]}


def _section(anchor: str, heading: str, how_to_read: str, *parts: str) -> str:
    read = f"<p>{html.escape(how_to_read)}</p>\n" if how_to_read else ""
    return f'<h2 id="{anchor}">{html.escape(heading)}</h2>\n{read}{chr(10).join(parts)}'


def _shown(picture: Picture | None, instead: str = "") -> str:
    if picture is None:
        return f'<p class="left-out">{html.escape(instead)}</p>'
    title = html.escape(picture.title)
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<img alt="{title}" src="data:image/png;base64,{picture.png}"></figure>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], marked: int | None = None) -> str:
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        of_subject = ' class="subject"' if i == marked else ""
        lines.append(f"<tr{of_subject}>{cells}</tr>")
    return f"<div><table><tr>{heads}</tr>\n{chr(10).join(lines)}\n</table></div>"


def _details(summary: str, inside: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{inside}</details>"


def _definitions(texts: Mapping[str, str]) -> str:
    lines = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in texts.items())
    return f"<dl>{chr(10).join(lines)}</dl>" if texts else ""


def _number(value: float, form: str) -> str:
    return format(value, form) if isfinite(value) else "–"


def _bp(value: float) -> str:
    return _number(value * BP, "+.1f")


def _percent(value: float) -> str:
    return _number(value, ".1%")
