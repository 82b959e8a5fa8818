"""A ledger and its re-runs as the page of a back-test shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.reports.backtest import (
    EQUAL,
    INDEX,
    OURS,
    TOPIX,
    UNIVERSE,
    AtCapital,
    AtCost,
    Backtest,
    Figures,
    Luck,
    refuse_without_equal,
)
from atft_assets.trading.days import TRADING_DAYS
from atft_assets.trading.inference import (
    deflated_sharpe,
    effective_trials,
    expected_maximum,
    minimum_backtest_years,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
    sharpe_verdict,
    variance_of_trials,
)
from atft_assets.trading.ledger import Ledger
from atft_assets.trading.market import Market
from atft_assets.trading.performance import (
    BETA_DAYS,
    by_month,
    cagr,
    compare,
    costs_by_year,
    drawdown,
    rolling_beta,
    sharpe,
    sharpe_interval,
    sortino,
    summary,
    transfer_coefficient,
    unfilled_by_reason,
    without_dividends,
    worst_drawdowns,
)
from atft_assets.trading.policy import BookSide
from atft_assets.trading.round_trips import round_trips
from atft_assets.trading.sweep import Case
from atft_assets.trading.yardsticks import Kind, Weighting, Yardstick, equal_weight_returns, kind_of, within_reach
from atft_model.interchange.statistics import mean_verdict

Floats = NDArray[np.float64]
EVERY = 5  # days between two looks at sectors, size and transfer coefficient
YEAR = math.sqrt(TRADING_DAYS)


@dataclass(frozen=True)
class Run:
    """A strategy, and its ledger."""

    case: Case
    ledger: Ledger


@dataclass(frozen=True)
class Tried:
    """How much was tried before this result was seen.

    Attributes:
        trials: distinct configurations, `trials.ledger.count`.
        sharpes: ratios a day of those that have one.
        correlation: mean of the pairs of their returns; NaN where not known, and then all count.
        pbo: of the rules that were swept; NaN for a single one.
    """

    trials: int
    sharpes: Sequence[float] = ()
    correlation: float = math.nan
    pbo: float = math.nan


def shown(
    market: Market,
    run: Run,
    tried: Tried,
    *,
    header: Mapping[str, str],
    names: Mapping[str, str],
    caveats: Sequence[str] = (),
    others: Sequence[Run] = (),
    at_costs: Sequence[Run] = (),
    at_capital: Sequence[Run] = (),
    horizon: int = 1,
) -> Backtest:
    """What the page shows.

    Args:
        header: of what it is, by name, see `reports.backtest.Backtest`.
        names: of the codes, Japanese.
        caveats: sentences without which no figure may be read.
        others: other scores by the same rule.
        at_costs, at_capital: re-runs, ascending.
        horizon: days over which returns are thought to be dependent.

    Raises:
        NoYardstick: there is nothing that the strategy may be measured by.
        ValueError: a ledger has too few days for a Sharpe ratio.
    """
    equity, dates = run.ledger.equity, run.ledger.equity["date"].to_list()
    refuse_without_equal(run.case.strategy, equity)
    returns, equal, topix = (_column(equity, name) for name in ("ret", EQUAL, TOPIX))
    total = market.dividends_known
    beside = {UNIVERSE: equal} | ({} if total or not np.isfinite(topix).any() else {INDEX: topix})
    yardstick = Yardstick("equal-weight universe", kind_of(market), Weighting.EQUAL, equal)
    performance = summary(equity, kind_of(market), Weighting.EQUAL, [yardstick], horizon)
    months = {OURS: returns, **beside}
    facts = {
        "break-even cost of a traded yen": f"{1e4 * performance.break_even:.0f} bp"
        if math.isfinite(performance.break_even)
        else "not known",
        "turnover a year, one-way": f"{performance.turnover:.1f} times",
        "costs a year": f"{1e4 * performance.cost_share:.0f} bp of the book",
    }
    facts |= _reach(market, run, horizon)
    if total and np.isfinite(topix).any():
        price = Yardstick("TOPIX", Kind.PRICE, Weighting.CAP, topix)
        ours = _column(without_dividends(equity), "ret")
        facts["before TOPIX, dividends left out of both"] = f"{compare(ours, price).excess:+.1%} a year"
    return Backtest(
        strategy=run.case.strategy,
        header=header,
        caveats=caveats,
        equity=equity,
        months={who: by_month(dates, values) for who, values in months.items()},
        costs=costs_by_year(equity),
        orders=run.ledger.trades.height,
        unfilled=unfilled_by_reason(run.ledger.trades),
        capital=run.case.capital,
        total_return=total,
        figures=_figures(f"{run.case.strategy}, net", returns, horizon),
        topix=_figures("TOPIX", topix, horizon, returns) if INDEX in beside else None,
        equal=_figures("equal-weight universe", equal, horizon, returns),
        luck=luck(returns, tried, horizon),
        others=[_other(one, equity, horizon) for one in others],
        others_nav={one.case.strategy: _aligned(one, dates) for one in others},
        drawdowns=worst_drawdowns(dates, returns),
        at_costs=[
            AtCost(one.case.costs.multiple, cagr(_column(one.ledger.equity, "ret")), sharpe(one.ledger.equity["ret"]),
                   one.ledger.equity["nav"].to_list())
            for one in at_costs
        ],
        at_capital=[_at_capital(one) for one in at_capital],
        betas={who: rolling_beta(returns, values).tolist() for who, values in beside.items()},
        beta_days=BETA_DAYS,
        sectors=sector_weights(market, run.ledger.positions, dates),
        exposures=exposures(market, run.case.scores, run.ledger.positions, dates),
        trips=round_trips(market, run.ledger.trades, run.ledger.positions).with_columns(
            pl.col("code").replace_strict(dict(names), default=pl.col("code")).alias("name")
        ),
        facts=facts,
    )  # fmt: skip


def _reach(market: Market, run: Run, horizon: int) -> dict[str, str]:
    """The strategy before an equal weight of the names that its rule may choose from: skill, whatever the rule leaves
    out. Of a long book alone; nothing else starts from those names.
    """
    if run.case.rule.side is not BookSide.LONG:
        return {}
    among = within_reach(market, run.case.scores, run.case.rule.liquid_only)
    place = {day: t for t, day in enumerate(market.dates)}
    theirs = equal_weight_returns(market, among)[[place[day] for day in run.ledger.equity["date"]]]
    before, net = (mean_verdict(_column(run.ledger.equity, name) - theirs, horizon) for name in ("ret_gross", "ret"))
    if not math.isfinite(net.mean):
        return {}
    low, high = net.low * TRADING_DAYS, net.high * TRADING_DAYS
    return {
        "before an equal weight of the names that the rule may choose from": f"{net.mean * TRADING_DAYS:+.1%} a year "
        f"(95 % {low:+.1%} to {high:+.1%}), {before.mean * TRADING_DAYS:+.1%} before costs; those names grew by "
        f"{cagr(theirs):+.1%} a year"
    }


def luck(returns: Floats, tried: Tried, horizon: int = 1) -> Luck:
    """How much of a Sharpe ratio may be chance.

    Args:
        returns: net, a day [D].
    """
    of, verdict = moments(returns), sharpe_verdict(returns, horizon)
    trials = max(tried.trials, 1)
    worth = trials if math.isnan(tried.correlation) else effective_trials(trials, tried.correlation)
    variance = variance_of_trials(tried.sharpes, of.days)
    return Luck(
        sharpe=of.sharpe * YEAR,
        low=verdict.low * YEAR,
        high=verdict.high * YEAR,
        p=mean_verdict(returns, horizon).p,
        psr=probabilistic_sharpe(of),
        dsr=deflated_sharpe(of, worth, variance),
        trials=trials,
        effective_trials=worth,
        variance=variance * TRADING_DAYS,
        expected_maximum=expected_maximum(worth, variance) * YEAR,
        days=of.days,
        days_needed=minimum_track_record(of),
        years_needed=minimum_backtest_years(worth),
        pbo=tried.pbo,
    )


def sector_weights(market: Market, positions: pl.DataFrame, dates: Sequence[date]) -> pl.DataFrame:
    """sector33, book, universe: mean weights over the days; of the universe each name counts alike."""
    codes = np.unique(market.sector[market.sector >= 0])
    book, universe, looks = np.zeros(len(codes)), np.zeros(len(codes)), 0
    for t, weights in _looks(market, positions, dates):
        sector, eligible = market.sector[t], market.eligible[t]
        gross = np.abs(weights).sum()
        if gross > 0 and eligible.any():
            looks += 1
            book += np.array([weights[sector == code].sum() for code in codes]) / gross
            universe += np.array([(eligible & (sector == code)).sum() for code in codes]) / eligible.sum()
    named = [f"{code:04d}" for code in codes]
    schema = {"sector33": pl.String(), "book": pl.Float64(), "universe": pl.Float64()}
    if not looks:
        return pl.DataFrame(schema=schema)
    return pl.DataFrame({"sector33": named, "book": book / looks, "universe": universe / looks}, schema=schema)


def exposures(
    market: Market, scores: NDArray[np.float32], positions: pl.DataFrame, dates: Sequence[date]
) -> pl.DataFrame:
    """date, and of the book: where its names stand in the universe by turnover and by volatility, and how much of the
    scores of the evening reaches it (transfer coefficient).

    Ranks are mean percentiles by weight, 0.5 as the universe, of a long-short book the longs' less the shorts'.
    """
    rows = []
    for t, weights in _looks(market, positions, dates):
        eligible, gross = market.eligible[t], np.abs(weights).sum()
        if not gross > 0 or not eligible.any():
            continue
        active = np.where(eligible, weights - eligible / eligible.sum() * weights.sum(), 0.0)
        alpha = np.where(eligible, scores[t], np.nan).astype(np.float64)
        rows.append(
            (
                market.dates[t],
                _mean_rank(market.adv[t], eligible, weights / gross),
                _mean_rank(market.sigma[t], eligible, weights / gross),
                transfer_coefficient(active, (alpha - np.nanmean(alpha)) * market.sigma[t], market.sigma[t])
                if np.isfinite(alpha).any()
                else math.nan,
            )
        )
    schema = {
        "date": pl.Date(),
        **dict.fromkeys(("turnover rank", "volatility rank", "transfer coefficient"), pl.Float64()),
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _looks(market: Market, positions: pl.DataFrame, dates: Sequence[date]) -> list[tuple[int, Floats]]:
    """Rows of the market and weights [N] of every fifth day."""
    place = {day: t for t, day in enumerate(market.dates)}
    column = {code: n for n, code in enumerate(market.codes)}
    wanted = list(dates)[EVERY - 1 :: EVERY] or list(dates)[-1:]
    found = []
    kept = positions.filter(pl.col("date").is_in(wanted)).sort("date")
    for key, part in kept.partition_by("date", as_dict=True, maintain_order=True).items():
        weights = np.zeros(len(market.codes))
        weights[[column[code] for code in part["code"]]] = part["weight"].to_numpy()
        found.append((place[key[0]], weights))
    return found


def _mean_rank(values: NDArray[np.floating], among: NDArray[np.bool_], weights: Floats) -> float:
    """Mean percentile of a value among some names, by weight; names of which it is not known count half."""
    known = np.sort(values[among & np.isfinite(values)])
    if not len(known):
        return math.nan
    rank = np.searchsorted(known, np.nan_to_num(values), side="left") / len(known)
    return float(weights @ np.where(np.isfinite(values), rank, 0.5))


def _figures(name: str, returns: Floats, horizon: int, ours: Floats | None = None) -> Figures:
    """Figures of a series, and the strategy's lead before it where it is not the strategy's own."""
    known = returns[np.isfinite(returns)]
    sharpe_low, sharpe_high = sharpe_interval(known, horizon)
    fall, growth = float(drawdown(known).min()), cagr(known)
    lead = low = high = beta = math.nan
    if ours is not None:
        apart = mean_verdict(ours - returns, horizon)
        lead, low, high = (end * TRADING_DAYS for end in (apart.mean, apart.low, apart.high))
        both = np.isfinite(returns) & np.isfinite(ours)
        beta = float(rolling_beta(ours[both], returns[both], int(both.sum()))[-1])
    return Figures(
        name=name,
        cagr=growth,
        volatility=float(known.std(ddof=1)) * YEAR,
        sharpe=sharpe(known),
        sharpe_low=sharpe_low,
        sharpe_high=sharpe_high,
        sortino=sortino(known),
        calmar=growth / -fall if fall < 0 else math.nan,
        max_drawdown=fall,
        lead=lead,
        lead_low=low,
        lead_high=high,
        beta=beta,
    )


def _other(one: Run, equity: pl.DataFrame, horizon: int) -> Figures:
    """Another strategy, on the days that both have."""
    both = equity.select("date", "ret").join(one.ledger.equity.select("date", theirs="ret"), on="date", how="left")
    return _figures(one.case.strategy, _column(both, "theirs"), horizon, _column(both, "ret"))


def _aligned(one: Run, dates: Sequence[date]) -> list[float]:
    """Value of one yen on the days of the strategy; before its own first day one."""
    nav = dict(one.ledger.equity.select("date", "nav").iter_rows())
    path, last = [], 1.0
    for day in dates:
        last = nav[day] / one.case.capital if day in nav else last
        path.append(last)
    return path


def _at_capital(one: Run) -> AtCapital:
    equity, trades = one.ledger.equity, one.ledger.trades
    missed, filled = float(equity["unfilled_value"].sum()), float(trades["value"].sum())
    return AtCapital(
        capital=one.case.capital,
        cagr=cagr(_column(equity, "ret")),
        sharpe=sharpe(_column(equity, "ret")),
        unfilled=missed / (missed + filled) if missed + filled else 0.0,
        invested=float(equity["gross"].cast(pl.Float64).mean()),  # type: ignore[arg-type]
    )


def _column(frame: pl.DataFrame, name: str) -> Floats:
    """A column of floats; null is NaN."""
    return frame[name].cast(pl.Float64).fill_null(math.nan).to_numpy()
