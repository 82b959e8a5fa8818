"""Plugin of pytest for `make deploy-test`: chooses what belongs to deploy/, and ends with a table of what ran.

A row for each thing that must be shown of deploy/, with the tests that show it, how long they took, and of what was
not tried the reason. Tests run one after another: they share ports, devices and machines.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

import pytest

# What is shown, and patterns of the tests that show it (their ids without parameters); the first row that fits counts.
ROWS: Mapping[str, Sequence[str]] = {
    "PostgreSQL by postgres.sh, stack up, a run by GraphQL, sensors, daemons": (
        "tests/deploy/test_stack.py",
        "tests/deploy/test_sensors.py",
        "tests/deploy/test_unrun_checks.py",
        "tests/deploy/test_files.py::test_a_cluster_*",
    ),
    "PostgreSQL away in mid-run: SUCCESS, and STARTED as shipped": ("tests/deploy/test_postgres.py",),
    "two hosts on one PostgreSQL: each reaper its own runs": ("tests/deploy/test_two_hosts.py",),
    "retention: lineage stays, files go": (
        "tests/deploy/test_history.py",
        "tests/operations/test_retention.py",
        "tests/operations/test_run_history.py",
        "tests/operations/test_run_folders.py",
    ),
    "nginx: TLS, two logins, websocket, GET 405, foreign origin 403, browser": ("tests/deploy/test_nginx.py",),
    "units: verify without a word, security at most 3": ("tests/deploy/test_units.py",),
    "units on a machine that boots: start, kill -9, reload, restart, power loss": ("tests/deploy/test_boot.py",),
    "image: hadolint, built, run read-only without capabilities": (
        "tests/deploy/test_containers.py::test_hadolint_*",
        "tests/deploy/test_containers.py::test_the_images_*",
    ),
    "compose linted; every variable of atft.env.example used, and vice versa": (
        "tests/deploy/test_containers.py",
        "tests/deploy/test_files.py",
    ),
    "Ray, one host and two: power loss, partition, cancel, token, one publication": (
        "tests/training/test_two_hosts.py",
        "tests/training/test_ray_*.py",
        "tests/deploy/test_ray*.py",
    ),
    "Optuna: a study gone on with, on the platform's own database": (
        "tests/deploy/test_search.py",
        "tests/hpo/test_study.py",
    ),
    "bucket: two publishers, kill in a publication, fetched once, resumed elsewhere": (
        "tests/store/test_bucket*.py",
        "tests/store/test_mirror.py",
        "tests/training/test_bucket*.py",
        "tests/deploy/test_bucket*.py",
        "tests/deploy/test_s3*.py",
    ),
    "NVML by a stand-in library; a quota that is full; preflight": (
        "tests/model/test_telemetry.py",
        "tests/training/test_readiness.py",
        "tests/training/test_disk.py",
        "tests/deploy/test_quota*.py",
    ),
    "backup into an empty machine, outage, upgrade": (
        "tests/deploy/test_backup.py",
        "tests/deploy/test_restore*.py",
        "tests/deploy/test_outage.py",
        "tests/deploy/test_upgrade.py",
    ),
    "two weeks of evenings, trading days and faults": (
        "tests/deploy/test_two_weeks.py",
        "tests/trading/test_two_weeks.py",
    ),
    "metrics for Prometheus, alert rules": ("tests/operations/test_metrics.py",),
}
OTHER = "other tests marked deploy or machine"
MARKS = ("deploy", "machine")


@dataclass
class Tried:
    """What became of the tests of a row.

    Attributes:
        counts: by passed, failed and skipped.
        reasons: why tests were skipped, and how many for each.
        seconds: of the tests and of what was made for them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def row_of(test: str) -> str | None:
    """The row that a test belongs to; None if it is of none.

    Args:
        test: id of a test, or of a file that could not be collected.
    """
    name = test.partition("[")[0]
    for row, patterns in ROWS.items():
        if any(fnmatch(name, pattern) or fnmatch(name, f"{pattern}::*") for pattern in patterns):
            return row
    return None


def tried(stats: Mapping[str, Iterable[object]]) -> dict[str, Tried]:
    """What became of each row, in their order.

    Args:
        stats: pytest's reports by outcome.
    """
    found = {row: Tried() for row in [*ROWS, OTHER]}
    kinds = {"passed": "passed", "xpassed": "passed", "skipped": "skipped", "xfailed": "skipped"}
    kinds |= {"failed": "failed", "error": "failed"}
    for outcome, reports in stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport | pytest.CollectReport):
                continue
            row = found[row_of(report.nodeid) or OTHER]
            row.seconds += getattr(report, "duration", 0.0)
            if outcome not in kinds:  # a fixture's part of a test
                continue
            row.counts[kinds[outcome]] += 1
            if kinds[outcome] == "skipped":
                row.reasons[reason_of(report)] += 1
    return found


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return f"known to fail: {getattr(report, 'wasxfail', '') or 'no reason given'}"


def lines(found: Mapping[str, Tried]) -> Iterable[str]:
    """The table, and below each row what of it was not tried."""
    wide = max(map(len, found))
    yield f"{'what':{wide}}  passed  failed  skipped  seconds"
    for row, one in found.items():
        if row == OTHER and not one.counts:
            continue
        passed, failed, skipped = (one.counts[kind] for kind in ("passed", "failed", "skipped"))
        yield f"{row:{wide}}  {passed:6}  {failed:6}  {skipped:7}  {one.seconds:7.1f}"
        if not one.counts:
            yield "    NOT TRIED: no test of it was chosen"
        for reason, count in one.reasons.items():
            yield f"    not tried ({count}): {reason}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is neither of a row nor marked as deploy's."""
    chosen = {item for item in items if row_of(item.nodeid) or any(map(item.get_closest_marker, MARKS))}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    terminalreporter.section("what of deploy/ was tried here")
    for line in lines(tried(terminalreporter.stats)):
        terminalreporter.write_line(line)
