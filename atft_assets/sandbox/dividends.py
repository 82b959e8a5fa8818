"""Announcements of dividends (`/fins/dividend`): events, of which the newest of a term counts.

With the results of a whole year come the decision on its last dividend and the forecasts of both of the next year,
three terms in one publication that only the number tells apart. A forecast may be revised, undecided (`-`) or
withdrawn; the first announcement of a dividend is named by those that follow. The ex-date lies up to a year ahead;
some dividends are 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets.sandbox import ordinals
from atft_assets.sandbox.draws import I64, uniform
from atft_assets.sandbox.figures import fiscal
from atft_assets.sandbox.process import Bools
from atft_assets.sandbox.statements import rates
from atft_assets.sandbox.wire import numbers_or, remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

FIELDS = (
    "PubDate", "PubTime", "Code", "RefNo", "StatCode", "BoardDate", "IFCode", "FRCode", "IFTerm", "DivRate", "RecDate",
    "ExDate", "ActRecDate", "PayDate", "CARefNo", "DistAmt", "RetEarn", "DeemDiv", "DeemCapGains", "NetAssetDecRatio",
    "CommSpecCode", "CommDivRate", "SpecDivRate",
)  # fmt: skip
FORECAST, REVISED, DECIDED, WITHDRAWN = 0, 1, 2, 3
SHORTER_SINCE = date(2019, 7, 16).toordinal()  # settlement two days after the trade, three before
SPECIAL_SINCE = date(2022, 6, 6).toordinal()  # commemorative and special parts in numbers


@dataclass(frozen=True)
class Events:
    """One entry an announcement of a term, by (day, second, name, term).

    Attributes:
        day, second: of the announcement; column: name; year: place in the fiscal years of the term.
        final: the year's last dividend, else the interim one; step: FORECAST to WITHDRAWN.
        first: day of the first announcement of the same dividend.
    """

    day: I64
    second: I64
    column: I64
    year: I64
    final: Bools
    step: I64
    first: I64


@remembered(1)
def events(market: "Market") -> Events:
    """All announcements of a market, of names while they are listed."""
    known, seed = fiscal(market), market.config.seed
    col, place, term = (index.ravel() for index in np.indices((known.day.shape[0], known.day.shape[1] - 1, 2)))
    year = place + 1  # of the first year nobody has announced anything before
    fy, final = known.years[year], term == 1
    draw = uniform(seed, "dividend path", col, fy, term)
    begin = known.day[col, year - 1, 3]
    decided = known.day[col, year, np.where(final, 3, 1)]
    slot = np.where(final, 2, 0)
    changed, second = known.day[col, year, slot], known.second[col, year, slot]
    parts = [
        (FORECAST, begin, known.second[col, year - 1, 3], np.full(len(col), True)),
        (REVISED, changed, second, known.paid_more[col, year, slot] & (draw <= 0.995)),
        (WITHDRAWN, changed, second, draw > 0.995),
        (DECIDED, decided, known.second[col, year, np.where(final, 3, 1)], draw <= 0.995),
    ]
    listed = np.array([day.toordinal() for day in market.names.listed])[col]
    gone = np.array([day.toordinal() for day in market.names.delisted])[col]
    columns: list[list[np.ndarray]] = [[] for _ in range(7)]
    for step, day, second, chosen in parts:
        use = chosen & ~known.silent[col] & (day >= listed) & (day < gone)
        values = (day, second, col, year, final, np.full(len(col), step), begin)
        for column, array in zip(columns, values, strict=True):
            column.append(array[use])
    joined = [np.concatenate(column) for column in columns]
    order = np.lexsort((joined[5], joined[4], joined[3], joined[2], joined[1], joined[0]))
    return Events(*(values[order] for values in joined))


def dividends(market: "Market", first: int, last: int, columns: I64 | None = None) -> I64:
    """Places of the announcements of the days between two ordinals, inclusive."""
    found = events(market)
    lo = int(np.searchsorted(found.day, max(first, int(market.ordinals[0]))))
    hi = int(np.searchsorted(found.day, last, side="right"))
    places = np.arange(lo, max(lo, hi))
    return places if columns is None else places[np.isin(found.column[places], columns)]


def rows(market: "Market", places: I64) -> pl.DataFrame:
    """Announcements in the fields of the endpoint."""
    found, known, seed = events(market), fiscal(market), market.config.seed
    day, col, year, final = found.day[places], found.column[places], found.year[places], found.final[places]
    step = found.step[places]
    end = known.end[col, year, np.where(final, 3, 1)]
    actual = ordinals.on_or_before(end)
    ex = ordinals.shift(actual, np.where(end >= SHORTER_SINCE, -1, -2))
    passed = np.select([step == FORECAST, step == DECIDED], [0, np.where(final, 4, 2)], np.where(final, 3, 1))
    rate, _ = rates(market, col, year, day, passed)
    half = np.round(rates(market, col, year, day, np.minimum(passed, 2))[0] / 2, 2)
    amount = np.where(final, np.round(rate - half, 2), half)
    keys = (col, known.years[year], final.astype(np.int64))
    undecided = ((step == FORECAST) & (uniform(seed, "dividend unknown", *keys) < 0.05)) | (step == WITHDRAWN)
    settled = step == DECIDED
    special = (uniform(seed, "special dividend", *keys) < 0.03) & (amount > 0)
    told = special & (day >= SPECIAL_SINCE)
    empty, open_ = np.full(len(places), True), ~settled
    forecast = _number(market, day, found.step[places], col, year, final)
    first = _number(market, found.first[places], np.full(len(places), FORECAST), col, year, final)
    text: dict[str, Iterable[str]] = {
        "PubDate": ordinals.text(day),
        "PubTime": [f"{s // 3600:02d}:{s // 60 % 60:02d}" for s in found.second[places].tolist()],
        "RefNo": forecast, "StatCode": np.array(["1", "2", "1", "3"], dtype=object)[step],
        "BoardDate": np.where(settled, ordinals.text(day), "-"), "IFCode": np.where(final, "2", "1"),
        "FRCode": np.where(settled, "1", "2"), "IFTerm": [day_text[:7] for day_text in ordinals.text(end)],
        "RecDate": ordinals.text(end), "ExDate": ordinals.text(ex), "ActRecDate": ordinals.text(actual),
        "PayDate": np.where(settled, ordinals.text(ordinals.on_or_after(end + 68)), "-"), "CARefNo": first,
        "CommSpecCode": np.where(special, "2", "0"),
    }  # fmt: skip
    numbers = {
        "DivRate": numbers_or(amount, undecided, "-"), "DistAmt": numbers_or(amount, open_ | undecided, "-"),
        "RetEarn": numbers_or(amount, open_ | undecided, "-"), "DeemDiv": numbers_or(amount, empty, ""),
        "DeemCapGains": numbers_or(amount, empty, ""), "NetAssetDecRatio": numbers_or(amount, empty, ""),
        "CommDivRate": numbers_or(amount, empty, ""), "SpecDivRate": numbers_or(np.round(amount * 0.2, 2), ~told, ""),
    }  # fmt: skip
    frame = pl.DataFrame(
        {"Code": market.codes(col)}
        | {name: pl.Series(list(values), dtype=pl.String) for name, values in text.items()}
        | numbers
    )
    return frame.select(FIELDS)


def _number(market: "Market", day: I64, step: I64, col: I64, year: I64, final: Bools) -> list[str]:
    """RefNo of announcements: the day, and what tells those of a day apart."""
    parity = fiscal(market).years[year] % 2
    stamps = ordinals.text(day)
    return [
        f"{stamp.replace('-', '')}B{name * 16 + odd * 8 + kind * 2 + last:06d}"
        for stamp, name, odd, kind, last in zip(
            stamps, col.tolist(), parity.tolist(), step.tolist(), final.astype(int).tolist(), strict=True
        )
    ]
