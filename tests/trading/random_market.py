"""Markets at random, with all that happens to names; and the books of a strategy kept a second time, by hand."""

from collections.abc import Mapping
from dataclasses import fields, replace
from fractions import Fraction

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.trading.market import Market
from tests.trading.made import made_market

NAN = float("nan")


def random_market(seed: int, days: int = 25, names: int = 12, *, events: bool = True, sectors: int = 3) -> Market:
    """Prices around 1,000 yen; with events: days without a trade, splits both ways, dividends, names that leave."""
    rng = np.random.default_rng(seed)
    shape = (days, names)
    factor, dividend, listed = np.ones(shape), np.zeros(shape), np.ones(shape, bool)
    if events:
        factor = rng.choice([1.0, 0.5, 0.666667, 0.333333, 10.0], shape, p=[0.98, 0.008, 0.006, 0.004, 0.002])
        dividend = rng.choice([0.0, 5.0, 7.5], shape, p=[0.96, 0.02, 0.02])
        for n in np.flatnonzero(rng.random(names) < 0.25):
            listed[rng.integers(2, days) :, n] = False
    factor[0] = 1.0
    dark = ~listed | ((rng.random(shape) < 0.05) & events)
    dark[0] = ~listed[0]
    close, opened = np.empty(shape), np.empty(shape)
    last = np.rint(rng.uniform(300, 3_000, names))
    for t in range(days):
        base = np.maximum(last - dividend[t], 20) * factor[t]
        opened[t] = np.maximum(np.rint(base * np.exp(rng.normal(0, 0.01, names))), 10)
        close[t] = np.maximum(np.rint(opened[t] * np.exp(rng.normal(0, 0.02, names))), 10)
        last = np.where(dark[t], base, close[t])
    close[dark] = NAN
    high, low = np.fmax(opened, close) + 1, np.fmin(opened, close) - 1
    return made_market(
        close,
        open=opened,
        high=high,
        low=low,
        value=rng.choice([2e7, 1e9], shape),
        adv=rng.choice([2e7, 1e9], names),
        adj_factor=factor,
        dividend=dividend,
        shortable=rng.random(shape) < 0.7,
        eligible=listed & (rng.random(shape) < 0.98),
        sector=rng.integers(1, sectors + 1, names) * 50,
        listed=listed,
        dividends_known=True,
    )


def random_scores(seed: int, market: Market, memory: float = 0.8) -> NDArray[np.float32]:
    """Scores [D,N] that know nothing, with some missing."""
    rng = np.random.default_rng(seed + 1)
    shape = (len(market.dates), len(market.codes))
    scores = rng.normal(size=shape)
    for t in range(1, len(scores)):
        scores[t] = memory * scores[t - 1] + np.sqrt(1 - memory**2) * scores[t]
    return np.where(rng.random(shape) < 0.97, scores, np.nan).astype(np.float32)


def changed_after(market: Market, t: int, seed: int, keep: tuple[str, ...] = ()) -> Market:
    """The same market with everything after row t as random as it can be; `keep` names arrays that stay on row t+1."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for field in fields(market):
        old = getattr(market, field.name)
        if not isinstance(old, np.ndarray):
            continue
        new = old.copy()
        later = new[t + 1 :]
        if old.dtype == bool:
            later[...] = rng.random(later.shape) < 0.5
        elif field.name == "sector":
            later[...] = rng.integers(1, 4, later.shape) * 50
        elif field.name == "adj_factor":
            later[...] = rng.choice([1.0, 0.5], later.shape)
        else:
            later[...] = rng.uniform(50, 5_000, later.shape)
        if field.name in keep:
            new[t + 1] = old[t + 1]
        arrays[field.name] = new
    return replace(market, **arrays)


def reordered(market: Market, places: NDArray[np.int64]) -> Market:
    """The same market with its names in another order."""
    moved = {
        field.name: getattr(market, field.name)[:, places]
        for field in fields(market)
        if getattr(getattr(market, field.name), "ndim", 0) == 2
    }
    return replace(market, **moved, codes=tuple(market.codes[i] for i in places))


def books_by_hand(market: Market, trades: pl.DataFrame, borrow: Mapping[object, float], capital: float) -> list[float]:
    """Net asset value of each day after the first evening, from the table of trades and the market alone.

    A dictionary of shares and a column of cash, without a line of the ledger's; dividends are never paid out, which
    changes no net asset value.
    """
    shares: dict[str, int] = {}
    marks: dict[str, float] = {}
    cash, found = capital, []
    by_day: dict[object, list[dict]] = {}
    for row in trades.iter_rows(named=True):
        by_day.setdefault(row["date"], []).append(row)
    for t, day in enumerate(market.dates):
        for n, code in enumerate(market.codes):
            paid = float(market.dividend[t, n])
            ratio = Fraction(float(market.adj_factor[t, n])).limit_denominator(1_000)
            cash += shares.get(code, 0) * paid
            if code in marks:
                marks[code] = max(marks[code] - paid, 0.0)
            if ratio != 1 and code in marks:
                before = shares.get(code, 0)
                after = int(Fraction(abs(before)) / ratio) * (1 if before >= 0 else -1)
                mark = marks[code] * float(ratio)
                cash += before * marks[code] - after * mark
                shares[code], marks[code] = after, mark
        for row in by_day.get(day, []):
            sign = 1 if row["side"] == "BUY" else -1
            shares[row["code"]] = shares.get(row["code"], 0) + sign * row["shares"]
            cash -= sign * row["value"] + row["commission"] + row["half_spread"] + row["impact"]
        cash -= borrow.get(day, 0.0)
        for n, code in enumerate(market.codes):
            if np.isfinite(market.close[t, n]):
                marks[code] = round(float(market.close[t, n]), 1)
        found.append(cash + sum(held * marks[code] for code, held in shares.items() if held))
    return found
