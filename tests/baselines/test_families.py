"""A planted family is found by leaving it out and by adding it, the others are not; a narrowed panel is an own one."""

from dataclasses import replace

import numpy as np
import pytest

from atft_assets.baselines.families import (
    LIGHTGBM,
    RIDGE,
    Judged,
    RidgeByFamilies,
    families_of,
    judge_sets,
    questions,
    scorers,
    sets_of,
)
from atft_assets.baselines.narrowed import narrowed
from atft_assets.baselines.ridge import fit_ridge
from atft_assets.baselines.trees import lightgbm
from atft_assets.scoring.block import Block
from atft_assets.training.ablation_board import BAD, CHANCE, GOOD, SHORT, compared, named, tried, verdict
from atft_model.interchange.fold import Fold, cut
from atft_model.interchange.panel import Panel, PanelFeature, to_bfloat16
from tests.baselines.made import QUICK, Floats, changed, made_panel, with_tensors

FAMILIES = ("price", "price", "flow", "flow", "short", "margin")
FAST = QUICK.model_copy(update={"trees": 20, "settings": 0})


def signal(x: Floats) -> Floats:
    """Price says a little, flow much, short and margin nothing."""
    return 0.3 * x[..., 0] + 0.8 * x[..., 2]


def with_families(panel: Panel, families: tuple[str, ...] = FAMILIES) -> Panel:
    columns = tuple(PanelFeature(f"f{i}", family, "time_series") for i, family in enumerate(families))
    return with_tensors(replace(panel.description, features=columns), dict(panel.tensors))


@pytest.fixture(scope="module")
def planted() -> Panel:
    """Labels of a day and a week, so that a validation block of 60 days is enough for a verdict."""
    panel = made_panel(signal, days=240, names=24, noise=2.0)
    panel = changed(panel, y_cc=panel.tensors["y_cc"][:2], y_oo=panel.tensors["y_oo"][:2])
    return with_families(with_tensors(replace(panel.description, horizons=(1, 5)), dict(panel.tensors)))


def made_fold(panel: Panel) -> Fold:
    return cut(panel.dates, "made", validation_days=60, purge_days=5, embargo_days=0)


@pytest.fixture(scope="module")
def judged(planted: Panel) -> list[Judged]:
    fold = made_fold(planted)
    sets = sets_of(questions(list(families_of(planted)), ["price"], list(families_of(planted))))
    block = Block.of(planted, fold, "validation")
    return list(judge_sets(block, sets, scorers(planted, fold, [RIDGE, LIGHTGBM], FAST), [0]))


def test_each_family_is_asked_about_twice_but_the_base_once() -> None:
    asked = questions(["price", "flow", "short"], ["price", "volume"], ["price", "flow", "short"])
    said = {(one.family, one.change): (one.with_it, one.without_it) for one in asked}
    assert said == {
        ("price", "left out"): ({"price", "flow", "short"}, {"flow", "short"}),
        ("flow", "left out"): ({"price", "flow", "short"}, {"price", "short"}),
        ("short", "left out"): ({"price", "flow", "short"}, {"price", "flow"}),
        ("flow", "added"): ({"price", "flow"}, {"price"}),
        ("short", "added"): ({"price", "short"}, {"price"}),
    }
    assert len(sets_of(asked)) == 5  # price and flow are both a family added and one left out
    assert {one.change for one in questions(["a", "b"], [], ["a"])} == {"left out"}  # there is nothing to add to
    assert questions(["a"], ["a"], ["a"]) == []


def test_sets_have_names() -> None:
    asked = questions(["price", "flow", "short", "margin"], ["price"], ["flow", "short"])
    assert [named(one, asked) for one in sets_of(asked)] == [
        "full", "full − flow", "full − short", "price set + flow", "price set", "price set + short",
    ]  # fmt: skip


def test_a_planted_family_is_found_by_both_models_and_both_ways(planted: Panel, judged: list[Judged]) -> None:
    asked = questions(list(families_of(planted)), ["price"], list(families_of(planted)))
    rows = compared(judged, asked, families_of(planted))
    assert len(rows) == 2 * (4 + 3)
    for row in rows:
        if row["family"] == "flow":
            assert row["verdict"] == GOOD and row["mean"] > 0.05 and row["low"] > 0, row
            assert row["columns"] == 2 and all(value > 0 for value in row["by_horizon"].values())
        elif row["family"] in ("short", "margin"):
            assert row["verdict"] != GOOD and abs(row["mean"]) < 0.04, row
    assert {row["change"] for row in rows if row["family"] == "price"} == {"left out"}


def test_a_difference_is_that_of_the_headlines(planted: Panel, judged: list[Judged]) -> None:
    asked = questions(list(families_of(planted)), ["price"], ["flow"])
    figures = {(one.model, one.families): one.rank_ic for one in judged}
    for row, one in zip(compared(judged, asked, families_of(planted)), [*asked, *asked], strict=True):
        expected = figures[row["model"], one.with_it] - figures[row["model"], one.without_it]
        assert row["mean"] == pytest.approx(expected, abs=1e-6)
        assert row["low"] < row["mean"] < row["high"] and row["p"] <= row["p_holm"]


@pytest.mark.parametrize("families", [{"price"}, {"flow", "margin"}, set(FAMILIES)])
def test_a_cut_of_the_moments_is_a_fit_of_the_columns(planted: Panel, families: set[str]) -> None:
    """And of an own panel that holds nothing else."""
    fold = made_fold(planted)
    kept = [i for i, one in enumerate(FAMILIES) if one in families]
    own = with_families(changed(planted, x=planted.tensors["x"][..., kept]), tuple(FAMILIES[i] for i in kept))
    narrow = narrowed(planted, families)
    assert narrow.features == [f"f{i}" for i in kept]
    np.testing.assert_array_equal(narrow.x(5), own.x(5))
    np.testing.assert_allclose(RidgeByFamilies(planted, fold).weights(narrow), fit_ridge(own, fold)[0], rtol=1e-6)


def test_lightgbm_of_a_narrowed_panel_is_that_of_an_own_panel(planted: Panel) -> None:
    fold = made_fold(planted)
    own = with_families(changed(planted, x=planted.tensors["x"][..., 2:4]), ("flow", "flow"))
    days = fold.places(planted.dates, "validation")[:5]
    ours, theirs = (
        lightgbm(one, fold, FAST.model_copy(update={"settings": 0})).predict(one, days)
        for one in (narrowed(planted, {"flow"}), own)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_scores_do_not_depend_on_later_days(planted: Panel) -> None:
    """Fitting reads the train block alone: whatever follows may be anything."""
    fold = made_fold(planted)
    later = fold.places(planted.dates, "validation").start
    x, y = planted.tensors["x"].copy(), planted.tensors["y_cc"].copy()
    x[later:], y[:, later:] = to_bfloat16(np.ones(x[later:].shape, np.float32)), 1.0
    other = changed(planted, x=x, y_cc=y)
    ours, theirs = (RidgeByFamilies(one, fold).weights(narrowed(one, {"flow", "short"})) for one in (planted, other))
    np.testing.assert_array_equal(ours, theirs)


def test_seeds_are_averaged_and_ridge_is_fitted_once(planted: Panel) -> None:
    asked_for: list[tuple[str, int]] = []

    def scorer(name: str):  # type: ignore[no-untyped-def]
        def score(panel: Panel, days: range, seed: int) -> Floats:
            asked_for.append((name, seed))
            x = np.stack([panel.x(t)[:, seed] for t in days])
            return np.broadcast_to(x, (len(panel.horizons), *x.shape))

        return score

    block = Block.of(planted, made_fold(planted), "validation")
    sets = [frozenset({"flow"})]
    got = list(judge_sets(block, sets, {RIDGE: scorer(RIDGE), LIGHTGBM: scorer(LIGHTGBM)}, [0, 1]))
    assert asked_for == [(RIDGE, 0), (LIGHTGBM, 0), (LIGHTGBM, 1)]
    ones = [block.score_dense(scorer("")(narrowed(planted, {"flow"}), block.days, seed)) for seed in (0, 1)]
    assert got[1].rank_ic == pytest.approx((ones[0].rank_ic + ones[1].rank_ic) / 2)
    np.testing.assert_allclose(got[1].daily, (ones[0].daily + ones[1].daily) / 2)


def test_verdicts() -> None:
    assert [verdict(0.01, 0.01), verdict(-0.01, 0.01), verdict(0.01, 0.06), verdict(0.01, float("nan"))] == [
        GOOD, BAD, CHANCE, SHORT,
    ]  # fmt: skip


def test_each_model_and_set_is_a_trial_whatever_the_seed(planted: Panel, judged: list[Judged]) -> None:
    asked = questions(list(families_of(planted)), ["price"], list(families_of(planted)))
    first = list(tried(planted, judged, asked, FAST.model_dump(), "main"))
    assert len(first) == len({one.recipe for one in first}) == len(judged)
    assert {one.study for one in first} == {"ablations"}
    assert first[0].values == {"main": pytest.approx(judged[0].rank_ic)}
    again = tried(planted, judged, asked, FAST.model_copy(update={"seed": 7}).model_dump(), "main")
    assert [one.recipe for one in again] == [one.recipe for one in first]
    more = tried(planted, judged, asked, FAST.model_copy(update={"trees": 31}).model_dump(), "main")
    same = {one.recipe for one in first} & {one.recipe for one in more}
    assert len(same) == sum(one.model == RIDGE for one in judged)  # of ridge no tree is part
