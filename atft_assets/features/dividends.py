"""Dividends: eight columns of what was announced, and of the drop that a price has before it.

Prices and labels keep the fall of an ex-dividend day, so a row before one holds what is going to fall. Announcements
are revised and deleted: of those that name one first announcement (`CARefNo`) the newest that the evening knew counts,
and of those for one ex-date the newest again, whatever number it has. A deletion leaves nothing of its number. A rate
of 0 is one, and one that is undecided adds nothing. What was paid is summed as it was known on its ex-date, on the
basis of the day's price.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import first_evening, session_number
from atft_assets.features.event_feature import event_family
from atft_assets.features.feature import Feature
from atft_assets.features.names import DAILY_QUOTES, UNIVERSE, of
from atft_assets.features.rolling import TINY, by_stock, own, ratio
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

DIVIDENDS, DIVIDEND = "fins_dividend", "dividend_features"
LOOKBACK_MONTHS = 27  # an ex-date within the last year, which was announced up to a year ahead
QUOTE_MONTHS = 14
AHEAD = 60  # trading days before an ex-date from which on it is spoken of
DROPS = (1, 5, 20)
YEAR = 365  # calendar days
LAST_PRICE = 20  # rows that a price is carried over days without a trade
DELETED = "3"
SPECIAL = ("1", "2", "3")
COLUMNS = ("date", "code", "PubTime", "RefNo", "CARefNo", "StatCode", "ExDate", "DivRate", "CommSpecCode", AVAILABLE_AT)
QUOTES = ("date", "code", "C", "AdjFactor")

TOLD = of(DIVIDENDS, "PubTime", "RefNo", "CARefNo", "StatCode", "ExDate")
PRICED = (*TOLD, *of(DIVIDENDS, "DivRate"), *of(DAILY_QUOTES, "C"))
_feature = event_family(
    "dividends",
    kind="event",
    source=f"{DIVIDENDS}, {DAILY_QUOTES}",
    reads=PRICED,
    availability="the full hour after the announcement, from 12:00 to 19:00",
    valid_from=date(2013, 2, 20),
    coverage=0.0,
    may_be_constant=True,
    may_be_absent=True,
)
_RANGE: dict[str, Any] = {"low": 0.0, "high": 1.0}

FEATURES: tuple[Feature, ...] = (
    _feature(
        "div_days_to_ex", f"trading days to the next ex-date, {AHEAD} at most", 1, 130, low=1.0, high=float(AHEAD),
        source=DIVIDENDS, reads=TOLD,
    ),
    _feature("div_next_yield", "what is then paid/C, cut at 1", 1, 130, **_RANGE),
    *(
        _feature(
            f"div_drop_{h}d", f"paid over the next {h} trading days/C, known by now; 0 where nothing is, cut at 1", 1,
            130, coverage=0.5, may_be_absent=False, **_RANGE,
        )
        for h in DROPS
    ),
    _feature(
        "div_trailing_yield", "paid over the last 365 days/C, on one basis of splits, cut at 1", 1, 260,
        reads=(*PRICED, *of(DAILY_QUOTES, "AdjFactor")), coverage=0.2, may_be_absent=False, **_RANGE,
    ),
    _feature(
        "div_days_since_ex", "trading days since the last ex-date within 365 days", 1, 130, low=0.0, source=DIVIDENDS,
        reads=TOLD,
    ),
    _feature(
        "div_special", "1 where the next one is a special or commemorative dividend", 1, 130, kind="flag", low=0,
        high=1, source=DIVIDENDS, reads=(*TOLD, *of(DIVIDENDS, "CommSpecCode")),
    ),
)  # fmt: skip


def dividend_features(announced: pl.DataFrame, quotes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The dividend columns.

    Args:
        announced: COLUMNS of fins_dividend, history included; rates as text.
        quotes: QUOTES, history included.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features. The drops are 0 where nothing is announced; they are null without a price.
    """
    told = _told(announced)
    priced = (
        by_stock(quotes.select(QUOTES))
        .with_columns(
            own(pl.col("C").forward_fill(limit=LAST_PRICE)).alias("_price"),
            own((1 / pl.col("AdjFactor").fill_null(1.0)).cum_prod()).alias("_basis"),
        )
        .select("date", pl.col("code").cast(pl.String), "_price", "_basis")
    )
    frame = rows.select("date", "code").join(priced, on=["date", "code"], how="left", maintain_order="left")
    frame = frame.join(_due(told, rows), on=["date", "code"], how="left", maintain_order="left")
    frame = _paid(frame, told, priced)
    price, day = pl.col("_price"), session_number(frame["date"])
    paid = pl.col("_sum") - pl.col("_sum_before").fill_null(0.0)
    trailing = ratio(paid, price * pl.col("_basis"), TINY).clip(0, 1)
    frame = frame.with_columns(
        ratio(pl.col("_rate"), price, TINY).clip(0, 1).alias("div_next_yield"),
        *(ratio(pl.col(f"_drop_{h}").fill_null(0.0), price, TINY).clip(0, 1).alias(f"div_drop_{h}d") for h in DROPS),
        pl.when(pl.col("_sum").is_not_null()).then(trailing).alias("div_trailing_yield"),
        pl.when((pl.col("date") - pl.col("_last_ex")).dt.total_days() < YEAR)
        .then(day - pl.col("_at_last"))
        .alias("div_days_since_ex"),
    )
    stored = (pl.col(f.name).cast(pl.UInt8 if f.kind == "flag" else pl.Float32) for f in FEATURES)
    return frame.select("date", "code", *stored)


def _told(announced: pl.DataFrame) -> pl.DataFrame:
    """The announcements with `_from` and `_until`, the sessions of the evenings on which each is the newest."""
    told = announced.select(COLUMNS).sort(AVAILABLE_AT, "date", "PubTime", "RefNo")
    told = told.with_columns(
        pl.col("ExDate").str.to_date("%Y-%m-%d", strict=False).alias("_ex"),
        pl.col("DivRate").cast(pl.Float64, strict=False).alias("_rate"),
        first_evening(told[AVAILABLE_AT]).alias("_from"),
        pl.when(pl.col("CARefNo").is_in(["", "-"])).then("RefNo").otherwise("CARefNo").alias("_first"),
    )
    told = told.with_columns(session_number(told["_ex"]).alias("_at"))
    # a revision takes the place of what it revises, whatever ex-date that had
    told = told.with_columns((pl.col("_from").shift(-1).over("code", "_first") - 1).alias("_until"))
    told = told.filter((pl.col("StatCode") != DELETED) & pl.col("_ex").is_not_null())
    another = pl.col("_from").shift(-1).over("code", "_ex") - 1
    return told.with_columns(pl.min_horizontal("_until", another).alias("_until"))


def _due(told: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """date, code, the next ex-date, what is paid over the next days; on evenings on which one is due within AHEAD."""
    days = rows.select(pl.col("date").unique().sort())
    days = days.with_columns(session_number(days["date"]).alias("_session"))
    start, last = pl.max_horizontal("_from", pl.col("_at") - AHEAD), pl.min_horizontal(pl.col("_at") - 1, "_until")
    live = (
        told.filter(last >= start)
        .with_columns(pl.int_ranges(start, last + 1).alias("_session"))
        .select("code", "_at", "_rate", "CommSpecCode", "_session")
        .explode("_session")
        .join(days, on="_session")
        .with_columns((pl.col("_at") - pl.col("_session")).alias("div_days_to_ex"))
        .sort("date", "code", "div_days_to_ex", "_rate")
    )
    return live.group_by("date", "code", maintain_order=True).agg(
        pl.col("div_days_to_ex").first(),
        pl.col("_rate").first(),
        pl.col("CommSpecCode").first().is_in(SPECIAL).alias("div_special"),
        *(pl.col("_rate").filter(pl.col("div_days_to_ex") <= h).sum().alias(f"_drop_{h}") for h in DROPS),
    )


def _paid(frame: pl.DataFrame, told: pl.DataFrame, priced: pl.DataFrame) -> pl.DataFrame:
    """With sums of all that was paid up to the day and up to a year before it, in shares of the first row's basis."""
    basis = priced.select("code", pl.col("date").alias("_ex"), "_basis").sort("_ex")
    paid = (
        told.filter((pl.col("_from") <= pl.col("_at")) & (pl.col("_until").fill_null(10**6) >= pl.col("_at")))
        .sort("_ex", "_from")
        .unique(["code", "_ex"], keep="last", maintain_order=True)
        .join_asof(basis, on="_ex", by="code", check_sortedness=False)
        .sort("code", "_ex")
        .with_columns((pl.col("_rate") * pl.col("_basis")).fill_null(0.0).cum_sum().over("code").alias("_sum"))
        .select("code", "_ex", "_at", "_sum")
        .sort("_ex")
    )
    asked = frame.with_row_index("_row").with_columns((pl.col("date") - pl.duration(days=YEAR)).alias("_year_ago"))
    in_order = frame["date"].is_sorted()  # as a rule: three sorts less
    asked = asked if in_order else asked.sort("date")
    for day, names in (
        ("date", {"_sum": "_sum", "_ex": "_last_ex", "_at": "_at_last"}),
        ("_year_ago", {"_sum": "_sum_before"}),
    ):
        held = paid.select("code", pl.col("_ex").alias(day), *(pl.col(name).alias(new) for name, new in names.items()))
        asked = asked.join_asof(held, on=day, by="code", check_sortedness=False)
    return (asked if in_order else asked.sort("_row")).drop("_row", "_year_ago")


def build(inputs: Reader) -> pl.DataFrame:
    """The dividend columns of a block."""
    return dividend_features(inputs.read(DIVIDENDS, COLUMNS), inputs.read(DAILY_QUOTES, QUOTES), inputs.rows())


TABLE = FeatureTable(
    name=DIVIDEND,
    description="What was announced of dividends, and the drop that a price has before it. Needs the plan Premium.",
    build=build,
    features=FEATURES,
    reads={DIVIDENDS: LOOKBACK_MONTHS, DAILY_QUOTES: QUOTE_MONTHS, UNIVERSE: 0},
    plan=Plan.PREMIUM,
    needs="the announcements of dividends",
)
