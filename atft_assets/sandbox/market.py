"""The simulated Tokyo market: names, prices, volumes and indices, deterministic by seed.

Daily residual return of a name (in units of its own volatility) = sector factor + hidden cluster factor + heavy-tailed
noise + planted drift. The drift of day t+1 is known at t, and has three parts, each made for one part of the network:

* *level* (encoder): the day's relative range q, plus q times the sign of the name's trading value. A linear model sees
  the first half only. Visible through `high_low_ratio` and `dollar_volume`.
* *deviation* (FAN, SAN): the location of the close within the day's range against the name's own usual location, in its
  own scale. Usual locations differ so much between names that today's cross-section says next to nothing; a trailing
  z-score says nearly all. Visible through `close_to_high`, `close_to_low`.
* *neighbour* (GAT): the mean volume shock of the other members of a hidden cluster of names, spread across the sectors
  and recognisable by their correlated residual returns. A name's own shock says nothing about itself. Visible through
  `volume_ratio_*` of the neighbours.

Every random stream is drawn by (seed, variable, year) and row by row, and every name of a year is drawn before the year
starts, so a market that ends earlier is exactly the beginning of the one that ends later.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets import calendar
from atft_assets.sandbox import codes as tables
from atft_assets.settings import DEMO_END, DEMO_START

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Daily autocorrelation of the latent observables: signals last some days, so that longer horizons carry them too
PERSISTENCE = {"level": 0.7, "deviation": 0.5, "neighbour": 0.5}

ORDINARY, PREFERRED, ETF = 0, 1, 2
COMPONENTS = ("level", "deviation", "neighbour")
HOLIDAY_TRADING_SINCE = date(2022, 9, 23)  # derivatives trade on some public holidays: HolDiv 3

# A day's move stays inside Tokyo's narrowest price limit (about 14 % of the base price); a name that reaches it is
# locked at one price for the day.
LIMIT_UP, LIMIT_DOWN = 0.130, -0.150

_SPLITS = np.array([0.5, 0.5, 0.5, 0.3333333, 0.25, 0.2])
_CONSOLIDATIONS = np.array([5.0, 10.0])


@dataclass(frozen=True)
class MarketConfig:
    """What market to simulate.

    Attributes:
        n_names: ordinary shares listed on the first day (a preferred share and an ETF come on top).
        start, end: first and last calendar day; only trading days inside get bars.
        seed: of every random stream.
        listings, delistings, splits, consolidations, halts: events per name and year.
        untraded: share of days on which an average small name finds no buyer (bars all null).
        cluster_size: mean number of names in a hidden cluster.
        sector_share, cluster_share: share of the residual variance that the members of a sector, of a cluster have in common.
        level, interaction, deviation, neighbour: standard deviation of each part of the daily drift, in units of the name's
            residual volatility; about the daily rank correlation that a perfect detector of this part attains.
        code_reuse: share of listings that take the code of a name delisted at least a year before.
    """

    n_names: int = 200
    start: date = DEMO_START
    end: date = DEMO_END
    seed: int = 7
    listings: float = 0.03
    delistings: float = 0.02
    splits: float = 0.04
    consolidations: float = 0.005
    halts: float = 0.2
    untraded: float = 0.01
    cluster_size: int = 8
    sector_share: float = 0.10
    cluster_share: float = 0.45
    level: float = 0.08
    interaction: float = 0.13
    deviation: float = 0.16
    neighbour: float = 0.16
    code_reuse: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.n_names <= 8000:
            raise ValueError(f"n_names is {self.n_names}: use 2 to 8000")
        if self.start > self.end:
            raise ValueError(f"start ({self.start}) is after end ({self.end})")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: use 0 or more")
        if self.cluster_size < 2:
            raise ValueError(f"cluster_size is {self.cluster_size}: use 2 or more")


def demo_config(start: date | None = None, end: date | None = None) -> MarketConfig:
    """The market of `make demo`: 200 names over three years."""
    return MarketConfig(start=start or DEMO_START, end=end or DEMO_END)


@dataclass(frozen=True)
class Signals:
    """The latent observables and how long they last; every array is [days, names] float32 with unit variance.

    Attributes:
        level, deviation, neighbour: drift of the next day per unit of the name's residual volatility.
        volume_shock: the shock whose mean over cluster mates is `neighbour`.
        persistence: daily autocorrelation by component, which gives the expectation over longer horizons.
    """

    level: F32
    deviation: F32
    neighbour: F32
    volume_shock: F32
    persistence: dict[str, float]


class _Streams:
    """Standard normal and uniform arrays [days, names], drawn year by year from independent generators."""

    def __init__(self, seed: int, blocks: list[tuple[int, slice, int]]) -> None:
        self.seed, self.blocks = seed, blocks
        self.shape = (blocks[-1][1].stop, blocks[-1][2])

    def _blocks(self, variable: str, width: int | None) -> Iterator[tuple[np.random.Generator, slice, int]]:
        for year, rows, names in self.blocks:
            yield generator(self.seed, variable, year), rows, width or names

    def normal(self, variable: str, width: int | None = None) -> F32:
        out = np.zeros((self.shape[0], width or self.shape[1]), np.float32)
        for rng, rows, n in self._blocks(variable, width):
            out[rows, :n] = rng.standard_normal((rows.stop - rows.start, n), np.float32)
        return out

    def uniform(self, variable: str) -> F32:
        out = np.ones(self.shape, np.float32)
        for rng, rows, n in self._blocks(variable, None):
            out[rows, :n] = rng.random((rows.stop - rows.start, n), np.float32)
        return out

    def autoregressive(self, variable: str, phi: float, width: int | None = None) -> F32:
        """Stationary AR(1) with unit variance; a name's first row is drawn from the stationary law."""
        x = self.normal(variable, width)
        scale, known = np.float32(np.sqrt(1 - phi * phi)), 0
        for _, rows, names in self.blocks:
            for t in range(rows.start, rows.stop):
                n = known if t == rows.start else width or names
                x[t, :n] = np.float32(phi) * x[t - 1, :n] + scale * x[t, :n]
            known = width or names
        return x


def generator(seed: int, variable: str, year: int = 0) -> np.random.Generator:
    """The random generator of one variable in one year."""
    return np.random.default_rng([seed, crc32(variable.encode()), year])


def _sector_quota(n: int, weights: F64) -> I64:
    """How many of `n` names each sector gets: by weight, but at least three where the market is big enough."""
    counts = np.maximum(np.floor(n * weights).astype(np.int64), min(3, n // len(weights)))
    while counts.sum() > n:
        counts[np.argmax(counts)] -= 1
    order = np.argsort(-(n * weights - counts), kind="stable")
    for k in range(n - int(counts.sum())):
        counts[order[k % len(order)]] += 1
    return counts


@dataclass(frozen=True)
class _Names:
    """Everything about the names that does not change from day to day; arrays of length N."""

    code: list[str]
    kind: I64
    listed: list[date]
    delisted: list[date]  # first day without a row
    sector: I64  # row of tables.SECTORS, -1 for none
    cluster: I64  # -1 for none
    size: F64  # standardised log capitalisation
    value: F64  # standardised log trading value
    segment: I64  # 0 Prime, 1 Standard, 2 Growth, 3 other
    old_market: I64  # which of two old segments
    scale: I64  # row of tables.SCALE_CATEGORIES
    beta: F64
    vol: F64
    price: F64
    close_level: F64  # usual location of the close, logit
    close_scale: F64


def _names(config: MarketConfig) -> tuple[_Names, dict[int, int]]:
    """Draw the names cohort by cohort. Returns them and the number of names known by the end of each year."""
    weights = np.array([row[3] for row in tables.SECTORS])
    weights = weights / weights.sum()
    n_clusters = max(1, round(config.n_names / config.cluster_size))
    columns: dict[str, list] = {field: [] for field in _Names.__dataclass_fields__}
    known: dict[int, int] = {}

    def draw(rng: np.random.Generator, n: int, listed: list[date], sector: I64, cluster: I64, newcomer: bool) -> None:
        size = rng.standard_normal(n)
        value = 0.7 * size + np.sqrt(1 - 0.49) * rng.standard_normal(n)
        vol = 0.018 * np.exp(0.28 * rng.standard_normal(n) - 0.10 * size)
        beta = 1 + 0.25 * rng.standard_normal(n)
        price = 1800 * np.exp(0.6 * rng.standard_normal(n))
        close_level = np.clip(rng.standard_normal(n), -2.2, 2.2)
        close_scale = 0.16 * np.exp(0.5 * rng.standard_normal(n))
        years = rng.exponential(1 / max(config.delistings, 1e-9), n)
        old_market, growth = rng.integers(0, 2, n), rng.random(n) < 0.7
        segment = np.where(size > 0, 0, np.where(size > -1, 1, 2))
        if newcomer:
            segment = np.where(growth, 2, 1)
        scale = np.full(n, 5)
        prime = np.flatnonzero(segment == 0)
        ranked = prime[np.argsort(-size[prime], kind="stable")]
        edges = np.cumsum([max(1, round(config.n_names * share)) for share in (0.007, 0.016, 0.09, 0.11)])
        scale[ranked] = np.searchsorted(edges, np.arange(len(ranked)), side="right")
        columns["kind"].append(np.zeros(n, np.int64))
        columns["listed"] += listed
        columns["delisted"] += [
            day + timedelta(days=max(30, int(min(y * 365, 36500)))) for day, y in zip(listed, years, strict=True)
        ]
        for field, values in {
            "sector": sector, "cluster": cluster, "size": size, "value": np.clip(value, -2.2, 2.2), "segment": segment,
            "old_market": old_market, "scale": scale, "beta": np.clip(beta, 0.4, 1.8), "vol": np.clip(vol, 0.009, 0.04),
            "price": np.clip(price, 400, 9000), "close_level": close_level, "close_scale": np.clip(close_scale, 0.06, 0.5),
        }.items():  # fmt: skip
            columns[field].append(values)

    rng = generator(config.seed, "names")
    pool = [int(c) for c in rng.permutation(np.arange(1400, 10_000)) if c not in (8301, 8421)]
    letters = (f"{number}{letter}0" for letter in "ACDFGHJKLMNPRSTUWXY" for number in range(130, 1000))
    free = iter(pool)
    listed_before = [config.start - timedelta(days=365)] * config.n_names
    sector = np.repeat(np.arange(len(weights)), _sector_quota(config.n_names, weights))
    # names are ordered by sector here, so the members of a cluster come from different sectors
    draw(rng, config.n_names, listed_before, sector, np.arange(config.n_names) % n_clusters, newcomer=False)
    codes = [f"{next(free)}0" for _ in range(config.n_names)]
    codes[-1] = next(letters)  # codes with a letter occur in every market, whatever its years
    _add_preferred_and_etf(columns, codes, config)

    for year in range(config.start.year, config.end.year + 1):
        rng = generator(config.seed, "listings", year)
        days = [date(year, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 365, 8000)]
        n = int(rng.poisson(config.n_names * config.listings))
        listed = sorted(day for day in days[:n] if day > config.start)
        n = len(listed)
        draw(rng, n, listed, rng.choice(len(weights), n, p=weights), rng.integers(0, n_clusters, n), newcomer=True)
        for day in listed:
            ended = [
                c for c, gone in zip(codes, columns["delisted"], strict=False)
                if gone + timedelta(days=365) < day and codes.count(c) == 1 and c.endswith("0")
            ] if config.code_reuse else []  # fmt: skip
            if ended and rng.random() < config.code_reuse:
                codes.append(ended[0])
            else:
                codes.append(next(letters) if day.year >= 2024 else f"{next(free)}0")
        known[year] = len(codes)
    merged = {k: np.concatenate(v) if v and isinstance(v[0], np.ndarray) else v for k, v in columns.items()}
    return _Names(**{**merged, "code": codes}), known  # type: ignore[arg-type]


def _add_preferred_and_etf(columns: dict[str, list], codes: list[str], config: MarketConfig) -> None:
    """One preferred share of an existing issuer and one ETF: what a universe filter has to drop."""
    first_issuer = codes[0][:4]
    for code, kind, segment in ((f"{first_issuer}5", PREFERRED, 0), ("13000", ETF, 3)):
        codes.append(code)
        columns["listed"].append(config.start - timedelta(days=365))
        columns["delisted"].append(date(9999, 1, 1))
        values = {
            "kind": kind, "sector": columns["sector"][0][0] if kind == PREFERRED else -1, "cluster": -1, "size": -0.5,
            "value": 0.5, "segment": segment, "old_market": 0, "scale": 5, "beta": 1.0, "vol": 0.012, "price": 2000.0,
            "close_level": 0.0, "close_scale": 0.3,
        }  # fmt: skip
        for field, value in values.items():
            columns[field].append(np.array([value]))


def simulate(config: MarketConfig) -> "Market":
    """Simulate the market of `config`; the same config gives the same market, to the last digit.

    Raises:
        ValueError: no trading day between start and end, or days beyond the known calendar.
    """
    days = calendar.trading_days(config.start, config.end)
    if not days:
        raise ValueError(f"no trading day between {config.start} and {config.end}")
    names, known = _names(config)
    years = np.array([day.year for day in days])
    blocks = [
        (int(y), slice(int(np.searchsorted(years, y)), int(np.searchsorted(years, y, side="right"))), known[int(y)])
        for y in np.unique(years)
    ]
    streams = _Streams(config.seed, blocks)
    n = blocks[-1][2]
    if n < len(names.code):  # the last year has no trading day inside the range
        raise ValueError(f"{config.end} lies before the first trading day of its year: end on or after it")

    ordinals = np.array([day.toordinal() for day in days])
    first = np.searchsorted(ordinals, [day.toordinal() for day in names.listed])
    stop = np.searchsorted(ordinals, [day.toordinal() for day in names.delisted])
    rows = np.arange(len(days))[:, None]
    alive = (rows >= first) & (rows < stop)
    traded = alive & _traded(config, names, streams)
    traded[[i for i, day in enumerate(days) if day in calendar.SYSTEM_HALTS]] = False

    latent = {name: streams.autoregressive(name, phi) for name, phi in PERSISTENCE.items()}
    signals = _signals(config, names, latent, traded)
    log_return = _log_returns(config, names, streams, days, first, signals)
    locked = (log_return >= LIMIT_UP).astype(np.int8) - (log_return <= LIMIT_DOWN).astype(np.int8)
    log_path = np.cumsum(log_return, axis=0, dtype=np.float64)

    # overnight part of the day's move; the open must lie inside the range that `_bars` will draw
    location, spread = _shape(names, latent)
    intraday = np.float32(0.55) * log_return + np.float32(0.35) * names.vol.astype(np.float32) * streams.normal("open")
    intraday = np.clip(intraday, (location - 1) * spread, location * spread)
    intraday[locked != 0] = 0
    spread[locked != 0] = 0

    indices = _indices(names, streams, alive, log_path, log_return, intraday)
    etf = names.kind == ETF
    log_path[:, etf] = np.log(indices[tables.TOPIX_INDEX][:, 3:4]) - np.log(indices[tables.TOPIX_INDEX][0, 3])
    events = _events(config, names, blocks, days, first, stop)
    log_path += np.log(names.price)
    for day, name, factor in zip(*events, strict=True):
        log_path[day:, name] += np.log(factor)

    tenths = [np.rint(np.exp(log_path + move) * 10).astype(np.int32) for move in _moves(location, spread, intraday)]
    yen = np.exp(np.log(2e8) + 1.2 * names.value - 0.15) * np.exp(np.float32(0.55) * signals.volume_shock)
    lots = np.maximum(2, np.rint(yen * 10 / np.maximum(tenths[3], 1) / 100)).astype(np.int32)
    shares = np.rint(5e10 * np.exp(1.4 * names.size) / names.price / 100) * 100
    return Market(
        config=config, days=days, names=names, alive=alive, traded=traded, ohlc=tuple(tenths), lots=lots,
        locked=locked, shares=shares, event_day=events[0], event_name=events[1], event_factor=events[2],
        indices=indices, signals=signals,
    )  # fmt: skip


def _traded(config: MarketConfig, names: _Names, streams: _Streams) -> Bools:
    """False on days without buyers (small names) and during suspensions of three to five days."""
    u = streams.uniform("trades")
    quiet = config.untraded * np.exp(-names.value)
    quiet[names.kind == ETF] = 0
    untraded = u < quiet.astype(np.float32)
    starts = u > np.float32(1 - config.halts / 245)
    length = 3 + np.arange(u.shape[1]) % 3
    for lag in range(5):
        untraded[lag:] |= starts[: len(starts) - lag] & (length > lag)
    return ~untraded


def _signals(config: MarketConfig, names: _Names, latent: dict[str, F32], traded: Bools) -> Signals:
    """The planted drift from the latent range, location of the close, and volume shock."""
    signal = (names.cluster >= 0).astype(np.float32)
    spread, location, shock = latent["level"], latent["deviation"], latent["neighbour"]

    # Mean over the other members of the cluster who traded, scaled to unit variance. Members are added one at a time:
    # a sum over an axis could change in the last bit with the number of names, and with it the rounding of prices.
    visible = np.where(traded, shock, np.float32(0))
    clusters = [np.flatnonzero(names.cluster == c) for c in range(int(names.cluster.max()) + 1)]
    total = np.zeros((len(shock), len(clusters) + 1), np.float32)  # the last one stands for "no cluster"
    count = np.zeros_like(total)
    for k in range(max(len(members) for members in clusters)):
        having = [c for c, members in enumerate(clusters) if len(members) > k]
        member = [clusters[c][k] for c in having]
        total[:, having] += visible[:, member]
        count[:, having] += traded[:, member]
    mates = np.maximum(count[:, names.cluster] - traded, 1)
    neighbour = (total[:, names.cluster] - visible) / np.sqrt(mates)

    large = np.where(names.value > 0, np.float32(1), np.float32(-1))
    level = (np.float32(config.level) + np.float32(config.interaction) * large) * spread
    return Signals(
        level=level * signal,
        deviation=np.float32(config.deviation) * location * signal,
        neighbour=np.float32(config.neighbour) * neighbour * signal,
        volume_shock=shock,
        persistence=PERSISTENCE,
    )


def _log_returns(
    config: MarketConfig, names: _Names, streams: _Streams, days: list[date], first: I64, signals: Signals
) -> F32:
    """Close-to-close log returns [days, names] of the adjusted price; 0 up to the listing day and on system halts."""
    n_clusters = int(names.cluster.max()) + 1
    regime = np.exp(np.float32(0.25) * streams.autoregressive("regime", 0.97, width=1))
    market = np.float32(0.009) * regime * streams.normal("market", width=1) + np.float32(0.0003)
    sector = streams.normal("sector", width=len(tables.SECTORS) + 1)[:, names.sector]
    cluster = streams.normal("cluster", width=n_clusters + 1)[:, names.cluster]
    own = streams.normal("own") * np.exp(np.float32(0.35) * streams.normal("tails") - np.float32(0.1225))

    share = config.sector_share, config.cluster_share, 1 - config.sector_share - config.cluster_share
    out = own
    out *= np.float32(np.sqrt(share[2]))
    out += np.float32(np.sqrt(share[0])) * sector
    out += np.float32(np.sqrt(share[1])) * cluster
    out *= np.sqrt(regime)
    out[1:] += (signals.level + signals.deviation + signals.neighbour)[:-1]
    vol = names.vol.astype(np.float32)
    out *= vol
    out += names.beta.astype(np.float32) * market - np.float32(0.5) * vol**2
    u = streams.uniform("jumps")
    jump = u < np.float32(0.0006)
    side = 2 * u[jump] / np.float32(0.0006) - 1  # news: Laplace jumps, from the same draw
    out[jump] += -np.float32(0.07) * np.sign(side) * np.log1p(-np.minimum(np.abs(side), np.float32(0.999)))
    np.clip(out, np.float32(LIMIT_DOWN), np.float32(LIMIT_UP), out=out)
    out[np.arange(len(days))[:, None] <= first] = 0
    out[0] = 0
    out[[i for i, day in enumerate(days) if day in calendar.SYSTEM_HALTS]] = 0
    return out


def _shape(names: _Names, latent: dict[str, F32]) -> tuple[F32, F32]:
    """Where the day closes within its range (0 low, 1 high), and the log range, both [days, names]."""
    usual, scale = names.close_level.astype(np.float32), names.close_scale.astype(np.float32)
    location = 1 / (1 + np.exp(-(usual + scale * latent["deviation"])))
    spread = np.exp(np.float32(0.60) * latent["level"] - np.float32(0.18))
    return location, np.float32(1.2) * names.vol.astype(np.float32) * spread


def _moves(location: F32, spread: F32, intraday: F32) -> tuple[F32, F32, F32, F32]:
    """Log distance of open, high, low and close from the close."""
    return -intraday, (1 - location) * spread, -location * spread, np.zeros_like(spread)


def _events(
    config: MarketConfig, names: _Names, blocks: list[tuple[int, slice, int]], days: list[date], first: I64, stop: I64
) -> tuple[I64, I64, F64]:
    """Ex-dates of splits and consolidations: (day row, name, AdjFactor), by day."""
    found: list[tuple[int, int, float]] = []
    for year, rows, n in blocks:
        rng = generator(config.seed, "events", year)
        u, when, which = rng.random(n), rng.integers(0, 365, n), rng.integers(0, 60, n)
        factor = np.where(u < config.splits, _SPLITS[which % 6], _CONSOLIDATIONS[which % 2])
        for name in np.flatnonzero((u < config.splits) | (u > 1 - config.consolidations)):
            ex_date = date(year, 1, 1) + timedelta(days=int(when[name]))
            day = rows.start + sum(d < ex_date for d in days[rows])
            if day < rows.stop and first[name] < day < stop[name] and names.kind[name] == ORDINARY:
                found.append((day, int(name), float(factor[name])))
    found.sort()
    return (
        np.array([e[0] for e in found], np.int64),
        np.array([e[1] for e in found], np.int64),
        np.array([e[2] for e in found], np.float64),
    )


def _indices(
    names: _Names, streams: _Streams, alive: Bools, log_path: F64, log_return: F32, intraday: F32
) -> dict[str, F64]:
    """Capitalisation-weighted indices [days, OHLC] by index code: TOPIX (names with a size class), 33 sectors, TOPIX-17."""
    ordinary = names.kind == ORDINARY
    cap = np.exp(log_path + np.log(5e10) + 1.4 * names.size)
    weight = np.zeros_like(cap)
    weight[1:] = cap[:-1] * (alive[1:] & alive[:-1] & ordinary)
    sector17 = np.array([int(tables.SECTORS[s][2]) if s >= 0 else 0 for s in names.sector])
    groups = {tables.TOPIX_INDEX: (names.scale < 5, 2000.0)}
    groups |= {row[4]: (names.sector == s, 1000.0) for s, row in enumerate(tables.SECTORS)}
    groups |= {index: (sector17 == int(s17), 1000.0) for s17, index in tables.SECTOR17_INDEX.items()}
    member = np.stack([mask & ordinary for mask, _ in groups.values()], axis=1).astype(np.float64)
    total = weight @ member
    known = np.where(total > 0, total, 1)
    day_return = (weight * np.expm1(log_return)) @ member / known
    overnight = (weight * np.expm1(log_return - intraday)) @ member / known
    wick = 0.002 * np.abs(streams.normal("index wicks", width=2 * len(groups))).reshape(len(cap), len(groups), 2)
    halted = ~alive.any(axis=1) | (log_return == 0).all(axis=1)
    wick[halted] = 0
    wick[0] = 0.001
    base = np.array([level for _, level in groups.values()])
    close = base * np.cumprod(1 + day_return, axis=0)
    previous = np.vstack([base, close[:-1]])
    open_ = previous * (1 + overnight)
    high = np.maximum(open_, close) * (1 + wick[:, :, 0])
    low = np.minimum(open_, close) * (1 - wick[:, :, 1])
    bars = np.round(np.stack([open_, high, low, close], axis=2), 2)
    return {code: bars[:, k] for k, code in enumerate(groups)}


@dataclass(frozen=True)
class Market:
    """A simulated market. Arrays are [days, names] unless said otherwise; names may not yet or no longer be listed.

    Attributes:
        days: trading days.
        names: what does not change from day to day.
        alive: listed that day (a row exists); traded: a price was made (else the row's six values are null).
        ohlc: raw open, high, low, close in tenths of a yen, int32.
        lots: volume in lots of 100 shares.
        locked: 1 limit up, -1 limit down, else 0.
        shares: [names] shares outstanding on the first day.
        event_day, event_name, event_factor: [events] ex-dates (row), names (column), AdjFactor; sorted by day.
        indices: [days, OHLC] by index code.
        signals: the planted drift.
    """

    config: MarketConfig
    days: list[date]
    names: _Names
    alive: Bools
    traded: Bools
    ohlc: tuple[I32, ...]
    lots: I32
    locked: NDArray[np.int8]
    shares: F64
    event_day: I64
    event_name: I64
    event_factor: F64
    indices: dict[str, F64]
    signals: Signals

    @cached_property
    def row_of(self) -> dict[date, int]:
        """Row of each trading day."""
        return {day: i for i, day in enumerate(self.days)}

    @cached_property
    def columns_of(self) -> dict[str, list[int]]:
        """Columns of each code, oldest first: two where a code was given out again."""
        out: dict[str, list[int]] = {}
        for i, code in enumerate(self.names.code):
            out.setdefault(code, []).append(i)
        return out

    @cached_property
    def _by_code(self) -> I64:
        return np.argsort(np.array(self.names.code), kind="stable")

    @cached_property
    def _day_text(self) -> NDArray[np.object_]:
        return np.array([day.isoformat() for day in self.days], dtype=object)

    @cached_property
    def _ordinals(self) -> I64:
        return np.array([day.toordinal() for day in self.days])

    @cached_property
    def _codes(self) -> NDArray[np.object_]:
        return np.array(self.names.code, dtype=object)

    # -- bars ---------------------------------------------------------------------------------------------------

    def bars(self, day: date, as_of: date | None = None, sessions: bool = False) -> pl.DataFrame:
        """Daily bars of all listed issues on `day` in the fields of `/equities/bars/daily`, by code.

        Args:
            day: a closed day gives an empty frame.
            as_of: Adj* are scaled by the events known then (default: the last day of the market).
            sessions: with the morning and afternoon fields of the Premium plan.
        """
        row = self.row_of.get(day)
        columns = self._by_code[self.alive[row, self._by_code]] if row is not None else self._by_code[:0]
        return self._bars(np.full(len(columns), row or 0), columns, self._last_row(as_of), sessions)

    def history(
        self, code: str, first: date | None = None, last: date | None = None, as_of: date | None = None,
        sessions: bool = False,
    ) -> pl.DataFrame:  # fmt: skip
        """Daily bars of one issue between two days, inclusive, by date; unknown codes give an empty frame."""
        lo, hi = self.row_range(first, last)
        rows, columns = [], []
        for column in self.columns_of.get(code, []):
            listed = lo + np.flatnonzero(self.alive[lo:hi, column])
            rows.append(listed)
            columns.append(np.full(len(listed), column))
        empty = np.zeros(0, np.int64)
        return self._bars(
            np.concatenate(rows or [empty]), np.concatenate(columns or [empty]), self._last_row(as_of), sessions
        )

    def quotes(self) -> pl.DataFrame:
        """All raw bars at once: date, code, O, H, L, C, Vo, Va, AdjFactor; sorted by date and code."""
        rows, position = np.nonzero(self.alive[:, self._by_code])
        columns = self._by_code[position]
        factor = np.ones(self.alive.shape)
        factor[self.event_day, self.event_name] = self.event_factor
        traded = pl.Series(self.traded[rows, columns])
        prices, volume, value = self._trade(rows, columns)
        numbers = dict(zip("OHLC", (p / 10 for p in prices), strict=True)) | {"Vo": volume, "Va": value}
        return pl.DataFrame(
            {
                "date": pl.Series(np.array(self.days, dtype="datetime64[D]")[rows]),
                "code": pl.Series(self._codes[columns], dtype=pl.String),
            }
        ).with_columns(
            *(pl.Series(k, v).set(~traded, None) for k, v in numbers.items()),
            pl.Series("AdjFactor", factor[rows, columns]),
        )

    def _trade(self, rows: I64, columns: I64) -> tuple[list[I64], F64, F64]:
        """Open, high, low, close in tenths of a yen, shares and yen traded; meaningless where nothing traded."""
        prices = [values[rows, columns].astype(np.int64) for values in self.ohlc]
        volume = self.lots[rows, columns].astype(np.float64) * 100
        return prices, volume, np.rint(volume * (prices[1] + prices[2] + prices[3]) / 30)

    def row_range(self, first: date | None, last: date | None) -> tuple[int, int]:
        """Rows [lo, hi) of the trading days between two dates, inclusive; None leaves a side open."""
        ordinals = self._ordinals
        lo = int(np.searchsorted(ordinals, first.toordinal())) if first else 0
        hi = int(np.searchsorted(ordinals, last.toordinal(), side="right")) if last else len(self.days)
        return lo, max(lo, hi)

    def _last_row(self, as_of: date | None) -> int:
        return self.row_range(None, as_of)[1] - 1

    def _factors(self, rows: I64, columns: I64, last_row: int) -> tuple[F64, F64, F64]:
        """AdjFactor of each (row, column), and the products of the name's factors up to that day and after it."""
        days, name, factor = self.event_day, self.event_name, self.event_factor
        today, before, after = (np.ones(len(rows)) for _ in range(3))
        if len(rows) and (rows == rows[0]).all():  # one day of many names
            position = np.full(len(self.names.code), -1)
            position[columns] = np.arange(len(columns))
            at = position[name]
            for out, when in ((today, days == rows[0]), (before, days <= rows[0]), (after, days > rows[0])):
                chosen = when & (at >= 0) & (days <= last_row)
                np.multiply.at(out, at[chosen], factor[chosen])
        else:  # few names over many days
            for e in np.flatnonzero(np.isin(name, columns) & (days <= last_row)):
                mine = columns == name[e]
                today[mine & (rows == days[e])] *= factor[e]
                before[mine & (rows >= days[e])] *= factor[e]
                after[mine & (rows < days[e])] *= factor[e]
        return today, before, after

    def _bars(self, rows: I64, columns: I64, last_row: int, sessions: bool) -> pl.DataFrame:
        today, before, after = self._factors(rows, columns, last_row)
        traded = self.traded[rows, columns]
        dark = ~traded

        def number(values: NDArray) -> pl.Series:
            return pl.Series(values, dtype=pl.Float64).set(pl.Series(dark), None)

        prices, volume, value = self._trade(rows, columns)
        locked = self.locked[rows, columns]
        data: dict[str, pl.Series] = {
            "Date": pl.Series(self._day_text[rows], dtype=pl.String),
            "Code": pl.Series(self._codes[columns], dtype=pl.String),
        }
        data |= {field: number(p / 10) for field, p in zip("OHLC", prices, strict=True)}
        data["UL"] = _flag(traded & (locked > 0))
        data["LL"] = _flag(traded & (locked < 0))
        data |= {"Vo": number(volume), "Va": number(value), "AdjFactor": pl.Series(today)}
        data |= {f"Adj{f}": number(np.round(p / 10 * after, 1)) for f, p in zip("OHLC", prices, strict=True)}
        data["AdjVo"] = number(np.rint(volume / after))
        if sessions:
            data |= self._sessions(rows, columns, prices, volume, value, after, number)
        capital = np.rint(prices[3] / 10 * self.shares[columns] / before / 1e6)
        fund = pl.Series(self.names.kind[columns] == ETF)
        data["MktCap"] = number(capital).set(fund, None)
        data["ExRT"] = pl.Series(np.where(today < 1, "1", "2").astype(object), dtype=pl.String).set(
            pl.Series(today == 1), None
        )
        return pl.DataFrame(data)

    def _sessions(self, rows, columns, prices, volume, value, after, number) -> dict[str, pl.Series]:  # type: ignore[no-untyped-def]
        """Morning and afternoon bars that fit the day's: one of them holds the high, one the low."""
        h = (rows.astype(np.uint64) * 2654435761 + columns.astype(np.uint64) * 40503 + 12345) * 6364136223846793005
        bits, u = (h >> np.uint64(40)) & np.uint64(3), ((h >> np.uint64(20)) & np.uint64(1023)) / 1023
        o, high, low, c = prices
        noon = np.rint(low + (high - low) * u).astype(np.int64)
        morning_high, morning_low = (bits & 1).astype(bool), (bits & 2).astype(bool)
        share = np.clip(0.35 + 0.3 * u, 0, 1)
        lots = np.maximum(1, np.floor(volume / 100 * share)) * 100
        parts = {
            "M": (o, np.where(morning_high, high, np.maximum(o, noon)), np.where(morning_low, low, np.minimum(o, noon)),
                  noon, lots, np.rint(value * lots / volume)),
            "A": (noon, np.where(morning_high, np.maximum(noon, c), high), np.where(morning_low, np.minimum(noon, c), low),
                  c, volume - lots, value - np.rint(value * lots / volume)),
        }  # fmt: skip
        out: dict[str, pl.Series] = {}
        for prefix, part in parts.items():
            out |= {prefix + f: number(p / 10) for f, p in zip("OHLC", part[:4], strict=True)}
            flat = np.zeros(len(rows), bool)
            out |= {f"{prefix}UL": _flag(flat), f"{prefix}LL": _flag(flat)}
            out |= {f"{prefix}Vo": number(part[4]), f"{prefix}Va": number(part[5])}
            out |= {f"{prefix}Adj{f}": number(np.round(p / 10 * after, 1)) for f, p in zip("OHLC", part[:4], strict=True)}
            out[f"{prefix}AdjVo"] = number(np.rint(part[4] / after))
        return out

    # -- master, indices, calendar --------------------------------------------------------------------------------

    def master(self, day: date) -> pl.DataFrame:
        """Listed issues as of the trading day `day` in the fields of `/equities/master`, by code.

        A day before the market's first shows the first list, one after its last the last.
        """
        row = min(max(self.row_range(None, day)[1] - 1, 0), len(self.days) - 1)
        columns = self._by_code[self.alive[row, self._by_code]]
        static = self._master_fields[columns.tolist()]
        market = "_old" if day < tables.MARKET_REFORM else "_new"
        return static.with_columns(
            pl.lit(day.isoformat()).alias("Date"),
            pl.col(market).alias("Mkt"),
            pl.col(market).replace_strict(tables.MARKET_NAMES).alias("MktNm"),
        ).select(MASTER_FIELDS)

    @cached_property
    def _master_fields(self) -> pl.DataFrame:
        n = self.names
        sectors = [tables.SECTORS[s] if s >= 0 else (*tables.NO_SECTOR, 0, "") for s in n.sector]
        old = (("0101", "0101"), ("0102", "0106"), ("0104", "0107"), ("0109", "0109"))
        margin = np.where(n.segment == 0, "2", "1")
        return pl.DataFrame(
            {
                "Code": n.code,
                "CoName": [f"模擬銘柄{i:04d}" if k != ETF else "模擬ＴＯＰＩＸ上場投信" for i, k in enumerate(n.kind)],
                "CoNameEn": [f"Sandbox {i:04d} Co." if k != ETF else "Sandbox TOPIX ETF" for i, k in enumerate(n.kind)],
                "S17": [s[2] for s in sectors],
                "S17Nm": [tables.SECTOR17_NAMES[s[2]] for s in sectors],
                "S33": [s[0] for s in sectors],
                "S33Nm": [s[1] for s in sectors],
                "ScaleCat": [tables.SCALE_CATEGORIES[s] for s in n.scale],
                "Mrgn": margin.tolist(),
                "MrgnNm": [tables.MARGIN_NAMES[m] for m in margin],
                "ProdCat": ["014" if k == ETF else "011" for k in n.kind],
                "_old": [old[s][m] for s, m in zip(n.segment, n.old_market, strict=True)],
                "_new": [("0111", "0112", "0113", "0109")[s] for s in n.segment],
            }
        )

    def index_bars(self, code: str, first: date | None = None, last: date | None = None) -> pl.DataFrame:
        """Date, Code, O, H, L, C of one index between two days, inclusive; unknown codes give an empty frame."""
        lo, hi = self.row_range(first, last) if code in self.indices else (0, 0)
        values = self.indices[code][lo:hi] if code in self.indices else np.zeros((0, 4))
        return _index_frame([day.isoformat() for day in self.days[lo:hi]], [code] * (hi - lo), values)

    def index_day(self, day: date) -> pl.DataFrame:
        """Date, Code, O, H, L, C of every index on one day."""
        row = self.row_of.get(day)
        if row is None:
            return _index_frame([], [], np.zeros((0, 4)))
        codes = sorted(self.indices)
        return _index_frame([day.isoformat()] * len(codes), codes, np.stack([self.indices[c][row] for c in codes]))

    # -- changes ----------------------------------------------------------------------------------------------------

    def with_split(self, code: str, ex_date: date, factor: float) -> "Market":
        """The same market, but with one more split (factor < 1) or consolidation (> 1) of `code` on a trading day."""
        column, row = self.columns_of[code][-1], self.row_of[ex_date]
        ohlc = tuple(values.copy() for values in self.ohlc)
        for values in ohlc:
            values[row:, column] = np.rint(values[row:, column] * factor)
        lots = self.lots.copy()
        lots[row:, column] = np.maximum(2, np.rint(lots[row:, column] / factor))
        place = int(np.searchsorted(self.event_day, row, side="right"))
        return replace(
            self, ohlc=ohlc, lots=lots, event_day=np.insert(self.event_day, place, row),
            event_name=np.insert(self.event_name, place, column),
            event_factor=np.insert(self.event_factor, place, factor),
        )  # fmt: skip


MASTER_FIELDS = (
    "Date", "Code", "CoName", "CoNameEn", "S17", "S17Nm", "S33", "S33Nm", "ScaleCat", "Mkt", "MktNm", "Mrgn", "MrgnNm",
    "ProdCat",
)  # fmt: skip


def _flag(values: Bools) -> pl.Series:
    return pl.Series(np.where(values, "1", "0").astype(object), dtype=pl.String)


def _index_frame(days: list[str], codes: list[str], values: F64) -> pl.DataFrame:
    data: dict[str, pl.Series] = {"Date": pl.Series(days, dtype=pl.String), "Code": pl.Series(codes, dtype=pl.String)}
    data |= {field: pl.Series(values[:, k], dtype=pl.Float64) for k, field in enumerate("OHLC")}
    return pl.DataFrame(data)


def calendar_frame(first: date, last: date) -> pl.DataFrame:
    """Date and HolDiv of every calendar day between two days, inclusive, in the fields of `/markets/calendar`."""
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    open_days = set(calendar.trading_days(first, last))

    def division(day: date) -> str:
        if day in open_days:
            return "1"
        new_year = (day.month, day.day) >= (12, 31) or (day.month, day.day) <= (1, 3)
        return "3" if day >= HOLIDAY_TRADING_SINCE and day.weekday() < 5 and not new_year else "0"

    return pl.DataFrame(
        {"Date": [day.isoformat() for day in days], "HolDiv": [division(day) for day in days]},
        schema={"Date": pl.String, "HolDiv": pl.String},
    )
