"""Earnings events: when results are due, as far as it was announced, and how long the last ones are out.

A day is announced weeks ahead, and may move: of an announcement (name, end of the fiscal year, period) the newest
publication that the evening knew counts, one without a day among them. Results may come before their day; then the day
is spent. On the evening of the day itself nothing is due any more where the results are out, and the distance is 0
where they are not: late documents are served after midnight.

The older calendar (`earnings_calendar`) adds nothing: what it says of tomorrow comes at 19:00, after the decision.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import first_evening, session_number
from atft_assets.features.event_feature import event_family
from atft_assets.features.events import SINCE, carried
from atft_assets.features.feature import Feature
from atft_assets.features.names import EARNINGS, EARNINGS_DATE, FINS_SUMMARY, UNIVERSE, of
from atft_assets.features.statement_states import DOCUMENT, STALE, results_of
from atft_assets.features.statements import LOOKBACK_MONTHS as DOCUMENT_MONTHS
from atft_assets.features.table import FeatureTable, Reader

LOOKBACK_MONTHS = 13  # an announcement lives LIVES days, and so does the one that it may have moved
LIVES = 180  # calendar days after which an announcement says nothing of the next results
EARLY = 30  # results that come at most so many calendar days before their day are the announced ones
WINDOWS = (1, 3, 5)
COLUMNS = ("date", "code", "SchDate", "FYE", "FQName", AVAILABLE_AT)
DOCUMENTS = ("date", "code", *DOCUMENT, AVAILABLE_AT)
BEGUN = date(2014, 9, 1)  # first publications
PAST, AHEAD = of(FINS_SUMMARY, *DOCUMENT), of(EARNINGS_DATE, "SchDate", "FYE", "FQName")
BOTH = f"{EARNINGS_DATE}, {FINS_SUMMARY}"

_feature = event_family(
    "earnings",
    kind="event",
    availability="16:00 of the publication; results: evening of the disclosure, or the next",
    source=BOTH,
    reads=(*AHEAD, *PAST),
    valid_from=BEGUN,
    coverage=0.0,
    may_be_constant=True,
    may_be_absent=True,  # between two seasons nothing may be announced
    among="is_earnings_valid",
)


def _flag(name: str, formula: str, **own: Any) -> Feature:
    return _feature(name, formula, 1, 65, kind="flag", low=0, high=1, **own)


FEATURES: tuple[Feature, ...] = (
    _feature("e_days_to", "trading days to the announced day of the next results", 1, 65, low=0.0),
    _feature(
        "e_days_since",
        f"trading days since the first evening of the newest results, {STALE} at most; not a model input: it is "
        "stmt_days_since",
        1,
        65,
        low=0.0,
        high=float(STALE),
        source=FINS_SUMMARY,
        reads=PAST,
        model_input=False,
    ),
    _flag("e_is_e0", "1 where one of the two is 0"),
    *(_flag(f"e_win_pre{w}", f"1 where results are due in 1 to {w} trading days") for w in WINDOWS),
    *(
        _flag(f"e_win_post{w}", f"1 where results are out for 1 to {w} trading days", source=FINS_SUMMARY, reads=PAST)
        for w in WINDOWS
    ),
    _feature(
        "e_day_moved",
        "trading days by which the newest publication moved the day, later ones positive, cut at 20; 0 where it is "
        "the first",
        1,
        65,
        low=-20.0,
        high=20.0,
    ),
)
VALIDITY = (
    _flag(
        "is_earnings_valid",
        f"1 where a day has been announced within {LIVES} days, due or past",
        model_input=False,
        family="validity",
        among="",
        may_be_absent=False,
        coverage=0.2,
        source=EARNINGS_DATE,
        reads=of(EARNINGS_DATE, "date", "code"),
    ),
)


def earnings_features(announced: pl.DataFrame, documents: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The event columns.

    Args:
        announced: COLUMNS of earnings_date, history included.
        documents: DOCUMENTS of fins_summary, history included.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; windows before results are null where no day was ever announced, those after
        where no results are known.
    """
    asked = rows.select("date", "code")
    first = (
        results_of(documents)
        .filter(~pl.col("_outdated"))
        .unique(["code", "_period"], keep="first", maintain_order=True)
    )
    frame = carried(first.select("code", "_order", AVAILABLE_AT), asked, by="_order")
    frame = frame.with_columns(pl.when(pl.col(SINCE) <= STALE).then(pl.col(SINCE)).alias("e_days_since")).drop(SINCE)
    published = announced.select("code", "date", AVAILABLE_AT).sort("date")
    frame = carried(
        published.select("code", pl.col("date").alias("_told"), AVAILABLE_AT), frame.drop("_order"), by="_told"
    )
    known = (pl.col("date") - pl.col("_told")).dt.total_days() <= LIVES
    due = _due(announced, first, asked)
    frame = frame.join(due, on=["date", "code"], how="left", maintain_order="left")
    to, since = pl.col("e_days_to"), pl.col("e_days_since")
    frame = frame.with_columns(
        pl.when(to.is_not_null() | since.is_not_null())
        .then((to == 0).fill_null(False) | (since == 0).fill_null(False))
        .alias("e_is_e0"),
        *(pl.when(known).then(to.is_between(1, w).fill_null(False)).alias(f"e_win_pre{w}") for w in WINDOWS),
        *(since.is_between(1, w).alias(f"e_win_post{w}") for w in WINDOWS),
        known.fill_null(False).alias("is_earnings_valid"),
    )
    stored = (pl.col(f.name).cast(pl.UInt8 if f.kind == "flag" else pl.Float32) for f in (*FEATURES, *VALIDITY))
    return frame.select("date", "code", *stored)


def _due(announced: pl.DataFrame, first: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """date, code, e_days_to, e_day_moved on the evenings on which a day was announced and not spent; the nearest."""
    key = ["code", "FYE", "FQName"]
    day = pl.col("SchDate").str.to_date("%Y-%m-%d", strict=False)
    told = announced.select(COLUMNS).sort(AVAILABLE_AT, "date", "SchDate").with_columns(day.alias("_day"))
    told = (
        told.with_columns(first_evening(told[AVAILABLE_AT]).alias("_from"), session_number(told["_day"]).alias("_at"))
        .with_columns(
            (pl.col("_from").shift(-1).over(key) - 1).alias("_replaced"),
            # what was published longer ago spoke of the same period of another year
            pl.when((pl.col("date") - pl.col("date").shift(1).over(key)).dt.total_days() <= LIVES)
            .then((pl.col("_at") - pl.col("_at").shift(1).over(key)).clip(-20, 20))
            .fill_null(0)
            .alias("e_day_moved"),
        )
        .filter(pl.col("_day").is_not_null())
    )
    earliest = pl.max_horizontal(pl.col("date") + pl.duration(days=1), pl.col("_day") - pl.duration(days=EARLY)).alias(
        "_results"
    )
    out = first.select("code", pl.col("date").alias("_results"), AVAILABLE_AT)
    out = out.with_columns((first_evening(out[AVAILABLE_AT]) - 1).alias("_spent"), pl.col("_results").alias("_out"))
    spent = (
        told.with_columns(earliest)
        .sort("_results")
        .join_asof(
            out.drop(AVAILABLE_AT).sort("_results"),
            on="_results",
            by="code",
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(pl.when(pl.col("_out") <= pl.col("_day")).then(pl.col("_spent")).alias("_spent"))
    )
    days = rows.select(pl.col("date").unique().sort())
    days = days.with_columns(session_number(days["date"]).alias("_session"))
    last = pl.min_horizontal("_at", "_replaced", "_spent", pl.col("_from") + LIVES)
    live = (
        spent.filter(last >= pl.col("_from"))
        .select("code", "e_day_moved", "_at", AVAILABLE_AT, pl.int_ranges("_from", last + 1).alias("_session"))
        .explode("_session")
    )
    return (
        live.join(days, on="_session")
        .sort("_at", AVAILABLE_AT, descending=[False, True])
        .unique(["date", "code"], keep="first", maintain_order=True)
        .select("date", "code", (pl.col("_at") - pl.col("_session")).alias("e_days_to"), "e_day_moved")
    )


def build(inputs: Reader) -> pl.DataFrame:
    """The event columns of a block."""
    announced = inputs.read(EARNINGS_DATE, COLUMNS)
    return earnings_features(announced, inputs.read(FINS_SUMMARY, DOCUMENTS), inputs.rows())


TABLE = FeatureTable(
    name=EARNINGS,
    description="When results are due, as far as announced, and how long the last ones are out.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={EARNINGS_DATE: LOOKBACK_MONTHS, FINS_SUMMARY: DOCUMENT_MONTHS, UNIVERSE: 0},
)
