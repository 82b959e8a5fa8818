"""The job `train`, and the schedule that retrains once a month.

The panel comes first: a panel whose inputs have not changed is used again, so a person who starts the job by hand loses
seconds by it, and the schedule never trains on days of the month before. The test block is no part of it.
"""

from datetime import date

import dagster as dg

from atft_assets.calendar import SYSTEM_HALTS, TOKYO, days_of_month, month_key
from atft_assets.dagster_private import UnresolvedAssetJobDefinition
from atft_assets.operations.jobs import KIND_TAG
from atft_assets.trading.promotion import NAME as PROMOTION
from atft_assets.training.folds import NAME as FOLDS
from atft_assets.training.lanes import BASELINES, EVALUATION, MAIN_LANE
from atft_assets.training.runs_report import NAME as RUNS_REPORT
from atft_model.interchange.phases import PHASES

TRAIN = "train"
SELECTED = (
    "training_panel",
    FOLDS,
    *(MAIN_LANE.phase(phase) for phase in PHASES),
    BASELINES,
    EVALUATION,
    PROMOTION,  # judged and set down; a champion stays in use until a person says otherwise
    RUNS_REPORT,
)


def training_job() -> UnresolvedAssetJobDefinition:
    """From the panel to what a promotion would rest on, on the fold `main`."""
    return dg.define_asset_job(
        TRAIN,
        selection=dg.AssetSelection.assets(*SELECTED),
        description="Train the four phases on the newest panel, and judge them. Panel, folds, phases, baselines, "
        "evaluation on the validation block, what promotion says of them, report of runs.",
        tags={KIND_TAG: "training"},
    )


def first_session(day: date) -> date:
    """The first day of a day's month on which the exchange traded: a day of a system halt is none."""
    return next(one for one in days_of_month(month_key(day)) if one not in SYSTEM_HALTS)


def training_schedule(job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """23:00 in Tokyo on the first trading day of a month, after that evening's refresh; off until a person turns it on.

    Cron wakes it on the first ten days, within which the first trading day always falls; the calendar decides.
    """

    @dg.schedule(
        name="monthly_training",
        cron_schedule="0 23 1-10 * *",
        execution_timezone=TOKYO.key,
        job=job,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Retrain on the first trading day of a month, at night. Off by default: it occupies the GPU.",
    )
    def monthly_training(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.astimezone(TOKYO).date()
        if day != (first := first_session(day)):
            return dg.SkipReason(f"{day}: not the first trading day of its month, which is {first}")
        return dg.RunRequest(run_key=f"{TRAIN} {month_key(day)}", tags={"atft/trading_day": day.isoformat()})

    return monthly_training
