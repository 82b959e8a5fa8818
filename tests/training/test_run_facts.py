"""What is said of a run: preset, hyper-parameters, figures."""

from dataclasses import replace

from atft_assets.training.preflight import other_network
from atft_assets.training.run_facts import epoch_figures, figures_of, headline, preset_of, settings_of
from atft_model.interchange.config import PRESETS
from atft_model.interchange.fold import Fold
from atft_model.interchange.records import to_plain
from atft_model.interchange.run import RunRecord
from tests.training.small_market import END, START

DEMO = to_plain(PRESETS["demo"])


def record(**changes) -> RunRecord:
    fold = Fold("main", (START, START), (START, END), (END, END), 20, 20)
    given = {
        "format": 2, "status": "finished", "run_id": "r", "phase": 0, "name": "Baseline", "fold": fold,
        "panel_id": "p", "catalogue_hash": "c", "features": (), "horizons": (1, 5), "label": "y_cc", "target": "y_cc",
        "config": DEMO, "curriculum": {"epochs": 7, "rate": 0.3, "patience": 5}, "switches": {}, "parent": None,
        "code_version": "v", "seed": 3, "n_seeds": 2, "mode": "safe", "controls": {}, "hardware": {"device": "cpu"},
        "versions": {}, "epochs": 6, "kept_epoch": 4, "seconds": 12.3456,
        "validation": {
            "rank_ic": 0.123456, "rank_ic_by_horizon": {"1": 0.2, "5": 0.1},
            "t_newey_west_by_horizon": {"1": 3.21, "5": 2.1}, "p_by_horizon": {"1": 0.0123456, "5": None},
        },
    }  # fmt: skip
    return RunRecord(**{**given, **changes})


def test_hyper_parameters_are_among_what_is_shown() -> None:
    shown = settings_of(record())
    assert (
        shown["preset"] == "demo"
        and shown["hidden_size"] == 32
        and shown["newest_size"] == 64
        and shown["lookback"] == 20
    )
    assert (shown["epochs_asked"], shown["learning_rate"], shown["dropout"]) == (7, 0.003, 0.2)
    assert (shown["names"], shown["keep"], shown["schedule"]) == (1200, "best", "cosine")
    assert (shown["device"], shown["mode"], shown["seed"], shown["n_seeds"]) == ("cpu", "safe", 3, 2)


def test_a_network_is_called_after_the_nearest_preset() -> None:
    assert [preset_of(to_plain(preset)) for preset in PRESETS.values()] == list(PRESETS)
    changed = {**DEMO, "model": {**DEMO["model"], "dropout": 0.3}}
    assert preset_of(changed) == "demo, but dropout 0.3"
    assert preset_of({}) == "none"


def test_figures_are_rounded_and_those_of_epochs_have_names_of_their_own() -> None:
    figures = figures_of(record())
    assert figures["rank_ic"] == 0.1235 and figures["rank_ic_1d"] == 0.2 and figures["kept_epoch"] == 4
    by_epoch = epoch_figures({"event": "epoch", "epoch": 1, "rank_ic": 0.1, "epoch_seconds": 2.0})
    assert by_epoch == {"epoch_rank_ic": 0.1, "epoch_seconds": 2.0}
    assert headline(record()) == "validation RankIC 0.1235, t 3.2 at one day; epoch 4 of 6 kept; 12 s"
    assert "its parent's weights kept" in headline(record(kept_epoch=0))
    assert figures["p_1d"] == 0.0123 and "p_5d" not in figures  # too few days for one


def test_a_t_of_an_earlier_rule_stands_beside_none_of_todays() -> None:
    validation = {name: value for name, value in record().validation.items() if name != "p_by_horizon"}
    earlier = record(validation=validation)
    assert figures_of(earlier) == {
        name: value for name, value in figures_of(record()).items() if not name.startswith(("t_", "p_"))
    }
    assert headline(earlier) == "validation RankIC 0.1235; epoch 4 of 6 kept; 12 s"


def test_a_size_other_than_the_parents_is_told() -> None:
    parent = record()
    assert other_network({"preset": "small"}, parent).startswith("newest_size 64, not 128, hidden_size 32, not 64")
    assert other_network({"network": {"lookback": 30}}, parent) == "lookback 20, not 30"
    for fits in ({}, {"preset": "demo"}, {"network": {"dropout": 0.1}}):
        assert other_network(fits, parent) is None
    assert other_network({"preset": "small"}, replace(parent, config={})) is None
