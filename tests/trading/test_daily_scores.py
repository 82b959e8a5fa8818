"""The scores of an evening: what a row says, who is scored by what, what is withheld, and that it can be repeated."""

import json
import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata, zscore

from atft_assets.baselines.kept import kept_models, model_file
from atft_assets.baselines.trees import reloaded
from atft_assets.calendar import TOKYO, trading_days
from atft_assets.operations.alerts import Alerts
from atft_assets.operations.run_failures import run_failure_alert
from atft_assets.operations.withheld import withheld_alert
from atft_assets.panel.evening import evening_panel
from atft_assets.trading import daily_scores as d
from atft_assets.trading import gates
from atft_assets.trading.champion import POINTER
from atft_assets.trading.daily_scores import (
    CONTRACT,
    GROUP,
    NAME,
    Provenance,
    broken_days,
    combined,
    rows_of,
    with_days,
)
from atft_assets.trading.evening_gates import GATES, OVERALL, features, matured
from atft_assets.trading.names import facts_of, master_of, newest_bars, turnover
from atft_assets.training.launcher import LocalLauncher
from atft_model.interchange.horizons import HORIZONS, horizon_weights
from atft_model.interchange.panel import Panel
from atft_model.interchange.records import write_json
from atft_model.interchange.request import PredictRequest
from atft_model.interchange.run import RUN_JSON, read_finished, write_record
from tests.operations.helpers import read_log
from tests.operations.test_sensors import Ticker
from tests.reports.page import checked
from tests.trading.evenings import TONIGHT, evening, put_in_use, table
from tests.training.small_market import FEATURES, World, catalogue
from tests.training.test_phases import checks, failure

fake = pytest.mark.usefixtures("trainer_on_path")
DAY, NEXT = date(2020, 6, 30), date(2020, 7, 1)
FACTS = {"name": "名", "eligible": True, "liquid": True, "shortable": False, "sector33": "3050", "segment": "Prime"}
OF = Provenance("c1", "p1", "h1")


def facts(codes: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"code": codes}).with_columns(**{name: pl.lit(value) for name, value in FACTS.items()})


def rows(score: np.ndarray, day: date = DAY, status: str = d.PUBLISHED) -> pl.DataFrame:
    codes = [f"{1000 + n}0" for n in range(len(score))]
    values = score.astype(np.float32)
    return rows_of(day, NEXT, codes, np.tile(values, (4, 1)), values, facts(codes), OF, status)


# -- the arithmetic ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(4, 40))
def test_the_one_score_is_the_weighted_mean_of_z_scores_standardised_again(seed: int, names: int) -> None:
    """Against SciPy; any scale and level of a head says the same."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(4, 2, names))
    raw[:, 0, 0] = np.nan
    heads, score = combined(raw, HORIZONS)
    expected = zscore(raw, axis=2, nan_policy="omit")
    np.testing.assert_allclose(heads, expected, atol=1e-5)
    mean = sum(w * z for w, z in zip(horizon_weights(HORIZONS), expected, strict=True))
    np.testing.assert_allclose(score, zscore(mean, axis=1, nan_policy="omit"), atol=1e-5)
    moved, again = combined(raw * np.array([1e3, 1, 1e-3, 5])[:, None, None] + 7, HORIZONS)
    np.testing.assert_allclose(again, score, atol=1e-4)
    np.testing.assert_allclose(moved, heads, atol=1e-4)


def test_a_name_without_one_of_its_scores_has_none_and_equal_scores_are_no_error() -> None:
    raw = np.ones((4, 1, 5))
    raw[2, 0, 1] = np.nan
    heads, score = combined(raw, HORIZONS)
    assert np.isnan(score[0, 1]) and np.isnan(heads[:, 0, 1]).all()
    assert (np.delete(score[0], 1) == 0).all() and (np.delete(heads, 1, axis=2) == 0).all()
    _, level = combined(np.full((4, 1, 5), 1e8) + np.arange(5) * 1e-9, HORIZONS)
    assert (level == 0).all(), "round-off is no score"


def test_ranks_and_percentiles_by_hand() -> None:
    frame = rows(np.array([0.5, 2.0, np.nan, 0.5, -1.0]))
    assert frame["code"].to_list() == ["10000", "10010", "10030", "10040"]
    assert frame["rank"].to_list() == [2, 1, 3, 4]  # equal scores by code
    assert frame["percentile"].to_list() == [0.375, 0.125, 0.625, 0.875]
    assert frame["date"].unique().to_list() == [DAY] and frame["trade_date"].unique().to_list() == [NEXT]
    assert CONTRACT.audit(frame, "2020-06").passed and list(broken_days(frame)) == []


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_ranks_are_a_permutation_in_the_order_of_scores(values: list[int]) -> None:
    frame = rows(np.array(values, float)).sort("rank")
    assert frame["rank"].to_list() == list(range(1, len(values) + 1))
    assert frame["score"].is_sorted(descending=True)
    assert list(broken_days(frame)) == []


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (pl.lit(None, pl.Float32).alias("score"), "score"),
        (pl.lit(float("nan"), pl.Float32).alias("score_5d"), "score_5d"),
        (pl.lit(0, pl.UInt16).alias("rank"), "rank"),
        (pl.lit(1.5, pl.Float32).alias("percentile"), "percentile"),
        (pl.lit("1301").alias("code"), "code"),
    ],
)
def test_the_contract_refuses(change: pl.Expr, column: str) -> None:
    verdict = CONTRACT.audit(rows(np.arange(4.0)).with_columns(change), "2020-06")
    assert column in verdict.failures["column"].to_list()


def test_a_day_of_two_models_and_wrong_ranks_are_seen() -> None:
    frame = rows(np.arange(4.0))
    mixed = frame.with_columns(pl.Series("model_run", ["a", "a", "a", "b"]))
    assert [one[0] for one in broken_days(mixed)] == ["model_run"]
    swapped = frame.with_columns(pl.Series("rank", [1, 2, 3, 4], dtype=pl.UInt16))
    assert [one[0] for one in broken_days(swapped)] == ["rank"]


def test_a_month_keeps_its_other_days() -> None:
    before, other = rows(np.arange(3.0), date(2020, 6, 29)), rows(np.arange(4.0))
    month = with_days(with_days(d.empty(), [before], [date(2020, 6, 29)]), [other], [DAY])
    again = with_days(month, [rows(-np.arange(4.0))], [DAY])
    assert again.filter(pl.col("date") != DAY).equals(before) and again.height == month.height
    assert with_days(month, [], [DAY]).equals(before)


# -- what the evening knows of the names -------------------------------------------------------------------------------


def test_the_master_of_an_evening_is_the_newest_that_was_out_at_half_past_six(judged: World) -> None:
    """A snapshot of Monday is out on Sunday evening in this market; a later one is not looked at."""
    assert master_of(judged.store, TONIGHT)["date"].unique().to_list() == [date(2020, 6, 29)]
    late = master_of(judged.store, TONIGHT).with_columns(
        pl.lit(TONIGHT).alias("date"), pl.lit("later").alias("CoName"),
        pl.lit(datetime(2020, 6, 30, 18, 31, tzinfo=TOKYO)).cast(pl.Datetime("us", "Asia/Tokyo")).alias("available_at"),
    )  # fmt: skip
    month = pl.concat([judged.store.table("raw", "listed_info").read(["2020-06"]), late])
    judged.publish("raw", "listed_info", month)
    assert "later" not in master_of(judged.store, TONIGHT)["CoName"].to_list()
    assert "later" in master_of(judged.store, NEXT)["CoName"].to_list()


def test_facts_of_names() -> None:
    days = trading_days(date(2020, 6, 1), DAY)[-20:]
    traded = {"10000": 9.0, "10010": 5.0, "10020": None}
    every = [{"date": day, "code": code, "Va": va} for code, va in traded.items() for day in days]
    bars = pl.DataFrame([*every, {"date": days[-1], "code": "10030", "Va": 1e9}])
    adv = dict(turnover(bars).iter_rows())
    assert adv == {"10000": 9.0, "10010": 5.0, "10020": 0.0, "10030": 0.0}  # one day of twenty is no turnover
    master = pl.DataFrame(
        {
            "code": ["10000", "10010", "10020", "99990", "25935"],
            "CoName": ["あ", "い", "う", "え", "優先"],
            "S33": "3050",
            "Mkt": ["0111", "0113", "0104", "0111", "0111"],
            "Mrgn": ["2", "1", "2", "2", "2"],
        }
    )
    found = facts_of(["10000", "10010", "10020", "10030"], master, bars)
    assert found["liquid"].to_list() == [True, True, False, False]
    assert found["shortable"].to_list() == [True, False, True, False]
    assert found["segment"].to_list() == ["Prime", "Growth", "Mothers", "unknown"]
    assert found["eligible"].to_list() == [True, True, True, False]  # 10030 has left the master
    assert found["name"].to_list() == ["あ", "い", "う", "10030"]
    stale = newest_bars(master, bars.filter((pl.col("code") != "10010") | (pl.col("date") < DAY)))
    assert stale[0] == np.datetime64(DAY) and stale[1] < np.datetime64(DAY) and np.isnat(stale[3])
    assert len(stale) == 4  # the preferred share is not of the universe


# -- the panel of the last days ----------------------------------------------------------------------------------------


def small(world: World, since: date, day: date, folder: Path) -> Panel:
    trained = world.newest().description
    return evening_panel(world.store, FEATURES, catalogue("full")[1], trained, (since, day), folder)


@pytest.mark.parametrize("config", [{}, {"turnover_floor": 40_000_000, "most_liquid": 30, "start": "2020-01-06"}])
def test_cells_of_the_last_days_are_those_of_the_whole_panel_bit_for_bit(world: World, tmp_path, config) -> None:
    whole = world.panel(**config).panel
    world.cut(whole, ()) if not config else None
    trained = whole.description
    assert (trained.min_history, trained.most_liquid) == (60, config.get("most_liquid"))
    since = date(2020, 5, 20)
    last = evening_panel(world.store, FEATURES, trained.catalogue_hash, trained, (since, TONIGHT), tmp_path / "p")
    assert last.dates == tuple(trading_days(since, TONIGHT)) and set(last.codes) <= set(whole.codes)
    t = whole.dates.index(since)
    n = [whole.codes.index(code) for code in last.codes]
    gone = np.setdiff1d(np.arange(len(whole.codes)), n)
    assert not whole.valid[t:, gone].any()
    np.testing.assert_array_equal(last.valid, whole.valid[t:, n])
    np.testing.assert_array_equal(last.tensors["x"], whole.tensors["x"][t:, n])
    assert (last.features, last.description.sequences) == (whole.features, trained.sequences)
    assert np.isnan(last.y).all() and "features/labels" not in last.description.sources
    for day in range(len(last.dates)):  # neighbours by name
        mine, theirs = (_neighbours(panel, place) for panel, place in ((last, day), (whole, t + day)))
        there = set(last.codes)
        assert mine == {code: [one for one in found if one in there] for code, found in theirs.items() if code in there}


def _neighbours(panel: Panel, t: int) -> dict[str, list[str]]:
    """Neighbours of each name on a day, in the order of their slots."""
    p = panel.tensors["graph_period"][t]
    slots, used = panel.tensors["neighbours"][p], panel.tensors["neighbour_mask"][p]
    return {code: [panel.codes[m] for m in slots[n][used[n]]] for n, code in enumerate(panel.codes)}


def test_a_panel_of_last_days_is_used_again_and_the_one_before_goes(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "panel"
    first = small(world, date(2020, 6, 1), date(2020, 6, 29), folder)
    written = (first.folder / "panel.json").stat().st_mtime_ns
    assert small(world, date(2020, 6, 1), date(2020, 6, 29), folder).folder == first.folder
    assert (first.folder / "panel.json").stat().st_mtime_ns == written
    (first.folder / "panel.safetensors").write_bytes(b"torn")
    assert small(world, date(2020, 6, 1), date(2020, 6, 29), folder).valid.any()
    second = small(world, date(2020, 6, 2), TONIGHT, folder)
    assert [path.name for path in folder.iterdir()] == [second.panel_id]


def test_features_that_are_equal_for_all_names_are_not_asked_for_drift(world: World, tmp_path: Path) -> None:
    panel = small(world, date(2020, 5, 20), TONIGHT, tmp_path)
    past, current, names = features(panel, len(panel.dates) - 1)
    assert "mkt_level" not in names and {"signal", "noise", "tied", "is_valid"} == set(names)
    t = len(panel.dates) - 1
    assert current.shape == (panel.valid[t].sum(), 4)
    assert [day.shape for day in past] == [(panel.valid[day].sum(), 4) for day in range(t - 20, t)]


# -- the asset, by the small trainer -----------------------------------------------------------------------------------


@fake
def test_without_a_champion_nothing_is_scored_and_nothing_fails(judged: World, instance) -> None:
    result = evening(judged, instance)
    assert result.success and result.asset_materializations_for_node(NAME) == []
    verdicts = checks(result)
    assert len(verdicts) == len(GATES) + 2 and all(one.passed for one in verdicts.values())
    assert "no champion yet" in verdicts[NAME, OVERALL].description
    assert judged.store.table(GROUP, NAME).keys() == []


@fake
def test_an_evening_of_the_network(judged: World, instance) -> None:
    champion = put_in_use(judged)
    result = evening(judged, instance, catch_up=2)
    assert result.success
    written = table(judged)
    assert written["date"].unique().sort().to_list() == [date(2020, 6, 26), date(2020, 6, 29), TONIGHT]
    assert written.schema == pl.Schema(d.SCHEMA)
    tonight = written.filter(pl.col("date") == TONIGHT)
    assert tonight["code"].to_list() == sorted(judged.codes)
    assert tonight["name"].to_list() == [f"会社{n}" for n in range(len(judged.codes))]
    assert set(tonight["segment"]) == {"Prime", "Standard"} and tonight["shortable"].sum() == 20
    assert tonight["liquid"].sum() == 20 and tonight["eligible"].all()
    assert tonight["model_run"].unique().to_list() == [champion.champion_id]
    assert tonight["catalogue_hash"].unique().to_list() == [catalogue("full")[1]]
    metadata = result.asset_materializations_for_node(NAME)[0].metadata
    assert metadata["status"].value == "published" and metadata["names"].value == 40
    assert metadata["trade_date"].value == "2020-07-01" and str(champion) == metadata["champion"].value
    assert [record.data["rank"] for record in metadata["best"].value.records] == [str(n) for n in range(1, 21)]
    assert [record.data["gate"] for record in metadata["gates"].value.records][:1] and metadata["sectors"].value
    page = Path(metadata["page"].value)
    assert page == judged.root / "reports" / "evening.html"
    text = checked(page.read_text())
    best = tonight.sort("rank")["code"][0]
    assert f">{best}<" in text and "places won since 2020-06-29" in text and str(judged.root) not in text
    assert "Evening of 2020-06-30" in (page.parent / "index.html").read_text()
    verdicts = checks(result)
    assert {name for _, name in verdicts} == {"contract", OVERALL, *(f"gate_{gate}" for gate in GATES)}
    assert verdicts[NAME, OVERALL].passed and verdicts[NAME, "gate_coverage"].metadata["figure"].value == "1.0"


@fake
def test_a_feature_that_has_become_a_constant_withholds_the_evening_until_it_is_mended(
    judged: World, instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the champion hardly listens to: its scores look as ever, and the drift of features alone tells."""

    def of_tonight() -> list[str]:
        return table(judged).filter(pl.col("date") == TONIGHT)["status"].unique().to_list()

    monkeypatch.setattr(gates, "LEAST_PSI_NAMES", 30)  # the market has 40 names
    put_in_use(judged)
    stored = judged.store.table("features", "all_features")
    whole = stored.read([f"{TONIGHT:%Y-%m}"])
    frozen = pl.when(pl.col("date") == TONIGHT).then(pl.lit(0.25, pl.Float32)).otherwise("noise").alias("noise")
    judged.publish("features", "all_features", whole.with_columns(frozen))
    result = evening(judged, instance)
    assert result.success
    failed = {name: one for (_, name), one in checks(result).items() if not one.passed}
    assert {name for name in failed if name == OVERALL or GATES[name.removeprefix("gate_")]} == {
        OVERALL, "gate_feature_drift"
    }  # fmt: skip
    assert (
        "noise" in failed["gate_feature_drift"].description and "tied" not in failed["gate_feature_drift"].description
    )
    assert of_tonight() == ["withheld"]
    judged.publish("features", "all_features", whole)
    mended = checks(evening(judged, instance))
    assert mended[NAME, OVERALL].passed and mended[NAME, "gate_feature_drift"].passed
    assert of_tonight() == ["published"]


class Listening(LocalLauncher):
    """Keeps what was asked, and the scores that came."""

    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None:
        super().predict(context, request)
        folder = Path(request.panel).parents[1]
        frames = [pl.read_parquet(one.out) for one in request.scorings]
        for i, frame in enumerate(frames):
            frame.write_parquet(folder / f"seed{i}.parquet")
        asked = {"runs": [one.run.name for one in request.scorings], "exact": request.exact, "device": request.device}
        (folder / "asked.json").write_text(json.dumps(asked))


@fake
@pytest.mark.parametrize("kind", ["network", "lightgbm", "blend"])
def test_the_evening_is_the_champions_own_ranking(judged: World, instance, kind: str) -> None:
    """Against the parts put together by hand: ranks by SciPy, trees from their text files."""
    champion = put_in_use(judged, kind)
    assert evening(judged, instance, launcher=Listening(module="fake_trainer", threads=1), catch_up=0).success
    tonight = table(judged).sort("code")
    codes, parts = tonight["code"].to_list(), []
    trading = judged.store.local(GROUP)

    def gaussian(values: np.ndarray) -> np.ndarray:
        return norm.ppf((rankdata(values, axis=0) - 0.5) / len(values)).clip(-3, 3)

    if kind != "lightgbm":
        asked = json.loads((trading / "asked.json").read_text())
        assert asked == {"runs": list(champion.runs), "exact": True, "device": "cpu"} and len(champion.runs) == 2
        seeds = [pl.read_parquet(trading / f"seed{i}.parquet") for i in range(2)]
        values = [s.filter(pl.col("date") == TONIGHT).sort("code").select(d.BY_HORIZON).to_numpy() for s in seeds]
        parts.append(np.mean([gaussian(one) for one in values], axis=0))
    else:
        assert not (trading / "asked.json").exists()
    if kind != "network":
        folder = champion.baselines_folder(judged.root)
        (panel,) = (Panel(path) for path in (trading / "panel").iterdir())
        t = panel.dates.index(TONIGHT)
        scores = reloaded(kept_models(folder, "lightgbm"), HORIZONS, 1)(panel, range(t, t + 1))[:, 0].T
        parts.append(scores[[panel.codes.index(code) for code in codes]])
    joined = parts[0] if len(parts) == 1 else np.mean([gaussian(one) for one in parts], axis=0)
    expected = zscore(joined, axis=0)
    np.testing.assert_allclose(tonight.select(d.BY_HORIZON).to_numpy(), expected, atol=2e-3)  # ranks: 1e-4 of a grid
    headline = zscore(expected @ horizon_weights(HORIZONS))
    np.testing.assert_allclose(tonight["score"], headline, atol=2e-3)


@fake
def test_the_same_evening_again_is_the_same_file_and_past_evenings_are_not_said_anew(judged: World, instance) -> None:
    """Pitfall 26, of the scores."""
    put_in_use(judged)
    assert evening(judged, instance, date(2020, 6, 29), catch_up=0).success
    first = table(judged)
    assert evening(judged, instance, date(2020, 6, 29), catch_up=0).success
    assert table(judged).equals(first)
    path = judged.store.table(GROUP, NAME).path("2020-06")
    written = path.read_bytes()
    assert evening(judged, instance, date(2020, 6, 29), catch_up=0).success and path.read_bytes() == written
    put_in_use(judged, "lightgbm", name="c2")
    assert evening(judged, instance, catch_up=1).success
    both = table(judged)
    assert both.filter(pl.col("date") == date(2020, 6, 29)).equals(first)
    assert both.filter(pl.col("date") == TONIGHT)["model_run"].unique().to_list() == ["c2"]


@fake
def test_a_withheld_evening_stays_on_disk_tells_one_alert_and_the_next_good_one_publishes(judged: World) -> None:
    """Pitfall 28, of the gates: a person stops publication; the run itself goes well."""
    put_in_use(judged)
    log = judged.root / "alerts.log"
    stop = judged.store.local(GROUP, "STOP")
    with dg.instance_for_test() as instance:
        tickers = [
            Ticker(one, instance, alerts=Alerts(log_file=str(log))) for one in (withheld_alert(), run_failure_alert())
        ]
        for ticker in tickers:
            ticker.tick()
        stop.write_text("the exchange has said that it is wrong\n")
        for _ in range(2):  # once more by hand
            result = evening(judged, instance, date(2020, 6, 29), catch_up=0)
            assert result.success
            for ticker in tickers:
                ticker.tick()
        verdicts = checks(result)
        assert not verdicts[NAME, OVERALL].passed and not verdicts[NAME, "gate_kill_switch"].passed
        assert verdicts[NAME, OVERALL].severity == dg.AssetCheckSeverity.ERROR
        assert table(judged)["status"].unique().to_list() == [d.WITHHELD] and table(judged).height > 30
        (told,) = read_log(log)
        assert told["kind"] == "withheld" and "2020-06-29" in told["what"] and "kill_switch" in told["where"]["gates"]
        assert "the exchange has said that it is wrong" in told["why"] and "--partition 2020-06" in told["todo"]
        page = judged.root / "reports" / "evening.html"
        text = checked(page.read_text())
        assert "WITHHELD" in text and "the exchange has said" in text and str(judged.root) not in text
        assert not any(code in text for code in judged.codes)
        assert "WITHHELD" in (page.parent / "index.html").read_text()
        stop.unlink()
        assert evening(judged, instance).success
        for ticker in tickers:
            ticker.tick()
        by_day = dict(table(judged).select("date", pl.col("status").cast(pl.String)).unique().iter_rows())
        assert by_day == {date(2020, 6, 29): d.WITHHELD, TONIGHT: d.PUBLISHED, **_caught_up(by_day)}
        good = checked(page.read_text())
        assert "Evening of 2020-06-30" in good and "WITHHELD" not in good
        assert "since 2020-06-29" not in good, "a withheld evening is nothing to compare with"
        assert evening(judged, instance, date(2020, 6, 29), catch_up=0).success
        assert page.read_text().count("Evening of 2020-06-30"), "an evening of before does not take its place"
        assert len(read_log(log)) == 1


def _caught_up(by_day: dict[date, str]) -> dict[date, str]:
    return {day: d.PUBLISHED for day in by_day if day < date(2020, 6, 29)}


@fake
def test_an_evening_without_bars_is_withheld(judged: World, instance) -> None:
    put_in_use(judged)
    quotes = judged.store.table("raw", "daily_quotes").read(["2020-06"])
    judged.publish("raw", "daily_quotes", quotes.filter((pl.col("date") < TONIGHT) | (pl.col("code") < "11500")))
    result = evening(judged, instance, catch_up=0)
    verdict = checks(result)[NAME, "gate_newest_bars"]
    assert result.success and not verdict.passed and "have a bar of 2020-06-30" in verdict.description
    assert table(judged)["status"].unique().to_list() == [d.WITHHELD]


@fake
def test_an_evening_on_which_nobody_traded_has_no_rows_and_is_withheld(judged: World, instance) -> None:
    put_in_use(judged)
    universe = judged.store.table("features", "universe").read(["2020-06"])
    halted = pl.when(pl.col("date") == TONIGHT).then(False).otherwise("traded").alias("traded")
    judged.publish("features", "universe", universe.with_columns(halted))
    result = evening(judged, instance, catch_up=1)
    assert result.success and not checks(result)[NAME, OVERALL].passed
    assert table(judged)["date"].unique().to_list() == [date(2020, 6, 29)]


@fake
def test_a_month_before_there_was_a_champion_is_empty_and_a_range_writes_both(judged: World, instance) -> None:
    put_in_use(judged)
    span = "dagster/asset_partition_range_"
    from atft_assets.trading.scores_asset import daily_scores_asset
    from tests.trading.evenings import RESOURCES

    result = dg.materialize(
        [daily_scores_asset(judged.settings, catalogue), *map(dg.AssetSpec, ("data_release", "promotion", "labels"))],
        selection=[NAME],
        resources={"store": judged.store, **RESOURCES},
        tags={f"{span}start": "2020-05", f"{span}end": "2020-06", "atft/trading_day": "2020-06-30"},
        instance=instance,
        raise_on_error=False,
    )
    assert result.success
    assert judged.store.table(GROUP, NAME).keys() == ["2020-05", "2020-06"]
    assert table(judged, "2020-05").is_empty() and table(judged, "2020-06")["date"].n_unique() == 6


# -- what is refused ---------------------------------------------------------------------------------------------------


@fake
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"day": date(2020, 6, 28)}, "2020-06-28 is no trading day of the months of this run"),
        ({"day": date(2020, 2, 12)}, "the champion was trained or chosen by days up to 2020-02-12"),
        (
            {"day": None, "tags": {"atft/trading_day": "2020-07-01"}},
            "the features end on 2020-06-30, so the evening of 2020-07-01",
        ),
    ],
)
def test_an_evening_that_cannot_be_scored_is_refused(judged: World, instance, asked, said: str) -> None:
    put_in_use(judged)
    assert said in failure(evening(judged, instance, **asked))


@fake
def test_a_champion_that_is_gone_or_of_another_catalogue_is_refused_with_a_sentence(judged: World, instance) -> None:
    """Pitfall 30."""
    champion = put_in_use(judged)
    (folder, _) = champion.run_folders(judged.root)
    record = read_finished(folder)
    write_record(folder, replace(record, catalogue_hash="0" * 16))
    said = failure(evening(judged, instance))
    assert "learned from the catalogue 0000000000000000" in said and "python -m atft_assets.trading.rollback" in said
    write_record(folder, record)
    assert evening(judged, instance, catch_up=0).success
    shutil.rmtree(folder)
    said = failure(evening(judged, instance))
    assert said.startswith(f"{NAME} cannot be computed: ") and folder.name in said
    judged.store.local(GROUP, POINTER).write_text("nobody\n")
    assert "names nobody, of which promotions.jsonl knows nothing" in failure(evening(judged, instance))


@fake
def test_a_set_of_baselines_without_models_is_refused_with_the_command(judged: World, instance) -> None:
    champion = put_in_use(judged, "lightgbm")
    folder = champion.baselines_folder(judged.root)
    assert folder is not None and (folder / model_file("lightgbm", "1d")).is_file()
    record = json.loads((folder / RUN_JSON).read_text())
    kept = {name: sha256 for name, sha256 in record["files"].items() if not name.endswith(".txt")}
    write_json(folder / RUN_JSON, {**record, "files": kept})
    assert "run: dagster asset materialize --select baselines" in failure(evening(judged, instance))
    write_json(folder / RUN_JSON, record)
    (folder / model_file("lightgbm", "5d")).write_text("tree\n")
    assert "lightgbm.5d.txt is damaged" in failure(evening(judged, instance))


# -- matured evenings --------------------------------------------------------------------------------------------------


def test_matured_evenings_know_no_return_of_tomorrow(judged: World) -> None:
    champion = put_in_use(judged)
    labels = judged.store.table("features", "labels").read(columns=["date", "code", "y_cc_1d"])
    days = trading_days(date(2020, 5, 1), TONIGHT)
    known = labels.filter(pl.col("date").is_in(days)).drop_nulls()
    frames = []
    for (day,), one in known.partition_by("date", as_dict=True).items():
        values, codes = one["y_cc_1d"].to_numpy().astype(np.float32), one["code"].to_list()
        assert isinstance(day, date)
        of = Provenance(champion.champion_id, "p", "h")
        frames.append(rows_of(day, NEXT, codes, np.tile(values, (4, 1)), values, facts(codes), of, d.PUBLISHED))
    written = pl.concat(frames).sort("date", "code")
    withheld = pl.when(pl.col("date") == days[3]).then(pl.lit(d.WITHHELD)).otherwise(pl.lit(d.PUBLISHED)).cast(d.STATUS)
    judged.publish(GROUP, NAME, written.with_columns(withheld.alias("status")))
    tonight = days[30]
    found = matured(judged.store, champion, "y_cc", tonight)
    np.testing.assert_allclose(found, np.ones(29))  # the day's own return, and the withheld evening, are not among them
    assert len(matured(judged.store, champion, "y_oo", tonight)) == 28
    assert len(matured(judged.store, replace(champion, champion_id="other"), "y_cc", tonight)) == 0
    assert len(matured(judged.store, champion, "y_cc", days[10])) == 0  # too few to be looked at


@fake
def test_a_leak_withholds_but_on_a_market_whose_signals_are_planted(judged: World, instance) -> None:
    """Pitfall 24, of the scores: evenings that ranked the next day's returns as only their own label can."""
    champion = put_in_use(judged)
    days = trading_days(date(2020, 5, 1), date(2020, 6, 29))
    labels = judged.store.table("features", "labels").read(columns=["date", "code", "y_cc_1d"]).drop_nulls()
    of, frames = Provenance(champion.champion_id, "p", "h"), []
    for day in days:
        one = labels.filter(pl.col("date") == day)
        values = one["y_cc_1d"].to_numpy().astype(np.float32)
        codes = one["code"].to_list()
        frames.append(rows_of(day, NEXT, codes, np.tile(values, (4, 1)), values, facts(codes), of, d.PUBLISHED))
    judged.publish(GROUP, NAME, pl.concat(frames).sort("date", "code"))
    verdicts = checks(evening(judged, instance))
    assert not verdicts[NAME, "gate_leak"].passed and not verdicts[NAME, OVERALL].passed
    assert "beyond 0.15 it is a leak" in verdicts[NAME, OVERALL].description
    planted = replace(judged, settings=judged.settings.model_copy(update={"base_url": None}))
    verdicts = checks(evening(planted, instance))
    assert verdicts[NAME, "gate_leak"].passed and "planted" in verdicts[NAME, "gate_leak"].description
    assert verdicts[NAME, OVERALL].passed


# -- a real network ----------------------------------------------------------------------------------------------------


def test_a_real_network_says_the_same_from_the_last_days_as_from_the_whole_panel(world: World, tmp_path: Path) -> None:
    """Two seeds with look-back and graph. From another panel the axis of names may be shorter and sums be taken in
    another order, so the scores are equal up to float32's round-off; from the same panel they are equal bit for bit.
    """
    from tests.trading.evenings import with_master

    with_master(world)
    real = LocalLauncher(threads=1)
    with dg.instance_for_test() as instance:
        for phase, given in (("train_phase0", {"preset": "demo"}), ("train_phase1", {}), ("train_phase2", {})):
            config = {"allow_ephemeral_instance": True, "curriculum": {"epochs": 1}, "seeds": [1, 2], **given}
            result = dg.materialize(
                [*world.phase_assets(), dg.AssetSpec("training_panel"), dg.AssetSpec("folds")],
                selection=[phase],
                resources={"store": world.store, "launcher": real},
                run_config={"ops": {phase: {"config": config}}},
                instance=instance,
                raise_on_error=False,
            )
            assert result.success, failure(result)
        champion = put_in_use(world, phase=2)
        assert evening(world, instance, launcher=real, catch_up=3).success
        first = world.store.table(GROUP, NAME).path("2020-06").read_bytes()
        assert evening(world, instance, launcher=real, catch_up=3).success  # now the one day alone is asked for
        assert world.store.table(GROUP, NAME).path("2020-06").read_bytes() == first

        @dg.asset
        def whole(context: dg.AssetExecutionContext) -> None:
            for i, folder in enumerate(champion.run_folders(world.root)):
                out = tmp_path / f"{i}.parquet"
                request = PredictRequest(
                    world.newest().folder, folder, out, date(2020, 6, 25), TONIGHT, exact=True, device="cpu"
                )
                real.predict(context, request)

        assert dg.materialize([whole], instance=instance).success
    from atft_assets.training.seeds import averaged

    joined = averaged([pl.read_parquet(tmp_path / f"{i}.parquet") for i in range(2)])
    written = table(world)
    assert written["date"].n_unique() == 4
    for (day,), mine in written.partition_by("date", as_dict=True).items():
        theirs = joined.filter(pl.col("date") == day).sort("code")
        assert mine["code"].to_list() == theirs["code"].to_list()
        expected = zscore(theirs.select(d.BY_HORIZON).to_numpy(), axis=0)
        np.testing.assert_allclose(mine.select(d.BY_HORIZON).to_numpy(), expected, atol=1e-4)
