"""A bucket: a real server of S3's kind on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from atft_assets.store import Store
from tests.store.servers import KEY, SECRET, serving

ROOT = "s3://bucket/atft"
CLIENT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
DEPLOYED = (pytest.mark.machine, pytest.mark.deploy, pytest.mark.slow)


def exports(address: str) -> dict[str, str]:
    """What a machine exports to reach a server."""
    return {**CLIENT, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}


@pytest.fixture(scope="session", params=["moto", pytest.param("seaweedfs", marks=DEPLOYED)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; whatever uses it is tried with each kind of server."""
    pytest.importorskip("s3fs", reason="no client of S3: pip install -e '.[s3]'")
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """A data root in an empty bucket; this machine's mirror is the test's own."""
    import s3fs

    for name, value in exports(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "here"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists("bucket"):
        fs.mkdir("bucket")
    yield Store(root=ROOT)
    fs.rm("bucket", recursive=True)
