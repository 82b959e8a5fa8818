"""`dagster dev` as a unit file, `nice` or a script starts it: no shell of ours stands before it."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.locations import LOADED, locations
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", [REPOSITORY, Path("/")])
def test_it_comes_up_under_nice_and_ends_when_it_is_told(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            ["nice", "-n", "5", REPOSITORY / "bin" / "dagster", "dev", "-p", str(port)],
            cwd=folder,
            env={**kept, "ATFT_DATA": str(tmp_path / "data")},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in the background of a script
        )
    try:
        url = f"http://127.0.0.1:{port}"
        found = until(lambda: locations(url), "the code location", process=process, log=tmp_path / "said")
        assert found == LOADED
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        with suppress(ProcessLookupError):  # nothing is left: as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = (tmp_path / "said").read_text()
    assert "Found a dagster instance configuration" not in text and "Traceback" not in text
    assert (tmp_path / "data" / ".dagster_home" / "history").is_dir()
