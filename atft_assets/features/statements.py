"""Statements: twenty-six columns of results and forecasts, each as it was known on the evening.

Figures of a year come cumulated: a third quarter holds nine months. What four quarters earned is therefore this year's figure, plus
the last whole year's, less the one of the same period a year ago; growth is against that same period. Both take, of every
document of those periods, the newest that was known when the newer one came: a correction that came later changes nothing before.
A forecast is for a fiscal year: with the results of a whole year it stands in the fields of the next one (`NxF*`). A revision is against
the forecast of the same year that stood before, whatever document held it. A document without results says nothing of results.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.events import SINCE, carried
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import DAILY_QUOTES, FINS_SUMMARY, STATEMENT, UNIVERSE, of
from atft_assets.features.rolling import ratio
from atft_assets.features.table import FeatureTable, Reader

LOOKBACK_MONTHS = 30  # a result may be a year old, and is held against the year before it
STALE = 260  # trading days: a year
MOST = 10.0  # growth and revisions are cut there: tenfold
QUARTERS = {"1Q": 1, "2Q": 2, "3Q": 3, "FY": 4}
ACTUAL = ("Sales", "OP", "NP", "CFO")
STOCK_OF = ("Eq", "ShEq", "TA", "CashEq")
FORECAST = {"Sales": ("FSales", "NxFSales"), "OP": ("FOP", "NxFOP"), "NP": ("FNP", "NxFNp"), "EPS": ("FEPS", "NxFEPS"),
            "Div": ("FDivAnn", "NxFDivAnn")}  # fmt: skip
COLUMNS = (
    "date", "code", "DiscTime", "DiscNo", "DocType", "CurPerType", "CurFYEn", *ACTUAL, *STOCK_OF[:1], "TA", "CashEq", "EqAR", "EPS",
    "ShOutFY", "TrShFY", "CurPerEn", "ChgByASRev", "ChgNoASRev", "ChgAcEst", "RetroRst",
    *(name for pair in FORECAST.values() for name in pair), AVAILABLE_AT,
)  # fmt: skip
QUOTES = ("date", "code", "C", "AdjFactor")
RESULTS = "FinancialStatements"  # of a document that holds some: 3QFinancialStatements_Consolidated_JP
KNOWN = "evening of the disclosure, or the next: documents are served at 18:00 and 24:30"

KEYS = of(FINS_SUMMARY, "date", "code", "DocType", "CurPerType", "CurFYEn", AVAILABLE_AT)
_feature = family(
    "statements", kind="event", source="fins_summary", availability=KNOWN, valid_from=date(2008, 7, 7), coverage=0.2
)


def _from(name: str, formula: str, *columns: str, **own: object) -> Feature:
    return _feature(name, formula, reads=(*of(FINS_SUMMARY, *columns), *KEYS), **own)


def _priced(name: str, formula: str, *columns: str) -> Feature:
    return _from(name, formula, *columns, "ShOutFY", "TrShFY", source="fins_summary, daily_quotes",
                 ) if not columns else _feature(
        name, formula, source="fins_summary, daily_quotes",
        reads=(*of(FINS_SUMMARY, *columns, "ShOutFY", "TrShFY"), *KEYS, *of(DAILY_QUOTES, "C", "AdjFactor")),
    )  # fmt: skip


_CUT = f", cut at {MOST:g}"
FEATURES: tuple[Feature, ...] = (
    *(
        _from(f"stmt_yoy_{key}", f"({name} - {name} of the same period a year before)/|that|{_CUT}", name, low=-MOST, high=MOST)
        for key, name in (("sales", "Sales"), ("op", "OP"), ("np", "NP"))
    ),
    _from("stmt_opm", "OP/Sales of four quarters, cut at 1", "OP", "Sales", low=-1.0, high=1.0),
    _from("stmt_npm", "NP/Sales of four quarters, cut at 1", "NP", "Sales", low=-1.0, high=1.0),
    _from("stmt_opm_chg", "OP/Sales of four quarters less that of a year before, cut at 1", "OP", "Sales", low=-1.0, high=1.0),
    _from("stmt_roe", "NP of four quarters/mean of net assets now and a year before, cut at 3", "NP", "Eq", low=-3.0, high=3.0),
    _from("stmt_roa", "NP of four quarters/mean of total assets now and a year before, cut at 1", "NP", "TA", low=-1.0, high=1.0),
    _from("stmt_equity_ratio", "equity over total assets", "EqAR", low=-2.0, high=1.0),
    _from("stmt_cash_ratio", "cash over total assets", "CashEq", "TA", low=0.0, high=1.0),
    _from("stmt_accruals", "(NP - CFO) of four quarters/total assets, cut at 1", "NP", "CFO", "TA", low=-1.0, high=1.0, coverage=0.0),
    _from("stmt_progress_op", "OP so far/forecast of the year, less the share of the year that is over; cut at 3", "OP", "FOP",
          low=-3.0, high=3.0),
    _from("stmt_progress_np", "the same of NP", "NP", "FNP", low=-3.0, high=3.0),
    *(
        _from(f"stmt_rev_fore_{key}", f"(forecast of {what} - the one before for the same year)/|that|{_CUT}", *FORECAST[name],
              low=-MOST, high=MOST, may_be_constant=True)
        for key, name, what in (("sales", "Sales", "sales"), ("op", "OP", "operating profit"), ("np", "NP", "net profit"),
                                ("eps", "EPS", "earnings per share"), ("div", "Div", "the year's dividend"))
    ),
    _from("stmt_guide_growth_np", f"(forecast of net profit - that of four quarters)/|that|{_CUT}", "NP", *FORECAST["NP"], low=-MOST, high=MOST),
    _priced("stmt_earnings_yield", "NP of four quarters/market value", "NP"),
    _priced("stmt_fore_earnings_yield", "forecast of net profit/market value", *FORECAST["NP"]),
    _priced("stmt_book_to_price", "net assets/market value", "Eq"),
    _priced("stmt_sales_to_price", "sales of four quarters/market value", "Sales"),
    _from("stmt_change_in_est", "1 where the newest results changed an accounting estimate", "ChgAcEst", kind="flag", low=0, high=1),
    _from("stmt_nc_flag", "1 where they changed a policy, or restated", "ChgByASRev", "ChgNoASRev", "RetroRst", kind="flag", low=0, high=1),
    _from("stmt_impulse", "1 on the first evening of a document with results", kind="flag", low=0, high=1),
    _from("stmt_days_since", "trading days since the first evening of the newest results", low=0.0, may_be_constant=True),
)  # fmt: skip
VALIDITY = (
    _from("is_stmt_valid", f"1 where results of at most {STALE} trading days are known", kind="flag", low=0, high=1,
          model_input=False, family="validity"),
)  # fmt: skip


def statement_features(documents: pl.DataFrame, quotes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The statement columns.

    Args:
        documents: COLUMNS of fins_summary, history included; figures as text.
        quotes: QUOTES, history included.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; null where no results are known, or those that are older than STALE days.
    """
    typed = _typed(documents)
    results, forecasts = _results(typed), _forecasts(typed)
    asked = rows.select("date", "code")
    frame = carried(results, asked, by="_order")
    guess = carried(_progress(forecasts, results), asked, by="_order").drop(SINCE, "_order")
    frame = frame.join(guess, on=["date", "code"], how="left", maintain_order="left")
    frame = _valued(frame, quotes)
    fresh = pl.col(SINCE) <= STALE
    frame = frame.with_columns(
        _relative("_forecast_np", "_ttm_np").alias("stmt_guide_growth_np"),
        (pl.col(SINCE) == 0).alias("stmt_impulse"),
        pl.col(SINCE).alias("stmt_days_since"),
        (fresh & pl.col("stmt_npm").is_not_null()).fill_null(False).cast(pl.UInt8).alias("is_stmt_valid"),
    )
    stored = [
        pl.when(fresh).then(pl.col(f.name)).cast(pl.UInt8 if f.kind == "flag" else pl.Float32).alias(f.name)
        for f in FEATURES
    ]
    return frame.select("date", "code", *stored, "is_stmt_valid")


def _typed(documents: pl.DataFrame) -> pl.DataFrame:
    """Figures as numbers; the fiscal year as its last month, counted from year 0; documents in the order in which they came."""
    text = ("date", "code", "DiscTime", "DiscNo", "DocType", "CurPerType", "CurFYEn", "CurPerEn", AVAILABLE_AT)
    flags = ("ChgByASRev", "ChgNoASRev", "ChgAcEst", "RetroRst")
    numbers = [name for name in COLUMNS if name not in (*text, *flags)]
    end = pl.col("CurFYEn").str.to_date("%Y-%m-%d", strict=False)
    return (
        documents.select(COLUMNS)
        .sort("date", "DiscTime", "DiscNo")
        .with_row_index("_order")
        .with_columns(
            pl.col(numbers).replace({"": None, "-": None}).cast(pl.Float64, strict=False),
            (pl.col(flags) == "true"),
            (end.dt.year() * 12 + end.dt.month()).alias("_year"),
            pl.col("CurPerType").replace_strict(QUARTERS, default=None, return_dtype=pl.Int32).alias("_quarter"),
            pl.col("CurPerEn").str.to_date("%Y-%m-%d", strict=False).alias("_end"),
        )
    )


def _earlier(
    new: pl.DataFrame, old: pl.DataFrame, names: Sequence[str], suffix: str, *, year: int, quarter: pl.Expr
) -> pl.DataFrame:
    """The columns of the newest document of another period that was known when each document came.

    Args:
        year: months that the other fiscal year ends earlier.
        quarter: the other period.
    """
    keys = ["code", "_year", "_quarter"]
    asked = new.select(
        "_order", AVAILABLE_AT, "code", (pl.col("_year") - year).alias("_year"), quarter.alias("_quarter")
    )
    held = old.select(*keys, AVAILABLE_AT, *(pl.col(name).alias(name + suffix) for name in names)).sort(AVAILABLE_AT)
    found = asked.sort(AVAILABLE_AT).join_asof(held, on=AVAILABLE_AT, by=keys, check_sortedness=False)
    return found.select("_order", *(name + suffix for name in names))


def _results(typed: pl.DataFrame) -> pl.DataFrame:
    """A row a document with results: the columns that follow from results alone."""
    held = typed.filter(
        pl.col("DocType").str.contains(RESULTS, literal=True)
        & pl.col("_quarter").is_not_null()
        & pl.any_horizontal(pl.col("Sales", "OP", "NP").is_not_null())
    )
    names = (*ACTUAL, "Eq", "TA")
    frame = held
    for part in (
        _earlier(held, held, names, "_ly", year=12, quarter=pl.col("_quarter")),
        _earlier(held, held, names, "_fy", year=12, quarter=pl.lit(4, pl.Int32)),
        _earlier(held, held, ACTUAL, "_ly2", year=24, quarter=pl.col("_quarter")),
        _earlier(held, held, ACTUAL, "_fy2", year=24, quarter=pl.lit(4, pl.Int32)),
    ):
        frame = frame.join(part, on="_order", how="left", maintain_order="left")
    whole = pl.col("_quarter") == 4
    frame = frame.with_columns(
        *(
            pl.when(whole).then(pl.col(name)).otherwise(pl.col(name) + pl.col(f"{name}_fy") - pl.col(f"{name}_ly")).alias(f"_ttm_{name.lower()}")
            for name in ACTUAL
        ),
        *(
            pl.when(whole).then(pl.col(f"{name}_ly")).otherwise(pl.col(f"{name}_ly") + pl.col(f"{name}_fy2") - pl.col(f"{name}_ly2")).alias(f"_ttm_{name.lower()}_ly")
            for name in ("Sales", "OP")
        ),
    )  # fmt: skip
    margin = ratio(pl.col("_ttm_op"), pl.col("_ttm_sales"))
    return frame.select(
        "code", "_order", AVAILABLE_AT, "_year", "_quarter", "OP", "NP", "Eq", "_end", "ShOutFY", "TrShFY",
        "_ttm_sales", "_ttm_np",
        *(_relative(name, f"{name}_ly").alias(f"stmt_yoy_{name.lower()}") for name in ("Sales", "OP", "NP")),
        margin.clip(-1, 1).alias("stmt_opm"),
        ratio(pl.col("_ttm_np"), pl.col("_ttm_sales")).clip(-1, 1).alias("stmt_npm"),
        (margin - ratio(pl.col("_ttm_op_ly"), pl.col("_ttm_sales_ly"))).clip(-1, 1).alias("stmt_opm_chg"),
        ratio(pl.col("_ttm_np"), (pl.col("Eq") + pl.col("Eq_ly")) / 2).clip(-3, 3).alias("stmt_roe"),
        ratio(pl.col("_ttm_np"), (pl.col("TA") + pl.col("TA_ly")) / 2).clip(-1, 1).alias("stmt_roa"),
        pl.col("EqAR").clip(-2, 1).alias("stmt_equity_ratio"),
        ratio(pl.col("CashEq"), pl.col("TA")).clip(0, 1).alias("stmt_cash_ratio"),
        ratio(pl.col("_ttm_np") - pl.col("_ttm_cfo"), pl.col("TA")).clip(-1, 1).alias("stmt_accruals"),
        pl.col("ChgAcEst").alias("stmt_change_in_est"),
        pl.any_horizontal("ChgByASRev", "ChgNoASRev", "RetroRst").alias("stmt_nc_flag"),
    )  # fmt: skip


def _forecasts(typed: pl.DataFrame) -> pl.DataFrame:
    """A row a document that forecasts: for which year, what, and against what stood before for that year."""
    parts = []
    for place, months in ((0, 0), (1, 12)):
        wanted = {name: pair[place] for name, pair in FORECAST.items()}
        parts.append(
            typed.filter(pl.any_horizontal(pl.col(list(wanted.values())).is_not_null())).select(
                "code", "_order", AVAILABLE_AT, (pl.col("_year") + months).alias("_target"),
                *(pl.col(column).alias(f"_f_{name.lower()}") for name, column in wanted.items()),
            )
        )  # fmt: skip
    by = ["code", "_target"]
    names = [f"_f_{name.lower()}" for name in FORECAST]
    # what a document leaves out stands as it stood: a revision of profits says nothing of dividends
    stood = pl.concat(parts).sort("_order").with_columns(pl.col(names).forward_fill().over(by))
    return stood.with_columns(
        *(
            _relative(name, pl.col(name).shift(1).over(by)).alias(f"stmt_rev_fore_{name.removeprefix('_f_')}")
            for name in names
        )
    )


def _progress(forecasts: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """Each forecast, and each result beside the forecast of its year that stood by then: progress, and the newest forecast."""
    share = pl.col("_quarter") / 4
    beside = (
        results.filter(pl.col("_quarter") < 4)
        .select("code", "_order", AVAILABLE_AT, pl.col("_year").alias("_target"), "_quarter", "OP", "NP")
        .sort(AVAILABLE_AT, "_order")
        .join_asof(
            forecasts.sort(AVAILABLE_AT, "_order").select("code", "_target", AVAILABLE_AT, "_f_op", "_f_np"),
            on=AVAILABLE_AT, by=["code", "_target"], check_sortedness=False,
        )
        .select(
            "code", "_order",
            (ratio(pl.col("OP"), pl.col("_f_op")) - share).clip(-3, 3).alias("stmt_progress_op"),
            (ratio(pl.col("NP"), pl.col("_f_np")) - share).clip(-3, 3).alias("stmt_progress_np"),
        )
    )  # fmt: skip
    newest = forecasts.sort("_order").unique(["code", "_order"], keep="last", maintain_order=True)
    every = pl.concat(
        [newest.select("code", "_order", AVAILABLE_AT), results.select("code", "_order", AVAILABLE_AT)]
    ).unique("_order")
    kept = ["_f_np", *(name for name in newest.columns if name.startswith("stmt_"))]
    return (
        every.join(newest.select("code", "_order", *kept), on=["code", "_order"], how="left")
        .join(beside, on=["code", "_order"], how="left")
        .sort("code", "_order")
        .with_columns(pl.col(*kept, "stmt_progress_op", "stmt_progress_np").forward_fill().over("code"))
        .rename({"_f_np": "_forecast_np"})
    )


def _valued(frame: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    """With what is divided by the market value of the day: shares of the newest results on the basis of the day's price."""
    priced = (
        quotes.select(QUOTES)
        .sort("code", "date")
        .with_columns(
            pl.col("C").forward_fill().over("code").alias("_price"),
            (1 / pl.col("AdjFactor").fill_null(1.0)).cum_prod().over("code").alias("_basis"),
        )
    )
    then = priced.select("code", pl.col("date").alias("_end"), pl.col("_basis").alias("_basis_then")).sort("_end")
    frame = (
        frame.with_row_index("_row")
        .sort("_end", nulls_last=True)
        .join_asof(then, on="_end", by="code", check_sortedness=False)
        .sort("_row")
        .drop("_row")
        .join(priced.select("date", "code", "_price", "_basis"), on=["date", "code"], how="left", maintain_order="left")
    )
    shares = (pl.col("ShOutFY") - pl.col("TrShFY").fill_null(0.0)) * pl.col("_basis") / pl.col("_basis_then")
    value = shares * pl.col("_price")
    return frame.with_columns(
        ratio(pl.col("_ttm_np"), value).alias("stmt_earnings_yield"),
        ratio(pl.col("_forecast_np"), value).alias("stmt_fore_earnings_yield"),
        ratio(pl.col("Eq"), value).alias("stmt_book_to_price"),
        ratio(pl.col("_ttm_sales"), value).alias("stmt_sales_to_price"),
    )


def _relative(new: str, old: str | pl.Expr) -> pl.Expr:
    """(new - old)/|old|, cut; null where the old one is zero."""
    before = pl.col(old) if isinstance(old, str) else old
    return pl.when(before.abs() > 0).then(((pl.col(new) - before) / before.abs()).clip(-MOST, MOST))


def build(inputs: Reader) -> pl.DataFrame:
    """The statement columns of a block."""
    return statement_features(inputs.read(FINS_SUMMARY, COLUMNS), inputs.read(DAILY_QUOTES, QUOTES), inputs.rows())


TABLE = FeatureTable(
    name=STATEMENT,
    description="Results and forecasts of the newest disclosures that are known.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={FINS_SUMMARY: LOOKBACK_MONTHS, DAILY_QUOTES: LOOKBACK_MONTHS, UNIVERSE: 0},
)
