"""The asset on the small market: what it publishes, what it refuses, and that the test block stays shut."""

import json
from dataclasses import replace
from datetime import date

import dagster as dg
import polars as pl
import pytest

from atft_assets.features.feature import Feature
from atft_assets.features.names import STOCK, of
from atft_assets.features.registry import TABLES, served
from atft_assets.features.table import FeatureTable
from atft_assets.reports import ablation_page
from atft_assets.reports.family_table import by_column, by_family
from atft_assets.settings import Plan
from atft_assets.training.ablation import (
    CLOSED_TEST,
    NAME,
    AblationConfig,
    CannotAblate,
    ablation_asset,
    asked_of,
    closed_test,
    not_served,
)
from atft_assets.training.ablation_board import GOOD, SAME, outcome, reaches_test
from atft_assets.training.looks import ledger
from atft_assets.trials.ledger import all_trials
from atft_model.interchange.fold import write_fold
from tests.training.small_market import World

from .test_phases import failure

FAST = {"trees": 5, "settings": 0, "threads": 1}
MARKET = "mkt_level"


def column(name: str, family: str, kind: str = "time_series") -> Feature:
    return Feature(name, family, "as made", 1, 0, kind=kind, reads=of("daily_quotes", "C"))  # type: ignore[arg-type]


ROW = FeatureTable(
    name=STOCK,
    description="What the small market has.",
    build=lambda reader: reader.rows(),
    reads={"universe": 0, "daily_quotes": 0},
    features=(
        column("signal", "price"),
        column("noise", "price"),
        column("tied", "price"),
        column(MARKET, "market", "market"),
        column("is_valid", "validity", "flag"),
    ),
)


def report() -> pl.DataFrame:
    """As `feature_report` publishes it; what is equal for all names is not in it."""
    figures = {"signal": (0.15, 0.0001), "noise": (-0.01, 1.0), "tied": (None, None), "is_valid": (0.002, 1.0)}
    rows = [
        {
            "feature": name,
            "family": "",
            "horizon": h,
            "rank_ic": ic,
            "t_newey_west": 2.0,
            "p": p,
            "p_holm": p,
            "days": 9,
        }
        for name, (ic, p) in figures.items()
        for h in (1, 5, 10, 20)
    ]
    return pl.DataFrame(rows)


def run(  # type: ignore[no-untyped-def]
    world: World, instance: dg.DagsterInstance, reported: bool = True, **config
) -> dg.ExecuteInProcessResult:
    table = world.store.table("features", "feature_report")
    if reported:
        table.publish([table.stage("all", report(), code_version="t")])
    return dg.materialize(
        [
            ablation_asset(world.settings, (ROW,)),
            *(dg.AssetSpec(name) for name in ("training_panel", "folds", "feature_report")),
        ],
        selection=[NAME],
        resources={"store": world.store},
        run_config={"ops": {NAME: {"config": FAST | config}}},
        instance=instance,
        raise_on_error=False,
    )


def test_the_family_of_the_signal_is_found(world: World, instance: dg.DagsterInstance) -> None:
    result = run(world, instance, models=["ridge"], price_set=["validity"])
    assert result.success
    board = json.loads((world.root / "evaluation" / "main" / "ablation.json").read_text())
    fold = world.fold()
    assert (board["first"], board["last"]) == tuple(map(str, fold.validation)) and board["block"] == "validation"
    assert board["last"] < str(fold.test[0]) and board["days"] >= 80
    assert board["families"] == {"price": 3, "market": 1, "validity": 1} and board["price_set"] == ["validity"]
    said = {(one["family"], one["change"]): one for one in board["comparisons"]}
    assert set(said) == {
        *((name, "left out") for name in ("price", "market", "validity")),
        *((name, "added") for name in ("price", "market")),
    }
    # 90 days of 20-day labels leave two degrees of freedom: of the headline the size is seen, a verdict is for longer
    # blocks; of the next day ninety days are enough
    assert min(said["price", change]["mean"] for change in ("left out", "added")) > 0.03
    assert all(abs(one["mean"]) < 0.03 for (family, _), one in said.items() if family != "price")
    near = {key: one["shortest"] for key, one in said.items()}
    assert {one["horizon"] for one in near.values()} == {1}
    assert {key for key, one in near.items() if one["verdict"] == GOOD} == {
        ("price", "left out"),
        ("price", "added"),
    }
    # what is equal for all names of a day ranks none of them: round-off is no comparison
    assert all(
        (said[key]["verdict"], near[key]["verdict"], said[key]["p_holm"]) == (SAME, SAME, None)
        for key in said
        if key[0] == "market"
    )
    asked = [one["p"] for key, pair in said.items() if key[0] != "market" for one in (pair, near[key])]
    smallest = min((one for one in (*said.values(), *near.values()) if one["p_holm"] is not None), key=lambda x: x["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, len(asked) * smallest["p"]))  # all figures of the page count
    assert f"of {len(said)} comparisons on {board['days']} days" in outcome(board)

    families = {one["family"]: one for one in board["univariate"]}
    assert families["price"]["best"] == "signal" and families["price"]["beyond_chance"] == 1
    assert (families["price"]["columns"], families["price"]["ranking"]) == (3, 2)
    assert families["market"]["best"] is None and families["market"]["coverage"] == pytest.approx(1)
    assert families["validity"]["best"] == "is_valid"

    (check,) = result.get_asset_check_evaluations()
    assert check.check_name == CLOSED_TEST and check.passed
    trials = all_trials(world.root)
    assert {one.study for one in trials} == {"ablations"} and len(trials) == len(board["sets"])
    assert not ledger(world.root / "evaluation")  # no test block was looked at
    assert (board["plan"], board["not_served"]) == (world.settings.plan, {})
    page = (world.root / "reports" / "ablation.html").read_text()
    assert f"all {2 * len(said)} figures, {len(said)} comparisons" in page and "No family needs a larger plan" in page
    assert "among all 3 columns that rank" in page  # of the one that is equal for all names there is no figure
    assert "data:image/png;base64," in page and ">signal<" in page and str(world.root) not in page
    for one in board["comparisons"]:
        assert f"<td>{one['mean']:+.4f}</td>" in page
        assert f"<td>{'–' if one['p_holm'] is None else format(one['p_holm'], '.3f')}</td>" in page
    metadata = result.asset_materializations_for_node(NAME)[0].metadata
    assert list(metadata)[:3] == ["outcome", "table", "picture"] and len(metadata["table"].records) == len(said)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"families": ["flow"]}, "names flow, which is no family of the newest panel; it has price, market, validity"),
        ({"price_set": ["volume"]}, "`price_set` names volume"),
        ({"models": ["forest"]}, "names forest: use ridge or lightgbm"),
        ({"seeds": []}, "no model or no seed"),
    ],
)
def test_what_the_panel_has_not_is_refused(world: World, config: dict[str, list[str]], said: str) -> None:
    with pytest.raises(CannotAblate, match=said):
        asked_of(AblationConfig(**config), world.newest(), (ROW,))  # type: ignore[arg-type]


def test_days_that_reach_the_test_block_are_told(world: World) -> None:
    """By themselves, or by the days on which their labels end."""
    panel, fold = world.newest(), world.fold()
    days, (first, last) = list(panel.dates), fold.validation
    assert reaches_test(panel, fold, first, last) == ""
    assert "touch the test block" in reaches_test(panel, fold, first, fold.test[0])
    begins = days.index(fold.test[0])
    longest = max(panel.horizons)
    assert reaches_test(panel, fold, first, days[begins - longest - 1]) == ""
    assert "labels of" in reaches_test(panel, fold, first, days[begins - longest])
    opened = replace(panel.description, label="y_oo")  # from the next open on: a day more
    panel.__dict__["description"] = opened
    assert "labels of" in reaches_test(panel, fold, first, days[begins - longest - 1])


def test_the_check_fails_on_other_days_than_the_validation_block(world: World) -> None:
    panel, fold = world.newest(), world.fold()
    (first, last), count = fold.validation, len(fold.places(panel.dates, "validation"))
    honest = {"first": str(first), "last": str(last), "days": count}
    assert closed_test(panel, fold, honest).passed
    for changed, said in (
        ({"last": str(fold.test[0])}, "touch the test block"),
        ({"first": str(fold.train[0])}, "not the validation block"),
        ({"days": count - 1}, "not the validation block"),
        ({"first": str(date(1999, 1, 1))}, "no days of the panel"),
    ):
        verdict = closed_test(panel, fold, honest | changed)
        assert not verdict.passed and said in (verdict.description or "")


def test_a_fold_whose_labels_reach_the_test_is_refused_before_anything_is_fitted(
    world: World, instance: dg.DagsterInstance
) -> None:
    panel, fold = world.newest(), world.fold()
    days = list(panel.dates)
    late = replace(fold, validation=(fold.validation[0], days[days.index(fold.test[0]) - 5]))
    write_fold(world.store.local("fold", panel.panel_id) / "main.json", late)
    result = run(world, instance)
    assert not result.success and not (world.root / "evaluation" / "main" / "ablation.json").exists()
    assert not all_trials(world.root)


def test_without_the_report_of_columns_it_says_what_to_run(world: World, instance: dg.DagsterInstance) -> None:
    result = run(world, instance, reported=False)
    assert not result.success and not all_trials(world.root)
    said = failure(result)
    assert "ablation cannot start" in said and "feature_report" in said and "materialize" in said


def test_families_are_in_order_and_the_best_column_is_the_largest_either_way() -> None:
    features = [column("b", "flow"), column("a", "price"), column("c", "flow"), column("gone", "short")]
    rows = [
        {"feature": name, "horizon": h, "rank_ic": ic, "t_newey_west": 1.0, "p": 0.01, "p_holm": p, "days": 50}
        for name, ic, p in (("a", 0.02, 0.2), ("b", 0.01, 0.5), ("c", -0.03, 0.04))
        for h in (1, 5, 10, 20)
    ]
    frame = by_column(pl.DataFrame(rows), features, {"a": 1.0, "b": 0.5, "c": 0.25})
    assert frame["feature"].to_list() == ["b", "a", "c"]
    flow, price = by_family(frame, 0.05)
    assert (flow["family"], flow["best"], flow["best_rank_ic"], flow["best_coverage"]) == ("flow", "c", -0.03, 0.25)
    assert flow["mean_abs_rank_ic"] == pytest.approx(0.02) and flow["coverage"] == pytest.approx(0.375)
    assert (flow["beyond_chance"], price["beyond_chance"]) == (1, 0)


def test_a_large_correlation_of_few_names_is_not_the_best_column() -> None:
    rows = [
        {"feature": name, "horizon": h, "rank_ic": ic, "t_newey_west": t, "p": 0.1, "p_holm": 0.2, "days": 50}
        for name, ic, t in (("rare", 0.2, 1.1), ("sure", -0.03, -4.0))
        for h in (1, 5, 10, 20)
    ]
    features = [column("rare", "flow"), column("sure", "flow")]
    (flow,) = by_family(by_column(pl.DataFrame(rows), features, {"rare": 0.01, "sure": 1.0}), 0.05)
    assert (flow["best"], flow["best_t"]) == ("sure", -4.0)


def test_families_of_a_larger_plan_are_named() -> None:
    lacking = not_served(served(Plan.LIGHT), TABLES)
    assert lacking["options"] == "standard" and lacking["futures"] == "premium"
    assert not lacking.keys() & {"price", "flow", "statements"} and not_served(TABLES, TABLES) == {}


def test_the_page_of_another_fold_has_another_name() -> None:
    assert ablation_page.page_name() == "ablation.html" and ablation_page.page_name("a") == "ablation-a.html"
