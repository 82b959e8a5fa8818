"""`make road` with its data in a bucket: the tables, the figures and the scores of the last evening are a disk's."""

import json
import os
from pathlib import Path

import pytest

from atft_assets.store import Store
from tests.e2e.conftest import Built, Shell
from tests.e2e.test_road import FEATURES, RAW
from tests.store.bucket import ROOT, bucket, exports, server  # noqa: F401

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.deploy,
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
]
SCORES = ("trading", "daily_scores")


def figures(store: Store) -> dict[str, tuple[float, float]]:
    """RankIC and neutral RankIC of each row of the board, by its name."""
    rows = json.loads((store.local("evaluation", "main") / "validation.json").read_text())["rows"]
    return {row["name"]: (row["rank_ic"], row["neutral_rank_ic"]) for row in rows}


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
def test_the_road_in_a_bucket_comes_to_the_same_figures(
    built: Built,
    bucket: Store,  # noqa: F811
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    config = tmp_path / "one_epoch.yaml"
    phases = "".join(f"  train_phase{k}:\n    config: {{curriculum: {{epochs: 1}}}}\n" for k in range(4))
    config.write_text(f"ops:\n{phases}")
    given = {**exports(server), "ATFT_DATA": ROOT, "ATFT_CACHE": os.environ["ATFT_CACHE"]}
    shell = Shell(tmp_path / "nowhere", tmp_path / "home", tuple(given.items()))
    done = shell.run(f"make road CONFIG={config}", timeout=1500)
    assert done.returncode == 0, done.stdout[-6000:]
    disk = Store(root=str(built.shell.data))
    for table in (*(("raw", name) for name in RAW), *(("features", name) for name in FEATURES)):
        assert bucket.table(*table).keys() == disk.table(*table).keys(), table
        assert bucket.table(*table).version() == disk.table(*table).version(), table
    ours, theirs = (store.table(*SCORES).read().select("date", "code", "score", "rank") for store in (bucket, disk))
    assert ours.equals(theirs) and ours.height > 30
    assert figures(bucket) == figures(disk) and len(figures(disk)) > 5
    assert not (tmp_path / "nowhere").exists()
