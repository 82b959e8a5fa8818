"""Nothing in a row of t comes from after t; nothing depends on where history begins or how prices are anchored."""

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atft_assets.features.calendar_features import calendar_features
from atft_assets.features.market import market_features
from atft_assets.features.price import price_features
from atft_assets.features.sector import sector_features
from atft_assets.features.stock import stock_features
from atft_assets.features.stock_market import stock_market_features
from atft_assets.features.technical import technical_features
from atft_assets.features.volatility import volatility_features
from tests.features.synthetic import bars_of, members_of, raw_quotes, topix

DAYS = 320
PRICES = ("O", "H", "L", "C", "Vo", "Va")


def own_family(family):
    return lambda quotes, index, members: family(bars_of(quotes)).collect()


def with_stock(quotes, members):
    return stock_features(quotes, members)


def against_market(quotes, index, members):
    return stock_market_features(with_stock(quotes, members), market_features(index), index)


def against_sector(quotes, index, members):
    return sector_features(with_stock(quotes, members), members, bars_of(quotes).collect())


FAMILIES = {
    "price": own_family(price_features),
    "technical": own_family(technical_features),
    "volatility": own_family(volatility_features),
    "stock": lambda quotes, index, members: with_stock(quotes, members),
    "calendar": lambda quotes, index, members: calendar_features(quotes["date"].unique().sort().to_list()),
    "market": lambda quotes, index, members: market_features(index),
    "stock_market": against_market,
    "sector": against_sector,
}


def inputs(seed: int, untraded: float):
    quotes = raw_quotes(6, DAYS, seed, untraded=untraded, splits=True)
    return quotes, topix(DAYS, seed + 1), members_of(quotes)


def ordered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort([c for c in ("date", "code") if c in frame.columns])


def upto(frame: pl.DataFrame, day) -> pl.DataFrame:
    return ordered(frame.filter(pl.col("date") <= day))


def scrambled(frame: pl.DataFrame, day, seed: int) -> pl.DataFrame:
    """Every record after the day replaced by noise, some of it absent."""
    rng = np.random.default_rng(seed)
    for name in (x for x in PRICES if x in frame.columns):
        noise = pl.Series(np.exp(rng.normal(5, 1, frame.height)))
        gone = pl.Series(rng.random(frame.height) < 0.1)
        value = pl.when(gone & (len(frame.columns) > 5)).then(None).otherwise(noise)
        frame = frame.with_columns(pl.when(pl.col("date") > day).then(value).otherwise(pl.col(name)).alias(name))
    if "AdjFactor" in frame.columns:
        factor = pl.Series(rng.choice([1.0, 0.5, 3.0], frame.height, p=[0.9, 0.05, 0.05]))
        frame = frame.with_columns(
            pl.when(pl.col("date") > day).then(factor).otherwise(pl.col("AdjFactor")).alias("AdjFactor")
        )
    return frame


few = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
markets = given(
    seed=st.integers(0, 10_000), untraded=st.sampled_from([0.0, 0.05, 0.3]), place=st.integers(30, DAYS - 5)
)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@few
@markets
def test_truncation(family, seed, untraded, place):
    """Built up to T and up to the end: rows up to T are the same bits."""
    quotes, index, members = inputs(seed, untraded)
    day = quotes["date"].unique().sort()[place]
    whole = upto(family(quotes, index, members), day)
    cut = ordered(family(*(frame.filter(pl.col("date") <= day) for frame in (quotes, index, members))))
    assert cut.equals(whole)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@few
@markets
def test_future_perturbation(family, seed, untraded, place):
    """Every later record scrambled: rows up to t are the same bits."""
    quotes, index, members = inputs(seed, untraded)
    day = quotes["date"].unique().sort()[place]
    later_sector = pl.when(pl.col("date") > day).then(pl.lit("9")).otherwise("s33").alias("s33")
    spoiled = family(scrambled(quotes, day, seed), scrambled(index, day, seed), members.with_columns(later_sector))
    assert upto(spoiled, day).equals(upto(family(quotes, index, members), day))


def test_the_guards_see_a_planted_leak():
    """A window that reaches one day ahead fails both tests; else they would prove nothing."""

    def leaky(quotes, index, members):
        frame = price_features(bars_of(quotes)).collect()
        return frame.with_columns(pl.col("returns_1d").shift(-1).over("code").alias("returns_1d"))

    quotes, index, members = inputs(1, 0.0)
    day = quotes["date"].unique().sort()[200]
    whole = upto(leaky(quotes, index, members), day)
    assert not upto(leaky(quotes.filter(pl.col("date") <= day), index, members), day).equals(whole)
    assert not upto(leaky(scrambled(quotes, day, 1), index, members), day).equals(whole)


def close(a: pl.DataFrame, b: pl.DataFrame, tolerance: float = 2e-4) -> None:
    for name in (c for c in a.columns if c not in ("date", "code")):
        x, y = a[name].cast(pl.Float64), b[name].cast(pl.Float64)
        assert (x.is_null() == y.is_null()).all(), name
        off = ((x - y).abs() / (1 + x.abs())).max()
        assert off is None or off < tolerance, (name, off)


STOCK_FAMILIES = {k: v for k, v in FAMILIES.items() if k not in ("calendar", "market")}


@pytest.mark.parametrize("family", STOCK_FAMILIES.values(), ids=STOCK_FAMILIES.keys())
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 0.7, 13.0, 1000.0]))
def test_the_anchor_of_the_adjustment_does_not_matter(family, seed, scale):
    """A stock quoted in other units of price, or adjusted to another date, has the same features."""
    quotes, index, members = inputs(seed, 0.05)
    one = pl.col("code") == "13010"
    rescaled = quotes.with_columns(
        *(pl.when(one).then(pl.col(x) * scale).otherwise(pl.col(x)).alias(x) for x in "OHLC"),
        pl.when(one).then(pl.col("Vo") / scale).otherwise(pl.col("Vo")).alias("Vo"),
    )
    close(ordered(family(quotes, index, members)), ordered(family(rescaled, index, members)))
    first = quotes["date"].min()
    anchored = quotes.with_columns(  # a factor on the first row moves the anchor of all later ones
        pl.when(one & (pl.col("date") == first)).then(0.2).otherwise(pl.col("AdjFactor")).alias("AdjFactor")
    )
    close(ordered(family(quotes, index, members)), ordered(family(anchored, index, members)))


@pytest.mark.parametrize("untraded", [0.0, 0.3])
def test_a_month_alone_equals_the_month_within_a_longer_history(untraded):
    """Look-back: thirteen months of stocks' history, fifteen of the market's and the sectors', and nothing older."""
    quotes = raw_quotes(5, 700, 3, untraded=untraded, splits=True)
    index, members = topix(700, 4), members_of(quotes)
    month = quotes["date"].unique().sort()[650].replace(day=1)

    def since(frame, months):
        return frame.filter(pl.col("date") >= pl.lit(month).dt.offset_by(f"-{months}mo"))

    def target(frame):
        return ordered(frame.filter(pl.col("date").dt.month_start() == month))

    stock = stock_features(quotes, members)
    close(target(stock_features(since(quotes, 13), since(members, 0))), target(stock))
    close(target(market_features(since(index, 15))), target(market_features(index)))
    market = market_features(index)
    close(
        target(stock_market_features(since(stock, 13), since(market, 13), since(index, 13))),
        target(stock_market_features(stock, market, index)),
    )
    close(
        target(sector_features(since(stock, 15), since(members, 15), bars_of(since(quotes, 15)).collect())),
        target(sector_features(stock, members, bars_of(quotes).collect())),
    )
