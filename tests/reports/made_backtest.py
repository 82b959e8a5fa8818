"""A back-test of a made-up book over real open days: enough of everything for its page."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from atft_assets.calendar import trading_days
from atft_assets.reports.backtest import INDEX, OURS, UNIVERSE, AtCapital, AtCost, Backtest, Figures, Luck
from atft_assets.reports.backtest_pictures import grown
from atft_assets.trading.performance import Drawdown, by_month, costs_by_year, rolling_beta, unfilled_by_reason

CAPITAL = 10e6
FIRST, LAST = date(2017, 1, 4), date(2021, 12, 30)
YEAR = 245
REASONS = ("ok", "limit_up", "untraded", "volume_cap", "cash")


def equity_of(first: date = FIRST, last: date = LAST, seed: int = 0) -> pl.DataFrame:
    """A ledger's `equity` with a small edge over the universe, and all of its columns."""
    days = trading_days(first, last)
    rng, count = np.random.default_rng(seed), len(days)
    market = rng.normal(0.0003, 0.011, count)
    equal = market + rng.normal(0.0001, 0.003, count)
    gross = equal + rng.normal(0.0005, 0.004, count)
    spread, impact, commission = (rng.uniform(0, top, count) for top in (2e-4, 1e-4, 2e-5))
    net = gross - spread - impact - commission
    nav = CAPITAL * grown(net)[1:]
    cash = rng.uniform(0.01, 0.06, count)
    return pl.DataFrame(
        {
            "date": days,
            "strategy": "phase3",
            "nav": nav,
            "cash": cash * nav,
            "receivable": 0.0,
            "gross": (1 - cash).astype(np.float32),
            "net": (1 - cash).astype(np.float32),
            "ret": net,
            "ret_gross": gross,
            "cost_commission": commission * nav,
            "cost_spread": spread * nav,
            "cost_impact": impact * nav,
            "cost_borrow": 0.0,
            "dividends": 0.0,
            "turnover": rng.uniform(0.02, 0.12, count).astype(np.float32),
            "names": rng.integers(60, 90, count).astype(np.uint16),
            "unfilled_value": rng.uniform(0, 1e5, count),
            "bench_topix": market,
            "bench_topix_tr": None,
            "bench_equal": equal,
        },
        schema_overrides={"bench_topix_tr": pl.Float64},
    )


def trades_of(days: list[date], count: int = 400) -> pl.DataFrame:
    """Orders, three in four wholly filled; of names that did not trade without a price."""
    rng = np.random.default_rng(3)
    reasons = rng.choice(len(REASONS), count, p=[0.75, 0.05, 0.05, 0.1, 0.05])
    ordered = 100 * rng.integers(1, 20, count)
    return pl.DataFrame(
        {
            "date": [days[i] for i in rng.integers(len(days), size=count)],
            "strategy": "phase3",
            "code": [f"{1300 + i}0" for i in rng.integers(500, size=count)],
            "side": rng.choice(["BUY", "SELL"], count),
            "shares_ordered": ordered,
            "shares": np.where(reasons == 0, ordered, np.where(reasons == 3, ordered // 200 * 100, 0)),
            "price": [None if REASONS[r] == "untraded" else float(p) for r, p in
                      zip(reasons, rng.integers(200, 5000, count), strict=True)],
            "reason": [REASONS[r] for r in reasons],
        }
    ).with_columns(
        (pl.col("shares") / pl.col("shares_ordered")).alias("fill_ratio"),
        pl.when(pl.col("reason") == "ok").then(pl.lit("filled")).otherwise(pl.lit("cut")).alias("status"),
    )  # fmt: skip


def trips_of(count: int = 30) -> pl.DataFrame:
    """Round trips from a large gain to a large loss; the last is still held."""
    profit = np.linspace(300_000, -250_000, count).round()
    return pl.DataFrame(
        {
            "code": [f"{2000 + n}0" for n in range(count)],
            "name": [f"銘柄{n}ホールディングス" for n in range(count)],
            "entry": [date(2019, 1, 7)] * count,
            "exit": [None if n == count - 1 else date(2019, 3, 5) for n in range(count)],
            "days": [40] * count,
            "entry_price": np.full(count, 1234.5),
            "exit_price": np.full(count, 1500.0),
            "profit": profit,
            "ret": profit / 1e6,
            "note": ["limit up on 2019-02-01" if n == 0 else "" for n in range(count)],
        },
        schema_overrides={"exit": pl.Date},
    )


def figures_of(name: str, returns: np.ndarray, **more: float) -> Figures:
    """Rough figures of a series; the page prints what it is given."""
    mean, deviation = float(np.nanmean(returns)), float(np.nanstd(returns))
    sharpe = mean / deviation * YEAR**0.5 if deviation else float("nan")
    path = grown(returns)
    fall = float((path / np.maximum.accumulate(path) - 1).min())
    growth = float(path[-1] ** (YEAR / len(returns)) - 1)
    given = Figures(
        name,
        growth,
        deviation * YEAR**0.5,
        sharpe,
        sharpe - 0.9,
        sharpe + 0.9,
        1.4 * sharpe,
        growth / -fall if fall else float("nan"),
        fall,
    )
    return replace(given, **more)


def whole(equity: pl.DataFrame | None = None, **changes: Any) -> Backtest:
    """A back-test with everything on its page."""
    equity = equity_of() if equity is None else equity
    days = equity["date"].to_list()
    net, gross = equity["ret"].to_numpy(), equity["ret_gross"].to_numpy()
    ours = figures_of("phase3 net", net)
    at_costs = [
        AtCost(m, figures_of("", gross - m * (gross - net)).cagr, ours.sharpe / m,
               (CAPITAL * grown(gross - m * (gross - net))[1:]).tolist())
        for m in (1.0, 2.0, 3.0)
    ]  # fmt: skip
    lows = np.random.default_rng(5).normal(0.0002, 0.008, len(days))
    rng = np.random.default_rng(6)
    topix, equal = (equity[column].to_numpy() for column in ("bench_topix", "bench_equal"))
    low, high = ours.sharpe - 0.9, ours.sharpe + 0.9
    given = {
        "strategy": "phase3",
        "header": {"scores": "walk_forward, 5 folds", "rule": "50 names, buffer 2, 5 tranches", "costs": "retail_zero"},
        "equity": equity,
        "months": {who: by_month(days, equity[column]) for who, column in
                   ((OURS, "ret"), (UNIVERSE, "bench_equal"), (INDEX, "bench_topix"))},
        "costs": costs_by_year(equity),
        "orders": trades_of(days).height,
        "unfilled": unfilled_by_reason(trades_of(days)),
        "betas": {UNIVERSE: rolling_beta(net, equal).tolist(), INDEX: rolling_beta(net, topix).tolist()},
        "beta_days": 120,
        "capital": CAPITAL,
        "total_return": False,
        "figures": ours,
        "topix": figures_of("TOPIX", topix, lead=0.09, lead_low=0.01, lead_high=0.17, beta=0.9),
        "equal": figures_of("equal-weight universe", equal, lead=0.05, lead_low=0.02, lead_high=0.08, beta=1.0),
        "luck": Luck(ours.sharpe, low, high, 0.021, 0.97, 0.81, 42, 17.4, 0.2, 0.83, len(days),
                     688.0, 4.9, 0.25),
        "others": [figures_of("low volatility", lows, lead=0.03, lead_low=-0.02, lead_high=0.08)],
        "others_nav": {"low volatility": grown(lows)[1:].tolist()},
        "drawdowns": [Drawdown(-0.28, date(2020, 2, 6), date(2020, 3, 16), date(2020, 6, 5), 80),
                      Drawdown(-0.06, None, date(2021, 12, 1), None, 38)],
        "at_costs": at_costs,
        "at_capital": [AtCapital(c, 0.12 - 0.01 * i, 0.9 - 0.1 * i, 0.02 * i, 0.97) for i, c in
                       enumerate((10e6, 30e6, 100e6, 300e6, 1e9, 3e9))],
        "sectors": pl.DataFrame({"sector33": ["3050", "3650", "5250", "6050"], "book": [0.1, 0.3, 0.35, 0.25],
                                 "universe": [0.12, 0.25, 0.3, 0.33]}),
        "exposures": pl.DataFrame({"date": days, "size rank": rng.uniform(0.4, 0.5, len(days)),
                                   "transfer coefficient": rng.uniform(0.5, 0.7, len(days))}),
        "trips": trips_of(),
        "facts": {"break-even cost": "31 bp a traded yen"},
    }  # fmt: skip
    return Backtest(**{**given, **changes})
