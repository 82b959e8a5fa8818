"""A bucket: a real server of S3's kind on loopback."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atft_assets.store import Store
from tests.patience import until

ROOT = "s3://bucket/atft"
CLIENT = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Its address."""
    pytest.importorskip("moto", reason="no server of S3's kind: pip install -e '.[dev]'")
    pytest.importorskip("s3fs", reason="no client of S3: pip install -e '.[s3]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        until(answers, "the server of the bucket", process=process)
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """A data root in an empty bucket; this machine's mirror is the test's own."""
    import s3fs

    for name, value in {**CLIENT, "AWS_ENDPOINT_URL": server, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "here"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.mkdir("bucket")
    yield Store(root=ROOT)
    fs.rm("bucket", recursive=True)
