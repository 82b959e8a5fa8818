"""The planted signals: each must be visible to one kind of detector and to no simpler one.

The detectors are written here in plain NumPy from the served prices alone, apart from the simulator's own latents:
high/low ratio, close location, volume ratio and trading value, as the feature tables compute them. On 735 days the mean
rank correlation of a detector without signal stays within about 0.01 of zero; the thresholds keep well off that.
"""

from datetime import date
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, spearmanr

from atft_assets.sandbox import Market, MarketConfig, demo_config, oracle_rank_ic, simulate
from atft_assets.sandbox.names import ORDINARY
from atft_assets.sandbox.oracle import daily_rank_ic, expected_return, forward_returns, oracle

F64 = NDArray[np.float64]
FIRST = 120  # days of warm-up


class Seen(NamedTuple):
    """What the prices show: rank-gaussianised features [days, names], returns of the day and of the next."""

    market: Market
    high_low: F64
    value: F64
    location: F64
    volume: F64
    today: F64
    tomorrow: F64
    eligible: NDArray[np.bool_]

    def ic(self, scores: F64, horizon: int = 1) -> float:
        returns = self.tomorrow if horizon == 1 else forward_returns(self.market, horizon)
        return float(np.nanmean(daily_rank_ic(scores, returns, self.eligible)))


def gauss(values: F64, where: NDArray[np.bool_]) -> F64:
    out = np.zeros(values.shape)
    for t in range(len(values)):
        m = where[t] & np.isfinite(values[t])
        out[t, m] = norm.ppf((rankdata(values[t, m]) - 0.5) / max(m.sum(), 1))
    return out


def trailing(values: F64, window: int) -> tuple[F64, F64]:
    """Mean and standard deviation over the last `window` days."""
    first, second = (np.cumsum(np.vstack([np.zeros((1, values.shape[1])), v]), axis=0) for v in (values, values**2))
    mean, square = np.zeros(values.shape), np.ones(values.shape)
    mean[window - 1 :] = (first[window:] - first[:-window]) / window
    square[window - 1 :] = (second[window:] - second[:-window]) / window
    return mean, np.sqrt(np.maximum(square - mean**2, 1e-6))


@pytest.fixture(scope="module")
def seen() -> Seen:
    market = simulate(demo_config())
    traded = market.traded & (market.names.kind == ORDINARY)
    _, high, low, close = (np.where(traded, p / 10, np.nan) for p in market.ohlc)
    volume = np.where(traded, market.lots * 100.0, np.nan)
    factor = np.ones(close.shape)
    for day, name, f in zip(market.event_day, market.event_name, market.event_factor, strict=True):
        factor[day:, name] *= f
    adjusted, shares = close / factor, volume * factor
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = np.nan_to_num(shares, nan=float(np.nanmedian(shares)))
        ratio = shares / np.where(trailing(usual, 20)[0] > 0, trailing(usual, 20)[0], np.nan)
        location = (close - low) / (high - low)
    today = np.full(close.shape, np.nan)
    today[1:] = adjusted[1:] / adjusted[:-1] - 1
    eligible = traded.copy()
    eligible[:FIRST] = False
    return Seen(
        market, gauss(high / low, traded), gauss(close * volume, traded), gauss(location, traded), gauss(ratio, traded),
        today, forward_returns(market, 1), eligible,
    )  # fmt: skip


def neighbours(seen: Seen, day: int, k: int = 10, window: int = 60) -> NDArray[np.int64]:
    """The k names of highest residual return correlation over the window before `day` [names, k]."""
    r = np.nan_to_num(seen.today[day - window : day])
    market = r.mean(axis=1, keepdims=True)
    r = r - market * (r * market).sum(axis=0) / (market**2).sum()
    r = (r - r.mean(axis=0)) / (r.std(axis=0) + 1e-12)
    correlation = r.T @ r / window
    np.fill_diagonal(correlation, -9)
    correlation[:, ~seen.eligible[day - 1 : day + 20].any(axis=0)] = -9
    return np.argsort(-correlation, axis=1)[:, :k]


def test_the_oracle_is_strong_and_each_component_carries_its_part(seen: Seen) -> None:
    config = seen.market.config
    planted = {
        "level": np.hypot(config.level, config.interaction),
        "deviation": config.deviation,
        "neighbour": config.neighbour,
    }
    for component, strength in planted.items():
        assert 0.75 * strength < oracle_rank_ic(seen.market, 1, component) < 1.05 * strength
        assert oracle_rank_ic(seen.market, 5, component) > 0.55 * strength
    together = float(np.sqrt(sum(strength**2 for strength in planted.values())))
    assert 0.75 * together < oracle_rank_ic(seen.market, 1) < 1.05 * together
    assert 0.65 * together < oracle_rank_ic(seen.market, 5) < together
    inside = oracle_rank_ic(seen.market, 1, start=date(2024, 1, 1), end=date(2024, 6, 30))
    assert 0.6 * together < inside < 1.2 * together and inside != oracle_rank_ic(seen.market, 1)


def test_the_oracle_frame_scores_traded_ordinary_shares_with_the_sum_of_the_components(seen: Seen) -> None:
    frame = oracle(seen.market, 5)
    assert frame.columns == ["date", "code", "score", "level", "deviation", "neighbour"]
    total = frame["level"] + frame["deviation"] + frame["neighbour"]
    assert (total - frame["score"]).abs().max() < 1e-12  # type: ignore[operator]
    assert frame.height == int((seen.market.traded & (seen.market.names.kind == ORDINARY)).sum())
    assert frame.select("date", "code").is_unique().all()
    assert not frame["code"].str.ends_with("5").any() and "13000" not in frame["code"]


def test_the_oracle_is_the_conditional_expectation(seen: Seen) -> None:
    """Regressing realised log returns on the oracle's score gives a slope of one, for one day and for five."""
    for horizon in (1, 5):
        score = expected_return(seen.market, horizon)
        realised = np.log1p(forward_returns(seen.market, horizon))
        use = seen.eligible & np.isfinite(realised)
        x = score[use]
        centre = np.where(use, realised, 0).sum(axis=1, keepdims=True) / np.maximum(use.sum(axis=1, keepdims=True), 1)
        y = (realised - centre)[use]
        assert 0.85 < float(x @ y / (x @ x)) < 1.15


def test_rank_correlation_agrees_with_scipy(seen: Seen) -> None:
    score = expected_return(seen.market, 1)
    ours = daily_rank_ic(score, seen.tomorrow, seen.eligible)
    for t in (200, 333, 600):
        use = seen.eligible[t] & np.isfinite(seen.tomorrow[t])
        assert ours[t] == pytest.approx(spearmanr(score[t, use], seen.tomorrow[t, use]).statistic, abs=2e-3)
    assert np.isnan(ours[-1]) and np.isnan(ours[:FIRST]).all()


def test_level_is_half_visible_to_a_linear_model_and_more_with_the_interaction(seen: Seen) -> None:
    linear, product = seen.ic(seen.high_low), seen.ic(seen.high_low * np.sign(seen.value))
    both = seen.ic(seen.high_low * (0.08 + 0.13 * np.sign(seen.value)))
    assert 0.03 < linear < 0.10 and product > 0.05
    assert both > linear + 0.015
    assert abs(seen.ic(seen.value)) < 0.02, "the sign alone says nothing"


def test_deviation_is_hidden_in_the_cross_section_and_visible_to_a_trailing_z_score(seen: Seen) -> None:
    same_day = seen.ic(seen.location)
    mean, deviation = trailing(seen.location, 10)
    z = (seen.location - mean) / deviation
    assert abs(same_day) < 0.045
    assert seen.ic(z) > 0.09 and seen.ic(z) > same_day + 0.06
    assert seen.ic(z, horizon=5) > 0.06
    mean, deviation = trailing(seen.location, 20)
    assert seen.ic((seen.location - mean) / deviation) > 0.10


def test_neighbour_is_hidden_in_the_own_name_and_visible_through_a_correlation_graph(seen: Seen) -> None:
    cluster = seen.market.names.cluster
    assert abs(seen.ic(seen.volume)) < 0.025, "the own shock says nothing about the own name"
    message = np.zeros(seen.volume.shape)
    recovered = []
    for day in range(FIRST, len(message), 21):
        table = neighbours(seen, day)
        days = slice(day, day + 21)
        message[days] = seen.volume[days][:, table].mean(axis=2)
        live = seen.eligible[day]
        for name in np.flatnonzero(live):
            mates = np.flatnonzero((cluster == cluster[name]) & live)
            mates = mates[mates != name]
            if len(mates):
                recovered.append(np.isin(mates, table[name]).mean())
    assert np.mean(recovered) > 0.75
    assert seen.ic(message) > 0.06
    assert seen.ic(message, horizon=5) > 0.04
    shuffled = message[:, np.random.default_rng(0).permutation(message.shape[1])]
    assert abs(seen.ic(shuffled)) < 0.03


def test_clusters_lie_across_sectors_and_the_sector_mean_does_not_show_them(seen: Seen) -> None:
    names = seen.market.names
    first = np.arange(seen.market.config.n_names)
    for cluster in range(int(names.cluster.max()) + 1):
        sectors = names.sector[first][names.cluster[first] == cluster]
        assert len(set(sectors)) == len(sectors)
    by_sector = np.zeros(seen.volume.shape)
    for sector in range(33):
        members = names.sector == sector
        if members.any():
            by_sector[:, members] = seen.volume[:, members].mean(axis=1, keepdims=True)
    assert abs(seen.ic(by_sector)) < 0.03


def test_a_linear_model_on_today_stays_far_below_the_oracle(seen: Seen) -> None:
    x = np.stack([seen.high_low, seen.value, seen.location, seen.volume, gauss(seen.today, seen.eligible)], axis=2)
    y = gauss(seen.tomorrow, seen.eligible)
    train, test = seen.eligible.copy(), seen.eligible.copy()
    train[480:], test[:500] = False, False
    a, b = x[train], y[train]
    scores = x @ np.linalg.solve(a.T @ a + 10 * np.eye(a.shape[1]), a.T @ b)
    ridge = float(np.nanmean(daily_rank_ic(scores, seen.tomorrow, test)))
    perfect = float(np.nanmean(daily_rank_ic(expected_return(seen.market, 1), seen.tomorrow, test)))
    assert 0.03 < ridge < 0.55 * perfect


def test_without_planted_signals_nothing_can_be_found() -> None:
    off = simulate(MarketConfig(level=0.0, interaction=0.0, deviation=0.0, neighbour=0.0))
    assert np.isnan(oracle_rank_ic(off, 1))  # no score varies
    on = simulate(MarketConfig())
    ic = daily_rank_ic(expected_return(on, 1), forward_returns(off, 1), off.traded)
    assert abs(np.nanmean(ic)) < 0.02
