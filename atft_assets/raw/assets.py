"""The raw assets as Dagster sees them: one factory over the list of month tables, and the calendar."""

from collections.abc import Iterator, Sequence

import dagster as dg

from atft_assets.contracts import Event, contract_check
from atft_assets.failures import Refusal, permanent
from atft_assets.groups import ADDON_TAG, RAW
from atft_assets.jquants.plans import includes
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.partitions import look_back, months
from atft_assets.raw import trading_calendar
from atft_assets.raw.ingest import MonthConfig, ingest
from atft_assets.raw.registry import SOURCES
from atft_assets.raw.retries import WAITS
from atft_assets.raw.source import Source
from atft_assets.settings import Settings
from atft_assets.store import Store


class PlanTooSmall(Refusal):
    """The plan lacks an endpoint that others need."""


def definitions(
    settings: Settings, waits: Sequence[float] = WAITS, sources: Sequence[Source] = SOURCES
) -> dg.Definitions:
    """The raw assets, the calendar and an asset a source; they need the resources `store` and `jquants`.

    Args:
        waits: seconds before each further try after a fault that may pass.
    """
    calendar = trading_calendar.make_asset(settings, waits)
    return dg.Definitions(assets=[calendar, *(month_asset(source, settings, waits) for source in sources)])


def month_asset(source: Source, settings: Settings, waits: Sequence[float]) -> dg.AssetsDefinition:
    """An asset of month partitions; several months a run."""
    skips = source.optional and not includes(settings.plan, source.endpoint)

    @dg.asset(
        name=source.name,
        group_name=RAW,
        partitions_def=months(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            "trading_calendar",
            *(dg.AssetDep(name, partition_mapping=look_back(back)) for name, back in source.reads.items()),
        ],
        check_specs=[] if skips else [contract_check(source.name)],
        output_required=not skips,
        code_version=source.code_version,
        kinds={"jquants", "polars"},
        tags={"layer": "raw", **({ADDON_TAG: "yes"} if source.endpoint.addon else {})},
        description=source.description,
    )
    def raw_month(
        context: dg.AssetExecutionContext, store: Store, jquants: JQuantsResource, config: MonthConfig
    ) -> Iterator[Event]:
        if skips:
            context.log.warning(
                f"{source.name} is skipped: {source.endpoint.path} needs the plan {source.endpoint.plan}, "
                f"JQUANTS_PLAN is {settings.plan}; nothing depends on this table"
            )
            return
        with permanent(f"{source.name} cannot be built"):
            require_needed(source, jquants)
        yield from ingest(context, source, settings, store, jquants, config, waits)

    return raw_month


def require_needed(source: Source, jquants: JQuantsResource) -> None:
    """Refuse a table that others need where the plan lacks its endpoint, before the first request.

    Raises:
        PlanTooSmall: with what needs it.
    """
    if source.needed_for and not includes(jquants.subscription, source.endpoint):
        without = f", or {source.without}" if source.without else ""
        raise PlanTooSmall(
            f"{source.needed_for}, which {source.endpoint.path} serves from the plan {source.endpoint.plan} on; "
            f"JQUANTS_PLAN is {jquants.plan}. Nothing was requested. Move to a larger plan{without}"
        )
