"""The table `portfolio` (target positions): what is held on an evening, and what should be held after the next auction.

Pure functions; what is held comes from `standing`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandera.polars as pa
import polars as pl
from numpy.typing import NDArray

from atft_assets.contracts import Contract
from atft_assets.contracts.contract import Failure
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.trading.account import Floats
from atft_assets.trading.costs import Costs
from atft_assets.trading.derived import derive
from atft_assets.trading.market import Flags, Market
from atft_assets.trading.policy import ENTER, LOT_ZERO, NO_REASON, REASONS, BookSide, Rule
from atft_assets.trading.rules import LOT, tick_size
from atft_assets.trading.selection import evening_of
from atft_assets.trading.standing import BROKER, PAPER, PortfolioRefused, Standing
from atft_assets.trading.targets import Book, Decision, decide

NAME, GROUP = "portfolio", "trading"
BOOK, REASON = pl.Enum([PAPER, BROKER]), pl.Enum(REASONS)
OF_A_DAY = ("trade_date", "book", "nav", "cash", "rule_name", "rule", "costs")  # one value a day and strategy

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "date": pl.Date,
    "trade_date": pl.Date,
    "strategy": pl.String,
    "code": pl.String,
    "weight": pl.Float32,
    "shares": pl.Int64,
    "held": pl.Int64,
    "ref_price": pl.Float32,
    "value": pl.Float64,
    "rank": pl.UInt16,
    "reason": REASON,
    "cut": pl.Boolean,
    "odd": pl.Boolean,
    "book": BOOK,
    "nav": pl.Float64,
    "cash": pl.Float64,
    "rule_name": pl.String,
    "rule": pl.String,
    "costs": pl.String,
}


def _column(
    description: str, *checks: pa.Check, dtype: pl.DataType | type[pl.DataType] = pl.String, nullable: bool = False
) -> pa.Column:
    return pa.Column(dtype, list(checks), nullable=nullable, description=description)


CONTRACT = Contract(
    table=NAME,
    schema=pa.DataFrameSchema(
        {
            "date": DATE,
            "trade_date": _column("The next open day, at whose open it is traded", dtype=pl.Date),
            "strategy": _column("Name of the strategy", pa.Check.str_matches(r"^[a-z0-9_]+$")),
            "code": CODE,
            "weight": _column("Of `shares`, signed, of the net asset value", dtype=pl.Float32),
            "shares": _column(
                "To be held after the auction; whole lots, and what is odd of the holding", dtype=pl.Int64
            ),
            "held": _column("Held on the evening", dtype=pl.Int64),
            "ref_price": _column("Last close, JPY", pa.Check.gt(0), dtype=pl.Float32),
            "value": _column("Of `shares`, signed, JPY", dtype=pl.Float64),
            "rank": _column(
                "1 + candidates with a better score; null without", pa.Check.ge(1), dtype=pl.UInt16, nullable=True
            ),
            "reason": _column("Why it has this weight", dtype=REASON),
            "cut": _column("More was wanted than caps, cash or the band let: tomorrow decides again", dtype=pl.Boolean),
            "odd": _column("The holding is no whole number of lots; what is odd stays", dtype=pl.Boolean),
            "book": _column("paper, or broker: where the holdings come from; one a day", dtype=BOOK),
            "nav": _column("Net asset value of the evening, JPY; one a day", pa.Check.gt(0), dtype=pl.Float64),
            "cash": _column("Cash of the evening, JPY; one a day", dtype=pl.Float64),
            "rule_name": _column("Name of the rule that the champion was promoted with; one a day"),
            "rule": _column("Its fields, with a person's changes, as JSON; one a day"),
            "costs": _column("Preset of costs; one a day"),
        },
        strict=True,
        unique=["date", "strategy", "code"],
        ordered=True,
    ),
    constant_ok=frozenset(SCHEMA),
    nullable_ok=frozenset({"rank"}),
    empty_ok=True,  # a month before there was a champion
)


@dataclass(frozen=True)
class Tomorrow:
    """What the evening knows of the next open day.

    Attributes:
        day: the date.
        limit_up, limit_down: the band, JPY [N]; NaN where there is no close to make it from. A split of tomorrow is not
            known on the evening.
        fine_tick: of the fine tick table [N].
        listed: by the master that the evening knows [N].
    """

    day: date
    limit_up: Floats
    limit_down: Floats
    fine_tick: Flags
    listed: Flags

    @property
    def tradable(self) -> Flags:
        """Names for which an order can be given [N]."""
        return self.listed & np.isfinite(self.limit_up) & np.isfinite(self.limit_down)


def tomorrow_of(market: Market, t: int, day: date, fine_tick: Flags, listed: Flags) -> Tomorrow:
    """The band of the day after t, widened where names stood at a limit; from rows up to t."""
    until = slice(0, t + 1)
    dark = np.full((1, len(market.codes)), np.nan, np.float32)
    prices = [np.vstack([array[until], dark]) for array in (market.open, market.high, market.low, market.close)]
    nothing = np.zeros_like(dark)
    found = derive(
        (*market.dates[until], day),
        prices,
        np.vstack([market.value[until], nothing.astype(np.float64)]),
        np.vstack([market.adj_factor[until], nothing + 1]),
        np.vstack([market.dividend[until], nothing]),
        np.vstack([market.fine_tick[until], fine_tick[None]]),
        np.ones((t + 2, len(market.codes)), bool),
    )
    up, down = (array[-1].astype(np.float64).round(1) for array in (found.limit_up, found.limit_down))
    return Tomorrow(day, up, down, fine_tick, listed)


def estimated_cost(
    market: Market, t: int, tomorrow: Tomorrow, costs: Costs, shares: NDArray[np.int64], price: Floats
) -> Floats:
    """What orders cost beside their price, at the last close, JPY [N].

    Args:
        shares: ordered, signed [N].
        price: last close, JPY [N].
    """
    known = np.where(np.isfinite(price), price, 1.0)
    value = np.abs(shares) * known
    tick = tick_size(known, tomorrow.day, tomorrow.fine_tick)
    return (
        costs.commission(value)
        + costs.half_spread(value, known, tick, market.adv[t])
        + costs.market_impact(value, market.adv[t], market.sigma[t])
    )


def targets_of(
    market: Market,
    t: int,
    scores: NDArray[np.float32],
    standing: Standing,
    rule: Rule,
    costs: Costs,
    tomorrow: Tomorrow,
) -> Decision:
    """What to hold after the next auction, such that each change is an order that can be given and paid for.

    `decide` says what is wanted. Here names without a band of tomorrow stay as they are, what is odd of a holding
    stays, and purchases are cut, the worst ranks first, until sectors, the sum of weights and the cash with all costs
    hold again.

    Raises:
        PortfolioRefused: nothing is there to be invested.
    """
    if not standing.nav > 0:
        raise PortfolioRefused(f"the book is worth {standing.nav:,.0f} JPY: there is nothing to invest; give a capital")
    book = Book(standing.shares, standing.price, standing.nav)
    wanted = decide(market, t, scores, book, rule, standing.unfinished)
    change = wanted.shares - standing.shares
    possible = np.where(tomorrow.tradable, np.sign(change) * (np.abs(change) // LOT * LOT), 0)
    evening = evening_of(market, t, scores, rule, book.unit, book.nav)
    buyers = np.flatnonzero((possible > 0) & (standing.shares >= 0))
    worst_first = buyers[np.argsort(-evening.precedence[buyers])]

    def cut(i: int, too_much: float, each: float) -> None:
        possible[i] -= min(int(possible[i]), int(np.ceil(too_much / (LOT * each) - 1e-9)) * LOT)

    if rule.side is BookSide.LONG:
        highest = evening.share + rule.sector_band
        for i in worst_first:
            after = (standing.shares + possible) * book.unit
            sector = evening.sector == evening.sector[i]
            over = max(float(after[sector].sum() - highest[evening.sector[i]]), 0.0)
            if over > 1e-9:
                cut(i, over, book.unit[i])
    for i in worst_first:
        over = float(np.abs((standing.shares + possible) * book.unit).sum()) - rule.gross
        if over > 1e-9:
            cut(i, over, book.unit[i])
        while possible[i] > 0 and (short := -cash_after(market, t, tomorrow, costs, possible, standing)) > 0:
            cut(i, short, standing.price[i])
    shares = standing.shares + possible
    return replace(
        wanted, shares=shares, weights=shares * book.unit, unfinished=wanted.unfinished | (possible != change)
    )


def cash_after(
    market: Market, t: int, tomorrow: Tomorrow, costs: Costs, change: NDArray[np.int64], standing: Standing
) -> float:
    """Cash after orders were filled at the last closes and their costs were paid, JPY."""
    names = np.flatnonzero(change)
    paid = float(change[names] @ standing.price[names])
    return standing.cash - paid - float(estimated_cost(market, t, tomorrow, costs, change, standing.price).sum())


def rows_of(
    market: Market,
    t: int,
    decision: Decision,
    standing: Standing,
    trade_date: date,
    strategy: str,
    rule_name: str,
    rule: str,
    costs: str,
) -> pl.DataFrame:
    """The rows of an evening: names that are held or wanted, sorted by code."""
    wanted = (decision.shares != 0) | decision.unfinished | (decision.reason == LOT_ZERO)
    kept = np.flatnonzero((standing.shares != 0) | (wanted & np.isfinite(standing.price)))
    kept = kept[np.argsort(np.array(market.codes, dtype=str)[kept])]
    price, shares, held = standing.price[kept], decision.shares[kept], standing.shares[kept]
    reason = np.where(decision.reason[kept] == NO_REASON, ENTER, decision.reason[kept])
    rank = [int(one) if np.isfinite(one) else None for one in decision.rank[kept]]
    return pl.DataFrame(
        {
            "date": [market.dates[t]] * len(kept),
            "trade_date": [trade_date] * len(kept),
            "strategy": [strategy] * len(kept),
            "code": [market.codes[n] for n in kept],
            "weight": decision.weights[kept].astype(np.float32),
            "shares": shares,
            "held": held,
            "ref_price": price.astype(np.float32),
            "value": shares * price,
            "rank": rank,
            "reason": [REASONS[one] for one in reason],
            "cut": decision.unfinished[kept],
            "odd": held % LOT != 0,
            "book": [standing.book] * len(kept),
            "nav": [standing.nav] * len(kept),
            "cash": [standing.cash] * len(kept),
            "rule_name": [rule_name] * len(kept),
            "rule": [rule] * len(kept),
            "costs": [costs] * len(kept),
        },
        schema=SCHEMA,
    )


def broken_rows(frame: pl.DataFrame) -> Iterator[Failure]:
    """What a column by itself cannot show: days of two books, and targets that no auction can reach."""
    days = frame.group_by("date", "strategy").agg(pl.col(OF_A_DAY).n_unique()).sort("date", "strategy")
    for column in OF_A_DAY:
        mixed = days.filter(pl.col(column) > 1)["date"]
        if len(mixed):
            yield column, "one value a day and strategy", len(mixed), ", ".join(map(str, mixed.head(5)))
    torn = frame.filter((pl.col("shares") - pl.col("held")) % LOT != 0)
    if torn.height:
        sample = ", ".join(f"{row['date']} {row['code']}" for row in torn.head(5).iter_rows(named=True))
        yield "shares", f"differs from the holding by whole lots of {LOT}", torn.height, sample


def empty() -> pl.DataFrame:
    """A month without rows."""
    return pl.DataFrame(schema=SCHEMA)


def with_evening(frame: pl.DataFrame, rows: pl.DataFrame, day: date, strategy: str) -> pl.DataFrame:
    """A month with the rows of an evening and a strategy replaced; there may be none."""
    kept = frame.filter((pl.col("date") != day) | (pl.col("strategy") != strategy))
    return pl.concat([kept, rows]).sort("date", "code", "strategy")
