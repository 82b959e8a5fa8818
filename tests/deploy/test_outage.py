"""PostgreSQL away for a minute in the middle of a training of the real network: the run ends well, no epoch is lost."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from tests.deploy.postgres import REPOSITORY, made, storage
from tests.patience import PATIENCE, until
from tests.ports import free_port

pytestmark = [pytest.mark.deploy, pytest.mark.machine, pytest.mark.slow]

pytest.importorskip("torch", reason="the extra `train` is not installed")

AWAY_SECONDS = 60.0
EPOCHS = 12
TRAINING = """
import sys
from pathlib import Path
import dagster as dg
from atft_assets.training.launcher import LocalLauncher
from tests.training.small_market import make_world

world = make_world(Path(sys.argv[1]))
world.cut(world.panel().panel)
print("made", flush=True)
config = {"curriculum": {"epochs": int(sys.argv[2])}, "allow_ephemeral_instance": True}
with dg.DagsterInstance.get() as instance:
    result = dg.materialize(
        [*world.phase_assets(), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")], selection=["train_phase0"],
        resources={"store": world.store, "launcher": LocalLauncher(threads=1)},
        run_config={"ops": {"train_phase0": {"config": config}}}, instance=instance, raise_on_error=False,
    )
sys.exit(not result.success)
"""


def epochs(instance: dg.DagsterInstance) -> list[float]:
    """The loss of each epoch that the history holds, in order."""
    observed = instance.fetch_observations(dg.AssetKey("train_phase0"), limit=99, ascending=True).records
    said = [record.asset_observation for record in observed]
    return [float(str(one.metadata["epoch_loss"].value)) for one in said if one and "epoch_loss" in one.metadata]


@pytest.mark.timeout(1200)
def test_a_real_training_outlasts_a_minute_without_its_database(tmp_path: Path) -> None:
    with made(free_port()) as cluster:
        url = cluster.url(cluster.copy())
        home, log = tmp_path / "home", tmp_path / "said"
        home.mkdir()
        (home / "dagster.yaml").write_text(json.dumps({"storage": storage(url), "telemetry": {"enabled": False}}))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "DAGSTER"))}
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(tmp_path / "market"), str(EPOCHS)],
            env={**kept, "DAGSTER_HOME": str(home), "ATFT_PG_PATIENCE": "900"}, cwd=REPOSITORY,
            stdout=log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            with dg.instance_for_test(overrides={"storage": storage(url)}) as instance:
                until(lambda: "made" in log.read_text(), "the market", process=process, log=log)
                until(lambda: epochs(instance), "the first epoch", process=process, log=log)
                cluster.run("stop")
                time.sleep(AWAY_SECONDS)
                assert process.poll() is None, log.read_text()[-3000:]
                cluster.run("start")
                before = len(epochs(instance))
                assert before < EPOCHS, "the training was over before the outage; more epochs are needed"
                assert process.wait(3 * PATIENCE) == 0, log.read_text()[-3000:]
                (run,) = instance.get_runs()
                assert run.status is dg.DagsterRunStatus.SUCCESS
                assert len(set(epochs(instance))) == EPOCHS
                assert "waiting for it up to 900 s" in log.read_text()
        finally:
            process.kill()
            process.wait()
