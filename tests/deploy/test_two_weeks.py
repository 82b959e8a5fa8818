"""Two weeks of evenings on PostgreSQL by the real daemon, with what goes wrong in two weeks, against one quiet run.

The clock of every process is set (`tests.deploy.clock`): schedules and sensors tick by themselves as they would by the
exchange's evenings, and nothing is evaluated by hand. Between the evenings a person does what the alerts say.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import polars as pl
import psutil
import pytest
import requests
from polars.testing import assert_frame_equal

from atft_assets.calendar import next_trading_day, trading_days
from atft_assets.dagster_private import CheckStatus
from atft_assets.jquants.endpoints import EARNINGS_CALENDAR
from atft_assets.raw.registry import SOURCES
from atft_assets.sandbox import MarketConfig, serve
from atft_assets.trading.daily_scores import PUBLISHED
from tests.deploy.clock import Clock
from tests.deploy.fortnight import Platform, Sink, at, copied
from tests.deploy.postgres import REPOSITORY, Cluster, made
from tests.patience import PATIENCE, until
from tests.ports import free_port

pytestmark = [pytest.mark.deploy, pytest.mark.machine, pytest.mark.slow]

START, FRIDAY = date(2022, 7, 1), date(2024, 4, 19)
FIRST, LAST = date(2024, 4, 22), date(2024, 5, 3)
EVENINGS = trading_days(FIRST, LAST)
AWAY, SCHEMA, KILLED, FULL = EVENINGS[1], EVENINGS[3], EVENINGS[4], EVENINGS[5]
CLOSED = [day for day in (FIRST + timedelta(n) for n in range(12)) if day.weekday() < 5 and day not in EVENINGS]
VOLUME_MB, LEFT_KB = 400, 200
BARS = "/equities/bars/daily"
OF_THEIR_EVENING = {source.name for source in SOURCES if source.latest_only}
EXPECTED = {
    # margin of the week before is due on this Tuesday; what the night asks for, this clock begins in the evening too
    AWAY: ["data_freshness", "late_table", "run_failure", "run_failure"],
    SCHEMA: ["data_freshness", "schema_failure"],
    KILLED: ["run_failure"],
    FULL: ["disk_usage", "disk_usage", "run_failure"],  # it fills, and has room again
}


@pytest.fixture(scope="module")
def before() -> Iterator[Platform]:
    """A platform on the Friday before: twenty-two months of tables, and a champion."""
    with TemporaryDirectory(prefix="atft-weeks-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        clock = Clock(root)
        market = MarketConfig(n_names=120, start=START, end=LAST + timedelta(28))
        with made(free_port(), clock.environ) as cluster, serve(market, now=at(FRIDAY, "20:30")) as server:
            one = Platform(root / "before", clock, cluster, server, cluster.empty(), START)
            one.root.mkdir()
            one.turn(at(FRIDAY, "20:30"))
            one.runs("before")
            yield one


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a small volume of its own."""
    if os.getuid() != 0:
        pytest.skip("only root mounts a small volume")
    folder = tmp_path_factory.mktemp("volume")
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MB}m", "tmpfs", str(folder)]
    if (done := subprocess.run(mounted, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no volume can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def restarted(one: Platform, day: date) -> None:
    """PostgreSQL on an earlier day again."""
    one.cluster.run("stop")
    one.turn(at(day, "20:30"))
    one.cluster.run("start")


@dataclass
class Told:
    """What was told, as far as it was read."""

    platform: Platform
    lines: int = 0

    def news(self) -> list[dict[str, str]]:
        """The alerts since the last look, in order of time."""
        paths = (self.platform.data / "alerts.log", self.platform.home / "alerts.log")
        found = [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]
        found.sort(key=lambda record: record["at"])
        fresh, self.lines = found[self.lines :], len(found)
        return fresh


def fill(folder: Path) -> Path:
    """Leave next to nothing of a volume; the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        left = shutil.disk_usage(folder).free - LEFT_KB * 1024
        while left > 0:
            left -= file.write(b"\0" * min(left, 1 << 20))
    return ballast


def live(one: Platform, instance: dg.DagsterInstance, day: date) -> dg.DagsterRun:
    """A trading evening, whatever happens on it; its last run."""
    if day == AWAY:
        one.server.faults.add("503")
        run = one.evening(instance, day)
        one.look(instance, at(day, "20:05"))
        one.server.faults.clear()  # in the night
    elif day == SCHEMA:
        one.server.faults.add("drop_column", path=BARS, column="C")
        run = one.evening(instance, day)
        one.look(instance, at(day, "20:05"))
        one.server.faults.clear()
        one.again(run)
        run = one.over(instance, day, after=run.run_id)
    elif day == KILLED:
        one.turn(at(day, "18:29:55"))
        first = one.patiently(lambda: started(one, instance, day), "a run to strike")
        one.kill()
        postmaster = int((one.cluster.folder / "pg/data/postmaster.pid").read_text().split()[0])
        os.kill(postmaster, 9)
        until(lambda: not psutil.pid_exists(postmaster), "the end of PostgreSQL")
        until(lambda: one.cluster.run("start", check=False).returncode == 0, "PostgreSQL again")
        one.begin()
        run = one.over(instance, day, after=first.run_id)
    elif day == FULL:
        ballast = fill(one.data)
        run = one.evening(instance, day)
        one.look(instance, at(day, "19:00"))
        ballast.unlink()
        one.look(instance, at(day, "19:20"))
        one.again(run)
        run = one.over(instance, day, after=run.run_id)
    else:
        run = one.evening(instance, day)
    one.look(instance, at(day, "21:30"))
    return run


def started(one: Platform, instance: dg.DagsterInstance, day: date) -> dg.DagsterRun | None:
    """The refresh of a day once it has published something."""
    run = one.run_of(instance, day)
    done = run and instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return run if done else None


def frame(one: Platform, table: str, day: date | None = None) -> pl.DataFrame:
    """A table of the trading room, of an evening."""
    whole = pl.concat(
        [pl.read_parquet(path) for path in sorted((one.data / "trading" / table).glob("????-??.parquet"))]
    )
    return whole if day is None else whole.filter(pl.col("date") == day)


@dataclass
class Lived:
    """Two weeks that are over.

    Attributes:
        rows: day, how the run of it ended, and the kinds of its alerts.
        records, titles: the alerts as the log has them, and as they came by HTTP.
    """

    platform: Platform
    rows: list[tuple[date, str, list[str]]] = field(default_factory=list)
    records: list[dict[str, str]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def lived(before: Platform, volume: Path) -> Lived:
    """The two weeks, by the daemon."""
    root = before.root.parent / "lived"
    root.mkdir()
    (root / "data").symlink_to(volume)
    with Sink() as sink:
        one = copied(before, root, alert_urls=sink.url)
        one.prepare()
        one.begin()
        told, weeks = Told(one), Lived(one)
        try:
            with one.history() as instance:
                one.look(instance, at(FRIDAY, "21:30"))
                assert told.news() == []
                for day in (FIRST + timedelta(n) for n in range((LAST - FIRST).days + 1)):
                    if day.weekday() == 6:
                        one.look(instance, at(day, "05:59:50"))  # the hour of retention
                    if day.weekday() >= 5:
                        continue
                    said = passed(one, instance, day)
                    news = told.news()
                    weeks.rows.append((day, said, sorted(record["kind"] for record in news)))
                    print(day, said, *(json.dumps(record) for record in news), sep="\n  ", flush=True)
                over(one, instance)
        finally:
            one.end()
        weeks.records, weeks.titles = Told(one).news(), sink.titles
    print(table_of(weeks))
    return weeks


def passed(one: Platform, instance: dg.DagsterInstance, day: date) -> str:
    """A weekday; how its last run ended, or that the exchange is closed."""
    if day in EVENINGS:
        return live(one, instance, day).status.value
    assert "is closed" in one.skipped(instance, day) and one.run_of(instance, day) is None
    one.look(instance, at(day, "21:30"))
    return "closed"


@pytest.mark.timeout(3600)
def test_every_expected_alert_comes_exactly_once(lived: Lived) -> None:
    assert {day: kinds for day, _, kinds in lived.rows if kinds} == EXPECTED
    assert Counter(lived.titles) == Counter(f"ATFT: {record['what']}" for record in lived.records)
    assert max(Counter(record["fingerprint"] for record in lived.records).values()) == 1


@pytest.mark.timeout(3600)
def test_scores_and_orders_come_each_trading_evening(lived: Lived) -> None:
    one = lived.platform
    ended = {day: said for day, said, _ in lived.rows if day in EVENINGS}
    assert ended == {day: "FAILURE" if day == AWAY else "SUCCESS" for day in EVENINGS}
    for evening in EVENINGS:
        scores = frame(one, "daily_scores", evening)
        assert scores.height > 20 and set(scores["status"].cast(pl.String)) == {PUBLISHED}, evening
        assert orders_of(one, evening).exists() == (evening != AWAY), evening  # its open had passed: no orders any more
    for before, evening in pairwise(day for day in EVENINGS if day != AWAY):
        earlier, now = frame(one, "portfolio", before), frame(one, "portfolio", evening)
        reachable = {row["code"]: sorted((row["held"], row["shares"])) for row in earlier.iter_rows(named=True)}
        held = now.filter(pl.col("held") != 0)
        assert held.height, evening
        for row in held.iter_rows(named=True):  # what was held, or what was ordered, and nothing that came from nowhere
            low, high = reachable[row["code"]]
            assert low <= row["held"] <= high, (evening, row)


@pytest.mark.timeout(3600)
def test_every_partition_is_as_one_quiet_run_builds_it(before: Platform, lived: Lived) -> None:
    """From the Friday before to the last evening in one run that nothing disturbs, and the night after it."""
    stroke = copied(before, before.root.parent / "stroke")
    stroke.turn(at(EVENINGS[-1], "22:00"))
    stroke.runs("stroke", str(EVENINGS[-1]))
    stroke.turn(at(LAST, "18:30"))  # when this clock has come to it
    stroke.runs("night", str(EVENINGS[-1]))
    paths = {
        path.relative_to(stroke.data)
        for folder in ("raw", "features", "graph")
        for path in (stroke.data / folder).glob("*/*.parquet")
        if path.parent.name not in OF_THEIR_EVENING
    }
    assert len(paths) > 100
    for path in sorted(paths):
        ours, theirs = pl.read_parquet(lived.platform.data / path), pl.read_parquet(stroke.data / path)
        assert ours.equals(theirs), path
    # both made up for evenings before the first one, and not for the same
    ours, theirs = (
        frame(one, "daily_scores").filter(pl.col("date") >= FIRST).drop("panel_id") for one in (lived.platform, stroke)
    )
    assert ours["date"].unique().sort().to_list() == EVENINGS
    assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.timeout(3600)
def test_what_is_served_on_one_evening_alone_was_kept_on_each(lived: Lived) -> None:
    """No later run can ask for it: it is held against the service itself."""
    one, served = lived.platform, set()
    for evening in EVENINGS:
        one.server.now = at(evening, "18:30")
        address, key = f"{one.server.base_url}{EARNINGS_CALENDAR.path}", {"x-api-key": one.server.api_key}
        records = requests.get(address, headers=key, timeout=PATIENCE).json()["data"]
        served |= {(day, row["Code"]) for row in records if (day := row["Date"]) == str(evening)}
    kept = pl.concat(
        [pl.read_parquet(path) for path in (one.data / "raw/earnings_calendar").glob("2024-0[45].parquet")]
    )
    rows = kept.filter(pl.col("date").is_in(EVENINGS)).select(pl.col("date").cast(pl.String), "code").rows()
    assert len(served) > 20
    assert sorted(rows) == sorted(served)


def over(one: Platform, instance: dg.DagsterInstance) -> None:
    """What Dagster says in the end: nothing waits, no check that forbids is red, both months are there."""
    assert one.idle(instance)
    checks = one.cluster.execute("SELECT DISTINCT asset_key, check_name FROM asset_check_executions", one.database)
    keys = [dg.AssetCheckKey(dg.AssetKey(json.loads(asset)), name) for asset, name in checks]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    red = {
        str(key) for key, record in latest.items() if record.status is not CheckStatus.SUCCEEDED and not warns(record)
    }
    assert red == set()
    for name in ("daily_quotes", "listed_info", "all_features", "daily_scores", "portfolio", "orders"):
        assert {"2024-04", "2024-05"} <= set(instance.get_materialized_partitions(dg.AssetKey(name))), name


def warns(record: Any) -> bool:
    """Whether a check failed that forbids nothing: gates of so small a market do."""
    return record.status is CheckStatus.FAILED and record.evaluation.severity is dg.AssetCheckSeverity.WARN


def orders_of(one: Platform, evening: date) -> Path:
    return one.data / "trading" / "orders" / f"{next_trading_day(evening)}.csv"


def table_of(lived: Lived) -> str:
    """Evening by run, scores, orders and alerts."""
    lines = [f"{'evening':10}  {'run':10}  {'scores':>6}  {'orders':>6}  alerts"]
    for day, said, kinds in lived.rows:
        path = orders_of(lived.platform, day)
        orders = str(len(path.read_text("utf-8-sig").splitlines()) - 1) if path.exists() and day in EVENINGS else "-"
        scores = frame(lived.platform, "daily_scores", day).height or "-"
        lines.append(f"{day}  {said:10}  {scores:>6}  {orders:>6}  {', '.join(kinds) or '-'}")
    return "\n".join(lines)


@pytest.mark.timeout(3600)
def test_a_restored_machine_lives_the_next_evening(before: Platform, lived: Lived) -> None:
    """An empty machine with an empty database takes the backup, and says of Monday what the old one said."""
    root = before.root.parent
    before.cluster.run("stop")
    before.turn(at(FRIDAY, "22:00"))  # a database does not go back in time while it runs
    before.cluster.run("start")
    new = replace(before, root=root / "new", database=before.cluster.empty())
    new.root.mkdir()
    for one, word in ((before, "save"), (new, "check"), (new, "restore")):
        one.prepare()
        command = [sys.executable, "-m", "atft_assets.tools.backup", word, str(root / "backup")]
        done = subprocess.run(command, env=one.environ, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    monday = EVENINGS[0]
    new.turn(at(monday, "18:30"))
    new.runs("evening", str(monday))
    for table in ("daily_scores", "portfolio", "orders"):
        ours, theirs = frame(new, table, monday), frame(lived.platform, table, monday)
        assert ours.height and ours.equals(theirs), table
    assert orders_of(new, monday).read_bytes() == orders_of(lived.platform, monday).read_bytes()
    with new.history() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"atft/trading_day": str(monday)}))
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert instance.get_runs_count() == runs_of(before) + 1


def runs_of(one: Platform) -> int:
    with one.history() as instance:
        return instance.get_runs_count()


def test_the_cluster_is_of_the_set_clock(before: Platform) -> None:
    ((now,),) = before.cluster.execute("SELECT now()")
    assert abs((now - before.clock.now()).total_seconds()) < 60
    assert isinstance(before.cluster, Cluster)
