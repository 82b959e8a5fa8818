"""A Dagster home belongs to one data root: what is refused, what is not, and who leaves it alone."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.home import FOLDER, MARKER, belongs, check_home, homes_of, opened, owner, walk
from atft_assets.operations.disk import folder_sizes
from atft_assets.settings import SettingsError
from atft_assets.tools.mend import loose_modes
from atft_assets.tools.mend import main as mend
from atft_assets.tools.reaper import remove_staged
from atft_assets.tools.writers import writers


def home_of(place: Path, root: str) -> Path:
    place.mkdir(parents=True)
    (place / MARKER).write_text(f"{root}\n")
    return place


def test_a_home_of_another_root_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    home = home_of(tmp_path / "home", "/other/root")
    with pytest.raises(SettingsError) as refused:
        check_home(str(tmp_path / "data"), {"DAGSTER_HOME": str(home)})
    said = str(refused.value)
    assert str(home) in said and f"ATFT_DATA is {tmp_path / 'data'}" in said
    assert "unset DAGSTER_HOME; . ./env.sh" in said and "export ATFT_DATA=/other/root" in said


@pytest.mark.parametrize("home", ["", "relative", "/nobody/has/made/it"])
def test_what_is_no_home_yet_is_not_refused(home: str) -> None:
    check_home("/a/root", {"DAGSTER_HOME": home})
    check_home("/a/root", {})


def test_it_goes_with_its_root_and_with_no_root_beside_or_below(tmp_path: Path) -> None:
    root = tmp_path / "moved"
    home = home_of(root / FOLDER, "/where/it/was")
    assert belongs(home, str(root)) and belongs(home, f"file://{root}") and belongs(home, "/where/it/was")
    assert not belongs(home, str(tmp_path)) and not belongs(home, str(root / "below")) and not belongs(home, "s3://b/x")
    (home / MARKER).write_bytes(b"\xff")
    assert owner(home) is None


def test_the_homes_that_are_asked_who_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of another root does not block this one; one of this root does, whatever home is exported."""
    root = tmp_path / "data"
    own, other = home_of(root / FOLDER, str(root)), home_of(tmp_path / "home", "/other/root")
    for home in (own, other):
        with opened(home) as instance:
            job = dg.GraphDefinition("refresh", node_defs=[]).to_job()
            instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    monkeypatch.setenv("DAGSTER_HOME", str(other))
    assert homes_of(root) == [own]
    (said,) = writers(root)
    assert "(refresh) is STARTED" in said
    assert os.environ["DAGSTER_HOME"] == str(other)
    (other / MARKER).unlink()
    assert homes_of(root) == [other, own] and len(list(writers(root))) == 2


def test_whoever_walks_a_data_root_leaves_the_home_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    home = home_of(root / FOLDER, str(root))
    (home / ".x.4194304.tmp").write_bytes(b"a staged file, as ours are called")
    (home / "index.db").write_bytes(b"x" * 2_000_000)
    (root / "raw").mkdir()
    for path in (home / "index.db", home, root / "raw"):
        path.chmod(0o755)
    assert [names for folder, _, names in walk(root) if FOLDER in folder] == []
    assert list(remove_staged(root)) == [] and list(writers(root)) == []
    assert folder_sizes(str(root)) == {"raw": 0.0, "dagster_home": 0.002}
    assert {home, root / "raw"} <= set(loose_modes(root)) and home / "index.db" not in loose_modes(root)
    (root / "raw").rmdir()
    assert mend(["--root", str(root)]) == 1  # env.sh made it: a root that was mistyped
    assert "there is no data root" in capsys.readouterr().err


def test_the_code_location_is_not_loaded_with_a_home_of_another_root(tmp_path: Path) -> None:
    home = home_of(tmp_path / "home", "/other/root")
    environ = {**os.environ, "DAGSTER_HOME": str(home), "ATFT_DATA": str(tmp_path / "data"), "JQUANTS_PLAN": ""}
    words = ["-m", "dagster", "asset", "list", "-m", "atft_assets.definitions"]
    done = subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the settings cannot be used" in done.stderr
    assert "the history of another data root (/other/root)" in " ".join(done.stderr.split())
