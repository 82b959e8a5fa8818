"""The asset `backtest`: from stored scores to tables, a page and the ledger of trials."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from atft_assets.trading.backtest_asset import CHECKS, NAME, backtest_asset
from atft_assets.trading.backtest_sets import newest
from atft_assets.trading.champion import current
from atft_assets.trading.judging import SWEEP
from atft_assets.trading.recorded import recorded
from atft_assets.trials.ledger import BACKTESTS, all_trials
from atft_model.interchange.horizons import HORIZONS
from tests.reports.page import checked
from tests.trading.evenings import put_in_use
from tests.training.small_market import World
from tests.training.test_phases import checks, failure

fake = pytest.mark.usefixtures("trainer_on_path")


def backtest(world: World, instance: dg.DagsterInstance, simulated: bool = True, **config: Any) -> Any:
    settings = world.settings.model_copy(update={"base_url": None, "end": None} if simulated else {})
    others = ("promotion", "daily_quotes", "listed_info", "topix", "universe", "evaluation")
    return dg.materialize(
        [backtest_asset(settings), *map(dg.AssetSpec, others)],
        selection=[NAME],
        resources={"store": world.store},
        run_config={"ops": {NAME: {"config": {"capacity": False, **config}}}},
        instance=instance,
        raise_on_error=False,
    )


@fake
def test_without_a_champion_nothing_is_traded_and_nothing_fails(judged: World, instance: dg.DagsterInstance) -> None:
    result = backtest(judged, instance)
    assert result.success and result.asset_materializations_for_node(NAME) == []
    assert all(one.passed and "there is no champion yet" in one.description for one in checks(result).values())
    assert {name for _, name in checks(result)} == set(CHECKS)
    assert not judged.store.local("trading", SWEEP).exists()


@fake
def test_the_champions_validation_block_through_the_ledger(judged: World, instance: dg.DagsterInstance) -> None:
    champion = put_in_use(judged)
    result = backtest(judged, instance, sweep=["patient", "all_names"])
    assert result.success, failure(result)
    assert all(one.passed for one in checks(result).values()) and len(checks(result)) == len(CHECKS)
    stored = newest(judged.root)
    assert stored is not None and stored.record["scores"]["recipe"] == champion.recipe
    assert stored.record["rule"]["name"] == "default" and stored.record["capital"] == 30e6
    equity = stored.table("equity")
    fold = judged.fold()
    assert equity["date"].is_between(*fold.validation).sum() >= equity.height - 1
    assert equity["strategy"].unique().to_list() == ["phase0"]
    assert stored.table("trades").height > 20
    assert stored.table("positions")["date"].max() == equity["date"].max()
    metadata = result.asset_materializations_for_node(NAME)[0].metadata
    page = Path(metadata["page"].value)
    text = checked(page.read_text())
    assert "choices were made on these days" in text and champion.recipe in text and str(judged.root) not in text
    for one in ("TOPIX", "equal-weight universe", "lightgbm", "low_volatility", "2 ×", "3 ×"):
        assert one in text, one
    assert "an equal weight of the names that the rule may choose from" in text
    assert "Back-test of phase0" in (page.parent / "index.html").read_text()
    mine = [trial for trial in all_trials(judged.root) if trial.study == BACKTESTS]
    assert [trial.number for trial in mine] == [
        "default", "patient", "all_names", "lightgbm by the same rule", "low_volatility by the same rule",
        "momentum_12_1 by the same rule",
    ]  # fmt: skip
    assert metadata["trials"].value == len(all_trials(judged.root)) and 0 <= metadata["dsr"].value <= 1
    assert 0 <= metadata["pbo"].value <= 1
    swept = pl.read_parquet(judged.store.local("trading", SWEEP))
    assert swept.columns == ["date", "rule", "ret", "ret_twice"]
    assert set(swept["rule"]) == {"default", "patient", "all_names"}
    default = swept.filter(pl.col("rule") == "default")
    np.testing.assert_array_equal(default["ret"], equity["ret"])
    assert default["ret_twice"].sum() < default["ret"].sum()

    again = backtest(judged, instance, sweep=["patient", "all_names"])
    assert again.success and len(all_trials(judged.root)) == metadata["trials"].value
    repeated = newest(judged.root)
    assert repeated == stored and repeated.table("equity").equals(equity), "the same set, with the same figures"
    assert backtest(judged, instance, capital=20e6).success
    other = newest(judged.root)
    assert other is not None and other != stored and stored.table("equity").equals(equity)
    assert len(all_trials(judged.root)) == metadata["trials"].value, "another capital is no further trial"


@fake
def test_a_walk_forward_is_preferred_and_its_scores_are_those_that_are_traded(
    judged: World, instance: dg.DagsterInstance
) -> None:
    """The stitched scores of folds lie where `walk_forward` writes them."""
    from atft_assets.training.walk_forward import write_scores
    from atft_model.interchange.records import write_json

    champion = put_in_use(judged)
    days = [day for day in judged.days if date(2019, 12, 2) <= day <= date(2020, 3, 31)]
    codes = judged.codes
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"date": np.repeat(np.array(days, "datetime64[D]"), len(codes)), "code": codes * len(days)})
    frame = frame.with_columns(
        pl.col("date").cast(pl.Date),
        *(pl.Series(f"score_{h}d", rng.normal(size=frame.height), dtype=pl.Float32) for h in HORIZONS),
    )
    folder = judged.store.local("evaluation", "walk_forward")
    for name in ("fold_phase0", "lightgbm"):
        write_scores(folder / "scores" / f"development-{name}.parquet", frame)
    board = {
        "created_at": "2020-07-01T00:00:00+00:00", "panel_id": "p", "profiles": {"dates": [], "scores": []},
        "folds": [{"fold": "2019", "test": ["2019-12-02", "2020-03-31"], "runs": {}}],
    }  # fmt: skip
    write_json(folder / "development.json", board)
    given = recorded(judged.store, champion)
    assert given.source == "walk_forward" and given.span == (days[0], days[-1]) and given.lightgbm is not None
    assert "another recipe" in given.said
    result = backtest(judged, instance)
    assert result.success, failure(result)
    stored = newest(judged.root)
    assert stored is not None
    equity = stored.table("equity")
    assert equity["date"].min() == days[1] and equity["date"].max() == date(2020, 4, 1)
    assert "days that no model had learned from" in (judged.root / "reports" / "backtest.html").read_text()
    assert recorded(judged.store, champion, "validation").source == "validation"
    said = failure(backtest(judged, instance, scores="walk_forward", name="phase2"))
    assert "the walk-forward holds no scores of phase2" in said
    damaged = folder / "scores" / "development-fold_phase0.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert "is damaged" in failure(backtest(judged, instance))


@fake
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"costs": "none"}, "there are no costs 'none'; there are retail_zero"),
        ({"rule": "best"}, "there is no portfolio rule 'best'; there are default"),
        ({"name": "phase3"}, "phase3 is not it"),
        ({"first": "2021-01-04"}, "no evening lies between"),
        ({"capital": 1000.0}, "with 1,000 JPY the rule default bought nothing"),
    ],
)
def test_what_cannot_be_run_is_a_sentence(judged: World, instance: dg.DagsterInstance, config, said: str) -> None:
    put_in_use(judged)
    assert said in failure(backtest(judged, instance, **config))


@fake
def test_a_record_of_a_few_evenings_is_not_judged_and_nothing_fails(
    judged: World, instance: dg.DagsterInstance
) -> None:
    put_in_use(judged)
    fold = judged.fold()
    days = [day for day in judged.days if day >= fold.validation[0]]
    result = backtest(judged, instance, last=str(days[10]))
    assert result.success and result.asset_materializations_for_node(NAME) == []
    assert all("10 evenings" in one.description and "needs 20" in one.description for one in checks(result).values())
    assert newest(judged.root) is None
    assert backtest(judged, instance, last=str(days[20])).asset_materializations_for_node(NAME)


@fake
def test_a_leak_is_not_published_and_leaves_no_figure(judged: World, instance: dg.DagsterInstance) -> None:
    """A label shifted into the scores, on real data: the check stops it, and the page of before stands."""
    from atft_assets.training.walk_forward import write_scores
    from atft_model.interchange.records import write_json

    put_in_use(judged)
    labels = (
        judged.store.table("features", "labels").read().filter(pl.col("date").is_between(*judged.fold().validation))
    )
    frame = labels.select(
        "date", "code", *(pl.col("y_cc_1d").cast(pl.Float32).alias(f"score_{h}d") for h in HORIZONS)
    ).drop_nulls()
    folder = judged.store.local("evaluation", "walk_forward")
    write_scores(folder / "scores" / "development-fold_phase0.parquet", frame)
    write_json(
        folder / "development.json",
        {"created_at": "2020-07-01", "panel_id": "p", "profiles": {"dates": [], "scores": []},
         "folds": [{"fold": "2020", "test": ["2020-01-06", "2020-06-30"], "runs": {}}]},
    )  # fmt: skip
    quotes = judged.store.table("raw", "daily_quotes")
    for key in quotes.manifest().entries:  # of real data, with the exchange's flags
        judged.publish("raw", "daily_quotes", quotes.read([key]).with_columns(UL=pl.lit("0"), LL=pl.lit("0")))
    result = backtest(judged, instance, simulated=False)
    assert not result.success and "beyond 0.15 it is a leak" in failure(result)
    assert not checks(result)[NAME, "leak"].passed
    assert not (judged.root / "reports" / "backtest.html").exists()
    assert [trial for trial in all_trials(judged.root) if trial.study == BACKTESTS] == []


@fake
def test_a_champion_is_needed_by_name(judged: World) -> None:
    assert current(judged.store.local("trading")) is None
    with pytest.raises(Exception, match="there is no champion whose scores could be traded"):
        recorded(judged.store, None)
