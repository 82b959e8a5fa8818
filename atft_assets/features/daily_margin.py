"""Daily margin: the balances of the names that the exchange or JSF has put on its list, and why they are there.

Two or three hundred names a day. Being on the list is the first thing that it says, so the flags speak of every name:
0 is not on it. Everything else is null for a name whose newest balance is older than a week. Balances are those of
`AppDate`, the business day before the publication as a rule; of several publications of one the newest that was known
counts, and two of them may come in one (2021-08-27). A window counts trading days: a name that was away has a hole.

`SLRatio` is not used: 0 stands there for names without long positions. The list goes on as it was when
`margin_interest` turned daily; those balances, of every name, are the weekly table's.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from atft_assets.contracts import require_columns
from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.daily_margin_records import COLUMNS, LONGEST_STAY, REASONS, balances
from atft_assets.features.event_feature import EventFeature, event_family
from atft_assets.features.events import SINCE, carried
from atft_assets.features.names import ALERT, DAILY_QUOTES, MARGIN_ALERT, STOCK, UNIVERSE, of
from atft_assets.features.rolling import TINY, ratio
from atft_assets.features.share_basis import QUOTE_COLUMNS, with_basis
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 4  # 40 days on the list, of which the newest may be a week old
STALE = 5  # trading days
STOCK_COLUMNS = ("date", "code", "returns_1d", "returns_5d")
FLAG = "is_dmi_valid"
SHARES = of(MARGIN_ALERT, "LongOut", "ShrtOut")
ORDER = of(MARGIN_ALERT, "AppDate", AVAILABLE_AT)
ADJUSTED = of(DAILY_QUOTES, "AdjFactor")
TRADED = of(DAILY_QUOTES, "Vo", "AdjFactor")
SOURCE = {
    "availability": "evening of the publication, the business day after the balance",
    "valid_from": date(2008, 5, 8),
}

_listed = event_family("daily_margin", kind="flag", source="margin_alert", reads=ORDER, low=0, high=1, **SOURCE)
_feature = event_family(
    "daily_margin", kind="event", source="margin_alert", reads=(*SHARES, *ORDER), coverage=0.6, among=FLAG, **SOURCE
)
BOTH = {"source": "margin_alert, daily_quotes", "among": FLAG, **SOURCE}
# over several days, or against a volume: on one basis of shares
_split = event_family("daily_margin", kind="event", coverage=0.2, **BOTH)
_setup = event_family("daily_margin", kind="flag", low=0, high=1, **BOTH)


def _list(name: str, formula: str, **own: object) -> EventFeature:
    return _listed(name, formula, 1, STALE, **own)


_SIDES = {"long": ("L", SHARES[:1]), "short": ("S", SHARES[1:])}

FEATURES: tuple[EventFeature, ...] = (
    _list("dmi_on_list", "1 where the name has a balance in the newest list that is known"),
    *(
        _list(
            f"dmi_reason_{name}",
            f"1 where it is on the list for {flag}",
            reads=(*of(MARGIN_ALERT, "PubReason"), *ORDER),
        )
        for name, flag in REASONS.items()
    ),
    _list(
        "dmi_reg_restricted",
        "1 where it is on the list under a restriction of the exchange (classes 003 to 006)",
        reads=(*of(MARGIN_ALERT, "TSEMrgnRegCls"), *ORDER),
    ),
    _list(
        "dmi_reg_lifted",
        "1 where the restriction has been lifted (class 101)",
        reads=(*of(MARGIN_ALERT, "TSEMrgnRegCls"), *ORDER),
    ),
    _feature(
        "dmi_reason_count",
        "how many reasons are given; not a model input: the sum of the flags",
        low=0.0,
        model_input=False,
        may_be_constant=True,
        coverage=0.3,
        reads=(*of(MARGIN_ALERT, "PubReason"), *ORDER),
    ),
    _feature(
        "dmi_days_on_list",
        f"trading days on end that the name has had a balance, {LONGEST_STAY} at most",
        LONGEST_STAY,
        LONGEST_STAY,
        low=1.0,
        high=float(LONGEST_STAY),
        may_be_constant=True,
        reads=ORDER,
    ),
    _feature("dmi_imbalance", "(L - S)/(L + S), L long and S short positions in shares", low=-1.0, high=1.0),
    *(
        _feature(
            f"dmi_std_share_{name}",
            f"the standardised part of {what}; the rest is negotiable",
            low=0.0,
            high=1.0,
            coverage=0.2,
            may_be_constant=True,
            reads=(*of(MARGIN_ALERT, f"{name_of}StdOut", f"{name_of}Out"), *ORDER),
        )
        for name, what, name_of in (("long", "L", "Long"), ("short", "S", "Shrt"))
    ),
    *(
        _split(
            f"dmi_{name}_to_shares",
            f"{what} over the listed shares",
            source="margin_alert",
            low=0.0,
            coverage=0.3,
            reads=(*of(MARGIN_ALERT, f"{name_of}OutRatio"), *ORDER),
        )
        for name, what, name_of in (("long", "L", "Long"), ("short", "S", "Shrt"))
    ),
    *(
        _split(
            f"dmi_d_{name}_1d",
            f"ln(({what} + 1)/({what}[-1] + 1)), on the newest basis of shares",
            2,
            2,
            reads=(*reads, *ORDER, *ADJUSTED),
        )
        for name, (what, reads) in _SIDES.items()
    ),
    _split(
        "dmi_d_imbalance_1d",
        "dmi_imbalance - dmi_imbalance[-1]",
        2,
        2,
        low=-2.0,
        high=2.0,
        source="margin_alert",
        reads=(*SHARES, *ORDER),
    ),
    *(
        _split(
            f"dmi_{name}_z26",
            f"({what} - mean)/std over 26 trading days, 6 at least, on one basis of shares",
            26,
            30,
            coverage=0.05,
            reads=(*reads, *ORDER, *ADJUSTED),
        )
        for name, (what, reads) in _SIDES.items()
    ),
    _split(
        "dmi_imbalance_z26",
        "(dmi_imbalance - mean)/std over 26 trading days, 6 at least",
        26,
        30,
        coverage=0.05,
        source="margin_alert",
        reads=(*SHARES, *ORDER),
    ),
    *(
        _split(
            f"dmi_{name}_to_adv20",
            f"{what}/mean(Vo, 20), on one basis of shares",
            20,
            25,
            low=0.0,
            coverage=0.6,
            reads=(*reads, *ORDER, *TRADED),
        )
        for name, (what, reads) in _SIDES.items()
    ),
    *(
        _split(
            f"dmi_d_{name}_to_adv20",
            f"({what} - {what}[-1])/mean(Vo, 20), on one basis of shares",
            20,
            25,
            reads=(*reads, *ORDER, *TRADED),
        )
        for name, (what, reads) in _SIDES.items()
    ),
    _setup(
        "dmi_short_squeeze_setup",
        "1 where dmi_short_to_adv20 is in the day's highest fifth of the listed and the name rose today",
        20,
        25,
        reads=("dmi_short_to_adv20", *of(STOCK, "returns_1d")),
    ),
    _setup(
        "dmi_long_unwind_risk",
        "1 where dmi_long_z26 is above 1.5 and the name fell today",
        26,
        30,
        reads=("dmi_long_z26", *of(STOCK, "returns_1d")),
    ),
    _setup(
        "dmi_with_trend",
        "1 where L - S moved the way of returns_5d",
        5,
        5,
        reads=(*SHARES, *ORDER, *ADJUSTED, *of(STOCK, "returns_5d")),
    ),
    _feature(
        "dmi_days_since",
        "trading days since the first evening of the balance; not a model input: 0 for all that are on the list",
        low=0.0,
        high=float(STALE),
        model_input=False,
        may_be_constant=True,
        reads=ORDER,
    ),
)
VALIDITY = (
    _list(
        FLAG,
        f"1 where a balance of at most {STALE} trading days is known",
        model_input=False,
        family="validity",
        coverage=0.0,
    ),
)


def daily_margin_features(
    alerts: pl.DataFrame, quotes: pl.DataFrame, stock: pl.DataFrame, rows: pl.DataFrame, partition: str = "-"
) -> pl.DataFrame:
    """The daily margin columns.

    Args:
        alerts: COLUMNS of margin_alert, history included; `date` is the publication's.
        quotes: QUOTE_COLUMNS of daily_quotes, history included; volumes unadjusted.
        stock: STOCK_COLUMNS of stock_features, of the rows.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; the flags of the list are null where no list of the last STALE trading days is
        known, the others where the name has no such balance.

    Raises:
        ContractViolation: an input lacks a column, or a bar came after the decision of its day.
    """
    require_columns(alerts, COLUMNS, table=MARGIN_ALERT, partition=partition)
    require_columns(stock, STOCK_COLUMNS, table=STOCK, partition=partition)
    traded = with_basis(quotes, LOOKBACK_MONTHS, partition)
    dated = alerts.select(COLUMNS).with_columns(pl.col("AppDate").str.to_date("%Y-%m-%d"))
    records = balances(dated, traded)
    on, fresh, adv = _on_list(dated, rows), pl.col(SINCE) <= STALE, pl.col("_adv20")
    frame = (
        carried(records, rows.select("date", "code"), by="AppDate")
        .join(traded.select("date", "code", "_adv20"), on=["date", "code"], how="left", maintain_order="left")
        .join(stock.select(STOCK_COLUMNS), on=["date", "code"], how="left", maintain_order="left")
        .join(on, on="date", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("_newest").is_not_null())
            .then((pl.col("AppDate") == pl.col("_newest")).fill_null(False))
            .alias("_on")
        )
        .with_columns(
            pl.col("_on").alias("dmi_on_list"),
            *(
                _of_the_listed(name)
                for name in (*(f"dmi_reason_{name}" for name in REASONS), "dmi_reg_restricted", "dmi_reg_lifted")
            ),
            *(
                _where(fresh, ratio(pl.col(side), adv, TINY)).alias(f"dmi_{name}_to_adv20")
                for name, side in (("long", "_l"), ("short", "_s"))
            ),
            *(
                _where(fresh, ratio(pl.col(side), adv, TINY)).alias(f"dmi_d_{name}_to_adv20")
                for name, side in (("long", "_dl"), ("short", "_ds"))
            ),
            pl.col(SINCE).alias("dmi_days_since"),
        )
        .with_columns(*_setups())
    )
    stored = (
        (pl.col(f.name) if not f.among else _where(fresh, pl.col(f.name)))
        .cast(pl.UInt8 if f.kind == "flag" else pl.Float32)
        .alias(f.name)
        for f in FEATURES
    )
    return frame.select("date", "code", *stored, fresh.fill_null(False).cast(pl.UInt8).alias(FLAG))


def _on_list(dated: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """date, `_newest`: the balance date of the newest list that each evening knew, if that is no older than STALE."""
    lists = dated.group_by("AppDate").agg(pl.col(AVAILABLE_AT).min()).with_columns(pl.col("AppDate").alias("_newest"))
    known = carried(lists, rows.select(pl.col("date").unique().sort()), by="AppDate", keys=())
    return known.select("date", _where(pl.col(SINCE) <= STALE, pl.col("_newest")).alias("_newest"))


def _of_the_listed(name: str) -> pl.Expr:
    """A flag of the name's newest balance; 0 where it is not on the list, null where no list is known."""
    return pl.when(pl.col("_on")).then(pl.col(name)).when(pl.col("_on").is_not_null()).then(pl.lit(False)).alias(name)


def _setups() -> list[pl.Expr]:
    short, r1, r5 = pl.col("dmi_short_to_adv20"), pl.col("returns_1d"), pl.col("returns_5d")
    moved = pl.col("_dl") - pl.col("_ds")
    return [
        _both(short >= short.quantile(0.8, "linear").over("date"), r1 > 0).alias("dmi_short_squeeze_setup"),
        _both(pl.col("dmi_long_z26") > 1.5, r1 < 0).alias("dmi_long_unwind_risk"),
        (moved.sign() == r5.sign()).alias("dmi_with_trend"),
    ]


def _both(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """Whether both hold; null where either is unknown."""
    return _where(one.is_not_null() & other.is_not_null(), one & other)


def _where(condition: pl.Expr, value: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(value)


def build(inputs: Reader) -> pl.DataFrame:
    """The daily margin columns of a block."""
    return daily_margin_features(
        inputs.read(MARGIN_ALERT, COLUMNS),
        inputs.read(DAILY_QUOTES, (*QUOTE_COLUMNS, AVAILABLE_AT)),
        inputs.read(STOCK, STOCK_COLUMNS),
        inputs.rows(),
        inputs.span,
    )


TABLE = FeatureTable(
    name=ALERT,
    description="Daily margin positions of the names under restriction or watch, with the reasons. Needs Standard.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={MARGIN_ALERT: LOOKBACK_MONTHS, DAILY_QUOTES: LOOKBACK_MONTHS, STOCK: 0, UNIVERSE: 0},
    plan=Plan.STANDARD,
    needs="the margin positions under watch",
)
