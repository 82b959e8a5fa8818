"""Fiscal years of the names: which document is disclosed when, and how its forecast stands to the one before.

A year has four results. With those of the whole year (FY) comes the first forecast of the next, which is revised with
the results of a quarter or in a document of its own. Results are corrected years later, names announce in the same
minute, at 15:30 mostly, some after the batch of 18:00, a few on a Saturday. The shares are those counted on real
documents.

`revisions` is the drift that follows a revision, for markets that plant it: known from the evening on which the
revision is served, seen by nothing but the forecasts of the documents.
"""

from dataclasses import dataclass
from datetime import date, time

import numpy as np
from numpy.typing import NDArray

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.draws import F64, I64, normal, pick, uniform, whole
from atft_assets.sandbox.names import ORDINARY, Names

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

RESULT, REVISION, DIVIDEND = 0, 1, 2  # kinds of documents
FIRST, REPEATED, CORRECTED = 0, 1, 2  # versions of results: the figures are those of the first, or not
SLOTS = 4  # occasions of a year's forecast to change: results of the three quarters, and a document of its own
REVISED = (0.07, 0.35, 0.35, 0.5)  # how often it does
DIVIDEND_REVISED = (0.015, 0.04, 0.025, 0.04)  # the same of the dividend
STEP = 0.12  # of the net profit: standard deviation of a revision
PERSISTENCE = 0.985  # daily, of the drift after a revision
CLOSE_MOVED = date(2024, 11, 5).toordinal()  # from 15:00 to 15:30
BATCH = 18 * 3600

_MONTHS = {3: 0.62, 12: 0.13, 9: 0.07, 2: 0.05, 6: 0.05, 5: 0.03, 8: 0.02, 11: 0.02, 10: 0.01}


@dataclass(frozen=True)
class Fiscal:
    """What is disclosed when. Years stand in the order of `years`, quarters 0 to 3 are 1Q, 2Q, 3Q and FY.

    Attributes:
        years: in which the fiscal years end.
        month: [names] in which they end; silent: [names] never discloses.
        end: [names, years, 4] last day of each period, an ordinal.
        day, second: [names, years, 4] when the results of it are disclosed, first of all.
        undecided: [names, years] no forecast before the results of the first half.
        revised: [names, years, SLOTS] whether the forecast changes; surprise: by how much, in `STEP`s.
        paid_more: [names, years, SLOTS] whether the dividend's forecast changes, in a document of its own.
        own_day: [names, years] when the fourth slot's document is disclosed, where the forecast is revised in one.
        col, when, clock, kind, year, quarter, state, version: [documents] by (when, clock, col): name, day, second of
            the day, kind, place in `years`, quarter, how many slots of the forecast have passed, and version.
    """

    years: I64
    month: I64
    silent: Bools
    end: I64
    day: I64
    second: I64
    undecided: Bools
    revised: Bools
    surprise: F64
    paid_more: Bools
    own_day: I64
    col: I64
    when: I64
    clock: I64
    kind: I64
    year: I64
    quarter: I64
    state: I64
    version: I64

    def between(self, first: int, last: int) -> slice:
        """Documents of the days between two ordinals, inclusive."""
        return slice(int(np.searchsorted(self.when, first)), int(np.searchsorted(self.when, last, side="right")))


def fiscal_years(config: MarketConfig, names: Names) -> Fiscal:
    """The fiscal years of all names from three before the market's first day to the one after its last."""
    seed, n = config.seed, len(names.code)
    years = np.arange(config.start.year - 3, config.end.year + 3)
    col, fy = np.arange(n)[:, None], years[None, :]
    month = np.array(list(_MONTHS))[pick(seed, "fiscal month", list(_MONTHS.values()), np.arange(n))]
    silent = (names.kind != ORDINARY) | (uniform(seed, "silent", np.arange(n)) < 0.03)

    key = (col[:, :, None], fy[:, :, None], np.arange(4)[None, None, :])
    end = ordinals.month_end(fy[:, :, None], month[:, None, None] - 9 + 3 * key[2])
    early = uniform(seed, "early", *key) < 0.35
    lag = np.where(early, whole(seed, "lag", 25, 37, *key), whole(seed, "lag", 38, 45, *key))
    planned = end + np.where(key[2] == 3, np.maximum(lag, 28), lag)
    saturday = ((planned % 7) == 6) & (uniform(seed, "saturday", *key) < 0.01)  # ordinals: Monday is 1 modulo 7
    day = np.where(saturday, planned, ordinals.on_or_before(planned))
    second = _clock(seed, "results", day, *key)

    undecided = uniform(seed, "undecided", col, fy) < 0.1
    revised = uniform(seed, "revised", *key) < np.array(REVISED)
    revised[:, :, :2] &= ~undecided[:, :, None]
    surprise = np.clip(normal(seed, "surprise", *key), -2.5, 2.5)
    year = np.broadcast_to(np.arange(len(years))[None, :, None], end.shape)
    own_day = ordinals.on_or_before(end[:, :, 3] + whole(seed, "own day", -35, 20, col, fy))
    paid_more = uniform(seed, "dividend revision", *key) < np.array(DIVIDEND_REVISED)
    made = _documents(seed, names, silent, key, year, day, second, own_day, revised, paid_more)
    later = _corrections(seed, names, silent, key, year, day)
    columns = [np.concatenate(parts) for parts in zip(made, later, strict=True)]
    order = np.lexsort((columns[7], columns[3], columns[0], columns[2], columns[1]))
    return Fiscal(
        years,
        month,
        silent,
        end,
        day,
        second,
        undecided,
        revised,
        surprise,
        paid_more,
        own_day,
        *(values[order] for values in columns),
    )


def _clock(seed: int, what: str, day: I64, *keys: NDArray) -> I64:
    """Second of the day: 27 % while the market is open, 47 % at its close, 15 % at 16:00, 1 % at night."""
    group = pick(seed, f"{what} group", (0.27, 0.47, 0.15, 0.101, 0.009), *keys)
    close = np.where(day < CLOSE_MOVED, 15 * 3600, 15 * 3600 + 1800)
    open_ = 9 * 3600 + 600 * whole(seed, f"{what} open", 0, 35, *keys)
    later = 16 * 3600 + 300 * whole(seed, f"{what} later", 1, 23, *keys)
    night = BATCH + 300 * whole(seed, f"{what} night", 1, 60, *keys)
    return np.select([group == 0, group == 1, group == 2, group == 3], [open_, close, 16 * 3600, later], night)


Keys = tuple[I64, I64, I64]


def _documents(
    seed: int, names: Names, silent: Bools, key: Keys, year: I64, day: I64, second: I64, own_day: I64, revised: Bools,
    paid_more: Bools,
) -> list[I64]:  # fmt: skip
    """First results, revisions of forecasts and of dividends: the last eight fields of `Fiscal`, in no order."""
    quarter = np.broadcast_to(key[2], day.shape)
    # with the results of a whole year comes the next one's first forecast
    state = np.where(quarter == 3, 0, quarter + 1)
    found = [_rows(names, silent, key, year, np.ones(day.shape, bool), day, second, RESULT, state, FIRST)]

    # some quarters announce the revision in a document of its own as well, in the same minute; the fourth slot is one
    # some weeks around the end of the year
    own_second = _clock(seed, "own", own_day, key[0][:, :, 0], key[1][:, :, 0])
    when = np.where(quarter == 3, own_day[:, :, None], day)
    clock = np.where(quarter == 3, own_second[:, :, None], second)
    apart = revised & ((quarter == 3) | (uniform(seed, "apart", *key) < 0.5))
    found.append(_rows(names, silent, key, year, apart, when, clock, REVISION, quarter + 1, FIRST))
    found.append(_rows(names, silent, key, year, paid_more, when, clock, DIVIDEND, quarter + 1, FIRST))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _corrections(seed: int, names: Names, silent: Bools, key: Keys, year: I64, day: I64) -> list[I64]:
    """Results that are disclosed again, up to 672 days later: 7 % of them, less than half with the same figures."""
    quarter = np.broadcast_to(key[2], day.shape)
    state = np.where(quarter == 3, 0, quarter + 1)
    again = uniform(seed, "corrected", *key)
    delay = 1 + np.floor(671 * uniform(seed, "correction delay", *key) ** 3).astype(np.int64)
    later = ordinals.on_or_after(day + delay)
    clock = _clock(seed, "correction", later, *key)
    found = [
        _rows(names, silent, key, year, chosen, later, clock, RESULT, state, version)
        for chosen, version in ((again < 0.045, CORRECTED), ((again >= 0.045) & (again < 0.075), REPEATED))
    ]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _rows(
    names: Names, silent: Bools, key: Keys, year: I64, chosen: Bools, when: I64, clock: I64, kind: int, state: I64,
    version: int,
) -> list[I64]:  # fmt: skip
    """The chosen ones of documents [names, years, 4] that come in the life of their names."""
    listed = np.array([d.toordinal() for d in names.listed])[:, None, None]
    gone = np.array([d.toordinal() for d in names.delisted])[:, None, None]
    use = chosen & (when >= listed) & (when < gone) & ~silent[:, None, None]
    count = int(use.sum())
    values = (
        np.broadcast_to(key[0], use.shape),
        when,
        clock,
        None,
        year,
        np.broadcast_to(key[2], use.shape),
        state,
        None,
    )
    constant = {3: kind, 7: version}
    return [
        np.full(count, constant[place]) if array is None else array[use].astype(np.int64)
        for place, array in enumerate(values)
    ]


def served_on(day: I64, second: I64) -> I64:
    """The trading day whose evening has a document: by the batch of 18:00, or by the one of the night before."""
    same = ordinals.is_open(day) & (second < BATCH)
    return np.where(same, day, ordinals.shift(day, 1))


def revisions(config: MarketConfig, names: Names, days: list[date]) -> F32:
    """State of the revisions that the evening knows [days, names], about unit variance: drift per unit of strength."""
    years = fiscal_years(config, names)
    out = np.zeros((len(days), len(names.code)), np.float32)
    first = days[0].toordinal()
    rows = np.array([day.toordinal() for day in days])
    results = years.revised[:, :, :3]
    own = (years.kind == REVISION) & (years.quarter == 3)
    col, year, slot = np.nonzero(results)
    when, second = years.day[col, year, slot], years.second[col, year, slot]
    listed = np.array([d.toordinal() for d in names.listed])
    gone = np.array([d.toordinal() for d in names.delisted])
    use = (when >= listed[col]) & (when < gone[col]) & ~years.silent[col]
    col = np.concatenate([col[use], years.col[own]])
    size = np.concatenate(
        [years.surprise[col[: use.sum()], year[use], slot[use]], years.surprise[years.col[own], years.year[own], 3]]
    )
    known = np.concatenate([served_on(when[use], second[use]), served_on(years.when[own], years.clock[own])])
    inside = (known >= first) & (known <= rows[-1])
    np.add.at(out, (np.searchsorted(rows, known[inside]), col[inside]), size[inside].astype(np.float32))
    rate = sum(REVISED) / 245
    scale = np.float32(np.sqrt((1 - PERSISTENCE**2) / rate))
    out *= scale
    for t in range(1, len(out)):
        out[t] += np.float32(PERSISTENCE) * out[t - 1]
    return out


def seconds_text(seconds: I64) -> list[str]:
    """HH:MM:SS of seconds of the day."""
    return [str(time(s // 3600, s // 60 % 60, s % 60)) for s in seconds.tolist()]


def day_of(ordinal: int) -> date:
    """The date of an ordinal, which may be NumPy's."""
    return date.fromordinal(int(ordinal))
