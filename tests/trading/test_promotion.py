"""The asset `promotion` and the way back, on the small market: first champion, refit, recipe, rule, rollback."""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.store import Store
from atft_assets.trading import rollback
from atft_assets.trading.boards import evaluation, walk_forward, winner
from atft_assets.trading.champion import FOLDER, PROMOTIONS, check_whole, current, needed, promotions
from atft_assets.trading.judging import SWEEP, WALKED
from atft_assets.trading.promotion import EVIDENCE, first_champion, promotion_asset
from atft_assets.training import planned_runs
from atft_assets.training.baselines import baselines_asset
from atft_assets.training.evaluation import evaluation_asset
from atft_assets.training.launcher import LocalLauncher
from atft_assets.trials.ledger import count, seen
from atft_model.interchange.hashes import file_sha256
from atft_model.interchange.records import write_json
from tests.training.small_market import World
from tests.training.test_phases import failure
from tests.trials.test_ledger import trial

pytestmark = pytest.mark.usefixtures("trainer_on_path")
FAST = {"trees": 10, "settings": 1, "threads": 1}


def made(world: World, instance: dg.DagsterInstance, *names: str) -> dg.ExecuteInProcessResult:
    """Train, fit and judge."""
    ops: dict[str, Any] = {
        name: {"config": {"allow_ephemeral_instance": True}} for name in names if name.startswith("train_")
    }
    if "baselines" in names:
        ops["baselines"] = {"config": FAST}
    result = dg.materialize(
        [
            *world.phase_assets(),
            baselines_asset(world.settings),
            evaluation_asset(world.settings),
            dg.AssetSpec("training_panel"),
            dg.AssetSpec("folds"),
        ],
        selection=list(names),
        resources={"store": world.store, "launcher": LocalLauncher(module="fake_trainer", threads=1)},
        run_config={"ops": ops},
        instance=instance,
        raise_on_error=False,
    )
    assert result.success
    return result


def promote(world: World, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [promotion_asset(), dg.AssetSpec("evaluation")],
        selection=["promotion"],
        resources={"store": world.store},
        run_config={"ops": {"promotion": {"config": config}}},
        instance=instance,
        raise_on_error=False,
    )


def said(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_asset_materialization_events()
    return str(event.materialization.metadata["outcome"].value)


def judged(result: dg.ExecuteInProcessResult) -> bool:
    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == EVIDENCE
    return check.passed


@pytest.fixture(scope="module")
def _judged_root(_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small market with two phases trained, baselines fitted, and all of them judged."""
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        here = Path(__file__).parents[1] / "training"
        patch.setenv("PYTHONPATH", f"{here}:{here.parents[1]}")
        # of phases that are trained within a second: an id names a run within its phase only
        patch.setattr(planned_runs, "new_run_id", lambda *_: "20200701T120000-00000000")
        root = tmp_path_factory.mktemp("judged") / "data"
        shutil.copytree(_world.root, root)
        world = at(_world, root)
        made(world, instance, "train_phase0", "train_phase1", "baselines", "evaluation")
    return world


@pytest.fixture
def ready(_judged_root: World, tmp_path: Path) -> World:
    shutil.copytree(_judged_root.root, tmp_path / "data")
    return at(_judged_root, tmp_path / "data")


def at(world: World, root: Path) -> World:
    settings = world.settings.model_copy(update={"data_root": str(root)})
    return World(root, Store(root=str(root)), settings, world.days, world.codes, world.returns)


def folder(world: World) -> Path:
    return world.root / FOLDER


def test_the_first_champion_is_what_won_its_evaluation(ready: World, instance: dg.DagsterInstance) -> None:
    board = json.loads((ready.root / "evaluation" / "main" / "validation.json").read_text())
    rows = {row["name"].removeprefix("train_"): row["neutral_rank_ic"] for row in board["rows"]}
    best = max(("phase0", "phase1", "lightgbm", "blend"), key=lambda name: rows[name])
    result = promote(ready, instance)  # nobody says promote: there is nothing to defend
    assert result.success and judged(result) and "the first of this root" in said(result)
    champion = needed(folder(ready))
    check_whole(champion, ready.root, ready.newest().description.catalogue_hash)
    assert champion.kind == {"lightgbm": "lightgbm", "blend": "blend"}.get(best, "network")
    assert champion.as_of == ready.fold().test[1] and champion.expected["neutral_rank_ic"] == rows[best]
    (line,) = promotions(folder(ready))
    assert (line.role, line.rule, line.previous) == ("champion", "first", None) and line.who
    assert set(line.decision["figures"]) == {"phase0", "phase1", "lightgbm", "blend"}
    assert {gate["name"] for gate in line.gates} >= {"coverage", "score_spread", "rank_agreement"}
    assert first_champion(ready.store) == champion and len(promotions(folder(ready))) == 1
    again = promote(ready, instance, promote=True)
    assert again.success and "stays" in said(again) and len(promotions(folder(ready))) == 1


def test_the_evening_asks_for_the_first_without_the_asset(ready: World) -> None:
    assert current(folder(ready)) is None
    champion = first_champion(ready.store, "nightly")
    assert needed(folder(ready)) == champion and promotions(folder(ready))[0].who == "nightly"


def test_a_refit_waits_for_a_person_and_can_be_taken_back(
    ready: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(ready, instance, candidate="network").success
    first = needed(folder(ready))
    assert first.kind == "network" and first.phase == "phase1" and len(first.runs) == 1
    made(ready, instance, "train_phase1", "evaluation")
    result = promote(ready, instance, candidate="network", note="monthly")
    assert result.success and judged(result) and "to promote it: the config promote: true" in said(result)
    assert needed(folder(ready)) == first
    line = promotions(folder(ready))[-1]
    assert (line.role, line.rule, line.note, line.previous) == ("candidate", "refit", "monthly", first.champion_id)
    parts = {part["name"]: part for part in line.decision["parts"]}
    assert parts["agreement"]["figure"] == pytest.approx(1) and line.decision["statistic"] == 0  # the same network
    assert line.decision["margin"] == 0.01 and line.decision["days"] >= 80

    result = promote(ready, instance, candidate="network", promote=True)
    assert "is the champion now instead of" in said(result)
    second = needed(folder(ready))
    assert second.recipe == first.recipe and second.runs != first.runs

    monkeypatch.setenv("ATFT_DATA", str(ready.root))
    for name in ("JQUANTS_API_KEY", "JQUANTS_BASE_URL", "ATFT_START", "ATFT_END"):
        monkeypatch.delenv(name, raising=False)
    assert rollback.main(["--show"]) == 0 and needed(folder(ready)) == second
    shown = capsys.readouterr().out
    assert f"in use:     {second}" in shown and f"goes back:  {first}" in shown and "Nothing was changed" in shown
    assert rollback.main(["--note", "odd ranks"]) == 0
    assert needed(folder(ready)) == first and first.champion_id in capsys.readouterr().out
    lines = promotions(folder(ready))
    assert (lines[-2].role, lines[-2].rollback, lines[-2].note) == ("champion", True, "odd ranks")
    assert (lines[-1].role, lines[-1].champion) == ("retired", second)
    assert rollback.main([]) == 1 and "the first champion of this root" in capsys.readouterr().err
    assert rollback.main(["--to", second.champion_id]) == 0 and needed(folder(ready)) == second

    # pitfall 30: what is gone is not gone back to
    shutil.rmtree(first.run_folders(ready.root)[0])
    assert rollback.main(["--to", first.champion_id]) == 1
    assert "cannot be used" in capsys.readouterr().err and needed(folder(ready)) == second
    (folder(ready) / PROMOTIONS).write_text("no line\n")
    assert rollback.main([]) == 1 and "is damaged" in capsys.readouterr().err


def test_a_refit_may_go_by_itself_if_the_config_says_so(ready: World, instance: dg.DagsterInstance) -> None:
    assert promote(ready, instance, candidate="phase0").success
    first = needed(folder(ready))
    made(ready, instance, "train_phase0", "evaluation")
    assert promote(ready, instance, candidate="phase0", automatic_refits=True).success
    assert needed(folder(ready)).runs != first.runs


def test_a_refit_that_is_worse_stays_outside(ready: World, instance: dg.DagsterInstance) -> None:
    """The refit's scores are turned over, as a training that went wrong would leave them."""
    assert promote(ready, instance, candidate="phase0").success
    first = needed(folder(ready))
    made(ready, instance, "train_phase0")
    (run,) = [path for path in (ready.runs(0)).iterdir() if path.is_dir() and path.name not in first.runs]
    turned = pl.read_parquet(run / "scores.parquet").with_columns(-pl.col("^score_.*$"))
    turned.write_parquet(run / "scores.parquet")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "scores_sha256": file_sha256(run / "scores.parquet")}))
    made(ready, instance, "evaluation")
    result = promote(ready, instance, candidate="phase0", promote=True)
    assert result.success and not judged(result) and "not shown" in said(result)
    assert needed(folder(ready)) == first
    parts = {part["name"]: part["passed"] for part in promotions(folder(ready))[-1].decision["parts"]}
    assert not parts["not_worse"]
    result = promote(ready, instance, candidate="phase0", promote=True, override_reason="a drill")
    assert "against the rule" in said(result) and needed(folder(ready)) != first
    assert promotions(folder(ready))[-2].decision["override_reason"] == "a drill"


def walk(world: World, gains: dict[str, float]) -> None:
    """Plant a walk-forward of three folds, whose networks and baselines have the recipes of `main`."""
    rng = np.random.default_rng(0)
    days = [str(date(2015, 1, 1) + k * (date(2015, 1, 2) - date(2015, 1, 1))) for k in range(735)]
    market = rng.normal(0.04, 0.08, len(days))
    folds = []
    for k, name in enumerate(("2015", "2016", "2017")):
        shutil.copytree(world.root / "runs" / "main", world.root / "runs" / name)
        runs = {f"fold_phase{phase}": [newest(world, phase)] for phase in (0, 1)}
        folds.append({"fold": name, "test": [days[245 * k], days[245 * k + 244]], "runs": runs})
    scores = [
        {
            "name": name,
            "daily_neutral": list(market + gain + rng.normal(0, 0.02, len(days))),
            "turnover": 0.2,
            "spread": 0.002 + gain / 10,
        }
        for name, gain in gains.items()
    ]
    board = {
        "created_at": "2026-01-01", "panel_id": "p", "folds": folds, "profiles": {"dates": days, "scores": scores},
    }  # fmt: skip
    write_json(world.root / "evaluation" / "walk_forward" / "development.json", board)


def newest(world: World, phase: int) -> str:
    return (world.runs(phase) / "latest").read_text().strip()


def test_the_walk_forward_decides_where_it_walked_all(ready: World, instance: dg.DagsterInstance) -> None:
    walk(ready, {"fold_phase0": 0.0, "fold_phase1": 0.0, "lightgbm": 0.03, "blend": 0.01, "ridge": 0.5})
    found, walked = evaluation(ready.root), walk_forward(ready.root)
    assert walked and set(walked.rows) == {"phase0", "phase1", "lightgbm", "blend"}
    name, figures, board = winner(found, walked)
    assert (name, board) == ("lightgbm", "walk_forward") and figures["lightgbm"] == pytest.approx(0.07, abs=0.02)
    # networks that were trained otherwise on the folds say nothing of those of main
    path = ready.root / "runs" / "2016" / "phase1" / newest(ready, 1) / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "curriculum": {"epochs": 99}}))
    walked = walk_forward(ready.root)
    assert walked and set(walked.rows) == {"phase0", "lightgbm"} and winner(found, walked)[2] == "evaluation"


def test_a_recipe_is_judged_by_the_walk_forward(ready: World, instance: dg.DagsterInstance) -> None:
    assert promote(ready, instance, candidate="phase0").success
    first = needed(folder(ready))
    result = promote(ready, instance, candidate="lightgbm", promote=True)
    assert result.success and not judged(result) and "train the folds with it and run walk_forward" in said(result)
    assert "and an override_reason" in said(result) and needed(folder(ready)) == first
    walk(ready, {"fold_phase0": 0.0, "fold_phase1": 0.0005, "lightgbm": 0.02, "blend": 0.01})
    result = promote(ready, instance, candidate="phase1", promote=True)
    assert result.success and not judged(result) and needed(folder(ready)) == first
    line = promotions(folder(ready))[-1]
    assert line.rule == "recipe" and line.decision["p_alone"] <= line.decision["p"] < 1
    assert "after Holm of 3 comparisons" in line.decision["sentence"]  # with LightGBM and the blend
    assert line.decision["days"] == 735 and 0 < line.decision["detectable"] < 0.01

    result = promote(ready, instance, candidate="lightgbm", promote=True)
    assert judged(result) and needed(folder(ready)).kind == "lightgbm"
    kept = list((folder(ready) / WALKED).glob("*.json"))
    assert [path.stem for path in kept] == [needed(folder(ready)).recipe]
    # the folds hold other networks now; the champion's own walk-forward is still there to be compared with
    board = json.loads((ready.root / "evaluation" / "walk_forward" / "development.json").read_text())
    board["profiles"]["scores"] = [one for one in board["profiles"]["scores"] if one["name"] != "lightgbm"]
    write_json(ready.root / "evaluation" / "walk_forward" / "development.json", board)
    result = promote(ready, instance, candidate="blend", promote=True)
    assert result.success and not judged(result)
    assert promotions(folder(ready))[-1].decision["statistic"] == pytest.approx(-0.01, abs=0.003)


def test_a_damaged_or_missing_board_is_said(ready: World, instance: dg.DagsterInstance) -> None:
    assert "has no phase3" in str(failure(promote(ready, instance, candidate="phase3")))
    (ready.root / "evaluation" / "main" / "validation.json").unlink()
    assert "nothing was judged yet" in str(failure(promote(ready, instance)))
    assert current(folder(ready)) is None


def test_scores_that_no_gate_would_let_through_do_not_become_the_first(
    ready: World, instance: dg.DagsterInstance
) -> None:
    """Half of the names have no score any more on the last days of the validation block."""
    run = ready.runs(0) / newest(ready, 0)
    frame = pl.read_parquet(run / "scores.parquet").with_columns(pl.col("date").cast(pl.Date))
    last = frame["date"].unique().sort()[-5]
    frame.filter((pl.col("date") < last) | (pl.col("code") < "1140")).write_parquet(run / "scores.parquet")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "scores_sha256": file_sha256(run / "scores.parquet")}))
    result = promote(ready, instance, candidate="phase0", promote=True)
    assert result.success and not judged(result) and "eligible names have a score" in said(result)
    assert current(folder(ready)) is None
    result = promote(ready, instance, candidate="phase0", promote=True, override_reason="a drill")
    assert "against the rule" in said(result) and needed(folder(ready)).phase == "phase0"


def test_a_candidate_of_another_catalogue_is_refused(ready: World, instance: dg.DagsterInstance) -> None:
    path = ready.runs(0) / newest(ready, 0) / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "catalogue_hash": "0ld"}))
    refused = promote(ready, instance, candidate="phase0")
    assert "learned from the catalogue 0ld" in str(failure(refused)) and current(folder(ready)) is None


def test_a_portfolio_rule_is_promoted_by_itself(ready: World, instance: dg.DagsterInstance) -> None:
    assert promote(ready, instance, candidate="phase0").success
    first = needed(folder(ready))
    refused = promote(ready, instance, portfolio_rule="wide", promote=True)
    assert "sweep portfolio rules first" in str(failure(refused))
    rng = np.random.default_rng(0)
    days = [date(2015, 1, 1) + k * (date(2015, 1, 2) - date(2015, 1, 1)) for k in range(735)]
    frames = [
        pl.DataFrame({"date": days, "ret": rng.normal(mean, 0.01, 735)}).with_columns(
            rule=pl.lit(name), ret_twice=pl.col("ret") - 0.0003
        )
        for name, mean in (("default", 0.0), ("wide", 0.0025), ("narrow", 0.0002))
    ]
    pl.concat(frames).write_parquet(folder(ready) / SWEEP)
    assert "has no rule 'deep'" in str(failure(promote(ready, instance, portfolio_rule="deep")))
    assert not judged(promote(ready, instance, portfolio_rule="narrow", promote=True))
    result = promote(ready, instance, portfolio_rule="wide", promote=True)
    assert (
        judged(result) and needed(folder(ready)).portfolio_rule == "wide" and needed(folder(ready)).runs == first.runs
    )
    assert f"of {count(ready.root).trials} trials" in json.dumps(promotions(folder(ready))[-2].decision)
    # and a refit keeps it
    made(ready, instance, "train_phase0", "evaluation")
    assert promote(ready, instance, candidate="phase0", promote=True).success
    assert needed(folder(ready)).portfolio_rule == "wide" and needed(folder(ready)).runs != first.runs


def test_every_configuration_that_was_judged_stands_in_the_ledger(ready: World, instance: dg.DagsterInstance) -> None:
    found = count(ready.root)
    assert found.by_study == {"trainings": 2, "baselines": 5, "blends": 1}
    made(ready, instance, "train_phase1", "baselines", "evaluation")
    assert count(ready.root) == found  # the same recipes again
    seen(ready.root, [trial("r")])
    assert count(ready.root).trials == found.trials + 1
