"""One module and one line: a new table appears everywhere, and one that knows too much is found out."""

import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from atft_assets.calendar import TOKYO, days_of_month, shift_trading_days
from atft_assets.features.asof import as_known
from atft_assets.features.build import Builder
from atft_assets.features.catalogue import catalogue_hash, feature_set, render
from atft_assets.features.feature import family
from atft_assets.features.lineage import lineage
from atft_assets.features.names import UNIVERSE, of
from atft_assets.features.point_in_time import judge, telling_days
from atft_assets.features.registry import TABLES, complete, table
from atft_assets.features.schemas import contract_of
from atft_assets.features.table import FeatureTable, Reader, UndeclaredInput
from atft_assets.store import MissingTable

# tables of prices: among those that are late every day, the toy's record would be one of many that may be drawn
BASE = tuple(row for row in TABLES if row.name in ("universe", "labels") or any(f.core for f in row.features))
WEEKLY = "weekly_interest"  # dated Friday, known on the second business day after
_feature = family("crowd", kind="cross_section", source=WEEKLY, reads=of(WEEKLY, "balance"), coverage=0.1)
FEATURES = (_feature("crowd_balance", "newest weekly balance that the evening knew", 1, 0),)


def known_in_time(inputs: Reader) -> pl.DataFrame:
    """The newest balance of each evening."""
    rows = inputs.read(UNIVERSE, ("date", "code"))
    records = inputs.read(WEEKLY, ("date", "code", "balance", "available_at"))
    known = as_known(records, rows, keys=["code"])
    return known.select("date", "code", pl.col("balance").cast(pl.Float32).alias("crowd_balance"))


def known_too_early(inputs: Reader) -> pl.DataFrame:
    """The balance of the day that it is dated, on which nobody had it."""
    records = inputs.read(WEEKLY, ("date", "code", "balance"))
    return records.select("date", "code", pl.col("balance").cast(pl.Float32).alias("crowd_balance"))


TOY = FeatureTable(
    name="crowd_features",
    description="A toy.",
    build=known_in_time,
    features=FEATURES,
    reads={WEEKLY: 1, UNIVERSE: 0},
)
WRONG = FeatureTable(
    name="crowd_features",
    description="A toy that reads the future.",
    build=known_too_early,
    features=FEATURES,
    reads={WEEKLY: 1, UNIVERSE: 0},
)


def publish_weekly(fixture) -> None:
    store = fixture.store
    target = store.table("raw", WEEKLY)
    for key in fixture.keys:
        codes = store.table("raw", "daily_quotes").read([key], ["code"])["code"].unique().sort()
        rows = []
        for friday in (day for day in days_of_month(key) if day.weekday() == 4):
            out = shift_trading_days(friday, 2)
            at = datetime(out.year, out.month, out.day, 16, 30, tzinfo=TOKYO)
            rows += [(friday, code, float(friday.toordinal() % 97 + i), at) for i, code in enumerate(codes)]
        schema = {
            "date": pl.Date,
            "code": pl.String,
            "balance": pl.Float64,
            "available_at": pl.Datetime("us", "Asia/Tokyo"),
        }
        target.publish([target.stage(key, pl.DataFrame(rows, schema=schema, orient="row"), code_version="test")])


def build(fixture, toy: FeatureTable) -> tuple[FeatureTable, ...]:
    """Publish the toy and the join with it; the registry with one line more."""
    tables = (*BASE, toy)
    names = frozenset(row.name for row in complete(tables))
    builder = Builder(fixture.store, names, fixture.keys[0], fixture.settings().start)
    for row in (toy, table("all_features", tables)):
        target = fixture.store.table("features", row.name)
        for built in builder.build(row, fixture.keys):
            assert contract_of(row).audit(built.frame, built.key, built.history_days).passed
            target.publish([target.stage(built.key, built.frame, code_version=row.code_version)])
    return tables


def test_the_table_is_in_the_join_the_catalogue_the_contract_and_the_lineage(workspace) -> None:
    publish_weekly(workspace)
    tables = build(workspace, TOY)
    frame = workspace.store.table("features", "all_features").read([workspace.keys[-2]])
    assert frame.columns[-1] == "crowd_balance" and frame["crowd_balance"].null_count() < frame.height / 5
    assert (
        feature_set("full", tables)[:-1] == feature_set("full", BASE) and feature_set("full", tables)[-1] is FEATURES[0]
    )
    assert catalogue_hash(feature_set("full", tables), tables) != catalogue_hash(feature_set("full", BASE), BASE)
    assert "## crowd_features\n\nFrom weekly_interest." in render(tables)
    assert lineage(TOY) == {
        "date": {("universe", "date")},
        "code": {("universe", "code")},
        "crowd_balance": {(WEEKLY, "balance")},
    }
    assert lineage(table("all_features", tables))["crowd_balance"] == {("crowd_features", "crowd_balance")}
    described = contract_of(TOY).schema.columns["crowd_balance"].description
    assert "newest weekly balance" in described and "weekly_interest: balance" in described


def test_a_late_record_joined_by_its_date_fails_the_check_and_the_same_as_known_passes(workspace) -> None:
    publish_weekly(workspace)
    store, first, key = workspace.store, workspace.keys[0], workspace.keys[-2]
    tables = build(workspace, TOY)
    telling = telling_days(store, key, tables)
    assert {day.weekday() for day in telling} >= {0, 4}  # Friday and Monday: dated, and not out
    for day in (telling[0], telling[-1], days_of_month(key)[-1]):
        assert judge(store, first, day, tables)[1].is_empty(), day
    tables = build(workspace, WRONG)
    for day in (telling[0], telling[-1]):
        assert judge(store, first, day, tables)[1]["column"].to_list() == ["crowd_balance"], day


def test_the_asset_check_draws_a_day_on_which_a_late_record_shows(workspace) -> None:
    import dagster as dg

    from atft_assets.features import definitions

    publish_weekly(workspace)
    for toy, passes in ((TOY, True), (WRONG, False)):
        tables = build(workspace, toy)
        defs = definitions(workspace.settings(), tables)
        chosen = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("all_features"), "point_in_time"))
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [*(defs.assets or []), *(defs.asset_checks or [])], selection=chosen, instance=instance,
                resources={"store": workspace.store},
            )  # fmt: skip
            (found,) = result.get_asset_check_evaluations()
        assert found.passed == passes, found.description
        assert passes or "crowd_balance" in (found.description or "")


def test_what_is_not_declared_cannot_be_read(workspace) -> None:
    def sees(name: str, *columns: str):
        toy = FeatureTable(
            name="crowd_features",
            description="A toy.",
            build=lambda inputs: inputs.read(name, columns or None),
            features=FEATURES,
            reads={WEEKLY: 0, UNIVERSE: 0},
        )
        builder = Builder(workspace.store, frozenset(row.name for row in TABLES), workspace.keys[0], date(2020, 3, 2))
        return next(builder.build(toy, workspace.keys[-1:]))

    with pytest.raises(UndeclaredInput, match=r"crowd_features reads topix, .* add it to `reads`"):
        sees("topix", "C")
    with pytest.raises(UndeclaredInput, match=r"reads secret of weekly_interest, .* name it in `reads=`"):
        sees(WEEKLY, "date", "secret")
    with pytest.raises(MissingTable, match=WEEKLY):
        sees(WEEKLY)
    with pytest.raises(ValueError, match="rows are those of the universe"):
        FeatureTable("crowd_features", "A toy.", known_in_time, {WEEKLY: 0}, features=FEATURES)
    with pytest.raises(ValueError, match="two feature tables have one name"):
        complete((*TABLES, TOY, TOY))


MODULE = '''"""A new table: this module, and one line."""

import polars as pl

from atft_assets.build import build_defs
from atft_assets.features import TABLES, FeatureTable, Reader
from atft_assets.features.feature import Feature
from atft_assets.features.names import STOCK, UNIVERSE, of
from atft_assets.features.rolling import by_stock, finish, depth, mean


FEATURES = (
    Feature("calm_20", "calm", "mean(volatility_5d, 20)", 20, 24, low=0.0, source="daily_quotes",
            reads=of(STOCK, "volatility_5d")),
)


def build(inputs: Reader) -> pl.DataFrame:
    rows = by_stock(inputs.read(STOCK, ("date", "code", "volatility_5d")).drop_nulls()).lazy()
    return finish(rows.with_columns(depth(), mean("volatility_5d", 20).alias("calm_20")), FEATURES).collect()


CALM = FeatureTable(name="calm_features", description="How calm a stock is.", build=build, features=FEATURES,
                    reads={STOCK: 3, UNIVERSE: 0})
defs = build_defs(tables=(*TABLES, CALM))
'''


@pytest.mark.e2e
def test_one_module_and_one_line_through_dagsters_own_command(workspace, tmp_path: Path) -> None:
    code = tmp_path / "calm.py"
    code.write_text(MODULE)
    (tmp_path / "home").mkdir()
    environment = {
        "PATH": str(Path(sys.executable).parent),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DAGSTER_HOME": str(tmp_path / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "ATFT_DATA": str(workspace.root),
        "ATFT_START": "2020-03-02",
        "ATFT_END": "2020-11-13",
        "PYTHONWARNINGS": "ignore",
    }
    command = [
        str(Path(sys.executable).parent / "dagster"), "asset", "materialize", "-f", str(code), "--select",
        "calm_features,all_features", "--partition-range", "2020-09...2020-10",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=560, cwd=tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    frame = workspace.store.table("features", "all_features").read(["2020-10"])
    assert frame.columns[-1] == "calm_20" and frame["calm_20"].null_count() < frame.height / 2
    assert "point_in_time" in done.stderr + done.stdout
    entry = workspace.store.table("features", "calm_features").manifest().entries["2020-10"]
    assert entry.contract_passed and len(entry.code_version) == 16
