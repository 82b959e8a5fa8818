"""Does it learn what was planted, each part by the phase that switches it on, and nothing where nothing is?

Panels with one signal per component (`synthetic.py`), small networks, the curriculum as it stands. Thresholds are
on paired daily differences, seeds are fixed.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atft_model.curriculum import CURRICULUM, WHOLE, first_with_graph
from atft_model.device import set_mode
from atft_model.evaluate import series_of
from atft_model.fit import Fit
from atft_model.interchange.config import preset
from atft_model.interchange.errors import PanelError
from atft_model.interchange.statistics import lag_of, newey_west_t, paired_difference
from atft_model.metrics import daily_series, headline_series, spearman_by_day, summarise
from atft_model.predict import read_scores, score_days, write_scores
from atft_model.study import Source, curriculum, sizes, study
from atft_model.synthetic import Shape, synthetic, write

CONFIG = preset(
    "demo", hidden_size=16, feature_size=4, context_size=16, lookback=12, head_rank=4, fan_windows=(3, 6, 12)
)
SHAPE = Shape(names=96, days=400, features=8, neighbours=6, strength=0.3)
CPU = torch.device("cpu")


def planted_panel():
    return synthetic(SHAPE, lookback=12, chunk_days=8, seed=0)


@pytest.fixture(scope="module")
def planted():
    """(panel, fold, outcomes of the four phases, scored on the test block)."""
    set_mode("safe", CPU)
    panel, fold = planted_panel()
    return panel, fold, curriculum(panel, fold, CONFIG, ["test"], 0, "safe")


def earned(scores, panel, fold):
    """Daily headline RankIC on the test block, of the days on which all labels are known."""
    return headline_series(series_of(scores, panel, fold.places(panel.dates, "test")), panel.horizons)


def next_day(scores, panel, fold):
    """Daily RankIC with the return of the next day: sixty days tell of it, and nothing of a headline with 20 days."""
    return series_of(scores, panel, fold.places(panel.dates, "test"))["rank_ic"][panel.horizons.index(1)]


def test_the_newest_row_alone_finds_levels_and_their_interaction(planted):
    """Phase 0 against the true components: it is like each of those that stand in a day's row, and not like the shocks
    of the neighbours, whose features it cannot see.
    """
    panel, fold, outcomes = planted
    days = fold.places(panel.dates, "test")
    scores, mask = outcomes[0].scores["test"][0], panel.valid_on(days)
    x = panel.x[days.start : days.stop].float()
    neighbours, present = panel.neighbours.long(), panel.neighbour_mask.clone()
    present[..., 0] = False  # the self edge
    period = panel.graph_period[days.start : days.stop]
    near, counted = neighbours[period].flatten(1), present[period].float()
    shocks = x[..., 4].gather(1, near).view(counted.shape)
    lead = (shocks * counted).sum(-1) / counted.sum(-1).clamp_min(1)
    alike = {
        name: float(spearman_by_day(scores, truth, mask).nanmean())
        for name, truth in (("level", x[..., 0]), ("product", x[..., 1] * x[..., 2]), ("lead", lead))
    }
    assert alike["level"] > 0.5 and alike["product"] > 0.3, alike
    assert abs(alike["lead"]) < 0.05, alike
    assert newey_west_t(earned(outcomes[0].scores["test"], panel, fold), lag_of(max(panel.horizons))) > 4


def test_every_phase_adds_its_own_signal(planted):
    panel, fold, outcomes = planted
    days = [next_day(o.scores["test"], panel, fold) for o in outcomes]
    normalised = paired_difference(days[1], days[0], 1)
    graph = paired_difference(days[2], days[1], 1)
    tuned = paired_difference(days[3], days[2], 1)
    assert normalised.mean > 0.02 and normalised.p < 0.01, "phase 1 did not find the deviation from the own mean"
    assert graph.mean > 0.02 and graph.p < 0.01, "phase 2 did not find the neighbours' lead"
    assert tuned.mean > -0.005, "fine-tuning lost something"


def test_the_network_reaches_most_of_the_oracle(planted):
    panel, fold, outcomes = planted
    days = fold.places(panel.dates, "test")
    ours = np.nanmean(earned(outcomes[-1].scores["test"], panel, fold))
    best = np.nanmean(earned(panel.oracle[:, days.start : days.stop], panel, fold))
    assert 0.7 * best < ours <= best + 0.01, "above the oracle there is only leakage"


def test_the_gate_opens_where_it_is_needed(planted):
    """Feature 3 hides its signal under a slow level: its FAN gate must be among the widest open."""
    *_, outcomes = planted
    gate = outcomes[1].weights["fan.gamma"]
    assert gate[3] >= gate.sort().values[-2]


def test_shuffled_edges_gain_nothing(planted):
    """Against the same phase with self edges only, from the same phase 1: true edges gain, random ones do not."""
    panel, fold, outcomes = planted
    place = first_with_graph(CURRICULUM)
    days = {}
    for name in ("alone", "shuffled"):
        other, _ = planted_panel()
        if name == "alone":
            other.cut_edges()
        else:
            other.shuffle_edges(7)
        (outcome,) = curriculum(
            other, fold, CONFIG, ["test"], 0, "safe", [CURRICULUM[place]], outcomes[place - 1].weights
        )
        days[name] = next_day(outcome.scores["test"], panel, fold)
    true = paired_difference(next_day(outcomes[place].scores["test"], panel, fold), days["alone"], 1)
    random = paired_difference(days["shuffled"], days["alone"], 1)
    assert true.mean > 0.02 and true.p < 0.01
    assert random.mean < 0.1 * true.mean or random.p > 0.05


def test_permuted_labels_teach_nothing():
    set_mode("safe", CPU)
    panel, fold = planted_panel()
    panel.permute_labels(3)
    fit = Fit(panel, fold, CONFIG, replace(WHOLE, epochs=4))
    for _ in fit.epochs():
        pass
    daily = earned(score_days(fit.model, panel, fold.places(panel.dates, "test")), panel, fold)
    assert abs(newey_west_t(daily, lag_of(max(panel.horizons)))) < 3
    assert abs(np.nanmean(daily)) < 0.05


def test_study_and_sizes_print_their_tables(capsys, tmp_path, monkeypatch):
    """The tables themselves, on a panel and epochs as small as they come."""
    monkeypatch.setattr("atft_model.study.CURRICULUM", tuple(replace(p, epochs=1) for p in CURRICULUM))
    shape = Shape(names=32, days=260, features=6, neighbours=4)
    panel, fold = synthetic(shape, lookback=12, chunk_days=8, seed=1)
    write(tmp_path / "panel", panel)
    source = Source(tmp_path / "panel", fold)
    out = tmp_path / "figures.json"
    days = fold.places(panel.dates, "validation")
    noise = torch.randn(4, len(days), panel.names, generator=torch.Generator().manual_seed(0))
    write_scores(tmp_path / "chance.validation.parquet", noise, panel, days)
    figures = study(
        source,
        CONFIG,
        1,
        ["validation", "test"],
        CPU,
        "safe",
        controls=True,
        neutral=True,
        out=out,
        against=[tmp_path / "chance.validation.parquet"],
    )
    text = capsys.readouterr().out
    for words in (
        "phase 0 Baseline",
        "Fine-tuning neutral",
        "shuffled edges",
        "permuted labels",
        "phase 3 over chance",
        "±",
    ):
        assert words in text
    board = figures["blocks"]["validation"]
    chance = board["rows"]["chance.validation"]["by_seed"][0]
    alone = summarise(daily_series(noise, panel.returns_on(days), panel.valid_on(days)), (1, 5, 10, 20))
    assert chance["rank_ic"] == pytest.approx(alone["rank_ic"])
    gain = board["rows"]["phase 3 over chance.validation"]["paired"].mean
    reached = board["rows"]["phase 3 Fine-tuning"]["by_seed"][0]["rank_ic"]
    assert gain == pytest.approx(reached - chance["rank_ic"], abs=1e-6)
    (alike,) = board["likeness"]["phase 3 Fine-tuning"].values()
    assert abs(float(alike.split()[0])) < 0.1
    with pytest.raises(PanelError, match=r"figures\.json cannot be read as scores"):
        read_scores(out, panel, days)
    written = json.loads(out.read_text())
    assert written["blocks"].keys() == {"validation", "test"} and written["fold"]["name"] == "synthetic"
    table = sizes(source, ["demo", "small"], 1, 0, CPU, "safe", {"lookback": 12})
    assert "small" in table and "stock-days/s" in table
