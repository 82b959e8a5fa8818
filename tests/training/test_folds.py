"""Folds: cut from the newest panel's days, judged there, written as files; a further one is a further line."""

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atft_assets.settings import Plan, Settings
from atft_assets.training import definitions
from atft_assets.training.folds import FoldRow, cut_rows, fold_on, fold_rows, folds_asset, other_folds
from atft_assets.training.runs import latest_run, panels_in_use, prune_panels
from atft_model.interchange.errors import FoldError
from atft_model.interchange.fold import cut, read_fold
from atft_model.interchange.panel import open_panel, point_latest
from tests.training.small_market import FOLDS, PREVIOUS_END, World

HERE = Path(__file__).parent
SETTINGS = Settings(base_url=None, plan=Plan.STANDARD, data_root="data", start=date(2022, 1, 4), end=date(2024, 12, 30))


def materialize(world: World, rows=FOLDS, **config):
    return dg.materialize(
        [folds_asset(rows), dg.AssetSpec("training_panel")],
        selection=["folds"],
        resources={"store": world.store},
        run_config={"ops": {"folds": {"config": config}}},
        raise_on_error=False,
    )


def failure(result) -> str:
    return next(e for e in result.all_node_events if e.is_step_failure).step_failure_data.user_failure_data.description


def test_rows_are_cut_from_the_days_of_the_panel(world: World) -> None:
    panel = world.newest()
    shutil.rmtree(world.root / "fold")
    result = materialize(world)
    assert result.success
    (verdict,) = result.get_asset_check_evaluations()
    assert verdict.passed and verdict.check_name == "contract" and verdict.blocking
    main, previous = (fold_on(world.store, panel, name) for name in ("main", "previous"))
    assert main == cut(panel.dates, least_validation_days=FOLDS[0].least_validation_days)
    assert previous.test[1] == main.validation[1] and previous.train[0] == main.train[0]  # an earlier period
    assert previous == cut([day for day in panel.dates if day <= main.validation[1]], "previous")
    metadata = result.asset_materializations_for_node("folds")[0].metadata
    records = [record.data for record in metadata["folds"].records]
    assert [record["fold"] for record in records] == ["main", "previous"]
    assert records[0]["test"] == f"{main.test[0]} to {main.test[1]}" and records[0]["days between"] == "20 + 20"
    assert metadata["panel_id"].value == panel.panel_id


def test_the_knobs_are_those_of_main(world: World) -> None:
    panel = world.newest()
    start, test = panel.dates[180], panel.dates[260]
    result = materialize(
        world, validation_start=str(start), test_start=str(test), purge_days=21, embargo_days=2, keep=7
    )
    assert result.success
    main = fold_on(world.store, panel, "main")
    assert (main.validation[0], main.test[0], main.purge_days, main.embargo_days) == (start, test, 21, 2)
    previous = fold_on(world.store, panel, "previous")
    assert previous.test[1] == PREVIOUS_END and previous.purge_days == 20  # other folds are as they were
    assert "the config `test_start` is 'soon': use YYYY-MM-DD" in failure(materialize(world, test_start="soon"))
    assert "trading days apart; the longest label needs more than 20" in failure(
        materialize(world, purge_days=0, embargo_days=5)
    )


def test_a_row_whose_days_do_not_suffice_is_left_out(world: World) -> None:
    panel = world.newest()
    rows = (*FOLDS, FoldRow("early", end=date(2019, 5, 31)), FoldRow("late", end=date(2020, 12, 31)))
    result = materialize(world, rows)
    assert result.success
    metadata = result.asset_materializations_for_node("folds")[0].metadata
    assert "leave 0 for the train block of fold early" in metadata["left out: early"].value
    short = "the test block of fold late ends on 2020-12-30, the days at hand on 2020-06-30"
    assert short in metadata["left out: late"].value
    with pytest.raises(FoldError, match=r"fold early was left out when .* were cut: .* leave 0 for the train block"):
        fold_on(world.store, panel, "early")
    with pytest.raises(FoldError, match=r"fold other has not been cut on the newest panel, .* --select folds"):
        fold_on(world.store, panel, "other")
    assert materialize(world, rows[:1]).success  # a row that is gone leaves no file
    assert [path.name for path in (world.root / "fold" / panel.panel_id).iterdir()] == ["main.json"]


def test_main_must_be_possible(world: World) -> None:
    before = world.newest()
    panel = world.panel(start=str(world.days[-60])).panel
    point_latest(world.store.local("panel"), panel.panel_id)
    said = failure(materialize(world))
    assert said.startswith("folds cannot be built: 60 trading days") and "for the train block of fold main" in said
    assert f"panel {panel.panel_id} begins on {panel.dates[0]}: its config, start and warm_up_days, decides" in said
    assert not (world.root / "fold" / panel.panel_id).exists()
    assert fold_on(world.store, before, "main")


def test_a_feature_that_knows_tomorrow_is_refused(world: World) -> None:
    labels = world.store.table("features", "labels").read(columns=["date", "code", "y_cc_1d"])
    features = world.store.table("features", "all_features").read().drop("noise")
    leaky = features.join(labels.rename({"y_cc_1d": "noise"}), on=["date", "code"])
    world.publish("features", "all_features", leaky)
    panel = world.panel().panel
    point_latest(world.store.local("panel"), panel.panel_id)
    result = materialize(world)
    (verdict,) = result.get_asset_check_evaluations()
    assert not verdict.passed and verdict.metadata["partition"].value == "main"
    (row,) = [record.data for record in verdict.metadata["failures"].records]
    assert row["column"] == "noise" and "has seen the future" in row["rule"] and "+1.0" in row["sample"]
    assert "Nothing was published, the folds are as they were" in failure(result)
    assert not (world.root / "fold" / panel.panel_id).exists()


@pytest.mark.parametrize("block", ["train", "validation"])
def test_labels_must_be_known_where_they_are_learned_from_and_chosen_by(world: World, block: str) -> None:
    first, last = world.fold().span(block)
    labels = world.store.table("features", "labels").read()
    blank = pl.when(pl.col("date").is_between(first, last)).then(None).otherwise(pl.col("y_oo_10d"))
    world.publish("features", "labels", labels.with_columns(y_oo_10d=blank))
    point_latest(world.store.local("panel"), world.panel().panel.panel_id)
    result = materialize(world)
    (verdict,) = result.get_asset_check_evaluations()
    said = f"y_oo_10d: known for 80% of the valid rows of the {block} block"
    assert not verdict.passed and said in verdict.description


def test_another_fold_that_fails_its_contract_is_left_out(world: World) -> None:
    rows = (FoldRow("main"), FOLDS[1])  # a short validation block of main lies after that of the other fold
    main, previous = (cut_rows(world.newest().dates, rows).folds[row.name] for row in rows)
    labels = world.store.table("features", "labels").read()
    days = previous.places(world.newest().dates, "validation")
    first, last = (world.newest().dates[t] for t in (days.start, days.start + len(days) // 3))
    assert last < main.train[1]  # to main's long training block it hardly matters
    blank = pl.when(pl.col("date").is_between(first, last)).then(None).otherwise(pl.col("y_cc_1d"))
    world.publish("features", "labels", labels.with_columns(y_cc_1d=blank))
    panel = world.panel().panel
    point_latest(world.store.local("panel"), panel.panel_id)
    result = materialize(world, rows)
    assert result.success, failure(result)
    metadata = result.asset_materializations_for_node("folds")[0].metadata
    why = metadata["left out: previous"].value
    assert "y_cc_1d: known for 80% of the valid rows of the validation block" in why
    with pytest.raises(FoldError):
        fold_on(world.store, panel, "previous")


@pytest.mark.parametrize("names", [("main", "a", "a"), ("a",), ()])
def test_names_of_folds(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        other_folds([FoldRow(name) for name in names])
    with pytest.raises(ValueError, match="cannot be called"):
        FoldRow("a/b")


def test_days_of_every_row_lie_in_order() -> None:
    from atft_assets.calendar import trading_days

    days = trading_days(date(2015, 1, 5), date(2024, 12, 30))
    settings = SETTINGS.model_copy(update={"start": days[0], "end": days[-1]})
    found = cut_rows(days, fold_rows(settings))
    assert list(found.folds) == ["main", *map(str, range(2017, 2025))]
    assert not found.left_out
    for fold in found.folds.values():
        fold.check(days, (1, 5, 10, 20))


def test_pruning_keeps_the_newest_and_those_in_use(world: World) -> None:
    panels, runs = world.store.local("panel"), world.store.local("runs")
    ids = [world.newest().panel_id, *(world.panel(warm_up_days=5 + i).panel.panel_id for i in range(1, 6))]
    started = runs / "previous" / "phase0" / "x"
    started.mkdir(parents=True)
    (started / "request.json").write_text(f'{{"panel": "{panels / ids[1]}"}}')
    done = runs / "main" / "baselines" / "y"
    done.mkdir(parents=True)
    (done / "run.json").write_text(f'{{"panel_id": "{ids[2]}"}}')
    assert panels_in_use(runs) == {ids[1], ids[2]}
    assert prune_panels(panels, runs, ids[0], keep=2) == [ids[3]]
    for panel_id in (*ids[:3], *ids[4:]):
        assert open_panel(panels / panel_id).panel_id == panel_id


def test_the_asset_prunes_panels_with_their_folds(world: World) -> None:
    first = world.newest().panel_id
    for i in range(1, 4):
        world.cut(world.panel(warm_up_days=5 + i).panel)
    assert materialize(world, keep=2).success
    assert not (world.root / "panel" / first).exists() and not (world.root / "fold" / first).exists()
    assert fold_on(world.store, world.newest(), "main")
    assert len(list((world.root / "panel").glob("*/panel.json"))) == 2


def test_other_folds_are_partitions_of_assets_of_their_own(world: World) -> None:
    main = definitions(world.settings, folds=FOLDS[:1])
    names = {key.to_user_string() for asset in main.assets for key in asset.keys}
    assert not any(name.startswith("fold_") for name in names)
    three = (*FOLDS, FoldRow("older", end=date(2019, 12, 30)))
    assets = {asset.key.to_user_string(): asset for asset in definitions(world.settings, folds=three).assets}
    of_folds = {name for name in assets if name.startswith("fold_")}
    assert of_folds == {*(f"fold_phase{k}" for k in range(4)), "fold_baselines", "fold_evaluation", "fold_scores"}
    for name in of_folds:
        assert assets[name].partitions_def.get_partition_keys() == ["previous", "older"]
        assert assets[name].backfill_policy == dg.BackfillPolicy.multi_run(1)
    for name in ("folds", "train_phase2", "baselines", "evaluation", "test_evaluation", "walk_forward"):
        assert assets[name].partitions_def is None
    parents = {key.to_user_string() for key in assets["fold_phase2"].dependency_keys}
    assert parents == {"training_panel", "folds", "fold_phase1"}


DEFINITIONS = """
import os
from datetime import date
import dagster as dg
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from atft_assets.training import definitions
from atft_assets.training.folds import FoldRow
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.phases import phase_asset
from atft_assets.training.folds import folds_asset, other_folds
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.evaluation import evaluation_asset
from atft_model.interchange.phases import PHASES
from tests.training.small_market import END, FOLDS, START, catalogue

FOLDS = (*FOLDS, FoldRow("late", end=date(2020, 6, 3)))

root = os.environ["ATFT_DATA"]
settings = Settings(base_url="http://127.0.0.1:9/v2", plan=Plan.STANDARD, data_root=root, start=START, end=END)
lane = other_folds(FOLDS)
phases = [phase_asset(phase, settings, lambda name: catalogue(name)[1], lane) for phase in PHASES]
defs = dg.Definitions(
    [folds_asset(FOLDS), *phases, baselines_asset(settings, lane), evaluation_asset(settings, lane)],
    resources={"store": Store(root=root), "launcher": LocalLauncher(module="fake_trainer", threads=1)},
    executor=dg.in_process_executor,
)
"""


def test_a_third_fold_is_one_line(world: World, tmp_path: Path) -> None:
    """From the row to a judged network, by Dagster's own command line."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "three_folds.py").write_text(DEFINITIONS)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "ATFT_DATA": str(world.root),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE), str(HERE.parents[1])]),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "three_folds", "--select", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=560, check=False)

    refused = run("fold_phase0", "--partition", "late")
    assert refused.returncode != 0 and "fold late has not been cut" in refused.stderr, refused.stderr[-3000:]
    assert run("folds").returncode == 0
    fold = read_fold(world.root / "fold" / world.newest().panel_id / "late.json")
    assert fold.test[1] == date(2020, 6, 3)
    done = run("fold_phase0,fold_phase1,fold_evaluation", "--partition", "late")
    assert done.returncode == 0, done.stderr[-3000:]
    run0, run1 = (latest_run(world.runs(phase, "late")) for phase in (0, 1))
    assert run0.record.fold == run1.record.fold == fold and run1.record.parent.run_id == run0.run_id
    assert (world.root / "evaluation" / "late" / "validation.json").exists()
    assert not (world.root / "runs" / "main").exists() and (world.root / "runs" / ".cpu.lock").exists()
    # verdicts are those of the partition: the parent of another fold is not there
    refused = run("fold_phase1", "--partition", "previous")
    assert (
        "has no finished run under" in refused.stderr and "--select fold_phase0 --partition previous" in refused.stderr
    )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("fold_phase1")) == {"late"}


def test_checks_are_looked_up_by_partition(world: World) -> None:
    """A failed verdict on one fold stops what stands on it, and nothing of another fold."""
    from atft_assets.training.preflight import latest_evaluation

    def verdict(passed: bool, fold: str) -> dg.AssetCheckEvaluation:
        metadata = {"partition": dg.MetadataValue.text(fold)}
        return dg.AssetCheckEvaluation(dg.AssetKey("fold_phase0"), "gradient_flow", passed, metadata)

    with dg.instance_for_test() as instance:
        for passed, fold in ((False, "previous"), (True, "late")):
            instance.report_runless_asset_event(verdict(passed, fold))
        found = {
            fold: latest_evaluation(instance, "fold_phase0", "gradient_flow", fold)
            for fold in ("previous", "late", "older")
        }
    assert not found["previous"].passed and found["late"].passed and found["older"] is None
