"""The asset `orders`: the orders that lead from what is held to what should be, as a table and as a file for a broker.

Every evening leaves a file of the next open day, also one that orders nothing: a file of the day before is never taken
for tonight's.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field
from upath import UPath

from atft_assets.calendar import month_key
from atft_assets.code_version import code_version
from atft_assets.contracts import CONTRACT_CHECK, Built, Event, contract_check, write_audit_publish
from atft_assets.dagster_private import RefusalCheckResult
from atft_assets.failures import PermanentFailure, permanent
from atft_assets.features.names import DAILY_QUOTES, LISTED_INFO, TOPIX, UNIVERSE
from atft_assets.groups import TRADING
from atft_assets.partitions import look_back, months
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.store.files import write_atomically
from atft_assets.trading import daily_scores, portfolio
from atft_assets.trading.brokers import to_csv
from atft_assets.trading.costs import PRESETS
from atft_assets.trading.orders import CONTRACT, GROUP, NAME, Check, Ways, broken_rows, checks_of, empty, orders_of
from atft_assets.trading.policy import Rule
from atft_assets.trading.portfolio import with_evening
from atft_assets.trading.portfolio_asset import nothing
from atft_assets.trading.rules import OrderType
from atft_assets.trading.standing import Standing, last_closes
from atft_assets.trading.tonight import EveningConfig, Tonight, View, tonight_of, view_of

SHOWN = 50  # orders on the page of the asset
CODE_VERSION = code_version(
    "atft_assets.trading.brokers",
    "atft_assets.trading.costs",
    "atft_assets.trading.orders",
    "atft_assets.trading.portfolio",
    "atft_assets.trading.rules",
)


class OrdersConfig(EveningConfig):
    """How orders are given."""

    order_type: OrderType = Field(
        OrderType.MOO, description="For the opening auction: MOO at the market, LOO with a limit."
    )
    tolerance: float = Field(
        0.03, ge=0, lt=1, description="Of LOO: how far the limit may be from the last close, as a share (0.03 is 3 %)."
    )


def csv_path(store: Store, trade_date: date) -> Path:
    """The file of an open day."""
    return store.local(GROUP, NAME, f"{trade_date}.csv")


def newest_csv(store: Store) -> Path | None:
    """The file of the newest day for which there are orders or a word that there are none."""
    files = sorted(store.local(GROUP, NAME).glob("????-??-??.csv"))
    return files[-1] if files else None


def standing_of(view: View, targets: pl.DataFrame) -> Standing:
    """What the rows of an evening say is held."""
    price = last_closes(view.market, view.t).mark
    shares = np.zeros(len(price), np.int64)
    places = {code: n for n, code in enumerate(view.market.codes)}
    known = targets.filter(pl.col("code").is_in(list(places)))
    at = np.array([places[code] for code in known["code"]], np.int64)
    shares[at] = known["held"].to_numpy()
    price[at] = known["ref_price"].cast(pl.Float64).round(1).to_numpy()
    unfinished = np.zeros(len(price), bool)
    return Standing(shares, price, float(targets["cash"][0]), unfinished, str(targets["book"][0]))


def ordered_tonight(
    store: Store, tonight: Tonight, targets: pl.DataFrame, ways: Ways
) -> tuple[pl.DataFrame, dict[Check, list[str]]]:
    """The orders of an evening, and what is wrong with them.

    Raises:
        OrderRefused: a name cannot be ordered.
    """
    if targets.is_empty():
        return empty(), {check: [] for check in Check}
    costs, rule = PRESETS[str(targets["costs"][0])], Rule(**json.loads(targets["rule"][0]))
    view = view_of(store, tonight)
    scores = tonight.of_codes("score")
    orders = orders_of(view.market, view.t, targets, view.tomorrow, costs, ways, view.names, scores)
    standing = standing_of(view, targets)
    wrong = checks_of(
        orders, targets, view.market, view.t, view.scores, standing, rule, costs, view.tomorrow, tonight.published
    )
    return orders, wrong


def targets_tonight(store: Store, tonight: Tonight, strategy: str) -> pl.DataFrame:
    """Rows of the portfolio of the evening itself; none where it decided nothing, or its scores are withheld by now."""
    if not tonight.published:
        return portfolio.empty()
    table = store.table(portfolio.GROUP, portfolio.NAME)
    key = month_key(tonight.day)
    rows = table.read([key]) if key in set(table.keys()) else portfolio.empty()
    return rows.filter((pl.col("date") == tonight.day) & (pl.col("strategy") == strategy))


def orders_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset; a month a partition."""

    @dg.asset(
        name=NAME,
        group_name=TRADING,
        partitions_def=months(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            portfolio.NAME,
            daily_scores.NAME,
            *(
                dg.AssetDep(name, partition_mapping=look_back(4))
                for name in (DAILY_QUOTES, LISTED_INFO, TOPIX, UNIVERSE)
            ),
        ],
        check_specs=[
            contract_check(NAME),
            *(dg.AssetCheckSpec(check.value, asset=NAME, blocking=True, description=check.says) for check in Check),
        ],
        kinds={"polars", "csv"},
        tags={"atft/kind": "orders"},
        code_version=CODE_VERSION,
        output_required=False,
        description="Orders for the next opening auction, as table and CSV. From what is held to the portfolio, in "
        "whole lots, within the day's price limits; none of an evening whose scores were withheld. Nothing is sent.",
    )
    def orders(context: dg.AssetExecutionContext, config: OrdersConfig, store: Store) -> Iterator[Event]:
        with permanent(f"{NAME} cannot be computed"):
            tonight = tonight_of(store, context.partition_keys, config, context.run.tags)
            if tonight is None:
                yield from nothing(context, NAME, [CONTRACT_CHECK, *(check.value for check in Check)])
                return
            targets = targets_tonight(store, tonight, config.strategy)
            found, wrong = ordered_tonight(store, tonight, targets, Ways(config.order_type, config.tolerance))
        where = {"date": str(tonight.day), "partition": month_key(tonight.day)}
        if any(wrong.values()):
            for check, said in wrong.items():
                if said:
                    yield RefusalCheckResult(
                        passed=False,
                        asset_key=NAME,
                        check_name=check.value,
                        description="; ".join(said[:5]),
                        metadata=where,
                    )
            raise PermanentFailure(_refused(tonight, wrong))
        table = store.table(GROUP, NAME)

        def build(keys: list[str]) -> Iterator[Built]:
            held = set(table.keys())
            for key in keys:
                frame = table.read([key]) if key in held else empty()
                if key == month_key(tonight.day):
                    frame = with_evening(frame, found, tonight.day, config.strategy)
                yield Built(key, frame, failures=tuple(broken_rows(frame)))

        path = csv_path(store, tonight.trade_date)
        details = _details(tonight, found, path)
        yield from write_audit_publish(context, table, CONTRACT, build, code_version=CODE_VERSION, details=details)
        with permanent(f"the file of {NAME} cannot be written"):
            mine = table.read([month_key(tonight.day)]).filter(pl.col("trade_date") == tonight.trade_date)
            write_atomically(UPath(path), to_csv(mine))
            store.push("trading", NAME)
        for check in Check:
            yield dg.AssetCheckResult(
                passed=True,
                asset_key=NAME,
                check_name=check.value,
                description=f"{found.height} orders",
                metadata=where,
            )

    return orders


def _refused(tonight: Tonight, wrong: dict[Check, list[str]]) -> str:
    said = "; ".join(f"{check}: {texts[0]}" for check, texts in wrong.items() if texts)
    return (
        f"the orders of the evening of {tonight.day} break {said}. Nothing was published, no order is to be sent. Look "
        f"at the checks of {NAME}; the portfolio is made again by: dagster asset materialize --select "
        f"{portfolio.NAME},{NAME} --partition {month_key(tonight.day)}"
    )


def _details(tonight: Tonight, orders: pl.DataFrame, path: Path) -> dict[str, Any]:
    sides = {side: orders.filter(pl.col("side") == side) for side in ("BUY", "SELL")}
    return {
        "status": "ordered" if tonight.published else "withheld: no order",
        "evening": str(tonight.day),
        "trade_date": str(tonight.trade_date),
        "orders": orders.height,
        "bought": round(float(sides["BUY"]["est_value"].sum())),
        "sold": round(float(sides["SELL"]["est_value"].sum())),
        "estimated_cost": round(float(orders["est_cost"].sum())),
        "file": dg.MetadataValue.path(str(path)),
        "list": _table(orders.sort("side", "rank", nulls_last=True)),
    }


def _table(orders: pl.DataFrame) -> dg.TableMetadataValue:
    columns: Sequence[str] = ("symbol", "name", "side", "shares", "order_type", "limit_price", "ref_price", "reason")
    shown = orders.head(SHOWN).select(pl.col(columns).cast(pl.String).fill_null("–"))
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in shown.iter_rows(named=True)],
        schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
    )
