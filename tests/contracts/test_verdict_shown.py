"""What the UI shows of a check: it asks whether the newest verdict is about the newest materialization."""

from collections.abc import Iterator

import dagster as dg
import pytest

from atft_assets.contracts import CONTRACT_CHECK, Verdict, contract_check, failed_check, failures_frame
from atft_assets.failures import PermanentFailure
from tests.verdict_in_the_ui import verdict_in_the_ui

MONTHS = dg.StaticPartitionsDefinition(["2022-01", "2022-02", "2022-03"])
broken: set[str] = set()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        broken.clear()
        yield instance


@dg.asset(partitions_def=MONTHS, check_specs=[contract_check("shown")])
def shown(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    if context.partition_key in broken:
        verdict = Verdict("shown", context.partition_key, failures_frame([("Vo", "not null", 1, "code=13010")]))
        yield failed_check("shown", verdict)
        raise PermanentFailure(str(verdict))
    yield dg.MaterializeResult(asset_key="shown")
    yield dg.AssetCheckResult(passed=True, asset_key="shown", check_name=CONTRACT_CHECK)


@pytest.mark.parametrize("month", MONTHS.get_partition_keys())
def test_a_broken_contract_is_red_whichever_month_was_fetched_again(instance: dg.DagsterInstance, month: str) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("shown"), CONTRACT_CHECK)
    for one in MONTHS.get_partition_keys():
        dg.materialize([shown], partition_key=one, instance=instance)
    assert verdict_in_the_ui(instance, key) == "SUCCEEDED"
    broken.add(month)
    dg.materialize([shown], partition_key=month, instance=instance, raise_on_error=False)
    assert verdict_in_the_ui(instance, key) == "FAILED"
    broken.clear()
    dg.materialize([shown], partition_key=month, instance=instance)
    assert verdict_in_the_ui(instance, key) == "SUCCEEDED"


def test_a_month_that_was_never_built_is_red_too(instance: dg.DagsterInstance) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("shown"), CONTRACT_CHECK)
    dg.materialize([shown], partition_key="2022-01", instance=instance)
    broken.add("2022-02")
    dg.materialize([shown], partition_key="2022-02", instance=instance, raise_on_error=False)
    assert verdict_in_the_ui(instance, key) == "FAILED"
