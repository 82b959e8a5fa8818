"""The job, the schedule and the command: what they remove, what they only list, and what they say."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atft_assets.operations.retention import COMMAND, OP, RetentionConfig, plan, retention_job, weekly_retention
from atft_assets.store import Store, leftovers
from atft_assets.tools.retention import main
from tests.store.bucket import ROOT, bucket, server  # noqa: F401
from tests.store.test_bucket import files, named, published, values

DAY = 86_400.0
PANELS = ("p1", "p2")


@dg.op
def nothing() -> None:
    print("done")


@dg.job
def idle() -> None:
    nothing()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Twenty-two runs of more than a hundred days ago and one of now; two panels, of which nothing needs the older."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATFT_DATA", str(tmp_path / "data"))
    for number, name in enumerate(PANELS):
        folder = tmp_path / "data" / "panel" / name
        folder.mkdir(parents=True)
        (folder / "panel.json").write_text("{}")
        for path in (folder / "panel.json", folder):
            os.utime(path, (time.time() - (200 - number) * DAY,) * 2)
    with dg.DagsterInstance.get() as instance:
        for number in range(22):
            run = dg.DagsterRun(job_name="idle", run_id=f"old{number:02}", status=dg.DagsterRunStatus.SUCCESS)
            at = dg_time(time.time() - (130 - number) * DAY)
            instance.run_storage.add_historical_run(run, at)
        idle.execute_in_process(instance=instance)
        yield instance


def dg_time(at: float) -> datetime:
    """An instant, of seconds of the epoch."""
    return datetime.fromtimestamp(at, UTC)


def executed(instance: dg.DagsterInstance, tmp_path: Path, **config: Any) -> dict[str, Any]:
    """What the job reports."""
    defs = dg.Definitions(jobs=[retention_job()], resources={"store": Store(root=str(tmp_path / "data"))})
    job = defs.resolve_job_def("retention")
    result = job.execute_in_process(instance=instance, run_config={"ops": {OP: {"config": config}}})
    outputs = [event.step_output_data for event in result.all_node_events if event.is_successful_output]
    return {name: value.value for name, value in outputs[0].metadata.items()}


def panels(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data" / "panel").iterdir())


def test_by_default_the_job_only_lists(home: dg.DagsterInstance, tmp_path: Path) -> None:
    said = executed(home, tmp_path)
    assert said["outcome"].startswith("removed: nothing; 0.0 MB won; may go as well: ")
    assert said["listed_dagster_run_count"] == 4 and said["listed_panel_count"] == 1  # 20 and the job's own are newest
    assert "`panel/p1`" in said["may_go"] and COMMAND in said["outcome"] and said["removed"] == "nothing"
    assert home.get_runs_count() == 24 and panels(tmp_path) == [*PANELS]


def test_the_schedules_config_removes_history_and_lists_the_rest(home: dg.DagsterInstance, tmp_path: Path) -> None:
    schedule = weekly_retention(retention_job())
    context = dg.build_schedule_context(instance=home, scheduled_execution_time=dg_time(time.time()))
    (request,) = schedule.evaluate_tick(context).run_requests or []
    said = executed(home, tmp_path, **request.run_config["ops"][OP]["config"])
    assert said["removed_dagster_run_count"] == 4 and said["listed_panel_count"] == 1
    assert "listed_dagster_run_count" not in said
    assert home.get_runs_count() == 20 and panels(tmp_path) == [*PANELS]
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "0 6 * * 0" and schedule.execution_timezone == "Asia/Tokyo"


def test_everything_goes_when_a_person_says_so(home: dg.DagsterInstance, tmp_path: Path) -> None:
    said = executed(home, tmp_path, dry_run=False, history_only=False)
    assert said["removed_panel_bytes"] == 2 and said["bytes_won"] >= 2 and said["may_go"] == "nothing"
    assert panels(tmp_path) == ["p2"]


def test_the_launchpad_shows_every_field_with_its_meaning() -> None:
    fields = RetentionConfig.model_fields
    assert set(fields) == {"days", "keep_runs", "dry_run", "history_only"}
    assert all(field.description for field in fields.values())
    assert fields["dry_run"].default is fields["history_only"].default is True


def test_the_command_lists_and_names_the_line_that_does_it(
    home: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--days", "95", "--keep-runs", "1"]) == 0
    said = capsys.readouterr().out
    assert f"To remove it: {COMMAND} --days 95 --keep-runs 1 --yes" in said
    assert "panel/p1  (no run that stays was made with it)" in said
    assert [name for name in ("old00", "old01", "old02", "old03") if name in said] == ["old00", "old01", "old02"]
    assert home.get_runs_count() == 23 and panels(tmp_path) == [*PANELS]
    assert main(["--yes"]) == 0
    assert "4 of 4 removed" in capsys.readouterr().out
    assert home.get_runs_count() == 20 and panels(tmp_path) == ["p2"]
    assert main([]) == 0 and "nothing may go" in capsys.readouterr().out


def test_the_command_leaves_the_data_root_alone_when_told_so(home: dg.DagsterInstance, tmp_path: Path) -> None:
    assert main(["--history-only", "--yes"]) == 0
    assert home.get_runs_count() == 20 and panels(tmp_path) == [*PANELS]


@pytest.mark.parametrize("options", [["--days", "0"], ["--days", "-3"], ["--days", "x"], ["--keep-runs", "1.5"]])
def test_what_makes_no_sense_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2 and options[0] in capsys.readouterr().err


def test_without_a_home_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert main([]) == 2 and ". ./env.sh" in capsys.readouterr().err


def test_of_a_bucket_only_what_tables_left_behind_goes(
    home: dg.DagsterInstance,
    bucket: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ATFT_DATA", ROOT)
    table = bucket.table("raw", "quotes")
    for value in (1.0, 2.0):
        published(bucket, 1, value)
    (bucket.place / "runs" / "main" / "phase0" / "20240101T000000-old00000" / "run.json").write_bytes(b"{}")
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "run directories, sets of baselines and panels are left alone" in said and "raw/quotes" not in said
    monkeypatch.setattr(leftovers, "LONGEST_PUBLICATION", timedelta(seconds=-5))
    monkeypatch.setattr(leftovers, "GRACE", timedelta(seconds=-5))
    assert main([]) == 0 and "replaced file" in capsys.readouterr().out and len(files(table)) == 2
    assert main(["--yes"]) == 0 and files(table) == named(table) and values(table) == {"2024-01": 2.0}
    assert home.get_runs_count() == 20 and (bucket.place / "runs" / "main" / "phase0").exists()


def test_the_dagster_runs_of_a_buckets_trainings_stay(home: dg.DagsterInstance, bucket: Store) -> None:  # noqa: F811
    run = dg.DagsterRun(job_name="idle", run_id="deadbeef", status=dg.DagsterRunStatus.SUCCESS)
    home.run_storage.add_historical_run(run, dg_time(time.time() - 140 * DAY))

    def goes() -> bool:
        return "deadbeef" in [one.name for one in plan(home, bucket, 90, 5).history]

    for number in range(20):  # the newest stay anyway
        late = dg.DagsterRun(job_name="idle", run_id=f"late{number:02}", status=dg.DagsterRunStatus.SUCCESS)
        home.run_storage.add_historical_run(late, dg_time(time.time() - 100 * DAY))
    assert goes()
    (bucket.place / "runs" / "main" / "phase0" / "20240101T000000-deadbeef" / "run.json").write_bytes(b"{}")
    assert not goes()


def test_of_a_bucket_that_does_not_answer_nothing_is_removed(
    home: dg.DagsterInstance,
    bucket: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ATFT_DATA", "s3://no-such-bucket/atft")
    assert main(["--yes"]) == 1 and "does not answer" in capsys.readouterr().err
    assert home.get_runs_count() == 23
