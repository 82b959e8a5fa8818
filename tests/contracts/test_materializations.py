"""Data versions a month, as Dagster's own staleness sees them: small tables in real runs."""

from collections.abc import Iterator

import dagster as dg
import pandera.polars as pa
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from atft_assets.calendar import months_between
from atft_assets.contracts import Built, Contract, contract_check, write_audit_publish
from atft_assets.store import Store, Table

MONTHS = months_between("2020-01", "2020-06")
PARTS = dg.MonthlyPartitionsDefinition("2020-01", end_date="2020-07", fmt="%Y-%m", timezone="Asia/Tokyo")
BACK = 2
VERSION = "dagster/data_version"


class Road:
    """raw -> feature (looks back two months) -> joined (the same month), whose values a test sets."""

    def __init__(self, instance: dg.DagsterInstance, root: str):
        self.instance, self.store = instance, Store(root=root)
        self.source = {key: float(place) for place, key in enumerate(MONTHS)}
        back = dg.TimeWindowPartitionMapping(start_offset=-BACK, allow_nonexistent_upstream_partitions=True)
        self.assets = [
            self._table("raw", [], lambda key: self.source[key]),
            self._table("feature", [dg.AssetDep("raw", partition_mapping=back)], self._largest),
            self._table("joined", ["feature"], lambda key: self._value("feature", key)),
        ]

    def table(self, name: str) -> Table:
        return self.store.table("g", name)

    def _value(self, name: str, key: str) -> float:
        return self.table(name).read([key])["x"].item()

    def _largest(self, key: str) -> float:
        """What a month holds depends on its look-back, but a smaller value in it does not show."""
        return max(self._value("raw", k) for k in MONTHS[max(0, MONTHS.index(key) - BACK) : MONTHS.index(key) + 1])

    def _table(self, name, deps, value):
        contract = Contract(name, pa.DataFrameSchema({"x": pa.Column(pl.Float64)}), constant_ok=frozenset({"x"}))

        @dg.asset(
            name=name, deps=deps, partitions_def=PARTS, backfill_policy=dg.BackfillPolicy.single_run(),
            code_version="7", check_specs=[contract_check(name)],
        )  # fmt: skip
        def asset(context: dg.AssetExecutionContext) -> Iterator:
            yield from write_audit_publish(
                context, self.table(name), contract,
                lambda keys: (Built(key, pl.DataFrame({"x": [value(key)]})) for key in keys),
                code_version="7", details={"of_the_run": len(context.partition_keys)},
            )  # fmt: skip

        return asset

    def run(self, names: str, first: str, last: str = "") -> dg.ExecuteInProcessResult:
        span = "dagster/asset_partition_range_"
        where = {"tags": {f"{span}start": first, f"{span}end": last}} if last else {"partition_key": first}
        return dg.materialize(self.assets, selection=names.split(), instance=self.instance, **where)

    def stale(self) -> dict[str, list[str]]:
        """Months that Dagster marks stale, by asset; assets without one are left out."""
        graph = dg.Definitions(assets=self.assets).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
        found = {
            one.key.to_user_string(): [k for k in MONTHS if resolver.get_status(one.key, k).value == "STALE"]
            for one in self.assets
        }
        return {name: months for name, months in found.items() if months}

    def newest(self, name: str) -> dict[str, dg.AssetMaterialization]:
        """The newest materialization of each month."""
        found: dict[str, dg.AssetMaterialization] = {}
        for record in self.instance.fetch_materializations(dg.AssetKey(name), limit=1000).records:
            event = record.event_log_entry.asset_materialization
            found.setdefault(event.partition, event)
        return found


@pytest.fixture
def road(tmp_path) -> Iterator[Road]:
    with dg.DagsterInstance.ephemeral() as instance:
        road = Road(instance, str(tmp_path))
        road.run("raw feature joined", MONTHS[0], MONTHS[-1])
        yield road


def test_every_month_of_a_range_run_has_its_own_version_and_metadata(road):
    for name in ("raw", "feature", "joined"):
        newest = road.newest(name)
        entries = road.table(name).manifest().entries
        assert sorted(newest) == MONTHS
        assert {key: event.tags[VERSION] for key, event in newest.items()} == {
            key: entry.sha256 for key, entry in entries.items()
        }
        assert all(event.metadata["dagster/row_count"].value == 1 for event in newest.values())
        # what belongs to the run, and the columns, once: with the month that the UI shows
        assert [key for key, event in newest.items() if "of_the_run" in event.metadata] == [MONTHS[-1]]
        assert [key for key, event in newest.items() if "dagster/column_schema" in event.metadata] == [MONTHS[-1]]
    assert road.stale() == {}


def test_a_range_run_records_each_month_once_and_says_where_it_came_from(road):
    result = road.run("raw feature", MONTHS[0], MONTHS[1])
    assert [e.partition for e in result.get_asset_materialization_events()] == [*MONTHS[:2], *MONTHS[:2]]
    alone = road.run("feature", MONTHS[1]).asset_materializations_for_node("feature")[0].tags
    together = result.asset_materializations_for_node("feature")[-1].tags
    assert alone == together  # hash, code version, versions of the inputs and what of them was the newest
    assert {e.passed for e in result.get_asset_check_evaluations()} == {True}
    assert all(e.target_materialization_data for e in result.get_asset_check_evaluations())
    warnings = [r for r in road.instance.all_logs(result.run_id) if r.level >= 30]
    assert warnings == []


def test_identical_bytes_make_nothing_stale(road):
    road.run("raw", "2020-02")
    road.run("raw", MONTHS[0], MONTHS[-1])
    assert road.stale() == {}


@pytest.mark.parametrize("together", [False, True])
def test_a_correction_makes_stale_the_months_that_read_it_and_a_rebuild_ends_it(road, together):
    road.source["2020-02"] = 99.0
    road.run("raw", "2020-01", "2020-05") if together else road.run("raw", "2020-02")
    reads = ["2020-02", "2020-03", "2020-04"]
    assert road.stale() == {"feature": reads}
    if together:  # the other way round
        for key in reads:
            road.run("feature", key)
    else:
        road.run("feature", reads[0], reads[-1])
    assert road.stale() == {"joined": reads}
    road.run("joined", "2020-01", "2020-05")
    assert road.stale() == {}
    assert road.table("joined").read()["x"].to_list() == [0.0, 99.0, 99.0, 99.0, 4.0, 5.0]


def test_a_month_that_comes_out_as_it_was_stops_the_correction(road):
    road.source["2020-02"] = 0.5  # the largest of 2020-01...2020-02; from March on a larger value hides it
    road.run("raw", "2020-02")
    assert road.stale() == {"feature": ["2020-02", "2020-03", "2020-04"]}
    road.run("feature", "2020-02", "2020-04")
    assert road.stale() == {"joined": ["2020-02"]}


def test_months_that_a_range_run_leaves_out_are_not_recorded(road):
    contract = Contract("half", pa.DataFrameSchema({"x": pa.Column(pl.Int64)}), constant_ok=frozenset({"x"}))

    @dg.asset(
        partitions_def=PARTS, backfill_policy=dg.BackfillPolicy.single_run(), check_specs=[contract_check("half")]
    )
    def half(context: dg.AssetExecutionContext) -> Iterator:
        yield from write_audit_publish(
            context, road.table("half"), contract,
            lambda keys: (Built(key, pl.DataFrame({"x": [1]})) for key in keys[:1]), code_version="1",
        )  # fmt: skip

    span = "dagster/asset_partition_range_"
    result = dg.materialize(
        [half], instance=road.instance, tags={f"{span}start": "2020-01", f"{span}end": "2020-02"}
    )  # fmt: skip
    assert [e.partition for e in result.get_asset_materialization_events()] == ["2020-01"]
