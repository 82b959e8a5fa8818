"""From documents to states: what is known of a name's results and forecasts after each of its documents.

A state is computed as of its document's place in the order in which documents could be had, from documents at or before
that place. What it looks for lies within fixed spans, so that a state does not depend on where the history begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import first_evening
from atft_assets.features.rolling import ratio

MOST = 10.0  # growth and revisions are cut there: tenfold
QUARTERS = {"1Q": 1, "2Q": 2, "3Q": 3, "FY": 4}
RESULTS = "FinancialStatements"  # of a document that holds results: 3QFinancialStatements_Consolidated_JP
BEFORE = 790  # calendar days before a period's first document: two years, and what came late
STANDING = 400  # calendar days that a forecast stands
SAME_SHARES = 1.3  # a number of shares that moves by more has been split
SPLITS = (2, 3, 4, 5, 10)
STALE = 260  # trading days that results are known: a year
# which documents there are, of which period, in which order
DOCUMENT = ("DiscTime", "DiscNo", "DocType", "CurPerType", "CurFYEn", "Sales", "OP", "NP")
FIGURES = ("Sales", "OP", "NP", "CFO", "TA", "CashEq", "EqAR", "ShOutFY", "TrShFY")
FLAGS = ("ChgByASRev", "ChgNoASRev", "ChgAcEst", "RetroRst")
# item: its fields for this fiscal year and for the next
FORECASTS: Mapping[str, tuple[str, str]] = {
    "sales": ("FSales", "NxFSales"),
    "op": ("FOP", "NxFOP"),
    "np": ("FNP", "NxFNp"),
    "eps": ("FEPS", "NxFEPS"),
    "div": ("FDivAnn", "NxFDivAnn"),
    "payout": ("FPayoutRatioAnn", "NxFPayoutRatioAnn"),
}
REVISED = ("sales", "op", "np", "eps", "div")
TEXT = ("date", "code", "DiscTime", "DiscNo", "DocType", "CurPerType", "CurFYSt", "CurFYEn", "CurPerEn", AVAILABLE_AT)
# of a state, besides its columns
PARTS = ("_first", "_end", "_shares", "_owners", "_ttm_sales", "_ttm_np", "_f_np", "_f_payout", "_has_profit")
COLUMNS = (*TEXT, *FIGURES, *FLAGS, *(name for pair in FORECASTS.values() for name in pair))


def states(documents: pl.DataFrame) -> pl.DataFrame:
    """A row a document that says anything of results or forecasts, in the order in which they could be had.

    Args:
        documents: COLUMNS of fins_summary, figures as text.

    Returns:
        code, _order, available_at; _first: session number of the first evening of the newest period's results; _end:
        its last day; _shares, _owners (JPY), _ttm_sales, _ttm_np (JPY), _f_np (JPY), _f_payout, _has_profit; and the
        columns of statements.FEATURES that need no price, null where one of their parts is not known.
    """
    end, start = _day("CurFYEn"), _day("CurFYSt")
    months = (end.dt.year() - start.dt.year()) * 12 + end.dt.month() - start.dt.month() + 1
    typed = _typed(documents.select(COLUMNS)).with_columns(
        pl.col(FLAGS) == "true",
        months.fill_null(12).is_between(11, 13).alias("_twelve"),
        _day("CurPerEn").alias("_end"),
    )
    results = _results(typed)
    forecasts = _forecasts(typed, results)
    events = (
        pl.concat([results.select("_order"), forecasts.select("_order")])
        .unique()
        .join(typed.select("_order", "code", "date", AVAILABLE_AT), on="_order")
        .sort("_order")
    )
    made = _of_results(events, results)
    made = _of_progress(made, forecasts)
    made = made.join(_of_forecasts(events, forecasts), on="_order", how="left", maintain_order="left")
    # of a year whose results are out the forecast is history
    running = (pl.col("_target") > pl.col("_year")) | (
        (pl.col("_target") == pl.col("_year")) & (pl.col("_quarter") < 4)
    )
    ahead = running | pl.col("_year").is_null()
    made = made.with_columns(pl.when(ahead).then(pl.col("_f_np", "_f_payout")))
    made = made.with_columns(_relative(pl.col("_f_np"), pl.col("_ttm_np")).alias("stmt_guide_growth_np"))
    return made.select("code", "_order", AVAILABLE_AT, *PARTS, pl.col("^stmt_.*$"))


def results_of(documents: pl.DataFrame) -> pl.DataFrame:
    """The documents with results: `_order` in which they could be had, `_period` that orders them in time, `_outdated`.

    Args:
        documents: date, code, DOCUMENT, available_at of fins_summary.
    """
    return _results(_typed(documents))


def _typed(documents: pl.DataFrame) -> pl.DataFrame:
    """Figures as numbers; a fiscal year as its last month, counted from year 0; documents in the order they came in."""
    numbers = [name for name in documents.columns if name in COLUMNS and name not in (*TEXT, *FLAGS)]

    end = _day("CurFYEn")
    return (
        documents.sort(AVAILABLE_AT, "date", "DiscTime", "DiscNo")
        .with_row_index("_order")
        .with_columns(
            pl.col(numbers).cast(pl.Float64, strict=False),  # a marker is no number
            (end.dt.year() * 12 + end.dt.month()).cast(pl.Int32).alias("_year"),
            pl.col("CurPerType").replace_strict(QUARTERS, default=None, return_dtype=pl.Int32).alias("_quarter"),
            pl.col("DocType").str.splitn("_", 2).struct.field("field_1").fill_null("").alias("_standard"),
        )
    )


def _day(name: str) -> pl.Expr:
    return pl.col(name).str.to_date("%Y-%m-%d", strict=False)


def _results(typed: pl.DataFrame) -> pl.DataFrame:
    """The documents with results, with `_period` in the order of time and whether a newer one was out before."""
    period = pl.col("_year") + 3 * pl.col("_quarter")
    return (
        typed.filter(
            pl.col("DocType").str.contains(RESULTS, literal=True)
            & pl.col("_quarter").is_not_null()
            & pl.col("_year").is_not_null()
            & pl.any_horizontal(pl.col("Sales", "OP", "NP").is_not_null())
        )
        .with_columns(period.alias("_period"))
        .with_columns(
            (pl.col("_period") < pl.col("_period").cum_max().over("code")).alias("_outdated"),
            pl.col("date").first().over("code", "_period").alias("_known"),
            pl.col(AVAILABLE_AT).first().over("code", "_period").alias("_known_at"),
        )
    )


def _of_results(events: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """Each event with what follows from results alone."""
    newest = results.filter(~pl.col("_outdated")).with_columns(
        first_evening(results.filter(~pl.col("_outdated"))["_known_at"]).alias("_first")
    )
    kept = ("_year", "_quarter", "_standard", "_twelve", "_known", "_first", "_end", *FIGURES, *FLAGS)
    frame = events.join_asof(newest.select("_order", "code", *kept), on="_order", by="code", check_sortedness=False)
    whole = pl.col("_quarter") == 4
    for suffix, years, same in (("_ly", 1, True), ("_fy", 1, False), ("_ly2", 2, True), ("_fy2", 2, False)):
        frame = _earlier(frame, results, ("Sales", "OP", "NP", "CFO", "TA", "EqAR"), suffix, years=years, same=same)

    def four_quarters(name: str, back: int = 0) -> pl.Expr:
        """Of the newest period; `back` = 1: of the same one a year before."""
        now, year, old = (("", "_fy", "_ly"), ("_ly", "_fy2", "_ly2"))[back]
        rolled = pl.col(name + now) + pl.col(name + year) - pl.col(name + old)
        return pl.when(whole).then(pl.col(name + now)).otherwise(rolled)

    frame = frame.with_columns(
        pl.when(pl.col("_twelve")).then(four_quarters(name)).alias(f"_ttm_{name.lower()}")
        for name in ("Sales", "OP", "NP")
    ).with_columns(
        (pl.col("EqAR") * pl.col("TA")).alias("_owners"),
        (pl.col("EqAR_ly") * pl.col("TA_ly")).alias("_owners_ly"),
    )  # fmt: skip
    margin = ratio(pl.col("_ttm_op"), pl.col("_ttm_sales"))
    before = ratio(four_quarters("OP", 1), four_quarters("Sales", 1))
    year = [pl.when(whole).then(pl.col(name)).otherwise(pl.col(f"{name}_fy")) for name in ("NP", "CFO", "TA")]
    return frame.with_columns(
        (pl.col("ShOutFY") - pl.col("TrShFY").fill_null(0.0)).alias("_shares"),
        pl.col("NP").is_not_null().alias("_has_profit"),
        *(
            pl.when(pl.col("_twelve"))
            .then(_relative(pl.col(name), pl.col(f"{name}_ly")))
            .alias(f"stmt_yoy_{name.lower()}")
            for name in ("Sales", "OP", "NP")
        ),
        margin.clip(-1, 1).alias("stmt_opm"),
        ratio(pl.col("_ttm_np"), pl.col("_ttm_sales")).clip(-1, 1).alias("stmt_npm"),
        (margin - before).clip(-1, 1).alias("stmt_opm_chg"),
        ratio(pl.col("_ttm_np"), (pl.col("_owners") + pl.col("_owners_ly")) / 2).clip(-3, 3).alias("stmt_roe"),
        ratio(pl.col("_ttm_np"), (pl.col("TA") + pl.col("TA_ly")) / 2).clip(-1, 1).alias("stmt_roa"),
        pl.col("EqAR").clip(-2, 1).alias("stmt_equity_ratio"),
        ratio(pl.col("CashEq"), pl.col("TA")).clip(0, 1).alias("stmt_cash_ratio"),
        ratio(year[0] - year[1], year[2]).clip(-1, 1).alias("stmt_accruals"),
        pl.col("ChgAcEst").alias("stmt_change_in_est"),
        pl.any_horizontal("ChgByASRev", "ChgNoASRev", "RetroRst").alias("stmt_nc_flag"),
    )  # fmt: skip


def _earlier(
    frame: pl.DataFrame, results: pl.DataFrame, names: Sequence[str], suffix: str, *, years: int, same: bool
) -> pl.DataFrame:
    """With figures of an earlier fiscal year as known at each event: of the same quarter, or of the whole year.

    Years that are not twelve months, another standard, or documents that lie more than BEFORE days before the newest
    period's first one, are none.
    """
    keys = ["code", "_standard", "_year", "_quarter"]
    quarter = pl.col("_quarter") if same else pl.lit(4, pl.Int32)
    asked = frame.filter(pl.col("_year").is_not_null()).select(
        "_order", "_known", "code", "_standard", pl.col("_year") - 12 * years, quarter.alias("_quarter")
    )
    held = results.filter(pl.col("_twelve")).select(
        "_order", *keys, pl.col("date").alias("_held"), *(pl.col(name).alias(name + suffix) for name in names)
    )
    found = asked.join_asof(held, on="_order", by=keys, check_sortedness=False).filter(
        (pl.col("_known") - pl.col("_held")).dt.total_days() <= BEFORE
    )
    kept = found.select("_order", *(name + suffix for name in names))
    return frame.join(kept, on="_order", how="left", maintain_order="left")


def _forecasts(typed: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """A row a document and fiscal year that it forecasts: the items, and each against what stood before for that year.

    A correction of an older period says again what was forecast then; that is no news.
    """
    news = typed.join(results.filter("_outdated").select("_order"), on="_order", how="anti")
    parts = []
    for place, months in ((0, 0), (1, 12)):
        wanted = {item: pair[place] for item, pair in FORECASTS.items()}
        parts.append(
            news.filter(
                pl.any_horizontal(pl.col(list(wanted.values())).is_not_null()) & pl.col("_year").is_not_null()
            ).select(
                "code", "_order", "date", (pl.col("_year") + months).alias("_target"),
                *(pl.col(column).alias(item) for item, column in wanted.items()),
            )
        )  # fmt: skip
    by = ["code", "_target"]
    frame = pl.concat(parts).sort("_order", "_target")
    frame = frame.with_columns(
        ratio(pl.col("np").abs(), pl.col("eps").abs()).forward_fill().over(by).alias("_n"),
        *(
            pl.when(pl.col(item).is_not_null()).then(pl.col("date")).forward_fill().over(by).alias(f"{item}_at")
            for item in FORECASTS
        ),
        *(pl.col(item).forward_fill().over(by).alias(f"{item}_stands") for item in FORECASTS),
    )  # fmt: skip

    def revision(item: str) -> pl.Expr:
        before, at = (pl.col(f"{item}_{what}").shift(1).over(by) for what in ("stands", "at"))
        stood = (pl.col("date") - at).dt.total_days() <= STANDING
        change = _relative(pl.col(item), pl.when(stood).then(before))
        if item == "eps":
            moved = pl.col("_n") / pl.col("_n").shift(1).over(by)
            split = ~moved.is_between(1 / SAME_SHARES, SAME_SHARES)
        elif item == "div":
            split = pl.any_horizontal(*((pl.col(item) * k - before).abs() <= 1e-6 * before.abs() for k in SPLITS))
        else:
            return change
        return pl.when(~split.fill_null(False)).then(change)

    return frame.with_columns(revision(item).alias(f"{item}_rev") for item in REVISED)


def _of_progress(made: pl.DataFrame, forecasts: pl.DataFrame) -> pl.DataFrame:
    """With results so far against the forecast of their year that stands."""
    stands = forecasts.select(
        "_order", "code", pl.col("_target").alias("_year"), "op_stands", "op_at", "np_stands", "np_at"
    )
    asked = made.filter(pl.col("_year").is_not_null()).select(
        "_order", "code", "_year", "_quarter", "_known", "OP", "NP"
    )
    found = asked.join_asof(stands, on="_order", by=["code", "_year"], check_sortedness=False)

    def progress(name: str, item: str) -> pl.Expr:
        late = (pl.col("_known") - pl.col(f"{item}_at")).dt.total_days() <= STANDING
        forecast = pl.when(late & (pl.col(f"{item}_stands").abs() > 0)).then(pl.col(f"{item}_stands"))
        return ((pl.col(name) - pl.col("_quarter") / 4 * forecast) / forecast.abs()).clip(-3, 3)

    kept = found.select(
        "_order", progress("OP", "op").alias("stmt_progress_op"), progress("NP", "np").alias("stmt_progress_np")
    )
    return made.join(kept, on="_order", how="left", maintain_order="left")


def _of_forecasts(events: pl.DataFrame, forecasts: pl.DataFrame) -> pl.DataFrame:
    """At each event: the newest revision of each item, and what is forecast of the newest fiscal year."""
    newest = pl.col("_target") == pl.col("_target").cum_max().over("code")
    last = forecasts.filter(newest).unique("_order", keep="last", maintain_order=True)
    held = events.select("_order", "code", "date").join(
        last.drop("code", "date"), on="_order", how="left", maintain_order="left"
    )

    def standing(value: pl.Expr, said: pl.Expr) -> pl.Expr:
        """The value of the newest document that says something, as long as it stands; NaN stands for none."""
        at = pl.when(said).then(pl.col("date")).forward_fill().over("code")
        kept = pl.when(said).then(value.fill_null(float("nan"))).forward_fill().over("code")
        return pl.when(((pl.col("date") - at).dt.total_days() <= STANDING) & kept.is_not_nan()).then(kept)

    said_any = pl.col("_target").is_not_null()
    return held.select(
        "_order",
        pl.col("_target").forward_fill().over("code"),
        *(
            standing(pl.col(f"{item}_rev"), pl.col(item).is_not_null()).alias(f"stmt_rev_fore_{item}")
            for item in REVISED
        ),
        *(
            standing(_recent(pl.col(f"{item}_stands"), pl.col(f"{item}_at")), said_any).alias(f"_f_{item}")
            for item in ("np", "payout")
        ),
    )  # fmt: skip


def _recent(value: pl.Expr, at: pl.Expr) -> pl.Expr:
    return pl.when((pl.col("date") - at).dt.total_days() <= STANDING).then(value)


def _relative(new: pl.Expr, before: pl.Expr) -> pl.Expr:
    """(new - before)/|before|, cut; null where the old one is zero."""
    return pl.when(before.abs() > 0).then(((new - before) / before.abs()).clip(-MOST, MOST))
