"""Futures: twenty columns of the TOPIX, Nikkei 225, government bond and Nikkei volatility futures, one row a day.

A day's futures are out at 03:00 of the next day, its night session among them, so a row dated t holds what was traded
on t - 1. Of a product the central contract month counts, in the regular settlement (002); a return is that of one
contract, whose settlement of the day before may have been no central one, so no roll is a return. A price of zero is
none. What is open and what is traded is summed over the product's contracts.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from atft_assets.features.asof import AVAILABLE_AT
from atft_assets.features.evenings import log_ratio, of_days, stored
from atft_assets.features.event_feature import event_family
from atft_assets.features.feature import Feature, family
from atft_assets.features.names import FUTURE, FUTURES, TOPIX, of
from atft_assets.features.rolling import TINY
from atft_assets.features.table import FeatureTable, Reader
from atft_assets.settings import Plan

LOOKBACK_MONTHS = 6
REGULAR, CENTRAL = "002", "1"
STALE = 3  # trading days between a row and the futures that it speaks of; one is the rule
PRODUCTS = {"topix": "TOPIXF", "nikkei": "NK225F", "bond": "JGBLF", "vi": "NKVIF"}
STOCKS = ("topix", "nikkei")
COLUMNS = (
    "date", "code", "ProdCat", "CCMFlag", "EmMrgnTrgDiv", "LTD", "Settle", "C", "EH", "EL", "EC", "Vo", "OI",
    AVAILABLE_AT,
)  # fmt: skip
KNOWN = "03:00 of t: futures of the trading day before"

CHOSEN = of(FUTURES, "code", "ProdCat", "CCMFlag", "EmMrgnTrgDiv", "Vo")
PRICE = (*CHOSEN, *of(FUTURES, "Settle", "C"))
SUMMED = of(FUTURES, "ProdCat", "EmMrgnTrgDiv")
_common: dict[str, Any] = {"kind": "market", "source": FUTURES, "availability": KNOWN, "coverage": 0.8}
_feature = event_family("futures", reads=PRICE, **_common)
_basis = family("futures", reads=(*PRICE, *of(TOPIX, "C")), **(_common | {"source": f"{FUTURES}, {TOPIX}"}))


def _of_stocks(name: str, product: str) -> tuple[Feature, ...]:
    what = {"topix": "TOPIX", "nikkei": "Nikkei 225"}[product]
    return (
        _feature(f"fut_{name}_ret_1d", f"F/F[-1] - 1, F the settlement of the {what} future", 1, 2, low=-1.0),
        _feature(
            f"fut_{name}_night_ret",
            "close of its night session/settlement before - 1",
            1,
            2,
            low=-1.0,
            reads=(*PRICE, *of(FUTURES, "EC")),
            may_be_absent=True,
        ),
        _feature(
            f"fut_{name}_night_range",
            "ln(high/low) of its night session",
            1,
            1,
            low=0.0,
            reads=(*CHOSEN, *of(FUTURES, "EH", "EL")),
            may_be_absent=True,
        ),
        _feature(
            f"fut_{name}_carry",
            "ln(next contract/central one) x 365/days between their last days, cut at 1",
            1,
            1,
            low=-1.0,
            high=1.0,
            reads=(*PRICE, *of(FUTURES, "LTD")),
            may_be_absent=True,
        ),
        _feature(
            f"fut_{name}_oi_chg_5d", "ln(open interest/open interest[-5])", 5, 6, reads=(*SUMMED, *of(FUTURES, "OI"))
        ),
        _feature(
            f"fut_{name}_vol_chg_20", "ln(contracts/mean(contracts, 20))", 20, 20, reads=(*SUMMED, *of(FUTURES, "Vo"))
        ),
        _feature(
            f"fut_{name}_price_oi_5d",
            "its return of 5 days, with the sign of the change of open interest: whether positions were opened along",
            5,
            6,
            reads=(*PRICE, *of(FUTURES, "OI")),
        ),
    )


FEATURES: tuple[Feature, ...] = (
    *_of_stocks("topix", "topix"),
    *_of_stocks("nikkei", "nikkei"),
    _basis("fut_topix_basis", "ln(F/M), M the TOPIX of the same day", 1, 1),
    _basis("fut_topix_basis_z", "(fut_topix_basis - mean)/std over 60 days", 60, 60),
    _feature("fut_nikkei_topix_5d", "return of 5 days of the Nikkei future less that of the TOPIX future", 5, 6),
    _feature("fut_bond_ret_5d", "return of 5 days of the government bond future", 5, 6),
    _feature("fut_bond_ret_20d", "return of 20 days of the government bond future", 20, 21),
    _feature(
        "fut_vi_chg_5d", "return of 5 days of the future on the Nikkei volatility index", 5, 6, may_be_absent=True
    ),
)
VALIDITY = (
    _feature(
        "is_fut_valid",
        "1 where a return of the TOPIX future of the trading day before is known",
        kind="flag",
        low=0,
        high=1,
        model_input=False,
        family="validity",
    ),
)


def futures_features(futures: pl.DataFrame, topix: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """The futures columns.

    Args:
        futures: COLUMNS of futures, history included.
        topix: date, C, history included.
        days: date for which they are wanted, trading days.

    Returns:
        date and the features, Float32 (flags UInt8), null where no futures of the last STALE trading days are known.
    """
    contracts = _contracts(futures)
    index = topix.select("date", pl.col("C").alias("_m"))
    records = contracts.group_by("date").agg(pl.col(AVAILABLE_AT).max()).sort("date")
    for name, product in PRODUCTS.items():
        own = _of_product(contracts.filter(pl.col("ProdCat") == product), name)
        records = records.join(own, on="date", how="left", maintain_order="left")
    records = records.join(index, on="date", how="left", maintain_order="left").with_columns(
        log_ratio(pl.col("_f_topix"), pl.col("_m")).alias("fut_topix_basis"),
        (pl.col("_ret5_nikkei") - pl.col("_ret5_topix")).alias("fut_nikkei_topix_5d"),
        pl.col("_ret5_bond").alias("fut_bond_ret_5d"),
        pl.col("_ret20_bond").alias("fut_bond_ret_20d"),
        pl.col("_ret5_vi").alias("fut_vi_chg_5d"),
    )
    basis = pl.col("fut_topix_basis")
    spread = basis.rolling_std(60)
    records = records.with_columns(
        pl.when(spread > TINY).then((basis - basis.rolling_mean(60)) / spread).alias("fut_topix_basis_z")
    )
    return stored(of_days(records, days, STALE), TABLE.features, pl.col("fut_topix_ret_1d").is_not_null())


def _contracts(futures: pl.DataFrame) -> pl.DataFrame:
    """The regular rows of the products, with the settlement of each contract before."""
    session = {name: pl.col(name).cast(pl.Float64, strict=False) for name in ("EH", "EL", "EC")}
    rows = (
        futures.select(COLUMNS)
        .filter((pl.col("EmMrgnTrgDiv") == REGULAR) & pl.col("ProdCat").is_in(PRODUCTS.values()))
        .with_columns(
            pl.coalesce(_positive(pl.col("Settle")), _positive(pl.col("C"))).alias("_f"),
            *(_positive(value).alias(name) for name, value in session.items()),
            pl.col("LTD").str.to_date("%Y-%m-%d", strict=False).alias("_last"),
        )
        .sort("date")
    )
    days = rows.select(pl.col("date").unique().sort()).with_columns(pl.col("date").shift(-1).alias("_next"))
    before = rows.join(days, on="date").select("code", pl.col("_next").alias("date"), pl.col("_f").alias("_before"))
    return rows.join(before, on=["date", "code"], how="left", maintain_order="left")


def _of_product(contracts: pl.DataFrame, name: str) -> pl.DataFrame:
    """A row a day of one product: the central contract, or where none is marked the one that trades most."""
    marked = (pl.col("CCMFlag") == CENTRAL).fill_null(False)
    central = contracts.sort("date", marked, "Vo", "code", descending=[False, True, True, False]).unique(
        "date", keep="first", maintain_order=True
    )
    later = (
        contracts.join(central.select("date", pl.col("_last").alias("_near")), on="date")
        .filter(pl.col("_last") > pl.col("_near"))
        .sort("date", "_last")
        .unique("date", keep="first", maintain_order=True)
        .select("date", pl.col("_f").alias("_f_later"), pl.col("_last").alias("_last_later"))
    )
    sums = contracts.group_by("date").agg(pl.col("OI").sum().alias("_oi"), pl.col("Vo").sum().alias("_vo"))
    frame = (
        central.join(later, on="date", how="left", maintain_order="left")
        .join(sums, on="date", how="left", maintain_order="left")
        .with_columns((pl.col("_f") / pl.col("_before") - 1).alias("_ret"))
        .with_columns(
            (_compounded("_ret", 5)).alias(f"_ret5_{name}"),
            (_compounded("_ret", 20)).alias(f"_ret20_{name}"),
            log_ratio(pl.col("_oi"), pl.col("_oi").shift(5)).alias("_oi5"),
        )
    )
    found = [pl.col("_f").alias(f"_f_{name}"), pl.col(f"_ret5_{name}"), pl.col(f"_ret20_{name}")]
    if name not in STOCKS:
        return frame.select("date", *found)
    apart = (pl.col("_last_later") - pl.col("_last")).dt.total_days()
    return frame.select(
        "date",
        *found,
        pl.col("_ret").alias(f"fut_{name}_ret_1d"),
        (pl.col("EC") / pl.col("_before") - 1).alias(f"fut_{name}_night_ret"),
        log_ratio(pl.col("EH"), pl.col("EL")).alias(f"fut_{name}_night_range"),
        (log_ratio(pl.col("_f_later"), pl.col("_f")) * 365 / apart).clip(-1, 1).alias(f"fut_{name}_carry"),
        pl.col("_oi5").alias(f"fut_{name}_oi_chg_5d"),
        log_ratio(pl.col("_vo"), pl.col("_vo").rolling_mean(20)).alias(f"fut_{name}_vol_chg_20"),
        (pl.col(f"_ret5_{name}") * pl.col("_oi5").sign()).alias(f"fut_{name}_price_oi_5d"),
    )


def _compounded(column: str, window: int) -> pl.Expr:
    """Return of the last days; null where one of them has none."""
    return (pl.col(column) + 1).log().rolling_sum(window).exp() - 1


def _positive(x: pl.Expr) -> pl.Expr:
    return pl.when(x > 0).then(x)


def build(inputs: Reader) -> pl.DataFrame:
    """The futures columns of a block; the days are those of the TOPIX."""
    topix = inputs.read(TOPIX, ("date", "C"))
    return futures_features(inputs.read(FUTURES, COLUMNS), topix, topix.select("date"))


TABLE = FeatureTable(
    name=FUTURE,
    description="Twenty columns of the futures of the trading day before. Needs the plan Premium.",
    build=build,
    features=(*FEATURES, *VALIDITY),
    reads={FUTURES: LOOKBACK_MONTHS, TOPIX: LOOKBACK_MONTHS},
    lineage={"date": of(TOPIX, "date")},
    per="day",
    plan=Plan.PREMIUM,
    needs="the futures",
)
