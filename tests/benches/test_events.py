"""The bench of events: it measures what it says, on every storage that is here."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.benches.events import ASSET, measured, missing, opened, storages, table

REPOSITORY = Path(__file__).parents[2]


def test_every_event_is_stored_and_the_storages_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")  # given back afterwards
    with opened(tmp_path / "a", storages(None)["SQLite"]) as stored, dg.DagsterInstance.ephemeral() as in_memory:
        found = measured({"SQLite": stored, "memory": in_memory}, rounds=2, events=3)
        assert {name: len(values) for name, values in found.items()} == {"SQLite": 2, "memory": 2}
        assert all(value > 0 for values in found.values() for value in values)
        for instance in (stored, in_memory):
            assert len(instance.fetch_observations(dg.AssetKey(ASSET), limit=50).records) == 2 + 2 * 3


def test_the_table_holds_each_storage_against_the_first() -> None:
    head, first, second = table({"SQLite": [60.0, 50.0, 70.0], "other": [15.0, 20.0, 10.0]})
    assert head.split()[-1] == "ratio"
    assert first.split() == ["SQLite", "60.0", "50.0", "70.0", "1.00"]
    assert second.split() == ["other", "15.0", "10.0", "20.0", "0.25"]


@pytest.mark.deploy
@pytest.mark.slow
def test_the_command_measures_five_storages() -> None:
    if why := missing():
        pytest.skip(why)
    command = [sys.executable, "-m", "atft_assets.benches.events", "--rounds", "1", "--events", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line[:30].strip() for line in done.stdout.splitlines()[1:]] == [
        "SQLite",
        "PostgreSQL as shipped, socket",
        "PostgreSQL, our class, socket",
        "PostgreSQL as shipped, TCP",
        "PostgreSQL, our class, TCP",
    ]
