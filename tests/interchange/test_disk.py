"""A full disk and a root that cannot be written, as the real file system says it; and what others may read."""

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atft_model.interchange.disk import DiskFull, Unwritable, disk_error, keep_private, make_root, writing
from atft_model.interchange.panel import write_panel
from atft_model.interchange.records import write_json
from tests.interchange.test_panel import description, tensors

FULL_DEVICE = Path("/dev/full")


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask of most machines, put back afterwards."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False).returncode
    ):
        pytest.skip("this machine does not allow mounts")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="the kernel has no /dev/full")
def test_a_full_device_is_named_with_need_and_room() -> None:
    with pytest.raises(DiskFull) as caught, writing(FULL_DEVICE, 3_000_000), FULL_DEVICE.open("wb") as file:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    said = str(caught.value)
    assert said.startswith("/dev/full cannot be written: the disk is full (it needs 3.0 MB, ")
    assert "are free in /dev)" in said and "Free space there, or set ATFT_DATA" in said


def test_a_panel_and_a_record_on_a_full_disk_leave_what_was_there(tiny: Path) -> None:
    write_json(tiny / "fold.json", {"a": 1})
    with pytest.raises(DiskFull, match=r"fold.json cannot be written: the disk is full .it needs 0.1 MB, "):
        write_json(tiny / "fold.json", {"a": "x" * 100_000})
    assert (tiny / "fold.json").read_text() == '{\n "a": 1\n}\n'
    many = {**tensors(), "y_neutral": np.ones((2, 37, 3), np.float32)}
    (tiny / "ballast").write_bytes(bytes(56_000))
    with pytest.raises(DiskFull, match=r"panel.safetensors cannot be written: the disk is full"):
        write_panel(tiny / "p1", many, description())
    assert sorted(path.name for path in tiny.iterdir() if path.is_file()) == ["ballast", "fold.json"]


@pytest.mark.parametrize("place", ["a file", "/proc", "under a file"])
def test_a_root_that_cannot_be_one_is_a_sentence(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    root = {"a file": file, "/proc": Path("/proc/atft"), "under a file": file / "data"}[place]
    with pytest.raises(Unwritable, match=f"^{root} cannot be written: .*set ATFT_DATA to a folder of its own"):
        make_root(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unwritable, match="permission denied"):
        make_root(tmp_path)


def test_a_full_root_is_found_before_any_work(tiny: Path) -> None:
    (tiny / "ballast").write_bytes(bytes(64 * 1024))
    with pytest.raises(DiskFull, match=f"^{tiny} cannot be written: the disk is full"):
        make_root(tiny)
    assert [path.name for path in tiny.iterdir()] == ["ballast"]


def test_what_is_no_matter_of_the_disk_stays_what_it_is() -> None:
    assert disk_error(OSError(errno.ECONNREFUSED, "refused")) is None
    assert disk_error(PermissionError(errno.EPERM, "no file is named")) is None
    with pytest.raises(ZeroDivisionError), writing("x"):
        _ = 1 / 0
    with pytest.raises(InterruptedError), writing("x"):
        raise InterruptedError(errno.EINTR, "interrupted")


def test_what_is_written_is_for_its_user_alone(tmp_path: Path, open_umask: None) -> None:
    keep_private()
    make_root(tmp_path / "deep" / "data")
    write_json(tmp_path / "deep" / "data" / "runs" / "run.json", {})
    write_panel(tmp_path / "deep" / "data" / "panel" / "p1", tensors(), description())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").rglob("*") if path.is_dir()} == {0o700}


def test_a_root_is_private_whatever_the_umask(tmp_path: Path, open_umask: None) -> None:
    make_root(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
