"""Price, volume, momentum and shape features: one stock's own traded rows, ratios only.

Forty-three price and volume columns in the tradition of the seed system (returns, volatilities, averages, ranges,
volume), with every price or volume LEVEL replaced by a ratio or by yen, then momentum, liquidity and the intraday
shape that sequence models feed on.
"""

from __future__ import annotations

import polars as pl

from atft_assets.features.feature import Feature, family
from atft_assets.features.names import adjusted, same_day
from atft_assets.features.rolling import (
    ANNUAL,
    EMA_MEMORY,
    TINY,
    correlation,
    ema,
    finish,
    lag,
    mean,
    own,
    parkinson,
    ratio,
    std,
    with_moments,
)

CLOSE, HIGH_LOW = adjusted("C"), same_day("H", "L")
_momentum = family("momentum", reads=CLOSE)
_price = family("price", reads=CLOSE)
_shape = family("shape", reads=CLOSE)
_bar = family("shape", low=-1.0, core=True, coverage=0.7, sequence=True)  # a day's prices against the one before
_volatility = family("volatility", reads=CLOSE)
_volume = family("volume", reads=CLOSE)
_LOG_NOTE = "; not a model input: ranks of a day equal those of returns_{h}d"

PRICE = (
    *(
        _price(
            f"returns_{h}d",
            f"C/C[-{h}] - 1",
            h,
            h,
            low=-1.0,
            core=True,
            coverage=0.7 if h == 1 else 0.5,
            sequence=h == 1,
        )
        for h in (1, 5, 10, 20, 60, 120)
    ),
    *(
        _price(f"log_returns_{h}d", f"ln(C/C[-{h}]){_LOG_NOTE.format(h=h)}", h, h, model_input=False)
        for h in (1, 5, 10, 20)
    ),
    *(
        _volatility(f"volatility_{w}d", f"std(r1, {w}) * sqrt(252)", w, w, low=0.0, core=w in (20, 60))
        for w in (5, 10, 20, 60)
    ),
    _volatility(
        "realized_volatility",
        "sqrt(252 * mean(ln(H/L)^2, 20) / (4 ln 2)) (Parkinson 1980)",
        20,
        19,
        low=0.0,
        core=True,
        reads=HIGH_LOW,
    ),
    *(
        _price(
            f"price_to_sma_{w}", f"C/mean(C, {w}) - 1 (sma_{w} as a ratio)", w, w - 1, low=-1.0, core=w in (5, 20, 60)
        )
        for w in (5, 10, 20, 60, 120)
    ),
    *(
        _price(f"sma_gap_{a}_{b}", f"mean(C, {a})/mean(C, {b}) - 1", b, b - 1, low=-1.0)
        for a, b in ((5, 20), (20, 60), (60, 120))
    ),
    *(
        _price(
            f"price_to_ema_{w}",
            f"C/EMA(C, {w}) - 1 (ema_{w} as a ratio; memory {EMA_MEMORY[w]} rows)"
            + ("" if w == 60 else f"; not a model input: close to price_to_sma_{w}"),
            EMA_MEMORY[w],
            EMA_MEMORY[w],
            low=-1.0,
            model_input=w == 60,
        )
        for w in (5, 10, 20, 60)
    ),
    _price("ema200_slope", "EMA(C, 200)/EMA(C, 200)[-1] - 1", 240, 241, low=-1.0),
    *(
        _price(f"ma_gap_{a}_{b}", f"EMA(C, {a})/EMA(C, {b}) - 1", EMA_MEMORY[b], EMA_MEMORY[b], low=-1.0, core=True)
        for a, b in ((5, 20), (20, 60))
    ),
    *(
        _price(f"ema{w}_slope", f"EMA(C, {w})/EMA(C, {w})[-1] - 1", EMA_MEMORY[w] + 1, EMA_MEMORY[w] + 1, low=-1.0)
        for w in (5, 20, 60)
    ),
    _price("dist_to_200ema", "C/EMA(C, 200) - 1 (memory 240 rows)", 240, 240, low=-1.0, core=True),
    _shape("high_low_ratio", "H/L", 1, 0, low=1.0 - 1e-6, core=True, coverage=0.7, reads=HIGH_LOW, sequence=True),
    _shape(
        "close_to_high",
        "(H - C)/(H - L); null where H = L",
        1,
        0,
        low=-1e-6,
        high=1 + 1e-6,
        core=True,
        reads=same_day("H", "L", "C"),
        sequence=True,
    ),
    _shape(
        "close_to_low",
        "(C - L)/(H - L) = 1 - close_to_high; null where H = L",
        1,
        0,
        low=-1e-6,
        high=1 + 1e-6,
        core=True,
        reads=same_day("H", "L", "C"),
    ),
    _volume(
        "volume_ma_gap_5_20",
        "mean(V, 5)/mean(V, 20) - 1 (volume_ma_5 as a ratio)",
        20,
        19,
        low=-1.0,
        reads=adjusted("Vo"),
    ),
    _volume(
        "log_adv_20",
        "ln(mean(turnover in yen, 20)) (volume_ma_20 in yen, which no split changes)",
        20,
        19,
        reads=same_day("Va"),
    ),
    *(
        _volume(
            f"volume_ratio_{w}", f"V/mean(V, {w})", w, w - 1, low=0.0, core=True, reads=adjusted("Vo"), sequence=w == 20
        )
        for w in (5, 20)
    ),
    _volume(
        "turnover_to_mean_60",
        "turnover in yen / its mean over 60 rows (in place of turnover_rate, whose shares outstanding come with "
        "statements, not with bars)",
        60,
        59,
        low=0.0,
        reads=same_day("Va"),
    ),
    _volume(
        "log_turnover", "ln(turnover in yen) (dollar_volume)", 1, 0, core=True, reads=same_day("Va"), sequence=True
    ),
)

MOMENTUM = (
    _momentum("mom_240_20", "C[-20]/C[-240] - 1 (a year, its last month left out)", 240, 240, low=-1.0),
    _momentum("ret_20_5", "C[-5]/C[-20] - 1 (a month, its last week left out)", 20, 20, low=-1.0),
    _momentum("dist_to_high_240", "C/max(H, 240) - 1", 240, 239, low=-1.0, high=1e-6, reads=adjusted("H", "C")),
    _momentum("dist_to_high_60", "C/max(H, 60) - 1", 60, 59, low=-1.0, high=1e-6, reads=adjusted("H", "C")),
    _momentum("dist_to_low_60", "C/min(L, 60) - 1", 60, 59, low=-1e-6, reads=adjusted("L", "C")),
    _momentum("efficiency_20", "|C - C[-20]| / sum(|C - C[-1]|, 20) (Kaufman)", 20, 20, low=0.0, high=1 + 1e-6),
    _momentum("up_day_share_20", "share of the last 20 rows with r1 > 0", 20, 20, low=0.0, high=1.0),
    _momentum("ret_autocorr_20", "correlation of r1 and r1[-1] over 20 rows", 20, 21, low=-1.001, high=1.001),
)

VOLUME = (
    _volume(
        "log_turnover_change_1d", "ln(turnover/turnover[-1])", 1, 1, core=True, reads=same_day("Va"), sequence=True
    ),
    _volume("turnover_z_60", "(ln turnover - mean60)/std60 of ln turnover", 60, 59, reads=same_day("Va")),
    _volume(
        "amihud_20", "ln(mean(|r1| / turnover in yen, 20)) (Amihud 2002)", 20, 20, core=True, reads=adjusted("C", "Va")
    ),
    _volume("turnover_cv_20", "std(turnover, 20)/mean(turnover, 20)", 20, 19, low=0.0, reads=same_day("Va")),
    _volume(
        "price_volume_corr_20",
        "correlation of r1 and ln(turnover/turnover[-1]) over 20 rows",
        20,
        20,
        low=-1.001,
        high=1.001,
        core=True,
        reads=adjusted("C", "Va"),
    ),
    _volume(
        "signed_volume_20", "sum(sign(r1) V, 20)/sum(V, 20)", 20, 20, low=-1.001, high=1.001, reads=adjusted("C", "Vo")
    ),
    _volume(
        "zero_return_share_20",
        "share of the last 20 rows with r1 = 0 (illiquidity)",
        20,
        20,
        low=0.0,
        high=1.0,
        may_be_constant=True,
    ),
    _volume("volume_ma_gap_20_60", "mean(V, 20)/mean(V, 60) - 1", 60, 59, low=-1.0, reads=adjusted("Vo")),
)

SHAPE = (
    _bar("ret_overnight", "O/C[-1] - 1", 1, 1, reads=adjusted("O", "C")),
    _bar("ret_intraday", "C/O - 1", 1, 0, reads=same_day("O", "C")),
    _bar("high_to_prev_close", "H/C[-1] - 1", 1, 1, reads=adjusted("H", "C")),
    _bar("low_to_prev_close", "L/C[-1] - 1", 1, 1, reads=adjusted("L", "C")),
    _shape("upper_shadow", "(H - max(O, C))/C[-1]", 1, 1, low=-1e-6, reads=adjusted("O", "H", "C")),
    _shape("lower_shadow", "(min(O, C) - L)/C[-1]", 1, 1, low=-1e-6, reads=adjusted("O", "L", "C")),
    _shape(
        "body_to_range",
        "(C - O)/(H - L); null where H = L",
        1,
        0,
        low=-1.001,
        high=1.001,
        reads=same_day("O", "H", "L", "C"),
    ),
    _shape("intraday_mom_5", "sum(ret_intraday, 5)", 5, 4, core=True, reads=same_day("O", "C")),
    _shape("intraday_mom_20", "sum(ret_intraday, 20)", 20, 19, reads=same_day("O", "C")),
    _shape("overnight_mom_5", "sum(ret_overnight, 5)", 5, 5, reads=adjusted("O", "C")),
    _shape("overnight_mom_20", "sum(ret_overnight, 20)", 20, 20, core=True, reads=adjusted("O", "C")),
    _shape(
        "close_place_5",
        "(C - min(L, 5))/(max(H, 5) - min(L, 5))",
        5,
        4,
        low=-1e-6,
        high=1 + 1e-6,
        reads=adjusted("H", "L", "C"),
    ),
)

VALIDITY = (
    Feature(
        "is_traded",
        "validity",
        "1 where the name traded on t",
        1,
        0,
        "flag",
        low=0,
        high=1,
        model_input=False,
        reads=same_day("O", "H", "L", "C", "Vo"),
    ),
    *(
        Feature(
            f"is_{name}_valid",
            "validity",
            f"1 from the {rows}th own row on",
            rows,
            rows,
            "flag",
            low=0,
            high=1,
            model_input=False,
            reads=same_day("O", "H", "L", "C", "Vo"),
        )
        for name, rows in (("rsi2", 5), ("ema5", 15), ("ema10", 30), ("ema20", 60), ("ema200", 200))
    ),
)

FEATURES = PRICE + MOMENTUM + VOLUME + SHAPE


def price_features(bars: pl.LazyFrame) -> pl.LazyFrame:
    """The PRICE, MOMENTUM, VOLUME and SHAPE columns.

    Args:
        bars: adjusted bars (see `bars.adjusted_bars`), sorted by code and date.

    Returns:
        date, code and the features, Float32, rows in the order of `bars`.
    """
    o, h, low, c, v, va = (pl.col(name) for name in ("o", "h", "l", "c", "v", "va"))
    frame = bars.with_columns(
        lag("c", 1).alias("pc"),
        (h / low).log().alias("_ln_hl"),
        va.log().alias("_ln_va"),
        *(ema("c", w).alias(f"_ema_{w}") for w in (5, 10, 20, 60, 200)),
        *(mean("c", w).alias(f"_sma_{w}") for w in (5, 10, 20, 60, 120)),
        *(mean("v", w).alias(f"_vma_{w}") for w in (5, 20, 60)),
        *(mean("va", w).alias(f"_ama_{w}") for w in (20, 60)),
    ).with_columns(
        (c / pl.col("pc") - 1).alias("r1"),
        (o / pl.col("pc") - 1).alias("_on"),
        (c / o - 1).alias("_in"),
        (pl.col("_ln_va") - lag("_ln_va", 1)).alias("_dln_va"),
        own(h.rolling_max(240)).alias("_high_240"),
        own(h.rolling_max(60)).alias("_high_60"),
        own(low.rolling_min(60)).alias("_low_60"),
        own(h.rolling_max(5)).alias("_high_5"),
        own(low.rolling_min(5)).alias("_low_5"),
        (c - pl.col("pc")).abs().alias("_abs_change"),
    )
    r1 = pl.col("r1")
    frame = frame.with_columns(  # what is used twice is a column: Polars computes a repeated window again
        (r1.abs() / va).alias("_illiquidity"),
        r1.sign().mul(v).alias("_signed_volume"),
        lag("r1", 1).alias("_r1_lag"),
        pl.when(r1.is_not_null()).then(r1.abs() < TINY).cast(pl.Float64).alias("_zero"),
        pl.when(r1.is_not_null()).then(r1 > TINY).cast(pl.Float64).alias("_up"),
        own(pl.col("_abs_change").rolling_sum(20)).alias("_path"),
        std("_ln_va", 60).alias("_std_ln_va"),
    ).with_columns(mean("_illiquidity", 20).alias("_amihud"))
    frame = with_moments(frame, "_auto", "r1", "_r1_lag", 20)
    frame = with_moments(frame, "_price_volume", "r1", "_dln_va", 20)
    returns = {h_: c / lag("c", h_) - 1 for h_ in (1, 5, 10, 20, 60, 120)}
    spread = h - low
    columns: dict[str, pl.Expr] = {
        **{f"returns_{n}d": e for n, e in returns.items()},
        **{f"log_returns_{n}d": (c / lag("c", n)).log() for n in (1, 5, 10, 20)},
        **{f"volatility_{w}d": std("r1", w) * ANNUAL for w in (5, 10, 20, 60)},
        "realized_volatility": parkinson("_ln_hl", 20),
        **{f"price_to_sma_{w}": c / pl.col(f"_sma_{w}") - 1 for w in (5, 10, 20, 60, 120)},
        **{
            f"sma_gap_{a}_{b}": pl.col(f"_sma_{a}") / pl.col(f"_sma_{b}") - 1 for a, b in ((5, 20), (20, 60), (60, 120))
        },
        **{f"price_to_ema_{w}": c / pl.col(f"_ema_{w}") - 1 for w in (5, 10, 20, 60)},
        **{f"ema{w}_slope": pl.col(f"_ema_{w}") / lag(f"_ema_{w}", 1) - 1 for w in (5, 20, 60, 200)},
        **{f"ma_gap_{a}_{b}": pl.col(f"_ema_{a}") / pl.col(f"_ema_{b}") - 1 for a, b in ((5, 20), (20, 60))},
        "dist_to_200ema": c / pl.col("_ema_200") - 1,
        "high_low_ratio": h / low,
        "close_to_high": ratio(h - c, spread),
        "close_to_low": ratio(c - low, spread),
        "volume_ma_gap_5_20": pl.col("_vma_5") / pl.col("_vma_20") - 1,
        "log_adv_20": pl.col("_ama_20").log(),
        **{f"volume_ratio_{w}": v / pl.col(f"_vma_{w}") for w in (5, 20)},
        "turnover_to_mean_60": va / pl.col("_ama_60"),
        "log_turnover": pl.col("_ln_va"),
        "mom_240_20": lag("c", 20) / lag("c", 240) - 1,
        "ret_20_5": lag("c", 5) / lag("c", 20) - 1,
        "dist_to_high_240": c / pl.col("_high_240") - 1,
        "dist_to_high_60": c / pl.col("_high_60") - 1,
        "dist_to_low_60": c / pl.col("_low_60") - 1,
        "efficiency_20": ratio((c - lag("c", 20)).abs(), pl.col("_path"), 0).clip(0, 1),
        "up_day_share_20": mean("_up", 20).clip(0, 1),
        "ret_autocorr_20": correlation("_auto"),
        "log_turnover_change_1d": pl.col("_dln_va"),
        "turnover_z_60": ratio(pl.col("_ln_va") - mean("_ln_va", 60), pl.col("_std_ln_va"), TINY),
        "amihud_20": _log_positive(pl.col("_amihud")),
        "turnover_cv_20": std("va", 20) / pl.col("_ama_20"),
        "price_volume_corr_20": correlation("_price_volume"),
        "signed_volume_20": mean("_signed_volume", 20) / pl.col("_vma_20"),
        "zero_return_share_20": mean("_zero", 20).clip(0, 1),
        "volume_ma_gap_20_60": pl.col("_vma_20") / pl.col("_vma_60") - 1,
        "ret_overnight": pl.col("_on"),
        "ret_intraday": pl.col("_in"),
        "high_to_prev_close": h / pl.col("pc") - 1,
        "low_to_prev_close": low / pl.col("pc") - 1,
        "upper_shadow": (h - pl.max_horizontal("o", "c")) / pl.col("pc"),
        "lower_shadow": (pl.min_horizontal("o", "c") - low) / pl.col("pc"),
        "body_to_range": ratio(c - o, spread),
        "intraday_mom_5": own(pl.col("_in").rolling_sum(5)),
        "intraday_mom_20": own(pl.col("_in").rolling_sum(20)),
        "overnight_mom_5": own(pl.col("_on").rolling_sum(5)),
        "overnight_mom_20": own(pl.col("_on").rolling_sum(20)),
        "close_place_5": ratio(c - pl.col("_low_5"), pl.col("_high_5") - pl.col("_low_5")),
    }
    return finish(frame, FEATURES, columns)


def validity_flags(bars: pl.LazyFrame) -> pl.LazyFrame:
    """date, code and how many own rows a name has behind it, as flags. `is_traded` is 1: the rows are traded ones.

    Counted from the first day of the look-back, so that the flag of a day does not depend on how much history was
    read.
    """
    rows = {f.name: pl.col("depth") >= f.lookback - 1 for f in VALIDITY[1:]}
    return finish(bars, VALIDITY, {"is_traded": pl.lit(1), **rows})


def _log_positive(expression: pl.Expr) -> pl.Expr:
    return pl.when(expression > 0).then(expression.log())
