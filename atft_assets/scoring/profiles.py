"""The records of a judged block: what each figure of a profile is called, means and holds. Plain values, no arithmetic.

Returns, spreads and costs are decimals (0.001 is ten basis points), turnover is one-way, days are trading days.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from atft_model.interchange.records import doc_of, entry


@dataclass(frozen=True)
class HorizonFigures:
    """The scores of one horizon."""

    deciles: tuple[float, ...] = entry(
        "Mean label return of each tenth of the names, lowest scores first, beyond the mean of all"
    )
    spread: float = entry("Mean label return of the highest tenth less the lowest, over the whole horizon, no costs")
    hit: float = entry("Share of the days on which that difference is above zero")
    path: tuple[float, ...] = entry("Running sum over the days of that difference, divided by the horizon")
    turnover: float = entry(
        "One-way turnover of a tenth that is chosen anew at the end of the horizon, mean of the highest and the lowest"
    )
    break_even: float = entry("Cost per traded yen at which such a pair of tenths earns nothing")
    full_neutral_rank_ic: float = entry(
        "Mean daily RankIC once sector33 and the gaussian ranks of volatility, beta, size and trading value are out"
    )
    contribution: float = entry("Mean daily RankIC of what the scores' gaussian ranks have beyond those of LightGBM")


@dataclass(frozen=True)
class GroupFigures:
    """A group of names, ranked among themselves."""

    rank_ic: float = entry("Mean daily headline RankIC among the names of the group")
    hit: float = entry("Share of the days on which it is above zero")
    days: int = entry("Days with enough names and all horizons known")
    names_a_day: float = entry("Eligible names of the group, mean of the days")


@dataclass(frozen=True)
class YearFigures:
    """A calendar year."""

    rank_ic: float = entry("Mean daily headline RankIC")
    neutral_rank_ic: float = entry("The same once sector33 and 20-day volatility are out")
    spread: float = entry("Mean one-day return of the highest tenth of the ranking less the lowest")
    days: int = entry("Days with a headline figure")


@dataclass(frozen=True)
class ExposureFigures:
    """Daily rank correlation of the ranking with a property of the names."""

    mean: float = entry("Mean over the days")
    low: float = entry("Tenth percentile of the days")
    high: float = entry("Ninetieth percentile of the days")


@dataclass(frozen=True)
class SectorFigures:
    """A sector33 in the highest tenth of the ranking."""

    top: float = entry("Its share of the highest tenth, mean of the days")
    universe: float = entry("Its share of the ranked names, mean of the days")


@dataclass(frozen=True)
class Profile:
    """Everything that is said of one set of scores on one block.

    The *ranking* is one order a day: the mean of the horizons' gaussian ranks with the weights of the headline.
    """

    name: str = entry("Whose scores")
    rank_ic: float = entry("Headline: weighted mean of the horizons' mean daily RankICs")
    neutral_rank_ic: float = entry("The same once sector33 and the rank of 20-day volatility are out")
    full_neutral_rank_ic: float = entry("The same once sector33, volatility, beta, size and trading value are out")
    contribution: float = entry("RankIC of what LightGBM's scores do not hold: above zero, both together beat LightGBM")
    spread: float = entry("Mean one-day return of the highest tenth of the ranking less the lowest, no costs")
    spread_hit: float = entry("Share of the days on which that difference is above zero")
    turnover: float = entry("One-way turnover a day of such a tenth against drifted weights, mean of both")
    break_even: float = entry("Cost per traded yen at which that pair of tenths, chosen anew each day, earns nothing")
    half_life: float = entry(
        "Days in which the rank autocorrelation of the ranking halves (log-linear fit; null where it does not fall)"
    )
    autocorrelation: tuple[float, ...] = entry("Mean rank correlation of the ranking with that of 1 … 20 days later")
    decay: tuple[float, ...] = entry("Mean RankIC of the ranking with the one-day return of the 1st … 20th day after")
    decay_half_life: float = entry("Days in which that RankIC halves (log-linear fit over its positive values)")
    jpx: float = entry(
        "Figure of the JPX competition of 2022: mean over standard deviation of the daily spread of the 200 highest "
        "and lowest names of the ranking, weights 2 to 1, return from t+1 to t+2"
    )
    jpx_names: int = entry("Names on each side of that spread: 200, or half of them where there are fewer than 400")
    rolling_band: float = entry(
        "Half of the 95 % band of a 60-day mean RankIC: 1.96 standard errors by the long-run variance behind `t`"
    )
    daily: tuple[float, ...] = entry("Headline RankIC of each day")
    daily_neutral: tuple[float, ...] = entry("Neutral headline RankIC of each day")
    by_horizon: Mapping[str, HorizonFigures] = entry("Figures of each horizon's own scores")
    by_year: Mapping[str, YearFigures] = entry("Calendar years")
    by_segment: Mapping[str, GroupFigures] = entry("Market segments, names ranked within the segment")
    by_division: Mapping[str, GroupFigures] = entry("The exchange's ten divisions of the sectors")
    by_liquidity: Mapping[str, GroupFigures] = entry("Thirds of the day's names by trading value")
    by_liquidity_and_group: Mapping[str, GroupFigures] = entry(
        "Liquidity thirds within segments, or within divisions where the segment is not known"
    )
    exposures: Mapping[str, ExposureFigures] = entry("Rank correlation of the ranking with what is known of the names")
    sectors: Mapping[str, SectorFigures] = entry("Weights of the sector33 in the highest tenth and in the universe")
    left_out: Mapping[str, str] = entry("Figures of these scores that could not be had, and why", factory=dict)


@dataclass(frozen=True)
class Profiles:
    """The profiles of a block."""

    dates: tuple[str, ...] = entry("Days of the daily series")
    horizons: tuple[int, ...] = entry("Label horizons in trading days")
    scores: tuple[Profile, ...] = entry("One profile a set of scores")
    left_out: Mapping[str, str] = entry("What could not be had for any of them, and why", factory=dict)
    meanings: Mapping[str, str] = entry("What each figure is", factory=dict)


def meanings(record: type[Any] = Profile, prefix: str = "") -> dict[str, str]:
    """What each figure of a record is, those of the records inside it included, by dotted name."""
    return dict(_meanings(record, prefix))


def _meanings(record: type[Any], prefix: str) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        yield f"{prefix}{field.name}", doc_of(field)
        for part in get_args(hints[field.name]):
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                yield from _meanings(part, f"{prefix}{field.name}.")
