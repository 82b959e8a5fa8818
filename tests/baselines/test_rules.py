"""Rules that nobody fits, and the blend."""

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from atft_assets.baselines.blend import blend
from atft_assets.baselines.registry import BASELINES
from atft_assets.baselines.rules import MOMENTUM_DAYS, momentum_return
from tests.baselines.made import QUICK, changed, linear, made_fold, made_panel


def test_rules_read_no_future() -> None:
    panel = made_panel(linear, days=400)
    t = 300
    rules = ("reversal_5d", "low_volatility", "momentum_12_1")
    y = panel.y.copy()
    y[:, t:] = 0.5
    later = changed(panel, y_cc=y)
    for name in rules:
        rule = BASELINES[name](panel, made_fold(panel), QUICK)
        before, after = (rule.predict(p, range(t, t + 1)) for p in (panel, later))
        np.testing.assert_array_equal(before, after)
        assert np.isfinite(before).all() and before.std() > 0
        assert not np.array_equal(rule.predict(panel, range(t + 1, t + 30)), rule.predict(later, range(t + 1, t + 30)))


def test_momentum_by_hand() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(300, 5)) * 0.02
    returns[100:110, 1] = np.nan  # a few days without a trade
    returns[50:260, 2] = np.nan  # most of the year
    found = momentum_return(returns, range(235, 262))
    assert np.isnan(found[: MOMENTUM_DAYS - 235]).all()  # the panel does not reach back
    for d, t in enumerate(range(235, 262)):
        if t >= MOMENTUM_DAYS:
            for n in (0, 3, 4):
                expected = np.prod(1 + returns[t - 240 : t - 20, n]) - 1
                assert found[d, n] == pytest.approx(expected)
            past = returns[t - 240 : t - 20, 1]
            assert found[d, 1] == pytest.approx(np.prod(1 + past[np.isfinite(past)]) - 1)
            assert np.isnan(found[d, 2])
    # whatever days are asked for together
    np.testing.assert_allclose(momentum_return(returns, range(255, 256))[0], found[20], rtol=1e-9)


def test_the_blend_is_the_mean_of_gaussian_ranks() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 20)), 1000 * rng.lognormal(size=(2, 3, 20))
    eligible = rng.random((3, 20)) < 0.8
    first[0, 1, 4] = np.nan
    found = blend((first, second), eligible)
    for h in range(2):
        for d in range(3):
            rows = eligible[d] & np.isfinite(first[h, d])
            scores = [norm.ppf((rankdata(part[h, d, rows]) - 0.5) / rows.sum()) for part in (first, second)]
            np.testing.assert_allclose(found[h, d, rows], np.mean(scores, axis=0), atol=1e-3)
            assert np.isnan(found[h, d, ~rows]).all()
