"""Drift that prices do not show: each part is found by its own family of data, and by no other one.

The detectors are plain: they read what the endpoints serve, and know nothing of the simulator. Each scores a name on
the evening of a day by what was out then; a regression of the next day's return on the score, day by day, gives slope
and t value. On some 700 days the t value of a detector without signal stays within three or so.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from atft_assets import calendar
from atft_assets.jquants.endpoints import FINS_SUMMARY, INVESTOR_TYPES, OPTIONS_225, SHORT_SALE_REPORT
from atft_assets.sandbox import Market, demo_config, flow, options, oracle_rank_ic, shorts, simulate, statements
from atft_assets.sandbox.config import PLANTED
from atft_assets.sandbox.names import ORDINARY
from atft_assets.sandbox.oracle import expected_return, forward_returns

F64 = NDArray[np.float64]
STRENGTH = 0.12
WARM_UP = 150
EVENING = time(18, 30)


@pytest.fixture(scope="module")
def markets() -> dict[str, Market]:
    """The demo's market with each part planted, and without any."""
    plain = demo_config()
    return {"none": simulate(plain)} | {name: simulate(replace(plain, **{name: STRENGTH})) for name in PLANTED}


def row_known(market: Market, instant: datetime) -> int:
    """Row of the first trading day whose evening knows what was out at an instant."""
    day = instant.date() if instant.time() <= EVENING else instant.date() + timedelta(days=1)
    return market.row_range(None, day - timedelta(days=1))[1]


def decayed(events: F64, weight: float) -> F64:
    out = events.copy()
    for t in range(1, len(out)):
        out[t] += weight * out[t - 1]
    return out


def statement_events(market: Market) -> F64:
    """Changes of the forecast net profit of a fiscal year against what the company said of that year before."""
    frame = statements.summary(market, statements.documents(market, 0, 10**6))
    last: dict[tuple[str, str], float] = {}
    events = np.zeros(market.alive.shape)
    for row in frame.sort("DiscDate", "DiscTime", "DiscNo").iter_rows(named=True):
        said = ((row["CurFYEn"], row["FNP"]), (row["NxtFYEn"], row["NxFNp"]))
        for year, text in said:
            if not text:
                continue
            key, value = (row["Code"], year), float(text)
            if key in last and last[key] and value != last[key]:
                disclosed = date.fromisoformat(row["DiscDate"]), time.fromisoformat(row["DiscTime"])
                t = row_known(market, FINS_SUMMARY.rule.at(*disclosed))
                if t < len(events):
                    events[t, market.columns_of[row["Code"]][-1]] += np.clip(
                        (value - last[key]) / abs(last[key]), -1, 1
                    )
            last[key] = value
    return events


def by_statements(market: Market) -> F64:
    """What was revised over the last months."""
    return decayed(statement_events(market), 0.98)


def position_events(market: Market) -> F64:
    """Reported short positions that are closed, less those that are built up."""
    frame = shorts.short_sale_report(market, market.days[0], market.days[-1])
    held: dict[tuple[str, str], float] = {}
    events = np.zeros(market.alive.shape)
    for row in frame.iter_rows(named=True):
        key = row["Code"], row["SSName"]
        now = row["ShrtPosToSO"] if row["ShrtPosToSO"] >= 0.005 else 0.0
        disclosed = date.fromisoformat(row["DiscDate"])
        t = row_known(market, SHORT_SALE_REPORT.rule.at(disclosed))
        if t < len(events):
            events[t, market.columns_of[row["Code"]][-1]] -= now - held.get(key, 0.0)
        held[key] = now
    return events


def by_positions(market: Market) -> F64:
    """What was closed over the last days."""
    return decayed(position_events(market), 0.9)


def recent(market: Market) -> F64:
    """Return of the last days over its own volatility, within the day's cross-section."""
    daily = np.nan_to_num(np.vstack([np.zeros((1, market.alive.shape[1])), forward_returns(market, 1)[:-1]]))
    five = sum(0.8**k * np.roll(daily, k, axis=0) for k in range(8))
    return centred(five / (volatility(market) + 1e-6), market)


def volatility(market: Market) -> F64:
    daily = np.nan_to_num(np.vstack([np.zeros((1, market.alive.shape[1])), forward_returns(market, 1)[:-1]]))
    square = np.cumsum(daily**2, axis=0)
    out = np.full(daily.shape, np.nan)
    out[60:] = np.sqrt((square[60:] - square[:-60]) / 60)
    return np.nan_to_num(out)


def by_flow(market: Market) -> F64:
    """The recent return times what foreigners did in the newest published week against all weeks before it."""
    frame = flow.investor_types(market, None, None, "TokyoNagoya").sort("PubDate", "EnDate")
    state = np.zeros(len(market.days))
    newest = ""
    for row in frame.iter_rows(named=True):
        t = row_known(market, INVESTOR_TYPES.rule.at(date.fromisoformat(row["PubDate"])))
        if row["EnDate"] > newest and t < len(state):
            newest = row["EnDate"]
            state[t:] = row["FrgnBal"] / row["FrgnTot"]
    usual = np.array([np.median(np.unique(state[: t + 1])) for t in range(len(state))])
    return np.sign(state - usual)[:, None] * recent(market)


def by_options(market: Market) -> F64:
    """Volatility of the name times the level of implied volatility at the money against the days before it."""
    level = np.zeros(len(market.days))
    for t, day in list(enumerate(market.days))[::4]:  # it changes over weeks
        frame = options.options_225(market, t).filter(pl.col("EmMrgnTrgDiv") == "002")
        near = frame.filter(
            ((pl.col("Strike") / pl.col("UnderPx")).log().abs() < 0.04)
            & pl.col("IV").is_between(1.0, 320.0, closed="none")
            & pl.col("LTD").str.to_date().is_between(day + timedelta(days=15), day + timedelta(days=74))
        )
        known = row_known(market, OPTIONS_225.rule.at(day))
        if known < len(level) and near.height:
            level[known:] = np.log(near["IV"].median())  # type: ignore[arg-type]
    usual = np.array([np.mean(level[max(1, t - 500) : t + 1]) if t else 0 for t in range(len(level))])
    names = np.log(volatility(market) + 1e-6)
    return (level - usual)[:, None] * centred(names, market)


def centred(values: F64, market: Market) -> F64:
    """Ranks within the day's traded ordinary shares, between -1 and 1."""
    use = market.traded & (market.names.kind == ORDINARY)
    out = np.zeros(values.shape)
    for t in range(len(values)):
        out[t, use[t]] = 2 * (rankdata(values[t, use[t]]) - 0.5) / max(use[t].sum(), 1) - 1
    return out


DETECTORS: dict[str, Callable[[Market], F64]] = {
    "revision": by_statements,
    "covering": by_positions,
    "regime": by_flow,
    "volatility": by_options,
}


def t_value(scores: F64, market: Market) -> float:
    """t value of the daily slopes of the next day's return, in units of volatility, on the scores."""
    later, scale = forward_returns(market, 1), volatility(market)
    slopes = []
    for t in range(WARM_UP, len(scores) - 1):
        use = market.traded[t] & (market.names.kind == ORDINARY) & np.isfinite(later[t]) & (scale[t] > 0)
        x, y = scores[t, use], np.clip(later[t, use] / scale[t, use], -4, 4)
        x, y = x - x.mean(), y - y.mean()
        if x @ x > 1e-12:
            slopes.append(x @ y / np.sqrt(x @ x))
    return float(np.mean(slopes) / np.std(slopes, ddof=1) * np.sqrt(len(slopes)))


@pytest.mark.parametrize("family", PLANTED)
def test_a_planted_part_is_found_by_its_own_family_alone(markets: dict[str, Market], family: str) -> None:
    found = {name: t_value(DETECTORS[family](market), market) for name, market in markets.items()}
    print(family, {name: round(value, 1) for name, value in found.items()})
    assert found[family] > 8, found
    others = {name: value for name, value in found.items() if name != family}
    assert max(map(abs, others.values())) < 3.5, found


@pytest.mark.parametrize(("family", "events"), [("revision", statement_events), ("covering", position_events)])
def test_prices_move_after_what_is_known_and_not_before(
    markets: dict[str, Market], family: str, events: Callable[[Market], F64]
) -> None:
    """An event says something of the day after the evening that knows it, nothing of that day and of the one before."""
    market = markets[family]
    news = events(market)
    after, same, before = (t_value(np.roll(news, -shift, axis=0), market) for shift in (0, 1, 2))
    # a position that is closed was built up some days before, so that the days before an event lean the other way
    assert after > 4.5 and all(-0.35 * after < earlier < 3 for earlier in (same, before)), (after, same, before)


def test_what_prices_show_of_it_is_nothing(markets: dict[str, Market]) -> None:
    """The recent return and volatility say no more where they matter than where they do not."""
    for family, score in (("regime", recent), ("volatility", lambda market: centred(volatility(market), market))):
        planted, none = (t_value(score(markets[name]), markets[name]) for name in (family, "none"))
        assert abs(planted - none) < 3, (family, planted, none)


def test_the_oracle_knows_what_is_planted(markets: dict[str, Market]) -> None:
    for family in PLANTED:
        market = markets[family]
        assert market.signals.components == ("level", "deviation", "neighbour", family)
        assert 0.5 * STRENGTH < oracle_rank_ic(market, 1, family) < 1.15 * STRENGTH
        assert oracle_rank_ic(market, 5, family) > 0.35 * STRENGTH
        # it is the conditional expectation: the slope of what follows on it is one
        score, realised = expected_return(market, 1, family), np.log1p(forward_returns(market, 1))
        use = market.traded & np.isfinite(realised)
        use[:WARM_UP] = False
        mean = np.where(use, np.nan_to_num(realised), 0).sum(axis=1, keepdims=True) / np.maximum(
            use.sum(axis=1, keepdims=True), 1
        )
        x, y = score[use], (realised - mean)[use]
        assert 0.7 < float(x @ y / (x @ x)) < 1.3, family


def test_a_planted_market_that_ends_earlier_is_the_beginning_of_the_longer_one() -> None:
    config = replace(demo_config(), n_names=40, **dict.fromkeys(PLANTED, 0.1))
    whole, part = simulate(config), simulate(replace(config, end=date(2023, 6, 30)))
    assert part.quotes().equals(whole.quotes().filter(pl.col("date") <= date(2023, 6, 30)))


def test_nothing_planted_leaves_prices_as_they_are(markets: dict[str, Market]) -> None:
    """And with them every figure of the demo; strengths of zero are no other market."""
    none = markets["none"]
    assert none.signals.planted == {} and demo_config().planted == {}
    assert replace(demo_config(), revision=0.0).fingerprint == demo_config().fingerprint
    assert replace(demo_config(), revision=0.1).fingerprint != demo_config().fingerprint
    again = simulate(replace(demo_config(), revision=0.0, regime=0.0))
    assert all((a == b).all() for a, b in zip(again.ohlc, none.ohlc, strict=True))
    # of other years nothing moved since the planted parts came: closes of the first names, summed in tenths of a yen
    assert int(none.ohlc[3][::50, :20].astype(np.int64).sum()) == CLOSES


CLOSES = 16_173_281


@pytest.mark.parametrize("wrong", [{"revision": -0.1}, {"volatility": -1.0}])
def test_strengths_are_not_negative(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="use 0 or more"):
        replace(demo_config(), **wrong)


def test_an_evening_knows_options_of_the_day_before_and_flow_of_the_newest_publication() -> None:
    market = simulate(replace(demo_config(), n_names=20, end=date(2022, 3, 31)))
    for day in (date(2022, 1, 14), date(2022, 2, 10)):
        assert market.days[row_known(market, OPTIONS_225.rule.at(day))] == calendar.next_trading_day(day)
        assert market.days[row_known(market, INVESTOR_TYPES.rule.at(day))] == day
