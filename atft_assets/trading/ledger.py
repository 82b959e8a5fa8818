"""The ledger: what a strategy would have owned and earned, day by day, with every yen accounted for.

An evening decides with what is known at its close; the next day brings splits, dividends, the auction, a mark at the
close, and the exit of what is delisted. Each day the change of the net asset value must be what prices, trades,
dividends and costs explain, or the run ends with the figures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.failures import Refusal
from atft_assets.trading.account import Account, Floats, Shares, forced_exits, orders_after_split
from atft_assets.trading.costs import Costs
from atft_assets.trading.fills import Fills, Orders, fill
from atft_assets.trading.journal import DayOfEquity, Journal
from atft_assets.trading.market import Market
from atft_assets.trading.rules import as_printed
from atft_assets.trading.targets import Book, Decision, Rule, decide
from atft_assets.trading.yardsticks import equal_weight_returns

IDENTITY = 1e-6  # of the net asset value: what a day's figures may differ by
Filler = Callable[[Market, int, Orders, Shares, float, Costs], Fills]


class LedgerRefused(Refusal):
    """Inputs do not fit, or nothing is left to invest; the text says what."""


class IdentityBroken(Refusal):
    """The net asset value moved by something that no event of the day explains: an error of the code or of prices."""


@dataclass(frozen=True)
class Ledger:
    """What a strategy did. Keys are date and strategy, of trades and positions the code too, of trades the side.

    Attributes:
        equity: one row a day from the first auction on; `journal.EQUITY` has the columns.
        trades: one row an order, filled or not, and one a delisting; `journal.TRADES`.
        positions: one row a name held at the close; `journal.POSITIONS`.
    """

    equity: pl.DataFrame
    trades: pl.DataFrame
    positions: pl.DataFrame


def run(
    market: Market,
    scores: NDArray[np.float32],
    rule: Rule,
    costs: Costs,
    capital: float,
    *,
    strategy: str = "strategy",
    equal: Floats | None = None,
    delisting_haircut: float = 0.0,
    filler: Filler = fill,
) -> Ledger:
    """Run a strategy from the first evening that has a score to the last day of the market.

    An evening without any score orders nothing, and holdings stay.

    Args:
        scores: of each evening, higher is better, NaN for none [D,N].
        capital: JPY on the first evening.
        strategy: its name in the tables.
        equal: daily returns of the equal-weight universe [D], where several runs share them; default: computed.
        delisting_haircut: share of the last close that is lost with a delisting: 0 of a takeover, 1 of a failure.
        filler: what fills orders; another one for tests.

    Raises:
        LedgerRefused: shapes do not fit, no evening before the last has a score, or nothing is left of the capital.
        IdentityBroken: a day's figures do not add up.
    """
    shape = (len(market.dates), len(market.codes))
    if scores.shape != shape:
        raise LedgerRefused(f"scores are {scores.shape}, the market is {shape}: give one a day and name of the market")
    if not capital > 0 or not 0 <= delisting_haircut <= 1:
        raise LedgerRefused(f"a capital of {capital} and a haircut of {delisting_haircut}: above 0, and from 0 to 1")
    evenings: NDArray[np.bool_] = np.array([np.isfinite(row).any() for row in scores])
    if not evenings[:-1].any():
        raise LedgerRefused("no evening before the last day of the market has a score: there is nothing to order")
    account, journal = Account(shape[1], capital), Journal(market, strategy)
    first = int(np.argmax(evenings))
    for t in range(first + 1):
        account.mark_at(market.close[t])
    unfinished = np.zeros(shape[1], bool)
    for t in range(first + 1, shape[0]):
        decision = None
        if evenings[t - 1]:
            book = Book(account.shares.copy(), account.mark, account.nav - max(account.receivable, 0.0))
            if not book.nav > 0:
                raise LedgerRefused(
                    f"{strategy}: {book.nav:,.0f} JPY are left of {capital:,.0f} on the evening of "
                    f"{market.dates[t - 1]}; the rule is too bold for these scores"
                )
            decision = decide(market, t - 1, scores[t - 1], book, rule, unfinished)
        missed = one_day(market, t, account, journal, decision, costs, delisting_haircut, filler)
        if decision is not None:
            unfinished = decision.unfinished | missed
    returns = equal_weight_returns(market) if equal is None else equal
    return Ledger(journal.equity(returns), journal.trades(), journal.positions())


def one_day(
    market: Market,
    t: int,
    account: Account,
    journal: Journal,
    decision: Decision | None,
    costs: Costs,
    haircut: float,
    filler: Filler,
) -> NDArray[np.bool_]:
    """One day of an account, from the night to the close; the names whose order was not filled whole [N].

    Args:
        t: the day; what was decided, if anything, is of the evening before.

    Raises:
        IdentityBroken: the day's figures do not add up.
    """
    nav_before, value_before, held_before = account.nav, account.value(), account.shares.copy()
    borrow = account.pay_borrow(costs, (market.dates[t] - market.dates[t - 1]).days)
    dividends = account.take_dividends(market.dividend[t], t)
    ratios, fractions = account.split(market.adj_factor[t])

    orders = Orders(np.zeros_like(account.shares), np.zeros(len(account.shares)))
    if decision is not None:
        change = orders_after_split(decision.shares, held_before, ratios, account.shares)
        # shares sold short are bought back before anything new is bought
        orders = Orders(change, np.where(account.shares < 0, 0.0, decision.rank))
    reference, opened = account.mark, as_printed(market.open[t])
    before_auction = account.shares.copy()
    at_open = np.where(np.isfinite(opened), opened, reference)
    held = account.held
    nav_open = account.cash + account.receivable + float(before_auction[held] @ at_open[held])
    fills = filler(market, t, orders, before_auction, account.cash, costs)
    unfilled = np.abs(orders.shares - fills.shares)
    unfilled_value = float(unfilled[unfilled > 0] @ reference[unfilled > 0])
    fees = account.settle(fills, t)
    account.mark_at(market.close[t])
    journal.auction(t, orders.shares, fills, fees)

    held, traded = np.flatnonzero(before_auction), np.flatnonzero(fills.shares)
    by_price = float(before_auction[held] @ account.mark[held]) + fractions - value_before
    by_trade = float(fills.shares[traded] @ (account.mark[traded] - fills.price[traded]))
    sides = [float(fills.value[fills.shares * sign > 0].sum()) for sign in (1, -1)]

    lost = 0.0
    if len(gone := forced_exits(market, t, account)):
        left = account.shares[gone].copy()
        price = account.mark[gone] * (1 - haircut)
        lost = float(left @ (account.mark[gone] - price))
        sides[0] += float(np.maximum(-left, 0) @ price)
        sides[1] += float(np.maximum(left, 0) @ price)
        journal.delisted(t, gone, left, price, account.leave(gone, haircut, t)[gone])

    commission, spread, impact = (float(x[traded].sum()) for x in (fills.commission, fills.half_spread, fills.impact))
    paid = commission + spread + impact + borrow
    explained = by_price + by_trade + dividends - paid - lost
    nav = account.nav
    if not abs(nav - nav_before - explained) <= IDENTITY * abs(nav_before):
        raise IdentityBroken(
            f"{market.dates[t]}: the net asset value went from {nav_before:,.2f} to {nav:,.2f} JPY, by "
            f"{nav - nav_before:,.2f}, but prices explain {by_price:,.2f}, trades {by_trade:,.2f}, dividends "
            f"{dividends:,.2f}, costs {-paid:,.2f} and delistings {-lost:,.2f}"
        )
    journal.close(
        account,
        DayOfEquity(
            t=t,
            nav=nav,
            nav_before=nav_before,
            cash=account.cash,
            receivable=account.receivable,
            costs=(commission, spread, impact, borrow),
            dividends=dividends,
            turnover=max(sides) / nav_open,
            unfilled_value=unfilled_value,
        ),
    )
    return unfilled > 0
