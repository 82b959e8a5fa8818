"""Tables in a bucket, by a real server of S3's kind on loopback: whoever publishes at once, no month is lost."""

import signal
import subprocess
import sys
import textwrap
from datetime import date

import polars as pl
import pytest
from upath import UPath

from atft_assets.settings import Plan, Settings
from atft_assets.store import Store, swap
from atft_assets.store.errors import DamagedTable
from atft_assets.store.manifest import Manifest
from atft_assets.tools import doctor
from tests.patience import PATIENCE
from tests.store.bucket import ROOT


def frame(month: int, value: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame({"date": [date(2024, month, 1)] * 50, "code": [f"{n:05d}" for n in range(50)], "x": value})


def key(month: int) -> str:
    return f"2024-{month:02d}"


def published(store: Store, month: int, value: float = 1.0) -> None:
    table = store.table("raw", "quotes")
    staged = [table.stage(key(month), frame(month, value), code_version="t")]
    table.publish(staged)
    table.discard(staged)  # of what was there already


def publisher(months: list[int], value: float, *before: str) -> subprocess.Popen[str]:
    """A process that publishes months of the table one by one, as a run would."""
    script = textwrap.dedent(f"""
        from tests.store.test_bucket import *; from tests.store.bucket import ROOT
        {"; ".join(before)}
        for month in {months}:
            published(Store(root=ROOT), month, {value})
    """)
    return subprocess.Popen([sys.executable, "-c", script], text=True, stderr=subprocess.PIPE)


def test_what_is_published_is_read_and_scanned(bucket: Store) -> None:
    published(bucket, 1)
    published(bucket, 2, 2.0)
    table = bucket.table("raw", "quotes")
    assert table.keys() == ["2024-01", "2024-02"] and table.read()["x"].sum() == 150
    assert table.read(["2024-02"], columns=["x"])["x"].unique().to_list() == [2.0]
    version = table.version()
    published(bucket, 2, 2.0)
    assert table.version() == version, "the same again is the same"
    assert [path.name for path in table.folder.iterdir() if path.name.endswith(".staged")] == []


def test_two_publishers_lose_none_of_each_others_months(bucket: Store) -> None:
    both = [publisher(list(months), value) for months, value in ((range(1, 13, 2), 1.0), (range(2, 13, 2), 2.0))]
    for one in both:
        _, said = one.communicate(timeout=PATIENCE)
        assert one.returncode == 0, said
    table = bucket.table("raw", "quotes")
    assert table.keys() == [key(month) for month in range(1, 13)]
    for month in range(1, 13):
        assert table.read([key(month)])["x"].unique().to_list() == [1.0 if month % 2 else 2.0]
    assert Manifest.model_validate_json((table.folder / "manifest.json").read_bytes()).pending == {}


def test_two_publishers_of_one_month_leave_it_whole(bucket: Store) -> None:
    """Whose it is nobody can say; that file and manifest belong together must hold."""
    for round_ in range(3):
        both = [publisher([5] * 6, 10 * round_ + value) for value in (1.0, 2.0)]
        for one in both:
            _, said = one.communicate(timeout=PATIENCE)
            assert one.returncode == 0, said
        (value,) = bucket.table("raw", "quotes").read(["2024-05"])["x"].unique().to_list()
        assert value in (10 * round_ + 1, 10 * round_ + 2)


@pytest.mark.parametrize("renames", [0, 1])
def test_a_publisher_that_is_killed_between_announcing_and_confirming_leaves_every_month_readable(
    bucket: Store, renames: int
) -> None:
    published(bucket, 1)
    table = bucket.table("raw", "quotes")
    die = (
        "import os; from atft_assets.store import files",
        f"left, real = [{renames}], files.replace",
        "struck = lambda: os.kill(os.getpid(), 9)",
        "files.replace = lambda a, b: (real(a, b), left.append(left.pop() - 1)) if left[-1] else struck()",
    )
    process = publisher([], 0.0, *die, "t = Store(root=ROOT).table('raw', 'quotes')",
                        "t.publish([t.stage(key(m), frame(m, 7.0), code_version='t') for m in (1, 2)])")  # fmt: skip
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert table.read(["2024-01"])["x"].unique().to_list() == [7.0 if renames else 1.0]
    assert table.keys() == ["2024-01"]
    published(bucket, 2, 9.0)
    assert table.keys() == ["2024-01", "2024-02"] and table.read()["x"].n_unique() == 2


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
