"""The table `orders`: what is to be sent to a broker for the next opening auction, and what an order must be.

Pure functions. An order's name follows from what it is, so that the same evening again is the same file, and an order
that was sent is recognised. Sending is not done here: the file is the boundary (`brokers` maps its rows).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandera.polars as pa
import polars as pl
from numpy.typing import NDArray

from atft_assets.contracts import Contract
from atft_assets.contracts.contract import Failure
from atft_assets.failures import Refusal
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.trading.account import Floats
from atft_assets.trading.costs import Costs
from atft_assets.trading.market import Market
from atft_assets.trading.policy import BookSide, Rule
from atft_assets.trading.portfolio import REASON, Tomorrow, cash_after, estimated_cost
from atft_assets.trading.rules import LOT, Effect, OrderType, Side, on_the_grid, rounded_down, rounded_up
from atft_assets.trading.selection import evening_of
from atft_assets.trading.standing import Standing

NAME, GROUP = "orders", "trading"
SIDE, EFFECT, ORDER_TYPE = (pl.Enum([one.value for one in kind]) for kind in (Side, Effect, OrderType))
_ROUND_OFF = 1e-6

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "order_id": pl.String,
    "date": pl.Date,
    "trade_date": pl.Date,
    "strategy": pl.String,
    "code": pl.String,
    "symbol": pl.String,
    "name": pl.String,
    "side": SIDE,
    "effect": EFFECT,
    "shares": pl.Int32,
    "order_type": ORDER_TYPE,
    "limit_price": pl.Float32,
    "ref_price": pl.Float64,
    "est_value": pl.Float64,
    "est_cost": pl.Float64,
    "adv_share": pl.Float32,
    "limit_up": pl.Float32,
    "limit_down": pl.Float32,
    "rank": pl.UInt16,
    "score": pl.Float32,
    "reason": REASON,
}


def _column(
    description: str, *checks: pa.Check, dtype: pl.DataType | type[pl.DataType] = pl.String, nullable: bool = False
) -> pa.Column:
    return pa.Column(dtype, list(checks), nullable=nullable, description=description)


CONTRACT = Contract(
    table=NAME,
    schema=pa.DataFrameSchema(
        {
            "order_id": _column("trade date, strategy, code, B or S: the same order has the same name"),
            "date": DATE,
            "trade_date": _column("For the opening auction of this day", dtype=pl.Date),
            "strategy": _column("Name of the strategy", pa.Check.str_matches(r"^[a-z0-9_]+$")),
            "code": CODE,
            "symbol": _column("Four characters, as brokers know the name", pa.Check.str_matches(r"^[0-9A-Z]{4}$")),
            "name": _column("Japanese name, as of the evening"),
            "side": _column("BUY or SELL", dtype=SIDE),
            "effect": _column("Cash trade, or a margin position opened or closed", dtype=EFFECT),
            "shares": _column(
                f"Multiple of {LOT}",
                pa.Check.gt(0),
                pa.Check(lambda data: data.lazyframe.select(pl.col(data.key) % LOT == 0), error=f"a multiple of {LOT}"),
                dtype=pl.Int32,
            ),
            "order_type": _column("MOO at the market, LOO with a limit, of the opening auction", dtype=ORDER_TYPE),
            "limit_price": _column("JPY, of LOO only", pa.Check.gt(0), dtype=pl.Float32, nullable=True),
            "ref_price": _column("Last close, JPY", pa.Check.gt(0), dtype=pl.Float64),
            "est_value": _column("At the last close, JPY", pa.Check.gt(0), dtype=pl.Float64),
            "est_cost": _column("Commission, half-spread and impact, JPY", pa.Check.ge(0), dtype=pl.Float64),
            "adv_share": _column(
                "est_value of the median turnover of 20 days; null without", dtype=pl.Float32, nullable=True
            ),
            "limit_up": _column("Upper limit of the trade date, JPY", pa.Check.gt(0), dtype=pl.Float32),
            "limit_down": _column("Lower limit of the trade date, JPY", pa.Check.gt(0), dtype=pl.Float32),
            "rank": _column("Of the portfolio; null without a score", dtype=pl.UInt16, nullable=True),
            "score": _column("Of the evening; null without", dtype=pl.Float32, nullable=True),
            "reason": _column("Why, as in the portfolio", dtype=REASON),
        },
        strict=True,
        unique=["order_id"],
        ordered=True,
    ),
    constant_ok=frozenset(SCHEMA),
    nullable_ok=frozenset({"limit_price", "adv_share", "rank", "score"}),
    empty_ok=True,  # nothing is to be done, or the evening was withheld
)


class OrderRefused(Refusal):
    """An order cannot be given; the text says why."""


class Check(StrEnum):
    """What must hold of the orders of an evening before they are published, beside the contract."""

    LOTS = "lots"
    TICKS = "ticks"
    BANDS = "bands"
    CAPS = "caps"
    CASH = "cash"
    PUBLISHED = "published_scores"

    @property
    def says(self) -> str:
        return {
            "lots": "Whole lots, and each order leads from the holding to the target.",
            "ticks": "Every price of an order can be quoted on the trade date.",
            "bands": "Every limit lies within the daily price limits of the trade date.",
            "caps": "Purchases keep to the rule's caps on name, sector, gross and turnover, orders to their share of "
            "the usual turnover.",
            "cash": "Sales and cash pay for purchases and all estimated costs, at the last closes.",
            "published_scores": "There are orders only of an evening whose scores were published.",
        }[self.value]


@dataclass(frozen=True)
class Ways:
    """How orders are given.

    Attributes:
        order_type: market or limit, both for the opening auction.
        tolerance: how far the limit of LOO may be from the last close, as a share of it: above for purchases, below for
            sales.
    """

    order_type: OrderType = OrderType.MOO
    tolerance: float = 0.03

    def __post_init__(self) -> None:
        object.__setattr__(self, "order_type", OrderType(self.order_type))
        if not 0 <= self.tolerance < 1:
            raise OrderRefused(f"the tolerance of a limit is {self.tolerance}: from 0 to below 1 (0.03 is 3 %)")


def symbol_of(code: str) -> str:
    """The four characters by which brokers know a name.

    Raises:
        OrderRefused: it is no common share.
    """
    if len(code) != 5 or not code.endswith("0"):
        raise OrderRefused(
            f"{code} is no common share: its code does not end in 0, so it has no symbol of four characters (25935 is "
            "a preferred share of 2593). No order is given for it; take it out of the universe or of the holdings"
        )
    return code[:4]


def order_id(trade_date: object, strategy: str, code: str, side: Side) -> str:
    """The name of an order."""
    return f"{trade_date}-{strategy}-{code}-{side[0]}"


def limit_prices_of(change: NDArray[np.int64], price: Floats, tomorrow: Tomorrow, tolerance: float) -> Floats:
    """Limits around the last close, on the grid of the trade date and within its band, JPY [N]."""
    up, down = tomorrow.limit_up, tomorrow.limit_down
    price = np.where(np.isfinite(price), price, 1.0)
    buys = rounded_down(price * (1 + tolerance), tomorrow.day, tomorrow.fine_tick)
    sells = rounded_up(price * (1 - tolerance), tomorrow.day, tomorrow.fine_tick)
    return np.clip(np.where(change > 0, buys, sells), down, up)


def orders_of(
    market: Market,
    t: int,
    targets: pl.DataFrame,
    tomorrow: Tomorrow,
    costs: Costs,
    ways: Ways,
    names: Mapping[str, str],
    scores: Mapping[str, float],
) -> pl.DataFrame:
    """The orders that lead from the holdings of an evening to its targets, sorted by code.

    Args:
        targets: rows of the portfolio of the evening.
        names: Japanese name by code; a code without one stands for itself.
        scores: of the evening, by code.

    Raises:
        OrderRefused: a name cannot be ordered: no common share, or not known to the market.
    """
    wanted = targets.filter(pl.col("shares") != pl.col("held")).sort("code")
    if wanted.is_empty():
        return empty()
    places = {code: n for n, code in enumerate(market.codes)}
    change, price = np.zeros(len(places), np.int64), np.full(len(places), np.nan)
    for row in wanted.iter_rows(named=True):
        if row["code"] not in places:
            raise OrderRefused(f"{row['code']} of the portfolio of {row['date']} is not in the universe of these days")
        change[places[row["code"]]] = row["shares"] - row["held"]
        price[places[row["code"]]] = np.float64(row["ref_price"]).round(1)
    cost = estimated_cost(market, t, tomorrow, costs, change, price)
    limits = limit_prices_of(change, price, tomorrow, ways.tolerance)
    found = []
    for row in wanted.iter_rows(named=True):
        code, n = row["code"], places[row["code"]]
        side = Side.BUY if change[n] > 0 else Side.SELL
        value, adv = float(abs(change[n]) * price[n]), float(market.adv[t, n])
        found.append(
            {
                "order_id": order_id(row["trade_date"], row["strategy"], code, side),
                "date": row["date"],
                "trade_date": row["trade_date"],
                "strategy": row["strategy"],
                "code": code,
                "symbol": symbol_of(code),
                "name": names.get(code, code),
                "side": side,
                "effect": effect_of(row["held"], row["shares"]),
                "shares": int(abs(change[n])),
                "order_type": ways.order_type,
                "limit_price": float(limits[n]) if ways.order_type is OrderType.LOO else None,
                "ref_price": float(price[n]),
                "est_value": value,
                "est_cost": round(float(cost[n]), 2),
                "adv_share": value / adv if adv > 0 else None,
                "limit_up": float(tomorrow.limit_up[n]),
                "limit_down": float(tomorrow.limit_down[n]),
                "rank": row["rank"],
                "score": scores.get(code),
                "reason": row["reason"],
            }
        )
    return pl.DataFrame(found, schema=SCHEMA)


def effect_of(held: int, target: int) -> Effect:
    """What an order from one signed holding to another does to the account; it never does two things at once.

    Raises:
        OrderRefused: the holding would change its sign.
    """
    if held * target < 0:
        raise OrderRefused(f"an order from {held} to {target} shares closes one position and opens another: give two")
    if held < 0 or target < 0:
        return Effect.MARGIN_OPEN if abs(target) > abs(held) else Effect.MARGIN_CLOSE
    return Effect.CASH


def checks_of(
    orders: pl.DataFrame,
    targets: pl.DataFrame,
    market: Market,
    t: int,
    scores: NDArray[np.float32],
    standing: Standing,
    rule: Rule,
    costs: Costs,
    tomorrow: Tomorrow,
    published: bool,
) -> dict[Check, list[str]]:
    """What is wrong with the orders of an evening, by check; empty lists where all is well.

    Args:
        scores: of the evening [N], NaN for none.
        standing: what the targets were made from.
    """
    places = {code: n for n, code in enumerate(market.codes)}
    at = np.array([places[code] for code in orders["code"]], np.int64)
    sign = np.where((orders["side"] == Side.BUY).to_numpy(), 1, -1)
    change = np.zeros(len(places), np.int64)
    np.add.at(change, at, sign * orders["shares"].to_numpy().astype(np.int64))
    found: dict[Check, list[str]] = {
        Check.LOTS: list(_lots(orders, targets, change, places)),
        Check.TICKS: list(_ticks(orders, at, tomorrow)),
        Check.BANDS: list(_bands(orders, at, tomorrow)),
        Check.CAPS: list(_caps(market, t, scores, standing, change, rule)),
        Check.CASH: [],
        Check.PUBLISHED: [],
    }
    left = cash_after(market, t, tomorrow, costs, change, standing) if len(at) else standing.cash
    long_only = rule.side is BookSide.LONG
    if long_only and bool((change > 0).any()) and left < -_ROUND_OFF * standing.nav:
        found[Check.CASH].append(f"cash of {standing.cash:,.0f} JPY would become {left:,.0f}")
    if not published and len(at):
        found[Check.PUBLISHED].append(f"{len(at)} orders of an evening whose scores were withheld")
    return found


def _lots(
    orders: pl.DataFrame, targets: pl.DataFrame, change: NDArray[np.int64], places: Mapping[str, int]
) -> Iterator[str]:
    for row in orders.filter((pl.col("shares") <= 0) | (pl.col("shares") % LOT != 0)).iter_rows(named=True):
        yield f"{row['order_id']} is over {row['shares']} shares, no whole lots of {LOT}"
    wanted = {row["code"]: (row["held"], row["shares"]) for row in targets.iter_rows(named=True)}
    for code in orders["code"]:
        held, target = wanted.get(code, (0, 0))
        if held + change[places[code]] != target:
            yield f"{code}: {held} held and {change[places[code]]:+d} ordered are not the target of {target}"
    for code, (held, target) in wanted.items():
        if held != target and not change[places[code]]:
            yield f"{code}: {held} held, {target} wanted, nothing ordered"


def _ticks(orders: pl.DataFrame, at: NDArray[np.int64], tomorrow: Tomorrow) -> Iterator[str]:
    fine = tomorrow.fine_tick[at]
    for column in ("limit_price", "limit_up", "limit_down"):
        price = orders[column].cast(pl.Float64).fill_null(np.nan).to_numpy().round(1)
        for n in np.flatnonzero(np.isfinite(price) & ~on_the_grid(price, tomorrow.day, fine)):
            yield f"{orders['order_id'][int(n)]}: {column} of {price[n]:,.1f} JPY cannot be quoted"


def _bands(orders: pl.DataFrame, at: NDArray[np.int64], tomorrow: Tomorrow) -> Iterator[str]:
    for n, row in zip(at, orders.iter_rows(named=True), strict=True):
        up, down = tomorrow.limit_up[n], tomorrow.limit_down[n]
        if not (np.isfinite(up) and np.isfinite(down)):
            yield f"{row['order_id']}: the band of {tomorrow.day} is not known"
        limit = row["limit_price"]
        if (limit is None) == (row["order_type"] == OrderType.LOO):
            yield f"{row['order_id']} is {row['order_type']} with a limit of {limit}"
        elif limit is not None and not down - _ROUND_OFF <= round(limit, 1) <= up + _ROUND_OFF:
            yield f"{row['order_id']}: a limit of {limit:,.1f} JPY is outside {down:,.1f} to {up:,.1f}"


def _caps(
    market: Market, t: int, scores: NDArray[np.float32], standing: Standing, change: NDArray[np.int64], rule: Rule
) -> Iterator[str]:
    """Caps on what is bought; a holding that prices led beyond a cap is no order."""
    unit = np.where(np.isfinite(standing.price), standing.price, 0.0) / standing.nav
    before, after, traded = standing.shares * unit, (standing.shares + change) * unit, np.abs(change) * unit
    more = np.abs(after) > np.abs(before) + _ROUND_OFF
    codes = np.array(market.codes, dtype=str)
    for n in np.flatnonzero(more & (np.abs(after) > rule.name_cap + _ROUND_OFF)):
        yield f"{codes[n]} would weigh {abs(after[n]):.2%}, {rule.name_cap:.2%} is the most"
    evening = evening_of(market, t, scores, rule, unit, standing.nav)
    least = np.where(more, 0.0, LOT * unit)  # to leave a name, one lot is small enough
    for n in np.flatnonzero(traded > np.maximum(evening.reach, least) * (1 + _ROUND_OFF)):
        yield f"{codes[n]}: an order of {traded[n] * standing.nav:,.0f} JPY is beyond {rule.adv_share:.0%} of the usual"
    if more.any() and np.abs(after).sum() > max(rule.gross, float(np.abs(before).sum())) + _ROUND_OFF:
        yield f"weights would sum to {np.abs(after).sum():.2%}, {rule.gross:.2%} is the most"
    for side, sum_of in (("bought", traded[change > 0].sum()), ("sold", traded[change < 0].sum())):
        if sum_of > rule.turnover_cap + _ROUND_OFF:
            yield f"{sum_of:.2%} of the book would be {side}, {rule.turnover_cap:.2%} is the most of an evening"
    if rule.side is BookSide.LONG:
        total = np.bincount(evening.sector, after, minlength=len(evening.share))
        for sector in np.unique(evening.sector[more]):
            if total[sector] > evening.share[sector] + rule.sector_band + _ROUND_OFF:
                highest = evening.share[sector] + rule.sector_band
                yield f"sector {sector - 1} would weigh {total[sector]:.2%}, {highest:.2%} is the most to buy into"


def broken_rows(frame: pl.DataFrame) -> Iterator[Failure]:
    """What a column by itself cannot show: names of orders, and limits that belong to LOO alone."""
    named = pl.format("{}-{}-{}-{}", "trade_date", "strategy", "code", pl.col("side").cast(pl.String).str.head(1))
    rules = (
        ("order_id", "trade date, strategy, code and side", pl.col("order_id") != named),
        ("symbol", "the code without its 0", pl.col("symbol") + "0" != pl.col("code")),
        ("limit_price", "of LOO and of no other", pl.col("limit_price").is_null() == (pl.col("order_type") == "LOO")),
        (
            "limit_price",
            "within the band",
            pl.col("limit_price").is_not_null() & ~pl.col("limit_price").is_between("limit_down", "limit_up"),
        ),
    )
    for column, rule, wrong in rules:
        bad = frame.filter(wrong)
        if bad.height:
            yield column, rule, bad.height, ", ".join(bad["order_id"].head(5))


def empty() -> pl.DataFrame:
    """No orders."""
    return pl.DataFrame(schema=SCHEMA)
