"""The ledger of trials: a recipe once, whoever sees it, and none lost."""

import json
import multiprocessing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from atft_assets.trading.inference import deflated_sharpe, moments, variance_of_trials
from atft_assets.trading.tried import backtest
from atft_assets.trials.ledger import BACKTESTS, FILE, FOLDER, Trial, all_trials, count, seen
from atft_assets.trials.recipes import recipe_of, recipe_of_baseline, recipe_of_blend, recipe_of_run
from atft_model.interchange.errors import RunError
from atft_model.interchange.run import Parent, read_record, write_record
from tests.trading.test_champion import make_run


def trial(recipe: str, study: str = "hpo/s", **more) -> Trial:
    return Trial(study, "0", recipe, **more)


def test_a_recipe_counts_once_and_for_the_study_that_saw_it_first(tmp_path: Path) -> None:
    assert count(tmp_path).trials == 0 and all_trials(tmp_path) == []
    assert seen(tmp_path, [trial("a"), trial("b", state="pruned"), trial("a")]) == 2
    assert seen(tmp_path, [trial("b", "trainings"), trial("c", "trainings")]) == 1
    found = count(tmp_path)
    assert (found.trials, found.by_study) == (3, {"hpo/s": 2, "trainings": 1})
    assert found.trials == len((tmp_path / FOLDER / FILE).read_text().splitlines())  # N is the rows: pitfall 22
    assert [one.state for one in all_trials(tmp_path)] == ["complete", "pruned", "complete"]


def test_lines_are_only_added(tmp_path: Path) -> None:
    seen(tmp_path, [trial("a", values={"f": float("nan"), "g": 0.25}, params={"k": 1})])
    before = (tmp_path / FOLDER / FILE).read_text()
    seen(tmp_path, [trial("a"), trial("b")])
    assert (tmp_path / FOLDER / FILE).read_text().startswith(before)
    first = all_trials(tmp_path)[0]
    assert first.values["g"] == 0.25 and first.values["f"] != first.values["f"] and first.params == {"k": 1}
    assert seen(tmp_path, []) == 0


def test_what_was_tried_deflates_what_is_shown(tmp_path: Path) -> None:
    """Pitfall 22, through the ledger: a pruned trial counts."""
    returns = [0.01, -0.005, 0.004, 0.002] * 60
    sharpes = [0.02 * k for k in range(12)]
    seen(tmp_path, [trial(f"r{k}", BACKTESTS, sharpe=sharpe, days=240) for k, sharpe in enumerate(sharpes)])
    found = []
    for more in range(3):
        known = count(tmp_path)
        found.append(deflated_sharpe(moments(returns), known.trials, variance_of_trials(known.sharpes, 240)))
        seen(tmp_path, [trial(f"p{more}", state="pruned")])
    assert found[0] > found[1] > found[2] and known.sharpes == tuple(sharpes)


def write_many(root: str, name: str) -> None:
    for k in range(20):
        seen(Path(root), [trial(f"{name}{k}"), trial(f"both{k}")])


def test_of_two_writers_neither_loses_a_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(str(tmp_path), name)) for name in "xy"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    recipes = [one.recipe for one in all_trials(tmp_path)]
    assert len(recipes) == len(set(recipes)) == 60


def test_a_damaged_line_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    seen(tmp_path, [trial("a")])
    path = tmp_path / FOLDER / FILE
    whole = path.read_text()
    for text in (whole + "not json\n", whole + '"text"\n'):
        path.write_text(text)
        with pytest.raises(RunError, match=r"trials\.jsonl is damaged .*atft_assets\.tools\.mend"):
            seen(tmp_path, [trial("b")])
        assert path.read_text() == text
    path.write_text(whole + json.dumps({"study": "s"}) + "\n")
    with pytest.raises(RunError, match=r"is damaged .*line 2 lacks the field number"):
        count(tmp_path)


def test_recipes_know_what_was_chosen_and_nothing_else(tmp_path: Path) -> None:
    one, two = make_run(tmp_path, "one", seed=0), make_run(tmp_path, "two", seed=1)
    assert recipe_of_run(one) == recipe_of_run(two)  # a seed is no choice
    record = read_record(two)
    write_record(two, replace(record, panel_id="newer", hardware={"host": "b"}, seconds=3.0))
    assert recipe_of_run(one) == recipe_of_run(two)
    for changed in (
        {"config": {"train": {"learning_rate": 1e-3}}},
        {"curriculum": {"epochs": 3}},
        {"catalogue_hash": "other"},
        {"label": "y_cc"},
        {"code_version": "2"},
    ):
        write_record(two, replace(record, **changed))
        assert recipe_of_run(one) != recipe_of_run(two), changed
    write_record(two, replace(record, parent=Parent("one", "", "", 3)))
    assert recipe_of_run(one) != recipe_of_run(two)  # what it came through was chosen too
    assert recipe_of({"a": 1, "b": 2.0}) == recipe_of({"b": 2.0, "a": 1}) != recipe_of({"a": 1, "b": 3.0})
    fitted = {"config": {"trees": 10}, "catalogue_hash": "c", "label": "y_oo", "target": "y_oo", "panel_id": "p"}
    assert recipe_of_baseline("lightgbm", fitted) == recipe_of_baseline("lightgbm", {**fitted, "panel_id": "q"})
    assert recipe_of_baseline("lightgbm", fitted) != recipe_of_baseline("ridge", fitted)
    assert recipe_of_blend(["a", "b"]) == recipe_of_blend(["b", "a"]) != recipe_of_blend(["a", "c"])


def test_a_portfolio_rule_on_other_scores_is_another_trial(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Rule:
        names: int = 50

    returns = [0.01, -0.005, 0.004, 0.002] * 60
    seen(tmp_path, [backtest("default", "r1", Rule(), returns), backtest("again", "r1", {"names": 50}, returns)])
    seen(tmp_path, [backtest("wide", "r1", Rule(100), returns), backtest("default", "r2", Rule(), returns)])
    found = count(tmp_path)
    assert found.by_study == {BACKTESTS: 3} and found.sharpes == (moments(returns).sharpe,) * 3
    assert all_trials(tmp_path)[0].params == {"names": 50} and all_trials(tmp_path)[0].days == 240
