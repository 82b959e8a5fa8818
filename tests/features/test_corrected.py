"""One corrected price, carried through the real features by the sensor: the tables are those of a first build."""

import shutil
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandera.polars as pa
import polars as pl

from atft_assets import raw
from atft_assets.benches.features import build_tables
from atft_assets.contracts import Built, Contract, contract_check, write_audit_publish
from atft_assets.features import definitions
from atft_assets.features.point_in_time import differences
from atft_assets.features.registry import complete
from atft_assets.graph.asset import graph_asset
from atft_assets.operations.corrections import corrections_sensor
from atft_assets.operations.jobs import corrections_job
from atft_assets.store import Store

SPAN = "dagster/asset_partition_range_"
FEATURES = [row.name for row in complete() if not row.whole]
RAW = sorted({name for row in complete() for name in row.reads} - {row.name for row in complete()})


def raw_again(spec: dg.AssetSpec, store: Store, change: dict[str, pl.Expr]) -> dg.AssetsDefinition:
    """A raw asset whose source sends what is stored already, with the changes of a month."""
    name = spec.key.to_user_string()
    anything = Contract(name, pa.DataFrameSchema({"date": pa.Column(pl.Date)}), empty_ok=True)
    table = store.table("raw", name)

    def build(keys: list[str]) -> Iterator[Built]:
        for key in keys:
            frame = table.read([key])
            planted = name == "daily_quotes" and key in change
            yield Built(key, frame.with_columns(change[key]) if planted else frame)

    @dg.multi_asset(name=name, specs=[spec], check_specs=[contract_check(name)],
                    backfill_policy=dg.BackfillPolicy.single_run())  # fmt: skip
    def fetched(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from write_audit_publish(context, table, anything, build, code_version="1")

    return fetched


def test_a_corrected_price_reaches_every_table_and_an_unchanged_one_none(workspace, tmp_path) -> None:
    settings, store, change = workspace.settings(), workspace.store, {}
    specs = [spec for one in raw.definitions(settings).assets or [] for spec in one.specs]
    assets = [raw_again(s, store, change) for s in specs if s.key.to_user_string() in RAW]
    job = corrections_job()
    sensor = corrections_sensor(settings, job)
    defs = dg.Definitions(
        assets=[*assets, *(definitions(settings).assets or []), graph_asset(settings)], jobs=[job], sensors=[sensor],
        resources={"store": store}, executor=dg.in_process_executor,
    )  # fmt: skip
    first, last = workspace.keys[0], workspace.keys[-1]
    corrected = "2020-08"

    def run(names, first, last) -> None:
        tags = {f"{SPAN}start": first, f"{SPAN}end": last}
        chosen = dg.materialize(list(defs.assets or []), selection=list(names), instance=instance, tags=tags,
                                resources={"store": store})  # fmt: skip
        assert chosen.success

    def settle() -> list[dg.RunRequest]:
        asked: list[dg.RunRequest] = []
        cursor = None
        while True:
            with dg.build_sensor_context(
                instance=instance, cursor=cursor, definitions=defs, resources={"store": store}
            ) as context:
                data = sensor.evaluate_tick(context)
            cursor = data.cursor
            if not data.run_requests:
                return asked
            asked += data.run_requests
            for request in data.run_requests:
                result = defs.resolve_job_def("corrections").execute_in_process(
                    instance=instance, asset_selection=list(request.asset_selection or ()), tags=dict(request.tags)
                )
                assert result.success

    with dg.DagsterInstance.ephemeral() as instance:
        run([*RAW, *FEATURES], first, last)
        assert settle() == []
        files = {name: store.table("features", name).path(corrected).stat().st_ino for name in FEATURES}
        run(["daily_quotes"], corrected, corrected)  # the same bytes again
        assert settle() == []
        one = (pl.col("code") == pl.col("code").max()) & (pl.col("date") == pl.col("date").max())
        change[corrected] = pl.when(one).then(pl.col("H") * 0.4 + pl.col("L") * 0.6).otherwise(pl.col("C")).alias("C")
        run(["daily_quotes"], corrected, corrected)
        (request,) = settle()
        assert (request.tags[f"{SPAN}start"], request.tags[f"{SPAN}end"]) == (corrected, last)
    again = {name: store.table("features", name).path(corrected).stat().st_ino for name in FEATURES}
    assert again["stock_features"] != files["stock_features"]
    assert again["universe"] == files["universe"]  # built again, the same: the file was not touched
    fresh = Store(root=str(tmp_path / "fresh"))
    shutil.copytree(workspace.root / "raw", tmp_path / "fresh" / "raw")
    build_tables(fresh, workspace.keys, settings.start)
    for name in FEATURES:
        stored, scratch = (one.table("features", name).read() for one in (store, fresh))
        if "code" not in stored.columns or name == "universe":
            assert stored.equals(scratch), name
        else:
            assert differences(scratch, stored).is_empty(), name
