"""Raw months that are damaged, a full disk while they are fetched, and roots that cannot be written."""

import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from atft_assets.tools.mend import main
from atft_model.interchange.errors import MEND

from .conftest import failure_text, materialized


@pytest.fixture(autouse=True)
def of_the_lab(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command looks at the lab's data root, with the lab's dates."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("ATFT_DATA", str(lab.root))
    monkeypatch.setenv("ATFT_START", "2024-01-01")
    monkeypatch.setenv("ATFT_END", "2024-06-28")


def test_a_raw_month_is_mended_and_fetched_again(lab, capsys) -> None:
    """Either way of damage; the months beside it are not asked for."""
    lab.run("topix", "2024-01", "2024-03")
    whole = lab.files("topix")
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-4]), Path.unlink):
        damage(Path(str(lab.table("topix").path("2024-02"))))
        lab.asked()
        assert main([]) == 0
        assert "dagster asset materialize --select topix --partition 2024-02\n" in capsys.readouterr().out
        materialized(lab.run("topix", "2024-02"))
        assert lab.asked() == ["/indices/bars/daily/topix 2024-02-01 2024-02-29"]
        assert lab.files("topix") == whole
    assert main(["--check"]) == 0


def test_the_calendar_is_mended_and_fetched_again(lab, capsys) -> None:
    lab.run("trading_calendar")
    whole = lab.read("trading_calendar")
    path = Path(str(lab.table("trading_calendar").path("all")))
    path.write_bytes(b"")
    assert MEND in failure_text(lab.run("trading_calendar"))
    assert main([]) == 0
    assert "dagster asset materialize --select trading_calendar\n" in capsys.readouterr().out
    materialized(lab.run("trading_calendar"))
    assert lab.read("trading_calendar").equals(whole)


def test_a_manifest_of_a_raw_table_is_made_again(lab, capsys) -> None:
    """Its files pass their contract, so nothing is fetched again."""
    lab.run("topix", "2024-01", "2024-03")
    whole = lab.read("topix")
    Path(str(lab.table("topix").folder / "manifest.json")).write_bytes(b"")
    assert MEND in failure_text(lab.run("topix", "2024-02"))
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "2024-01 … 2024-03 (3 files) entered again" in said
    command = said.splitlines()[-1].split()
    assert command[:6] == ["dagster", "asset", "materialize", "--select", "topix", "--partition-range"]
    assert json.loads(shlex.split(said.splitlines()[-1])[-1]) == {"ops": {"topix": {"config": {"refetch": True}}}}
    lab.asked()
    assert materialized(lab.run("topix", "2024-01", "2024-03"))["requests"] == 0
    assert lab.read("topix").equals(whole) and lab.asked() == []


@pytest.mark.parametrize("place", ["file", "proc"])
def test_a_root_that_cannot_be_written_is_said_before_any_request(lab, place: str, tmp_path: Path) -> None:
    lab.max_retries = 2
    lab.root = Path("/proc/atft") if place == "proc" else tmp_path / "file"
    if place == "file":
        lab.root.touch()
    result = lab.run("topix", "2024-01")
    (error,) = [e.job_failure_data.error for e in result.all_events if e.is_job_failure]
    while error.cause:
        error = error.cause
    assert re.search(f"this run cannot begin: {lab.root} cannot be written: .*set ATFT_DATA to", error.message)
    assert not [event for event in result.all_events if event.is_step_event]
    assert lab.asked() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny file system needs root")
def test_a_full_disk_ends_the_fetch_at_once_with_one_sentence(lab, tmp_path: Path) -> None:
    lab.max_retries = 2
    lab.root = tmp_path / "tiny"
    lab.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(lab.root)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        (lab.root / "ballast").write_bytes(bytes(48 * 1024))
        result = lab.run("topix", "2024-01", "2024-06")
        said = failure_text(result)
        assert "cannot be built" in said and ".parquet cannot be written: the disk is full (it needs " in said
        assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
        assert lab.table("topix").keys() == [] and not [*lab.root.rglob("*.staged")]
        (lab.root / "ballast").unlink()
        assert len(lab.run("topix", "2024-01", "2024-03").get_asset_materialization_events()) == 3
    finally:
        subprocess.run(["umount", str(lab.root)], check=True)


def test_what_a_run_writes_is_for_its_user_alone(lab) -> None:
    before = os.umask(0o022)
    try:
        materialized(lab.run("topix", "2024-01"))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    paths = [lab.root, *lab.root.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
