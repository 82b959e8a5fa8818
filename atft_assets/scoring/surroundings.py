"""What the judge needs beside the scores: returns in order, exposures, groups of names. Made once a block, for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.scoring.block import Block
from atft_assets.scoring.exposures import Exposures, exposures_of
from atft_assets.scoring.neutral import residual
from atft_assets.scoring.ordering import NOWHERE, Floats, Levels, levels_of, ranks_of

DECAY_DAYS = 20  # the last lag of decay and autocorrelation; no further than the longest label looks
TERCILES = ("illiquid", "middle", "liquid")
SEGMENTS: Mapping[str, str] = {
    "0101": "First Section",
    "0102": "Second Section",
    "0104": "Mothers",
    "0106": "JASDAQ Standard",
    "0107": "JASDAQ Growth",
    "0111": "Prime",
    "0112": "Standard",
    "0113": "Growth",
}
# the exchange's ten divisions: the first digit of a sector33 code
DIVISIONS: Mapping[str, str] = {
    "0": "Fishery, Agriculture",
    "1": "Mining",
    "2": "Construction",
    "3": "Manufacturing",
    "4": "Electric Power, Gas",
    "5": "Transport, Information",
    "6": "Trade",
    "7": "Finance",
    "8": "Real Estate",
    "9": "Services",
}


@dataclass(frozen=True)
class Grouping:
    """Names sorted into groups, day by day.

    Attributes:
        names: of the groups.
        places: [D,N] int16, place of each name's group; negative where it belongs to none.
    """

    names: tuple[str, ...]
    places: NDArray[np.int16]

    def times(self, other: "Grouping") -> "Grouping":
        """Every group of this one divided by those of another, this one's names first."""
        both = (self.places >= 0) & (other.places >= 0)
        places = np.where(both, self.places * len(other.names) + other.places, NOWHERE).astype(np.int16)
        return Grouping(tuple(f"{a} / {b}" for a in self.names for b in other.names), places)


@dataclass(frozen=True)
class Surroundings:
    """A block of D days and N names, seen by the judge.

    Attributes:
        dates: D days.
        horizons: H label horizons in trading days.
        eligible: [D,N].
        returns: [H,D,N] raw label returns, NaN where unknown.
        one_day: [D+DECAY_DAYS,N] close-to-close returns; row d + k - 1 is that of the k-th day after day d.
        sectors: [N] sector numbers; `sector_codes` are their names.
        exposures: what a ranking may be leaning on.
        segments: market segments, where they are known.
        divisions: the exchange's ten divisions of the sectors.
        liquidity: terciles of the eligible names by trading value, where it is known.
        left_out: what could not be had, and why.
    """

    dates: tuple[date, ...]
    horizons: tuple[int, ...]
    eligible: NDArray[np.bool_]
    returns: NDArray[np.float32]
    one_day: NDArray[np.float32]
    sectors: NDArray[np.int32]
    sector_codes: tuple[str, ...]
    exposures: Exposures
    segments: Grouping | None
    divisions: Grouping
    liquidity: Grouping | None
    left_out: Mapping[str, str]

    @cached_property
    def return_levels(self) -> Levels:
        """Order of the eligible names' label returns [H,D,N]."""
        return levels_of(np.where(self.eligible, self.returns, np.nan))

    @cached_property
    def one_day_levels(self) -> Levels:
        """Order of all names' one-day returns [D+DECAY_DAYS,N]."""
        return levels_of(self.one_day)

    @cached_property
    def taken_out(self) -> NDArray[np.float32]:
        """What the full neutral figure takes out beside sectors [D,N,K]."""
        return self.exposures.taken_out(self.eligible)

    @cached_property
    def neutral_levels(self) -> Levels:
        """Order of what the full neutralisation leaves of the label returns [H,D,N]."""
        left = np.full(self.returns.shape, np.nan)
        for h, d in np.ndindex(left.shape[:2]):
            rows = self.eligible[d] & np.isfinite(self.returns[h, d])
            if rows.any():
                left[h, d, rows] = residual(self.returns[h, d, rows], self.taken_out[d, rows], self.sectors[rows])
        return levels_of(left)

    @cached_property
    def exposure_levels(self) -> Mapping[str, Levels]:
        """Order of the eligible names by each exposure [D,N]."""
        return {name: levels_of(np.where(self.eligible, v, np.nan)) for name, v in self.exposures.values.items()}


def surroundings_of(block: Block, members: pl.DataFrame | None = None) -> Surroundings:
    """Gather what the judge needs of a block.

    Args:
        members: date, code, mkt, scale_cat of the universe on the block's days; None where the table is not to be had.
    """
    panel = block.panel
    sector33 = [sector or "" for sector in panel.description.sector33]
    exposures = exposures_of(block, members)
    left_out = dict(exposures.left_out)
    segments = None if members is None else _segments(block, members)
    if segments is None:
        left_out["by_segment"] = "the market segment is in the table universe, which was not to be had"
    liquidity = None
    if "trading_value" in exposures.values:
        liquidity = _terciles(np.where(block.eligible, exposures.values["trading_value"], np.nan))
    else:
        left_out["by_liquidity"] = left_out["by_liquidity_and_group"] = exposures.left_out["trading_value"]
    return Surroundings(
        dates=tuple(panel.dates[t] for t in block.days),
        horizons=panel.horizons,
        eligible=block.eligible,
        returns=panel.y[:, block.rows],
        one_day=_ahead(panel.one_day_returns, block.days),
        sectors=panel.sectors,
        sector_codes=tuple(np.unique(sector33).tolist()),
        exposures=exposures,
        segments=segments,
        divisions=_divisions(sector33, block.eligible.shape),
        liquidity=liquidity,
        left_out=left_out,
    )


def _ahead(one_day: NDArray[np.float32], days: range) -> NDArray[np.float32]:
    """One-day returns from the block's first day to DECAY_DAYS beyond its last, NaN beyond the panel."""
    held = one_day[days.start : days.stop + DECAY_DAYS]
    missing = np.full((len(days) + DECAY_DAYS - len(held), one_day.shape[1]), np.nan, np.float32)
    return np.concatenate([held, missing])


def _segments(block: Block, members: pl.DataFrame) -> Grouping | None:
    """The segments that occur; None where none is known."""
    rows = block.placed(members).filter(pl.col("mkt").is_in(list(SEGMENTS)))
    codes = rows["mkt"].unique().sort().to_list()
    if not codes:
        return None
    places = np.full(block.eligible.shape, NOWHERE, np.int16)
    number = rows["mkt"].replace_strict(codes, range(len(codes)), return_dtype=pl.Int16).to_numpy()
    places[rows["d"].to_numpy(), rows["n"].to_numpy()] = number
    return Grouping(tuple(SEGMENTS[code] for code in codes), places)


def _divisions(sector33: list[str], shape: tuple[int, ...]) -> Grouping:
    """The divisions that occur; names of no sector (9999) or an unknown one belong to none."""
    first = ["" if sector == "9999" else sector[:1] for sector in sector33]
    known = [digit for digit in DIVISIONS if digit in first]
    places = [known.index(digit) if digit in known else NOWHERE for digit in first]
    return Grouping(tuple(DIVISIONS[digit] for digit in known), np.broadcast_to(np.array(places, np.int16), shape))


def _terciles(values: Floats) -> Grouping:
    """Thirds of each day's known values [D,N], the lowest first."""
    levels = levels_of(values)
    places = np.full(values.shape, NOWHERE, np.int16)
    for d, level in enumerate(levels):
        rows = level >= 0
        if rows.any():
            places[d, rows] = (len(TERCILES) * (ranks_of(level[rows]) - 0.5) / rows.sum()).astype(np.int16)
    return Grouping(TERCILES, places)
