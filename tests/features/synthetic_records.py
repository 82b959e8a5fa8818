"""Records of events as hand-made raw frames, in the shape of the raw contracts: balances, alerts, reports, flows.

`available_at` follows from the rules of the endpoint table, as in the real tables. A test that wants a late record, a
correction or a gap makes it from these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

from atft_assets.calendar import TOKYO, next_trading_day, shift_trading_days, trading_days
from atft_assets.jquants.endpoints import (
    BREAKDOWN,
    INVESTOR_TYPES,
    MARGIN_ALERT,
    MARGIN_INTEREST,
    SHORT_RATIO,
    SHORT_SALE_REPORT,
    Endpoint,
)
from atft_assets.raw.stamps import INSTANT, stamped

DAILY_SINCE = date(2026, 9, 25)
PERSON = "個人"


Names = int | Sequence[str]


def codes(names: Names) -> list[str]:
    return [f"{1301 + i}0" for i in range(names)] if isinstance(names, int) else list(names)


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=TOKYO)


def known(endpoint: Endpoint, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with `available_at` by the endpoint's own rule."""
    return stamped(endpoint, frame, "test", "-")


def with_instants(frame: pl.DataFrame, instants: Sequence[datetime]) -> pl.DataFrame:
    return frame.with_columns(pl.Series("available_at", instants, INSTANT))


@cache
def week_ends(first: date, last: date) -> list[date]:
    """Last trading days of the weeks of three sessions and more, by counting."""
    ends = []
    for day in trading_days(first, last):
        monday = day - timedelta(days=day.weekday())
        week = trading_days(monday, monday + timedelta(days=6))
        if week[-1] == day and len(week) >= 3:
            ends.append(day)
    return ends


def margin_interest(
    names: Names = 3,
    first: date = date(2019, 1, 4),
    last: date = date(2020, 3, 31),
    seed: int = 0,
    lacking: float = 0.0,
) -> pl.DataFrame:
    """Balances of every name: weekly until 2026-09-24, since then of every day, with PubDate."""
    rng = np.random.default_rng(seed)
    weekly = [day for day in week_ends(first, last) if day < DAILY_SINCE]
    daily = [day for day in trading_days(first, last) if day >= DAILY_SINCE]
    rows = []
    for i, code in enumerate(codes(names)):
        long, short = 1e5 * (i + 1), 2e4 * (i + 1)
        for day in (*weekly, *daily):
            long, short = long * np.exp(rng.normal(0, 0.1)), short * np.exp(rng.normal(0, 0.2))
            if rng.random() < lacking:
                continue
            lo, sh = float(round(long)), float(round(short))
            ln, sn = float(round(lo * rng.uniform(0, 0.5))), float(round(sh * rng.uniform(0, 0.5)))
            published = next_trading_day(day).isoformat() if day >= DAILY_SINCE else None
            rows.append((published, day, code, str(1 + i % 3), sh, lo, sn, ln, sh - sn, lo - ln))
    columns = ("ShrtVol", "LongVol", "ShrtNegVol", "LongNegVol", "ShrtStdVol", "LongStdVol")
    schema = {"PubDate": pl.String, "date": pl.Date, "code": pl.String, "IssType": pl.String} | dict.fromkeys(
        columns, pl.Float64
    )
    return known(MARGIN_INTEREST, pl.DataFrame(rows, schema=schema, orient="row").sort("date", "code"))


REASONS = (
    "Restricted",
    "DailyPublication",
    "Monitoring",
    "RestrictedByJSF",
    "PrecautionByJSF",
    "UnclearOrSecOnAlert",
)


def reasons(*given: str, quote: str = '"') -> str:
    """PubReason as the API writes it, or with single quotes, as a bulk file does."""
    cells = (f"{quote}{name}{quote}: {quote}{int(name in given)}{quote}" for name in REASONS)
    return "{" + ", ".join(cells) + "}"


def margin_alert(
    names: Names = 3,
    first: date = date(2019, 1, 4),
    last: date = date(2019, 6, 28),
    seed: int = 0,
    on_list: float = 0.9,
    skipped: Iterable[date] = (),
) -> pl.DataFrame:
    """Daily balances of names that come on the list and leave it; on `skipped` days nothing is published.

    What a skipped day should have published comes with the next day, as on 2021-08-26 and 27.
    """
    rng = np.random.default_rng(seed)
    skipped = set(skipped)
    rows = []
    for i, code in enumerate(codes(names)):
        long, short = 3e5 * (i + 1), 1e5 * (i + 1)
        there = rng.random() < on_list
        for day in trading_days(first, last):
            published = next_trading_day(day)
            if published > last:
                break
            if rng.random() < 0.08:
                there = rng.random() < on_list
            long, short = long * np.exp(rng.normal(0, 0.05)), short * np.exp(rng.normal(0, 0.1))
            if not there:
                continue
            while published in skipped:
                published = next_trading_day(published)
            lo, sh = float(round(long)), float(round(short))
            ln, sn = float(round(lo * 0.3)), float(round(sh * 0.2))
            why = [name for name in REASONS if rng.random() < 0.3] or ["DailyPublication"]
            rows.append(
                (
                    published,
                    code,
                    day.isoformat(),
                    reasons(*why, quote="'\""[int(rng.integers(2))]),
                    sh,
                    lo,
                    sn,
                    ln,
                    sh - sn,
                    lo - ln,
                    f"{sh / 1e6:.2f}",
                    f"{lo / 1e6:.2f}",
                    f"{sh / lo * 100:.1f}" if lo else "0.0",
                    ("001", "002", "003", "004", "101", "102")[int(rng.integers(6))],
                )
            )
    amounts = ("ShrtOut", "LongOut", "ShrtNegOut", "LongNegOut", "ShrtStdOut", "LongStdOut")
    texts = ("ShrtOutRatio", "LongOutRatio", "SLRatio", "TSEMrgnRegCls")
    schema = (
        {"date": pl.Date, "code": pl.String, "AppDate": pl.String, "PubReason": pl.String}
        | dict.fromkeys(amounts, pl.Float64)
        | dict.fromkeys(texts, pl.String)
    )
    return known(MARGIN_ALERT, pl.DataFrame(rows, schema=schema, orient="row").sort("date", "code", "AppDate"))


def short_ratio(
    sectors: Sequence[str] = ("0050", "1050", "9999"),
    first: date = date(2019, 1, 4),
    last: date = date(2020, 3, 31),
    seed: int = 0,
) -> pl.DataFrame:
    """Sales by sector and day; none on 2020-10-01."""
    rng = np.random.default_rng(seed)
    days = [day for day in trading_days(first, last) if day != date(2020, 10, 1)]
    rows = [
        (day, s33, *(float(round(1e9 * (i + 1) * np.exp(rng.normal(0, 0.3)))) for _ in range(3)))
        for day in days
        for i, s33 in enumerate(sectors)
    ]
    schema = {"date": pl.Date, "S33": pl.String} | dict.fromkeys(
        ("SellExShortVa", "ShrtWithResVa", "ShrtNoResVa"), pl.Float64
    )
    return known(SHORT_RATIO, pl.DataFrame(rows, schema=schema, orient="row"))


REPORT_SCHEMA = {
    "date": pl.Date,
    "CalcDate": pl.String,
    "code": pl.String,
    "SSName": pl.String,
    "DICName": pl.String,
    "FundName": pl.String,
    "ShrtPosToSO": pl.Float64,
    "ShrtPosShares": pl.Float64,
    "PrevRptDate": pl.String,
    "PrevRptRatio": pl.Float64,
}


def report(
    disclosed: date,
    calculated: date,
    code: str,
    holder: str,
    ratio: float | None,
    shares: float = 0.0,
    previous: date | None = None,
    previous_ratio: float | None = None,
    principal: str = "",
    fund: str = "",
) -> tuple[object, ...]:
    """A row of REPORT_SCHEMA."""
    before = previous.isoformat() if previous else ""
    return (disclosed, calculated.isoformat(), code, holder, principal, fund, ratio, shares, before, previous_ratio)


def reports_of(rows: Iterable[tuple[object, ...]]) -> pl.DataFrame:
    return known(
        SHORT_SALE_REPORT,
        pl.DataFrame(list(rows), schema=REPORT_SCHEMA, orient="row").sort("date", maintain_order=True),
    )


def short_sale_report(
    names: Names = 3,
    first: date = date(2018, 1, 4),
    last: date = date(2019, 12, 30),
    seed: int = 0,
    share: float = 0.15,
) -> pl.DataFrame:
    """Reports of a few holders and of persons: most two business days later, some one, a few much later, some exits."""
    rng = np.random.default_rng(seed)
    days = trading_days(first, last)
    rows = []
    persons: dict[str, tuple[date, float]] = {}
    for place, day in enumerate(days[3:], 3):
        for code in codes(names):
            for holder in ("Alpha Capital", "Beta Fund", "Gamma 証券", PERSON):
                if rng.random() > share:
                    continue
                lag = int(rng.choice([1, 2, 2, 2, 3]))
                calculated = days[max(place - lag, 0)]
                ratio = round(
                    float(rng.choice([rng.uniform(0.002, 0.0049), rng.uniform(0.005, 0.03)], p=[0.15, 0.85])), 4
                )
                before, was = persons.get(code, (None, None)) if holder == PERSON else (None, None)
                if before is not None and calculated <= before:
                    continue
                rows.append(report(day, calculated, code, holder, ratio, float(round(ratio * 5e7)), before, was))
                if holder == PERSON:
                    persons[code] = (calculated, ratio)
    return reports_of(rows)


ACTORS = (
    "Prop",
    "Ind",
    "Frgn",
    "SecCo",
    "InvTr",
    "BusCo",
    "OthCo",
    "InsCo",
    "Bank",
    "TrstBnk",
    "OthFin",
)


def investor_types(
    first: date = date(2019, 1, 4), last: date = date(2020, 6, 26), seed: int = 0, corrected: float = 0.0
) -> pl.DataFrame:
    """Weeks of all sections, on the fourth business day after; some are published again two weeks later."""
    rng = np.random.default_rng(seed)
    rows = []
    for monday in (first - timedelta(days=first.weekday()) + timedelta(days=7 * i) for i in range(2000)):
        week = trading_days(monday, monday + timedelta(days=6))
        if monday > last or not week:
            if monday > last:
                break
            continue
        new = week[-1] >= date(2022, 4, 4)
        parts = ("TSEPrime", "TSEStandard", "TSEGrowth") if new else ("TSE1st", "TSE2nd", "TSEMothers", "TSEJASDAQ")
        for section in (*parts, "TokyoNagoya"):
            published = [shift_trading_days(week[-1], 4)]
            if rng.random() < corrected:
                published.append(shift_trading_days(week[-1], 4 + int(rng.integers(1, 12))))
            for out in published:
                bought = {who: float(round(1e6 * np.exp(rng.normal(0, 0.4)))) for who in ACTORS}
                sold = {who: float(round(1e6 * np.exp(rng.normal(0, 0.4)))) for who in ACTORS}
                whole = {"Brk": [who for who in ACTORS if who != "Prop"], "Tot": list(ACTORS)}
                for name, members in whole.items():
                    bought[name], sold[name] = sum(bought[m] for m in members), sum(sold[m] for m in members)
                cells = {
                    f"{who}{what}": value
                    for who in (*ACTORS, "Brk", "Tot")
                    for what, value in (
                        ("Sell", sold[who]),
                        ("Buy", bought[who]),
                        ("Tot", sold[who] + bought[who]),
                        ("Bal", bought[who] - sold[who]),
                    )
                }
                rows.append({"date": out, "StDate": str(week[0]), "EnDate": str(week[-1]), "Section": section, **cells})
    frame = pl.DataFrame(rows).sort("date", "EnDate", "Section")
    return known(INVESTOR_TYPES, frame)


ORDERS = ("LongSell", "ShrtNoMrgn", "MrgnSellNew", "MrgnSellClose", "LongBuy", "MrgnBuyNew", "MrgnBuyClose")


def breakdown(quotes: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Turnover by kind of order of the rows with a trade; purchases and sales are equal, as of every trade."""
    rng = np.random.default_rng(seed)
    traded = quotes.filter(pl.col("Vo") > 0).select("date", "code", "Vo", "Va")
    n = traded.height
    sells, buys = rng.dirichlet([6, 2, 1, 1], n), rng.dirichlet([6, 3, 1], n)
    volumes = np.hstack([sells, buys]) * traded["Vo"].to_numpy()[:, None]
    price = (traded["Va"] / traded["Vo"]).to_numpy()[:, None] * np.exp(rng.normal(0, 0.002, (n, 7)))
    frame = traded.select("date", "code").with_columns(
        *(pl.Series(f"{name}Va", (volumes * price)[:, i]) for i, name in enumerate(ORDERS)),
        *(pl.Series(f"{name}Vo", volumes[:, i]) for i, name in enumerate(ORDERS)),
    )
    return known(BREAKDOWN, frame.sort("date", "code"))


def of_market(quotes: pl.DataFrame, listed: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Every table of events for the names, sectors and days of a market, by the name of the raw table."""
    first, last = quotes["date"].min(), quotes["date"].max()
    assert isinstance(first, date) and isinstance(last, date)
    names, sectors = quotes["code"].unique().sort().to_list(), listed["S33"].unique().sort().to_list()
    made = {
        "margin_interest": margin_interest(names, first, last, lacking=0.02),
        "margin_alert": margin_alert(names, first, last, on_list=0.3, skipped=[trading_days(first, last)[40]]),
        "short_ratio": short_ratio(sorted({*sectors, "9999"}), first, last),
        "short_sale_report": short_sale_report(names, first, last, share=0.03),
        "investor_types": investor_types(first, last, corrected=0.1),
        "breakdown": breakdown(quotes),
    }
    # what is dated later than the market's last day is not there yet
    return {name: frame.filter(pl.col("date") <= last) for name, frame in made.items()}
