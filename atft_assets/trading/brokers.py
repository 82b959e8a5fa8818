"""Orders as brokers want them: a CSV that opens in Excel, and a mapping for kabu STATION. Nothing is sent from here."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from atft_assets.trading.rules import Effect, OrderType, Side

# What a spreadsheet takes for the begin of a formula, in full width too; or, standing first, skips and looks behind.
FORMULA = r"^([\s\x00-\x1f]*[=+\-@＝＋－＠]|[\t\r\n])"

PRICES = ("limit_price", "ref_price", "limit_up", "limit_down")

# kabu STATION API, POST /sendorder. Exchange: 9 SOR, 27 "TSE+"; 1, the exchange itself, is refused since 2026-09
KABU_EXCHANGES = (1, 9, 27)
KABU_TSE_PLUS = 27
_KABU_SIDE = {Side.SELL: "1", Side.BUY: "2"}
_KABU_MARGIN = {Effect.CASH: 1, Effect.MARGIN_OPEN: 2, Effect.MARGIN_CLOSE: 3}
_KABU_FRONT = {OrderType.MOO: 13, OrderType.LOO: 21}  # opening auction of the morning, market and limit
KABU_ACCOUNTS = (2, 4, 12)  # general, specified, corporate


def to_csv(orders: pl.DataFrame) -> bytes:
    """The orders as a file that Excel opens: UTF-8 with a byte order mark, dates ISO, no number with an exponent.

    Codes and symbols are quoted; a symbol has no E, of which a spreadsheet would make a power of ten, because the
    exchange gives out none. A text that a spreadsheet would run as a formula, as a company's name may begin, has an
    apostrophe before it; numbers, which are no texts, stay as they are.
    """
    readable = orders.with_columns(
        pl.col(PRICES).cast(pl.Float64).round(1),
        pl.col("est_value", "est_cost").round(0).cast(pl.Int64),
        pl.col("adv_share").cast(pl.Float64).round(5),
        pl.col("score").cast(pl.Float64).round(4),
        pl.col("side", "effect", "order_type", "reason").cast(pl.String),
    ).with_columns(pl.col(pl.String).str.replace(FORMULA, "'$1"))
    text = readable.write_csv(quote_style="non_numeric", float_scientific=False, date_format="%Y-%m-%d")
    return text.encode("utf-8-sig")


def kabu_station(
    order: Mapping[str, Any], *, exchange: int = KABU_TSE_PLUS, account: int = 4, margin_trade: int = 1
) -> dict[str, Any]:
    """An order as the body of kabu STATION's `sendorder`.

    It takes five orders a second and about five live ones a symbol; who sends them keeps to that. A position that is
    closed is closed from its oldest part.

    Args:
        order: a row of the table `orders`.
        exchange: 9 (SOR), 27 (TSE+) or 1.
        account: 2 general, 4 specified, 12 corporate.
        margin_trade: of margin orders: 1 standardised, 2 long-term, 3 day trade.

    Raises:
        ValueError: an argument that the broker does not know.
    """
    if exchange not in KABU_EXCHANGES or account not in KABU_ACCOUNTS or margin_trade not in (1, 2, 3):
        raise ValueError(
            f"exchange {exchange}, account {account}, margin_trade {margin_trade}: use one of {KABU_EXCHANGES}, of "
            f"{KABU_ACCOUNTS}, and 1 to 3"
        )
    side, effect, kind = Side(order["side"]), Effect(order["effect"]), OrderType(order["order_type"])
    limited = kind is OrderType.LOO
    body: dict[str, Any] = {
        "Symbol": order["symbol"],
        "Exchange": exchange,
        "SecurityType": 1,
        "Side": _KABU_SIDE[side],
        "CashMargin": _KABU_MARGIN[effect],
        "DelivType": 0,
        "FundType": "  ",
        "AccountType": account,
        "Qty": int(order["shares"]),
        "FrontOrderType": _KABU_FRONT[kind],
        "Price": round(float(order["limit_price"]), 1) if limited else 0,
        "ExpireDay": 0,  # of an order that is given after the close: the next session
    }
    if effect is Effect.CASH:
        if side is Side.BUY:  # paid from what is deposited, shares to safe custody
            body |= {"DelivType": 2, "FundType": "02"}
    else:
        body |= {"MarginTradeType": margin_trade, "FundType": "11"}
        if effect is Effect.MARGIN_CLOSE:
            body |= {"DelivType": 2, "ClosePositionOrder": 0}
    return body
