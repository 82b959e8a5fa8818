"""What a back-test costs: `python -m atft_assets.benches.trading` (make bench-trading).

A simulated market of ten years and the whole exchange, with splits, dividends, days without a trade and delistings, and
scores that know a little. One strategy, a long-short one, and a sweep of twenty over rules, costs and capital; seconds
of one core, and the peak memory of the process, the arrays of the market among it.
"""

import argparse
import resource
import time
from dataclasses import fields
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from atft_assets.calendar import trading_days
from atft_assets.trading.costs import PRESETS
from atft_assets.trading.derived import derive
from atft_assets.trading.loading import last_rows
from atft_assets.trading.market import Market
from atft_assets.trading.policy import BookSide, Rule
from atft_assets.trading.rules import tick_size
from atft_assets.trading.sweep import CAPITALS, Case, at_capitals, at_multiples, figures, over, sweep

DAYS, NAMES = 2450, 4400
FIRST_DAY = date(2015, 1, 5)
CAPITAL = 100e6
SKILL = 0.02  # correlation of a score with the return of the next day
SECTORS = 33


def random_market(days: int, names: int, seed: int = 0) -> tuple[Market, NDArray[np.float32]]:
    """A market, and scores [D,N] that know a little of the next day's returns and change slowly."""
    rng = np.random.default_rng(seed)
    dates = trading_days(FIRST_DAY, FIRST_DAY + timedelta(days=2 * days))[:days]
    shape = (days, names)
    sigma = rng.uniform(0.012, 0.035, names).astype(np.float32)
    moves = rng.standard_normal(shape, np.float32)
    scores = np.empty(shape, np.float32)
    scores[0] = rng.standard_normal(names, np.float32)
    for t in range(1, days):
        fresh = rng.standard_normal(names, np.float32)
        scores[t] = np.float32(0.97) * scores[t - 1] + np.float32(0.24) * fresh
    moves[2:] += np.float32(SKILL) * scores[:-2]  # from the close after the auction on
    adj_factor, dividend = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    adj_factor[rng.random(shape, np.float32) < 0.04 / 245] = 0.5
    listed = np.ones(shape, bool)
    for n in np.flatnonzero(rng.random(names) < 0.15):
        listed[int(rng.integers(days // 4, days)) :, n] = False
    dark = (rng.random(shape, np.float32) < 0.003) | ~listed

    opened, high, low, close = (np.empty(shape, np.float32) for _ in range(4))
    last = np.exp(rng.normal(7.3, 0.7, names))
    for t, day in enumerate(dates):
        if t % 122 == 60:
            dividend[t] = np.rint(last * 0.01)
        base = np.maximum(last - dividend[t], 10.0) * adj_factor[t]
        night, session = rng.standard_normal((2, names))
        first = base * np.exp(0.4 * sigma * night)
        after = base * np.exp(sigma * moves[t])
        wide = np.abs(session) * 0.3 * sigma
        bar = (first, np.maximum(first, after) * (1 + wide), np.minimum(first, after) * (1 - wide), after)
        tick = tick_size(base, day)
        rows = [np.maximum(np.rint(price / tick), 1) * tick for price in bar]
        for array, row in zip((opened, high, low, close), rows, strict=True):
            array[t] = np.where(dark[t], np.nan, row)
        last = np.where(dark[t], base, rows[3])
    usual = np.exp(rng.normal(17.6, 2.0, names))
    value = np.empty(shape)
    for t in range(days):
        value[t] = np.where(dark[t], 0.0, usual * np.exp(rng.normal(0, 0.5, names)))
    fine = np.zeros(shape, bool)
    found = derive(dates, (opened, high, low, close), value, adj_factor, dividend, fine, listed)
    market = Market(
        dates=tuple(dates),
        codes=tuple(f"{1000 + n:04}0" for n in range(names)),
        open=opened,
        high=high,
        low=low,
        close=close,
        value=value,
        adj_factor=adj_factor,
        dividend=dividend,
        base=found.base,
        limit_up=found.limit_up,
        limit_down=found.limit_down,
        adv=found.adv,
        sigma=found.sigma,
        eligible=listed & (np.arange(days) >= 20)[:, None],
        shortable=np.broadcast_to(rng.random(names) < 0.6, shape).copy(),
        fine_tick=fine,
        sector=np.broadcast_to(rng.integers(1, SECTORS + 1, names).astype(np.int16) * 50, shape).copy(),
        last_day=last_rows(listed),
        topix=np.full(days, np.nan),
        dividends_known=True,
    )
    return market, scores


def twenty(scores: NDArray[np.float32]) -> list[Case]:
    """A sweep as the page of a back-test asks for it: capital, costs, rules."""
    case = Case("default", scores, Rule(), PRESETS["retail_zero"], CAPITAL)
    rules = [Rule(names=names, buffer=buffer) for names in (30, 100) for buffer in (1.5, 3.0)]
    presets = [PRESETS["institution"], PRESETS["ib"]]
    short = Case("long-short", scores, Rule(side=BookSide.LONG_SHORT), PRESETS["institution"], CAPITAL)
    return [*at_capitals(case, CAPITALS), *at_multiples(case), *over(case, rules, presets), *at_multiples(short)]


def size_of(market: Market) -> int:
    """Bytes of the arrays of a market."""
    arrays = [getattr(market, field.name) for field in fields(market)]
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def peak() -> float:
    """GB that the process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.trading", description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS, help="days of the market (%(default)s)")
    parser.add_argument("--names", type=int, default=NAMES, help="names of the market (%(default)s)")
    given = parser.parse_args()
    since = time.perf_counter()
    market, scores = random_market(given.days, given.names)
    held = (size_of(market) + scores.nbytes) / 2**30
    print(f"{given.days:,} days x {given.names:,} names, made in {time.perf_counter() - since:.0f} s: {held:.2f} GB")
    print(f"{'':<28} {'wall s':>8} {'CPU s':>8} {'orders':>10} {'peak GB':>8}", flush=True)

    def line(name: str, cases: list[Case]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        orders = sum(len(ledger.trades) for _, ledger in sweep(market, cases))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{name:<28} {wall:>8.1f} {cpu:>8.1f} {orders:>10,} {peak():>8.2f}", flush=True)

    cases = twenty(scores)
    line("one strategy, long", [Case("long", scores, Rule(), PRESETS["retail_zero"], CAPITAL)])
    line("the same without tranches", [Case("long", scores, Rule(tranches=1), PRESETS["retail_zero"], CAPITAL)])
    line("one strategy, long-short", cases[-3:-2])
    line(f"a sweep of {len(cases)}", cases)
    wall = time.perf_counter()
    found = figures(market, at_capitals(cases[0]))
    print(f"\nthe capacity curve, in {time.perf_counter() - wall:.1f} s; net a year, {SKILL} of skill planted")
    print(f"{'capital, JPY m':>15} {'CAGR':>7} {'Sharpe':>7} {'turnover':>9} {'cost':>7} {'cash':>6} {'unfilled':>9}")
    for row in found.iter_rows(named=True):
        print(
            f"{row['capital'] / 1e6:>15,.0f} {row['cagr']:>7.1%} {row['sharpe']:>7.2f} {row['turnover']:>9.1f} "
            f"{row['cost_share']:>7.2%} {row['cash_share']:>6.1%} {row['unfilled_share']:>9.1%}"
        )


if __name__ == "__main__":
    main()
