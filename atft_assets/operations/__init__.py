"""Operations: what runs by itself, what tells a person, and what keeps the machine healthy.

Here belong jobs, schedules, alerts, one module a sensor, and what may go. All sensors but `corrections` only look and
tell. Not here: how data are fetched, computed or trained (a job selects assets, it does not define them); what a person
starts (`tools`).
"""

from collections.abc import Sequence

import dagster as dg

from atft_assets.operations.alerts import alerts_resource
from atft_assets.operations.contract_failures import schema_failure_alert
from atft_assets.operations.corrections import corrections_sensor
from atft_assets.operations.data_release import data_release_asset
from atft_assets.operations.data_warnings import data_warning_alert
from atft_assets.operations.disk import DiskLevels, disk_asset, disk_usage
from atft_assets.operations.freshness import data_freshness
from atft_assets.operations.hours import asked_at_night
from atft_assets.operations.jobs import corrections_job, night_refresh_job, nightly_refresh_job
from atft_assets.operations.late_tables import late_tables
from atft_assets.operations.retention import retention_job, weekly_retention
from atft_assets.operations.run_failures import run_failure_alert
from atft_assets.operations.schedules import night_refresh_schedule, nightly_refresh_schedule
from atft_assets.operations.training_job import training_job, training_schedule
from atft_assets.operations.unrun_checks import unrun_checks
from atft_assets.operations.withheld import withheld_alert
from atft_assets.raw import SOURCES, Source
from atft_assets.settings import Settings


def definitions(
    settings: Settings, *, contract_checks: Sequence[dg.AssetCheckKey], sources: Sequence[Source] = SOURCES
) -> dg.Definitions:
    """Jobs, schedules and sensors of the code location.

    Args:
        contract_checks: keys of the checks named `contract`, whose failures are told.
        sources: the raw tables, whose hours the schedules know.
    """
    job, rebuild, train, retention = nightly_refresh_job(), corrections_job(), training_job(), retention_job()
    night = night_refresh_job(asked_at_night(sources))
    return dg.Definitions(
        assets=[disk_asset(), data_release_asset(settings)],
        jobs=[job, night, rebuild, train, retention],
        schedules=[
            nightly_refresh_schedule(settings, job),
            night_refresh_schedule(settings, night),
            training_schedule(train),
            weekly_retention(retention),
        ],
        sensors=[
            schema_failure_alert(contract_checks),
            data_warning_alert(),
            withheld_alert(),
            run_failure_alert(),
            unrun_checks(),
            disk_usage(settings),
            data_freshness(settings),
            late_tables(settings),
            corrections_sensor(settings, rebuild),
        ],
        resources={
            "alerts": alerts_resource(bool(settings.alert_urls), settings.data_root),
            "disk_levels": DiskLevels(),
        },
    )
