"""The profile of a score on a small block: figures against SciPy, and what was planted is found."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from atft_assets.scoring.block import Block
from atft_assets.scoring.daily import rolling_mean
from atft_assets.scoring.evaluation import evaluate
from atft_assets.scoring.profile import profile
from atft_assets.scoring.profiles import Profile, Profiles, meanings
from atft_assets.scoring.surroundings import Surroundings, surroundings_of
from atft_model.interchange.horizons import HORIZONS, horizon_weights
from atft_model.interchange.records import from_plain, to_plain
from tests.scoring.small_panel import CLASSES, DAYS, NAMES, SECTORS, members, persistent_scores, small_block

WEIGHTS = horizon_weights(HORIZONS)


@pytest.fixture(scope="module")
def skilled(block: Block, around: Surroundings) -> Profile:
    scores = persistent_scores(block, rho=0.9, skill=0.5)
    return profile("skilled", scores, block.score_dense(scores), around, persistent_scores(block, 0.5, 0.2, seed=7))


def test_example_of_a_single_day() -> None:
    scores, returns = np.array([[[3.0, 1, 2, 2, 5]]]), np.array([[[0.02, -0.01, 0.0, 0.01, 0.03]]])
    score = evaluate(scores, returns, np.ones((1, 5), bool), horizons=(1,), min_names=5)
    assert (score.rank_ic, score.by_horizon[1].ic) == pytest.approx((0.97468, 0.93831), abs=5e-6)


def test_figures_that_the_evaluation_has_too_are_the_same(block: Block, skilled: Profile) -> None:
    score = block.score_dense(persistent_scores(block, rho=0.9, skill=0.5))
    assert skilled.rank_ic == score.rank_ic and skilled.neutral_rank_ic == score.neutral_rank_ic
    for h in HORIZONS:
        assert skilled.by_horizon[str(h)].spread == pytest.approx(score.by_horizon[h].decile_spread)
    np.testing.assert_allclose(skilled.daily, score.daily, atol=1e-6)
    figures = skilled.by_horizon["5"]
    assert figures.deciles[-1] - figures.deciles[0] == pytest.approx(figures.spread, abs=2e-6)
    assert figures.path[-1] == pytest.approx(figures.spread * len(skilled.daily) / 5, rel=1e-3)
    assert figures.break_even == pytest.approx(figures.spread / (4 * figures.turnover))


def test_decay_is_the_rank_ic_with_single_later_days(block: Block, around: Surroundings) -> None:
    scores = persistent_scores(block, rho=0.9)
    scores[:] = scores[:1]  # every head alike, so that the ranking is known
    found = profile("flat", scores, block.score_dense(scores), around).decay
    one_day = block.panel.one_day_returns
    for k in (1, 2, 20):
        daily = []
        for d, t in enumerate(block.days):
            later = one_day[t + k - 1]
            rows = block.eligible[d] & np.isfinite(later)
            daily.append(spearmanr(scores[0, d, rows], later[rows]).statistic)
        assert found[k - 1] == pytest.approx(np.mean(daily), abs=1e-6)


def test_a_ranking_that_knows_the_third_day_says_so(block: Block, around: Surroundings) -> None:
    third = np.nan_to_num(block.panel.one_day_returns[block.days.start + 2 : block.days.stop + 2])
    scores = np.broadcast_to(third, (4, *third.shape))
    found = profile("third", scores, block.score_dense(scores), around)
    assert np.argmax(found.decay) == 2 and found.decay[2] > 0.99
    assert found.by_horizon["1"].spread < found.by_horizon["5"].spread


def test_groups_are_ranked_among_themselves(block: Block, around: Surroundings, skilled: Profile) -> None:
    scores, daily = persistent_scores(block, rho=0.9, skill=0.5), []
    prime = np.arange(NAMES) % 3 == 0
    for d in range(len(block.days)):
        known = block.eligible[d] & prime & np.isfinite(around.returns[:, d])
        daily.append(
            WEIGHTS @ [spearmanr(scores[h, d, known[h]], around.returns[h, d, known[h]]).statistic for h in range(4)]
        )
    assert skilled.by_segment["Prime"].rank_ic == pytest.approx(np.mean(daily))
    assert list(skilled.by_segment) == ["Prime", "Standard", "Growth"]
    assert list(skilled.by_division) == ["Manufacturing", "Finance"]  # 9999 belongs to none
    assert list(skilled.by_liquidity) == ["illiquid", "middle", "liquid"]
    assert sum(group.names_a_day for group in skilled.by_liquidity.values()) == pytest.approx(
        block.eligible.sum(axis=1).mean()
    )
    assert list(skilled.by_year) == ["2020", "2021"]
    assert sum(year.days for year in skilled.by_year.values()) == np.isfinite(skilled.daily).sum()


def test_skill_among_the_illiquid_alone_is_seen(block: Block, around: Surroundings) -> None:
    scores = persistent_scores(block, rho=0.9, skill=0.0)
    scores[:, :, :45] = persistent_scores(block, rho=0.9, skill=2.0)[:, :, :45]  # trading value rises with the place
    found = profile("illiquid", scores, block.score_dense(scores), around).by_liquidity
    assert found["illiquid"].rank_ic > 0.5 > 5 * abs(found["liquid"].rank_ic)


def test_a_factor_in_disguise_is_found_out(block: Block, around: Surroundings) -> None:
    beta = around.exposures.values["beta"]
    scores = np.broadcast_to(beta, (4, *beta.shape))
    found = profile("beta", scores, block.score_dense(scores), around)
    assert found.exposures["beta"].mean == pytest.approx(1) and abs(found.exposures["size"].mean) < 0.5
    ranked = np.where(block.eligible, around.taken_out[..., 1], np.nan)  # beta, as it is taken out
    nothing = profile("ranked", np.broadcast_to(ranked, scores.shape), block.score_dense(scores), around)
    assert np.isfinite(nothing.neutral_rank_ic) and abs(nothing.full_neutral_rank_ic) < 0.01


def test_what_is_full_neutral_is_uncorrelated_with_what_was_taken_out(block: Block, around: Surroundings) -> None:
    assert list(around.exposures.values) == ["volatility", "beta", "return_1d", "return_5d", "trading_value", "size"]
    assert around.taken_out.shape == (*block.eligible.shape, 4)
    missing = block.eligible & ~np.isfinite(around.exposures.values["size"])
    assert missing.any() and (around.taken_out[missing][:, 2] == 0).all()  # the day's median


def test_contribution(block: Block, around: Surroundings, skilled: Profile) -> None:
    lightgbm = persistent_scores(block, 0.5, 0.2, seed=7)
    score = block.score_dense(lightgbm)
    assert skilled.contribution > 0.1
    itself = profile("copy", lightgbm, score, around, lightgbm)
    assert np.isnan(itself.contribution)  # nothing beyond it
    alone = profile("alone", lightgbm, score, around)
    assert np.isnan(alone.contribution) and "no scores of LightGBM" in alone.left_out["contribution"]


def test_the_negated_score_has_the_negated_figures(block: Block, around: Surroundings, skilled: Profile) -> None:
    scores = -persistent_scores(block, rho=0.9, skill=0.5)
    found = profile("negated", scores, block.score_dense(scores), around)
    assert found.spread == pytest.approx(-skilled.spread) and found.jpx == pytest.approx(-skilled.jpx, rel=2e-3)
    assert found.turnover == pytest.approx(skilled.turnover) and found.half_life == pytest.approx(skilled.half_life)
    np.testing.assert_allclose(found.decay, -np.array(skilled.decay), atol=2e-6)


def test_half_life_and_turnover_follow_the_persistence(block: Block, around: Surroundings) -> None:
    found = []
    for rho in (0.5, 0.9):
        scores = persistent_scores(block, rho)
        found.append(profile(str(rho), scores, block.score_dense(scores), around))
    assert found[1].half_life == pytest.approx(np.log(0.5) / np.log(0.9), rel=0.25)
    assert found[0].half_life < found[1].half_life and found[0].turnover > found[1].turnover > 0
    still = np.broadcast_to(np.arange(NAMES, dtype=np.float32), (4, *block.eligible.shape))
    constant = profile("still", still, block.score_dense(still), around)
    assert (
        min(constant.autocorrelation) == pytest.approx(1) and constant.turnover < 0.2
    )  # one in twenty is not eligible


def test_days_and_names_without_scores_are_left_out(block: Block, around: Surroundings) -> None:
    scores = persistent_scores(block, rho=0.9, skill=0.5)
    scores[:, 10:20] = np.nan
    scores[:, :, ::7] = np.nan
    found = profile("gaps", scores, block.score_dense(scores), around)
    assert np.isnan(found.daily[10:20]).all() and np.isfinite(found.full_neutral_rank_ic) and found.rank_ic > 0.1
    nothing = np.full_like(scores, np.nan)
    empty = profile("nothing", nothing, block.score_dense(nothing), around)
    assert np.isnan(empty.rank_ic) and np.isnan(empty.turnover) and empty.by_segment == {} and empty.jpx_names == 0


def test_sectors_of_the_highest_tenth(block: Block, around: Surroundings) -> None:
    banks = np.arange(NAMES) % len(SECTORS) == SECTORS.index("7050")
    scores = np.broadcast_to(np.where(banks, 10.0, 0) + persistent_scores(block, 0.9)[0], (4, *block.eligible.shape))
    found = profile("banks", scores, block.score_dense(scores), around).sectors
    assert found["7050"].top == 1.0 and found["7050"].universe == pytest.approx(0.25, abs=0.02)
    assert sum(held.universe for held in found.values()) == pytest.approx(1)


def test_what_cannot_be_had_is_said(tmp_path: Path, block: Block) -> None:
    bare = small_block(tmp_path / "bare", features=("noise",))
    around = surroundings_of(bare)
    assert set(around.left_out) == {
        "trading_value", "size", "market_capitalisation", "by_segment", "by_liquidity", "by_liquidity_and_group"
    }  # fmt: skip
    scores = persistent_scores(bare, 0.9)
    found = profile("bare", scores, bare.score_dense(scores), around)
    assert found.by_segment == found.by_liquidity == found.by_liquidity_and_group == {} and found.by_division
    assert list(found.exposures) == ["volatility", "beta", "return_1d", "return_5d"]
    assert np.isfinite(found.full_neutral_rank_ic)
    alike = members(block).with_columns(scale_cat=pl.lit(CLASSES[0]))
    assert "of one TOPIX size class" in surroundings_of(block, alike).left_out["size"]


def test_no_figure_of_a_day_depends_on_days_that_a_label_does_not_reach(block: Block, around: Surroundings) -> None:
    """Exposures and groups are known on the day; decay looks no further than the longest label."""
    assert len(around.one_day) == len(block.days) + max(HORIZONS) and block.days.stop + 20 < DAYS
    panel = block.panel
    changed = {**panel.tensors, "y_cc": panel.tensors["y_cc"].copy()}
    changed["y_cc"][:, block.days.start :] = 0.5
    other = Block(type(panel)(panel.folder), block.days, block.name)
    other.panel.__dict__["tensors"] = changed
    again = surroundings_of(other, members(block)).exposures.values
    for name, values in around.exposures.values.items():
        np.testing.assert_array_equal(again[name][0], values[0])


def test_records_are_read_back_as_they_were_written(around: Surroundings, skilled: Profile) -> None:
    told = Profiles(tuple(map(str, around.dates)), around.horizons, (skilled,), around.left_out, meanings())
    text = json.dumps(to_plain(told), allow_nan=False)
    again = from_plain(Profiles, json.loads(text), "profiles")
    assert json.dumps(to_plain(again)) == text
    assert again.scores[0].exposures["beta"] == skilled.exposures["beta"]
    assert all(meanings().values()) and "by_horizon.break_even" in meanings() and len(meanings()) > 50


def test_rolling_mean_by_hand() -> None:
    found = rolling_mean([1.0, 2.0, np.nan, 6.0, np.nan, np.nan], 3)
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.5, 4.0, np.nan, np.nan])
    assert np.isnan(rolling_mean([1.0, 2.0], 3)).all()


def test_the_band_is_that_of_sixty_days(block: Block, skilled: Profile) -> None:
    score = block.score_dense(persistent_scores(block, rho=0.9, skill=0.5))
    known = score.daily[np.isfinite(score.daily)]
    error = known.mean() / score.t  # of the mean of all days
    assert skilled.rolling_band == pytest.approx(1.96 * error * np.sqrt(len(known) / 60))
