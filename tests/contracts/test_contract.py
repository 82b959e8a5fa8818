"""Contracts: what each rule catches, and write-audit-publish inside a real Dagster run."""

from datetime import date

import dagster as dg
import pandera.polars as pa
import polars as pl
import pytest

from atft_assets.contracts import (
    Built,
    Contract,
    ContractViolation,
    contract_check,
    require_columns,
    write_audit_publish,
)
from atft_assets.store import Store

CONTRACT = Contract(
    "prices",
    pa.DataFrameSchema(
        {
            "date": pa.Column(pl.Date),
            "code": pa.Column(pl.String, pa.Check.str_matches("^[0-9A-Z]{5}$")),
            "close": pa.Column(pl.Float32, pa.Check.gt(0), nullable=True),
            "flag": pa.Column(pl.UInt8),
            "slow": pa.Column(pl.Float32, nullable=True),
        },
        strict=True,
        unique=["date", "code"],
    ),
    coverage={"close": 0.5},
    lookback={"slow": 252},
    constant_ok=frozenset({"date", "flag"}),
)


def good() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "date": [date(2024, 1, 4)] * 4,
            "code": ["13010", "13020", "130A0", "25935"],
            "close": [1.0, 2.0, None, 4.0],
            "flag": [1, 1, 1, 1],
            "slow": [1.0, 2.0, 3.0, 4.0],
        },
        schema_overrides={"close": pl.Float32, "flag": pl.UInt8, "slow": pl.Float32},
    )


def rules(frame: pl.DataFrame, **kwargs) -> dict[str, list[str]]:
    failures = CONTRACT.audit(frame, "2024-01", **kwargs).failures
    return {column: failures.filter(column=column)["rule"].to_list() for column in failures["column"]}


def test_a_good_frame_passes():
    assert CONTRACT.audit(good(), "2024-01").passed


@pytest.mark.parametrize(
    ("broken", "column", "rule"),
    [
        (good().rename({"close": "clse"}), "close", "present"),
        (good().with_columns(extra=1), "extra", "known to the schema"),
        (good().with_columns(pl.col("close").cast(pl.Float64)), "close", "dtype('Float32')"),
        (good().with_columns(close=pl.lit(-1.0, pl.Float32)), "close", "greater_than(0)"),
        (good().with_columns(close=pl.lit(float("inf"), pl.Float32)), "close", "finite where present"),
        (good().with_columns(close=pl.lit(float("nan"), pl.Float32)), "close", "finite where present"),
        (good().with_columns(close=pl.lit(None, pl.Float32)), "close", "not null throughout"),
        (good().with_columns(slow=pl.lit(1.0, pl.Float32)), "slow", "not one constant value"),
        (good().with_columns(code=pl.lit("13010")), "date, code", "unique key"),
        (good().with_columns(code=pl.concat_str(pl.lit("x"), pl.col("code"))), "code", "str_matches('^[0-9A-Z]{5}$')"),
    ],
)
def test_every_rule_catches_its_fault(broken, column, rule):
    assert rule in rules(broken).get(column, [])


def test_coverage_names_the_share():
    thin = good().with_columns(pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise(pl.col("close")).alias("close"))
    assert rules(thin) == {"close": ["present in at least 50% of rows (25.0% are)"]}


def test_a_column_that_warms_up_is_judged_only_after_its_look_back():
    cold = good().with_columns(slow=pl.lit(None, pl.Float32))
    assert CONTRACT.audit(cold, "2024-01", history_days=251).passed
    assert rules(cold, history_days=252) == {"slow": ["not null throughout"]}


def test_empty_and_lazy_frames_are_refused():
    assert not CONTRACT.audit(good().clear(), "2024-01").passed
    with pytest.raises(TypeError, match="eager"):
        CONTRACT.audit(good().lazy(), "2024-01")  # Pandera alone would have checked its schema only


def test_the_verdict_shows_rows():
    verdict = CONTRACT.audit(good().with_columns(close=pl.lit(-3.0, pl.Float32)), "2024-01")
    assert "code=130A0 close=-3.0" in verdict.failures["sample"].str.join(" ").item()
    assert str(verdict).startswith("prices 2024-01 breaks its contract: column close: greater_than(0) (4 rows")


def test_required_inputs_are_named_before_any_computation():
    with pytest.raises(ContractViolation, match=r"daily_quotes 2024-01 .*AdjFactor: required input column is present"):
        require_columns(["date", "C"], ["date", "C", "AdjFactor"], table="daily_quotes", partition="2024-01")


PARTS = dg.StaticPartitionsDefinition(["2024-01", "2024-02"])


def run(store: Store, instance, frames: dict[str, pl.DataFrame]):
    @dg.asset(
        partitions_def=PARTS, check_specs=[contract_check("prices")], backfill_policy=dg.BackfillPolicy.single_run()
    )
    def prices(context: dg.AssetExecutionContext, store: Store):
        yield from write_audit_publish(
            context,
            store.table("g", "prices"),
            CONTRACT,
            lambda keys: (Built(key, frames[key]) for key in keys),
            code_version="1",
        )

    @dg.asset(deps=[prices])
    def downstream() -> None: ...

    first, last = min(frames), max(frames)
    return dg.materialize(
        [prices, downstream],
        instance=instance,
        resources={"store": store},
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        raise_on_error=False,
    )


def test_a_violation_in_one_month_publishes_no_month_and_stops_downstream(tmp_path):
    store = Store(root=str(tmp_path))
    with dg.instance_for_test() as instance:
        fine = run(store, instance, {"2024-01": good(), "2024-02": good()})
        assert fine.success
        before = store.table("g", "prices").version()
        bad = run(store, instance, {"2024-01": good(), "2024-02": good().with_columns(close=pl.lit(-1.0, pl.Float32))})
        assert not bad.success
        assert not bad.asset_materializations_for_node("prices")
        assert not [e for e in bad.all_events if e.step_key == "downstream" and e.is_successful_output]
        check = bad.get_asset_check_evaluations()[0]
        assert not check.passed and check.metadata["partition"].value == "2024-02"
        assert check.metadata["failures"].value.records[0].data["rule"] == "greater_than(0)"
    assert store.table("g", "prices").version() == before
    assert not [p for p in store.table("g", "prices").folder.iterdir() if p.name.endswith(".staged")]


def test_a_passed_check_targets_its_materialization(tmp_path):
    with dg.instance_for_test() as instance:
        result = run(Store(root=str(tmp_path)), instance, {"2024-01": good()})
        check = result.get_asset_check_evaluations()[0]
        assert check.passed and check.target_materialization_data is not None
        assert result.asset_materializations_for_node("prices")[0].metadata["dagster/row_count"].value == 4
