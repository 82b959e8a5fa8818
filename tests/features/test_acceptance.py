"""The months of a run are judged, and what a person accepted is found no more: the same finding, not another one."""

from collections.abc import Iterator

import dagster as dg
import polars as pl
import pytest

from atft_assets.contracts.acceptance import accept_findings, accepted_findings
from atft_assets.features.quality import CHECKS, findings, open_findings, quality_checks
from atft_assets.store import Store

(OUTLIERS,) = (one for one in CHECKS if one.name == "unexplained_returns")
(UNTRADED,) = (one for one in CHECKS if one.name == "untraded_days")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def multiply(store: Store, month: str, code: str, factor: float, place: int = 5) -> None:
    """One close of one name of a published month."""
    table = store.table("raw", "daily_quotes")
    frame = table.read([month])
    day = frame["date"].unique().sort()[place]
    one = (pl.col("date") == day) & (pl.col("code") == code)
    wrong = frame.with_columns(pl.when(one).then(pl.col("C") * factor).otherwise("C").alias("C"))
    table.publish(table.stage_all([(month, wrong)], code_version="test"))


@pytest.fixture
def odd(workspace) -> tuple[Store, str, str]:
    """Two months with a wrong close each, and a name that always trades."""
    first, second = workspace.keys[-3:-1]
    quotes = workspace.store.table("raw", "daily_quotes").read([first, second])
    code = quotes.group_by("code").agg(pl.col("C").null_count()).sort("C", "code")["code"][0]
    for month in (first, second):
        multiply(workspace.store, month, code, 1000)
    return workspace.store, first, second


def check_of(quality, store: Store, instance: dg.DagsterInstance, *span: str) -> dg.AssetCheckEvaluation:
    """The check as a run over months runs it, or by itself."""
    (check,) = (one for one in quality_checks() if next(iter(one.check_keys)) == quality.key)
    tags = {f"dagster/asset_partition_range_{end}": month for end, month in zip(("start", "end"), span, strict=False)}
    job = dg.Definitions(
        assets=[dg.AssetSpec(quality.asset)],
        asset_checks=[check],
        jobs=[dg.define_asset_job("look", dg.AssetSelection.checks(quality.key))],
        resources={"store": store},
    ).resolve_job_def("look")
    (evaluation,) = job.execute_in_process(instance=instance, tags=tags).get_asset_check_evaluations()
    return evaluation


def test_every_month_of_a_run_is_judged_and_acceptance_covers_the_month_alone(odd, instance) -> None:
    store, first, second = odd
    evaluation = check_of(OUTLIERS, store, instance, first, second)
    assert not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.WARN
    (one, other) = findings(store, instance, OUTLIERS, [first, second])
    assert evaluation.metadata["open"].value == {first: list(one.prints), second: list(other.prints)}
    accept_findings(instance, OUTLIERS.key, first, one.prints, "the exchange says so")
    still = check_of(OUTLIERS, store, instance, first, second)
    assert not still.passed and list(still.metadata["open"].value) == [second]
    accept_findings(instance, OUTLIERS.key, second, other.prints, "looked at it")
    accepted = check_of(OUTLIERS, store, instance, first, second)
    assert accepted.passed and "the exchange says so" in (accepted.description or "")
    assert open_findings(store, instance, [first, second]) == []
    assert {one.reason for one in accepted_findings(instance, OUTLIERS.key).values()} == {
        "the exchange says so",
        "looked at it",
    }


def test_the_same_finding_in_other_bytes_stays_accepted_and_another_one_is_open(odd, instance) -> None:
    store, first, _ = odd
    (one,) = findings(store, instance, OUTLIERS, [first])
    accept_findings(instance, OUTLIERS.key, first, one.prints, "looked at it")
    table = store.table("raw", "daily_quotes")
    frame = table.read([first])
    later = frame.with_columns(pl.col("Va") * 1.5)  # the month of another evening
    table.publish(table.stage_all([(first, later)], code_version="test"))
    assert open_findings(store, instance, [first]) == []
    another = frame["code"].unique().sort()[-1]
    multiply(store, first, another, 30, place=9)
    (new,) = open_findings(store, instance, [first])
    assert set(new.open["code"]) == {another} and new.prints and not set(new.prints) & set(one.prints)
    assert new.rows.height > new.open.height


def test_a_check_without_a_run_over_months_judges_the_newest(workspace, instance) -> None:
    evaluation = check_of(UNTRADED, workspace.store, instance)
    assert evaluation.passed and evaluation.metadata["months"].value == workspace.keys[-1]
