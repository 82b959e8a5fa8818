"""Does it learn what was planted, each part by the phase that switches it on, and nothing where nothing is?

Panels with one signal per component (`Panel.synthetic`), small networks, the curriculum as it stands. Thresholds are
on paired daily differences, seeds are fixed.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from atft_model.config import preset
from atft_model.curriculum import STAGES, WHOLE
from atft_model.metrics import daily_series, headline_series, newey_west_t, paired_difference, summarise
from atft_model.panel import Panel, PanelError
from atft_model.predict import block_view, read_scores, score_block, write_scores
from atft_model.study import curriculum, oracle_series, series_of, sizes, study
from atft_model.train import Fit, set_mode

CONFIG = preset(
    "demo", hidden_size=16, feature_size=4, context_size=16, lookback=12, head_rank=4, fan_windows=(3, 6, 12)
)
SHAPE = {
    "names": 96,
    "days": 400,
    "features": 8,
    "neighbours": 6,
    "lookback": 12,
    "chunk_days": 8,
    "strength": 0.3,
    "seed": 0,
}


@pytest.fixture(scope="module")
def planted():
    """(panel, outcomes of the four phases, scored on the test block)."""
    torch.set_num_threads(2)
    set_mode("safe", torch.device("cpu"))
    panel = Panel.synthetic(**SHAPE)
    return panel, curriculum(panel, CONFIG, ["test"], 0, "safe")


def headline(series, panel):
    return headline_series(series, panel.meta.horizons)


def earned(outcome, panel):
    """Daily headline RankIC on the test block."""
    return headline(series_of(outcome.scores["test"], panel, "test"), panel)


def test_every_phase_adds_its_own_signal(planted):
    panel, outcomes = planted
    days = [earned(o, panel) for o in outcomes]
    normalised = paired_difference(days[1], days[0])
    graph = paired_difference(days[2], days[1])
    tuned = paired_difference(days[3], days[2])
    assert normalised["difference"] > 0.02 and normalised["p"] < 0.01, (
        "phase 1 did not find the deviation from the own mean"
    )
    assert graph["difference"] > 0.02 and graph["p"] < 0.01, "phase 2 did not find the neighbours' lead"
    assert tuned["difference"] > -0.005, "fine-tuning lost something"


def test_the_network_reaches_most_of_the_oracle(planted):
    panel, outcomes = planted
    ours = np.nanmean(earned(outcomes[-1], panel))
    best = np.nanmean(headline(oracle_series(panel, "test"), panel))
    assert 0.7 * best < ours <= best + 0.01, "above the oracle there is only leakage"


def test_the_gate_opens_where_it_is_needed(planted):
    """Feature 3 hides its signal under a slow level: its FAN gate must be among the widest open."""
    _, outcomes = planted
    gate = outcomes[1].weights["fan.gamma"]
    assert gate[3] >= gate.sort().values[-2]


def test_shuffled_edges_gain_nothing(planted):
    """Against the same phase with self edges only, from the same phase 1: true edges gain, random ones do not."""
    panel, outcomes = planted
    days = {}
    for name in ("alone", "shuffled"):
        other = Panel.synthetic(**SHAPE)
        if name == "alone":
            other.cut_edges()
        else:
            other.shuffle_edges(7)
        (outcome,) = curriculum(other, CONFIG, ["test"], 0, "safe", STAGES[2:3], outcomes[1].weights)
        days[name] = earned(outcome, panel)
    true = paired_difference(earned(outcomes[2], panel), days["alone"])
    random = paired_difference(days["shuffled"], days["alone"])
    assert true["difference"] > 0.02 and true["p"] < 0.01
    assert random["difference"] < 0.1 * true["difference"] or random["p"] > 0.05


def test_permuted_labels_teach_nothing():
    set_mode("safe", torch.device("cpu"))
    panel = Panel.synthetic(**SHAPE)
    panel.permute_labels(3)
    fit = Fit(panel, CONFIG, replace(WHOLE, epochs=4))
    for _ in fit.epochs():
        pass
    daily = headline(series_of(score_block(fit.model, panel, "test"), panel, "test"), panel)
    assert abs(newey_west_t(daily, 19)) < 3
    assert abs(np.nanmean(daily)) < 0.05


def test_study_and_sizes_print_their_tables(capsys, tmp_path, monkeypatch):
    """The tables themselves, on a panel and epochs as small as they come."""
    monkeypatch.setattr("atft_model.study.STAGES", tuple(replace(s, epochs=1) for s in STAGES))
    panel = Panel.synthetic(names=32, days=260, features=6, neighbours=4, lookback=12, chunk_days=8, seed=1)
    panel.write(tmp_path / "panel")
    out = tmp_path / "figures.json"
    first, last = panel.meta.block("validation")
    noise = torch.randn(4, last - first + 1, panel.names, generator=torch.Generator().manual_seed(0))
    write_scores(tmp_path / "chance.validation.parquet", noise, panel, "validation")
    figures = study(
        tmp_path / "panel",
        CONFIG,
        1,
        ["validation", "test"],
        torch.device("cpu"),
        "safe",
        controls=True,
        neutral="noise_5",
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
    returns, valid = block_view(panel, "validation")
    assert chance["rank_ic"] == pytest.approx(summarise(daily_series(noise, returns, valid), (1, 5, 10, 20))["rank_ic"])
    gain = board["rows"]["phase 3 over chance.validation"]["paired"]["difference"]
    reached = board["rows"]["phase 3 Fine-tuning"]["by_seed"][0]["rank_ic"]
    assert gain == pytest.approx(reached - chance["rank_ic"], abs=1e-6)
    (alike,) = board["likeness"]["phase 3 Fine-tuning"].values()
    assert abs(float(alike.split()[0])) < 0.1
    with pytest.raises(PanelError, match=r"figures\.json cannot be read as scores"):
        read_scores(out, panel, "validation")
    assert json.loads(out.read_text())["blocks"].keys() == {"validation", "test"}
    table = sizes(tmp_path / "panel", ["demo", "small"], 1, 0, torch.device("cpu"), "safe", {"lookback": 12})
    assert "small" in table and "stock-days/s" in table
