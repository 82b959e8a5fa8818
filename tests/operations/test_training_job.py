"""The job `train` and the schedule that retrains once a month."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from atft_assets.build import build_defs
from atft_assets.calendar import TOKYO, is_trading_day, trading_days
from atft_assets.operations.training_job import first_session, training_job, training_schedule
from atft_assets.settings import Plan, Settings

SETTINGS = Settings(base_url=None, plan=Plan.STANDARD, data_root="data", start=date(2022, 1, 4), end=date(2024, 12, 30))


def test_the_job_goes_from_the_panel_to_the_report_and_leaves_the_test_block_alone() -> None:
    job = build_defs(SETTINGS).resolve_job_def("train")
    names = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    phases = {f"train_phase{phase}" for phase in range(4)}
    assert names == {"training_panel", "folds", "baselines", "evaluation", "promotion", "runs_report", *phases}
    assert job.tags["atft/kind"] == "training"


def test_one_night_a_month_and_always_within_the_days_on_which_cron_wakes() -> None:
    nights = {first_session(day) for day in trading_days(date(2015, 1, 1), date(2025, 12, 30))}
    assert len(nights) == 12 * 11 and all(is_trading_day(day) and day.day <= 10 for day in nights)
    assert {date(2024, 1, 4), date(2020, 10, 2)} <= nights  # New Year; the exchange's system stood still on the 1st


@pytest.mark.parametrize(
    ("day", "asked"), [(date(2024, 1, 4), True), (date(2024, 1, 3), False), (date(2024, 1, 9), False)]
)
def test_the_schedule(day: date, asked: bool) -> None:
    schedule = training_schedule(training_job())
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    instant = datetime(day.year, day.month, day.day, 23, 0, tzinfo=TOKYO).astimezone(UTC)
    context = dg.build_schedule_context(scheduled_execution_time=instant)
    answer = schedule(context)
    if asked:
        assert isinstance(answer, dg.RunRequest) and answer.run_key == "train 2024-01"
    else:
        assert isinstance(answer, dg.SkipReason) and "2024-01-04" in str(answer.skip_message)
