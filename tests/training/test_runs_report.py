"""The report of runs from real run directories."""

from pathlib import Path

import dagster as dg
import pytest

from atft_assets.training.lanes import MAIN_LANE
from atft_assets.training.runs_report import NAME, run_lines, runs_report_asset
from atft_model.interchange.phases import PHASES
from tests.training.small_market import World
from tests.training.test_phases import failure, train

pytestmark = pytest.mark.usefixtures("trainer_on_path")


def report(world: World, instance, **config):
    upstream = [dg.AssetSpec(name) for name in (*(MAIN_LANE.phase(phase) for phase in PHASES), "evaluation")]
    return dg.materialize(
        [*upstream, runs_report_asset([MAIN_LANE])],
        selection=[NAME],
        resources={"store": world.store},
        run_config={"ops": {NAME: {"config": config}}},
        instance=instance,
        raise_on_error=False,
    )


def test_every_run_is_in_the_report(world: World, instance) -> None:
    assert train(world, instance, "train_phase0").success
    assert train(world, instance, "train_phase0", seed=1).success
    runs = sorted(path for path in world.runs(0).iterdir() if path.is_dir())
    torn = world.runs(0) / "20260101T000000-torn"
    torn.mkdir()
    (torn / "run.json").write_text("{")
    result = report(world, instance)
    assert result.success
    shown = result.asset_materializations_for_node(NAME)[0].metadata
    assert shown["runs"].value == 3 and shown["runs_finished"].value == 2
    page = Path(shown["page"].value)
    assert page == world.root / "reports" / "runs.html"
    text = page.read_text()
    assert all(run.name in text for run in runs) and "unreadable" in text and text.count("★ ") == 1
    assert text.index("Overlaid") < text.index("data:image/png;base64,")
    published = [line.run_id for line in run_lines(world.root / "runs") if line.published]
    assert published == [runs[-1].name]
    assert {line.settings.get("seed") for line in run_lines(world.root / "runs")} == {0, 1, None}


def test_two_runs_are_chosen_by_a_person(world: World, instance) -> None:
    assert report(world, instance).success  # nothing trained yet: an empty page, no failure
    said = failure(report(world, instance, overlay=["20260101T000000-none"]))
    assert said.startswith("runs_report cannot be made: there is no finished run 20260101T000000-none")
