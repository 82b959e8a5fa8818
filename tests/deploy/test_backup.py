"""Backup and restore on both storages: into an empty place, where the next run goes on, and into no other."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from atft_assets.store import Store
from atft_assets.tools import backup
from atft_assets.tools.backup import BackupError, Place, check, restore, save
from tests.deploy.postgres import REPOSITORY, Cluster, storage

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


@dataclass
class Machine:
    """A place with its instance."""

    place: Place

    def opened(self) -> AbstractContextManager[dg.DagsterInstance]:
        self.place.home.mkdir(parents=True, exist_ok=True)
        if self.place.pg_url:
            config = {"storage": storage(self.place.pg_url), "telemetry": {"enabled": False}}
            (self.place.home / "dagster.yaml").write_text(json.dumps(config))
            return dg.DagsterInstance.from_config(str(self.place.home))
        return dg.DagsterInstance.local_temp(str(self.place.home))

    def evening(self, month: str, value: int) -> str:
        """A run that publishes a month of a table; its id."""
        table = Store(root=self.place.data_root).table("raw", "daily_quotes")

        @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["2026-10", "2026-11", "2026-12"]))
        def daily_quotes() -> dg.MaterializeResult:
            frame = pl.DataFrame({"date": ["2026-11-02"], "code": ["13010"], "C": [value]})
            table.publish([table.stage(month, frame, code_version="1")])
            return dg.MaterializeResult(metadata={"value": value})

        with self.opened() as instance:
            result = dg.materialize([daily_quotes], instance=instance, partition_key=month)
        assert result.success
        return result.run_id

    def value(self, month: str) -> int:
        return int(Store(root=self.place.data_root).table("raw", "daily_quotes").read([month])["C"].item())

    def told(self) -> list[tuple[str, str | None]]:
        """What the history says: run and month of every materialization, the newest first."""
        with self.opened() as instance:
            records = instance.fetch_materializations(dg.AssetKey("daily_quotes"), limit=50).records
        return [(record.run_id, record.partition_key) for record in records]


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """Makes an empty machine; a name each."""

    def made(name: str) -> Machine:
        url = ""
        if request.param == "PostgreSQL":
            cluster: Cluster = request.getfixturevalue("cluster")
            url = cluster.url(cluster.empty())
        return Machine(Place(tmp_path / name / "home", str(tmp_path / name / "data"), url))

    yield made


def test_an_empty_machine_goes_on_where_the_old_one_was(machine: Callable[[str], Machine], tmp_path: Path) -> None:
    old, new = machine("old"), machine("new")
    ids = [old.evening("2026-10", 1), old.evening("2026-11", 2)]
    (tmp_path / "old" / "data" / "panel").mkdir()
    (tmp_path / "old" / "data" / "panel" / "latest").write_text("0123abcd\n")
    (tmp_path / "old" / "data" / "retired").mkdir()
    (tmp_path / "old" / "data" / "retired" / "x").write_text("put aside")
    found = save(old.place, tmp_path / "saved")
    assert "data/panel/latest" in found and not [name for name in found if "retired" in name or "lock" in name]
    old.evening("2026-11", 99)  # after the backup
    assert check(tmp_path / "saved")["files"] == found
    assert restore(new.place, tmp_path / "saved") == sum(name.startswith("data/") for name in found)
    assert new.told() == [(ids[1], "2026-11"), (ids[0], "2026-10")]
    assert (new.value("2026-10"), new.value("2026-11")) == (1, 2)
    assert Path(new.place.data_root, "panel", "latest").read_text() == "0123abcd\n"
    after = new.evening("2026-12", 3)
    assert new.told()[0] == (after, "2026-12") and new.value("2026-12") == 3
    assert Path(new.place.data_root).stat().st_mode & 0o077 == 0


def test_damage_and_what_is_there_are_refused_and_nothing_is_written(
    machine: Callable[[str], Machine], tmp_path: Path
) -> None:
    old, new = machine("old"), machine("new")
    old.evening("2026-11", 2)
    save(old.place, tmp_path / "saved")
    with pytest.raises(BackupError, match="is there already: give each backup a folder of its own"):
        save(old.place, tmp_path / "saved")
    with pytest.raises(BackupError, match="is not empty"):
        restore(old.place, tmp_path / "saved")
    (month,) = (tmp_path / "saved" / "data").rglob("2026-11.parquet")
    whole = month.read_bytes()
    month.write_bytes(whole[:-1] + b"!")
    with pytest.raises(BackupError, match=r"damaged.*2026-11\.parquet"):
        restore(new.place, tmp_path / "saved")
    assert not Path(new.place.data_root).exists()
    month.write_bytes(whole)
    Path(new.place.data_root).mkdir(parents=True)
    other = Machine(Place(new.place.home, str(tmp_path / "elsewhere"), new.place.pg_url))
    other.evening("2026-10", 1)
    with pytest.raises(BackupError, match=r"not empty|holds a history already"):
        restore(new.place, tmp_path / "saved")
    assert list(Path(new.place.data_root).iterdir()) == []
    (tmp_path / "saved" / "backup.json").unlink()
    with pytest.raises(BackupError, match="no whole backup"):
        check(tmp_path / "saved")


def test_a_backup_of_one_storage_is_not_restored_into_the_other(
    machine: Callable[[str], Machine], tmp_path: Path
) -> None:
    old = machine("old")
    old.evening("2026-11", 2)
    save(old.place, tmp_path / "saved", history_only=True)
    assert not (tmp_path / "saved" / "data").exists()
    other = Place(tmp_path / "n", str(tmp_path / "n" / "data"), "" if old.place.pg_url else "postgresql://x")
    with pytest.raises(BackupError, match="holds a history of"):
        restore(other, tmp_path / "saved")


def test_what_a_writer_publishes_meanwhile_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month and its manifest are copied of one moment, however often they are replaced."""
    machine = Machine(Place(tmp_path / "home", str(tmp_path / "data")))
    machine.evening("2026-11", 0)
    table = Store(root=machine.place.data_root).table("raw", "daily_quotes")
    enough, published = threading.Event(), [0]

    def write() -> None:
        while not enough.wait(0.02):
            published[0] += 1
            frame = pl.DataFrame({"date": ["2026-11-02"], "code": ["13010"], "C": [published[0]]})
            table.publish([table.stage("2026-11", frame, code_version="1")])

    writer = threading.Thread(target=write)
    writer.start()
    whole = refused = 0
    try:
        while whole + refused < 12:
            folder = tmp_path / f"saved{whole + refused}"
            try:
                save(machine.place, folder)
            except BackupError as error:
                assert "was written to all the while" in str(error)
                assert not (folder / backup.RECORD).exists()
                refused += 1
                continue
            kept = Store(root=str(folder / "data")).table("raw", "daily_quotes").read(["2026-11"])  # holds its hash
            assert kept["C"].item() >= 0
            whole += 1
    finally:
        enough.set()
        writer.join()
    assert published[0] > 1
    save(machine.place, tmp_path / "quiet")
    quiet = Store(root=str(tmp_path / "quiet" / "data")).table("raw", "daily_quotes").read(["2026-11"])
    assert quiet["C"].item() == published[0]


def test_the_command_line(tmp_path: Path) -> None:
    old = Machine(Place(tmp_path / "old" / "home", str(tmp_path / "old" / "data")))
    run_id = old.evening("2026-11", 2)

    def called(machine: Machine, *words: Any) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "DAGSTER"))}
        environ |= {"DAGSTER_HOME": str(machine.place.home), "ATFT_DATA": machine.place.data_root}
        command = [sys.executable, "-m", "atft_assets.tools.backup", *map(str, words)]
        return subprocess.run(command, env=environ, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    done = called(old, "save", tmp_path / "saved")
    assert done.returncode == 0 and "saved" in done.stdout, done.stderr
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "saved").rglob("*") if path.is_dir()} == {0}
    assert called(old, "check", tmp_path / "saved").stdout.startswith("whole:")
    new = Machine(Place(tmp_path / "new" / "home", str(tmp_path / "new" / "data")))
    done = called(new, "restore", tmp_path / "saved")
    assert done.returncode == 0 and "mend --check" in done.stdout, done.stderr
    assert new.told() == [(run_id, "2026-11")]
    done = called(new, "restore", tmp_path / "saved")
    assert done.returncode == 1 and done.stderr.startswith("backup: ") and "Traceback" not in done.stderr
