"""What breaks first when there is more of everything: `python -m atft_assets.benches.scale` (make bench-scale).

Simulates what this machine can: writers of events on PostgreSQL, publishers of one table, runs that wait, trainings of
a fan-out, months of partitions, and panels of growing size. Carries the panel's figures on to 10,000 names and twenty
years, and computes the memory of trainings there. docs/scale.md says what follows from it.

Wall times are this machine's, and of whatever else runs on it: ratios and counts are what travels.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from queue import Empty
from statistics import median
from typing import Any

import dagster as dg
import sqlalchemy as sa

from atft_assets.benches.events import milliseconds, missing, opened, server, storages
from atft_assets.benches.scale_panels import panels, said
from atft_assets.dagster_private import job_origin
from atft_assets.training.launcher import LocalLauncher
from atft_model.interchange.fold import Fold
from atft_model.interchange.request import TrainRequest

WRITERS, EVENTS = (1, 10, 30, 50), 10
PUBLISHERS, MONTHS = (1, 8), 6
QUEUED, TASKS = 100, 100
SECONDS = 600.0  # that a process is waited for
OURS = "PostgreSQL, our class, socket"
FORK = multiprocessing.get_context("fork")  # a writer that imports anew would cost this machine seconds and 150 MB
ANYBODY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")  # the bucket here asks nobody
REGION = {"AWS_DEFAULT_REGION": "us-east-1"}
CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
Lines = Iterator[str]


def together(work: Callable[[int, Any], Any], count: int) -> list[Any]:
    """What so many processes give back that begin at the same moment; each has `work(number, wait)`.

    Raises:
        RuntimeError: one of them did not answer.
    """
    gate, answers = FORK.Barrier(count), FORK.Queue()

    def one(number: int) -> None:
        answers.put(work(number, gate.wait))

    processes = [FORK.Process(target=one, args=(number,), daemon=True) for number in range(count)]
    for process in processes:
        process.start()
    try:
        found = [answers.get(timeout=SECONDS) for _ in processes]
        for process in processes:
            process.join(10)
        return found
    except Empty:
        raise RuntimeError(
            f"one of {count} processes did not answer within {SECONDS:.0f} s; what it said is above"
        ) from None
    finally:
        for process in processes:
            process.kill()


def writers() -> Lines:
    """Milliseconds of an event with several that write, as an epoch of a training does, and their connections."""
    if why := missing():
        yield f"writers of events: left out, {why}"
        return
    with server() as running, tempfile.TemporaryDirectory() as folder:
        storage = storages(running)[OURS]
        with opened(Path(folder) / "first", storage) as instance:
            milliseconds(instance, 1)  # the tables
        alone = 0.0
        for count in WRITERS:

            def write(number: int, wait: Callable[[], int], count: int = count) -> tuple[float, int | None] | None:
                with ExitStack() as stack:
                    took = held = None
                    try:
                        instance = stack.enter_context(opened(Path(folder) / f"{count}-{number}", storage))
                        milliseconds(instance, 1)
                        wait()
                        took = milliseconds(instance, EVENTS)
                        held = connections(running.by_socket)
                    except sa.exc.OperationalError:  # the server takes no more clients
                        if took is None:
                            wait()
                    wait()
                return None if took is None else (took, held)

            answers = together(write, count)
            found = [one for one in answers if one is not None]
            took, counts = median(one for one, _ in found), [held for _, held in found if held is not None]
            held = f"{max(counts)} connections" if counts else "every connection that the server gives"
            alone = alone or took
            yield (
                f"writers of events {count:>4}: {took:7.1f} ms an event ({took / alone:5.1f} x), "
                f"{1000 * len(found) / took:6.0f} events a second, {held}; {count - len(found)} writers refused"
            )


def connections(url: str) -> int:
    """Connections that the server holds for clients, the asking one not counted."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(CLIENTS).scalar_one())


def publishers() -> Lines:
    """Seconds and attempts of several that publish months into one table at once: on this disk, and in a bucket."""
    with tempfile.TemporaryDirectory() as root:
        for count in PUBLISHERS:
            yield publication("this disk", f"{root}/{count}", count)
    if find_spec("moto") is None or find_spec("s3fs") is None:
        yield "publishers of a table, bucket: left out, the extras `dev` and `s3` are not installed"
        return
    with bucket():
        for count in PUBLISHERS:
            yield publication("bucket", f"s3://bucket/{count}", count)


@contextmanager
def bucket() -> Iterator[None]:
    """A bucket of moto's, which the environment names; in memory, one request after the other."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true"}
    os.environ.update({**dict.fromkeys(ANYBODY, "anybody"), **REGION, **address})
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)
            # made by a process of its own: a client's threads do not survive a fork
            make = "import s3fs; s3fs.S3FileSystem().mkdir('bucket')"
            subprocess.run([sys.executable, "-c", make], check=True)
            yield
        finally:
            process.kill()


PUBLISH = """
import json, sys, time
from datetime import date
import polars as pl
from atft_assets.store import Store, swap
root, number, months = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tries, seconds, plain = 0, [], swap.write
def counted(*arguments):
    global tries
    tries += 1
    return plain(*arguments)
swap.write = counted
table = Store(root=root).table("raw", "daily_quotes")
names = [f"{2000 + number}-{month:02d}" for month in range(1, months + 1)]
staged = [table.stage(one, pl.DataFrame({"date": [date(2026, 1, 5)]}), code_version="t") for one in names]
print("ready", flush=True)
input()
for one in staged:
    began = time.perf_counter()
    table.publish([one])
    seconds.append(time.perf_counter() - began)
print(json.dumps([seconds, tries]), flush=True)
input()
print(len(table.keys()))
"""


def publication(where: str, root: str, count: int) -> str:
    """A line on so many publishers, processes of their own, each of months of its own, one after the other."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    told: list[list[str]] = []
    with ExitStack() as stack:
        publishers = []
        for number in range(count):
            command = [sys.executable, "-c", PUBLISH, root, str(number), str(MONTHS)]
            publishers.append(stack.enter_context(subprocess.Popen(command, **pipes)))  # type: ignore[call-overload]
        for step in ("ready", "published", "counted"):
            told.append([one.stdout.readline() for one in publishers])
            for one in publishers if step != "counted" else ():
                one.stdin.write("\n")
                one.stdin.flush()
    found = [json.loads(text) for text in told[1]]
    seconds = [one for some, _ in found for one in some]
    tries = sum(tried for _, tried in found) / len(seconds)  # of the manifest, once a publication
    more = f", {tries:.2f} attempts a publication" if where == "bucket" else ""
    return (
        f"publishers of a table, {where} {count:>3}: {1000 * median(seconds):6.0f} ms a publication, slowest "
        f"{1000 * max(seconds):.0f}{more}; {int(told[2][0])} of {len(seconds)} months are there"
    )


def queue() -> Lines:
    """Seconds to put runs into the queue and to look at it, by storage."""

    @dg.job
    def waiting() -> None: ...

    with ExitStack() as stack:
        running = None if missing() else stack.enter_context(server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, storage in storages(running).items():
            if name not in ("SQLite", OURS):
                continue
            with opened(folder / str(len(name)), storage) as instance:
                origin = job_origin("waiting", "127.0.0.1", 9)
                queued = dg.DagsterRunStatus.QUEUED
                began = time.perf_counter()
                for _ in range(QUEUED):
                    instance.create_run_for_job(waiting, status=queued, remote_job_origin=origin)
                put = time.perf_counter() - began
                began = time.perf_counter()
                seen = len(instance.get_run_records(dg.RunsFilter(statuses=[queued])))
                looked = time.perf_counter() - began
            each = 1000 * put / QUEUED
            yield f"queue, {name}: {each:.0f} ms to queue a run, {1000 * looked:.0f} ms to look at {seen}"


def fan_out() -> Lines:
    """The launcher's own seconds for many trainings that train nothing, ten at a time, with Dagster's events."""
    day = date(2020, 1, 6)
    train, validation, test = ((day + timedelta(30 * place), day + timedelta(30 * place + 20)) for place in range(3))
    fold = Fold("main", train, validation, test)
    began = time.perf_counter()
    for _ in range(5):
        subprocess.run([sys.executable, "-m", "atft_assets.benches.idle_trainer"], check=True)
    alone = (time.perf_counter() - began) / 5
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "home", storages(None)["SQLite"]) as instance:
        runs = Path(folder) / "runs" / "main" / "phase0"
        requests = [TrainRequest(Path("panel"), fold, 0, runs / f"r{seed}", seed=seed) for seed in range(TASKS)]

        @dg.asset
        def ordered(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            launcher = LocalLauncher(module="atft_assets.benches.idle_trainer", trainings=10, threads=1)
            began, own = time.perf_counter(), time.process_time()
            ends = launcher.fan_out(context, requests)
            spent.extend((time.perf_counter() - began, time.process_time() - own))
            assert ends == [None] * TASKS, [str(end) for end in ends if end][:1]
            return dg.MaterializeResult()

        silent = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        dg.materialize([ordered], instance=instance, run_config=silent)
    wall, own = spent
    yield (
        f"fan-out of {TASKS} idle trainings, 10 at a time: {wall:.1f} s; the driver itself "
        f"{1000 * own / TASKS:.0f} ms of processor a training, an idle trainer alone {1000 * alone:.0f} ms"
    )


LOADS = """
import json, time
began = time.process_time()
from atft_assets.definitions import defs
graph = defs.resolve_asset_graph()
seconds = time.process_time() - began
keys = [graph.get(key).partitions_def for key in graph.get_all_asset_keys()]
cells = [one.get_num_partitions() for one in keys if one is not None]
print(json.dumps([seconds, len(keys), max(cells), sum(cells)]))
"""


def partitions() -> Lines:
    """Seconds in which the code location loads, and its partitions, with the demo's months and with twenty years."""
    for what, first, last in (("the demo's", "2020-12-01", "2022-03-31"), ("20 years", "2006-01-01", "2025-12-31")):
        known = {name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "JQUANTS_"))}
        with tempfile.TemporaryDirectory() as data:
            known |= {"ATFT_START": first, "ATFT_END": last, "ATFT_DATA": data}
            known |= {
                "PYTHONWARNINGS": "ignore",
                "JQUANTS_BASE_URL": "http://127.0.0.1:9/v2",
                "JQUANTS_PLAN": "premium",
            }
            found = []
            for _ in range(3):
                found.append(json.loads(said([sys.executable, "-c", LOADS], known)))
        _, assets, months, cells = found[0]
        seconds = median(one[0] for one in found)
        what = f"code location, {what}: {seconds:.1f} s of processor to load"
        yield f"{what}; {assets} assets, {months} months, {cells} partitions"


PARTS: dict[str, Callable[[], Lines]] = {
    "writers": writers, "publishers": publishers, "queue": queue, "fan-out": fan_out, "partitions": partitions,
    "panels": panels,
}  # fmt: skip


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    print(f"{len(os.sched_getaffinity(0))} cores; load {os.getloadavg()[0]:.1f} at the beginning", flush=True)
    for name in given.parts or PARTS:
        began = time.perf_counter()
        for line in PARTS[name]():
            print(line, flush=True)
        print(f"  ({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
