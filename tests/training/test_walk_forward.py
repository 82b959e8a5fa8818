"""The walk-forward from folds to one board: real Dagster runs with the small trainer, and the arithmetic by hand."""

import json
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from atft_assets.operations.going import Going
from atft_assets.operations.run_folders import DataRoot, kept_runs, pointed, remove
from atft_assets.reports import walk_forward as walk_forward_report
from atft_assets.reports.scoreboard import Row
from atft_assets.reports.spark import INLINE_LIMIT
from atft_assets.scoring.block import Block
from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.store import Store
from atft_assets.store.damage import Lost
from atft_assets.tools.rebuilding import commands
from atft_assets.trading.boards import walk_forward
from atft_assets.training import profiling
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.complete_folds import gather
from atft_assets.training.evaluation import evaluation_asset
from atft_assets.training.evaluation import test_evaluation_asset as make_test_evaluation
from atft_assets.training.fold_scores import INDEX, fold_scores_asset, scored_fold
from atft_assets.training.folds import FoldRow, fold_on, other_folds
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.looks import ledger, record_looks
from atft_assets.training.mending import figure_damages, run_damages
from atft_assets.training.runs import latest_run, scores_of
from atft_assets.training.seeds import averaged, latest_ensemble, members, members_file
from atft_assets.training.stitching import Part, audit, gaps, stitched_block
from atft_assets.training.walk_forward import among_most_traded, gain_verdict, walk_forward_asset
from atft_assets.trials.ledger import count
from atft_model.interchange.errors import RunError
from atft_model.interchange.fold import MAIN, write_fold
from atft_model.interchange.horizons import horizon_weights
from atft_model.interchange.panel import latest_panel
from atft_model.interchange.run import read_record, write_record
from tests.training.small_market import World
from tests.training.test_phases import failure

pytestmark = pytest.mark.usefixtures("trainer_on_path")

# Three blocks end to end; the last shares days with the test block of main, which makes it final
ROWS = (
    FoldRow(MAIN),
    FoldRow("winter", test_start=date(2019, 12, 2), end=date(2020, 1, 31), validation_days=25),
    FoldRow("spring", test_start=date(2020, 2, 1), end=date(2020, 3, 31), validation_days=25),
    FoldRow("summer", test_start=date(2020, 4, 1), end=date(2020, 6, 30), validation_days=25),
)
LANE = other_folds(ROWS)
FAST = {"trees": 10, "settings": 1, "threads": 1}
TRAINED = ("fold_baselines", "fold_phase0", "fold_phase1", "fold_scores")


@dataclass
class Walk:
    """A market with the folds cut, and Dagster's memory of what was done with it."""

    world: World
    instance: dg.DagsterInstance

    def assets(self) -> list:
        return [
            *self.world.phase_assets(LANE),
            *self.world.phase_assets(),
            baselines_asset(self.world.settings, LANE),
            evaluation_asset(self.world.settings, LANE),
            fold_scores_asset(LANE),
            make_test_evaluation(self.world.settings),
            walk_forward_asset(self.world.settings, LANE, ROWS),
            dg.AssetSpec("training_panel"),
            dg.AssetSpec("folds"),
            dg.AssetSpec("baselines"),
            dg.AssetSpec("evaluation"),
        ]

    def run(self, *names: str, fold: str | None = None, **config):
        """Materialize some assets, of a fold or of none."""
        ops = {name: {"config": {"allow_ephemeral_instance": True}} for name in names if "_phase" in name}
        if "fold_baselines" in names:
            ops["fold_baselines"] = {"config": FAST}
        for name, given in config.items():
            ops[name] = {"config": {**ops.get(name, {}).get("config", {}), **given}}
        return dg.materialize(
            self.assets(),
            selection=list(names),
            resources={"store": self.world.store, "launcher": LocalLauncher(module="fake_trainer", threads=1)},
            run_config={"ops": ops},
            partition_key=fold,
            instance=self.instance,
            raise_on_error=False,
        )

    def board(self, which: str = "development") -> dict:
        return json.loads((self.world.root / "evaluation" / "walk_forward" / f"{which}.json").read_text())

    def stitched(self, name: str, which: str = "development") -> pl.DataFrame:
        return scores_of(self.world.root / "evaluation" / "walk_forward" / "scores" / f"{which}-{name}.parquet")

    def copy(self, root: Path) -> "Walk":
        """The same market in another folder, to be broken."""
        shutil.copytree(self.world.root, root)
        settings = self.world.settings.model_copy(update={"data_root": str(root)})
        world = replace(self.world, root=root, store=Store(root=str(root)), settings=settings)
        return Walk(world, self.instance)


def _trainers() -> str:
    """Where a process finds the small trainer, as `trainer_on_path` says for one test."""
    here = Path(__file__).parent
    return os.pathsep.join([str(here), str(here.parents[1])])


@pytest.fixture(scope="module")
def walked(_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """Winter with two seeds, spring with one: trained, scored, and put together."""
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setenv("PYTHONPATH", _trainers())
        walk = Walk(_world, instance).copy(tmp_path_factory.mktemp("walk") / "data")
        walk.world.cut(walk.world.newest(), ROWS)
        result = walk.run(*TRAINED, fold="winter", fold_phase0={"seeds": [0, 7]})
        assert result.success, failure(result)
        result = walk.run(*TRAINED, "fold_evaluation", fold="spring")
        assert result.success, failure(result)
        result = walk.run("walk_forward")
        assert result.success, failure(result)
        yield walk


@pytest.fixture
def walk(walked: Walk, tmp_path: Path) -> Walk:
    """A copy of what was walked."""
    return walked.copy(tmp_path / "data")


@pytest.fixture(scope="module")
def _whole(walked: Walk, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    whole = walked.copy(tmp_path_factory.mktemp("whole") / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", _trainers())
        result = whole.run(*TRAINED, fold="summer")
    assert result.success, failure(result)
    return whole


@pytest.fixture
def whole(_whole: Walk, tmp_path: Path) -> Walk:
    """A copy of what was walked, with the last fold trained as well."""
    return _whole.copy(tmp_path / "whole")


def test_two_folds_become_one_record(walked: Walk) -> None:
    world, board = walked.world, walked.board()
    panel = world.newest()
    winter, spring = (fold_on(world.store, panel, name) for name in ("winter", "spring"))
    assert [part["fold"] for part in board["folds"]] == ["winter", "spring"]
    assert (board["first"], board["last"]) == (str(winter.test[0]), str(spring.test[1]))
    days = [day for day in panel.dates if winter.test[0] <= day <= spring.test[1]]
    assert board["days"] == len(days) and board["rows_left_out"] == 0 and board["gaps"] == []
    names = [row["name"] for row in board["rows"]]
    assert names[:2] == ["fold_phase0", "fold_phase1"] and names[-1] == "blend" and len(names) > 3
    assert set(board["rows"][-1]["against"]) == {"fold_phase1", "lightgbm"}
    assert {row["coverage"] for row in board["rows"]} == {1.0}  # the same rows for every name
    assert "no phase has a finished run on the days of the fold summer" in board["missing"]["summer"]
    # folds of one recipe are one trial; and who promotes reads this board
    assert count(world.root).by_study == {"trainings": 2, "baselines": len(names) - 3, "blends": 1}
    judged = walk_forward(world.root)
    assert judged and set(judged.rows) == {"phase0", "phase1", "lightgbm", "blend"}
    assert set(judged.in_folds(judged.rows["blend"].dates)) == {"winter", "spring"}
    for name in names:
        frame = walked.stitched(name)
        assert frame.columns == ["date", "code", "score_1d", "score_5d", "score_10d", "score_20d", "fold"]
        assert frame.select("date", "code").is_duplicated().sum() == 0
        assert frame.height == panel.valid[panel.dates.index(days[0]) : panel.dates.index(days[-1]) + 1].sum()
        spans = {fold: part["date"] for (fold,), part in frame.partition_by("fold", as_dict=True).items()}
        assert {fold: (days.min(), days.max()) for fold, days in spans.items()} == {
            "winter": winter.test,
            "spring": spring.test,
        }
    materialized = walked.instance.get_latest_materialization_event(dg.AssetKey("walk_forward"))
    metadata = materialized.asset_materialization.metadata
    assert list(metadata)[:4] == ["outcome", "curve", "table", "by_fold"] and "summer" in metadata["missing"].value
    assert metadata["curve"].value.startswith("![curve](data:image/svg+xml;base64,")
    assert len(metadata["curve"].value) < INLINE_LIMIT
    assert f"on the {len(days)} test days of 2 folds (winter, spring)" in metadata["outcome"].value
    page = world.root / "reports" / "evaluation-walk_forward.html"
    assert metadata["page"].value == str(page) and "stitched test block" in page.read_text()
    assert [record.data[""].split()[0] for record in metadata["rankings"].records] == names


def test_the_stitched_figure_is_that_of_the_pooled_days(walked: Walk) -> None:
    """By hand: each fold judged on its own, the daily series put end to end, and their mean taken."""
    panel = walked.world.newest()
    for row in walked.board()["rows"]:
        daily = []
        for name in ("winter", "spring"):
            block = Block.of(panel, fold_on(walked.world.store, panel, name), "test")
            frame = walked.stitched(row["name"]).filter(pl.col("fold") == name)
            daily.append(block.score(frame).daily)
            known = daily[-1][np.isfinite(daily[-1])]
            assert walked.board()["by_fold"][row["name"]][name] == pytest.approx(known.mean(), abs=1e-9)
        pooled = np.concatenate(daily)
        if row["name"] == "momentum_12_1":
            continue  # the first fold lies in the first year, of which it knows nothing
        assert np.isfinite(pooled).all(), row["name"]  # the labels of these days are all known
        assert row["rank_ic"] == pytest.approx(pooled.mean(), abs=1e-9)
        months = walked.board()["by_month"][row["name"]]
        assert list(months) == ["2019-12", "2020-01", "2020-02", "2020-03"]
        tested = [f"{day:%Y-%m}" for day in panel.dates if "2019-12" <= f"{day:%Y-%m}" <= "2020-03"]
        first = pooled[: tested.count("2019-12")]
        assert months["2019-12"] == pytest.approx(first.mean(), abs=1e-9)
        counts = [tested.count(month) for month in months]
        assert np.dot(counts, list(months.values())) == pytest.approx(pooled.sum(), abs=1e-9)


def test_the_most_traded_are_judged_among_themselves(walked: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 15 names of 40, by the year before; of 2019 there is none, so nobody is judged in its days."""
    assert walked.board()["most_traded"] is None  # 40 names are all among a thousand
    monkeypatch.setattr(profiling, "MOST_TRADED", 15)
    world, name = walked.world, "fold_phase1"
    panel = world.newest()
    parts = gather(world.store, LANE, ROWS).parts
    parts = [part for part in parts if not part.final]
    frames = {name: walked.stitched(name).drop("fold")}
    block = stitched_block(panel, parts, frames)
    row = Row(name, "phase", block.score(frames[name]), scores=frames[name])
    board = among_most_traded(block, [row], profiling.members_of(world.store, block))
    ranks = world.store.table("features", "universe").read().select("date", "code", "liquidity_rank")
    held = frames[name].join(ranks.filter(pl.col("liquidity_rank") <= 15), on=["date", "code"])
    assert held["date"].min() == date(2020, 1, 6) and held.group_by("date").len()["len"].max() <= 15
    returns = panel.y[:, block.rows]
    daily = []
    for (day,), rows in held.group_by("date", maintain_order=True):
        d = panel.dates.index(day) - block.days.start
        places = [panel.codes.index(code) for code in rows["code"]]
        later = returns[:, d, places]
        known = np.isfinite(later)
        scores = [rows[f"score_{h}d"].to_numpy() for h in panel.horizons]
        daily.append([spearmanr(scores[i][ok], later[i, ok]).statistic for i, ok in enumerate(known)])
    weights = horizon_weights(panel.horizons)
    assert board["rows"][0]["rank_ic"] == pytest.approx(float(np.mean(daily, axis=0) @ weights), abs=1e-6)
    shown = walk_forward_report.shown({**walked.board(), "most_traded": board})
    assert "table_most_traded" in shown and "among the most traded names" in shown["outcome"]


def test_a_fold_of_several_seeds_is_the_mean_of_their_ranks(walked: Walk) -> None:
    folder = walked.world.runs(0, "winter")
    ensemble = latest_ensemble(folder)
    assert ensemble.seeds == (0, 7) and latest_run(folder).run_id == ensemble.run_ids[-1]
    assert [run.record.seed for run in ensemble.runs] == [0, 7]
    children = latest_ensemble(walked.world.runs(1, "winter"))  # which inherit the seeds, each its own parent
    assert [run.record.parent.run_id for run in children.runs] == list(ensemble.run_ids)
    scores = walked.world.root / "evaluation" / "winter" / "scores"
    single = [scores_of(scores / f"fold_phase1-{run_id}-test.parquet") for run_id in children.run_ids]
    expected = []
    for frame in single:
        for _, day in frame.group_by("date"):
            values = gaussian_ranks(day.select("score_5d").to_numpy())[:, 0]
            expected.append(day.select("date", "code").with_columns(rank=pl.Series(values)))
    mean = pl.concat(expected).group_by("date", "code").agg(pl.col("rank").mean()).sort("date", "code")
    ours = walked.stitched("fold_phase1").filter(pl.col("fold") == "winter").sort("date", "code")
    np.testing.assert_allclose(ours["score_5d"].to_numpy(), mean["rank"].to_numpy(), atol=1e-6)


def test_the_mean_of_ranks_ignores_the_scale_of_a_seed() -> None:
    rng = np.random.default_rng(0)
    day = pl.DataFrame({"date": [date(2020, 1, 6)] * 50, "code": [f"{n:04}0" for n in range(50)]})
    one, other = (day.with_columns(score_1d=pl.Series(rng.normal(size=50), dtype=pl.Float32)) for _ in range(2))
    wide = other.with_columns(pl.col("score_1d") * 1000 + 5)
    assert averaged([one, other]).equals(averaged([one, wide]))
    assert averaged([one]).equals(one)


def test_every_look_stands_in_the_ledger(walk: Walk) -> None:
    entries = ledger(walk.world.root / "evaluation")
    assert [(one["fold"], one["kind"], one["again"]) for one in entries] == [
        ("winter", "development", False),
        ("spring", "development", False),
    ]
    assert walk.run("walk_forward").success  # development folds may be judged again
    assert walk.board()["scorings"] == {"winter": 2, "spring": 2}
    assert [one["again"] for one in ledger(walk.world.root / "evaluation")[2:]] == [True, True]


def test_final_folds_are_opened_once(whole: Walk) -> None:
    walk = whole
    assert walk.run("walk_forward").success
    assert walk.board()["closed"] == ["summer"] and "summer" not in walk.board()["by_fold"]["fold_phase1"]
    assert not (walk.world.root / "evaluation" / "walk_forward" / "final.json").exists()
    assert walk.run("walk_forward", walk_forward={"open_final": True}).success
    assert [part["fold"] for part in walk.board("final")["folds"]] == ["winter", "spring", "summer"]
    assert set(walk.stitched("fold_phase1", "final")["fold"]) == {"winter", "spring", "summer"}
    again = walk.run("walk_forward", walk_forward={"open_final": True})
    assert "days of the final fold summer were scored on" in failure(again)
    # the test block of main shares its days: it was looked at as well
    assert walk.run("train_phase0").success
    said = failure(walk.run("test_evaluation", test_evaluation={"open_test": True}))
    assert "a second look would make it a validation block" in said
    assert walk.run("walk_forward", walk_forward={"score_again": True}).success
    entries = ledger(walk.world.root / "evaluation")
    assert [one["again"] for one in entries if one["fold"] == "summer"] == [False, True]
    assert walk.run("walk_forward").success  # and what was opened is kept
    assert walk.board("final")["scorings"]["summer"] == 2


def test_one_process_scores_a_fold_by_all_phases_and_seeds(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster it is one job, which takes longer to begin than to score."""
    asked, predict = [], LocalLauncher.predict
    monkeypatch.setattr(LocalLauncher, "predict", lambda *given: (asked.append(given[-1]), predict(*given))[1])
    assert walk.run("fold_scores", fold="winter").success
    (request,) = asked
    assert sorted(one.out.name for one in request.scorings) == sorted(
        f"fold_phase{index}-{run_id}-test.parquet"
        for index in (0, 1)
        for run_id in latest_ensemble(walk.world.runs(index, "winter")).run_ids
    )
    assert len(request.scorings) == 4


def test_a_rerun_of_one_fold_replaces_only_its_scores(walk: Walk) -> None:
    before = walk.stitched("fold_phase1")
    runs = {name: walk.world.runs(1, name) for name in ("winter", "spring")}
    kept = {name: latest_run(folder).run_id for name, folder in runs.items()}
    assert walk.run("fold_phase1", fold="spring", fold_phase1={"seed": 3}).success
    assert latest_run(runs["winter"]).run_id == kept["winter"]
    assert latest_run(runs["spring"]).run_id != kept["spring"]
    # scored by a network that is no longer the newest: the fold is missing until it is scored again
    assert walk.run("walk_forward").success
    assert "fold_phase1 was trained anew since its test block was scored" in walk.board()["missing"]["spring"]
    assert walk.run("fold_scores", fold="spring").success
    assert walk.run("walk_forward").success
    ids = {part["fold"]: part["runs"]["fold_phase1"] for part in walk.board()["folds"]}
    assert ids["spring"] == [latest_run(runs["spring"]).run_id]
    winter = pl.col("fold") == "winter"
    assert walk.stitched("fold_phase1").filter(winter).equals(before.filter(winter))
    files = sorted(path.name for path in (walk.world.root / "evaluation" / "spring" / "scores").glob("*.parquet"))
    assert len(files) == 2 and any(ids["spring"][0] in name for name in files)  # the old one is gone


def test_a_failed_fold_leaves_the_others(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scored_fold(walk.world.root / "evaluation" / "winter")
    monkeypatch.setenv("FAKE_TRAINER", "starved")
    result = walk.run("fold_phase0", "fold_scores", fold="summer")
    assert "no gradient reaches lstm" in failure(result)
    monkeypatch.setenv("FAKE_TRAINER", "")
    assert walk.run("walk_forward").success
    assert [part["fold"] for part in walk.board()["folds"]] == ["winter", "spring"]
    assert "no phase has a finished run on the days of the fold summer" in walk.board()["missing"]["summer"]
    assert scored_fold(walk.world.root / "evaluation" / "winter") == before


def test_a_gap_is_refused_unless_allowed(whole: Walk) -> None:
    walk = whole
    (walk.world.root / "evaluation" / "spring" / INDEX).unlink()
    opened = {"open_final": True}
    said = failure(walk.run("walk_forward", walk_forward=opened))
    assert "no fold tests 2020-02-03 to 2020-03-31 (39 trading days, between winter and summer)" in said
    assert "spring: its test block was not scored; run: dagster asset materialize --select fold_scores" in said
    assert "allow_gaps: true" in said
    assert walk.run("walk_forward", walk_forward={**opened, "allow_gaps": True}).success
    board = walk.board("final")
    folds = [fold_on(walk.world.store, walk.world.newest(), name) for name in ("winter", "summer")]
    tested = sum(len(fold.places(walk.world.newest().dates, "test")) for fold in folds)
    assert len(board["gaps"]) == 1
    assert tested - 25 < board["days"] <= tested  # the labels of the panel's last days are not all known


def test_nothing_to_judge_says_why(whole: Walk) -> None:
    walk = whole
    for name in ("winter", "spring"):
        (walk.world.root / "evaluation" / name / INDEX).unlink()
    said = failure(walk.run("walk_forward"))
    only = "only final folds could be judged (summer); run walk_forward with the config open_final: true"
    assert said.startswith(f"walk_forward cannot start: {only}") and "winter: its test block was not scored" in said
    (walk.world.root / "evaluation" / "summer" / INDEX).unlink()
    said = failure(walk.run("walk_forward"))
    assert said.startswith("walk_forward cannot start: no fold is complete; winter: its test block was not scored")


def test_a_planted_overlap_is_refused(walk: Walk) -> None:
    """The file of a fold, its runs and its scores are made to say that its test block begins earlier."""
    panel = latest_panel(walk.world.store.local("panel"))
    spring = fold_on(walk.world.store, panel, "spring")
    early = replace(spring, test=(date(2020, 1, 20), spring.test[1]))
    write_fold(walk.world.root / "fold" / panel.panel_id / "spring.json", early)
    for phase in (0, 1):
        run = latest_run(walk.world.runs(phase, "spring")).folder
        write_record(run, replace(read_record(run), fold=early))
    for path in (
        *walk.world.root.glob("evaluation/spring/*.json"),
        *walk.world.root.glob("runs/spring/baselines/*/run.json"),
    ):
        document = json.loads(path.read_text())
        if isinstance(document["fold"], dict):
            document["fold"]["test"][0] = "2020-01-20"
            path.write_text(json.dumps(document))
    before = walk.board()
    result = walk.run("walk_forward")
    assert (
        "the test blocks of winter (2019-12-02 to 2020-01-31) and spring (2020-01-20 to 2020-03-31) overlap"
        in failure(result)
    )
    (verdict,) = result.get_asset_check_evaluations()
    assert verdict.check_name == "no_overlap" and not verdict.passed and verdict.blocking
    assert walk.board() == before and len(ledger(walk.world.root / "evaluation")) == 2


def test_a_network_that_learned_too_near_to_its_test_is_refused(walk: Walk) -> None:
    """A parent's record that reaches into the test block, which no look at the fold's own dates would find."""
    assert walk.run("fold_scores", fold="spring", fold_scores={"phases": [1]}).success
    parent = latest_run(walk.world.runs(0, "spring")).folder
    record = read_record(parent)
    late = replace(record.fold, train=(record.fold.train[0], date(2020, 1, 15)))
    write_record(parent, replace(record, fold=late))
    result = walk.run("fold_scores", fold="spring", fold_scores={"phases": [1]})
    (verdict,) = result.get_asset_check_evaluations()
    assert verdict.check_name == "no_leak" and not verdict.passed and verdict.metadata["partition"].value == "spring"
    assert f"the train block of run {record.run_id} ends on 2020-01-15" in failure(result)
    assert "purge and embargo need 40" in failure(walk.run("walk_forward"))


def test_the_audit_by_hand(walked: Walk) -> None:
    panel = walked.world.newest()
    winter, spring, summer = (fold_on(walked.world.store, panel, name) for name in ("winter", "spring", "summer"))
    assert audit([Part(summer), Part(winter), Part(spring)], panel.dates) == []
    assert gaps([Part(summer), Part(winter), Part(spring)], panel.dates) == []
    at = panel.dates.index(spring.test[0])
    near = replace(spring, validation=(spring.validation[0], panel.dates[at - 40]))
    assert ["39 trading days before" in one for one in audit([Part(near)], panel.dates)] == [True]
    just = replace(spring, validation=(spring.validation[0], panel.dates[at - 41]))
    assert audit([Part(just)], panel.dates) == []
    foreign = pl.DataFrame({"date": [winter.test[1], spring.test[0]]})
    (said,) = audit([Part(spring, scores={"ridge": foreign})], panel.dates)
    assert "the scores of ridge on fold spring hold 1 rows of days outside of its test block, 2020-01-31" in said


def test_phases_are_chosen(walk: Walk) -> None:
    assert walk.run("fold_scores", fold="spring", fold_scores={"phases": [0]}).success
    assert walk.run("walk_forward").success
    assert [row["name"] for row in walk.board()["rows"] if row["kind"] == "phase"] == ["fold_phase0"]
    assert "phase 1 has not scored the folds spring" in failure(walk.run("walk_forward", walk_forward={"phases": [1]}))
    said = failure(walk.run("fold_scores", fold="spring", fold_scores={"phases": [3]}))
    assert said.endswith("run: dagster asset materialize --select fold_phase3 --partition spring")


def test_seeds_that_have_no_parent_are_refused(walk: Walk) -> None:
    said = failure(walk.run("fold_phase1", fold="winter", fold_phase1={"seeds": [0, 1]}))
    assert "seed 1 starts from the run of its own seed, and fold_phase0 was trained with 0, 7" in said
    assert "a seed stands twice" in failure(walk.run("fold_phase0", fold="winter", fold_phase0={"seeds": [1, 1]}))
    assert "leave out one of them" in failure(
        walk.run("fold_phase0", fold="winter", fold_phase0={"seed": 2, "seeds": [1]})
    )


def test_a_list_of_seeds_that_is_damaged_is_said(walk: Walk) -> None:
    folder = walk.world.runs(0, "winter")
    newest = latest_run(folder).folder
    path = newest.with_name(newest.name + ".members")
    assert members(newest) == latest_ensemble(folder).run_ids
    path.write_text("elsewhere\n")
    with pytest.raises(RunError, match="should list runs"):
        latest_ensemble(folder)
    assert "is damaged" in failure(walk.run("walk_forward"))
    path.write_text(f"20200101T000000-gone\n{newest.name}\n")
    with pytest.raises(RunError, match="names 20200101T000000-gone, which is no run"):
        latest_ensemble(folder)


def test_one_seed_that_fails_publishes_none(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = latest_ensemble(walk.world.runs(0, "spring")).run_ids
    monkeypatch.setenv("FAKE_TRAINER", "exit=130")
    assert not walk.run("fold_phase0", fold="spring", fold_phase0={"seeds": [4, 5]}).success
    assert latest_ensemble(walk.world.runs(0, "spring")).run_ids == before
    (begun,) = walk.world.runs(0, "spring").glob("*-s4-*")
    monkeypatch.setenv("FAKE_TRAINER", "")
    result = walk.run("fold_phase0", fold="spring", fold_phase0={"seeds": [4, 5], "resume_run": begun.name})
    assert result.success, failure(result)
    assert latest_ensemble(walk.world.runs(0, "spring")).run_ids[0] == begun.name
    assert latest_ensemble(walk.world.runs(0, "spring")).seeds == (4, 5)


def test_what_is_gathered_says_who_is_final(walked: Walk) -> None:
    found = gather(walked.world.store, LANE, ROWS)
    assert [(part.fold.name, part.final) for part in found.parts] == [("winter", False), ("spring", False)]
    rows = [replace(row, final=row.name == "spring") for row in ROWS]
    assert [part.final for part in gather(walked.world.store, LANE, rows).parts] == [False, True]
    assert {what for part in found.parts for what in part.learned} >= {
        f"run {latest_run(walked.world.runs(phase, 'spring')).run_id}" for phase in (0, 1)
    }


def test_the_page_reads_the_result(walked: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet of docs/how-to/walk-forward.md."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "walk-forward.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)
    monkeypatch.setenv("ATFT_DATA", str(walked.world.root))
    names: dict = {}
    exec(code, names)
    assert names["by_fold"].columns == ["name", "winter", "spring"]
    assert names["last"] == "fold_phase1"
    assert names["scores"].equals(walked.stitched("fold_phase1"))


def test_damage_is_found_and_what_builds_it_again_is_named(whole: Walk) -> None:
    """A list of seeds, the index of a fold's scores, and both boards."""
    walk, root = whole, whole.world.root
    assert walk.run("walk_forward", walk_forward={"open_final": True}).success
    assert not [*run_damages(root), *figure_damages(root)]
    listed = members_file(latest_run(walk.world.runs(0, "winter")).folder)
    listed.write_text("elsewhere\n")
    boards = root / "evaluation" / "walk_forward"
    broken = [root / "evaluation" / "spring" / INDEX, boards / "development.json", boards / "final.json"]
    for path in broken:
        path.write_text("{")
    (damage,) = run_damages(root)
    assert damage.path == listed and damage.lost == (Lost("fold_phase0", "winter"),)
    found = {damage.path: damage for damage in figure_damages(root)}
    assert found.keys() == set(broken)
    assert [found[path].lost for path in broken] == [
        (Lost("fold_scores", "spring"),),
        (Lost("walk_forward"),),
        (),
    ]
    assert "score_again: true, which counts as a second look" in found[broken[2]].command
    years = [Lost("fold_scores", key) for key in ("2018-2019", "2020")]
    assert commands([Lost("walk_forward"), *years, Lost("fold_phase0", "2020")], walk.world.settings) == [
        "dagster asset materialize --select fold_phase0 --partition 2020",
        "dagster asset materialize --select fold_scores --partition 2018-2019",
        "dagster asset materialize --select fold_scores --partition 2020",
        "dagster asset materialize --select walk_forward",
    ]


def test_retention_keeps_every_seed_that_is_published(walk: Walk) -> None:
    shutil.rmtree(walk.world.root / "evaluation")  # which names them all
    folder = walk.world.runs(0, "winter")
    before = latest_ensemble(folder)
    old = DataRoot(walk.world.root, before=time.time() + 60, keep_runs=0)
    for run in before.runs:
        assert run.folder in kept_runs(old)
    assert walk.run("fold_phase0", fold="winter", fold_phase0={"seed": 5}).success
    later = DataRoot(walk.world.root, before=time.time() + 60, keep_runs=0)
    pointed_at = {run.path.name for run, _ in pointed(later) if run.path.parent == folder}
    assert pointed_at == set(latest_ensemble(folder).run_ids) and not pointed_at & set(before.run_ids)


def test_a_run_that_goes_takes_its_list_with_it(walk: Walk) -> None:
    newest = latest_run(walk.world.runs(0, "winter")).folder
    assert members_file(newest).exists()
    assert remove(walk.world.root, Going("run", str(newest.relative_to(walk.world.root)), "", 0))
    assert not newest.exists() and not members_file(newest).exists()


def _looks_at_once(folder: Path, day: int) -> None:
    for _ in range(20):
        record_looks(folder, [{"fold": str(day), "first": f"2020-01-{day:02}", "last": f"2020-01-{day:02}"}])


def test_two_processes_that_look_lose_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_looks_at_once, args=(tmp_path / "evaluation", day)) for day in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for day in ("1", "2", "3"):
        assert [one["again"] for one in ledger(tmp_path / "evaluation") if one["fold"] == day] == [False, *[True] * 19]


def test_a_fold_that_the_panel_does_not_hold_says_which_days_lack(walk: Walk) -> None:
    """The panel is too short for its training, ends before its test block does, or was cut before it was declared."""
    early = FoldRow("early", end=date(2019, 5, 31))
    late = FoldRow("late", test_start=date(2020, 7, 1), end=date(2020, 12, 31))
    panel = walk.world.newest()
    walk.world.cut(panel, (*ROWS, early, late))
    missing = gather(walk.world.store, LANE, (*ROWS, early, late, FoldRow("undeclared"))).missing
    assert list(missing) == ["summer", "early", "late", "undeclared"]
    left_out = f"was left out when the folds of panel {panel.panel_id} were cut: "
    assert f"the fold early {left_out}" in missing["early"] and "leave 0 for the train block" in missing["early"]
    assert f"the fold late {left_out}" in missing["late"]
    assert "ends on 2020-12-30, the days at hand on 2020-06-30" in missing["late"]
    assert "the fold undeclared has not been cut on the newest panel" in missing["undeclared"]


def test_the_gain_check_tells_the_last_phase_from_each_baseline() -> None:
    def board(low: float | None) -> dict:
        pairs = {
            "ridge": {"mean": 0.02, "low": 0.01, "high": 0.03},
            "lightgbm": {"mean": 0.01, "low": low, "high": 0.1},
        }
        rows = [{"name": "fold_phase3", "kind": "phase", "against": {**pairs, "fold_phase2": pairs["ridge"]}}]
        return {"rows": [*rows, *({"name": name, "kind": "baseline", "against": {}} for name in pairs)]}

    above, equal, unknown = (gain_verdict(board(low)) for low in (0.001, -0.001, None))
    assert above.passed and above.description == "above ridge, lightgbm beyond chance"
    for verdict in (equal, unknown):
        assert not verdict.passed and verdict.severity == dg.AssetCheckSeverity.WARN
        assert verdict.description == "not told apart from, or below: lightgbm"
    without = gain_verdict({"rows": [{"name": "fold_phase3", "kind": "phase", "against": {}}]})
    assert not without.passed and without.description == "no baseline was fitted on every fold"
