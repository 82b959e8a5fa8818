"""The store: what a crash, a full disk and two writers at once can do to a table (nothing)."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from atft_assets.store import DamagedTable, MissingColumns, MissingTable, Store
from atft_model.interchange.disk import DiskFull
from atft_model.interchange.errors import MEND
from tests.patience import PATIENCE


def frame(rows: int, value: float = 1.0, month: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "date": [date(2024, month, 4)] * rows,
            "code": [f"{1300 + i}0" for i in reversed(range(rows))],
            "C": [value + i for i in range(rows)],
        }
    )


def publish(table, key, data):
    table.publish([table.stage(key, data, code_version="1")])


@pytest.fixture
def table(tmp_path):
    return Store(root=str(tmp_path)).table("raw", "daily_quotes")


def test_round_trip_is_sorted_and_described(table):
    publish(table, "2024-02", frame(3, month=2))
    publish(table, "2024-01", frame(2))
    assert table.keys() == ["2024-01", "2024-02"]
    read = table.read()
    assert read["code"].to_list() == ["13000", "13010", "13000", "13010", "13020"]
    entry = table.manifest().entries["2024-02"]
    assert entry.rows == 3 and entry.through_date == date(2024, 2, 4) and entry.contract_passed
    assert sorted(p.name for p in table.folder.iterdir()) == [
        ".lock",
        "2024-01.parquet",
        "2024-02.parquet",
        "manifest.json",
    ]


def test_what_is_missing_names_the_command(table):
    with pytest.raises(MissingTable, match=r"dagster asset materialize --select daily_quotes$"):
        table.read()
    publish(table, "2024-01", frame(1))
    with pytest.raises(MissingTable, match=r"2024-02, 2024-03 .*--partition-range 2024-02...2024-03"):
        table.read(["2024-01", "2024-02", "2024-03"])
    with pytest.raises(MissingColumns, match="lacks the column AdjFactor"):
        table.read(columns=["C", "AdjFactor"])


def test_versions_follow_contents_and_nothing_else(table):
    publish(table, "2024-01", frame(2))
    before = table.version()
    publish(table, "2024-01", frame(2))
    assert table.version() == before
    publish(table, "2024-01", frame(2, value=2.0))
    assert table.version() != before


def test_an_unchanged_month_is_not_written_again(table):
    publish(table, "2024-01", frame(2))
    path = table.path("2024-01")
    before = path.stat()
    pieces = pl.concat([frame(2)[:1], frame(2)[1:]], rechunk=False)  # equal, in another layout
    publish(table, "2024-01", pieces)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    publish(table, "2024-01", frame(2, value=2.0))
    assert path.stat().st_ino != before.st_ino


def test_publishing_an_unchanged_month_repairs_a_damaged_file(table):
    publish(table, "2024-01", frame(2))
    table.path("2024-01").write_bytes(b"damaged")
    publish(table, "2024-01", frame(2))
    assert table.read().height == 2


def test_tables_without_keys_have_stable_bytes_too(table):
    whole = pl.DataFrame({"feature": ["a", "b"], "rank_ic": [0.1, 0.2]})
    versions = []
    for data in (whole, pl.concat([whole[:1], whole[1:]], rechunk=False)):
        publish(table, "all", data)
        versions.append(table.version())
    assert versions[0] == versions[1]


def test_a_damaged_file_is_refused(table):
    publish(table, "2024-01", frame(2))
    path = table.path("2024-01")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DamagedTable, match=f"2024-01.parquet is damaged .it is not the file that.*{MEND}"):
        table.read()
    path.unlink()
    with pytest.raises(DamagedTable, match=f"2024-01.parquet is damaged .it is gone.*{MEND}"):
        table.read(["2024-01"])


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"entries": {"2024-01": 3}}', b"[" * 100_000])
def test_a_damaged_manifest_is_a_sentence_for_reader_and_writer(table, damage):
    publish(table, "2024-01", frame(2))
    (table.folder / "manifest.json").write_bytes(damage)
    with pytest.raises(DamagedTable, match=f"manifest.json is damaged .*{MEND}"):
        table.read()
    with pytest.raises(DamagedTable, match=f"manifest.json is damaged .*{MEND}"):
        publish(table, "2024-02", frame(2, month=2))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(["2024-01", "2024-02", "2024-03"]), st.integers(1, 9), min_size=1))
def test_what_is_published_is_what_is_read(tmp_path_factory, months):
    table = Store(root=str(tmp_path_factory.mktemp("s"))).table("g", "t")
    for key, rows in months.items():
        publish(table, key, frame(rows))
    for key, rows in months.items():
        assert_frame_equal(table.read([key]), frame(rows).sort("date", "code"))


KILLED = """
import os, signal, sys
import polars as pl
from datetime import date
from atft_assets.store import Store, files
step = int(sys.argv[2])
calls = 0
real = files.replace
def counting(source, target):
    global calls
    if calls == step:
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    real(source, target)
files.replace = counting
table = Store(root=sys.argv[1]).table("g", "t")
new = pl.DataFrame({"date": [date(2024, 1, 4)], "code": ["13000"], "C": [2.0]})
table.publish([table.stage(k, new, code_version="2") for k in ("2024-01", "2024-02")])
"""


@pytest.mark.parametrize("step", range(5))
def test_kill_at_every_step_of_a_publication_leaves_each_file_old_or_new(tmp_path, step):
    """A publication replaces four files: manifest, two months, manifest. Killed before each, and not at all."""
    table = Store(root=str(tmp_path)).table("g", "t")
    old = frame(1)
    table.publish([table.stage(k, old, code_version="1") for k in ("2024-01", "2024-02")])
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(step)], check=False, timeout=PATIENCE)
    assert done.returncode == (0 if step == 4 else -signal.SIGKILL)
    seen = [table.read([key])["C"].item() for key in ("2024-01", "2024-02")]
    assert seen == {0: [1.0, 1.0], 1: [1.0, 1.0], 2: [2.0, 1.0], 3: [2.0, 2.0], 4: [2.0, 2.0]}[step]
    publish(table, "2024-01", frame(1, value=3.0))  # the next run completes
    assert table.read(["2024-01"])["C"].item() == 3.0
    assert table.read(["2024-02"])["C"].item() == seen[1]


def _publish_many(root: str, month: int) -> None:
    table = Store(root=root).table("g", "t")
    for value in range(5):
        publish(table, f"2024-{month:02d}", frame(2, value=float(value), month=month))


def test_two_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_publish_many, args=(str(tmp_path), month)) for month in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [w.exitcode for w in writers] == [0, 0]
    table = Store(root=str(tmp_path)).table("g", "t")
    assert table.keys() == ["2024-01", "2024-02"]
    assert table.read().height == 4
    assert json.loads((table.folder / "manifest.json").read_text())["pending"] == {}


def staged_files(table) -> list[str]:
    return [p.name for p in table.folder.iterdir() if p.name.endswith(".staged")]


def test_months_are_staged_while_the_next_is_computed(table, monkeypatch):
    """Never more than one frame waits, the order stays, and what is staged is what was computed."""
    written, real = [], type(table).stage

    def slow(self, key, data, **options):
        time.sleep(0.05)
        staged = real(self, key, data, **options)
        written.append(key)
        return staged

    monkeypatch.setattr(type(table), "stage", slow)
    ahead = []

    def months():
        for month in range(1, 7):
            ahead.append(month - 1 - len(written))
            yield f"2024-{month:02d}", frame(3, value=float(month), month=month)

    staged = table.stage_all(months(), code_version="1")
    assert [one.key for one in staged] == written == [f"2024-{month:02d}" for month in range(1, 7)]
    assert max(ahead) <= 1
    table.publish(staged)
    assert table.read(["2024-05"])["C"].min() == 5.0


def test_an_error_while_months_are_staged_leaves_none(table):
    publish(table, "2024-01", frame(2))

    def months():
        yield "2024-01", frame(5)
        yield "2024-02", frame(5, month=2)
        raise ValueError("the third month")

    with pytest.raises(ValueError, match="third month"):
        table.stage_all(months(), code_version="2")
    assert staged_files(table) == [] and table.read()["C"].len() == 2


def test_a_month_that_cannot_be_written_stops_the_computation(table, monkeypatch):
    real = type(table).stage

    def full(self, key, data, **options):
        if key == "2024-02":
            raise OSError(28, "No space left on device")
        return real(self, key, data, **options)

    monkeypatch.setattr(type(table), "stage", full)
    computed = []

    def months():
        for month in range(1, 7):
            computed.append(month)
            yield f"2024-{month:02d}", frame(3, month=month)

    with pytest.raises(OSError, match="No space left"):
        table.stage_all(months(), code_version="1")
    assert computed == [1, 2, 3] and staged_files(table) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny filesystem needs root")
def test_a_full_disk_keeps_the_old_file(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False)
    if mount.returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        table = Store(root=str(tmp_path)).table("g", "t")
        publish(table, "2024-01", frame(5))
        noise = pl.DataFrame({"code": [os.urandom(16).hex() for _ in range(20_000)]})
        said = r"2024-01.parquet cannot be written: the disk is full .it needs .*free in .*Free space there"
        with pytest.raises(DiskFull, match=said):
            table.stage("2024-01", noise, code_version="1")
        assert table.read()["C"].len() == 5
        assert staged_files(table) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_bucket_url_works_like_a_folder():
    table = Store(root="memory://atft-test").table("raw", "topix")
    publish(table, "2024-01", frame(2))
    assert table.read(["2024-01"]).height == 2
