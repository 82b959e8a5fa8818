"""What the trainer asks of its surroundings."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from atft_assets.tools.reaper import clear_locks
from atft_model.process import take_lock


def test_an_orderly_end_leaves_an_empty_lock_file(tmp_path: Path) -> None:
    """Otherwise the next reaper reports a holder, as if a training had been killed."""
    lock = tmp_path / ".cpu.lock"
    with ExitStack() as stack:
        take_lock(lock, stack)
        assert '"pid"' in lock.read_text()
        with pytest.raises(BlockingIOError), ExitStack() as other:
            take_lock(lock, other)
        assert '"pid"' in lock.read_text()  # whoever did not get the lock leaves the text alone
    assert lock.read_text() == "" and list(clear_locks(tmp_path)) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_lock_is_for_all_users_whatever_the_umask() -> None:
    """Two users' trainings share a GPU; the services run with a umask that keeps everything to themselves."""
    code = (
        "import os, sys\nfrom contextlib import ExitStack\nfrom pathlib import Path\n"
        "from atft_model.process import take_lock\n"
        "os.setuid(65534)\ntake_lock(Path(sys.argv[1]), ExitStack())"
    )
    with TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o1777)  # as /tmp itself, where the kernel lets nobody create what another user has
        lock = Path(name, "atft-gpu0.lock")
        before = os.umask(0o077)
        try:
            with ExitStack() as stack:
                take_lock(lock, stack)
        finally:
            os.umask(before)
        done = subprocess.run([sys.executable, "-c", code, str(lock)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_killed_holder_leaves_its_name(tmp_path: Path) -> None:
    lock = tmp_path / ".cpu.lock"
    code = (
        "import os, signal, sys\nfrom contextlib import ExitStack\nfrom pathlib import Path\n"
        "from atft_model.process import take_lock\n"
        "take_lock(Path(sys.argv[1]), ExitStack())\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(lock)], check=False)
    assert [line.split(":")[0] for line in clear_locks(tmp_path)] == [str(lock)]
