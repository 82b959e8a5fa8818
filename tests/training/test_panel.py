"""The panel: what is in it, what it refuses, and that it is published whole or not at all."""

import shutil
from dataclasses import replace
from datetime import date

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atft_assets.contracts import ContractViolation
from atft_assets.store import MissingColumns, MissingTable
from atft_assets.training.baselines import day_sample
from atft_assets.training.panel import PanelConfig, build_panel, standardised
from atft_assets.training.panel_file import (
    PanelError,
    from_bfloat16,
    latest_panel,
    open_panel,
    point_latest,
    prune_panels,
    staged_panel,
    to_bfloat16,
)
from atft_assets.training.ranking import gaussian_ranks
from atft_assets.training.splits import SplitError

from .small_market import FEATURES, HORIZONS, catalogue


@settings(deadline=None)
@given(arrays(np.float32, 50, elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_bfloat16_is_torchs(values: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.from_numpy(values).to(torch.bfloat16)
    np.testing.assert_array_equal(to_bfloat16(values), theirs.view(torch.int16).numpy().view(np.uint16))
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), theirs.float().numpy())


def test_directory_is_what_the_trainer_reads(world) -> None:
    """Read with the safetensors library and torch, as the other side of the wall does."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    panel = latest_panel(world.store.local("panel"))
    tensors = load_file(panel.folder / "panel.safetensors")
    days, names = len(panel.dates), len(panel.codes)
    shapes = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    slots = panel.tensors["neighbours"].shape[2]
    assert shapes == {
        "x": ((days, names, len(FEATURES)), torch.bfloat16),
        "valid": ((days, names), torch.bool),
        "y_cc": ((4, days, names), torch.float32),
        "y_oo": ((4, days, names), torch.float32),
        "neighbours": ((18, names, slots), torch.int32),
        "neighbour_attr": ((18, names, slots, 3), torch.float32),
        "neighbour_mask": ((18, names, slots), torch.bool),
        "graph_period": ((days,), torch.int32),
    }
    np.testing.assert_array_equal(tensors["x"][100].float().numpy(), panel.x(100))
    assert panel.description["horizons"] == list(HORIZONS) and panel.description["label"] == "y_cc"
    assert len(panel.description["sector33"]) == names and panel.codes == sorted(world.codes)


def test_cells_are_those_of_the_tables(world) -> None:
    """Every cell of some days, computed again from the tables with polars."""
    panel = latest_panel(world.store.local("panel"))
    features = world.store.table("features", "phase2_features").read()
    quotes = world.store.table("raw", "daily_quotes").read()
    labels = world.store.table("features", "labels").read()
    for t in (60, 150, len(panel.dates) - 1):
        day = panel.dates[t]
        rows = features.filter(pl.col("date") == day).sort("code")
        traded = quotes.filter(pl.col("date") == day).sort("code")["C"].is_not_null().to_numpy()
        np.testing.assert_array_equal(panel.valid[t], traded)
        for i, feature in enumerate(FEATURES):
            values = rows[feature.name].cast(pl.Float32).to_numpy().astype(np.float64)
            if feature.kind == "market":
                past = features.filter(pl.col("date") <= day).group_by("date").agg(pl.col(feature.name).first())
                past = past.sort("date")[feature.name].tail(252).to_numpy()
                expected = np.full(len(values), np.clip((past[-1] - past.mean()) / past.std(), -5, 5))
            elif feature.kind == "flag":
                expected = values - 0.5
            else:
                expected = gaussian_ranks(np.where(traded, values, np.nan)[:, None])[:, 0]
            expected = np.where(traded & np.isfinite(expected), expected, 0)
            np.testing.assert_allclose(panel.x(t)[:, i], expected, atol=2e-2 if feature.kind == "market" else 1e-2)
        known = labels.filter(pl.col("date") == day).sort("code")
        for h, horizon in enumerate(HORIZONS):
            expected = known[f"y_cc_{horizon}d"].to_numpy()
            np.testing.assert_array_equal(panel.tensors["y_cc"][h, t], expected)


def test_names_are_invalid_until_they_have_a_history(world) -> None:
    panel = world.panel(min_history=60).panel
    assert not panel.valid[:50].any() and panel.valid[-1].mean() > 0.9
    assert not panel.tensors["x"][20].any()


def test_only_the_most_traded_names_of_the_year_before_are_valid(world) -> None:
    of_2020 = [str(day) for day in world.days if day.year == 2020]
    cut = {"start": of_2020[0], "validation_start": of_2020[58], "test_start": of_2020[99], "embargo_days": 1}
    panel = world.panel(most_liquid=10, min_names=5, **cut).panel
    # names 3 and 4 have a median of zero in 2019, whatever they traded on their days
    expected = [world.codes[n] for n in (0, 1, 2, 5, 6, 7, 8, 9, 10, 11)]
    assert panel.codes == sorted(expected)
    assert panel.valid.mean() > 0.9 and not (panel.tensors["neighbours"] >= 10).any()
    whole = world.panel(**cut).panel
    places = [whole.codes.index(code) for code in panel.codes]
    np.testing.assert_array_equal(panel.valid, whole.valid[:, places])
    np.testing.assert_array_equal(panel.tensors["y_cc"], whole.tensors["y_cc"][:, :, places])


def test_the_most_traded_names_need_the_quotes_of_the_year_before(world) -> None:
    with pytest.raises(SplitError, match=r"the names of 2019 by their trading in 2018.*lacks 2018-01 and 11 more"):
        world.panel(most_liquid=10)


def test_neutral_target_is_the_residual_of_each_day(world) -> None:
    """Against numpy's least squares on sector dummies and the rank of the trailing volatility."""
    panel = world.panel(target="neutral").panel
    assert panel.description["label"] == "y_cc" and panel.description["target"] == "y_neutral"
    np.testing.assert_array_equal(panel.y, world.panel().panel.y)
    one_day = panel.tensors["y_cc"][0].astype(np.float64)
    for h, t in [(0, 40), (2, 150), (3, 260)]:
        rows = panel.valid[t] & np.isfinite(panel.y[h, t])
        volatility = np.nanstd(one_day[t - 20 : t], axis=0, ddof=1)[rows]
        level = np.argsort(np.argsort(volatility))
        dummies = panel.sectors[rows][:, None] == np.arange(3)
        design = np.column_stack([dummies, level])
        y = panel.y[h, t, rows].astype(np.float64)
        expected = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        np.testing.assert_allclose(panel.target[h, t, rows], expected, atol=1e-6)
        assert np.isnan(panel.target[h, t, ~rows]).all()
    ranks = gaussian_ranks(panel.target[:, 100, panel.valid[100]].T)
    np.testing.assert_array_equal(day_sample(panel, 100)[1], ranks)
    assert not np.array_equal(ranks, gaussian_ranks(panel.y[:, 100, panel.valid[100]].T), equal_nan=True)


def test_graph_has_the_name_itself_first(world) -> None:
    panel = latest_panel(world.store.local("panel"))
    neighbours, mask = panel.tensors["neighbours"], panel.tensors["neighbour_mask"]
    attributes, period = panel.tensors["neighbour_attr"], panel.tensors["graph_period"]
    own = np.arange(len(panel.codes))
    assert (neighbours[:, :, 0] == own).all() and mask[:, :, 0].all() and (attributes[:, :, 0] == 1).all()
    assert (neighbours[~mask] == np.broadcast_to(own[:, None], mask.shape[1:])[None].repeat(len(mask), 0)[~mask]).all()
    assert not mask[0, :, 1:].any()  # warm-up month
    t = panel.dates.index(date(2020, 3, 16))
    edges = world.store.table("graph", "correlation_graph").read(["2020-03"])
    strongest = edges.filter((pl.col("code") == panel.codes[5]) & (pl.col("rank") == 0)).row(0, named=True)
    p = period[t]
    assert panel.codes[neighbours[p, 5, 1]] == strongest["neighbour"]
    assert attributes[p, 5, 1].tolist() == pytest.approx(
        [strongest["corr"], float(strongest["same_market"]), float(strongest["same_sector"])]
    )


def test_same_sources_same_panel_other_config_other_panel(world) -> None:
    built = world.panel()
    assert built.reused
    assert world.panel(purge_days=25).panel.panel_id != built.panel.panel_id
    table = world.store.table("features", "phase2_features")
    table.publish(
        [table.stage("2020-06", table.read(["2020-06"]).with_columns(noise=-pl.col("noise")), code_version="t")]
    )
    assert world.panel().panel.panel_id != built.panel.panel_id


def test_a_damaged_panel_is_refused_and_built_again(world) -> None:
    panel = latest_panel(world.store.local("panel"))
    with (panel.folder / "panel.safetensors").open("ab") as file:
        file.truncate(1000)
    with pytest.raises(PanelError, match=r"1000 bytes instead of .* --select training_panel"):
        latest_panel(world.store.local("panel"))
    assert not world.panel().reused
    assert latest_panel(world.store.local("panel")).panel_id == panel.panel_id


def test_panel_starts_after_the_longest_look_back_unless_told(world) -> None:
    assert world.panel().panel.dates[0] == world.days[5]
    assert world.panel(start="2019-02-01", end="2020-05-29").panel.dates[-1] == date(2020, 5, 29)
    assert world.panel(warm_up_days=20).panel.dates[0] == world.days[20]
    with pytest.raises(SplitError, match=r"leave .* for the train block.*'phase2' is 5\)"):
        world.panel(start="2020-01-06")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"noise": pl.lit(1.0, pl.Float32)}, "column noise: not constant"),
        ({"noise": pl.lit(None, pl.Float32)}, "column noise: present in 2%"),
        ({"is_valid": pl.lit(True)}, "column is_valid: not constant"),
    ],
)
def test_dead_columns_are_refused(world, change: dict, said: str) -> None:
    world.publish(
        "features",
        "phase2_features",
        world.store.table("features", "phase2_features").read().with_columns(**change),
    )
    with pytest.raises(ContractViolation, match=said):
        world.panel()
    assert latest_panel(world.store.local("panel")).panel_id  # the old one stands
    assert len(list(world.store.local("panel").glob("*/panel.json"))) == 1


def test_a_feature_that_knows_tomorrow_is_refused(world) -> None:
    labels = world.store.table("features", "labels").read(columns=["date", "code", "y_cc_1d"])
    features = world.store.table("features", "phase2_features").read().drop("noise")
    leaky = features.join(labels.rename({"y_cc_1d": "noise"}), on=["date", "code"])
    world.publish("features", "phase2_features", leaky)
    with pytest.raises(ContractViolation, match=r"noise: .* has seen the future \(.*\+1\.0"):
        world.panel()


def test_labels_are_not_features_and_must_be_known(world) -> None:
    named = (*FEATURES[:-1], replace(FEATURES[-1], name="y_is_valid"))
    frame = world.store.table("features", "phase2_features").read().rename({"is_valid": "y_is_valid"})
    world.publish("features", "phase2_features", frame)
    with pytest.raises(ContractViolation, match="y_is_valid: labels are never among the features"):
        build_panel(world.store, named, feature_set="phase2", catalogue_hash="0", config=PanelConfig())
    labels = world.store.table("features", "labels").read()
    world.publish("features", "labels", labels.with_columns(y_oo_10d=pl.lit(None, pl.Float32)))
    with pytest.raises(ContractViolation, match="y_oo_10d: known for 80% of the valid rows of the train block"):
        build_panel(world.store, named[:-1], feature_set="phase2", catalogue_hash="0", config=PanelConfig())


def test_missing_inputs_are_named(world) -> None:
    unknown = (*FEATURES, replace(FEATURES[0], name="returns_5d"))
    with pytest.raises(MissingColumns, match="phase2_features 2019-01 lacks the column returns_5d"):
        build_panel(world.store, unknown, feature_set="phase2", catalogue_hash="0", config=PanelConfig())
    shutil.rmtree(world.root / "graph")
    with pytest.raises(MissingTable, match=r"--select correlation_graph --partition-range 2019-01\.\.\.2020-06"):
        world.panel()


def test_standardised_by_hand() -> None:
    history = np.array([[1.0, 5.0, 2.0], [2.0, 5.0, np.nan]] * 15, np.float32)
    history[-1] = [4.0, 5.0, np.nan]
    known = history[:, 0]
    np.testing.assert_allclose(standardised(history)[0], (4 - known.mean()) / known.std(), rtol=1e-5)
    assert np.isnan(standardised(history)[1:]).all()  # constant; missing today
    assert np.isnan(standardised(history[-10:])).all()  # too short


def test_staging_leaves_nothing_behind(world) -> None:
    panels = world.store.local("panel")
    (panels / ".staged-999999999").mkdir()  # of a process that was killed
    with pytest.raises(RuntimeError), staged_panel(panels) as folder:
        (folder / "panel.json").write_text("{}")
        raise RuntimeError
    assert not list(panels.glob(".staged-*"))


def test_pruning_keeps_the_newest_and_those_in_use(world) -> None:
    panels = world.store.local("panel")
    ids = [world.panel(purge_days=20 + i).panel.panel_id for i in range(5)]
    removed = prune_panels(panels, keep={ids[0]}, newest=3)
    assert removed == [ids[1]]
    assert open_panel(panels / ids[0]).panel_id == ids[0]


def materialize(world, **config):
    others = [dg.AssetSpec(n) for n in ("phase2_features", "universe", "labels", "correlation_graph", "daily_quotes")]
    return dg.materialize(
        [world.panel_asset(), *others],
        selection=["training_panel"],
        resources={"store": world.store},
        run_config={"ops": {"training_panel": {"config": config}}},
        raise_on_error=False,
    )


def test_asset_moves_latest_last_and_records_its_contract(world) -> None:
    panels = world.store.local("panel")
    point_latest(panels, "0" * 16)
    result = materialize(world, purge_days=21)
    assert result.success and result.get_asset_check_evaluations()[0].passed
    panel = latest_panel(panels)
    metadata = result.asset_materializations_for_node("training_panel")[0].metadata
    assert metadata["panel_id"].value == panel.panel_id and metadata["features"].value == len(FEATURES)
    assert panel.description["catalogue_hash"] == catalogue("phase2")[1]


def test_asset_that_is_refused_leaves_latest_alone(world) -> None:
    before = latest_panel(world.store.local("panel")).panel_id
    frame = world.store.table("features", "phase2_features").read().with_columns(noise=pl.lit(1.0, pl.Float32))
    world.publish("features", "phase2_features", frame)
    result = materialize(world)
    assert not result.success
    assert [(e.passed, e.metadata["failed_rules"].value) for e in result.get_asset_check_evaluations()] == [(False, 1)]
    assert not result.asset_materializations_for_node("training_panel")
    assert latest_panel(world.store.local("panel")).panel_id == before
