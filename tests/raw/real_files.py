"""What a folder of recorded J-Quants records may hold, file by file, and how each is brought into the wire format.

Such files come from collectors: of some records they kept a part, some are of another source of the same facts (the
exchange's own lists and settlement files). A `File` says for which asset its rows are served, which rows hold what
every record of the API holds, and what is known of the fields that were lost; everything else is sent as the API
would send none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from atft_assets.calendar import shift_trading_days


@dataclass(frozen=True)
class File:
    """One file of a folder.

    Attributes:
        name: without its suffix.
        asset: the raw asset of which its rows are records.
        whole: which rows are; default: all.
        known: what is known of fields that were lost, where a row lacks them (or holds "").
        shaped: what else makes records of the rows.
        every_day: serve each recorded day, also those for which the asset would not ask (a list of a month's end).
    """

    name: str
    asset: str
    whole: pl.Expr | None = None
    known: Mapping[str, pl.Expr] = field(default_factory=dict)
    shaped: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame
    every_day: bool = False

    def records(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that can be served, with what is known of what they lack."""
        kept = self.shaped(frame if self.whole is None else frame.filter(self.whole))
        there = {name: pl.col(name) for name in kept.columns}
        lacking = {name: pl.col(name).is_null() | (pl.col(name).cast(pl.String) == "") for name in there}
        return kept.with_columns(
            (pl.when(lacking[name]).then(value).otherwise(there[name]) if name in there else value).alias(name)
            for name, value in self.known.items()
        )


def _number(prefix: str) -> pl.Expr:
    """A document number of our own."""
    return pl.lit(prefix) + pl.int_range(pl.len()).cast(pl.String).str.zfill(12)


def _halves(what: str) -> dict[str, pl.Expr]:
    """Of balances of which the sum alone is known: any two parts that add up to it."""
    part = {side: (pl.col(f"{side}{what}") * 0.4).round() for side in ("Shrt", "Long")}
    negotiable = {f"{side}Neg{what}": value for side, value in part.items()}
    return negotiable | {f"{side}Std{what}": pl.col(f"{side}{what}") - value for side, value in part.items()}


_DOCUMENT = {"DiscTime": pl.lit("15:30:00"), "DocType": pl.lit("unknown")}
# what was traded is not known of settlements: one row in eighteen as if it were, as many as are
_SOME = pl.when(pl.int_range(pl.len()) % 18 == 0).then("Settle").otherwise(0.0)
_PRICES = {f"{session}{price}": _SOME for session in ("", "E", "A") for price in "OHLC"}
_SETTLED = {"EmMrgnTrgDiv": pl.lit("002"), **_PRICES, **dict.fromkeys(("Vo", "VoOA", "OI", "Va"), _SOME)}
_LISTED = ~pl.col("Source").str.starts_with("api")
_FYE = pl.col("FY").str.replace("末", "28").str.extract_groups(r"^(\d+)月(\d+)日").alias("_day")


def _calendar(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists that overlap, one after the other; no day is "" in the API."""
    lists = frame.filter(pl.col("Date").str.contains(r"^\d{4}-\d{2}-\d{2}$") | (pl.col("Date") == "未定"))
    return lists.with_columns(pl.col("Date").replace("未定", "")).unique(
        ["Date", "Code", "FY", "FQ"], keep="last", maintain_order=True
    )


def _dates(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists of announced days as publications of these days."""
    end = _FYE.struct.field("1").str.zfill(2) + _FYE.struct.field("2").str.zfill(2)
    made = frame.drop_nulls("AsOf").select(
        pl.col("AsOf").cast(pl.String).alias("PubDate"), pl.col("Date").replace("未定", "").alias("SchDate"),
        pl.col("FQ").alias("FQName"), end.fill_null("").alias("FYE"), "Code", "CoName",
    )  # fmt: skip
    return made.filter(pl.col("FYE") != "").unique(
        ["PubDate", "Code", "FYE", "FQName", "SchDate"], keep="last", maintain_order=True
    )


def _timeline(frame: pl.DataFrame) -> pl.DataFrame:
    """What was disclosed, and when: documents without a figure."""
    return frame.select(
        "DiscDate", (pl.col("DiscTime") + ":00").alias("DiscTime"), (pl.col("Code") + "0").alias("Code"),
        pl.col("DocId").alias("DiscNo"),
    ).filter(pl.col("DiscNo") != "").unique("DiscNo", maintain_order=True)  # fmt: skip


def _statements(frame: pl.DataFrame) -> pl.DataFrame:
    """Long form to one object a document."""
    cell = pl.struct(
        pl.concat_str("ns", pl.lit(":"), "tag", pl.lit(" "), "ctx").alias("label"),
        pl.coalesce(pl.col("num").cast(pl.String), "txt").fill_null("").alias("value"),
    )
    wide = frame.group_by("DiscDate", "Code4", "Title", maintain_order=True).agg(cell.alias("cells"))
    objects = [{one["label"]: one["value"] for one in cells} for cells in wide["cells"].to_list()]
    return wide.select("DiscDate", (pl.col("Code4") + "0").alias("Code")).with_columns(
        pl.Series("FS", objects, dtype=pl.Object)
    )


def _flow(frame: pl.DataFrame) -> pl.DataFrame:
    """Weeks without a publication date came on the fourth business day after them, as nearly all do."""
    came = [str(shift_trading_days(date.fromisoformat(end), 4)) for end in frame["EnDate"]]
    return frame.with_columns(
        pl.coalesce("PubDate", pl.Series(came)).alias("PubDate"), pl.coalesce("StDate", "EnDate").alias("StDate")
    )


FILES = (
    File("master", "listed_info", known={"Mrgn": pl.lit("2"), "MrgnNm": pl.lit("貸借")}, every_day=True),
    File("indices", "indices"),
    # the mapping of the collector lost the figures of some
    File(
        "fins_summary",
        "fins_summary",
        ~pl.col("Source").str.starts_with("api_v2_lossy"),
        _DOCUMENT | {"DiscNo": _number("s")},
    ),
    File("fins_summary_tdnet", "fins_summary", known=_DOCUMENT | {"DiscNo": _number("t")}),
    File("tdnet_timeline", "fins_summary", known=_DOCUMENT, shaped=_timeline),
    File("fins_details_xbrl", "fins_details", known=_DOCUMENT | {"DiscNo": _number("d")}, shaped=_statements),
    File("earnings_calendar", "earnings_calendar", ~_LISTED, every_day=True),
    File("earnings_calendar", "earnings_calendar", _LISTED, shaped=_calendar, every_day=True),
    File("earnings_calendar", "earnings_date", _LISTED, shaped=_dates),
    File("margin_interest", "margin_interest", pl.col("IssType").is_not_null()),
    # totals of a hundred names over years: on which days there are balances
    File(
        "margin_interest",
        "margin_interest",
        pl.col("IssType").is_null(),
        {"IssType": pl.lit("2"), **_halves("Vol")},
    ),
    File("margin_alert", "margin_alert", known={"TSEMrgnRegCls": pl.lit("-")}),
    File(
        "margin_alert_long",
        "margin_alert",
        known={"PubReason": pl.lit("-"), **_halves("Out")},
    ),
    File("short_ratio", "short_ratio"),
    # on which side of the threshold a position lies is known
    File(
        "short_sale_report",
        "short_sale_report",
        pl.col("ShrtPosShares").is_not_null(),
        {
            "ShrtPosToSO": pl.when("Below005").then(0.004).otherwise(0.006),
            "ShrtPosUnits": pl.col("ShrtPosShares") / 100,
        },
    ),
    File("investor_types", "investor_types", shaped=_flow),
    File("options_225", "options_225", pl.col("Settle").is_not_null() | (pl.col("Date") < "2016-07-19")),
    File("options_225_settle", "options_225", known=_SETTLED),
    # of the products that J-Quants has
    File("options_settle", "options", pl.col("ProdCat").is_not_null(), _SETTLED),
    File("futures_settle", "futures", pl.col("ProdCat").is_not_null(), _SETTLED),
)
