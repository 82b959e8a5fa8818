"""Statements: twenty-nine columns of results and forecasts, each as it was known on the evening.

Figures of a year come cumulated: a third quarter holds nine months. What four quarters earned is therefore this year's
figure, plus the last whole year's, less the one of the same period a year ago; growth is against that same period. Of
every period the newest document that is known counts, and only like is held against like: figures of another accounting
standard, with or without subsidiaries, or of a fiscal year that is not twelve months are not compared. A correction
of an older period changes the comparison and takes no newer period away; the age counts from the first
document of a period. A forecast is for a fiscal year: with the results of a whole year it stands in the fields of the
next one (`NxF*`). A revision is against the forecast of the same year that stood before, whatever document held it;
after a document that says nothing of an item, the item's revision stays what it was.

How documents become states is `statement_states`; here are the columns, and what prices add.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT, as_known
from atft_assets.features.evenings import session_number
from atft_assets.features.event_feature import event_family
from atft_assets.features.feature import Feature
from atft_assets.features.names import DAILY_QUOTES, FINS_SUMMARY, STATEMENT, UNIVERSE, of
from atft_assets.features.rolling import by_stock, own, ratio
from atft_assets.features.statement_states import COLUMNS, DOCUMENT, FORECASTS, MOST, STALE, states
from atft_assets.features.table import FeatureTable, Reader

# Results are at most STALE old, what they are held against up to 790 days older: see statement_states.
LOOKBACK_MONTHS = 42
QUOTE_MONTHS = 18  # shares are those of the period's end, which lies up to OLDEST_SHARES days back
OLDEST_SHARES = 500
LAST_PRICE = 20  # rows that a price is carried over days without a trade
QUOTES = ("date", "code", "C", "AdjFactor")
KNOWN = "evening of the disclosure, or the next: documents are served at 18:00 and 24:30"

A_HALF, A_YEAR, TWO_YEARS = 130, 380, 640  # trading days until most names have one, two, three years of results

_feature = event_family(
    "statements",
    kind="event",
    source=FINS_SUMMARY,
    availability=KNOWN,
    valid_from=date(2008, 7, 7),
    coverage=0.2,  # of the names with results; less where few tell it, or after a year's results until the next quarter
    among="is_stmt_valid",
)


def _from(name: str, formula: str, *columns: str, after: int = A_HALF, **own: Any) -> Feature:
    return _feature(
        name, formula, 1, after, reads=of(FINS_SUMMARY, *dict.fromkeys((*DOCUMENT, "CurFYSt", *columns))), **own
    )


def _priced(name: str, formula: str, *columns: str, after: int = A_HALF, **own: Any) -> Feature:
    shares = ("ShOutFY", "TrShFY", "CurPerEn", "CurFYSt")
    reads = (*of(FINS_SUMMARY, *dict.fromkeys((*DOCUMENT, *columns, *shares))), *of(DAILY_QUOTES, "C", "AdjFactor"))
    return _feature(name, formula, 1, after, source=f"{FINS_SUMMARY}, {DAILY_QUOTES}", reads=reads, **own)


def _flag(name: str, formula: str, *columns: str, **own: Any) -> Feature:
    return _from(name, formula, *columns, kind="flag", low=0, high=1, **own)


_CUT = f", cut at {MOST:g}"
_RANGE: dict[str, Any] = {"low": -MOST, "high": MOST}
_ONE: dict[str, Any] = {"low": -1.0, "high": 1.0}
_THREE: dict[str, Any] = {"low": -3.0, "high": 3.0}
_OWNERS = ("EqAR", "TA")

FEATURES: tuple[Feature, ...] = (
    *(
        _from(
            f"stmt_yoy_{name.lower()}",
            f"({name} - {name} of the same period a year before)/|that|{_CUT}",
            after=A_YEAR,
            **_RANGE,
        )
        for name in ("Sales", "OP", "NP")
    ),
    _from("stmt_opm", "OP/Sales of four quarters, cut at 1", after=A_YEAR, **_ONE),
    _from("stmt_npm", "NP/Sales of four quarters, cut at 1", after=A_YEAR, **_ONE),
    _from("stmt_opm_chg", "stmt_opm less that of a year before, cut at 1", after=TWO_YEARS, coverage=0.1, **_ONE),
    _from(
        "stmt_roe",
        "NP of four quarters/mean equity of the owners (EqAR TA) now and a year before, cut at 3",
        *_OWNERS,
        after=A_YEAR,
        **_THREE,
    ),
    _from(
        "stmt_roa",
        "NP of four quarters/mean of total assets now and a year before, cut at 1",
        "TA",
        after=A_YEAR,
        **_ONE,
    ),
    _from("stmt_equity_ratio", "equity of the owners/total assets", "EqAR", low=-2.0, high=1.0),
    _from("stmt_cash_ratio", "cash/total assets", "CashEq", "TA", low=0.0, high=1.0),
    _from(
        "stmt_accruals",
        "(NP - CFO)/TA of the newest whole year, for few quarters have a cash flow; cut at 1",
        "CFO",
        "TA",
        after=A_YEAR,
        **_ONE,
    ),
    _from(
        "stmt_progress_op",
        "(OP so far - share of the year that is over x forecast of that year)/|forecast|; of a whole year the surprise "
        "against the last forecast; cut at 3",
        "FOP",
        "NxFOP",
        **_THREE,
    ),
    _from("stmt_progress_np", "the same of NP", "FNP", "NxFNp", **_THREE),
    *(
        _from(
            f"stmt_rev_fore_{item}",
            f"(forecast of {what} - the one that stood before for the same year)/|that|{_CUT}",
            *(FORECASTS[item] if item not in ("eps", "div") else (*FORECASTS[item], *more)),
            may_be_constant=True,
            coverage=0.05,
            **_RANGE,
        )
        for item, what, more in (
            ("sales", "sales", ()),
            ("op", "operating profit", ()),
            ("np", "net profit", ()),
            ("eps", "earnings per share, null where the number of shares moved by 30 %", FORECASTS["np"]),
            (
                "div",
                "the year's dividend, null where it fell to a half, third, quarter, fifth or tenth as in a split",
                (),
            ),
        )
    ),
    _from(
        "stmt_guide_growth_np",
        f"(forecast of net profit of the running year - NP of four quarters)/|that|{_CUT}",
        *FORECASTS["np"],
        after=A_YEAR,
        **_RANGE,
    ),
    _priced("stmt_earnings_yield", "NP of four quarters/market value, cut at 3", after=A_YEAR, **_THREE),
    _priced("stmt_fore_earnings_yield", "forecast of net profit/market value, cut at 3", *FORECASTS["np"], **_THREE),
    _priced(
        "stmt_fore_div_yield",
        "forecast of net profit x of the pay-out ratio/market value, cut at 1 (one of a share would hang on splits)",
        *FORECASTS["np"],
        *FORECASTS["payout"],
        coverage=0.05,
        low=0.0,
        high=1.0,
    ),
    _priced("stmt_book_to_price", "equity of the owners (EqAR TA)/market value, cut at 10", *_OWNERS, **_RANGE),
    _priced("stmt_sales_to_price", "ln(sales of four quarters/market value)", after=A_YEAR),
    _priced("stmt_log_market_value", "ln(market value), JPY: shares without treasury ones x C"),
    _flag("stmt_change_in_est", "1 where the newest results changed an accounting estimate", "ChgAcEst"),
    _flag("stmt_nc_flag", "1 where they changed a policy, or restated", "ChgByASRev", "ChgNoASRev", "RetroRst"),
    _flag("stmt_impulse", "1 on the first evening of results of a new period"),
    _from("stmt_days_since", "trading days since that evening", low=0.0, high=float(STALE), may_be_constant=True),
)
VALIDITY = (
    _flag(
        "is_stmt_valid",
        f"1 where results of at most {STALE} trading days are known with a net profit",
        model_input=False,
        family="validity",
        among="",
        coverage=0.2,
    ),
)


def statement_features(documents: pl.DataFrame, quotes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The statement columns.

    Args:
        documents: COLUMNS of fins_summary, history included; figures as text.
        quotes: QUOTES, history included.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; null where no results are known, or those that are older than STALE days.
    """
    priced = _priced_rows(quotes)
    made = _with_basis(states(documents), priced)
    asked = rows.select("date", "code")
    known = as_known(made.select("code", "_order", AVAILABLE_AT), asked, by="_order", keys=["code"])
    # a state is repeated on many rows: what no price multiplies is stored as it will be
    small = [f for f in FEATURES if f.name in made.columns]
    made = made.drop("code", AVAILABLE_AT).with_columns(
        pl.col(f.name).cast(pl.UInt8 if f.kind == "flag" else pl.Float32) for f in small
    )
    frame = known.join(made, on="_order", how="left", maintain_order="left").join(
        priced.select("date", "code", "_price", "_basis"), on=["date", "code"], how="left", maintain_order="left"
    )
    frame = frame.with_columns((session_number(frame["date"]) - pl.col("_first")).alias("stmt_days_since"))
    fresh = pl.col("stmt_days_since") <= STALE
    young = (pl.col("date") - pl.col("_end")).dt.total_days() <= OLDEST_SHARES
    shares = pl.when(young).then(pl.col("_shares") * pl.col("_basis") / pl.col("_basis_then"))
    frame = frame.with_columns((shares * pl.col("_price")).alias("_value")).with_columns(
        ratio(pl.col("_ttm_np"), pl.col("_value")).clip(-3, 3).alias("stmt_earnings_yield"),
        ratio(pl.col("_f_np"), pl.col("_value")).clip(-3, 3).alias("stmt_fore_earnings_yield"),
        ratio(pl.col("_f_payout") * pl.col("_f_np"), pl.col("_value")).clip(0, 1).alias("stmt_fore_div_yield"),
        ratio(pl.col("_owners"), pl.col("_value")).clip(-MOST, MOST).alias("stmt_book_to_price"),
        pl.when((pl.col("_ttm_sales") > 0) & (pl.col("_value") > 0))
        .then((pl.col("_ttm_sales") / pl.col("_value")).log())
        .alias("stmt_sales_to_price"),
        pl.when(pl.col("_value") > 0).then(pl.col("_value").log()).alias("stmt_log_market_value"),
        (pl.col("stmt_days_since") == 0).alias("stmt_impulse"),
        (fresh & pl.col("_has_profit")).fill_null(False).cast(pl.UInt8).alias("is_stmt_valid"),
    )
    stored = [
        pl.when(fresh).then(pl.col(f.name)).cast(pl.UInt8 if f.kind == "flag" else pl.Float32).alias(f.name)
        for f in FEATURES
    ]
    return frame.select("date", "code", *stored, "is_stmt_valid")


def _priced_rows(quotes: pl.DataFrame) -> pl.DataFrame:
    """Price of the last trade, carried over a few rows, and how many shares one of the first row has become."""
    factor = 1 / pl.col("AdjFactor").fill_null(1.0)
    return (
        by_stock(quotes.select(QUOTES))
        .with_columns(
            own(pl.col("C").forward_fill(limit=LAST_PRICE)).alias("_price"), own(factor.cum_prod()).alias("_basis")
        )
        .with_columns(pl.col("code").cast(pl.String))
    )


def _with_basis(made: pl.DataFrame, priced: pl.DataFrame) -> pl.DataFrame:
    """The states with `_basis` of the day on which their shares were counted, the end of the period."""
    then = priced.select("code", pl.col("date").alias("_end"), pl.col("_basis").alias("_basis_then")).sort("_end")
    dated = made.filter(pl.col("_end").is_not_null()).select("_order", "code", "_end").sort("_end")
    found = dated.join_asof(then, on="_end", by="code", check_sortedness=False).select("_order", "_basis_then")
    return made.join(found, on="_order", how="left", maintain_order="left")


def build(inputs: Reader) -> pl.DataFrame:
    """The statement columns of a block."""
    return statement_features(inputs.read(FINS_SUMMARY, COLUMNS), inputs.read(DAILY_QUOTES, QUOTES), inputs.rows())


TABLE = FeatureTable(
    name=STATEMENT,
    description="Results and forecasts of the newest disclosures that are known, and what they are worth at the day's "
    "price.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={FINS_SUMMARY: LOOKBACK_MONTHS, DAILY_QUOTES: QUOTE_MONTHS, UNIVERSE: 0},
)
