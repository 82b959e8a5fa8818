"""What an event costs Dagster, by storage: `python -m atft_assets.benches.events` (make bench-events).

SQLite, PostgreSQL with the storage of dagster-postgres as shipped, and with ours, side by side: the storages take
turns, so that a noisy machine disturbs them all. An event is an observation of an asset, as a training tells an epoch.

A PostgreSQL of its own is made by deploy/postgres.sh in a temporary folder and asked over its socket, and over TCP with
a password as from another machine; `synchronous_commit` is on, as everywhere. Needs PostgreSQL's programs and the extra
`postgres`; without them SQLite alone is measured, and that is said.
"""

import argparse
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres.sh"
ROUNDS, EVENTS = 7, 20
ASSET = "epoch"


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL: addresses of its database over the socket and over TCP."""

    by_socket: str
    by_tcp: str


@contextmanager
def server() -> Iterator[Server]:
    """A PostgreSQL for as long as the bench takes.

    Raises:
        subprocess.CalledProcessError: it cannot be made; deploy/postgres.sh has said why.
    """
    with tempfile.TemporaryDirectory(prefix="atft-pg-", dir="/tmp") as name, socket.socket() as probe:
        folder = Path(name)
        folder.chmod(0o755)  # the server runs as another user where root calls
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        word = secrets.token_hex(16)
        (folder / "word").write_text(word)
        environ = {
            **os.environ,
            "ATFT_PG_CLUSTER": str(folder / "pg"),
            "ATFT_PG_PORT": str(port),
            "ATFT_PG_LISTEN": "127.0.0.1",
            "ATFT_PG_PASSWORD_FILE": str(folder / "word"),
        }
        probe.close()

        def script(command: str) -> str:
            return subprocess.run([SCRIPT, command], env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout

        script("init")
        script("start")
        try:
            by_socket = script("url").strip()
            role = by_socket.split("//")[1].split("@")[0]
            yield Server(by_socket, f"postgresql+psycopg2://{role}:{word}@127.0.0.1:{port}/atft")
        finally:
            script("stop")


def storages(given: Server | None) -> Mapping[str, dict[str, Any]]:
    """What stands under `storage:` of each instance, by what it is called in the table."""
    found: dict[str, dict[str, Any]] = {"SQLite": {"sqlite": {"base_dir": {"env": "DAGSTER_HOME"}}}}
    for how, url in (("socket", given.by_socket), ("TCP", given.by_tcp)) if given else ():
        ours = {"module": "atft_assets.postgres", "class": "PatientPostgresStorage", "config": {"postgres_url": url}}
        found[f"PostgreSQL as shipped, {how}"] = {"postgres": {"postgres_url": url}}
        found[f"PostgreSQL, our class, {how}"] = {"custom": ours}
    return found


@contextmanager
def opened(folder: Path, storage: dict[str, Any]) -> Iterator[dg.DagsterInstance]:
    """An instance with that storage, its home in a folder."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}}))
    os.environ["DAGSTER_HOME"] = str(folder)  # SQLite's folder is named by it
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def milliseconds(instance: dg.DagsterInstance, count: int) -> float:
    """Milliseconds of one event, by so many of them."""
    began = time.perf_counter()
    for number in range(count):
        instance.report_runless_asset_event(dg.AssetObservation(ASSET, metadata={"epoch": number, "rank_ic": 0.1}))
    return 1000 * (time.perf_counter() - began) / count


def measured(
    instances: Mapping[str, dg.DagsterInstance], rounds: int = ROUNDS, events: int = EVENTS
) -> dict[str, list[float]]:
    """Milliseconds of an event by storage and round; the storages take turns."""
    for instance in instances.values():
        milliseconds(instance, 2)  # connections, caches
    found: dict[str, list[float]] = {name: [] for name in instances}
    for _ in range(rounds):
        for name, instance in instances.items():
            found[name].append(milliseconds(instance, events))
    return found


def table(found: Mapping[str, list[float]]) -> list[str]:
    """A line a storage: median, least and most of the rounds, and the ratio to the first."""
    base = statistics.median(next(iter(found.values())))
    lines = [f"{'milliseconds an event':<32}{'median':>8}{'min':>8}{'max':>8}{'ratio':>8}"]
    for name, values in found.items():
        median = statistics.median(values)
        lines.append(f"{name:<32}{median:8.1f}{min(values):8.1f}{max(values):8.1f}{median / base:8.2f}")
    return lines


def missing() -> str:
    """Why PostgreSQL cannot be measured here, or nothing."""
    if find_spec("dagster_postgres") is None:
        return "the extra `postgres` is not installed: pip install -c constraints.txt -e '.[postgres]'"
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return "no PostgreSQL here: apt-get install --no-install-recommends postgresql-15"
    return ""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.events", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each storage (default: %(default)s)")
    parser.add_argument("--events", type=int, default=EVENTS, help="events of a turn (default: %(default)s)")
    given = parser.parse_args()
    why = missing()
    if why:
        print(f"SQLite alone: {why}", file=sys.stderr)
    with ExitStack() as stack:
        running = None if why else stack.enter_context(server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        instances = {
            name: stack.enter_context(opened(folder / str(number), storage))
            for number, (name, storage) in enumerate(storages(running).items())
        }
        print("\n".join(table(measured(instances, given.rounds, given.events))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
