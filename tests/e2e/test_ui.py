"""The UI in a real browser: headless Chromium on the webserver, over what the road built."""

import shutil
import socket
import subprocess

import pytest

from tests.e2e.locations import LOADED, locations
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.e2e
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def url(built):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = built.shell.popen(
        f". ./env.sh && exec env -u DAGSTER_MODULE_NAME dagster-webserver --host 127.0.0.1 --port {port}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: locations(url) == LOADED, "the webserver", process=server)
        yield url
    finally:
        server.terminate()
        server.wait(PATIENCE)


def shown(page: str, profile) -> str:
    """The page's DOM after its scripts ran."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
        "--window-size=1600,1400", "--virtual-time-budget=20000", "--dump-dom", page,
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_the_checks_of_a_phase_and_of_a_table_are_shown(url, tmp_path):
    phase = shown(f"{url}/assets/train_phase2?view=checks", tmp_path / "a")
    for text in ("train_phase2", "gradient_flow", "no_degeneracy"):
        assert text in phase
    table = shown(f"{url}/assets/all_features?view=checks", tmp_path / "b")
    assert "all_features" in table and "contract" in table and "Succeeded" in table
