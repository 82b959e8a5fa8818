"""What the trainer asks of its surroundings."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

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


def test_a_killed_holder_leaves_its_name(tmp_path: Path) -> None:
    lock = tmp_path / ".cpu.lock"
    code = (
        "import os, signal, sys\nfrom contextlib import ExitStack\nfrom pathlib import Path\n"
        "from atft_model.process import take_lock\n"
        "take_lock(Path(sys.argv[1]), ExitStack())\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(lock)], check=False)
    assert [line.split(":")[0] for line in clear_locks(tmp_path)] == [str(lock)]
