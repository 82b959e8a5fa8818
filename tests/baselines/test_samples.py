"""The inner split, and the figure by which a baseline is chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from atft_assets.baselines.samples import Judge, features_of, inner_split
from atft_model.interchange.panel import Panel
from tests.baselines.made import linear, made_fold, made_panel


def test_the_inner_split_keeps_the_folds_own_distance(planted: Panel) -> None:
    fold = made_fold(planted)
    split, days = inner_split(planted, fold), fold.places(planted.dates, "train")
    assert split.fit.start == days.start and split.tail.stop == days.stop
    assert split.tail.start - split.fit.stop == fold.purge_days + fold.embargo_days
    assert len(split.tail) == round(len(days) / 5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_the_judge_is_the_mean_of_daily_spearman_correlations(seed: int, ties: bool) -> None:
    panel = made_panel(linear, days=100, names=30, seed=seed)
    rng = np.random.default_rng(seed)
    days = range(3, 9)
    scores = rng.normal(size=(100, 30, 2))
    scores = np.round(scores) if ties else scores
    scores[4, :, 0] = 1.0  # a day without variation
    found = Judge(panel, days).rank_ic(lambda day: scores[day.t, day.rows], [1, 3])
    for column, h in enumerate((1, 3)):
        daily = []
        for t in days:
            known = panel.valid[t] & np.isfinite(panel.y[h, t])
            if np.ptp(scores[t, known, column]) > 0:
                daily.append(spearmanr(scores[t, known, column], panel.y[h, t, known]).statistic)
        assert found[column] == pytest.approx(np.mean(daily), abs=1e-6)


def test_features_of_some_names_are_those_of_the_panel(planted: Panel) -> None:
    rows = planted.valid[3]
    np.testing.assert_array_equal(features_of(planted, 3, rows), planted.x(3)[rows])
