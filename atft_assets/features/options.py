"""Option features: twenty-one columns of the Nikkei 225 options, one row a day.

A day's options are out at 03:00 of the next day, so the newest that the evening of t knows are those of the trading day
before: a row dated t holds what was traded on t - 1. Of a contract's two settlements the regular one (002) counts. A
price of zero says nothing of volume, so volumes are summed over all rows; volatilities are taken where they are real,
above the lower and below the upper clip. Volatility between expiries is interpolated in total variance (sigma^2 tau),
tau in calendar days, and the skew is that of options out of the money: puts below the index, calls above it.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import log_ratio, of_days, stored
from atft_assets.features.event_feature import event_family
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import OPTION, OPTIONS_225, TOPIX, of
from atft_assets.features.rolling import ANNUAL, TINY
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 15
PUT, CALL = "1", "2"
REGULAR = "002"
LEAST_IV, MOST_IV = 1.0, 320.0  # where J-Quants cuts the implied volatility: no figures
AT_THE_MONEY = 0.02  # |ln(K/S)| of the strikes whose median is the volatility at the money
FEWEST_DAYS = 3  # of calendar days to expiry: what expires tomorrow has no volatility worth the name
STALE = 3  # trading days between a row and the options that it speaks of; one is the rule
QUARTER = 0.6744897501960817  # d1 of an option whose delta is a quarter: N(-d1) = 0.25
COLUMNS = ("date", "Strike", "PCDiv", "EmMrgnTrgDiv", "LTD", "Vo", "OI", "Va", "UnderPx", "IV", AVAILABLE_AT)
KNOWN = "03:00 of t: options of the trading day before"
FILLED = date(2016, 7, 19)  # first day with volatilities

IV = of(OPTIONS_225, "Strike", "PCDiv", "EmMrgnTrgDiv", "LTD", "UnderPx", "IV")
ATM = of(OPTIONS_225, "Strike", "EmMrgnTrgDiv", "LTD", "UnderPx", "IV")  # at the money both kinds count
_common: dict[str, Any] = {
    "kind": "market",
    "source": OPTIONS_225,
    "availability": KNOWN,
    "valid_from": FILLED,
    "coverage": 0.8,
}
_atm = family("options", reads=ATM, **_common)
_wing = event_family("options", reads=IV, may_be_absent=True, **_common)
_vrp = family("options", reads=(*ATM, *of(TOPIX, "C")), **(_common | {"source": f"{OPTIONS_225}, {TOPIX}"}))


def _sum(name: str, formula: str, window: int, lookback: int, *columns: str, **own: Any) -> Feature:
    return _atm(name, formula, window, lookback, reads=of(OPTIONS_225, "EmMrgnTrgDiv", *columns), **own)


FEATURES: tuple[Feature, ...] = (
    _atm("opt_iv_atm_near", "volatility at the money of the nearest expiry, a fraction a year", low=0.0),
    _atm(
        "opt_iv_atm_next",
        "volatility at the money of the second expiry; not a model input: near opt_iv_cmat_60d",
        low=0.0,
        model_input=False,
    ),
    _atm("opt_iv_cmat_30d", "volatility at the money of 30 days, between expiries by total variance", low=0.0),
    _atm("opt_iv_cmat_60d", "volatility at the money of 60 days, between expiries by total variance", low=0.0),
    _atm("opt_term_slope_30_60", "opt_iv_cmat_60d - opt_iv_cmat_30d"),
    _wing(
        "opt_skew_5pct",
        "IV of puts near K/S .95 less IV of calls near K/S 1.05, nearest expiry, both out of the money",
    ),
    _wing("opt_rr25", "IV of puts less IV of calls out of the money, both near a delta of a quarter, nearest expiry"),
    _wing("opt_smile_width", "std of IV out of the money where |K/S - 1| <= .1, nearest expiry", low=0.0),
    _atm("opt_iv_shock", "(opt_iv_cmat_30d - mean)/std over 20 days", 20, 20),
    _atm(
        "opt_iv_pctrank_60",
        "share of the last 60 days below opt_iv_cmat_30d; not a model input: the one of 252 days says it",
        60,
        60,
        low=0.0,
        high=1.0,
        model_input=False,
        may_be_constant=True,  # 0 in a month of falling volatility
    ),
    _atm(
        "opt_iv_pctrank_252",
        "share of the last 252 days below opt_iv_cmat_30d",
        252,
        252,
        low=0.0,
        high=1.0,
        may_be_constant=True,
    ),
    _atm("opt_iv_chg_5d", "ln(opt_iv_cmat_30d/opt_iv_cmat_30d[-5])", 5, 6),
    _vrp(
        "opt_vrp",
        "opt_iv_cmat_30d - std(m1, 20) sqrt(252), m1 the return of the TOPIX up to the day of the options",
        20,
        22,
    ),
    _vrp("opt_vrp_ratio", "ln(opt_iv_cmat_30d/(std(m1, 20) sqrt(252)))", 20, 22),
    _sum("opt_oi_put_call", "ln(open interest of puts/that of calls)", 1, 1, "OI", "PCDiv"),
    _sum("opt_vol_put_call", "ln((contracts of puts + 1)/(contracts of calls + 1))", 1, 1, "Vo", "PCDiv"),
    _sum("opt_pcr_mom5", "opt_vol_put_call - mean(opt_vol_put_call, 5)", 5, 6, "Vo", "PCDiv"),
    _sum("opt_vol_chg_20", "ln(contracts/mean(contracts, 20))", 20, 21, "Vo"),
    _sum("opt_oi_chg_1d", "ln(open interest/open interest[-1]); negative when an expiry has left", 2, 2, "OI"),
    _sum("opt_value_chg_20", "ln(turnover/mean(turnover, 20))", 20, 21, "Va"),
    _atm(
        "opt_days_to_expiry",
        "calendar days from t to the last day of the nearest expiry",
        low=0.0,
        may_be_constant=True,
    ),
)
VALIDITY = (
    _atm(
        "is_opt_mkt_valid",
        "1 where the options of the trading day before have a volatility of 30 days",
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
    ),
)


def option_features(options: pl.DataFrame, topix: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """The option columns.

    Args:
        options: COLUMNS of options_225, history included.
        topix: date, C, history included.
        days: date for which they are wanted, trading days.

    Returns:
        date and the features, Float32 (flags UInt8), null where no options of the last STALE trading days are known.
    """
    regular = options.select(COLUMNS).filter(pl.col("EmMrgnTrgDiv") == REGULAR)
    records = _with_windows(_sums(regular).join(_volatilities(regular), on="date", how="left").sort("date"), topix)
    known = of_days(records, days, STALE).with_columns(
        (pl.col("_near") - pl.col("date")).dt.total_days().clip(0).alias("opt_days_to_expiry")
    )
    return stored(known, TABLE.features, pl.col("opt_iv_cmat_30d").is_not_null())


def _with_windows(records: pl.DataFrame, topix: pl.DataFrame) -> pl.DataFrame:
    """With what runs over days: over those that have a volatility, and over all of them."""
    variance = topix.sort("date").select("date", (pl.col("C").pct_change().rolling_std(20) * ANNUAL).alias("_rv"))
    records = records.join(variance, on="date", how="left", maintain_order="left")
    iv, put_call = pl.col("opt_iv_cmat_30d"), pl.col("opt_vol_put_call")
    valued = records.filter(iv.is_not_null()).select(
        "date",
        ((iv - iv.rolling_mean(20)) / _some(iv.rolling_std(20))).alias("opt_iv_shock"),
        _share_below(iv, 60).alias("opt_iv_pctrank_60"),
        _share_below(iv, 252).alias("opt_iv_pctrank_252"),
        (iv / iv.shift(5)).log().alias("opt_iv_chg_5d"),
        (iv - pl.col("_rv")).alias("opt_vrp"),
        (iv / _some(pl.col("_rv"))).log().alias("opt_vrp_ratio"),
    )
    return records.with_columns(
        (put_call - put_call.rolling_mean(5)).alias("opt_pcr_mom5"),
        log_ratio(pl.col("_vo"), pl.col("_vo").rolling_mean(20)).alias("opt_vol_chg_20"),
        log_ratio(pl.col("_oi"), pl.col("_oi").shift(1)).alias("opt_oi_chg_1d"),
        log_ratio(pl.col("_va"), pl.col("_va").rolling_mean(20)).alias("opt_value_chg_20"),
    ).join(valued, on="date", how="left", maintain_order="left")


def _sums(options: pl.DataFrame) -> pl.DataFrame:
    """Sums over all contracts of a day, and when the last of them was out."""
    put, call = pl.col("PCDiv") == PUT, pl.col("PCDiv") == CALL

    def puts_to_calls(column: str, more: float) -> pl.Expr:
        puts, calls = pl.col(column).filter(put).sum() + more, pl.col(column).filter(call).sum() + more
        return log_ratio(puts, calls)

    return options.group_by("date").agg(
        pl.col(AVAILABLE_AT).max(),
        pl.col("Vo").sum().alias("_vo"),
        pl.col("OI").sum().alias("_oi"),
        pl.col("Va").sum().alias("_va"),
        puts_to_calls("OI", 0.0).alias("opt_oi_put_call"),
        puts_to_calls("Vo", 1.0).alias("opt_vol_put_call"),
    )


def _volatilities(options: pl.DataFrame) -> pl.DataFrame:
    """What each day's volatilities say, from options out of the money (at the money: both kinds)."""
    s, k = pl.col("UnderPx"), pl.col("Strike")
    usable = (
        options.filter((pl.col("IV") > LEAST_IV) & (pl.col("IV") < MOST_IV) & (s > 0) & (k > 0))
        .with_columns(
            pl.col("LTD").str.to_date("%Y-%m-%d", strict=False).alias("_last"), (pl.col("IV") / 100).alias("_iv")
        )
        .with_columns((pl.col("_last") - pl.col("date")).dt.total_days().alias("_days"), (k / s - 1).alias("_away"))
        .filter(pl.col("_days") >= FEWEST_DAYS)
    )
    spread = pl.col("_iv") * (pl.col("_days") / 365).sqrt()
    usable = usable.with_columns(((s / k).log() / spread + spread / 2).alias("_d1"))
    expiries = (
        usable.filter((k / s).log().abs() <= AT_THE_MONEY)
        .group_by("date", "_last", "_days")
        .agg(pl.col("_iv").median().alias("_atm"))
        .sort("date", "_days")
        .with_columns(pl.int_range(pl.len()).over("date").alias("_rank"))
    )
    near = expiries.filter(pl.col("_rank") == 0).select(
        "date", pl.col("_last").alias("_near"), pl.col("_atm").alias("opt_iv_atm_near")
    )
    second = expiries.filter(pl.col("_rank") == 1).select("date", pl.col("_atm").alias("opt_iv_atm_next"))
    terms = [_constant_maturity(expiries, days) for days in (30, 60)]
    wings = (
        usable.join(near.select("date", "_near"), on="date")
        .filter((pl.col("_last") == pl.col("_near")) & ((pl.col("PCDiv") == PUT) == (pl.col("_away") < 0)))
        .group_by("date")
        .agg(
            (_at("_away", -0.05, PUT, 0.025) - _at("_away", 0.05, CALL, 0.025)).alias("opt_skew_5pct"),
            (_at("_d1", QUARTER, PUT, 0.3) - _at("_d1", -QUARTER, CALL, 0.3)).alias("opt_rr25"),
            pl.col("_iv").filter(pl.col("_away").abs() <= 0.1).std().alias("opt_smile_width"),
        )
    )
    out = near
    for part in (second, *terms, wings):
        out = out.join(part, on="date", how="left")
    return out.with_columns((pl.col("opt_iv_cmat_60d") - pl.col("opt_iv_cmat_30d")).alias("opt_term_slope_30_60"))


def _at(place: str, value: float, kind: str, width: float) -> pl.Expr:
    """Volatility of one kind of option at a place: mean over strikes near it, nearer ones weighing more."""
    weight = (1 - (pl.col(place) - value).abs() / width).clip(0)
    mine = (pl.col("PCDiv") == kind) & (weight > 0)
    total = weight.filter(mine).sum()
    return pl.when(total > 0).then((weight * pl.col("_iv")).filter(mine).sum() / total)


def _constant_maturity(expiries: pl.DataFrame, days: int) -> pl.DataFrame:
    """Volatility at the money of a maturity: total variance between the expiries around it; outside, the nearest's."""
    tau, variance = pl.col("_days"), pl.col("_atm") ** 2 * pl.col("_days")
    below, above = tau <= days, tau >= days
    low_t, high_t = tau.filter(below).max(), tau.filter(above).min()
    low_v = variance.filter(below).sort_by(tau.filter(below)).last()
    high_v = variance.filter(above).sort_by(tau.filter(above)).first()
    share = pl.when(high_t > low_t).then((days - low_t) / (high_t - low_t)).otherwise(0.0)
    between = low_v + (high_v - low_v) * share
    total = pl.coalesce(between, low_v / low_t * days, high_v / high_t * days)
    name = f"opt_iv_cmat_{days}d"
    return expiries.group_by("date").agg((total / days).clip(0).sqrt().alias(name))


def _share_below(x: pl.Expr, window: int) -> pl.Expr:
    """Share of the last values that lie below the newest."""
    return (x.rolling_rank(window, method="min") - 1) / (window - 1)


def _some(x: pl.Expr) -> pl.Expr:
    return pl.when(x > TINY).then(x)


def build(inputs: Reader) -> pl.DataFrame:
    """The option columns of a block; the days are those of the TOPIX."""
    topix = inputs.read(TOPIX, ("date", "C"))
    return option_features(inputs.read(OPTIONS_225, COLUMNS), topix, topix.select("date"))


TABLE = FeatureTable(
    name=OPTION,
    description="Twenty-one columns of the Nikkei 225 options of the trading day before. Needs the plan Standard.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={OPTIONS_225: LOOKBACK_MONTHS, TOPIX: LOOKBACK_MONTHS},
    lineage={"date": of(TOPIX, "date")},
    per="day",
    plan=Plan.STANDARD,
    needs="the Nikkei 225 options",
)
