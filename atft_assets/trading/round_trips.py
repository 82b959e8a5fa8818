"""Round trips of a book: each name from the day on which it was first held to the day on which nothing was left."""

import numpy as np
import polars as pl

from atft_assets.trading.account import split_ratio, whole_after_split
from atft_assets.trading.market import Market

SCHEMA: dict[str, pl.DataType] = {
    "code": pl.String(),
    "entry": pl.Date(),
    "exit": pl.Date(),
    "days": pl.UInt32(),
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),
    "profit": pl.Float64(),
    "ret": pl.Float64(),
    "note": pl.String(),
}
COSTS = ("commission", "half_spread", "impact", "borrow")


def round_trips(market: Market, trades: pl.DataFrame, positions: pl.DataFrame) -> pl.DataFrame:
    """What each stay in a name came to, net of costs and with its dividends.

    In yen, so that a split changes nothing: what was sold less what was bought, less costs, with dividends, and what
    is still held by its last mark. A name that is left and bought again makes two trips.

    Args:
        trades, positions: of one strategy, as a ledger writes them down.

    Returns:
        code, entry, exit (null: still held), days at whose close it was held, entry_price and exit_price of the first
        and the last fill (the mark, if held), profit in JPY, ret: of what was bought (sold, of a short trip), and
        note: the splits, limits, dividends and days without a trade on the way. By entry and code.
    """
    place = pl.DataFrame({"date": market.dates, "t": np.arange(len(market.dates), dtype=np.int32)})
    filled = trades.filter(pl.col("shares") > 0).join(place, on="date").sort("code", "t", "side")
    held = positions.join(place, on="date").sort("code", "t")
    rows = []
    fills = {str(key[0]): part for key, part in filled.partition_by("code", as_dict=True).items()}
    column = {code: n for n, code in enumerate(market.codes)}
    for key, part in held.partition_by("code", as_dict=True).items():
        code = str(key[0])
        days = part["t"].to_numpy()
        breaks = np.flatnonzero(np.diff(days) > 1) + 1
        for stay in np.split(np.arange(len(days)), breaks):
            rows.append(_trip(market, column[code], code, part[stay[0] : stay[-1] + 1], fills[code]))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("entry", "code")


def _trip(market: Market, n: int, code: str, stay: pl.DataFrame, fills: pl.DataFrame) -> dict[str, object]:
    """One stay: the days at whose close the name was held, and the fills from the first of them to the day after."""
    first, last = int(stay["t"][0]), int(stay["t"][-1])
    mine = fills.filter(pl.col("t").is_between(first, last + 1))
    over = last + 1 < len(market.dates)
    sign = pl.when(pl.col("side").cast(pl.String) == "SELL").then(1.0).otherwise(-1.0)
    received = float(mine.select((sign * pl.col("value")).sum()).item())
    paid = float(mine.select(pl.sum_horizontal(COSTS).sum()).item())
    long = int(stay["shares"][0]) > 0
    invested = float(mine.filter(pl.col("side").cast(pl.String) == ("BUY" if long else "SELL"))["value"].sum())
    left = 0.0 if over else float(stay["value"][-1])
    profit = received - paid + left + _overnight(market, n, stay if over else stay.head(-1))
    return {
        "code": code,
        "entry": market.dates[first],
        "exit": market.dates[last + 1] if over else None,
        "days": stay.height,
        "entry_price": mine["price"][0] if mine.height else None,
        "exit_price": float(stay["price"][-1]) if not over else mine["price"][-1] if mine.height else None,
        "profit": profit,
        "ret": profit / invested if invested else None,
        "note": _note(market, n, first, min(last + 1, len(market.dates) - 1), stay, mine),
    }


def _overnight(market: Market, n: int, evenings: pl.DataFrame) -> float:
    """Dividends of the days after some evenings, and what was paid for the fractions that splits left, JPY."""
    total = 0.0
    for t, shares, mark in evenings.select("t", "shares", "price").iter_rows():
        dividend, factor = float(market.dividend[t + 1, n]), float(market.adj_factor[t + 1, n])
        total += shares * dividend
        if factor != 1:
            ratio = split_ratio(factor)
            new = whole_after_split(shares, ratio)
            fraction = shares - new * ratio.numerator / ratio.denominator
            total += fraction * max(mark - dividend, 0.0)
    return total


def _note(market: Market, n: int, first: int, last: int, stay: pl.DataFrame, mine: pl.DataFrame) -> str:
    """What a person looks for in a trade that is too good."""
    days = slice(first + 1, last + 1)
    said = [
        f"split {market.adj_factor[t, n]:.4g} on {market.dates[t]}"
        for t in range(first + 1, last + 1)
        if market.adj_factor[t, n] != 1
    ]
    with np.errstate(invalid="ignore"):
        up = int((market.close[days, n] >= market.limit_up[days, n]).sum())
        down = int((market.close[days, n] <= market.limit_down[days, n]).sum())
    said += [f"{count} closes at the {side} limit" for count, side in ((up, "upper"), (down, "lower")) if count]
    paid = int((market.dividend[days, n] > 0).sum())
    dark = int((stay["stale_days"] > 0).sum())
    said += [f"{paid} dividends"] if paid else []
    said += [f"{dark} days without a trade"] if dark else []
    reasons = mine["reason"].cast(pl.String)
    said += sorted({reason.replace("_", " ") for reason in reasons if reason != "ok"})
    return "; ".join(said)
