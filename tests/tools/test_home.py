"""The first use of a home by real processes, and the home of before that moves into its data root."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.home import MARKER, opened
from atft_assets.tools.home import LOCK, NOT_NOW, REFUSED, adopt, claim, main

REPOSITORY = Path(__file__).parents[2]
COMMAND = [str(REPOSITORY / "bin" / "dagster"), "run", "list"]  # opens every storage, loads no code


def environment(data: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "DAGSTER_", "JQUANTS_"))}
    return {**kept, "ATFT_DATA": str(data), "PYTHONPATH": str(REPOSITORY)}


def test_first_commands_at_once_all_succeed(tmp_path: Path) -> None:
    """Without the lock a third of them died of "table already exists"."""
    for turn in range(2):
        data = tmp_path / f"data{turn}"
        started = [
            subprocess.Popen(
                COMMAND, env=environment(data), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for _ in range(3)
        ]
        said = [process.communicate()[0] for process in started]
        assert [process.returncode for process in started] == [0] * 3, said
        home = data / ".dagster_home"
        assert (home / MARKER).read_text() == f"{data}\n"
        assert home.stat().st_mode & 0o777 == data.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in home.rglob("*") if not path.is_symlink())


def test_it_is_claimed_once_and_follows_a_root_that_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "data" / ".dagster_home"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    claim("/where/it/was")
    assert (home / MARKER).read_text() == "/where/it/was\n" and (home / "history").is_dir()
    (home / LOCK).unlink()
    claim("/where/it/was")
    assert not (home / LOCK).exists()  # nothing was done
    claim(str(tmp_path / "data"))
    assert (home / MARKER).read_text() == f"{tmp_path / 'data'}\n"


def test_what_cannot_be_claimed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / MARKER).write_text("/other/root\n")
    monkeypatch.setenv("ATFT_DATA", str(tmp_path / "data"))
    for home, words in {
        tmp_path / "file" / "home": "cannot be written: ",
        tmp_path / "home": "the history of another data root (/other/root)",
        Path("relative"): "must be an absolute path",
    }.items():
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        assert main([]) == REFUSED
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


@pytest.fixture
def old(tmp_path: Path) -> Path:
    home = tmp_path / "old"
    home.mkdir()
    return home


def tell(home: Path, *roots: Path) -> None:
    """Let the history of a home tell of a table of each root."""
    with opened(home) as instance:
        for root in roots:
            path = dg.MetadataValue.path(str(root / "raw" / "trading_calendar"))
            instance.report_runless_asset_event(dg.AssetMaterialization("trading_calendar", metadata={"path": path}))


def test_a_home_of_before_moves_into_the_root_it_tells_of(
    tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, other = tmp_path / "data", tmp_path / "other"
    tell(old, root, root)
    assert adopt(old, other / ".dagster_home", str(other)) == 0  # not its own: not a word
    assert old.is_dir() and capsys.readouterr().err == ""
    new = root / ".dagster_home"
    assert adopt(old, new, str(root)) == 0
    assert not old.exists() and new.stat().st_mode & 0o777 == 0o700 and (new / MARKER).read_text() == f"{root}\n"
    assert f"{old} is {new} now" in capsys.readouterr().err
    with opened(new) as instance:
        assert len(instance.fetch_materializations(dg.AssetKey("trading_calendar"), limit=9).records) == 2


def test_one_that_tells_of_several_roots_stays(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, other = tmp_path / "data", tmp_path / "other"
    tell(old, root, other)
    assert adopt(old, root / ".dagster_home", str(root)) == 0
    assert old.is_dir() and not root.exists() and f"({other} and this one)" in capsys.readouterr().err


def test_one_that_is_used_is_used_where_it_is_until_it_is_free(
    tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    tell(old, root)
    user = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "dagster"],
        env={**environment(root), "DAGSTER_HOME": str(old)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert user.stdin and user.stdout and user.stdout.readline()
    assert adopt(old, root / ".dagster_home", str(root)) == NOT_NOW
    assert f"process {user.pid}" in capsys.readouterr().err and old.is_dir()
    user.communicate()
    (tmp_path / "data").write_text("where a folder cannot be made")
    assert adopt(old, root / ".dagster_home", str(root)) == NOT_NOW
    assert f"mv {old} {root / '.dagster_home'}" in capsys.readouterr().err and old.is_dir()
    (tmp_path / "data").unlink()
    assert adopt(old, root / ".dagster_home", str(root)) == 0 and not old.exists()
