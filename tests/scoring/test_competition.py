"""The JPX competition's figure: an example by hand, and what must hold of it."""

import numpy as np
import pytest

from atft_assets.scoring.competition import jpx_figure, jpx_spread
from atft_assets.scoring.ordering import levels_of


def test_two_names_on_each_side_by_hand() -> None:
    returns = np.array([0.03, 0.01, -0.01, -0.02])
    assert jpx_spread(np.array([4, 3, 2, 1]), returns, 2) == pytest.approx(0.08)  # .04667 - (-.03333)


def test_the_figure_is_mean_over_deviation_of_the_days() -> None:
    rng = np.random.default_rng(0)
    scores, returns = rng.normal(size=(2, 12, 50))
    scores[:, :3] = np.nan
    returns[4, 10:] = np.nan  # seven names are known: too few for the day
    found, names = jpx_figure(levels_of(scores), returns, names=20)
    days = [d for d in range(12) if d != 4]
    series = np.array([jpx_spread(levels_of(scores[d, 3:]), returns[d, 3:], 20) for d in days])
    assert names == 20 and found == pytest.approx(series.mean() / series.std(ddof=1))
    assert jpx_figure(levels_of(-scores), returns, names=20)[0] == pytest.approx(-found)
    assert jpx_figure(levels_of(scores), returns)[1] == 23  # fewer than 400 names: half of them
    assert np.isnan(jpx_figure(levels_of(scores[:2]), returns[:2])[0])
