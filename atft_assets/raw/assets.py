"""The raw assets as Dagster sees them: one factory over the list of month tables, and the calendar."""

from collections.abc import Iterator

import dagster as dg

from atft_assets.contracts import contract_check
from atft_assets.jquants.plans import includes, require_plan
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.partitions import months
from atft_assets.raw import daily_quotes, listed_info, sector_indices, topix, trading_calendar
from atft_assets.raw.ingest import GROUP, RETRIES, IngestConfig, Source, ingest, refusals
from atft_assets.settings import Settings
from atft_assets.store import Store


def definitions(settings: Settings, retry_policy: dg.RetryPolicy = RETRIES) -> dg.Definitions:
    """The raw assets; they need the resources `store` and `jquants`."""
    assets = [
        trading_calendar.make_asset(settings, retry_policy),
        month_asset(listed_info.SOURCE, listed_info.DESCRIPTION, settings, retry_policy),
        month_asset(daily_quotes.SOURCE, daily_quotes.DESCRIPTION, settings, retry_policy),
        month_asset(topix.SOURCE, topix.DESCRIPTION, settings, retry_policy, needed_for=topix.PLAN_NOTE),
        month_asset(sector_indices.SOURCE, sector_indices.DESCRIPTION, settings, retry_policy, optional=True),
    ]
    return dg.Definitions(assets=assets)


def month_asset(
    source: Source, description: str, settings: Settings, retry_policy: dg.RetryPolicy,
    *, optional: bool = False, needed_for: str = "",
) -> dg.AssetsDefinition:  # fmt: skip
    """An asset of month partitions; several months a run.

    Args:
        optional: where the plan lacks the endpoint, the asset skips with a sentence instead of failing.
        needed_for: what cannot be had without it, for the message on a plan that lacks it.
    """
    skips = optional and not includes(settings.plan, source.endpoint)

    @dg.asset(
        name=source.name,
        group_name=GROUP,
        partitions_def=months(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=["trading_calendar"],
        check_specs=[] if skips else [contract_check(source.name)],
        output_required=not skips,
        code_version=source.code_version,
        retry_policy=retry_policy,
        kinds={"jquants", "polars"},
        owners=["team:atft"],
        tags={"layer": "raw"},
        description=description,
    )
    def raw_month(
        context: dg.AssetExecutionContext, store: Store, jquants: JQuantsResource, config: IngestConfig
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        if skips:
            context.log.warning(
                f"{source.name} is skipped: {source.endpoint.path} needs the plan {source.endpoint.plan}, "
                f"JQUANTS_PLAN is {settings.plan}; nothing depends on this table"
            )
            return
        if needed_for and not includes(jquants.subscription, source.endpoint):
            raise dg.Failure(
                f"{source.name}: {needed_for}, which {source.endpoint.path} serves from the plan "
                f"{source.endpoint.plan} on; JQUANTS_PLAN is {jquants.plan}. Nothing was requested. Move to a larger "
                "plan, or run without the market-index features (phase1_features needs no index)",
                allow_retries=False,
            )
        with refusals(source.name):
            require_plan(jquants.subscription, source.endpoint)
        yield from ingest(context, source, settings, store, jquants, config)

    return raw_month
