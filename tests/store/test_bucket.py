"""Tables in a bucket, by a real server of S3's kind on loopback: whoever publishes at once, no month is lost."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from upath import UPath

from atft_assets.settings import Plan, Settings
from atft_assets.store import Store, leftovers, swap
from atft_assets.store.errors import DamagedTable, MissingTable
from atft_assets.store.manifest import Manifest
from atft_assets.store.tables import MANIFEST, Table
from atft_assets.tools import doctor
from tests.patience import PATIENCE
from tests.store.bucket import ROOT


def frame(month: int, value: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame({"date": [date(2024, month, 1)] * 50, "code": [f"{n:05d}" for n in range(50)], "x": value})


def key(month: int) -> str:
    return f"2024-{month:02d}"


def published(store: Store, month: int, value: float = 1.0) -> None:
    table = store.table("raw", "quotes")
    table.publish([table.stage(key(month), frame(month, value), code_version="t")])


SCRIPT = """
import os, sys
from datetime import date
import polars as pl
from atft_assets.store import Store, swap

table = Store(root=sys.argv[1]).table("raw", "quotes")

def staged(month, value):
    rows = {"date": [date(2024, month, 1)] * 50, "code": [f"{n:05d}" for n in range(50)], "x": value}
    return table.stage(f"2024-{month:02d}", pl.DataFrame(rows), code_version="t")
"""
ROUNDS = 4
PUBLISHING = """
for turn in range(int(sys.argv[3])):
    value = float(100 * int(sys.argv[2]) + turn)
    table.publish([staged(month, value) for month in (int(sys.argv[2]), 4, 5, 6)])
"""


def process(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT + script, ROOT, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE)


@contextmanager
def ended(processes: list[subprocess.Popen[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    try:
        yield processes
    finally:
        for one in processes:
            one.kill()


def files(table: Table) -> list[str]:
    """What lies beside the manifest."""
    return sorted(path.name for path in table.folder.glob("*") if path.name != MANIFEST)


def named(table: Table) -> list[str]:
    """What the manifest names."""
    return sorted(table.place(key, entry).name for key, entry in table.manifest().entries.items())


def values(table: Table, months: list[str] | None = None) -> dict[str, float]:
    """Of each month the one value that it holds."""
    rows = table.read(months).group_by("date").agg(pl.col("x").unique()).sort("date")
    assert all(len(x) == 1 for x in rows["x"]), "of two publishers' rows"
    return {f"{day:%Y-%m}": x[0] for day, x in rows.rows()}


def test_what_is_published_is_read_and_scanned(bucket: Store) -> None:
    published(bucket, 1)
    published(bucket, 2, 2.0)
    table = bucket.table("raw", "quotes")
    assert table.keys() == ["2024-01", "2024-02"] and table.read()["x"].sum() == 150
    assert table.read(["2024-02"], columns=["x"])["x"].unique().to_list() == [2.0]
    version = table.version()
    published(bucket, 2, 2.0)
    assert table.version() == version, "the same again is the same"
    assert not [name for name in files(table) if name.endswith(".staged")]


def test_of_many_publishers_at_once_nothing_is_lost_and_every_month_can_be_read_at_any_moment(bucket: Store) -> None:
    """Three machines, each with a month of its own and three months that all of them publish, again and again."""
    table = bucket.table("raw", "quotes")
    for month in range(1, 7):
        published(bucket, month, 0.0)
    own, reads = {number: (0, *range(100 * number, 100 * number + ROUNDS)) for number in (1, 2, 3)}, 0
    with ended([process(PUBLISHING, number, ROUNDS) for number in own]) as machines:
        while any([machine.poll() is None for machine in machines]):
            seen = values(table)
            assert list(seen) == [key(month) for month in range(1, 7)]
            assert all(seen[key(number)] in turns for number, turns in own.items())
            assert len({seen[key(month)] for month in (4, 5, 6)}) == 1, "what is published together is seen together"
            reads += 1
    assert reads > 5
    for machine in machines:
        _, said = machine.communicate(timeout=PATIENCE)
        assert machine.returncode == 0, said
    last = values(table)
    assert [last[key(number)] for number in (1, 2, 3)] == [100 * number + ROUNDS - 1 for number in (1, 2, 3)]
    assert last[key(4)] % 100 == ROUNDS - 1 and Manifest.model_validate_json(raw(table)).pending == {}


def raw(table: Table) -> bytes:
    return (table.folder / MANIFEST).read_bytes()


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_a_publisher_that_is_killed_all_months_are_seen_or_none(bucket: Store, when: str) -> None:
    published(bucket, 1)
    table = bucket.table("raw", "quotes")
    die = """
real, struck = swap.write, lambda: os.kill(os.getpid(), 9)
swap.write = lambda *what: (struck(), real(*what)) if sys.argv[2] == "before" else (real(*what), struck())
table.publish([staged(month, 7.0) for month in (1, 2)])
"""
    killed = process(die, when)
    killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    assert values(table) == ({key(1): 1.0} if when == "before" else {key(1): 7.0, key(2): 7.0})
    published(bucket, 2, 9.0)
    assert values(table) == {key(1): 1.0 if when == "before" else 7.0, key(2): 9.0}


def test_what_was_replaced_stays_for_its_readers_and_goes_with_a_later_publication(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, now = bucket.table("raw", "quotes"), datetime.now(UTC)

    def found(after: timedelta) -> list[str]:
        return sorted(one.path.name for one in leftovers.leftovers(table.folder, table.manifest(), now + after))

    published(bucket, 1, 1.0)
    early, (old,) = table.manifest(), files(table)
    table.stage(key(2), frame(2), code_version="t")  # by somebody who died
    (dead,) = set(files(table)) - {old}
    published(bucket, 1, 2.0)
    assert found(timedelta(0)) == [] and found(timedelta(days=3)) == sorted([old, dead])
    monkeypatch.setattr(Table, "manifest", lambda _, manifests=[early]: manifests[0])
    assert values(table) == {key(1): 1.0}, "a reader goes on with what it began with"
    monkeypatch.undo()
    monkeypatch.setattr(leftovers, "LONGEST_PUBLICATION", timedelta(seconds=-5))
    published(bucket, 3, 3.0)
    assert dead not in files(table) and old in files(table), "replaced a moment ago"
    monkeypatch.setattr(leftovers, "GRACE", timedelta(seconds=-5))
    published(bucket, 3, 4.0)
    assert files(table) == named(table) and values(table) == {key(1): 2.0, key(3): 4.0}


def test_a_reader_whose_file_is_gone_reads_what_the_manifest_says_by_then(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(bucket, 1, 1.0)
    table = bucket.table("raw", "quotes")
    early = table.manifest()
    published(bucket, 1, 2.0)
    table.place(key(1), early.entries[key(1)]).unlink()
    manifests, real = [early], Table.manifest
    monkeypatch.setattr(Table, "manifest", lambda of: manifests.pop() if manifests else real(of))
    assert values(table) == {key(1): 2.0} and not manifests


def test_partitions_that_are_not_published_leave_nothing(bucket: Store) -> None:
    table = bucket.table("raw", "quotes")
    table.discard([table.stage(key(1), frame(1), code_version="t")])
    assert files(table) == []
    with pytest.raises(MissingTable):
        table.read()


def test_a_table_can_be_moved_to_a_bucket_and_back(bucket: Store, tmp_path: Path) -> None:
    """By any tool that copies files; each side goes on with the names of the other."""
    disk, there = Store(root=str(tmp_path / "disk")), bucket.table("raw", "quotes")
    published(disk, 1), published(disk, 2)
    for path in Path(str(disk.table("raw", "quotes").folder)).iterdir():
        if not path.name.startswith("."):
            there.place("").with_name(path.name).write_bytes(path.read_bytes())
    published(bucket, 2, 5.0)
    assert values(there) == {key(1): 1.0, key(2): 5.0} and files(there)[0] == "2024-01.parquet"
    back = Store(root=str(tmp_path / "back")).table("raw", "quotes")
    shutil.copytree(str(disk.table("raw", "quotes").folder), str(back.folder))
    for path in there.folder.iterdir():
        (back.folder / path.name).write_bytes(path.read_bytes())
    assert values(back) == {key(1): 1.0, key(2): 5.0} and back.path(key(2)).name == there.path(key(2)).name
    published(Store(root=str(tmp_path / "back")), 2, 6.0)
    assert values(back) == {key(1): 1.0, key(2): 6.0} and back.path(key(2)).name == "2024-02.parquet"


def test_the_page_tells_how_other_tools_read_a_table(bucket: Store) -> None:
    table = bucket.table("features", "labels")
    table.publish([table.stage("all", frame(1), code_version="t")])
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "bucket.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0].replace("s3://my-bucket/atft", ROOT)
    names: dict[str, pl.LazyFrame] = {}
    exec(code, names)
    assert names["labels"].collect().height == 50


def test_a_conditional_write_is_refused_where_another_was_first(bucket: Store) -> None:
    path = UPath(f"{ROOT}/pointer")
    assert swap.read(path) == (None, None)
    first = swap.write(path, b"1", None)
    with pytest.raises(swap.Changed):
        swap.write(path, b"2", None)
    second = swap.write(path, b"2", first)
    with pytest.raises(swap.Changed):
        swap.write(path, b"3", first)
    assert swap.read(path) == (b"2", second)
    path.unlink()
    with pytest.raises(swap.Changed):
        swap.write(path, b"3", second)


def test_an_update_is_made_anew_from_what_others_wrote(bucket: Store) -> None:
    path, seen = UPath(f"{ROOT}/count"), []

    def add(data: bytes | None) -> bytes:
        if len(seen) < 3:  # somebody else, each time between reading and writing
            swap.write(path, str(int(data or b"0") + 10).encode(), swap.read(path)[1])
        seen.append(data)
        return str(int(data or b"0") + 1).encode()

    swap.update(path, add)
    assert swap.read(path)[0] == b"31" and seen == [None, b"10", b"20", b"30"]


def test_a_month_whose_file_is_not_the_manifests_is_damaged(bucket: Store) -> None:
    published(bucket, 3)
    table = bucket.table("raw", "quotes")
    table.path("2024-03").write_bytes(b"torn")
    with pytest.raises(DamagedTable, match="quotes"):
        table.read()


def test_the_doctor_says_whether_publishers_are_kept_apart(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(base_url=None, plan=Plan.STANDARD, data_root=ROOT, start=date(2024, 1, 4), end=None)
    (found,) = doctor.bucket(settings)
    assert found.level is doctor.Level.OK and "comes second is refused" in found.found
    assert UPath(ROOT).fs.find("bucket") == []
    careless = swap.write
    monkeypatch.setattr(doctor.swap, "write", lambda path, data, version: careless(path, data, swap.read(path)[1]))
    (found,) = doctor.bucket(settings)
    assert found.level is doctor.Level.FAIL and "lose each other's months" in found.found
    monkeypatch.undo()
    (found,) = doctor.bucket(settings.model_copy(update={"data_root": "s3://no-such-bucket/atft"}))
    assert found.level is doctor.Level.FAIL and "cannot be written" in found.found and "anything" not in str(found)
    assert list(doctor.bucket(settings.model_copy(update={"data_root": "/data"}))) == []
