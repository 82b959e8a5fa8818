"""What the tables of a ledger must be: `equity`, `trades`, `positions`, as contracts."""

from collections.abc import Iterator, Mapping

import pandera.polars as pa
import polars as pl

from atft_assets.contracts import Contract
from atft_assets.contracts.contract import Failure
from atft_assets.features.key_columns import CODE, DATE
from atft_assets.trading.journal import EQUITY, POSITIONS, TRADES
from atft_assets.trading.ledger import IDENTITY, Ledger

NOT_NEGATIVE = pa.Check.ge(0)
_TEXT: Mapping[str, str] = {
    "strategy": "Whose book it is",
    "nav": "Net asset value at the close, JPY",
    "cash": "JPY at the close",
    "receivable": "Dividends that are still to come, JPY; of a short book owed ones",
    "gross": "Sum of absolute position values over nav",
    "net": "Sum of signed position values over nav",
    "ret": "Return of the day after costs, decimal",
    "ret_gross": "The same before costs",
    "cost_commission": "JPY of the day",
    "cost_spread": "JPY of the day",
    "cost_impact": "JPY of the day",
    "cost_borrow": "JPY of the day",
    "dividends": "Credited on the ex-date, JPY",
    "turnover": "One-way, of the nav at the open; cash counts as a holding",
    "names": "Held at the close",
    "unfilled_value": "Ordered and not filled, by the last closes, JPY",
    "bench_topix": "Return of TOPIX, price index",
    "bench_topix_tr": "Return of TOPIX with dividends",
    "bench_equal": "Return of the equal-weight universe",
    "side": "BUY or SELL",
    "shares_ordered": "In shares of the day",
    "shares": "Filled; of positions signed",
    "price": "JPY: of a trade the opening price, of a position its mark",
    "value": "JPY: of a trade shares x price, of a position shares x mark, signed",
    "commission": "JPY",
    "half_spread": "JPY",
    "impact": "JPY",
    "borrow": "Fees of the shares that were bought back, JPY",
    "fill_ratio": "Filled share of the order",
    "status": "filled, partial, none",
    "reason": "Why not all of it was filled; ok",
    "stale_days": "Days since it traded, 0 for today",
    "weight": "Value over nav",
    "entry_date": "Day on which the position was opened",
    "cost_basis": "What was paid for what is held, costs included, JPY",
}
_RULES: Mapping[str, pa.Check] = {
    **dict.fromkeys(
        ("cost_commission", "cost_spread", "cost_impact", "cost_borrow", "unfilled_value", "turnover", "gross",
         "commission", "half_spread", "impact", "borrow"),
        NOT_NEGATIVE,
    ),
    "nav": pa.Check.gt(0),
    "ret": pa.Check.gt(-1),
    "fill_ratio": pa.Check.in_range(0, 1),
    "shares_ordered": pa.Check.gt(0),
}  # fmt: skip


def _contract(table: str, schema: Mapping[str, pl.DataType], key: list[str], nullable: tuple[str, ...]) -> Contract:
    columns = {
        name: DATE if name == "date" else CODE if name == "code" else pa.Column(
            dtype, [_RULES[name]] if name in _RULES else [], nullable=name in nullable, description=_TEXT[name]
        )
        for name, dtype in schema.items()
    }  # fmt: skip
    return Contract(
        table=table,
        schema=pa.DataFrameSchema(columns, strict=True, unique=key, ordered=True),
        constant_ok=frozenset(schema),
        nullable_ok=frozenset(nullable),
        empty_ok=table != "equity",
    )


EQUITY_CONTRACT = _contract("equity", EQUITY, ["date", "strategy"], ("bench_topix", "bench_topix_tr", "bench_equal"))
TRADES_CONTRACT = _contract("trades", TRADES, ["date", "strategy", "code", "side"], ("price",))
POSITIONS_CONTRACT = _contract("positions", POSITIONS, ["date", "strategy", "code"], ())


def frames_of(ledger: Ledger) -> dict[str, tuple[Contract, pl.DataFrame]]:
    """The three tables by name, each with its contract."""
    return {
        "equity": (EQUITY_CONTRACT, ledger.equity),
        "trades": (TRADES_CONTRACT, ledger.trades),
        "positions": (POSITIONS_CONTRACT, ledger.positions),
    }


def broken_identities(ledger: Ledger) -> Iterator[Failure]:
    """What the three tables say of each other and do not agree on, to a millionth of the net asset value.

    The ledger explains every day by itself while it runs; this asks the tables that it left behind, which is what a
    reader has.
    """
    equity = ledger.equity.sort("strategy", "date")
    held = ledger.positions.group_by("date", "strategy").agg(pl.col("value").sum().alias("held"))
    paid = ledger.trades.group_by("date", "strategy").agg(
        pl.col(name).sum() for name in ("commission", "half_spread", "impact")
    )
    both = equity.join(held, on=["date", "strategy"], how="left").join(paid, on=["date", "strategy"], how="left")
    before = pl.col("nav").shift(1).over("strategy")
    # of these the positions' marks are floats of 32 bits, and their values not
    claims: dict[str, tuple[str, pl.Expr]] = {
        "nav": ("cash + receivable + positions", pl.col("cash") + pl.col("receivable") + pl.col("held").fill_null(0)),
        "ret": ("nav of the day before and the return", before * (1 + pl.col("ret"))),
        "cost_commission": ("sum of the day's trades", pl.col("nav") + pl.col("commission").fill_null(0)
                            - pl.col("cost_commission")),
        "cost_spread": ("sum of the day's trades", pl.col("nav") + pl.col("half_spread").fill_null(0)
                        - pl.col("cost_spread")),
        "cost_impact": ("sum of the day's trades", pl.col("nav") + pl.col("impact").fill_null(0)
                        - pl.col("cost_impact")),
    }  # fmt: skip
    for column, (rule, expected) in claims.items():
        off = both.filter((pl.col("nav") - expected).abs() > IDENTITY * pl.col("nav"))
        if off.height:
            yield column, rule, off.height, ", ".join(map(str, off["date"].head(5)))
