"""Raw tables of disclosures, announced days, options, futures and indices made by hand, for a market that stands."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from atft_assets.features.futures import PRODUCTS
from atft_assets.features.indices import GROWTH, LARGE, SECTORS, SMALL, TRUSTS, VALUE, YOUNG
from atft_assets.jquants.endpoints import INDICES
from atft_assets.raw.stamps import stamped
from tests.features import documents, test_dividends, test_earnings, test_futures, test_options


def of_market(quotes: pl.DataFrame, seed: int = 0) -> dict[str, pl.DataFrame]:
    """The tables by name, of the days and names of some daily quotes."""
    rng = np.random.default_rng(seed)
    days = quotes["date"].unique().sort().to_list()
    return {
        **_disclosed(days, quotes["code"].unique().sort().to_list(), rng),
        "options_225": test_options.frame_of(_options(days, rng)),
        "futures": test_futures.frame_of(_futures(days, rng)),
        "indices": _indices(days, rng),
    }


def _disclosed(days: list[date], codes: list[str], rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Statements, some late or corrected, and when they were announced; what lies before the first day is lost."""
    found: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    for code in codes:
        own = documents.discloser(code, rng, range(days[0].year - 1, days[-1].year + 1), int(rng.choice([3, 3, 6, 12])))
        found += own
        for one in own:
            when = one["date"] - timedelta(days=int(rng.integers(12, 60)))
            if "Statements" in one["DocType"] and rng.random() < 0.9:
                told.append(test_earnings.announcement(code, when, one["date"], one["CurPerType"]))
    paid: list[dict[str, Any]] = []
    for code in codes:
        for number, ex in enumerate(days[40::60]):
            told_at = days[max(0, days.index(ex) - int(rng.integers(5, 40)))]
            row = test_dividends.announcement(code, told_at, f"{code}{number}", ex, int(rng.integers(5, 40)))
            special = {"CommSpecCode": str(rng.choice(["0", "1"], p=[0.8, 0.2]))}
            paid.append(row | special)
            if rng.random() < 0.3:
                paid.append(
                    row
                    | special
                    | {"RefNo": f"{code}{number}r", "StatCode": str(rng.choice(["2", "3"])), "DivRate": "9"}
                )
    within = pl.col("date").is_between(days[0], days[-1])
    return {
        "fins_summary": documents.frame_of(found).filter(within),
        "fins_dividend": test_dividends.frame_of(paid),
        "earnings_date": test_earnings.announced_frame(told).filter(within),
    }


def _options(days: list[date], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    s, level = 20_000.0, 20.0
    for day in days:
        s *= math.exp(rng.normal(0, 0.01))
        level = float(np.clip(level * math.exp(rng.normal(0, 0.05)), 10, 60))
        for last in test_options.expiries(day):
            for k in range(-6, 7):
                strike = round(s / 250) * 250.0 + 250.0 * k
                for kind in "12":
                    own = {
                        "IV": level + rng.normal(0, 1), "UnderPx": s, "Vo": float(rng.integers(0, 50)),
                        "OI": float(rng.integers(1, 500)), "Va": float(rng.integers(0, 10**6)),
                    }  # fmt: skip
                    rows.append(test_options.contract(day, last, strike, kind, **own))
    return rows


def _futures(days: list[date], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    level = dict.fromkeys(PRODUCTS.values(), 1500.0)
    for day in days:
        for product in level:
            level[product] *= math.exp(rng.normal(0, 0.01))
            for n, last in enumerate(test_futures.expiries(day)):
                price = level[product] * (1 + rng.normal(0.002, 0.001) * n)
                night = price * math.exp(rng.normal(0, 0.005))
                own = {
                    "CCMFlag": "1" if n == 0 else "0", "Vo": float(rng.integers(1, 1000)),
                    "OI": float(rng.integers(1, 1000)), "EC": str(night), "EH": str(night * rng.uniform(1, 1.02)),
                    "EL": str(night * 0.99),
                }  # fmt: skip
                rows.append(test_futures.contract(day, product, last, price, **own))
    return rows


def _indices(days: list[date], rng: np.random.Generator) -> pl.DataFrame:
    frames = []
    for code in (LARGE, SMALL, VALUE, GROWTH, YOUNG, TRUSTS, *SECTORS):
        level = 1000 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
        prices = {name: level for name in "OHLC"}
        frames.append(pl.DataFrame({"date": days, "code": code, **prices}))
    return stamped(INDICES, pl.concat(frames).sort("date", "code"), "indices", "-")
