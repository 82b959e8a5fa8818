"""The feature assets: month partitions with a declared look-back, written through their contracts."""

from collections.abc import Callable, Iterator

import dagster as dg

from atft_assets import partitions
from atft_assets.contracts import Contract, contract_check, write_audit_publish
from atft_assets.features import market
from atft_assets.features.build import GROUP, Builder, Frames
from atft_assets.features.lineage import lineage_metadata
from atft_assets.features.schemas import LABELS, UNIVERSE, feature_contract
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store, StoreError

CODE_VERSION = "1"

Result = dg.MaterializeResult | dg.AssetCheckResult


def definitions(settings: Settings) -> dg.Definitions:
    """Universe, feature families and labels; they need the resource `store`."""
    from atft_assets.features.point_in_time import point_in_time_check
    from atft_assets.features.quality import quality_checks
    from atft_assets.features.report import feature_report_asset

    return dg.Definitions(
        assets=[*assets(settings), feature_report_asset()],
        asset_checks=[point_in_time_check(settings), *quality_checks()],
    )


def assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets, in the order of the road."""
    stocks, indices = partitions.LOOKBACK_MONTHS, market.LOOKBACK_MONTHS
    return [
        _asset(
            settings,
            UNIVERSE,
            Builder.universe,
            {"daily_quotes": 0, "listed_info": 1},
            "Which names belong to the universe on each day, with the sector and market of that day.",
        ),
        _asset(
            settings,
            feature_contract("phase1_features"),
            Builder.phase1,
            {"daily_quotes": stocks, "universe": 0},
            "A stock's own features: price, volume, shape, momentum, technical, volatility; and the calendar.",
        ),
        _asset(
            settings,
            feature_contract("market_features"),
            Builder.market,
            {"topix": indices},
            "Twenty-six columns of the TOPIX, one row a day. Needs the plan Light.",
        ),
        _asset(
            settings,
            feature_contract("stock_market_features"),
            Builder.stock_market,
            {"phase1_features": stocks, "market_features": stocks, "topix": stocks},
            "A stock against the market: betas and what they leave. Needs the plan Light.",
        ),
        _asset(
            settings,
            feature_contract("sector_features"),
            Builder.sector,
            {"phase1_features": indices, "universe": indices, "daily_quotes": indices},
            "What a stock's sector of the day did, and the stock against it.",
        ),
        _asset(
            settings,
            feature_contract("phase2_features"),
            Builder.phase2,
            dict.fromkeys(
                ("universe", "phase1_features", "market_features", "stock_market_features", "sector_features"), 0
            ),
            "Every feature of the catalogue side by side, on the rows of the universe.",
        ),
        _asset(
            settings,
            LABELS,
            Builder.labels,
            {"daily_quotes": None, "universe": None},
            "Forward returns on the exchange calendar: close to close, and from the next open. Never an input.",
        ),
    ]


NEEDS_TOPIX = frozenset({"market_features", "stock_market_features", "phase2_features"})


def _asset(
    settings: Settings,
    contract: Contract,
    build: Callable[[Builder, list[str]], Frames],
    reads: dict[str, int | None],
    description: str,
) -> dg.AssetsDefinition:
    """An asset that builds a table.

    Args:
        reads: months of history by table that is read; None: all of it, and the asset is unpartitioned.
    """
    whole = None in reads.values()
    months = partitions.months(settings)

    @dg.asset(
        name=contract.table,
        group_name=GROUP,
        partitions_def=None if whole else months,
        backfill_policy=None if whole else dg.BackfillPolicy.single_run(),
        deps=[dg.AssetDep(name, partition_mapping=_mapping(back)) for name, back in reads.items()],
        check_specs=[contract_check(contract.table)],
        code_version=CODE_VERSION,
        kinds={"polars"},
        owners=["team:atft"],
        tags={"layer": "features"},
        description=description,
    )
    def feature_table(context: dg.AssetExecutionContext, store: Store) -> Iterator[Result]:
        if contract.table in NEEDS_TOPIX and settings.plan is Plan.FREE:
            raise dg.Failure(
                f"{contract.table} needs the TOPIX, which J-Quants serves from the plan Light on; JQUANTS_PLAN is "
                f"{settings.plan}. Move to a larger plan; phase1_features and sector_features need no index",
                allow_retries=False,
            )
        builder = Builder(store, months.get_first_partition_key() or "", settings.start)
        try:
            yield from write_audit_publish(
                context,
                store.table(GROUP, contract.table),
                contract,
                lambda keys: build(builder, keys),
                code_version=CODE_VERSION,
                history_days=builder.history_days,
                metadata=lambda: {**_shown(builder), **lineage_metadata(contract.table)},
            )
        except StoreError as error:
            raise dg.Failure(f"{contract.table} cannot be built: {error}", allow_retries=False) from error

    return feature_table


def _mapping(back: int | None) -> dg.PartitionMapping | None:
    if back is None:
        return None
    if back == partitions.LOOKBACK_MONTHS:
        return partitions.look_back()
    return dg.TimeWindowPartitionMapping(start_offset=-back, allow_nonexistent_upstream_partitions=True)


def _shown(builder: Builder) -> dict[str, object]:
    return {
        name: dg.MetadataValue.md(value) if isinstance(value, str) else value
        for name, value in builder.metadata().items()
    }
