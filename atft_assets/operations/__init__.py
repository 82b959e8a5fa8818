"""Operations: what runs by itself, what tells a person, and what keeps the machine healthy.

Here belong jobs, schedules, sensors, alerts, the preflight (`doctor`) and the clean-up after a crash (`reaper`).
Not here: how data are fetched, computed or trained; a job selects assets, it does not define them.
"""

from collections.abc import Sequence

import dagster as dg

from atft_assets.operations.alerts import alerts_resource
from atft_assets.operations.corrections import corrections_sensor
from atft_assets.operations.jobs import corrections_job, nightly_refresh_job
from atft_assets.operations.schedules import nightly_refresh_schedule
from atft_assets.operations.sensors import (
    DiskLevels,
    data_freshness,
    disk_asset,
    disk_usage,
    run_failure_alert,
    schema_failure_alert,
)
from atft_assets.settings import Settings


def definitions(settings: Settings, *, contract_checks: Sequence[dg.AssetCheckKey]) -> dg.Definitions:
    """Jobs, schedules and sensors of the code location.

    Args:
        contract_checks: keys of the checks named `contract`, whose failures are told.
    """
    job, rebuild = nightly_refresh_job(), corrections_job()
    return dg.Definitions(
        assets=[disk_asset()],
        jobs=[job, rebuild],
        schedules=[nightly_refresh_schedule(settings, job)],
        sensors=[
            schema_failure_alert(contract_checks),
            run_failure_alert(),
            disk_usage(settings),
            data_freshness(settings),
            corrections_sensor(settings, rebuild),
        ],
        resources={
            "alerts": alerts_resource(bool(settings.alert_urls), settings.data_root),
            "disk_levels": DiskLevels(),
        },
    )
