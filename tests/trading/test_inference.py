"""Inference on Sharpe ratios: the reference's examples to their printed digits, SciPy, and simulations."""

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atft_assets.trading import TRADING_DAYS
from atft_assets.trading import inference as inf
from atft_assets.trading.inference import Moments, WrongUnit
from atft_model.interchange.statistics import mean_verdict
from tests.trading.goldens import inputs

YEAR = math.sqrt(TRADING_DAYS)
E10 = Moments(1.0 / YEAR, -0.5, 6.0, 486)
NORMAL_DAYS = np.random.default_rng(0).normal(0.0005, 0.01, 490)


def test_e6_circular_blocks_by_hand() -> None:
    x = np.array([0.02, 0.04, -0.01, 0.03, 0.00, 0.04])
    places = inf.circular_blocks([5, 5, 0], 2, 6)
    assert places.tolist() == [5, 0, 5, 0, 0, 1] and x[places].mean() == pytest.approx(0.030, abs=1e-12)
    assert inf.circular_blocks([[4, 1], [0, 3]], 3, 5).tolist() == [[4, 0, 1, 1, 2], [0, 1, 2, 3, 4]]


def test_e7_the_ratio_by_hand() -> None:
    assert inf.moments([0.01, -0.02, 0.03, -0.01]).sharpe * YEAR == pytest.approx(1.7648, abs=5e-5)


def test_e9_the_papers_example() -> None:
    """SR 2.5 a year at 250 days, five years, N = 100, V one half a year squared."""
    of = Moments(2.5 / math.sqrt(250), -3, 10, 1250)
    assert of.sharpe == pytest.approx(0.15811, abs=5e-6)
    assert inf.expected_maximum(100, 0.5 / 250) == pytest.approx(0.11317, abs=5e-6)
    assert inf.expected_maximum(100, 0.5 / 250) * math.sqrt(250) == pytest.approx(1.789, abs=5e-4)
    assert inf.deflated_sharpe(of, 100, 0.5 / 250) == pytest.approx(0.9004, abs=5e-5)


def test_e10_two_years_of_tokyo() -> None:
    variance = 0.25 / TRADING_DAYS
    assert inf.probabilistic_sharpe(E10) == pytest.approx(0.9165, abs=5e-5)
    assert [inf.expected_maximum(n, variance) * YEAR for n in (20, 100)] == pytest.approx([0.950, 1.265], abs=5e-4)
    assert [inf.deflated_sharpe(E10, n, variance) for n in (20, 100)] == pytest.approx([0.527, 0.357], abs=5e-4)


def test_brackets_and_lengths_to_the_printed_digits() -> None:
    printed = {10: 1.5746, 20: 1.9007, 50: 2.2763, 100: 2.5306, 1000: 3.2551}
    assert [inf.bracket(n) for n in printed] == pytest.approx(list(printed.values()), abs=5e-5)
    assert inf.minimum_track_record(E10) == pytest.approx(688, abs=0.5)
    assert inf.minimum_track_record(E10) / TRADING_DAYS == pytest.approx(2.8, abs=0.05)
    years = [inf.minimum_backtest_years(n) for n in (10, 45, 100)]
    assert years == pytest.approx([2.5, 5.0, 6.4], abs=0.05)
    assert inf.standard_error(0.0, 486) * YEAR == pytest.approx(0.71, abs=5e-3)


def test_e11_overfitting_by_hand() -> None:
    """Four configurations in four blocks of ten equal days: five of six winners are not above the middle after."""
    means = np.array([[20, 10, -10, 0], [0, 10, 20, 10], [-12, 0, 10, 30], [5, 4, 6, 5]]).T / 1000  # [S,C]
    assert inf.overfitting(np.repeat(means, 10, axis=0), 4, by="mean") == pytest.approx(5 / 6)
    # the oldest days that fill no block are left out
    ahead = np.vstack([np.full((3, 4), 9.0), np.repeat(means, 10, axis=0)])
    assert inf.overfitting(ahead, 4, by="mean") == pytest.approx(5 / 6)


def long_hand(pnl: np.ndarray, blocks: int) -> float:
    """CSCV by its words, with SciPy's ranks."""
    cut = np.split(pnl, blocks)
    logits = []
    for half in combinations(range(blocks), blocks // 2):
        inside = np.vstack([cut[i] for i in half])
        outside = np.vstack([cut[i] for i in range(blocks) if i not in half])
        best = (inside.mean(axis=0) / inside.std(axis=0)).argmax()
        share = stats.rankdata(outside.mean(axis=0) / outside.std(axis=0))[best] / (pnl.shape[1] + 1)
        logits.append(math.log(share / (1 - share)))
    return float(np.mean(np.array(logits) <= 1e-12))


@given(st.integers(2, 7), st.sampled_from([2, 4, 6, 8]), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_overfitting_is_its_definition(count: int, blocks: int, seed: int) -> None:
    pnl = np.random.default_rng(seed).normal(size=(blocks * 5, count))
    assert inf.overfitting(pnl, blocks) == pytest.approx(long_hand(pnl, blocks))


def test_skill_is_not_overfitting_and_noise_is() -> None:
    rng = np.random.default_rng(1)
    noise = [inf.overfitting(rng.normal(0, 0.01, (480, 20)), 10) for _ in range(12)]
    assert 0.35 < np.mean(noise) < 0.75
    skilled = rng.normal(0, 0.01, (480, 20))
    skilled[:, 3] += 0.004
    assert inf.overfitting(skilled, 10) < 0.05


@pytest.mark.parametrize(
    ("shape", "blocks", "horizon", "said"),
    [
        ((100, 1), 4, 1, "two are the least"),
        ((100, 3), 5, 1, "even in number"),
        ((100, 3), 10, 20, "10 a block; 40 are the least"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(shape, blocks: int, horizon: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        inf.overfitting(np.zeros(shape), blocks, horizon=horizon)
    with pytest.raises(ValueError, match="without a return"):
        inf.overfitting(np.full((100, 3), np.nan), 4)


def test_moments_are_scipys() -> None:
    values = np.random.default_rng(2).standard_t(5, 700) * 0.01
    of = inf.moments(np.append(values, np.nan))
    assert of.days == 700 and of.sharpe == pytest.approx(values.mean() / values.std(ddof=1))
    assert of.skew == pytest.approx(stats.skew(values))
    assert of.kurtosis == pytest.approx(stats.kurtosis(values, fisher=False))
    z = (of.sharpe - 0.01) * math.sqrt(699) / math.sqrt(1 - of.skew * of.sharpe + (of.kurtosis - 1) / 4 * of.sharpe**2)
    assert inf.probabilistic_sharpe(of, 0.01) == pytest.approx(stats.norm.cdf(z), abs=1e-12)


def test_the_expected_maximum_is_about_that_of_draws() -> None:
    """An approximation: within three per cent of the mean largest of N normal draws."""
    rng = np.random.default_rng(3)
    for n in (10, 50, 200):
        assert rng.normal(size=(4000, n)).max(axis=1).mean() == pytest.approx(inf.bracket(n), rel=0.03)


# pitfall 21: units


def test_an_annual_ratio_is_refused() -> None:
    for annual in (1.0, 2.5, -1.2, 0.8):
        with pytest.raises(WrongUnit, match="cannot be of a day"):
            inf.probabilistic_sharpe(Moments(annual, 0, 3, 500))
    with pytest.raises(WrongUnit, match="the benchmark"):
        inf.probabilistic_sharpe(E10, 1.0)
    with pytest.raises(WrongUnit, match="the benchmark"):
        inf.minimum_track_record(E10, 1.0)
    with pytest.raises(WrongUnit, match="divide an annual one"):
        inf.deflated_sharpe(E10, 100, 0.5)
    with pytest.raises(WrongUnit, match="a trial's"):
        inf.variance_of_trials([1.0] * 12, 486)
    with pytest.raises(WrongUnit, match="kurtosis"):
        Moments(0.05, 0.0, 0.0, 500)  # an excess kurtosis


def test_returns_that_are_no_decimals_are_refused() -> None:
    with pytest.raises(WrongUnit, match="no decimals"):
        inf.moments(NORMAL_DAYS * 100)
    with pytest.raises(WrongUnit, match="no decimals"):
        inf.sharpe_verdict(NORMAL_DAYS * 10_000)
    assert inf.moments(NORMAL_DAYS).days == 490
    # what a perfect forecaster earns is large and of a day all the same
    assert inf.moments(NORMAL_DAYS + 0.02).sharpe > 1.5
    for few in ([], [0.01, 0.02], [0.01] * 50):
        with pytest.raises(ValueError, match="have no Sharpe ratio"):
            inf.moments(few)


# pitfall 22: the more was tried, the less is shown


@given(st.floats(1, 5000), st.floats(1.01, 3), st.floats(1e-5, 0.01), st.floats(-0.2, 0.2))
@settings(deadline=None, max_examples=100)
def test_a_deflated_ratio_falls_with_the_trials(trials: float, more: float, variance: float, sharpe: float) -> None:
    of = replace(E10, sharpe=sharpe)
    few, many = (inf.deflated_sharpe(of, n, variance) for n in (trials, trials * more))
    assert many <= few <= inf.probabilistic_sharpe(of)
    if trials >= 2 and 1e-6 < few < 1 - 1e-6:
        assert many < few


def test_one_trial_deflates_nothing() -> None:
    assert inf.deflated_sharpe(E10, 1, 0.001) == inf.probabilistic_sharpe(E10) and inf.bracket(0) == 0


def test_variance_and_number_of_trials() -> None:
    few = [0.01 * k for k in range(9)]
    assert inf.variance_of_trials(few, 486) == 1 / 486
    many = [*few, 0.2]
    assert inf.variance_of_trials(many, 486) == pytest.approx(np.var(many, ddof=1))
    assert inf.effective_trials(100, 0.6) == pytest.approx(40.6)
    assert inf.effective_trials(100, -0.2) == 100 and inf.effective_trials(100, 1.0) == 1
    rng = np.random.default_rng(4)
    common = rng.normal(size=(5000, 1))
    found = inf.mean_correlation(math.sqrt(0.6) * common + math.sqrt(0.4) * rng.normal(size=(5000, 8)))
    assert found == pytest.approx(0.6, abs=0.03) and np.isnan(inf.mean_correlation(common))


def test_the_track_record_is_long_enough_where_it_says() -> None:
    days = math.ceil(inf.minimum_track_record(E10))
    assert inf.probabilistic_sharpe(replace(E10, days=days)) >= 0.95
    assert inf.probabilistic_sharpe(replace(E10, days=days - 2)) < 0.95
    assert inf.minimum_track_record(E10, E10.sharpe) == math.inf


def test_the_interval_is_that_of_the_formula_where_returns_are_normal() -> None:
    rng = np.random.default_rng(5)
    reaches, covered = [], 0
    for _ in range(200):
        verdict = inf.sharpe_verdict(rng.normal(0.001, 0.01, 490))
        assert verdict.low < verdict.mean < verdict.high
        quantile = stats.t.isf(0.025, verdict.degrees)
        reaches.append((verdict.high - verdict.low) / 2 / quantile)
        covered += verdict.low <= 0.1 <= verdict.high
    assert np.mean(reaches) == pytest.approx(inf.standard_error(0.1, 490), rel=0.05)
    assert 0.91 <= covered / 200 <= 0.99


def test_the_interval_knows_of_serial_correlation() -> None:
    """Returns with an autocorrelation of .3: the ordinary interval covers too seldom, this one about as it says."""
    rng = np.random.default_rng(6)
    ordinary = ours = 0
    for _ in range(300):
        noise = rng.normal(size=1100)
        x = np.zeros(1100)
        for t in range(1, 1100):
            x[t] = 0.3 * x[t - 1] + noise[t]
        x = x[100:] / math.sqrt(1 / (1 - 0.09))
        returns = 0.0005 + 0.01 * x
        verdict = inf.sharpe_verdict(returns, horizon=5)
        ours += verdict.low <= 0.05 <= verdict.high
        of = inf.moments(returns)
        ordinary += abs(of.sharpe - 0.05) <= 1.96 * inf.standard_error(of.sharpe, 1000)
    assert ordinary / 300 < 0.89 < ours / 300


def test_the_interval_moves_with_the_ratio_of_the_returns() -> None:
    verdict = inf.sharpe_verdict(NORMAL_DAYS)
    assert verdict.mean == pytest.approx(inf.moments(NORMAL_DAYS).sharpe)
    assert inf.sharpe_verdict(3 * NORMAL_DAYS).low == pytest.approx(verdict.low)  # leverage is no skill
    assert inf.sharpe_verdict(NORMAL_DAYS + 0.01).low > 0


def test_the_bootstrap_stands_beside_the_cosines() -> None:
    rng = np.random.default_rng(7)
    shown, chance = rng.normal(0.5, 1, 400), rng.normal(0.0, 1, 400)
    assert inf.bootstrap_p(shown, 5) == pytest.approx(1 / 2001) and mean_verdict(shown, 5).p < 1e-3
    assert inf.bootstrap_p(chance, 5) == pytest.approx(stats.ttest_1samp(chance, 0).pvalue, abs=0.15)
    assert inf.bootstrap_p(chance, 5, seed=1) == inf.bootstrap_p(chance, 5, seed=1)
    assert np.isnan(inf.bootstrap_p(chance[:119], 5)) and np.isfinite(inf.bootstrap_p(chance[:120], 5))


# -- against purgedcv; goldens/make.py made its figures ----------------------------------------------------------------

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "golden.json").read_text())


def theirs() -> Moments:
    """Of the last rule as purgedcv has them: it corrects skew and kurtosis for bias and not the deviation."""
    one = inputs.returns()[:, -1]
    skew, kurtosis = stats.skew(one, bias=False), stats.kurtosis(one, bias=False, fisher=False)
    ours = inf.moments(one)
    assert ours.sharpe == pytest.approx(one.mean() / one.std(), rel=2e-3)
    assert (ours.skew, ours.kurtosis) == pytest.approx((skew, kurtosis), rel=0.02)
    return replace(ours, sharpe=one.mean() / one.std(), skew=skew, kurtosis=kurtosis)


def test_psr_and_dsr_are_purgedcvs() -> None:
    of = theirs()
    np.testing.assert_allclose([inf.probabilistic_sharpe(of, one) for one in inputs.BENCHMARKS], GOLDEN["psr"])
    np.testing.assert_allclose([inf.deflated_sharpe(of, *one) for one in inputs.TRIALS], GOLDEN["dsr"])


def test_minimum_lengths_are_purgedcvs() -> None:
    """Theirs is a whole number of days, the next above."""
    ours = [
        inf.minimum_track_record(Moments(sharpe, skew, kurtosis, 1000), benchmark)
        for sharpe, benchmark, skew, kurtosis in inputs.LENGTHS
    ]
    assert [math.ceil(one) for one in ours] == GOLDEN["length"]
    years = [inf.minimum_backtest_years(trials) for trials, _ in inputs.TRIALS[1:]]
    np.testing.assert_allclose(years, GOLDEN["years"])


def test_overfitting_is_purgedcvs() -> None:
    ours = [inf.overfitting(inputs.returns(), blocks) for blocks in inputs.BLOCKS]
    np.testing.assert_allclose(ours, GOLDEN["pbo"])
    assert len(set(ours)) == len(ours)
