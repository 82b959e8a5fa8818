"""The whole asset graph: what every asset must have, what assets are called, and what is said of all of them once."""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import pytest
from dagster import validate_run_config

from atft_assets import groups
from atft_assets.build import OWNERS, PARTITIONS_TAG, build_defs
from atft_assets.contracts import CONTRACT_CHECK
from atft_assets.jquants.plans import covers
from atft_assets.raw.registry import SOURCES
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store

SETTINGS = Settings(base_url=None, plan=Plan.STANDARD, data_root="data", start=date(2022, 1, 4), end=date(2024, 12, 30))
TABLE_GROUPS = set(groups.TABLES)

# Names that people type and that the docs use. More may come; none of these goes.
PLANNED = {
    "raw": {"trading_calendar", *(source.name for source in SOURCES)},
    "features": {
        "universe",
        "stock_features",
        "market_features",
        "stock_market_features",
        "sector_features",
        "all_features",
        "labels",
        "feature_report",
    },
    "graph": {"correlation_graph"},
    "training": {
        "training_panel",
        "folds",
        "train_phase0",
        "train_phase1",
        "train_phase2",
        "train_phase3",
        "baselines",
        "evaluation",
        "test_evaluation",
        "ablation",
        "runs_report",
    },
    "trading": {"promotion", "daily_scores", "portfolio", "orders", "backtest"},
    "operations": {"disk_usage", "data_release"},
}


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(SETTINGS)


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_webserver_can_load_them(defs: dg.Definitions) -> None:
    """A code server loads every job; `Definitions` alone does not see that two of them name things alike."""
    repository = defs.get_repository_def()
    repository.load_all_definitions()
    assert {"nightly_refresh", "train", "corrections", "retention"} <= set(repository.job_names)


def test_the_planned_names_are_there(specs: dict[str, dg.AssetSpec]) -> None:
    missing = {group: sorted(names - set(specs)) for group, names in PLANNED.items() if names - set(specs)}
    assert missing == {}
    assert [name for name in specs if name.startswith(("phase1_", "phase2_"))] == []


def test_every_asset_has_an_owner_kinds_a_description_a_group_and_its_cadence(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        assert list(spec.owners) == OWNERS, name
        assert spec.kinds, name
        assert spec.description and len(spec.description) > 20, name
        assert spec.group_name not in (None, "default"), name
        assert spec.tags[PARTITIONS_TAG] in ("months", "none", "other"), name


def test_the_catalog_shows_the_first_sentence_whole(specs: dict[str, dg.AssetSpec]) -> None:
    """Of a description the list of assets shows about 60 characters."""
    first = {n: (s.description or "").split(". ")[0] for n, s in specs.items() if s.group_name == groups.TRAINING}
    assert {name: text for name, text in first.items() if len(text) > 60} == {}


def test_month_assets_are_those_with_months(specs: dict[str, dg.AssetSpec]) -> None:
    months = {name for name, spec in specs.items() if spec.tags[PARTITIONS_TAG] == "months"}
    assert {"daily_quotes", "universe", "all_features", "correlation_graph"} <= months
    assert not {"trading_calendar", "labels", "feature_report", "training_panel", "train_phase0", "disk_usage"} & months
    for name in months:
        assert isinstance(specs[name].partitions_def, dg.MonthlyPartitionsDefinition), name


@pytest.mark.parametrize("plan", [Plan.STANDARD, Plan.PREMIUM])
def test_every_table_is_judged_by_a_blocking_contract(specs: dict[str, dg.AssetSpec], plan: Plan) -> None:
    """But for raw tables above the plan that nothing needs: they are skipped, and a check that never runs shows red."""
    graph = build_defs(SETTINGS.model_copy(update={"plan": plan})).resolve_asset_graph()
    judged = {key.asset_key.to_user_string() for key in graph.asset_check_keys if key.name == CONTRACT_CHECK}
    tables = {name for name, spec in specs.items() if spec.group_name in TABLE_GROUPS} | {"training_panel"}
    skipped = {source.name for source in SOURCES if source.optional and not covers(plan, source.endpoint.plan)}
    assert tables - judged == skipped
    assert (skipped == set()) == (plan is Plan.PREMIUM)
    assert all(graph.get_check_spec(key).blocking for key in graph.asset_check_keys if key.name == CONTRACT_CHECK)


def test_every_trained_phase_is_checked(defs: dg.Definitions) -> None:
    keys = defs.resolve_asset_graph().asset_check_keys
    for phase in range(4):
        found = {key.name for key in keys if key.asset_key == dg.AssetKey(f"train_phase{phase}")}
        assert {"gain", "gradient_flow", "no_degeneracy"} <= found


def test_no_asset_reads_what_is_not_defined(defs: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    read = {dep.asset_key.to_user_string() for spec in specs.values() for dep in spec.deps}
    assert read - set(specs) == set()


def test_resources_can_be_replaced_without_patching(tmp_path) -> None:
    store = Store(root=str(tmp_path))
    defs = build_defs(SETTINGS, resource_overrides={"store": store})
    assert (defs.resources or {})["store"] is store
    assert set(defs.resources or {}) >= {"store", "jquants", "alerts", "disk_levels", "launcher"}


def test_the_sandbox_changes_nothing_but_where_data_come_from() -> None:
    """The same assets with a key as without."""
    live = build_defs(SETTINGS.model_copy(update={"base_url": "http://127.0.0.1:9/v2", "end": None}))
    names = {spec.key for spec in live.resolve_all_asset_specs()}
    assert names == {spec.key for spec in build_defs(SETTINGS).resolve_all_asset_specs()}


def test_groups_are_sorted_as_the_road_goes(specs: dict[str, dg.AssetSpec]) -> None:
    """The UI sorts them by name."""
    road = [groups.RAW, groups.FEATURES, groups.GRAPH, groups.TRAINING, groups.TRADING, groups.OPERATIONS]
    assert road == sorted(road)
    assert {spec.group_name for spec in specs.values()} == set(road)


def test_the_selection_of_monthly_tables_is_what_it_says(defs: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    chosen = dg.AssetSelection.from_string(groups.MONTHLY).resolve(defs.resolve_asset_graph())
    assert {key.to_user_string() for key in chosen} == {
        name
        for name, spec in specs.items()
        if spec.tags[PARTITIONS_TAG] != "none" and spec.group_name in groups.TABLES and name != "minute_bars"
    }


def test_what_needs_an_addon_runs_only_by_its_name(defs: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    """Whether it was bought nobody can ask; a refusal would fail every evening of those who did not."""
    marked = {name for name, spec in specs.items() if spec.tags.get(groups.ADDON_TAG)}
    assert marked == {source.name for source in SOURCES if source.endpoint.addon} == {"minute_bars"}
    for job in ("nightly_refresh", "night_refresh"):
        chosen = defs.resolve_job_def(job).asset_layer.executable_asset_keys
        assert "daily_quotes" not in marked and marked & {key.to_user_string() for key in chosen} == set()
    assert marked & {dep.asset_key.to_user_string() for spec in specs.values() for dep in spec.deps} == set()


def undescribed(kind: object, where: str) -> Iterator[str]:
    """Fields of a config type, at any depth, of which the launchpad says nothing."""
    for name, field in getattr(kind, "fields", {}).items():
        if not field.description:
            yield f"{where}.{name}"
        yield from undescribed(field.config_type, f"{where}.{name}")
    if inner := getattr(kind, "inner_type", None):
        yield from undescribed(inner, where)


def test_the_launchpad_describes_every_field(defs: dg.Definitions) -> None:
    assets = [asset for asset in defs.assets or [] if isinstance(asset, dg.AssetsDefinition) and asset.is_executable]
    kinds = {asset.key.to_user_string(): asset.op.config_schema.config_type for asset in assets}
    kinds |= {
        name: resource.config_schema.config_type
        for name, resource in defs.get_repository_def().get_top_level_resources().items()
    }
    assert len(kinds) > len(assets)
    assert [one for name, kind in kinds.items() if kind for one in undescribed(kind, name)] == []


@pytest.mark.parametrize(
    ("asset", "config", "named"),
    [
        ("train_phase0", {"preset": "smal"}, "preset"),
        ("train_phase0", {"device": "gpu"}, "device"),
        ("train_phase2", {"mode": "fast"}, "mode"),
        ("train_phase2", {"curriculum": {"epoch": 3}}, "epoch"),
        ("training_panel", {"feature_set": "phaseX"}, "feature_set"),
        ("test_evaluation", {"open_test": "perhaps"}, "open_test"),
    ],
)
def test_a_wrong_value_is_refused_before_a_run_starts(defs: dg.Definitions, asset: str, config, named: str) -> None:
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey(asset)})
    with pytest.raises(dg.DagsterInvalidConfigError, match=named):
        validate_run_config(job, {"ops": {asset: {"config": config}}})
