"""Evenings on the small market of `tests/training`: its master of listed issues, a champion, and a run of the asset."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from atft_assets.calendar import TOKYO, month_key, next_trading_day
from atft_assets.trading.champion import Champion, Promotion, install
from atft_assets.trading.daily_scores import GROUP, NAME, PUBLISHED, Provenance, empty, rows_of, with_days
from atft_assets.trading.names import facts_of, master_of, recent_bars
from atft_assets.trading.orders_asset import orders_asset
from atft_assets.trading.portfolio_asset import portfolio_asset
from atft_assets.trading.scores_asset import daily_scores_asset
from atft_assets.training.baselines import StoredBaselines, stored_baselines
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.seeds import latest_ensemble
from tests.training.small_market import World, catalogue

TONIGHT = date(2020, 6, 30)
SEGMENT_CODES = ("0111", "0112")
RESOURCES = {"launcher": LocalLauncher(module="fake_trainer", threads=1)}


def with_master(world: World) -> World:
    """The market with weekly snapshots of its listed issues."""
    opening = [day for day in world.days if day.isocalendar().weekday == 1 or day == world.days[0]]
    rows = [
        {
            "date": day,
            "code": code,
            "CoName": f"会社{n}",
            "S33": f"{3050 + 100 * (n % 3)}",
            "Mkt": SEGMENT_CODES[n % 2],
            "Mrgn": "2" if n % 2 == 0 else "1",
            "ScaleCat": "TOPIX Small 1",
            "ProdCat": "011",
            "available_at": datetime(day.year, day.month, day.day, 17, 30, tzinfo=TOKYO) - timedelta(days=1),
        }
        for day in opening
        for n, code in enumerate(world.codes)
    ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "date": pl.Date,
        "available_at": pl.Datetime("us", "Asia/Tokyo"),
    }
    world.publish("raw", "listed_info", pl.DataFrame(rows, schema_overrides=schema))
    return world


def put_in_use(world: World, kind: str = "network", phase: int = 0, name: str = "c1") -> Champion:
    """Let what was trained on `main` be the champion."""
    ensemble = latest_ensemble(world.runs(phase))
    trees = stored_baselines(world.store.local("runs", "main", "baselines"))
    panel = world.newest()
    network = kind != "lightgbm"
    assert (ensemble or not network) and (trees or kind == "network")
    champion = Champion(
        champion_id=name,
        kind=kind,  # type: ignore[arg-type]
        fold="main",
        recipe="r",
        panel_id=panel.panel_id,
        catalogue_hash=panel.description.catalogue_hash,
        as_of=panel.dates[-1],
        phase=f"phase{phase}" if network else "",
        runs=ensemble.run_ids if network and ensemble else (),
        checkpoints=tuple(str(run.record.checkpoint_sha256) for run in ensemble.runs) if network and ensemble else (),
        baselines=trees.folder.name if kind != "network" and isinstance(trees, StoredBaselines) else "",
    )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    install(world.store.local(GROUP), Promotion(at, "champion", champion, rule="first"))
    return champion


def evening(
    world: World, instance: dg.DagsterInstance, day: date | None = TONIGHT, tags: dict[str, str] | None = None,
    launcher: LocalLauncher | None = None, **config: Any,
) -> dg.ExecuteInProcessResult:  # fmt: skip
    """Run the asset on the evening's month."""
    given = {**config, **({"day": str(day)} if day else {})}
    others = ("data_release", "promotion", "labels")
    return dg.materialize(
        [daily_scores_asset(world.settings, catalogue), *(dg.AssetSpec(name) for name in others)],
        selection=[NAME],
        partition_key=month_key(day or TONIGHT),
        resources={"store": world.store, **RESOURCES, **({"launcher": launcher} if launcher else {})},
        run_config={"ops": {NAME: {"config": given}}},
        instance=instance,
        tags=tags,
        raise_on_error=False,
    )


def book(
    world: World, instance: dg.DagsterInstance, day: date | None = TONIGHT, tags: dict[str, str] | None = None,
    order: dict[str, Any] | None = None, select: Sequence[str] = ("portfolio", "orders"), **config: Any,
) -> dg.ExecuteInProcessResult:  # fmt: skip
    """Run the assets `portfolio` and `orders` on the evening's month.

    Args:
        order: config of orders beside the day.
        config: of portfolio.
    """
    given = {"day": str(day)} if day else {}
    read = (NAME, "daily_quotes", "listed_info", "topix", "universe")
    run_config = {"portfolio": {**given, **config}, "orders": {**given, **(order or {})}}
    return dg.materialize(
        [portfolio_asset(world.settings), orders_asset(world.settings), *(dg.AssetSpec(name) for name in read)],
        selection=list(select),
        partition_key=month_key(day or TONIGHT),
        resources={"store": world.store},
        run_config={"ops": {name: {"config": run_config[name]} for name in select}},
        instance=instance,
        tags=tags,
        raise_on_error=False,
    )


def publish_scores(
    world: World, day: date, scores: Sequence[float], status: str = PUBLISHED, name: str = "c1"
) -> pl.DataFrame:
    """Put an evening of made scores, one a name of the market, into the table; other evenings stay."""
    master = master_of(world.store, day)
    values = np.asarray(scores, np.float32)
    facts = facts_of(world.codes, master, recent_bars(world.store, day))
    of = Provenance(name, "p", "h")
    rows = rows_of(day, next_trading_day(day), world.codes, np.tile(values, (4, 1)), values, facts, of, status)
    stored, key = world.store.table(GROUP, NAME), month_key(day)
    frame = stored.read([key]) if key in set(stored.keys()) else empty()
    stored.publish([stored.stage(key, with_days(frame, [rows], [day]), code_version="t")])
    return rows


def table(world: World, *keys: str) -> pl.DataFrame:
    """What the asset has written."""
    return world.store.table(GROUP, NAME).read(list(keys) or None)
