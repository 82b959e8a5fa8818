"""What a back-test must stand before anybody believes it: no fill that could not be had, nothing that sees ahead.

Each function asks the finished tables and the market, not the code that made them: another filler, or scores into which
a label has slipped, are caught by what they leave behind.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.scoring.daily import daily_spearman
from atft_assets.scoring.ordering import levels_of
from atft_assets.trading import gates
from atft_assets.trading.fills import REASONS, fill
from atft_assets.trading.gates import Gate
from atft_assets.trading.ledger import Filler, Ledger, run
from atft_assets.trading.market import Market
from atft_assets.trading.rules import as_printed
from atft_assets.trading.sweep import Case

LEAST_AGREEMENT = 0.995  # of bars that touched a limit outside days of events
PROBES, PROBE_DAYS = 3, 8  # ledgers with another future, and evenings of each
SHOWN = 5

Floats = NDArray[np.float64]


def forbidden_fills(market: Market, ledger: Ledger, limit_fill: float = 0.0) -> Iterator[str]:
    """Fills that nobody could have had, as sentences.

    A fill is at the open, on a day on which the name traded, never on the losing side of a limit, and opens a short
    position only where shares may be borrowed.

    Args:
        limit_fill: of the costs: the share of an order that may be filled on the losing side.
    """
    trades = ledger.trades.filter((pl.col("shares") > 0) & (pl.col("reason").cast(pl.String) != REASONS[-1]))
    place = {day: t for t, day in enumerate(market.dates)}
    column = {code: n for n, code in enumerate(market.codes)}
    t = np.array([place[day] for day in trades["date"]], np.int64)
    n = np.array([column[code] for code in trades["code"]], np.int64)
    if not len(t):
        return
    price, opened = trades["price"].to_numpy(), as_printed(market.open[t, n])
    buying = (trades["side"].cast(pl.String) == "BUY").to_numpy()
    up, down = as_printed(market.limit_up[t, n]), as_printed(market.limit_down[t, n])
    short = ~buying & ~_held_long(ledger, market, trades, t)
    found = {
        "at another price than the open": np.abs(price - opened) > 1e-6,
        "on a day without a trade": ~np.isfinite(opened),
        "bought at the upper limit": buying & (opened >= up) & (limit_fill == 0),
        "sold at the lower limit": ~buying & (opened <= down) & (limit_fill == 0),
        "sold short where shares cannot be borrowed": short & ~market.shortable[np.maximum(t - 1, 0), n],
    }
    for said, flags in found.items():
        if flags.any():
            yield f"{int(flags.sum())} fills {said}: {_named(trades.filter(pl.Series(flags)))}"


def _held_long(ledger: Ledger, market: Market, trades: pl.DataFrame, t: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each trade whether shares of the name were held at the close before [n]."""
    before = trades.select("code").with_columns(
        pl.Series("date", [market.dates[max(day - 1, 0)] for day in t.tolist()], dtype=pl.Date)
    )
    held = ledger.positions.select("date", "code", pl.col("shares").alias("held"))
    return (before.join(held, on=["date", "code"], how="left")["held"].fill_null(0) > 0).to_numpy()


def _named(trades: pl.DataFrame) -> str:
    named = [f"{code} on {day}" for day, code in trades.select("date", "code").head(SHOWN).iter_rows()]
    return ", ".join(named) + (" …" if trades.height > SHOWN else "")


def leak(market: Market, scores: NDArray[np.float32], simulated: bool = False) -> Gate:
    """Whether the scores rank the returns of the next day as only scores that have seen them can.

    Returns from close to close, and from the next open to the one after, and each stretch of `gates.HISTORY_DAYS` by
    itself, or a leak in one of several folds would be thinned out by the others; the largest correlation is judged.

    Args:
        scores: [D,N].
        simulated: the market is: its planted signals rank better than anything honest.
    """
    close, opened = next_returns(market)
    eligible = np.where(market.eligible, scores, np.float32(np.nan))
    series = [daily[np.isfinite(daily)] for daily in (_daily(eligible, returns) for returns in (close, opened))]
    judged = [
        gates.leak_alarm(daily[max(stop - gates.HISTORY_DAYS, 0) : stop])
        for daily in series
        for stop in range(len(daily), -1, -gates.HISTORY_DAYS)
    ]
    worst = max(judged, key=lambda gate: (not gate.passed, np.nan_to_num(abs(gate.figure), nan=-1.0)))
    if simulated and not worst.passed:
        return replace(worst, passed=True, sentence=f"{worst.sentence}, but the signals of this market are planted")
    return worst


def next_returns(market: Market) -> tuple[Floats, Floats]:
    """Return of each evening's next day [D,N]: from close to close, and from the next open to the open after."""
    shape = market.close.shape
    found = []
    for prices, lag in ((market.close, 1), (market.open, 2)):
        returns = np.full(shape, np.nan)
        stop = max(shape[0] - lag, 0)
        start = prices[lag - 1 : lag - 1 + stop].astype(np.float64)
        end = prices[lag:][:stop] / market.adj_factor[lag:][:stop].astype(np.float64)
        returns[:stop] = end / start - 1
        found.append(returns)
    return found[0], found[1]


def _daily(scores: NDArray[np.float32], returns: Floats) -> Floats:
    known = np.isfinite(scores) & np.isfinite(returns)
    left, right = (levels_of(np.where(known, one, np.nan)) for one in (scores, returns))
    return daily_spearman(left, right)


def sees_ahead(market: Market, case: Case, filler: Filler = fill, probes: int = PROBES) -> list[str]:
    """Days whose orders or fills change when what comes after the open is another, as sentences.

    Short ledgers at several places of the record, each run twice: as it was, and with another high, low and close on
    its last day. What is ordered in the evening before and filled at that open must be the same to the share.
    """
    days = np.flatnonzero(np.isfinite(case.scores).any(axis=1))
    days = days[(days >= 1) & (days < len(market.dates) - 1)]
    found = []
    for evening in np.unique(days[np.linspace(0, len(days) - 1, probes).astype(int)]).tolist() if len(days) else ():
        first = max(evening - PROBE_DAYS + 1, 0)
        part = _days(market, first, evening + 2)
        scores = case.scores[first : evening + 2]
        said = [
            run(one, scores, case.rule, case.costs, case.capital, filler=filler).trades.filter(
                pl.col("date") == market.dates[evening + 1]
            )
            for one in (part, _another_close(part))
        ]
        # who is delisted leaves at the close, as it must
        gone = {code for one in said for code in one.filter(pl.col("reason").cast(pl.String) == REASONS[-1])["code"]}
        said = [one.filter(~pl.col("code").is_in(list(gone))) for one in said]
        columns = ["code", "side", "shares_ordered", "shares", "price"]
        if not said[0].select(columns).equals(said[1].select(columns)):
            found.append(
                f"orders or fills of {market.dates[evening + 1]} depend on prices after its open: "
                f"{said[0].height} orders, {said[1].height} with another close"
            )
    return found


def _days(market: Market, first: int, stop: int) -> Market:
    """Some days of a market."""
    arrays: dict[str, Any] = {
        field.name: value[first:stop]
        for field in fields(market)
        if isinstance(value := getattr(market, field.name), np.ndarray)
    }
    return replace(market, dates=market.dates[first:stop], **arrays)


def _another_close(market: Market) -> Market:
    """The same with other prices after the open of the last day, where the name does not stand at one price.

    A day of one price stays: that it is locked may take from a fill.
    """
    high, low, close = market.high.copy(), market.low.copy(), market.close.copy()
    opened, up, down = market.open[-1], market.limit_up[-1], market.limit_down[-1]
    moves = np.isfinite(opened) & np.isfinite(up) & ((high[-1] != low[-1]) | (opened != close[-1]))
    rose = close[-1] >= opened
    other = np.where(rose, np.maximum(np.rint(opened * 0.97), down), np.minimum(np.rint(opened * 1.03), up))
    close[-1] = np.where(moves, other, close[-1])
    high[-1] = np.where(moves, np.maximum(np.maximum(opened, other), np.minimum(opened + 1, up)), high[-1])
    low[-1] = np.where(moves, np.minimum(np.minimum(opened, other), np.maximum(opened - 1, down)), low[-1])
    return replace(market, high=high, low=low, close=close)
