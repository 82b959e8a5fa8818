"""`reports/evaluation.html`: everything that was judged on a block, in the order in which a person asks.

Who wins; how steadily; how long a ranking is good for; what it would cost to trade it; where it works; what it leans
on. One file that fetches nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from atft_assets.reports import evaluation_pictures as pictures
from atft_assets.reports.closing_table import sentence
from atft_assets.reports.markup import (
    bp,
    definitions,
    details,
    document,
    number,
    paragraph,
    percent,
    section,
    shown,
    table,
)
from atft_assets.reports.sector_names import SECTOR33
from atft_assets.scoring.profiles import GroupFigures, Profile, Profiles

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
    return document(title, paragraph(sentence(board)), paragraph(where, "left-out"), *body)


def _sections(board: Mapping[str, Any], profiles: Profiles, subject: Profile) -> Iterator[str]:
    labels = _labels(board)
    lightgbm = next((one for one in profiles.scores if one.name == "lightgbm" and one is not subject), None)
    yield section(
        "rankings",
        "Who ranks best",
        "RankIC and neutral: higher is better, 0 is chance. Spread: one-day return of the highest tenth less the "
        "lowest. Turnover: the share of such a tenth that must be sold each day. Half-life: after how long the order "
        "has half faded. Break-even: what a trade may cost before the spread is gone; compare it with half of the "
        "bid-ask spread.",
        table(RANKING_HEAD, [_line(one, labels) for one in profiles.scores], marked=profiles.scores.index(subject)),
        shown(pictures.differences(board), "there is nothing to compare"),
    )
    yield section(
        "steadiness",
        "How steadily",
        "A straight line is steady, a step is one episode. The band is 95 %: two standard errors of a 60-day mean.",
        shown(pictures.cumulative(profiles, subject)),
        shown(pictures.rolling(profiles, subject), "no 60-day mean: the block has fewer days with a headline figure"),
        shown(pictures.by_year(subject, lightgbm)),
    )
    yield section(
        "deciles",
        "Who carries it",
        "Names sorted into tenths by score. A staircase is a ranking; a drop of the lowest tenth alone cannot be "
        "earned by somebody who may not sell short.",
        shown(pictures.deciles(subject)),
        shown(pictures.spread_paths(profiles, subject)),
        table(
            ("days held", "spread, bp", "spread > 0", "turnover", "break-even, bp", "fully neutral", "beyond LightGBM"),
            [
                (
                    horizon,
                    bp(figures.spread),
                    percent(figures.hit),
                    percent(figures.turnover),
                    bp(figures.break_even),
                    number(figures.full_neutral_rank_ic, ".4f"),
                    number(figures.contribution, "+.4f"),
                )
                for horizon, figures in subject.by_horizon.items()
            ],
        ),
    )
    yield section(
        "decay",
        "How long it is good for",
        "Each bar is the return of one later day alone; a first bar far above the others may be a bounce of prices. "
        "How fast the order fades decides how much must be traded.",
        shown(pictures.decay(subject, lightgbm)),
        shown(pictures.persistence(profiles, subject)),
    )
    yield section(
        "where",
        "Where it works",
        "Names are ranked within their cell. If only illiquid names glow, it cannot be traded.",
        shown(pictures.liquidity_heat(subject), profiles.left_out.get("by_liquidity", "no cell has enough names")),
        *(
            table((what, "RankIC", "days > 0", "days", "names a day"), _group_lines(groups))
            for what, groups in (
                ("market segment", subject.by_segment),
                ("division", subject.by_division),
                ("liquidity", subject.by_liquidity),
            )
            if groups
        ),
    )
    sectors = [
        (f"{code} {SECTOR33.get(code, '')}".strip(), percent(held.top), percent(held.universe))
        for code, held in subject.sectors.items()
    ]
    yield section(
        "exposures",
        "What it leans on",
        "None of these is a forecast. A ranking that is one of them in disguise has a RankIC and no fully neutral one.",
        shown(pictures.exposures(subject, lightgbm)),
        shown(pictures.sector_weights(subject), "no day has enough names for tenths"),
        details("Weights of all sectors", table(("sector33", "highest tenth", "universe"), sectors)),
    )
    yield section(
        "beside",
        "The same figures another way",
        "Fully neutral: sector33, volatility, beta, size and trading value are out. Beyond LightGBM: what an ensemble "
        "would gain. JPX figure: as in the competition of 2022, whose winners reached 0.28 to 0.38 on the market of "
        "that year.",
        table(BESIDE_HEAD, [_beside(one, labels) for one in profiles.scores], marked=profiles.scores.index(subject)),
    )
    missing = {
        **profiles.left_out,
        **{f"{one.name}: {k}": v for one in profiles.scores for k, v in one.left_out.items()},
    }
    yield section(
        "left-out",
        "What could not be had",
        "" if missing else "Nothing: every figure is there.",
        definitions(missing),
    )
    yield section(
        "meanings",
        "What the figures mean",
        "The names are those of validation.json, where all of them stand for each of the scores.",
        details("All figures", definitions(profiles.meanings)),
    )


def _line(one: Profile, labels: Mapping[str, str]) -> tuple[str, ...]:
    return (
        labels.get(one.name, one.name),
        number(one.rank_ic, ".4f"),
        number(one.neutral_rank_ic, ".4f"),
        bp(one.spread),
        percent(one.turnover),
        number(one.half_life, ".1f"),
        bp(one.break_even),
    )


def _beside(one: Profile, labels: Mapping[str, str]) -> tuple[str, ...]:
    return (
        labels.get(one.name, one.name),
        number(one.rank_ic, ".4f"),
        number(one.neutral_rank_ic, ".4f"),
        number(one.full_neutral_rank_ic, ".4f"),
        number(one.contribution, "+.4f"),
        percent(one.spread_hit),
        f"{number(one.jpx, '.3f')} ({one.jpx_names})",
        number(one.decay_half_life, ".1f"),
    )


def _group_lines(groups: Mapping[str, GroupFigures]) -> list[tuple[str, ...]]:
    return [
        (name, number(one.rank_ic, ".4f"), percent(one.hit), str(one.days), number(one.names_a_day, ".0f"))
        for name, one in groups.items()
    ]


def _labels(board: Mapping[str, Any]) -> dict[str, str]:
    return {row["name"]: f"{row['name']} {row['label']}".strip() for row in board["rows"]}
