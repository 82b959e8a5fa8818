"""Runs a case as an evening does: the real assets on a real store, in Dagster, and then the sensors that tell."""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import polars as pl

from atft_assets import raw
from atft_assets.build import build_defs
from atft_assets.contracts.acceptance import accept_findings
from atft_assets.features.quality import open_findings
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.operations.alerts import Alerts
from atft_assets.settings import Plan, Settings
from atft_assets.store import Store
from tests.attack.cases import Case
from tests.attack.hostile import Proxy, passthrough
from tests.operations.helpers import read_log

START, END = date(2022, 1, 4), date(2022, 2, 28)
BEFORE, MONTH = "2022-01", "2022-02"
EVENING = "2022-02-28T20:00"
KEY = "sandbox-key-of-the-attack"
KEY_VARIABLE = "ATFT_KEY_OF_THE_ATTACK"  # not the platform's own: what masks by that value must not help here
WHOLE = ("trading_calendar", "labels")
PLACES = ("raw", "features", "graph")
TELLING = ("schema_failure_alert", "run_failure_alert", "data_warning_alert")  # sensors
FEATURES = ("universe", "stock_features", "market_features", "stock_market_features", "sector_features")  # of prices


@dataclass(frozen=True)
class Outcome:
    """What one fetch came to.

    Attributes:
        struck: answers that were spoiled.
        changed: published files that are not as before, with the manifests.
        left: staged files that nobody removed.
        alerts: what the sensors wrote to the alert log.
        warned: names of checks that warned.
        sentence: why the run failed, as the run's page shows it.
        log: every event of the run, as text.
        frame: the month as it is published now.
    """

    success: bool
    struck: int
    changed: list[str]
    left: list[str]
    alerts: list[dict[str, Any]]
    warned: list[str]
    sentence: str
    log: str
    frame: pl.DataFrame | None


class Lab:
    """One code location and one Dagster instance for all cases; each case gets a copy of the clean data root."""

    def __init__(self, proxy: Proxy, instance: dg.DagsterInstance, root: Path):
        self.proxy, self.instance, self.root = proxy, instance, root
        self.settings = Settings(
            base_url=proxy.base_url, plan=Plan.STANDARD, data_root=str(root / "data"), start=START, end=END
        )
        os.environ[KEY_VARIABLE] = KEY  # as `jquants_resource` takes it: a plain value would stand in every snapshot
        jquants = JQuantsResource(
            api_key=dg.EnvVar(KEY_VARIABLE), base_url=proxy.base_url, plan=Plan.STANDARD.value, now=EVENING,
            requests_per_minute=0, attempts=3, first_wait=0.001, first_freeze=0.001, next_freeze=0.001,
            read_timeout=0.5,
        )  # fmt: skip
        # faults that may pass are given up at once: what a run waits for them is tested where it is done
        with mock.patch.object(raw, "definitions", functools.partial(raw.definitions, waits=())):
            self.defs = build_defs(self.settings, resource_overrides={"jquants": jquants})
        self.job = self.defs.resolve_implicit_global_asset_job_def()
        self.cursors: dict[str, str | None] = {}

    @property
    def data(self) -> Path:
        return self.root / "data"

    def run(self, table: str, month: str, **tags: str) -> dg.ExecuteInProcessResult:
        """Materialize one raw table for a month, or the calendar whole."""
        return self.job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(table)],
            partition_key=None if table in WHOLE else month,
            raise_on_error=False,
            tags=tags,
        )

    def prepare(self, tables: Mapping[str, list[str]]) -> None:
        """Build the clean data root: months of each table from an undisturbed source."""
        self.proxy.use(passthrough)
        for table, months in tables.items():
            for month in months:
                assert self.run(table, month).success, (table, month)
        shutil.copytree(self.data, self.root / "clean")
        self.tell()

    def clean(self) -> None:
        """Put the clean data root in place of what a case has left."""
        shutil.rmtree(self.data)
        shutil.copytree(self.root / "clean", self.data)

    def attack(self, case: Case) -> Outcome:
        """Fetch the case's month through its move, from the clean data root; then let the sensors look."""
        self.clean()
        self.forget(case.table)
        before = published(self.data)
        self.proxy.use(case.move)
        result = self.run(case.table, MONTH, attack=case.name)
        struck = self.proxy.struck
        self.proxy.use(passthrough)
        evaluations = result.get_asset_check_evaluations()
        if case.seen_in_features:
            for month in (BEFORE, MONTH):
                evaluations += self.carried(month).get_asset_check_evaluations()
        alerts = self.tell()
        events = self.instance.all_logs(result.run_id)
        after = published(self.data)
        return Outcome(
            success=result.success,
            struck=struck,
            changed=sorted(path for path in before | after if before.get(path) != after.get(path)),
            left=[str(path) for path in self.data.rglob("*.staged")],
            alerts=alerts,
            warned=[e.check_name for e in evaluations if not e.passed and e.severity is dg.AssetCheckSeverity.WARN],
            sentence=sentence(result),
            log="\n".join(str(event) for event in events) + json.dumps(alerts),
            frame=self.frame(case.table),
        )

    def carried(self, month: str) -> dg.ExecuteInProcessResult:
        """Carry a month through the tables that read prices, as the refresh does."""
        result = self.job.execute_in_process(
            instance=self.instance, asset_selection=[dg.AssetKey(name) for name in FEATURES], partition_key=month
        )
        assert result.success
        return result

    def accept(self) -> None:
        """Accept, as a person does, whatever stops the release of the case's month."""
        for finding in open_findings(Store(root=str(self.data)), self.instance, [MONTH]):
            accept_findings(self.instance, finding.quality.key, MONTH, finding.prints, "the attack is known")

    def frame(self, table: str) -> pl.DataFrame | None:
        path = self.data / "raw" / table / f"{key_of(table)}.parquet"
        return pl.read_parquet(path) if path.exists() else None

    def truth(self, table: str) -> pl.DataFrame:
        """The case's month as an undisturbed run published it."""
        return pl.read_parquet(self.root / "clean" / "raw" / table / f"{key_of(table)}.parquet")

    def forget(self, table: str) -> None:
        """Take the case's month out of the data root, as if it had not been fetched yet."""
        folder = self.data / "raw" / table
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["entries"][key_of(table)]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / f"{key_of(table)}.parquet").unlink()

    def tell(self) -> list[dict[str, Any]]:
        """One tick of every sensor that tells; what came into the alert log by it, which begins empty each time."""
        log = self.root / "alerts.log"
        log.unlink(missing_ok=True)
        resources = {"alerts": Alerts(log_file=str(log))}
        for sensor in self.defs.sensors or ():
            if sensor.name not in TELLING:
                continue
            with dg.build_sensor_context(
                instance=self.instance, cursor=self.cursors.get(sensor.name), resources=resources,
                definitions=dg.Definitions(sensors=[sensor], resources=resources),
            ) as context:  # fmt: skip
                self.cursors[sensor.name] = sensor.evaluate_tick(context).cursor
        return read_log(log)


def key_of(table: str) -> str:
    """The partition that is fetched."""
    return "all" if table == "trading_calendar" else MONTH


def published(data: Path) -> dict[str, str]:
    """Hash of every published file, and of the manifests."""
    files = [path for place in PLACES for path in (data / place).glob("*/*") if not path.name.startswith(".")]
    return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sentence(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed: the description of the failed step, and the messages of the chain of errors behind it."""
    said = []
    for event in result.all_events:
        data: Any = event.event_specific_data
        if event.event_type_value in ("STEP_FAILURE", "PIPELINE_FAILURE"):
            failure = getattr(data, "user_failure_data", None)
            said.append((failure.description if failure else "") or "")
            error = data.error
            while error:
                said.append(error.message)
                error = error.cause
    return "\n".join(said)
