"""Reported short positions of a name: of each holder the newest report that was known, and what they are together.

A holder stands with the newest position (by `CalcDate`) that was disclosed by the evening, whatever came later of older
days: one holder has disclosed a year of positions on one day. A report of the same `CalcDate` is a correction. Below
0.5 % a report is an exit: from then on nobody knows, and the holder counts as out. Before it silence means that nothing
changed, for a year; then the holder counts as out as well, and what is disclosed more than a year late is no news: so a
value needs a bounded history. It is that of two years: what was told last year of the year before may be overruled by
what was known already.

A holder is a name with a principal and a fund, for a house may hold for several. Persons are all called 個人: each
names its report before (`PrevRptDate`, `PrevRptRatio`), and a report that names one that stands takes its place; one
that names none is another person. (Named holders are not followed so: where a report lies further back than what is
read, it would depend on how much is read whose place another one takes.)

Positions are fractions of the shares outstanding, which no split changes. Their sums are counted in whole millionths,
so that what came and left again leaves nothing behind.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from atft_assets import calendar
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.events import first_evenings, numbered
from atft_assets.features.raw_text import NONE
from atft_assets.features.rolling import TINY, ratio
from atft_assets.features.share_basis import on_basis

THRESHOLD = 0.005
SILENT = timedelta(days=365)  # without a report, after which a holder counts as out
COUNTING = SILENT + timedelta(days=50)  # before a day, in which a report may count for it or for the twenty before it
PERSONS = ("個人", "個人投資家")
UNIT = 1_000_000
REPORT_COLUMNS = (
    "date",
    "code",
    "CalcDate",
    "SSName",
    "DICName",
    "FundName",
    "ShrtPosToSO",
    "ShrtPosShares",
    "PrevRptDate",
    "PrevRptRatio",
    AVAILABLE_AT,
)
# over how many trading days a sum of steps runs
LATELY = {"_ratio_5": ("_ratio", 5), "_ratio_20": ("_ratio", 20), "_came_5": ("_came", 5), "_left_5": ("_left", 5)}


def positions(reports: pl.DataFrame, traded: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of reported positions.

    Args:
        reports: REPORT_COLUMNS of short_sale_report, history included.
        traded: as `share_basis.with_basis` makes it.
        rows: date, code for which they are wanted.

    Returns:
        The rows in their order with Float64 columns ss_pos_*, and `is_ss_pos_valid` Boolean: whether the reports of a
        whole year are known; else the columns are null.
    """
    since = rows["date"].min()
    counting = pl.col("date") >= (since - COUNTING if isinstance(since, date) else date.max)
    effective = _effective(reports, counting)
    steps = _running(_steps(_with_lapses(effective), traded), _disclosures(reports.filter(counting)))
    days = numbered(rows["date"])
    adv = traded.select("date", "code", "_adv20")
    asked = rows.select("date", "code").join(days, on="date", how="left", maintain_order="left").with_row_index("_row")
    in_order = rows["date"].is_sorted()  # as a rule: two sorts less
    found = (asked if in_order else asked.sort("_day", maintain_order=True)).join_asof(
        steps.sort("_evening"),
        left_on="_day",
        right_on="_evening",
        by="code",
        strategy="backward",
        check_sortedness=False,
    )
    known = (found if in_order else found.sort("_row")).join(
        adv, on=["date", "code"], how="left", maintain_order="left"
    )
    first = reports["date"].min()
    believed = pl.col("date") >= (first + SILENT if isinstance(first, date) else date.max)
    holders = pl.col("_holders").fill_null(0)
    held = holders > 0
    whole = pl.col("_ratio").fill_null(0)
    columns = {
        "ss_pos_ratio": whole / UNIT,
        "ss_pos_chg_5d": pl.col("_ratio_5").fill_null(0) / UNIT,
        "ss_pos_chg_20d": pl.col("_ratio_20").fill_null(0) / UNIT,
        "ss_pos_holders": holders,
        "ss_pos_concentration": pl.when(held).then((pl.col("_square") / whole.cast(pl.Float64) ** 2).clip(0, 1)),
        "ss_pos_days_to_cover": ratio(
            pl.when(held).then(pl.col("_shares").clip(lower_bound=0)).otherwise(0.0), pl.col("_adv20"), TINY
        ),
        "ss_pos_days_since": pl.when(pl.col("_day") - pl.col("_disclosed") <= _YEAR).then(
            pl.col("_day") - pl.col("_disclosed")
        ),
        "ss_pos_new_5d": pl.col("_came_5").fill_null(0),
        "ss_pos_left_5d": pl.col("_left_5").fill_null(0),
    }
    found = known.with_columns(
        *(pl.when(believed).then(value).cast(pl.Float64).alias(name) for name, value in columns.items()),
        believed.alias("is_ss_pos_valid"),
    )
    return found.with_columns(_risk().alias("ss_pos_squeeze_risk")).select(
        "date", "code", *columns, "ss_pos_squeeze_risk", "is_ss_pos_valid"
    )


_YEAR = 245  # trading days


def _risk() -> pl.Expr:
    """Mean of the day's percentile ranks of ratio, days to cover and increase, among the names with a position."""
    held = pl.col("ss_pos_ratio") > 0
    ranks = []
    for name in ("ss_pos_ratio", "ss_pos_days_to_cover", "ss_pos_chg_5d"):
        x = pl.when(held).then(pl.col(name))
        ranks.append((x.rank("average") / x.count()).over("date"))
    return (ranks[0] + ranks[1] + ranks[2]) / 3


def _effective(reports: pl.DataFrame, counting: pl.Expr) -> pl.DataFrame:
    """The reports that changed what was known of a holder: code, holder, CalcDate, evening (number and date), position.

    Of those that still count; what is older has ended by itself, and only overrules others (see `COUNTING`). `_now` is
    the position in millionths, 0 below the threshold; of one evening the last counts.
    """
    texts = (
        pl.col(name).fill_null("").str.strip_chars().replace(dict.fromkeys(NONE, ""))
        for name in ("DICName", "FundName")
    )
    ordered = (
        reports.select(REPORT_COLUMNS)
        .filter(pl.col("ShrtPosToSO").is_not_null())
        .with_columns(pl.col("CalcDate").str.to_date("%Y-%m-%d"), pl.col("SSName").str.strip_chars())
        .filter(pl.col("date") - pl.col("CalcDate") <= SILENT)
        .sort(AVAILABLE_AT, "CalcDate", maintain_order=True)
        .with_columns(pl.concat_str("SSName", *texts, separator="|").alias("_holder"))
    )
    persons = pl.col("SSName").is_in(PERSONS)
    told = pl.concat([ordered.filter(~persons), _told_apart(ordered.filter(persons))])
    by = ["code", "_holder"]
    evenings = first_evenings(told[AVAILABLE_AT]).rename({"date": "_on", "evening": "_evening"})
    return (
        told.sort(*by, AVAILABLE_AT, "CalcDate", maintain_order=True)
        .filter(pl.col("CalcDate") == pl.col("CalcDate").cum_max().over(by))
        .filter(counting)
        .join(evenings, on=AVAILABLE_AT, how="left", maintain_order="left")
        .unique([*by, "_evening"], keep="last", maintain_order=True)
        .with_columns(
            pl.when(pl.col("ShrtPosToSO") >= THRESHOLD - TINY)
            .then((pl.col("ShrtPosToSO") * UNIT).round())
            .otherwise(0)
            .cast(pl.Int64)
            .alias("_now")
        )
        .select(*by, "CalcDate", "_evening", "_on", "_now", pl.col("ShrtPosShares").fill_null(0.0).alias("_held"))
    )


def _told_apart(reports: pl.DataFrame) -> pl.DataFrame:
    """Reports of persons with a holder for each person, in the order in which they became known."""
    standing: dict[str, list[tuple[str, str, float, datetime]]] = {}
    names = []
    columns = ("code", "SSName", "CalcDate", "ShrtPosToSO", "PrevRptDate", "PrevRptRatio", AVAILABLE_AT)
    for number, (code, name, calculated, position, before, was, instant) in enumerate(
        reports.select(columns).iter_rows()
    ):
        # whom it may be: those of the name who have not been silent for a year
        others = [one for one in standing.get(code, []) if instant - one[3] <= SILENT]
        same = [one for one in others if one[1] == before and (was is None or abs(one[2] - was) < 1e-4)]
        me = same[0][0] if same else f"{name}|{instant:%Y%m%d}|{calculated}|{number}"
        names.append(me)
        if same and calculated.isoformat() < same[0][1]:
            standing[code] = others  # of an older day: the newest stands
            continue
        standing[code] = [one for one in others if one[0] != me]
        if position >= THRESHOLD - TINY:
            standing[code].append((me, calculated.isoformat(), position, instant))
    return reports.with_columns(pl.Series("_holder", names, pl.String))


def _with_lapses(stated: pl.DataFrame) -> pl.DataFrame:
    """The reports, and an exit for each position that nothing was heard of for a year."""
    by = ["code", "_holder"]
    last = stated["_on"].max()
    if not isinstance(last, date):
        return stated
    # first evenings at a year's distance
    sessions = pl.DataFrame(
        {"_lapse_on": calendar.trading_days(calendar.FIRST_DAY, last + SILENT + timedelta(days=30))}
    )
    lapsing = (
        stated.with_columns(
            (pl.col("_on") + SILENT).alias("_end"), pl.col("_evening").shift(-1).over(by).alias("_next")
        )
        .sort("_end", maintain_order=True)
        .join_asof(
            sessions.with_row_index("_lapse").with_columns(
                pl.col("_lapse").cast(pl.Int32), pl.col("_lapse_on").set_sorted()
            ),
            left_on="_end",
            right_on="_lapse_on",
            strategy="forward",
        )
        .filter((pl.col("_now") > 0) & (pl.col("_next").is_null() | (pl.col("_next") > pl.col("_lapse"))))
        .with_columns(
            pl.col("_lapse").alias("_evening"),
            pl.col("_lapse_on").alias("_on"),
            pl.lit(0, pl.Int64).alias("_now"),
            pl.lit(0.0).alias("_held"),
        )
        .select(stated.columns)
    )
    return pl.concat([stated, lapsing])


def _steps(stated: pl.DataFrame, traded: pl.DataFrame) -> pl.DataFrame:
    """What each name's reports change on an evening: sums over holders."""
    by = ["code", "_holder"]
    held = pl.when(pl.col("_now") > 0).then(pl.col("_held") / pl.col("_basis")).otherwise(0.0)
    now, before = pl.col("_now"), pl.col("_now").shift(1).over(by).fill_null(0)
    shares_before = pl.col("_s").shift(1).over(by).fill_null(0.0)
    return (
        on_basis(stated, traded, "CalcDate")
        .with_columns(held.alias("_s"))
        .sort(*by, "_evening", maintain_order=True)
        .with_columns(
            (now - before).alias("_ratio"),
            (now**2 - before**2).alias("_square"),
            (pl.col("_s") - shares_before).alias("_shares"),
            ((now > 0) & (before == 0)).cast(pl.Int64).alias("_came"),
            ((now == 0) & (before > 0)).cast(pl.Int64).alias("_left"),
        )
        .with_columns((pl.col("_came") - pl.col("_left")).alias("_holders"))
        .group_by("code", "_evening")
        .agg(pl.col("_ratio", "_square", "_shares", "_holders", "_came", "_left").sum())
    )


def _disclosures(reports: pl.DataFrame) -> pl.DataFrame:
    """Evenings on which something was disclosed of a name: code, `_evening`, `_said` true."""
    evenings = first_evenings(reports[AVAILABLE_AT]).select(AVAILABLE_AT, pl.col("evening").alias("_evening"))
    known = reports.select("code", AVAILABLE_AT).join(evenings, on=AVAILABLE_AT)
    return known.select("code", "_evening").unique().with_columns(pl.lit(True).alias("_said"))


def _running(steps: pl.DataFrame, disclosures: pl.DataFrame) -> pl.DataFrame:
    """The sums as they stand from each evening on; a step of the last days goes out again after as many."""
    kept = ("_ratio", "_square", "_shares", "_holders")
    lately = (pl.col(of).alias(name) for name, (of, _) in LATELY.items())
    parts = [steps.select("code", "_evening", *kept, *lately), disclosures]
    for name, (of, days) in LATELY.items():
        parts.append(steps.select("code", pl.col("_evening") + days, (-pl.col(of)).alias(name)))
    sums = [*kept, *LATELY]
    return (
        pl.concat(parts, how="diagonal")
        .group_by("code", "_evening")
        .agg(pl.col(sums).sum(), pl.col("_said").any())
        .sort("code", "_evening")
        .with_columns(
            *(pl.col(name).cum_sum().over("code") for name in sums),
            pl.when("_said").then("_evening").forward_fill().over("code").alias("_disclosed"),
        )
        .drop("_said")
    )
