"""Weekly margin: twenty-three columns of what is held and sold on margin, against a name's own past and its turnover.

A window counts weekly balances. Since 2026-09-25 balances come daily: of these the last of each week is taken, so that no window
spans two frequencies, and it counts from the evening on which it was published. Volumes come unadjusted; a split
between two balances is undone by the factors of the days between. They enter as ratios: to each other, to their own past, to what trades a day.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.events import SINCE, carried, change, first_versions, z
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import DAILY_QUOTES, MARGIN, MARGIN_INTEREST, UNIVERSE, of
from atft_assets.features.rolling import TINY, ratio
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15  # 52 weeks of balances, the newest of which may be three weeks old
DAILY_SINCE = date(2026, 9, 25)
STALE = 14  # trading days: two weeks without a balance
COLUMNS = (
    "date", "code", "IssType", "ShrtVol", "LongVol", "ShrtNegVol", "LongNegVol", "ShrtStdVol", "LongStdVol", AVAILABLE_AT,
)  # fmt: skip
QUOTES = ("date", "code", "Vo", "AdjFactor")

VOLUMES = of(MARGIN_INTEREST, "LongVol", "ShrtVol")
TRADED = of(DAILY_QUOTES, "Vo", "AdjFactor")
KNOWN = "evening on which the balance is published: the second business day of the week after"

_feature = family(
    "margin", kind="event", source="margin_interest", reads=(*VOLUMES, *of(MARGIN_INTEREST, "date", AVAILABLE_AT)),
    availability=KNOWN, valid_from=date(2012, 2, 10), coverage=0.3,
)  # fmt: skip
_to_volume = family(
    "margin", kind="event", source="margin_interest, daily_quotes",
    reads=(*VOLUMES, *of(MARGIN_INTEREST, "date", AVAILABLE_AT), *TRADED), availability=KNOWN,
    valid_from=date(2012, 2, 10), coverage=0.3, lookback=20, low=None,
)  # fmt: skip


def _share(name: str, formula: str, *columns: str) -> Feature:
    return _feature(
        name, formula, low=0.0, high=1.0, may_be_constant=True,
        reads=of(MARGIN_INTEREST, *columns, "date", AVAILABLE_AT),
    )  # fmt: skip


_FROM_RATIO = "; not a model input: its rank within a day is that of margin_imbalance"
FEATURES: tuple[Feature, ...] = (
    _feature("margin_credit_ratio", "ln((L + 1)/(S + 1)), L long, S short positions in shares" + _FROM_RATIO, model_input=False),
    _feature("margin_imbalance", "(L - S)/(L + S)", low=-1.0, high=1.0),
    _feature("margin_d_long_wow", "ln(L/L[-1 week]), on one basis of splits", 2),
    _feature("margin_d_short_wow", "ln((S + 1)/(S[-1 week] + 1)), on one basis of splits", 2, may_be_constant=True),
    _feature("margin_d_imbalance_wow", "margin_imbalance - margin_imbalance[-1 week]", 2, low=-2.0, high=2.0),
    _feature("margin_gross_mom4", "ln(G/mean(G, 4 weeks)), G = L + S", 4),
    *(
        _feature(f"margin_{name}_z52", f"({what} - mean)/std over 52 weeks, 26 at least, {what} on one basis of splits", 52)
        for name, what in (("long", "L"), ("short", "S"), ("gross", "L + S"), ("imbalance", "margin_imbalance"))
    ),
    *(
        _to_volume(f"margin_{name}_to_adv20", f"{what}/mean(Vo, 20)", 20, low=0.0)
        for name, what in (("long", "L"), ("short", "S"))
    ),
    *(
        _to_volume(f"margin_d_{name}_to_adv20", f"({what} - {what}[-1 week])/(5 mean(Vo, 20))", 20)
        for name, what in (("long", "L"), ("short", "S"))
    ),
    _share("margin_std_share_long", "LongStdVol/L", "LongStdVol", "LongVol"),
    _share("margin_std_share_short", "ShrtStdVol/S", "ShrtStdVol", "ShrtVol"),
    _feature(
        "margin_is_borrowable", "1 where the name can be sold short by standardised margin (IssType 2)", kind="flag",
        low=0, high=1, reads=of(MARGIN_INTEREST, "IssType", "date", AVAILABLE_AT),
    ),
    _feature("margin_impulse", "1 on the first evening of a balance; not a model input: equal for all names", kind="flag",
             low=0, high=1, model_input=False, reads=of(MARGIN_INTEREST, "date", AVAILABLE_AT)),
    _feature("margin_days_since", "trading days since the first evening of the balance; not a model input: equal for all names",
             low=0, model_input=False, may_be_constant=True, reads=of(MARGIN_INTEREST, "date", AVAILABLE_AT)),
)  # fmt: skip
VALIDITY = (
    _feature("is_margin_valid", f"1 where a balance of at most {STALE} trading days is known", kind="flag", low=0, high=1,
             model_input=False, family="validity", reads=of(MARGIN_INTEREST, "date", AVAILABLE_AT)),
)  # fmt: skip


def weekly(balances: pl.DataFrame) -> pl.DataFrame:
    """The last balance of each ISO week and name, of one edition or the other."""
    week = pl.col("date").dt.iso_year() * 100 + pl.col("date").dt.week()
    daily = pl.col("date") >= DAILY_SINCE
    last = pl.col("date") == pl.col("date").max().over("code", "_week")
    return balances.with_columns(week.alias("_week")).filter(~daily | last).drop("_week")


def margin_features(balances: pl.DataFrame, quotes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The weekly margin columns.

    Args:
        balances: COLUMNS of margin_interest, history included.
        quotes: QUOTES, history included; volumes unadjusted, with the factor of each day.
        rows: date, code for which they are wanted.

    Returns:
        date, code and the features; null where no balance is known, or one that is older than STALE days.
    """
    traded = _with_volume(quotes)
    records = (
        first_versions(weekly(balances.select(COLUMNS)), ("date", "code"))
        .sort("code", "date")
        .join_asof(
            traded.select("date", "code", "_basis").sort("date"), on="date", by="code", strategy="backward",
            check_sortedness=False,
        )
        .sort("code", "date")
        .with_columns(
            (pl.col("LongVol") / pl.col("_basis").fill_null(1.0)).alias("_l"),
            (pl.col("ShrtVol") / pl.col("_basis").fill_null(1.0)).alias("_s"),
        )
        .with_columns((pl.col("_l") + pl.col("_s")).alias("_g"))
        .with_columns(ratio(pl.col("_l") - pl.col("_s"), pl.col("_g")).alias("margin_imbalance"))
        .with_columns(
            ((pl.col("LongVol") + 1) / (pl.col("ShrtVol") + 1)).log().alias("margin_credit_ratio"),
            _log_change("_l").alias("margin_d_long_wow"),
            _log_change("_s").alias("margin_d_short_wow"),
            change("margin_imbalance").alias("margin_d_imbalance_wow"),
            ratio(pl.col("_g"), pl.col("_g").rolling_mean(4).over("code"), TINY).log().alias("margin_gross_mom4"),
            z("_l", 52, 26).alias("margin_long_z52"),
            z("_s", 52, 26).alias("margin_short_z52"),
            z("_g", 52, 26).alias("margin_gross_z52"),
            z("margin_imbalance", 52, 26).alias("margin_imbalance_z52"),
            change("_l").alias("_dl"),
            change("_s").alias("_ds"),
            ratio(pl.col("LongStdVol"), pl.col("LongVol")).alias("margin_std_share_long"),
            ratio(pl.col("ShrtStdVol"), pl.col("ShrtVol")).alias("margin_std_share_short"),
            (pl.col("IssType") == "2").alias("margin_is_borrowable"),
        )
    )  # fmt: skip
    kept = [f.name for f in FEATURES if f.name in records.columns]
    wanted = records.select("date", "code", AVAILABLE_AT, "_l", "_s", "_dl", "_ds", *kept)
    fresh = pl.col(SINCE) <= STALE
    frame = (
        carried(wanted, rows.select("date", "code"), by="date")
        .join(traded.select("date", "code", "_adv20"), on=["date", "code"], how="left", maintain_order="left")
        .with_columns(
            ratio(pl.col("_l"), pl.col("_adv20"), TINY).alias("margin_long_to_adv20"),
            ratio(pl.col("_s"), pl.col("_adv20"), TINY).alias("margin_short_to_adv20"),
            ratio(pl.col("_dl"), 5 * pl.col("_adv20"), TINY).alias("margin_d_long_to_adv20"),
            ratio(pl.col("_ds"), 5 * pl.col("_adv20"), TINY).alias("margin_d_short_to_adv20"),
            (pl.col(SINCE) == 0).alias("margin_impulse"),
            pl.col(SINCE).alias("margin_days_since"),
            (fresh & pl.col("margin_imbalance").is_not_null()).fill_null(False).alias("is_margin_valid"),
        )
    )
    stored = [
        pl.when(fresh).then(pl.col(f.name)).cast(pl.UInt8 if f.kind == "flag" else pl.Float32).alias(f.name)
        for f in FEATURES
    ]
    return frame.select("date", "code", *stored, pl.col("is_margin_valid").cast(pl.UInt8))


def _with_volume(quotes: pl.DataFrame) -> pl.DataFrame:
    """date, code, `_basis` (shares of the day per share of the first), `_adv20` on the basis of the first day."""
    basis = (1 / pl.col("AdjFactor").fill_null(1.0)).cum_prod().over("code")
    return (
        quotes.select(QUOTES)
        .sort("code", "date")
        .with_columns(basis.alias("_basis"))
        .with_columns((pl.col("Vo").fill_null(0.0) / pl.col("_basis")).alias("_v"))
        .with_columns(pl.col("_v").rolling_mean(20).over("code").alias("_adv20"))
    )


def _log_change(column: str) -> pl.Expr:
    x = pl.col(column)
    return ((x + 1) / (x.shift(1).over("code") + 1)).log()


def build(inputs: Reader) -> pl.DataFrame:
    """The weekly margin columns of a block."""
    return margin_features(inputs.read(MARGIN_INTEREST, COLUMNS), inputs.read(DAILY_QUOTES, QUOTES), inputs.rows())


TABLE = FeatureTable(
    name=MARGIN,
    description="Weekly margin positions against their own past and what trades a day. Needs the plan Standard.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={MARGIN_INTEREST: LOOKBACK_MONTHS, DAILY_QUOTES: LOOKBACK_MONTHS, UNIVERSE: 0},
    plan=Plan.STANDARD,
    needs="margin positions",
)
