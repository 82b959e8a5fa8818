"""The rules of promotion on planted series: what must pass, what must not, and what cannot be said."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from atft_assets.trading import TRADING_DAYS
from atft_assets.trading.decisions import (
    MARGIN,
    POWER,
    Decision,
    first,
    not_judged,
    p_of,
    portfolio,
    recipe,
    refit,
    standard_error,
)
from atft_assets.trading.gates import Gate
from atft_model.interchange.statistics import mean_verdict, paired_difference

DAYS, HORIZON = 735, 20
FOLDS = {name: np.arange(DAYS) // 245 == k for k, name in enumerate(("2019", "2020", "2021"))}


def series(gain: float, seed: int = 0, noise: float = 0.02, days: int = DAYS) -> tuple[np.ndarray, np.ndarray]:
    """Daily RankICs [days] of a challenger and of a champion, most of which the market makes for both."""
    rng = np.random.default_rng(seed)
    market = rng.normal(0.04, 0.08, days)
    return market + gain + rng.normal(0, noise, days), market


def failed(decision: Decision) -> set[str]:
    return {gate.name for gate in decision.parts if not gate.passed}


def recipe_of(gain: float, **changes) -> Decision:
    ours, theirs = series(gain)
    given = {"others": [], "turnover": (0.2, 0.2), "spread": (0.002, 0.0015), "folds": FOLDS, "horizon": HORIZON}
    return recipe(ours, theirs, **{**given, **changes})


def test_a_refit_that_is_as_good_passes_and_one_that_is_worse_does_not() -> None:
    agreement, past = np.full(DAYS, 0.9), [0.88, 0.9, 0.91, 0.87, 0.89, 0.9, 0.92, 0.9]
    same = refit(*series(0.0), agreement, past, HORIZON)
    assert same.passed and same.margin == MARGIN and same.rule == "refit"
    assert refit(*series(-0.003), agreement, past, HORIZON).passed  # a little worse is within the margin
    worse = refit(*series(-0.02), agreement, past, HORIZON)
    assert failed(worse) == {"not_worse"} and "95 % certainty" in worse.sentence
    noisy = refit(*series(0.0, noise=0.3), agreement, past, HORIZON)
    assert failed(noisy) == {"not_worse"}  # not shown to be not worse
    other = refit(*series(0.0), np.full(DAYS, 0.4), past, HORIZON)
    assert failed(other) == {"agreement"}
    few = refit(*series(0.0), np.full(DAYS, 0.4), past[:3], HORIZON)
    assert few.passed and any("too few to say" in gate.sentence for gate in few.parts)
    short = refit(*series(0.0, days=79), agreement[:79], past, HORIZON)
    assert failed(short) == {"not_worse"} and "80 are the least" in short.sentence
    broken = Gate("coverage", False, True, 0.5, (0.95, 1.0), "half of the names")
    assert failed(refit(*series(0.0), agreement, past, HORIZON, [broken])) == {"coverage"}


def test_the_bound_of_a_refit_is_one_sided_at_95() -> None:
    ours, theirs = series(0.0)
    verdict = mean_verdict(ours - theirs, HORIZON)
    error = (verdict.high - verdict.mean) / stats.t.isf(0.025, verdict.degrees)
    assert standard_error(verdict) == pytest.approx(error)
    expected = verdict.mean - stats.t.isf(0.05, verdict.degrees) * error
    found = refit(ours, theirs, [0.9], [], HORIZON)
    assert found.parts[0].figure == pytest.approx(expected) and found.detectable == pytest.approx(POWER * error)


def test_a_recipe_must_be_shown_to_be_better() -> None:
    better = recipe_of(0.01)
    assert better.passed and better.p < 1e-3 and failed(recipe_of(0.0)) >= {"better"}
    assert "better" in failed(recipe_of(-0.01)) and recipe_of(-0.01).p < 0.05  # shown to be worse is not shown better


def test_the_p_is_that_of_a_family() -> None:
    ours, theirs = series(0.0025)
    alone = paired_difference(ours, theirs, HORIZON).p
    assert 0.005 < alone < 0.05
    one = recipe_of(0.0025)
    many = recipe_of(0.0025, others=[0.4, 0.6, 0.8, 0.9, float("nan"), 0.3, 0.7, 0.5, 0.99, 0.95, 0.35])
    assert one.p == one.p_alone == many.p_alone == alone and one.passed
    assert many.p == pytest.approx(11 * alone) and failed(many) == {"better"} and "of 11 comparisons" in many.sentence
    assert p_of(ours, theirs, HORIZON) == alone


def test_one_good_year_is_not_enough() -> None:
    ours, theirs = series(0.0)
    lucky = ours + np.where(FOLDS["2020"], 0.06, -0.004)
    found = recipe(lucky, theirs, FOLDS, [], (0.2, 0.2), (0.002, 0.0015), HORIZON)
    assert "in_folds" in failed(found) and "in 33% of the folds" in found.sentence
    two = recipe(ours + np.where(FOLDS["2020"], -0.002, 0.03), theirs, FOLDS, [], (0.2, 0.2), (0.002, 0.0015), HORIZON)
    assert "in_folds" not in failed(two)  # two of three
    alone = recipe_of(0.01, folds={"2019": FOLDS["2019"]})
    assert failed(alone) == {"in_folds"} and "too few folds" in alone.sentence


def test_what_costs_more_than_it_earns_does_not_pass() -> None:
    assert failed(recipe_of(0.01, turnover=(0.25, 0.2))) == {"turnover"}
    assert failed(recipe_of(0.01, turnover=(0.24, 0.2))) == set()
    assert failed(recipe_of(0.01, spread=(0.001, 0.0015))) == {"net_spread"}
    # a higher spread that more trading eats up: 2 * .03 * 10 bp are .6 bp
    assert failed(recipe_of(0.01, turnover=(0.23, 0.2), spread=(0.00155, 0.0015))) == {"net_spread"}


def test_the_power_is_that_of_a_simulation() -> None:
    """A difference of 2.8 standard errors is shown in about 80 % of cases."""
    detectable = np.mean([recipe(*series(0, seed), FOLDS, [], (1, 1), (1, 1), 5).detectable for seed in range(20)])
    shown = [
        recipe(*series(detectable, 100 + seed), FOLDS, [], (1, 1), (1, 1), 5).parts[0].passed for seed in range(200)
    ]
    assert 0.7 < np.mean(shown) < 0.9


def test_a_portfolio_rule_is_deflated_by_everything_that_was_tried() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (980, 12))
    skilled = noise.copy()
    skilled[:, 0] += 0.0025
    few = [0.01] * 3
    good = portfolio(skilled[:, 0], skilled[:, 0] - 0.0005, skilled, 12, few)
    assert good.passed and good.statistic * np.sqrt(TRADING_DAYS) > 2 and good.low > 0
    many = portfolio(skilled[:, 0] - 0.0020, skilled[:, 0] - 0.0022, skilled, 12, few)
    assert portfolio(skilled[:, 0] - 0.0020, skilled[:, 0] - 0.0022, skilled, 1, few).passed and not many.passed
    assert failed(many) == {"deflated_sharpe"}
    costly = portfolio(skilled[:, 0], skilled[:, 0] - 0.004, skilled, 12, few)
    assert failed(costly) == {"twice_the_costs"} and "at twice the costs" in costly.sentence
    best = int(noise.mean(axis=0).argmax())
    lucky = portfolio(noise[:, best], noise[:, best], noise, 12, few)
    assert "overfitting" in failed(lucky) and "deflated_sharpe" in failed(lucky)
    single = portfolio(skilled[:, 0], skilled[:, 0], skilled[:, :1], 12, few)
    assert failed(single) == {"overfitting"} and "single rule" in single.sentence


def test_the_first_is_what_won() -> None:
    found = first("blend", {"lightgbm": 0.03, "phase3": 0.02}, 0.04)
    assert found.passed and "blend won its evaluation" in found.parts[0].sentence and np.isnan(found.p)


def test_what_cannot_be_judged_never_passes() -> None:
    found = not_judged("recipe", "nothing there")
    assert not found.passed and "nothing there" in found.sentence
    warning = replace(found.parts[0], blocking=False)
    assert replace(found, parts=(warning,)).passed  # a warning does not stand against it
