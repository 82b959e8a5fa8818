"""What is held on an evening: by the paper book, or by a broker's list.

The paper book needs no memory of its own: the rows of the last evening that decided say what was held, what was ordered
and what cash there was; the days since then are those of the ledger.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from atft_assets.failures import Refusal
from atft_assets.trading.account import Account, Floats, Shares
from atft_assets.trading.costs import Costs
from atft_assets.trading.fills import fill
from atft_assets.trading.holdings import Holdings
from atft_assets.trading.journal import Journal
from atft_assets.trading.ledger import one_day
from atft_assets.trading.market import Flags, Market
from atft_assets.trading.policy import NO_REASON
from atft_assets.trading.targets import Decision

PAPER, BROKER = "paper", "broker"


class PortfolioRefused(Refusal):
    """No targets can be made; the text says what to do."""


@dataclass(frozen=True)
class Standing:
    """What is held on an evening.

    Attributes:
        shares: signed [N].
        price: last close, brought to the evening's shares, JPY [N]; NaN where there is none.
        cash: JPY.
        unfinished: names that were not brought to what was wanted of them [N].
        book: PAPER or BROKER.
        notes: what a person should know.
    """

    shares: Shares
    price: Floats
    cash: float
    unfinished: Flags
    book: str = PAPER
    notes: tuple[str, ...] = ()

    @property
    def nav(self) -> float:
        held = np.flatnonzero(self.shares)
        return self.cash + float(self.shares[held] @ self.price[held])


def fresh(market: Market, t: int, capital: float) -> Standing:
    """A book that holds nothing yet."""
    none = np.zeros(len(market.codes), np.int64)
    return Standing(none, last_closes(market, t).mark, capital, np.zeros(len(none), bool))


def last_closes(market: Market, t: int, cash: float = 0.0) -> Account:
    """An empty account that knows the last close of each name on the evening of day t."""
    account = Account(len(market.codes), cash)
    for day in range(t + 1):
        account.split(market.adj_factor[day])
        account.mark_at(market.close[day])
    return account


def paper_book(market: Market, t: int, before: pl.DataFrame, costs: Costs) -> Standing:
    """The paper book on the evening of day t: what an earlier evening ordered was filled at the next open.

    On evenings in between nothing was decided, so nothing was ordered.

    Args:
        before: rows of the last evening that decided, a day of the market before t.

    Raises:
        PortfolioRefused: that evening is no day of the market.
        IdentityBroken: the figures of a day do not add up.
    """
    evening = before["date"][0]
    if evening not in market.dates[:t]:
        raise PortfolioRefused(f"the evening of {evening}, which decided last, is none of the days before tonight")
    start = market.dates.index(evening)
    account = last_closes(market, start, float(before["cash"][0]))
    here, known = _placed(market, before)
    reference = known["ref_price"].to_numpy().astype(np.float64)
    account.mark[here] = np.where(np.isfinite(account.mark[here]), account.mark[here], reference)
    account.shares[here] = known["held"].to_numpy()
    gone = before.filter(~pl.col("code").is_in(list(market.codes)) & (pl.col("held") != 0))
    account.cash += float((gone["held"] * gone["ref_price"].cast(pl.Float64)).sum())
    decided, unfinished = _decided_then(market, before)
    journal = Journal(market, str(before["strategy"][0]))
    for day in range(start + 1, t + 1):
        ordered = decided if day == start + 1 else None
        unfinished = unfinished | one_day(market, day, account, journal, ordered, costs, 0.0, fill)
    notes = tuple(
        f"{code} left the universe: the paper book counts it as sold at its last close" for code in gone["code"]
    )
    # dividends that are still to come count as cash already
    cash = account.cash + account.receivable
    return Standing(account.shares.copy(), account.mark.copy(), cash, unfinished, PAPER, notes)


def _placed(market: Market, rows: pl.DataFrame) -> tuple[Shares, pl.DataFrame]:
    """Places of the names of a frame among those of the market, and their rows."""
    places = {code: n for n, code in enumerate(market.codes)}
    known = rows.filter(pl.col("code").is_in(list(places)))
    return np.array([places[code] for code in known["code"]], np.int64), known


def _decided_then(market: Market, before: pl.DataFrame) -> tuple[Decision, Flags]:
    """The decision that rows of an evening hold, and which names were cut."""
    n = len(market.codes)
    here, known = _placed(market, before)
    shares, rank, cut = np.zeros(n, np.int64), np.full(n, np.inf), np.zeros(n, bool)
    shares[here] = known["shares"].to_numpy()
    rank[here] = known["rank"].cast(pl.Float64).fill_null(np.inf).to_numpy()
    cut[here] = known["cut"].to_numpy()
    return Decision(shares, np.zeros(n), np.full(n, NO_REASON, np.int8), rank, cut), cut


def broker_book(market: Market, t: int, found: Holdings, capital: float, before: pl.DataFrame | None) -> Standing:
    """An account as its broker lists it.

    Args:
        found: codes are those of the market.
        capital: JPY, what is invested in all where the file names no cash.
        before: rows of the last evening that decided; what of them is not held yet is unfinished.

    Raises:
        PortfolioRefused: a name has had no price for as long as the market looks back.
    """
    price = last_closes(market, t).mark
    shares = np.array([found.shares.get(code, 0) for code in market.codes], np.int64)
    if len(dark := np.flatnonzero((shares != 0) & ~np.isfinite(price))):
        raise PortfolioRefused(
            f"{market.codes[dark[0]]} is held, but has not traded since {market.dates[0]} or before: without a price "
            "it has no weight; remove it from the holdings until it trades"
        )
    held = np.flatnonzero(shares)
    cash = found.cash if found.cash is not None else max(capital - float(shares[held] @ price[held]), 0.0)
    unfinished = np.zeros(len(shares), bool)
    if before is not None:
        decision, unfinished = _decided_then(market, before)
        here, _ = _placed(market, before)
        unfinished[here] |= decision.shares[here] != shares[here]
    notes = (f"odd lots are kept: {', '.join(found.odd)}",) if found.odd else ()
    return Standing(shares, price, cash, unfinished, BROKER, notes)
