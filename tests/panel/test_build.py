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

from atft_assets.baselines.samples import day_sample
from atft_assets.contracts import ContractViolation
from atft_assets.panel.build import build_panel
from atft_assets.panel.config import NoDate
from atft_assets.panel.normalise import standardised
from atft_assets.panel.sources import PanelRefused
from atft_assets.scoring.block import Block
from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.store import MissingColumns, MissingTable
from atft_model.interchange.errors import MEND, FoldError, PanelError
from atft_model.interchange.fold import cut
from atft_model.interchange.panel import from_bfloat16, latest_panel, point_latest, staged_panel, to_bfloat16
from tests.training.small_market import FEATURES, HORIZONS, World, catalogue


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
    assert panel.horizons == HORIZONS and panel.description.label == "y_cc"
    assert [panel.description.features[place].name for place in panel.description.sequences] == ["signal", "noise"]
    assert len(panel.description.sector33) == names and panel.codes == tuple(sorted(world.codes))


def test_cells_are_those_of_the_tables(world) -> None:
    """Every cell of some days, computed again from the tables with polars."""
    panel = latest_panel(world.store.local("panel"))
    features = world.store.table("features", "all_features").read()
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
    start = str(next(day for day in world.days if day.year == 2020))
    panel = world.panel(most_liquid=10, min_names=5, start=start).panel
    # names 3 and 4 have a median of zero in 2019, whatever they traded on their days
    expected = [world.codes[n] for n in (0, 1, 2, 5, 6, 7, 8, 9, 10, 11)]
    assert panel.codes == tuple(sorted(expected))
    assert panel.valid.mean() > 0.9 and not (panel.tensors["neighbours"] >= 10).any()
    whole = world.panel(start=start).panel
    places = [whole.codes.index(code) for code in panel.codes]
    np.testing.assert_array_equal(panel.valid, whole.valid[:, places])
    np.testing.assert_array_equal(panel.tensors["y_cc"], whole.tensors["y_cc"][:, :, places])


def test_the_most_traded_names_need_the_year_before(world) -> None:
    with pytest.raises(PanelRefused, match=r"the names of 2019 by their trading in 2018.*lacks 2018-01 and 11 more"):
        world.panel(most_liquid=10)
    universe = world.store.table("features", "universe").read()
    unranked = universe.filter(pl.col("date").dt.year() == 2020).with_columns(liquidity_rank=pl.lit(None, pl.UInt32))
    world.publish("features", "universe", unranked)
    with pytest.raises(PanelRefused, match=r"2020 by their trading in 2019.*was built without that year"):
        world.panel(most_liquid=10, start="2020-01-06")


def test_eligibility_is_what_the_universe_says(world) -> None:
    """Age, trade and rank of the day, and nothing else: no table of raw data is read."""
    shutil.rmtree(world.root / "raw")
    universe = world.store.table("features", "universe").read()
    young = pl.when(pl.col("code") == world.codes[7]).then(59).otherwise(pl.col("age"))
    rank = pl.when(pl.col("code") == world.codes[8]).then(None).otherwise(pl.col("liquidity_rank"))
    changed = universe.with_columns(age=young.cast(pl.Int32), liquidity_rank=rank.cast(pl.UInt32))
    world.publish("features", "universe", changed)
    panel = world.panel(most_liquid=12, min_names=5, start="2020-01-06").panel
    assert world.codes[7] not in panel.codes and world.codes[8] not in panel.codes
    rows = universe.filter((pl.col("code") == world.codes[5]) & (pl.col("date") >= panel.dates[0])).sort("date")
    np.testing.assert_array_equal(panel.valid[:, panel.codes.index(world.codes[5])], rows["traded"].to_numpy())


@pytest.mark.parametrize("label", ["y_cc", "y_oo"])
def test_neutral_target_is_the_residual_of_each_day(world, label: str) -> None:
    """Against numpy's least squares on sector dummies and the rank of the trailing close-to-close volatility."""
    panel = world.panel(target="neutral", label=label).panel
    assert panel.description.label == label and panel.description.target == "y_neutral"
    np.testing.assert_array_equal(panel.y, world.panel(label=label).panel.y)
    np.testing.assert_array_equal(panel.y, world.panel().panel.tensors[label])
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
    assert world.panel(min_names=19).reused  # judges the panel, does not make it
    for config in (
        {"warm_up_days": 9},
        {"end": "2020-06-29"},
        {"min_history": 61},
        {"target": "neutral"},
        {"label": "y_oo"},
        {"turnover_floor": 1},
    ):
        assert world.panel(**config).panel.panel_id != built.panel.panel_id
    table = world.store.table("features", "all_features")
    table.publish(
        [table.stage("2020-06", table.read(["2020-06"]).with_columns(noise=-pl.col("noise")), code_version="t")]
    )
    assert world.panel().panel.panel_id != built.panel.panel_id


def test_a_damaged_panel_is_refused_and_built_again(world) -> None:
    panel = latest_panel(world.store.local("panel"))
    with (panel.folder / "panel.safetensors").open("ab") as file:
        file.truncate(1000)
    with pytest.raises(PanelError, match=f"1000 bytes instead of .*{MEND}"):
        latest_panel(world.store.local("panel"))
    assert not world.panel().reused
    assert latest_panel(world.store.local("panel")).panel_id == panel.panel_id


def test_flipped_bits_are_not_handed_back_as_good(world) -> None:
    """Of the same length, in the features: read by nobody but the training, and found all the same."""
    path = world.newest().folder / "panel.safetensors"
    whole = path.read_bytes()
    at = whole.index(world.newest().tensors["x"].tobytes()) + 4096
    path.write_bytes(whole[:at] + bytes(byte ^ 0xFF for byte in whole[at : at + 4096]) + whole[at + 4096 :])
    with pytest.raises(PanelError, match=f"the tensor x is not the one that was written.*{MEND}"):
        world.newest().x(30)
    assert not world.panel().reused
    assert path.read_bytes() == whole and world.panel().reused


def test_panel_starts_after_the_longest_look_back_unless_told(world) -> None:
    assert world.panel().panel.dates[0] == world.days[5]
    assert world.panel(start="2019-02-01", end="2020-05-29").panel.dates[-1] == date(2020, 5, 29)
    assert world.panel(warm_up_days=20).panel.dates[0] == world.days[20]
    with pytest.raises(PanelRefused, match=r"no trading day from 2021-01-04 to 2020-06-30: the universe has rows from"):
        world.panel(start="2021-01-04")
    with pytest.raises(NoDate, match="the config `end` is 'May': use YYYY-MM-DD"):
        world.panel(end="May")


def test_a_panel_of_the_last_days_can_be_built_opened_and_scored(world) -> None:
    """Too short for any fold, and all that tonight's scores need."""
    panel = world.panel(start=str(world.days[-40])).panel
    assert panel.dates == tuple(world.days[-40:]) and panel.valid.mean() > 0.9
    with pytest.raises(FoldError, match="for the train block"):
        cut(panel.dates)
    whole = world.panel().panel
    np.testing.assert_array_equal(panel.tensors["x"], whole.tensors["x"][-40:])  # ranks and standards are the same
    np.testing.assert_array_equal(panel.valid, whole.valid[-40:])
    block = Block(panel, panel.description.places(world.days[-30], world.days[-25]))
    score = block.score_dense(np.nan_to_num(panel.y[:, block.rows]))
    assert score.days == 6 and score.by_horizon[5].rank_ic > 0.99


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
        "all_features",
        world.store.table("features", "all_features").read().with_columns(**change),
    )
    with pytest.raises(ContractViolation, match=said):
        world.panel()
    assert latest_panel(world.store.local("panel")).panel_id  # the old one stands
    assert len(list(world.store.local("panel").glob("*/panel.json"))) == 1


def test_labels_are_not_features(world) -> None:
    named = (*FEATURES[:-1], replace(FEATURES[-1], name="y_is_valid"))
    frame = world.store.table("features", "all_features").read().rename({"is_valid": "y_is_valid"})
    world.publish("features", "all_features", frame)
    with pytest.raises(ContractViolation, match="y_is_valid: labels are never among the features"):
        world.panel(named)


def test_infinite_labels_are_refused(world) -> None:
    labels = world.store.table("features", "labels").read()
    infinite = pl.when(pl.col("date") == world.days[100]).then(float("inf")).otherwise(pl.col("y_oo_5d"))
    world.publish("features", "labels", labels.with_columns(y_oo_5d=infinite.cast(pl.Float32)))
    with pytest.raises(ContractViolation, match="column y_oo: finite where present"):
        world.panel()


def test_missing_inputs_are_named(world) -> None:
    unknown = (*FEATURES, replace(FEATURES[0], name="returns_5d"))
    with pytest.raises(MissingColumns, match="all_features 2019-01 lacks the column returns_5d"):
        world.panel(unknown)
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


def materialize(world, **config):
    others = [dg.AssetSpec(n) for n in ("all_features", "universe", "labels", "correlation_graph")]
    return dg.materialize(
        [world.panel_asset(), *others],
        selection=["training_panel"],
        resources={"store": world.store},
        run_config={"ops": {"training_panel": {"config": config}}},
        raise_on_error=False,
    )


def failed(result):
    return next(e for e in result.all_node_events if e.is_step_failure).step_failure_data


def test_asset_moves_latest_last_and_records_its_contract(world) -> None:
    panels = world.store.local("panel")
    point_latest(panels, "0" * 16)
    result = materialize(world, end="2020-06-29", target="neutral")
    assert result.success and result.get_asset_check_evaluations()[0].passed
    panel = latest_panel(panels)
    event = result.asset_materializations_for_node("training_panel")[0]
    assert event.metadata["panel_id"].value == panel.panel_id and event.metadata["features"].value == len(FEATURES)
    assert event.tags["dagster/data_version"] == panel.panel_id and event.metadata["target"].value == "y_neutral"
    assert panel.description.catalogue_hash == catalogue("full")[1] and panel.description.feature_set == "full"


def test_asset_that_is_refused_leaves_latest_alone(world) -> None:
    before = latest_panel(world.store.local("panel")).panel_id
    frame = world.store.table("features", "all_features").read().with_columns(noise=pl.lit(1.0, pl.Float32))
    world.publish("features", "all_features", frame)
    result = materialize(world)
    assert not result.success
    assert [(e.passed, e.metadata["failed_rules"].value) for e in result.get_asset_check_evaluations()] == [(False, 1)]
    said = failed(result).user_failure_data.description
    assert "Nothing was published, the pointer `latest` is as it was" in said
    assert not result.asset_materializations_for_node("training_panel")
    assert latest_panel(world.store.local("panel")).panel_id == before


def test_what_retrying_cannot_mend_is_a_sentence(world) -> None:
    """An input that lacks a column is a failed check; a config that cannot be, or a missing table, is none."""
    lacking = world.store.table("features", "all_features").read().drop("noise")
    world.publish("features", "all_features", lacking)
    result = materialize(world)
    assert [e.metadata["table"].value for e in result.get_asset_check_evaluations()] == ["all_features"]
    assert failed(result).error.cls_name == "PermanentFailure"
    result = materialize(world, start="x")
    assert not result.get_asset_check_evaluations()
    said = failed(result).user_failure_data.description
    assert said.startswith("training_panel cannot be built: the config `start` is 'x'")
    shutil.rmtree(world.root / "graph")
    said = failed(materialize(world)).user_failure_data.description
    assert (
        said.startswith("training_panel cannot be built: ") and "--select correlation_graph --partition-range" in said
    )


def test_the_launchpad_says_what_may_be_set(world) -> None:
    shown = world.panel_asset().op.config_schema.config_type.fields
    assert all(field.description for field in shown.values())
    sets, target = (shown[name].config_type.inner_type for name in ("feature_set", "target"))
    assert [value.config_value for value in sets.enum_values] == ["core", "stock", "full"]
    assert [value.config_value for value in target.enum_values] == ["raw", "neutral"]
    assert not set(shown) & {"validation_start", "test_start", "purge_days", "embargo_days", "keep"}


def test_the_panel_does_not_depend_on_the_order_of_rows(world: World) -> None:
    plan, frames = world.plan(), world.frames()
    shuffled = replace(
        frames,
        universe=frames.universe.sample(fraction=1.0, shuffle=True, seed=1),
        features=[month.sample(fraction=1.0, shuffle=True, seed=2) for month in frames.features],
        labels=frames.labels.sample(fraction=1.0, shuffle=True, seed=3),
        graphs=[month.sample(fraction=1.0, shuffle=True, seed=4) for month in frames.graphs],
    )
    built = build_panel(plan, shuffled)
    for name, tensor in world.newest().tensors.items():
        np.testing.assert_array_equal(built.tensors[name], tensor)
