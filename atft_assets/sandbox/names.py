"""The names of a simulated market: codes, sectors, segments, sizes, lives; all that does not change from day to day.

Names are drawn in cohorts, the first day's and then one a year, each from its own generator and the whole year at once,
so that a market that ends earlier knows the same names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, timedelta
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from atft_assets.sandbox import codes as tables
from atft_assets.sandbox.config import MarketConfig

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ORDINARY, PREFERRED, ETF = 0, 1, 2
NEVER = date(9999, 1, 1)

_WEIGHTS = np.array([row[3] for row in tables.SECTORS])
_WEIGHTS /= _WEIGHTS.sum()


@dataclass(frozen=True)
class Names:
    """One entry a name, in the order of listing.

    Attributes:
        code: five characters; not unique where a code was given out again.
        listed, delisted: first day with a row, first day without.
        kind: ORDINARY, PREFERRED or ETF.
        sector: row of `codes.SECTORS`, -1 for none.
        cluster: hidden cluster, -1 for none.
        segment: 0 Prime, 1 Standard, 2 Growth, 3 other; old_market: which of the two old sections of the segment.
        scale: row of `codes.SCALE_CATEGORIES`.
        size, value: standardised log capitalisation and log trading value.
        beta: to the market factor; vol: daily residual volatility; price: first price in yen.
        close_level, close_scale: usual location of the close within the day's range (logit) and how far it strays.
    """

    code: list[str]
    listed: list[date]
    delisted: list[date]
    kind: I64
    sector: I64
    cluster: I64
    segment: I64
    old_market: I64
    scale: I64
    size: F64
    value: F64
    beta: F64
    vol: F64
    price: F64
    close_level: F64
    close_scale: F64


_ARRAYS = tuple(field.name for field in fields(Names) if field.name not in ("code", "listed", "delisted"))


def generator(seed: int, variable: str, year: int = 0) -> np.random.Generator:
    """The random generator of one variable in one year."""
    return np.random.default_rng([seed, crc32(variable.encode()), year])


def draw_names(config: MarketConfig, last_year: int) -> tuple[Names, dict[int, int]]:
    """All names ever listed by the end of `last_year`, and how many are known by the end of each year."""
    n_clusters = max(1, round(config.n_names / config.cluster_size))
    fresh, letters = _fresh_codes(config.seed), _letter_codes()
    known: dict[int, int] = {}

    # The first cohort stands in the order of its sectors, so the members of a cluster come from different ones.
    n = config.n_names
    first = _cohort(generator(config.seed, "names"), config, n, newcomers=False)
    first["sector"] = np.repeat(np.arange(len(_WEIGHTS)), _sector_quota(n))
    first["cluster"] = np.arange(n) % n_clusters
    cohorts = [first, _preferred_and_etf(int(first["sector"][0]))]
    code = [next(fresh) for _ in range(n - 1)] + [next(letters)]  # codes with a letter occur whatever the years
    code += [f"{code[0][:4]}5", "13000"]
    listed = [config.start - timedelta(days=365)] * (n + 2)
    delisted = [*_ends(first["life"], listed[:n]), NEVER, NEVER]

    for year in range(config.start.year, last_year + 1):
        rng = generator(config.seed, "listings", year)
        offsets = rng.integers(0, 365, rng.poisson(n * config.listings))
        born = sorted(date(year, 1, 1) + timedelta(days=int(offset)) for offset in offsets)
        born = [day for day in born if day > config.start]
        cohort = _cohort(rng, config, len(born), newcomers=True)
        cohort["sector"] = rng.choice(len(_WEIGHTS), len(born), p=_WEIGHTS)
        cohort["cluster"] = rng.integers(0, n_clusters, len(born))
        reuse = rng.random(len(born)) < config.code_reuse
        for day, again in zip(born, reuse, strict=True):
            free = _free_again(code, delisted, day) if again else []
            code.append(free[0] if free else next(letters) if day.year >= 2024 else next(fresh))
        cohorts.append(cohort)
        listed += born
        delisted += _ends(cohort["life"], born)
        known[year] = len(code)
    arrays = {name: np.concatenate([cohort[name] for cohort in cohorts]) for name in _ARRAYS}
    return Names(code, listed, delisted, **arrays), known


def _cohort(rng: np.random.Generator, config: MarketConfig, n: int, newcomers: bool) -> dict[str, NDArray]:
    size = rng.standard_normal(n)
    value = 0.7 * size + np.sqrt(1 - 0.7**2) * rng.standard_normal(n)
    segment = np.where(rng.random(n) < 0.7, 2, 1)
    if not newcomers:
        segment = np.where(size > 0, 0, np.where(size > -1, 1, 2))
    scale = np.full(n, len(tables.SCALE_CATEGORIES) - 1)
    prime = np.flatnonzero(segment == 0)
    by_size = prime[np.argsort(-size[prime], kind="stable")]
    edges = np.cumsum([max(1, round(config.n_names * share)) for share in (0.007, 0.016, 0.09, 0.11)])
    scale[by_size] = np.searchsorted(edges, np.arange(len(by_size)), side="right")
    return {
        "kind": np.full(n, ORDINARY),
        "segment": segment,
        "old_market": rng.integers(0, 2, n),
        "scale": scale,
        "size": size,
        "value": np.clip(value, -2.2, 2.2),
        "beta": np.clip(1 + 0.25 * rng.standard_normal(n), 0.4, 1.8),
        "vol": np.clip(0.018 * np.exp(0.28 * rng.standard_normal(n) - 0.10 * size), 0.009, 0.04),
        "price": np.clip(1800 * np.exp(0.6 * rng.standard_normal(n)), 400, 9000),
        "close_level": np.clip(rng.standard_normal(n), -2.2, 2.2),
        "close_scale": np.clip(0.16 * np.exp(0.5 * rng.standard_normal(n)), 0.06, 0.5),
        "life": rng.exponential(1 / max(config.delistings, 1e-9), n),
    }


def _preferred_and_etf(sector: int) -> dict[str, NDArray]:
    """One preferred share of the first issuer and one ETF: what a universe filter has to drop."""
    same = {
        "cluster": -1, "old_market": 0, "scale": len(tables.SCALE_CATEGORIES) - 1, "size": -0.5, "value": 0.5,
        "beta": 1.0, "vol": 0.012, "price": 2000.0, "close_level": 0.0, "close_scale": 0.3,
    }  # fmt: skip
    differ = {"kind": (PREFERRED, ETF), "sector": (sector, -1), "segment": (0, 3)}
    return {k: np.array([v, v]) for k, v in same.items()} | {k: np.array(v) for k, v in differ.items()}


def _sector_quota(n: int) -> I64:
    """How many of `n` names each sector gets: by weight, but at least three where the market is big enough."""
    counts = np.maximum(np.floor(n * _WEIGHTS).astype(np.int64), min(3, n // len(_WEIGHTS)))
    while counts.sum() > n:
        counts[np.argmax(counts)] -= 1
    order = np.argsort(-(n * _WEIGHTS - counts), kind="stable")
    for k in range(n - int(counts.sum())):
        counts[order[k % len(order)]] += 1
    return counts


def _ends(life: F64, listed: list[date]) -> list[date]:
    """Delisting days from lives in years."""
    return [day + timedelta(days=max(30, int(min(y * 365, 36500)))) for y, day in zip(life, listed, strict=True)]


def _fresh_codes(seed: int) -> Iterator[str]:
    """Four digits and the 0 of an ordinary share, in random order; the two codes without a segment are left out."""
    numbers = generator(seed, "codes").permutation(np.arange(1400, 10_000))
    return (f"{number}0" for number in numbers if number not in (8301, 8421))


def _letter_codes() -> Iterator[str]:
    """The codes given out since 2024: 130A0, 131A0, ..."""
    return (f"{number}{letter}0" for letter in "ACDFGHJKLMNPRSTUWXY" for number in range(130, 1000))


def _free_again(code: list[str], delisted: list[date], day: date) -> list[str]:
    """Codes of ordinary shares that left the market at least a year before `day` and were given out once."""
    gone = zip(code, delisted, strict=False)
    return [c for c, end in gone if end < day - timedelta(days=365) and code.count(c) == 1]
