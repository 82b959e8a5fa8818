"""The random processes behind a simulated market: returns, planted drift, shape of the day, events, indices.

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
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from atft_assets import calendar
from atft_assets.sandbox import codes as tables
from atft_assets.sandbox.config import MarketConfig
from atft_assets.sandbox.names import ETF, F64, I64, ORDINARY, Names, generator

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

# Daily autocorrelation of the latent observables: signals last some days, so that longer horizons carry them too
PERSISTENCE = {"level": 0.7, "deviation": 0.5, "neighbour": 0.5}
COMPONENTS = tuple(PERSISTENCE)

# A day's move stays inside Tokyo's narrowest price limit (about 14 % of the base price); a name that reaches it is
# locked at one price for the day.
LIMIT_UP, LIMIT_DOWN = 0.130, -0.150

NEWS = 0.0012  # share of the days on which a name jumps

_SPLITS = np.array([0.5, 0.5, 0.5, 0.3333333, 0.25, 0.2])
_CONSOLIDATIONS = np.array([5.0, 10.0])


@dataclass(frozen=True)
class Signals:
    """The latent observables and how long they last; every array is [days, names] float32 with unit variance.

    Attributes:
        level, deviation, neighbour: drift of the next day per unit of the name's residual volatility.
        volume_shock: the shock whose mean over cluster mates is `neighbour`.
        persistence: daily autocorrelation by component, which gives the expectation over longer horizons.
        planted: further parts of the drift by name, of which prices show nothing (`planted`).
    """

    level: F32
    deviation: F32
    neighbour: F32
    volume_shock: F32
    persistence: dict[str, float]
    planted: dict[str, F32] = field(default_factory=dict)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts of the drift."""
        return (*COMPONENTS, *self.planted)

    def of(self, component: str) -> F32:
        """One part of the drift."""
        out: F32 = self.planted[component] if component in self.planted else getattr(self, component)
        return out


class Streams:
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


def traded(config: MarketConfig, names: Names, streams: Streams) -> Bools:
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


def signals(config: MarketConfig, names: Names, latent: dict[str, F32], traded: Bools) -> Signals:
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
    neighbour = ((total[:, names.cluster] - visible) / np.sqrt(mates)).astype(np.float32)

    large = np.where(names.value > 0, np.float32(1), np.float32(-1))
    level = (np.float32(config.level) + np.float32(config.interaction) * large) * spread
    return Signals(
        level=level * signal,
        deviation=np.float32(config.deviation) * location * signal,
        neighbour=np.float32(config.neighbour) * neighbour * signal,
        volume_shock=shock,
        persistence=PERSISTENCE,
    )


def residuals(config: MarketConfig, names: Names, streams: Streams) -> tuple[F32, F32]:
    """Residual returns without drift [days, names], in units of the name's volatility; the day's scale [days, 1]."""
    n_clusters = int(names.cluster.max()) + 1
    scale = np.exp(np.float32(0.25) * streams.autoregressive("regime", 0.97, width=1))
    sector = streams.normal("sector", width=len(tables.SECTORS) + 1)[:, names.sector]
    cluster = streams.normal("cluster", width=n_clusters + 1)[:, names.cluster]
    own = streams.normal("own") * np.exp(np.float32(0.55) * streams.normal("tails") - np.float32(0.3025))

    share = config.sector_share, config.cluster_share, 1 - config.sector_share - config.cluster_share
    out = own
    out *= np.float32(np.sqrt(share[2]))
    out += np.float32(np.sqrt(share[0])) * sector
    out += np.float32(np.sqrt(share[1])) * cluster
    out *= np.sqrt(scale)
    return out, scale


def log_returns(
    names: Names, streams: Streams, days: list[date], first: I64, signals: Signals, own: F32, scale: F32
) -> F32:
    """Close-to-close log returns [days, names] of the adjusted price; 0 up to the listing day and on system halts.

    Args:
        own, scale: what `residuals` gave; `own` is written over.
    """
    market = np.float32(0.009) * scale * streams.normal("market", width=1) + np.float32(0.0003)
    out = own
    out[1:] += (signals.level + signals.deviation + signals.neighbour)[:-1]
    for part in signals.planted.values():
        out[1:] += part[:-1]
    vol = names.vol.astype(np.float32)
    out *= vol
    out += names.beta.astype(np.float32) * market - np.float32(0.5) * vol**2
    u = streams.uniform("jumps")
    jump = u < np.float32(NEWS)
    side = 2 * u[jump] / np.float32(NEWS) - 1  # news: Laplace jumps, from the same draw
    out[jump] += -np.float32(0.07) * np.sign(side) * np.log1p(-np.minimum(np.abs(side), np.float32(0.999)))
    np.clip(out, np.float32(LIMIT_DOWN), np.float32(LIMIT_UP), out=out)
    out[np.arange(len(days))[:, None] <= first] = 0
    out[0] = 0
    out[[i for i, day in enumerate(days) if day in calendar.SYSTEM_HALTS]] = 0
    return out


def shape(names: Names, latent: dict[str, F32]) -> tuple[F32, F32]:
    """Where the day closes within its range (0 low, 1 high), and the log range, both [days, names]."""
    usual, scale = names.close_level.astype(np.float32), names.close_scale.astype(np.float32)
    location: F32 = np.float32(1) / (np.float32(1) + np.exp(-(usual + scale * latent["deviation"])))
    spread = np.exp(np.float32(0.60) * latent["level"] - np.float32(0.18))
    return location, np.float32(1.5) * names.vol.astype(np.float32) * spread


def moves(location: F32, spread: F32, intraday: F32) -> tuple[F32, F32, F32, F32]:
    """Log distance of open, high, low and close from the close."""
    return -intraday, (1 - location) * spread, -location * spread, np.zeros_like(spread)


def events(
    config: MarketConfig, names: Names, blocks: list[tuple[int, slice, int]], days: list[date], first: I64, stop: I64
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


def indices(
    names: Names, streams: Streams, alive: Bools, log_path: F64, log_return: F32, intraday: F32
) -> dict[str, F64]:
    """Capitalisation-weighted indices [days, OHLC] by index code: TOPIX (names with a size class), sectors."""
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
