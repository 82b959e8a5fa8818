"""Short selling: turnover by sector (`/markets/short-ratio`) and reported positions (`/markets/short-sale-report`).

A holder enters with half a per cent of the shares, reports whenever the position has changed by a tenth, and leaves
with a report below half a per cent; one in seven never says that it left. Reports come one or two business days after
their date, a few of them a year. People are all called 個人; a named holder now and then reports a date twice, with
another number.

`covering` is the drift that follows what the reports disclose, for markets that plant it: up where positions are
closed.
"""

from dataclasses import dataclass, fields, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from atft_assets import calendar
from atft_assets.sandbox import codes as tables
from atft_assets.sandbox import ordinals
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.draws import F64, I64, normal, pick, uniform, wander, whole
from atft_assets.sandbox.names import ORDINARY, Names
from atft_assets.sandbox.process import F32, Bools
from atft_assets.sandbox.wire import remembered

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

PERSON = "個人"
THRESHOLD = 0.005
EPISODES, REPORTS = 16, 24  # at most: of a name in a year, and of a holder in one of them
PERSISTENCE = 0.9  # daily, of the drift after a disclosure
REPORT_FIELDS = (
    "DiscDate", "CalcDate", "Code", "SSName", "SSAddr", "DICName", "DICAddr", "FundName", "ShrtPosToSO",
    "ShrtPosShares", "ShrtPosUnits", "PrevRptDate", "PrevRptRatio", "Notes",
)  # fmt: skip
RATIO_FIELDS = ("Date", "S33", "SellExShortVa", "ShrtWithResVa", "ShrtNoResVa")
# nobody of these exists
HOLDERS: tuple[tuple[str, str], ...] = (
    *((f"Holder {letter} International plc", f"{n} Sample Square, London, United Kingdom ") for n, letter in
      enumerate("ABCDEFGHJKLM", 1)),
    *((f"Holder {letter} Asset Management LLC", f"{n} Example Avenue, New York, U.S.A. ") for n, letter in
      enumerate("NPQRSTUVWXYZ", 1)),
    *((f"模擬証券{letter}株式会社", f"東京都千代田区見本町{n}丁目 ") for n, letter in enumerate("ＡＢＣＤＥＦ", 1)),
)  # fmt: skip
NOTES = ("", "Subsequent", "顧客取引に係るヘッジポジションも含む", "-")
NOTES_SHARES = (0.6, 0.25, 0.1, 0.05)


# -- turnover by sector ------------------------------------------------------------------------------------------------


@remembered(32)
def short_ratio(market: "Market", row: int) -> pl.DataFrame:
    """The 34 rows of a day: 33 sectors, and 9999 for what has none; empty where nothing could be sold."""
    if market.days[row] in calendar.SYSTEM_HALTS:
        return pl.DataFrame(
            schema=dict.fromkeys(RATIO_FIELDS[:2], pl.String) | dict.fromkeys(RATIO_FIELDS[2:], pl.Float64)
        )
    names, seed = market.names, market.config.seed
    columns = np.flatnonzero(market.traded[row] & (names.kind == ORDINARY))
    _, _, value = market.trade(np.full(len(columns), row), columns)
    sectors = np.arange(len(tables.SECTORS) + 1)
    turnover = np.bincount(names.sector[columns], weights=value, minlength=len(sectors))
    place = int(ordinals.place(market.ordinals[row]))
    share = 0.4 + 0.05 * wander(seed, "short share", sectors, place, (4, 40))
    turnover[-1] = turnover[:-1].sum() * (0.11 + 0.03 * wander(seed, "short other", 0, place, (4, 40)))
    exempt = 0.12 * np.exp(0.4 * wander(seed, "short exempt", sectors, place, (4, 40)))
    short = turnover * np.clip(share, 0.15, 0.7)
    numbers = [np.rint(turnover - short), np.rint(short * (1 - exempt)), np.rint(short * exempt)]
    codes = [sector[0] for sector in tables.SECTORS] + [tables.NO_SECTOR[0]]
    day = market.days[row].isoformat()
    return pl.DataFrame({"Date": [day] * len(codes), "S33": codes, **dict(zip(RATIO_FIELDS[2:], numbers, strict=True))})


def short_ratio_of(market: "Market", s33: str, lo: int, hi: int) -> pl.DataFrame:
    """A sector's rows on days [lo, hi)."""
    frames = [short_ratio(market, row).filter(pl.col("S33") == s33) for row in range(lo, hi)]
    return pl.concat(frames) if frames else short_ratio(market, 0).clear()


# -- reported positions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reports:
    """Reports by (disclosed, name, holder): one entry a report.

    Attributes:
        disclosed, counted: days of the disclosure and of the position, ordinals.
        column: name; holder: of `HOLDERS`, -1 for a person; part: tells people apart.
        ratio: position over the shares outstanding, of four decimals; before: that of the holder's report before, nan
            for none.
        before_day: date of that report, 0 for none.
        late: disclosed long after its date, or a second time: no news.
    """

    disclosed: I64
    counted: I64
    column: I64
    holder: I64
    part: I64
    ratio: F64
    before: F64
    before_day: I64
    late: Bools

    def take(self, which: I64 | Bools) -> "Reports":
        """Some of them."""
        return Reports(*(getattr(self, field.name)[which] for field in fields(self)))


def reports(config: MarketConfig, names: Names, year: int) -> Reports:
    """Reports disclosed in a calendar year, of holders that came in that year or the one before."""
    seed, n = config.seed, len(names.code)
    found: list[Reports] = []
    for born in (year - 1, year):
        who = np.arange(n)[:, None]
        nth = np.arange(EPISODES)[None, :]
        keys = (np.broadcast_to(who, (n, EPISODES)), np.full((n, EPISODES), born), np.broadcast_to(nth, (n, EPISODES)))
        busy = np.clip(0.35 * np.exp(0.9 * normal(seed, "shorted", np.arange(n)) - 0.2), 0.02, 0.95)[:, None]
        listed = np.array([day.toordinal() for day in names.listed])[:, None]
        on = (uniform(seed, "short episode", *keys) < busy) & (names.kind == ORDINARY)[:, None]
        col, k = np.nonzero(on & (listed < date(born, 12, 31).toordinal()))
        found.append(_episodes(seed, col, np.full(len(col), born), k))
    whole_lot = Reports(*(np.concatenate([getattr(part, f.name) for part in found]) for f in fields(Reports)))
    listed = np.array([day.toordinal() for day in names.listed])[whole_lot.column]
    gone = np.array([day.toordinal() for day in names.delisted])[whole_lot.column]
    inside = (whole_lot.disclosed >= date(year, 1, 1).toordinal()) & (
        whole_lot.disclosed <= date(year, 12, 31).toordinal()
    )
    kept = whole_lot.take(inside & (whole_lot.counted >= listed) & (whole_lot.disclosed < gone))
    return kept.take(np.lexsort((kept.part, kept.counted, kept.holder, kept.column, kept.disclosed)))


def _episodes(seed: int, col: I64, born: I64, k: I64) -> Reports:
    """All reports of episodes: [episodes, REPORTS] at first, then those that there are."""
    keys = (col[:, None], born[:, None], k[:, None])
    step = np.arange(REPORTS)[None, :]
    count = np.clip(2 + np.floor(-7.5 * np.log1p(-uniform(seed, "reports", *keys))), 2, REPORTS).astype(np.int64)
    leaves = uniform(seed, "leaves", *keys) < 0.85
    gap = whole(seed, "report gap", 1, 7, *keys, step)
    gap[:, 0] = 0
    start = ordinals.place(ordinals.month_end(born - 1, np.full(len(born), 12)) + 1)[:, None]
    calc_place = start + whole(seed, "short start", 0, 243, *keys) + np.cumsum(gap, axis=1)
    lag = pick(seed, "short lag", (0.0002, 0.23, 0.7628, 0.003, 0.002, 0.002), *keys, step)
    far = uniform(seed, "short very late", *keys, step) < 0.0015
    lag = np.where(far, whole(seed, "short years late", 20, 240, *keys, step), lag)
    disclosed = ordinals.at(calc_place + lag)
    counted = ordinals.at(calc_place)
    closed = uniform(seed, "short closed", *keys, step) < 0.002
    counted = np.where(closed, _closed_before(counted), counted)

    moves = 0.0011 * normal(seed, "short move", *keys, step)
    moves += np.sign(moves) * 0.001
    moves[:, 0] = 0
    entry = THRESHOLD + 0.003 * uniform(seed, "short entry", *keys)
    path = entry + np.cumsum(moves, axis=1)
    path = THRESHOLD + np.abs(
        path - THRESHOLD
    )  # a position that would fall below goes up again: it leaves at the end alone
    last = step == count - 1
    zero = uniform(seed, "short zero", *keys) < 0.06
    exit_at = np.where(zero, 0.0, THRESHOLD * (0.5 + 0.48 * uniform(seed, "short exit", *keys)))
    path = np.where(last & leaves, exit_at, np.maximum(path, THRESHOLD))
    ratio = np.round(path, 4)
    # rounded, a holder that is in stays at or above the threshold, and one that left below it
    ratio = np.where(last & leaves, np.minimum(ratio, 0.0049), np.maximum(ratio, THRESHOLD))
    before = np.roll(ratio, 1, axis=1)
    before_day = np.roll(counted, 1, axis=1)
    again = uniform(seed, "short again", *keys[:2], keys[2]) < 0.5  # came in once before, and had left
    before[:, 0] = np.where(again[:, 0], np.round(THRESHOLD * uniform(seed, "short once", *keys)[:, 0], 4), np.nan)
    before_day[:, 0] = np.where(again[:, 0], counted[:, 0] - 20, 0)

    people = uniform(seed, "short person", *keys) < 0.008
    holder = np.where(people, -1, whole(seed, "short holder", 0, len(HOLDERS) - 1, *keys))
    there = step < count
    used = np.nonzero(there)
    parts = (disclosed, counted, col[:, None], holder, k[:, None], ratio, before, before_day, lag > 5)
    whole_lot = Reports(*(np.broadcast_to(values, there.shape)[used] for values in parts))

    # corrections: the same holder and date, another number, up to 37 days later; people: a second one beside the first
    draw = uniform(seed, "short twice", *keys, step)[used]
    fixed = whole_lot.take((draw < 0.002) & (whole_lot.holder >= 0))
    later = ordinals.shift(fixed.disclosed, 1 + (fixed.counted % 25))
    ratio_again = np.round(fixed.ratio + 0.0001, 4)
    second = replace(fixed, disclosed=later, ratio=ratio_again, late=np.full_like(fixed.late, True))
    one = whole_lot.take((draw < 0.15) & (whole_lot.holder < 0))
    other = replace(
        one, part=one.part + EPISODES, ratio=np.round(one.ratio + 0.0012, 4), late=np.full_like(one.late, True)
    )
    return Reports(*(np.concatenate([getattr(p, f.name) for p in (whole_lot, second, other)]) for f in fields(Reports)))


def _closed_before(days: I64) -> I64:
    """The last closed day before each, a weekend or holiday: holders date positions without looking at the calendar."""
    out = days - 1
    for _ in range(6):
        out = np.where(ordinals.is_open(out), out - 1, out)
    return out


@remembered(14)
def _year(market: "Market", year: int) -> Reports:
    return reports(market.config, market.names, year)


def short_sale_report(
    market: "Market", first: date, last: date, columns: I64 | None = None, counted: date | None = None
) -> pl.DataFrame:
    """Reports disclosed between two days, inclusive.

    Args:
        columns: of these names; None for all.
        counted: with this date of the position alone.
    """
    frames = []
    for year in range(first.year, last.year + 1):
        if not market.config.start.year <= year <= market.config.end.year:
            continue
        found = _year(market, year)
        lo = int(np.searchsorted(found.disclosed, max(first, market.config.start).toordinal()))
        hi = int(np.searchsorted(found.disclosed, last.toordinal(), side="right"))
        some = found.take(np.arange(lo, max(lo, hi)))
        if columns is not None:
            some = some.take(np.isin(some.column, columns))
        if counted is not None:
            some = some.take(some.counted == counted.toordinal())
        frames.append(_rows(market, some))
    return pl.concat(frames) if frames else _rows(market, _nothing())


def _nothing() -> Reports:
    none, numbers = np.zeros(0, np.int64), np.zeros(0)
    return Reports(none, none, none, none, none, numbers, numbers, none, np.zeros(0, np.bool_))


def _rows(market: "Market", r: Reports) -> pl.DataFrame:
    """Reports in the fields of the endpoint."""
    seed, keys = market.config.seed, (r.column, r.counted, r.holder, r.part)
    shares = np.rint(r.ratio * market.shares_on(market.rows_before(r.counted), r.column))
    holder = np.array([*HOLDERS, (PERSON, "- ")], dtype=object)[r.holder]
    fund = np.where(uniform(seed, "short fund", *keys) < 0.08, "Sample Master Fund", "-").astype(object)
    contract = np.where(uniform(seed, "short contract", *keys) < 0.05, "Example Pension Trust", "-").astype(object)
    address = np.where(contract == "-", "-", "1 Example Road, Dublin, Ireland ").astype(object)
    notes = np.array(NOTES, dtype=object)[pick(seed, "short notes", NOTES_SHARES, *keys)]
    first = r.before_day == 0
    before_day = np.where(first, "", ordinals.text(np.maximum(r.before_day, 1))).astype(object)
    text = {
        "DiscDate": ordinals.text(r.disclosed), "CalcDate": ordinals.text(r.counted), "SSName": holder[:, 0],
        "SSAddr": holder[:, 1], "DICName": contract, "DICAddr": address, "FundName": fund, "PrevRptDate": before_day,
        "Notes": notes,
    }  # fmt: skip
    numbers = {"ShrtPosToSO": r.ratio, "ShrtPosShares": shares, "ShrtPosUnits": np.floor(shares / 100)}
    frame = pl.DataFrame(
        {"Code": market.codes(r.column)}
        | {name: pl.Series(list(values), dtype=pl.String) for name, values in text.items()}
        | {name: pl.Series(values, dtype=pl.Float64) for name, values in numbers.items()}
        | {"PrevRptRatio": pl.Series(np.nan_to_num(r.before), dtype=pl.Float64).set(pl.Series(first), None)}
    )
    return frame.select(REPORT_FIELDS)


def covering(config: MarketConfig, names: Names, days: list[date]) -> F32:
    """What was disclosed lately of positions closed less built up [days, names], about unit variance."""
    out = np.zeros((len(days), len(names.code)), np.float32)
    rows = np.array([day.toordinal() for day in days])
    for year in range(days[0].year, days[-1].year + 1):
        found = reports(config, names, year)
        found = found.take((found.disclosed >= rows[0]) & (found.disclosed <= rows[-1]) & ~found.late)
        held = np.where(found.ratio >= THRESHOLD, found.ratio, 0.0)  # below the threshold a holder counts as out
        before = np.nan_to_num(found.before)
        change = held - np.where(before >= THRESHOLD, before, 0.0)
        np.add.at(out, (np.searchsorted(rows, found.disclosed), found.column), (-change).astype(np.float32))
    out /= np.float32(SCALE)
    for t in range(1, len(out)):
        out[t] += np.float32(PERSISTENCE) * out[t - 1]
    return out


SCALE = 0.0034  # of the decayed changes, over names and days: what gives them about unit variance
