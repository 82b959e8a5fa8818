"""The services on a machine that boots: start, `kill -9` of each, reload and restart with a run in flight, power loss.

The tests stand in the order in which they run; each leaves the machine up, with every service running.
"""

import re
import urllib.request
from collections.abc import Iterator

import pytest

from tests.deploy.machine import METRICS, PATIENCE, SERVICES, Machine, machine
from tests.e2e.locations import DOCUMENT, LOADED

pytestmark = [pytest.mark.deploy, pytest.mark.machine, pytest.mark.slow, pytest.mark.timeout(1800)]

JOB = 'repositoryLocationName: "atft", repositoryName: "__repository__", pipelineName: "__ASSET_JOB"'
LAUNCH = """mutation {launchRun(executionParams: {selector: {%s}, executionMetadata: {tags: [%s]}, runConfigData: {},
mode: "default"}) {__typename ... on LaunchRunSuccess {run {runId}} ... on InvalidSubsetError {message}}}"""
VALID = """{isPipelineConfigValid(pipeline: {%s}, runConfigData: {}, mode: "default") {__typename}}"""
RANGE = """{key: "dagster/asset_partition_range_start", value: "2022-02"},
{key: "dagster/asset_partition_range_end", value: "2025-06"}"""
OVER = {"SUCCESS", "FAILURE", "CANCELED"}


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with machine() as one:
        one.boot()
        made = 'createuser -p "$0" atft && createdb -p "$0" -O atft atft'
        said = one.told("su", "postgres", "-c", f"bash -c '{made}' {one.ports['postgres']}")
        assert said == "", said
        yield one


def chosen(assets: str) -> str:
    """The job of these assets, as GraphQL names it."""
    paths = ", ".join(f'{{path: ["{name}"]}}' for name in assets.split())
    return f"{JOB}, assetSelection: [{paths}]"


def loaded(box: Machine) -> bool:
    """Whether the UI serves our code, and the code server answers it.

    Of a code server that is away the UI goes on to show what it knew; only a job cut out of the code is asked for anew.
    """
    document = DOCUMENT.decode()
    answer = box.query(document[document.index("{workspace") : -2])
    if not answer or answer["workspaceOrError"].get("locationEntries") != LOADED:
        return False
    said = box.query(VALID % chosen("trading_calendar"))
    return bool(said) and said["isPipelineConfigValid"]["__typename"] == "PipelineConfigValidationValid"


def launch(assets: str, tags: str = "") -> str:
    return LAUNCH % (chosen(assets), tags)


def launched(box: Machine, assets: str, tags: str = "") -> str:
    answer = box.wait(lambda: box.query(launch(assets, tags)), "the UI")["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def status(box: Machine, run: str) -> str:
    answer = box.query(f'{{runOrError(runId: "{run}") {{... on Run {{status}}}}}}')
    return str(answer["runOrError"].get("status")) if answer else ""


def in_flight(box: Machine) -> str:
    """A run of months that has begun to work."""
    run = launched(box, "daily_quotes listed_info topix", RANGE)
    box.wait(lambda: status(box, run) in {"STARTED", *OVER}, "the start of the run")
    assert status(box, run) == "STARTED", "it is over too soon to be struck"
    return run


def test_everything_comes_up_after_a_boot(box: Machine) -> None:
    """The services began before their database was there, and go on by themselves."""
    box.wait(lambda: loaded(box), "our code in the UI")
    box.wait(lambda: all(box.told("systemctl", "is-active", unit) == "active" for unit in SERVICES), "the services")
    healthy = "{instance {daemonHealth {allDaemonStatuses {daemonType healthy}}}}"

    def daemons() -> list[bool]:
        return [one["healthy"] for one in box.query(healthy)["instance"]["daemonHealth"]["allDaemonStatuses"]]

    box.wait(lambda: all(daemons()), "the daemons")
    run = launched(box, "trading_calendar")
    box.wait(lambda: status(box, run) in OVER, "the run")
    assert status(box, run) == "SUCCESS"


def test_view_looks_and_does_not_touch(box: Machine) -> None:
    answer = box.wait(lambda: box.query(launch("trading_calendar"), "view", "/view/graphql"), "the view")
    assert answer["launchRun"]["__typename"] == "UnauthorizedError"


def test_only_the_code_server_holds_the_keys(box: Machine) -> None:
    """As the kernel tells the environment of each process."""
    for unit in SERVICES:
        environment = box.told("cat", f"/proc/{box.main_pid(unit)}/environ")
        for secret in ("ATFT_PG_PATIENCE=900", "AWS_ACCESS_KEY_ID=of-runs-alone"):
            assert (secret in environment) is (unit == "atft-code"), unit
    assert box.told("stat", "-c", "%a %U", "/etc/atft/atft.env") == "600 root"
    asked = "select distinct auth_method from pg_hba_file_rules where type = $$local$$"
    psql = f"psql -p {box.ports['postgres']} -Atc '{asked}'"
    assert box.told("su", "postgres", "-c", psql) == "peer"  # nobody has a password that could be lost
    assert box.told("stat", "-c", "%a %U", "/var/lib/atft") == "700 atft"


def test_a_person_runs_what_a_service_runs_with_its_home_its_user_and_its_database(box: Machine) -> None:
    assert box.by_hand("id", "-un") == "atft"
    said = box.by_hand("python", "-m", "atft_assets.tools.doctor")
    assert "data in /var/lib/atft/data" in said and "daemon     it runs" in said, said
    assert "fail " not in said, said


def test_the_lock_of_a_gpu_is_seen_by_hand(box: Machine) -> None:
    """A service has no /tmp of its own: one training a GPU, whoever starts it."""
    box.by_hand("touch", "/tmp/atft-gpu0.lock")
    code = box.main_pid("atft-code")
    seen = [box.told("stat", "-c", "%d:%i", f"{root}/tmp/atft-gpu0.lock") for root in ("", f"/proc/{code}/root")]
    assert re.fullmatch(r"\d+:\d+", seen[0]) and seen[0] == seen[1]


def measured(box: Machine) -> dict[str, float]:
    """What the service for Prometheus tells; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{box.ports['metrics']}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_are_told_and_come_back_when_they_are_killed(box: Machine) -> None:
    found = box.wait(lambda: measured(box), "the metrics")
    assert {name: value for name, value in found.items() if name.startswith("atft_source_up")} == {
        name: 1.0 for name in found if name.startswith("atft_source_up")
    }
    assert found['atft_runs{status="success"}'] >= 1
    before = box.main_pid(METRICS)
    box.told("kill", "-9", str(before))
    box.wait(lambda: box.main_pid(METRICS) not in (0, before) and measured(box), "the metrics")


@pytest.mark.parametrize("unit", SERVICES)
def test_what_is_killed_comes_back(box: Machine, unit: str) -> None:
    before = box.main_pid(unit)
    assert before
    box.told("kill", "-9", str(before))
    box.wait(lambda: box.main_pid(unit) not in (0, before), f"another {unit}")
    box.wait(lambda: box.told("systemctl", "is-active", unit) == "active" and loaded(box), "our code in the UI")


def test_a_reload_leaves_a_run_alone(box: Machine) -> None:
    before, run = box.main_pid("atft-code"), in_flight(box)
    assert box.told("systemctl", "reload", "atft-code") == ""
    assert box.main_pid("atft-code") == before and loaded(box)
    box.wait(lambda: status(box, run) in OVER, "the end of the run")
    assert status(box, run) == "SUCCESS"


def test_a_restart_ends_a_run_and_says_so(box: Machine) -> None:
    """A stop tells the run, and the run tells its end before the stop is over: no reaper is needed."""
    before, run = box.main_pid("atft-code"), in_flight(box)
    box.told("systemctl", "restart", "atft-code")
    assert box.main_pid("atft-code") != before
    assert status(box, run) == "FAILURE"
    box.wait(lambda: loaded(box), "our code in the UI")


def test_a_run_that_died_with_its_code_server_is_ended_by_the_reaper(box: Machine) -> None:
    run = in_flight(box)
    box.told("kill", "-9", str(box.main_pid("atft-code")))
    box.wait(lambda: box.told("systemctl", "is-active", "atft-code") == "active", "the code server")
    box.told("systemctl", "start", "atft-reaper.service")
    box.wait(lambda: status(box, run) in OVER, "the end of the run")
    assert status(box, run) == "FAILURE"
    box.wait(lambda: loaded(box), "our code in the UI")


def test_after_a_power_loss_everything_is_up_and_the_run_is_ended_by_itself(box: Machine) -> None:
    run = in_flight(box)
    box.lose_power()
    assert status(box, run) == ""
    box.boot()
    box.wait(lambda: loaded(box), "our code in the UI")
    box.wait(lambda: status(box, run) in OVER, "the end of the run, by the reaper")
    assert status(box, run) == "FAILURE"
    again = launched(box, "trading_calendar")
    box.wait(lambda: status(box, again) in OVER, "the next run")
    assert status(box, again) == "SUCCESS"
