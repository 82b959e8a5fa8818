"""The feature assets: one a row of the registry, built by month through its contract."""

from collections.abc import Iterable, Iterator

import dagster as dg

from atft_assets import partitions
from atft_assets.contracts import Built, Event, contract_check, write_audit_publish
from atft_assets.failures import PermanentFailure
from atft_assets.features.build import Builder
from atft_assets.features.lineage import lineage_metadata
from atft_assets.features.names import GROUP
from atft_assets.features.old_roots import refuse_old_root
from atft_assets.features.registry import TABLES, complete, served
from atft_assets.features.schemas import contract_of, known
from atft_assets.features.table import FeatureTable
from atft_assets.groups import FEATURES
from atft_assets.jquants.plans import covers
from atft_assets.settings import Settings
from atft_assets.store import Store


def definitions(settings: Settings, tables: Iterable[FeatureTable] = TABLES) -> dg.Definitions:
    """Every table of the registry that the plan serves, `all_features`, the report and the checks.

    They need the resource `store`.
    """
    from atft_assets.features.point_in_time import point_in_time_check
    from atft_assets.features.quality import quality_checks
    from atft_assets.reports.feature_report import feature_report_asset

    tables = served(settings.plan, tables)
    return dg.Definitions(
        assets=[*assets(settings, tables), feature_report_asset(tables)],
        asset_checks=[point_in_time_check(settings, tables), *quality_checks()],
    )


def assets(settings: Settings, tables: Iterable[FeatureTable] = TABLES) -> list[dg.AssetsDefinition]:
    """The assets of the tables, in the order of the road."""
    rows = complete(tables)
    names = frozenset(table.name for table in rows)
    return [_asset(settings, table, names) for table in rows]


def _asset(settings: Settings, table: FeatureTable, names: frozenset[str]) -> dg.AssetsDefinition:
    months = partitions.months(settings)

    @dg.asset(
        name=table.name,
        group_name=FEATURES,
        partitions_def=None if table.whole else months,
        backfill_policy=None if table.whole else dg.BackfillPolicy.single_run(),
        deps=[dg.AssetDep(name, partition_mapping=partitions.look_back(back)) for name, back in table.reads.items()],
        check_specs=[contract_check(table.name)],
        code_version=table.code_version,
        kinds={"polars"},
        tags={"layer": "features"},
        description=table.description,
    )
    def feature_table(context: dg.AssetExecutionContext, store: Store) -> Iterator[Event]:
        if not covers(settings.plan, table.plan):
            raise PermanentFailure(
                f"{table.name} needs {table.needs}, which J-Quants serves from the plan {table.plan.title()} on; "
                f"JQUANTS_PLAN is {settings.plan}. Move to a larger plan, or build only the tables that need less"
            )
        builder = Builder(store, names, months.get_first_partition_key() or "", settings.start)

        def build(keys: list[str]) -> Iterator[Built]:
            refuse_old_root(store)
            yield from builder.build(table, keys)

        yield from write_audit_publish(
            context,
            store.table(GROUP, table.name),
            contract_of(table),
            build,
            code_version=table.code_version,
            details={**known(table), **lineage_metadata(table)},
        )

    return feature_table
