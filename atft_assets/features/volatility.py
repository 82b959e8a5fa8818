"""Range-based volatilities and the tails of the return, on a stock's own traded rows. Annualised with sqrt(252)."""

from __future__ import annotations

import polars as pl

from atft_assets.features.feature import family
from atft_assets.features.names import adjusted, same_day
from atft_assets.features.rolling import ANNUAL, STILL, TINY, finish, finite, lag, mean, own, parkinson, ratio, std
from atft_assets.features.technical import true_range

CLOSE, BAR = adjusted("C"), same_day("O", "H", "L", "C")
_volatility = family("volatility", reads=CLOSE)

FEATURES = (
    _volatility(
        "pk_vol_60",
        "sqrt(252 mean(ln(H/L)^2, 60)/(4 ln 2)) (Parkinson 1980)",
        60,
        59,
        low=0.0,
        reads=same_day("H", "L"),
    ),
    *(
        _volatility(
            f"rs_vol_{w}",
            f"sqrt(252 mean(ln(H/O) ln(H/C) + ln(L/O) ln(L/C), {w})) (Rogers and Satchell 1991)"
            + ("; not a model input: most of yz_vol_20" if w == 20 else ""),
            w,
            w - 1,
            low=0.0,
            model_input=w == 60,
            reads=BAR,
        )
        for w in (20, 60)
    ),
    *(
        _volatility(
            f"yz_vol_{w}",
            f"sqrt(252 (var(ln O/C[-1]) + k var(ln C/O) + (1 - k) RS)) over w = {w}, "
            "k = 0.34/(1.34 + (w + 1)/(w - 1)) (Yang and Zhang 2000)",
            w,
            w,
            low=0.0,
            core=w == 20,
            reads=adjusted("O", "H", "L", "C"),
        )
        for w in (20, 60)
    ),
    *(
        _volatility(f"vov_{w}", f"std(yz_vol_{w}, {w})", w, 2 * w - 1, low=0.0, reads=adjusted("O", "H", "L", "C"))
        for w in (20, 60)
    ),
    _volatility("vol_ratio_5_60", "std(r1, 5)/std(r1, 60)", 60, 60, low=0.0, core=True),
    _volatility("downside_share_20", "sum(min(r1, 0)^2, 20)/sum(r1^2, 20)", 20, 20, low=-1e-6, high=1 + 1e-6),
    _volatility("max_ret_20", "max(r1, 20) (Bali, Cakici and Whitelaw 2011)", 20, 20, low=-1.0, core=True),
    _volatility("min_ret_20", "min(r1, 20)", 20, 20, low=-1.0),
    _volatility("skew_60", "skewness of r1 over 60 rows", 60, 60),
    _volatility("range_to_atr_14", "true range / mean(true range, 14)", 14, 14, low=0.0, reads=adjusted("H", "L", "C")),
    _volatility(
        "overnight_vol_share_20",
        "var(ln O/C[-1], 20)/(var(ln O/C[-1], 20) + var(ln C/O, 20))",
        20,
        20,
        low=-1e-6,
        high=1 + 1e-6,
        reads=adjusted("O", "C"),
    ),
)


def volatility_features(bars: pl.LazyFrame) -> pl.LazyFrame:
    """date, code and the volatility columns, Float32, rows in the order of `bars` (adjusted, sorted by code and
    date).
    """
    o, h, low, c = (pl.col(name).log() for name in ("o", "h", "l", "c"))
    frame = bars.with_columns(
        (pl.col("c") / lag("c", 1) - 1).alias("r1"),
        (h - low).alias("_ln_hl"),
        (o - lag("c", 1).log()).alias("_overnight"),
        (c - o).alias("_open_close"),
        ((h - o) * (h - c) + (low - o) * (low - c)).alias("_rs"),
        true_range().alias("tr"),
    ).with_columns(
        # what is used twice is a column: Polars computes a repeated window again
        *(own(pl.col("_overnight").rolling_var(w)).alias(f"_overnight_var_{w}") for w in (20, 60)),
        *(own(pl.col("_open_close").rolling_var(w)).alias(f"_open_close_var_{w}") for w in (20, 60)),
        *(mean("_rs", w).alias(f"_rs_mean_{w}") for w in (20, 60)),
        std("r1", 60).alias("_std_60"),
        own(pl.col("r1").rolling_skew(60, min_samples=60)).alias("_skew"),
        mean("tr", 14).alias("_tr_mean"),
        (pl.col("r1").clip(upper_bound=0) ** 2).alias("_down2"),
        (pl.col("r1") ** 2).alias("_r2"),
    )
    frame = frame.with_columns(
        *(yang_zhang(w).alias(f"yz_vol_{w}") for w in (20, 60)), mean("_r2", 20).alias("_r2_mean")
    )
    overnight, open_close = pl.col("_overnight_var_20"), pl.col("_open_close_var_20")
    columns = {
        "pk_vol_60": parkinson("_ln_hl", 60),
        **{f"rs_vol_{w}": pl.col(f"_rs_mean_{w}").clip(0).sqrt() * ANNUAL for w in (20, 60)},
        **{f"vov_{w}": std(f"yz_vol_{w}", w) for w in (20, 60)},
        "vol_ratio_5_60": ratio(std("r1", 5), pl.col("_std_60"), STILL**0.5),
        "downside_share_20": ratio(mean("_down2", 20), pl.col("_r2_mean"), STILL),
        "max_ret_20": own(pl.col("r1").rolling_max(20)),
        "min_ret_20": own(pl.col("r1").rolling_min(20)),
        "skew_60": pl.when(pl.col("_std_60") > STILL**0.5).then(finite(pl.col("_skew"))),
        "range_to_atr_14": ratio(pl.col("tr") / pl.col("c"), pl.col("_tr_mean") / pl.col("c"), TINY),
        "overnight_vol_share_20": ratio(overnight, overnight + open_close, STILL),
    }
    return finish(frame, FEATURES, columns)


def yang_zhang(w: int) -> pl.Expr:
    """Yang and Zhang's volatility (Journal of Business 73, 2000), annualised, from the columns of the window's
    variances."""
    k = 0.34 / (1.34 + (w + 1) / (w - 1))
    overnight, open_close, rs = (pl.col(f"_{x}_{w}") for x in ("overnight_var", "open_close_var", "rs_mean"))
    return (overnight + k * open_close + (1 - k) * rs).clip(0).sqrt() * ANNUAL
