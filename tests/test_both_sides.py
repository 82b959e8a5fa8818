"""What both packages report of the same numbers is the same: the trainer's torch metrics against the judge's in NumPy.

The metric exists twice on purpose; constants and statistics of daily series exist once, in `atft_model.interchange`.
"""

import numpy as np
import pytest
import torch

from atft_assets.scoring import evaluation as judge
from atft_assets.scoring import trailing
from atft_assets.training import verdicts
from atft_model import evaluate as comparison
from atft_model import losses, metrics, study
from atft_model.interchange import horizons, statistics
from atft_model.synthetic import Shape, synthetic

KNOWN = (1, 5, 10, 20)


def test_constants_and_statistics_are_one_object_on_both_sides() -> None:
    for ours, theirs in (
        (losses.MIN_NAMES, judge.MIN_NAMES),
        (metrics.horizon_weights, judge.horizon_weights),
        (metrics.headline, judge.headline),
        (metrics.mean_verdict, judge.mean_verdict),
        (study.paired_difference, verdicts.paired_difference),
        (comparison.paired_difference, verdicts.paired_difference),
    ):
        assert ours is theirs
    assert metrics.MIN_NAMES is horizons.MIN_NAMES and metrics.mean_verdict is statistics.mean_verdict
    assert metrics.VOLATILITY_WINDOW == trailing.VOLATILITY_WINDOW


def random_block(seed: int, days: int = 30, names: int = 70) -> dict[str, np.ndarray]:
    """Scores and returns [H,D,N] with ties and gaps, few names on some days, tiny sectors, short histories."""
    rng = np.random.default_rng(seed)
    returns = rng.standard_t(3, (len(KNOWN), days, names)) * 0.02
    scores = (returns * rng.random() + 0.02 * rng.normal(size=returns.shape)).astype(np.float32)
    scores[:, ::3] = scores[:, ::3].round(2)
    scores[:, 4] = 0.1  # no opinion
    scores[1, 7, 5:] = 1.0
    returns[:, ::4] = returns[:, ::4].round(2)
    returns = returns.astype(np.float32)
    scores[rng.random(scores.shape) < 0.05] = np.nan
    returns[rng.random(returns.shape) < 0.05] = np.nan
    eligible = rng.random((days, names)) < 0.8
    eligible[5, 9:] = False  # fewer than ten
    eligible[6, 14:] = False
    one_day = (rng.normal(size=(days + 25, names)) * rng.uniform(0.005, 0.05, names)).round(3).astype(np.float32)
    one_day[rng.random(one_day.shape) < 0.2] = np.nan
    one_day[:, :3] = np.nan
    one_day[:, 3] = one_day[:, 4]  # equal volatilities
    sectors = np.minimum(rng.integers(0, 9, names), rng.integers(0, 9, names))
    sectors[-1] = 9  # alone in its sector
    return {"scores": scores, "returns": returns, "eligible": eligible, "one_day": one_day, "sectors": sectors}


def both_sides(
    block: dict[str, np.ndarray], over: tuple[int, ...]
) -> tuple[judge.Score, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The judge's verdict, and the trainer's raw and neutral daily figures; the days are the last of the history."""
    days = range(len(block["one_day"]) - len(block["eligible"]), len(block["one_day"]))
    theirs = judge.evaluate(
        block["scores"], block["returns"], block["eligible"], horizons=over,
        volatility=trailing.trailing_volatility(block["one_day"], days), sectors=block["sectors"],
    )  # fmt: skip
    scores, returns, valid = (torch.from_numpy(block[name]) for name in ("scores", "returns", "eligible"))
    volatility = metrics.trailing_volatility(torch.from_numpy(block["one_day"]), days)
    np.testing.assert_array_equal(volatility.numpy(), trailing.trailing_volatility(block["one_day"], days))
    neutral = metrics.neutral_series(scores, returns, valid, volatility, torch.from_numpy(block["sectors"]))
    return theirs, metrics.daily_series(scores, returns, valid), neutral


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("over", [KNOWN, (1, 3, 7, 60), (2, 4, 30, 90)])
def test_trainer_and_judge_report_the_same(seed: int, over: tuple[int, ...]) -> None:
    """Day by day, raw and neutral; the means, t statistics and ICIRs; horizons that have no weight of their own too."""
    theirs, raw, neutral = both_sides(random_block(seed), over)
    for series, daily, headline in (
        (raw, theirs.daily, theirs.rank_ic), (neutral, theirs.daily_neutral, theirs.neutral_rank_ic),
    ):  # fmt: skip
        ours = metrics.headline_series(series, over)
        assert 10 < np.isfinite(ours).sum() < len(ours)
        np.testing.assert_allclose(ours, daily, rtol=0, atol=1e-9)
        assert metrics.summarise(series, over)["rank_ic"] == pytest.approx(headline, abs=1e-9)
    summary, means = metrics.summarise(raw, over), metrics.summarise(neutral, over)["rank_ic_by_horizon"]
    assert summary["days"] == theirs.days
    for h in over:
        row = theirs.by_horizon[h]
        assert summary["rank_ic_by_horizon"][str(h)] == pytest.approx(row.rank_ic, abs=1e-9)
        assert summary["t_newey_west_by_horizon"][str(h)] == pytest.approx(row.t, rel=1e-6)
        assert summary["icir_by_horizon"][str(h)] == pytest.approx(row.rank_icir, rel=1e-6)
        assert summary["ic_by_horizon"][str(h)] == pytest.approx(row.ic, abs=1e-6)
        assert means[str(h)] == pytest.approx(row.neutral_rank_ic, abs=1e-9)


def test_open_labels_at_the_end_of_a_block_cost_both_sides_the_same_days() -> None:
    block = random_block(0, days=60)
    for place, h in enumerate(KNOWN):
        block["returns"][place, 60 - h :] = np.nan
    theirs, raw, _ = both_sides(block, KNOWN)
    ours = metrics.headline_series(raw, KNOWN)
    assert np.isfinite(ours).sum() == np.isfinite(theirs.daily).sum() == 60 - 20 - 3  # three days have no figure
    assert metrics.summarise(raw, KNOWN)["days"] == theirs.days > np.isfinite(ours).sum()
    assert statistics.paired_difference(ours, np.zeros(60), 5) == (
        statistics.paired_difference(theirs.daily, np.zeros(60), 5)
    )


def test_the_losses_weigh_horizons_as_the_headline_does() -> None:
    expected = horizons.horizon_weights(KNOWN)
    assert torch.tensor(expected.tolist()).tolist() == pytest.approx(expected, abs=1e-7)
    assert expected == pytest.approx(np.array([1.0, 0.8, 0.6, 0.4]) / 2.8)


def test_a_resident_panel_gives_the_neutral_figures_of_the_judge() -> None:
    """From the panel itself: its sectors, its one-day returns, its padding."""
    panel, fold = synthetic(Shape(names=40, days=260, features=6, neighbours=4), lookback=12, chunk_days=4, seed=1)
    days, n = fold.places(panel.dates, "test"), 40
    scores = torch.randn(4, len(days), panel.names, generator=torch.Generator().manual_seed(2))
    series = comparison.series_of(scores, panel, days, neutral=True)
    theirs = judge.evaluate(
        scores[..., :n].numpy(), panel.returns_on(days)[..., :n].numpy(), panel.valid_on(days)[:, :n].numpy(),
        horizons=panel.horizons, sectors=panel.sectors()[:n].numpy(),
        volatility=trailing.trailing_volatility(panel.returns[0, :, :n].numpy(), days),
    )  # fmt: skip
    assert panel.names > n and np.isfinite(theirs.daily_neutral).sum() == len(days) - 20
    np.testing.assert_allclose(metrics.headline_series(series, panel.horizons), theirs.daily_neutral, atol=1e-9)
