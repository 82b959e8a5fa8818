"""A machine's mirror of a bucket: what another published is there, what was made here is published, once each."""

from pathlib import Path

import pytest

from atft_assets.store import Store
from atft_assets.store.mirror import SMALL, Mirror
from tests.store.bucket import ROOT

BIG = b"x" * (SMALL + 1)


@pytest.fixture
def elsewhere(bucket: Store, tmp_path: Path) -> Mirror:
    """Another machine's mirror of the same root."""
    return Mirror(bucket.mirror().root, tmp_path / "elsewhere")


def write(folder: Path, name: str, data: bytes = b"1") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def fetched(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that a mirror fetches from now on."""
    names: list[str] = []
    real = mirror._fetch
    monkeypatch.setattr(mirror, "_fetch", lambda name, version: (names.append(name), real(name, version))[1])
    return names


def test_a_run_of_here_is_there_on_another_machine_and_fetched_once(
    bucket: Store, elsewhere: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = bucket.local("runs", "main", "phase0")
    write(runs, "r1/checkpoint.safetensors", BIG)
    write(runs, "r1/run.json", b"{}")
    write(runs, ".staged-7/half")
    write(runs, "latest", b"r1\n")
    assert bucket.mirror().push("runs", "main", "phase0")[-1] == "runs/main/phase0/latest", "the pointer comes last"
    names = fetched(elsewhere, monkeypatch)
    there = elsewhere.pull("runs")
    assert (there / "main" / "phase0" / "r1" / "checkpoint.safetensors").read_bytes() == BIG
    assert (there / "main" / "phase0" / "latest").read_text() == "r1\n" and len(names) == 3
    elsewhere.pull("runs")
    assert len(names) == 3 and elsewhere.push("runs") == []
    assert not list(elsewhere.folder.rglob(".*"))


def test_of_panels_the_newest_is_fetched_whole_and_others_are_known(bucket: Store, elsewhere: Mirror) -> None:
    panels = bucket.local("panel")
    for panel in ("a", "b"):
        write(panels, f"{panel}/panel.json", b"{}")
        write(panels, f"{panel}/panel.safetensors", BIG)
    write(panels, "latest", b"b\n")
    bucket.push("panel")
    there = elsewhere.pull("panel")
    assert (there / "b" / "panel.safetensors").exists() and (there / "a" / "panel.json").exists()
    assert not (there / "a" / "panel.safetensors").exists()
    assert elsewhere.push("panel") == [] and bucket.mirror().pull("panel") == panels
    assert (panels / "a" / "panel.safetensors").exists(), "what was made here stays"


def test_what_is_removed_on_one_machine_is_removed_on_the_other(bucket: Store, elsewhere: Mirror) -> None:
    runs = bucket.local("runs")
    write(runs, "r1/run.json")
    write(runs, "r2/run.json")
    bucket.push("runs")
    elsewhere.pull("runs")
    (runs / "r1" / "run.json").unlink()
    bucket.push("runs")
    there = elsewhere.pull("runs")
    assert not (there / "r1" / "run.json").exists() and (there / "r2" / "run.json").exists()


def test_lines_of_two_machines_are_kept_each_once(bucket: Store, elsewhere: Mirror) -> None:
    here = bucket.local("trials")
    write(here, "trials.jsonl", b'{"a": 1}\n')
    bucket.push("trials")
    there = elsewhere.pull("trials")
    write(here, "trials.jsonl", b'{"a": 1}\n{"a": 2}\n')
    write(there, "trials.jsonl", b'{"a": 1}\n{"a": 3}\n')
    bucket.push("trials")
    elsewhere.pull("trials")  # changed on both sides: it is not overwritten
    elsewhere.push("trials")
    both = b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'
    assert (there / "trials.jsonl").read_bytes() == both
    assert (bucket.local("trials") / "trials.jsonl").read_bytes() == both


def test_tables_are_read_where_they_lie(bucket: Store, elsewhere: Mirror) -> None:
    from tests.store.test_bucket import published

    published(bucket, 1)
    write(bucket.local("raw"), "quotes/notes.csv")
    bucket.push()
    there = elsewhere.pull()
    assert [path.name for path in there.rglob("*") if path.is_file()] == ["notes.csv"]
    assert bucket.table("raw", "quotes").keys() == ["2024-01"]


def test_a_mirror_without_its_index_is_compared_anew_and_loses_nothing(bucket: Store) -> None:
    mirror = bucket.mirror()
    write(bucket.local("runs"), "r1/run.json", b"mine")
    bucket.push("runs")
    (mirror.home / "mirror.json").unlink()
    assert (bucket.local("runs") / "r1" / "run.json").read_bytes() == b"mine" and mirror.push("runs") == []


def test_roots_have_mirrors_of_their_own_which_others_may_not_read(bucket: Store, tmp_path: Path) -> None:
    one, other = bucket.mirror(), Store(root=f"{ROOT}-other").mirror()
    assert one.home != other.home and one.home == Store(root=f"{ROOT}/").mirror().home
    bucket.local("runs")
    assert one.home.stat().st_mode & 0o077 == 0


def test_on_a_disk_nothing_is_pushed_or_fetched(tmp_path: Path) -> None:
    store = Store(root=str(tmp_path))
    store.push("runs")
    assert store.local("runs") == tmp_path / "runs" and not list(tmp_path.iterdir())
