"""Preflight: `python -m atft_assets.tools.doctor`. Is this machine, this key and this data ready?

One line a finding: ok, warn or fail, what was found, and what to do. Exit code 1 if anything failed. The key is used
once, for a cheap request, and never shown.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from atft_assets.calendar import previous_trading_day
from atft_assets.dagster_private import CheckStatus
from atft_assets.findings import Finding, Level, fail, ok, warn
from atft_assets.home import check_home
from atft_assets.host import this_host
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.endpoints import CALENDAR, INDICES, TOPIX
from atft_assets.jquants.errors import JQuantsError, PlanGate
from atft_assets.jquants.patience import Patience
from atft_assets.jquants.plans import REQUESTS_PER_MINUTE, window
from atft_assets.operations.contract_failures import materialize_command
from atft_assets.operations.disk import DiskLevels
from atft_assets.settings import KEY_VARIABLE, Plan, Settings, SettingsError, clean_key
from atft_assets.store import Store, swap
from atft_assets.tools.home import claim
from atft_assets.tools.reaper import dead_runs, shared
from atft_model.interchange.disk import DiskError

UI_PORT = 3000
GPU_POOL = "gpu"
PACKAGES = ("dagster", "dagster-webserver", "polars", "pandera", "torch", "torch-geometric")
HEARTBEAT_SECONDS = 120
SHORTEST_MARKET = 700  # calendar days; look-backs take 252 trading days, and a fold wants as many again


def versions(installed: Callable[[str], str] = version) -> Iterator[Finding]:
    """Python and the packages that must fit each other; nothing is imported for it."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = installed(package)
        except PackageNotFoundError:
            what = "training needs it" if package.startswith("torch") else "nothing works without it"
            level = warn if package.startswith("torch") else fail
            yield level("packages", f"{package} is not installed; {what}", "make setup")
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    if found.get("dagster") != found.get("dagster-webserver"):
        yield fail("packages", f"dagster and its webserver differ: {text}", "install both with -c constraints.txt")
    else:
        yield ok("packages", f"Python {sys.version.split()[0]}, {text}")


def environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What env.sh exports."""
    todo = ". ./env.sh"
    home = environ.get("DAGSTER_HOME", "")
    if not home:
        yield fail("shell", "DAGSTER_HOME is not set: runs would go to a temporary folder and be forgotten", todo)
    elif not Path(home).is_absolute():
        yield fail(
            "shell", f"DAGSTER_HOME is the relative path {home}", "export an absolute one, or unset it and " + todo
        )
    elif not Path(home, "dagster.yaml").exists():
        yield warn("shell", f"{home} has no dagster.yaml: telemetry is on, pools are unlimited", todo)
    else:
        yield ok("shell", f"DAGSTER_HOME={home}")
    module = environ.get("DAGSTER_MODULE_NAME", "")
    if module:
        yield ok("shell", f"DAGSTER_MODULE_NAME={module}")
    else:
        yield fail("shell", "DAGSTER_MODULE_NAME is not set: `dagster asset materialize` finds no code", todo)


def source(settings: Settings, key: str, client: Callable[..., JQuantsClient] = JQuantsClient) -> Iterator[Finding]:
    """Whether J-Quants answers to the key, and with the plan that the settings name: at most two requests."""
    if settings.sandbox:
        if settings.empty_key:
            yield warn(
                "source", f"{KEY_VARIABLE} is set but EMPTY: runs take the simulated market, not J-Quants",
                "export the key, or unset the variable if the sandbox is meant",
            )  # fmt: skip
        yield ok("source", f"the embedded sandbox, {settings.start} … {settings.end}; it needs no key")
        if settings.end and (settings.end - settings.start).days < SHORTEST_MARKET:
            yield warn(
                "source",
                f"{settings.start} … {settings.end} is shorter than two years: features look back one, so no panel "
                "comes of it",
                "take two years or more (ATFT_START, ATFT_END)",
            )
        return
    if not key:
        yield warn("source", f"{KEY_VARIABLE} is not set; {settings.base_url} may refuse", f"export {KEY_VARIABLE}")
    else:
        yield ok("source", f"{KEY_VARIABLE} is set")
    rate = REQUESTS_PER_MINUTE[settings.plan]
    day = min(settings.end or date.today(), previous_trading_day(date.today()))
    probes: dict[Plan, tuple[Any, dict[str, date]]] = {
        Plan.LIGHT: (TOPIX, {"from": day, "to": day}),
        Plan.STANDARD: (INDICES, {"date": day}),
        Plan.PREMIUM: (INDICES, {"date": day}),
    }
    patience = Patience(attempts=1, throttled=1, listings=1, connect=5.0, read=20.0)
    began = time.monotonic()
    with client(settings.base_url, key, settings.plan, patience=patience, threads=1) as service:
        try:
            service.fetch(CALENDAR, {"from": day, "to": day})
            yield ok("source", f"{settings.base_url} answers ({time.monotonic() - began:.2f} s)")
            if settings.plan in probes:
                service.fetch(*probes[settings.plan])
            yield ok("plan", f"{settings.plan}: {rate} requests a minute, {window(settings.plan, date.today())}")
        except PlanGate as error:
            yield fail(
                "plan", f"JQUANTS_PLAN is {settings.plan}, but the key's plan is smaller ({error.said})", "correct it"
            )
        except JQuantsError as error:
            yield fail("source", error.said, error.remedy or "run it again later")


def disk(settings: Settings, home: str, levels: DiskLevels | None = None) -> Iterator[Finding]:
    """Room on the volumes of the data and of Dagster's home."""
    levels = levels or DiskLevels()
    for variable, place in {"ATFT_DATA": settings.data_root, "DAGSTER_HOME": home}.items():
        if "://" in place or not place:
            continue
        path = Path(place)
        while not path.exists():
            path = path.parent
        usage = shutil.disk_usage(path)
        used = 100 * usage.used / (usage.used + usage.free)
        text = f"{variable} {place}: {usage.free / 1e9:.1f} GB free ({used:.0f} % used)"
        judge = {"ok": None, "warning": warn, "critical": fail}[levels.level(used)]
        if not os.access(path, os.W_OK):
            yield fail("disk", f"{variable} {place}: this user may not write there", "change its owner")
        else:
            yield judge("disk", text, "free some, or move it") if judge else ok("disk", text)


def bucket(settings: Settings) -> Iterator[Finding]:
    """A data root in a bucket: may it be written and read, and does it keep two publishers apart?"""
    if not (store := Store(root=settings.data_root)).remote:
        return
    try:
        path = UPath(store.root) / f".doctor-{uuid.uuid4().hex[:8]}"
        swap.write(path, b"1", None)
        try:
            swap.write(path, b"2", None)
        except swap.Changed:
            yield ok("bucket", f"{store.root}: written, read, and a write that comes second is refused")
        else:
            yield fail(
                "bucket",
                f"{store.root} overwrites a file that another has just made: two runs that publish at once would lose "
                "each other's months",
                "take a store that knows conditional writes (S3 does)",
            )
        finally:
            path.unlink(missing_ok=True)
    except ImportError as error:
        yield fail("bucket", f"{store.root} needs a driver: {error}", "pip install -c constraints.txt -e '.[s3]'")
    except (OSError, ValueError) as error:
        yield fail(
            "bucket",
            f"{store.root} cannot be written: {type(error).__name__}: {error}",
            "check its name, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL",
        )


def ports(port: int = UI_PORT) -> Iterator[Finding]:
    """Whether the UI's port is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            yield warn("port", f"{port} is in use ({error.strerror})", "is the UI running? else: make ui PORT=3001")
            return
    yield ok("port", f"{port} is free for the UI")


def gpu(
    command: Sequence[str] = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
) -> Iterator[Finding]:
    """The GPUs that the driver shows; torch is not asked (it would take seconds)."""
    if shutil.which(command[0]) is None:
        yield ok("gpu", "none (no nvidia-smi): training uses the CPU")
        return
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        yield fail("gpu", "nvidia-smi did not answer in 20 s", "the driver hangs: restart the machine")
        return
    cards = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode or not cards:
        said = (answer.stderr or answer.stdout).strip().splitlines()
        yield warn("gpu", f"nvidia-smi failed: {said[0] if said else 'no text'}", "training would use the CPU")
    for card in cards:
        yield ok("gpu", card)


def instance_state(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Finding]:
    """Pool limit, daemon, and runs that nobody works on."""
    storage = instance.event_log_storage
    limit = storage.get_concurrency_info(GPU_POOL).limit
    if limit == 1:
        yield ok("pool", f"{GPU_POOL}: one training at a time")
    else:
        yield warn(
            "pool", f"{GPU_POOL} admits {limit or 'any number of'} trainings", "dagster instance concurrency set gpu 1"
        )
    beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    if beats and time.time() - max(beats) < HEARTBEAT_SECONDS:
        yield ok("daemon", "it runs: schedules and alerts are awake")
    else:
        yield warn("daemon", "none runs: no schedule, no alert", "make ui")
    for run, _ in dead_runs(instance, this_host(), unnamed=not shared(instance)):
        yield warn(
            "runs",
            f"{run.run_id} is {run.status.value}, but its process is gone",
            "python -m atft_assets.tools.reaper",
        )


def failed_checks(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> Iterator[Finding]:
    """Checks whose newest evaluation failed: what stands behind them does not start."""
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    failed = {key: record for key, record in records.items() if record.status is CheckStatus.FAILED}
    for key, record in failed.items():
        evaluation = record.evaluation
        text = (evaluation.description if evaluation else None) or "no description"
        partition = evaluation.metadata.get("partition") if evaluation else None
        again = materialize_command(key.asset_key.to_user_string(), str(partition.value) if partition else "-")
        yield warn(
            "checks",
            f"{key.asset_key.to_user_string()}: {key.name} failed: {text}",
            f"remove the cause, then: {again}",
        )
    if not failed:
        yield ok("checks", f"none of {len(checks)} is failed")


def code_location() -> tuple[list[Finding], list[dg.AssetCheckKey]]:
    """Load the definitions as Dagster does; also returns the keys of all checks."""
    began = time.monotonic()
    try:
        from atft_assets.definitions import defs

        graph = defs.resolve_asset_graph()
    except (dg.DagsterError, ImportError, ValueError) as error:
        return [fail("code", f"atft_assets.definitions does not load: {error}", "dagster definitions validate")], []
    return [ok("code", f"{len(graph.get_all_asset_keys())} assets load in {time.monotonic() - began:.1f} s")], sorted(
        graph.asset_check_keys, key=str
    )


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding, the cheap ones first."""
    yield from versions()
    yield from environment(environ)
    try:
        settings = Settings.from_env(environ)
        check_home(settings.data_root, environ)
    except SettingsError as error:
        yield fail("settings", str(error), "correct the variable")
        return
    yield ok("settings", f"data in {settings.data_root}, from {settings.start} to {settings.end or 'today'}")
    yield from disk(settings, environ.get("DAGSTER_HOME", ""))
    yield from bucket(settings)
    yield from ports()
    yield from gpu()
    yield from source(settings, clean_key(environ.get(KEY_VARIABLE, "")))
    findings, checks = code_location()
    yield from findings
    if environ.get("DAGSTER_HOME"):
        try:
            claim(settings.data_root)
            with dg.DagsterInstance.get() as instance:
                yield from instance_state(instance, settings)
                yield from failed_checks(instance, checks)
        except (dg.DagsterError, DiskError) as error:
            yield fail("instance", f"Dagster's instance does not open: {error}", "see the message; . ./env.sh")


def main(environ: Mapping[str, str] | None = None) -> int:
    """Print every finding; 1 if one failed."""
    worst = 0
    for finding in examine(os.environ if environ is None else environ):
        print(finding, flush=True)
        worst = max(worst, finding.level is Level.FAIL)
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
