"""The walk-forward of the real trainer on two hosts, beside one: `python -m tests.deploy.ray_walk_forward`.

The hosts are network namespaces of this machine (`deploy/ray/netns.sh`, as root), with a CPU each. Each way carries out
the whole chain on a copy of one data root: four phases of every fold and seed, the scores of their test blocks, the
judgement. Then what must hold is counted: bits, publications, attempts, processes that are left. The column `ratio` is
phases and scores against one host, one at a time. The first run builds the panel, in minutes; `--folder` keeps it.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import dagster as dg
import psutil

from atft_assets.groups import MONTHLY
from atft_assets.training.ray_jobs import JobsApi
from atft_assets.training.seeds import latest_ensemble
from atft_model.interchange.attempts import attempts
from atft_model.interchange.run import RUN_JSON, STATE
from tests.deploy.ray_chain import Chain
from tests.patience import PATIENCE
from tests.training.ordering import bits
from tests.training.ray_hosts import REPOSITORY, URL, Hosts, network_of, two_hosts, why_not

SPAN = {"ATFT_START": "2022-01-04", "ATFT_END": "2023-12-29"}
LINKED = 1_000_000  # bytes: from there on a file is shared by the copies; tables and panels, which no training writes
ALONE, TWO, RAY, KILLED, CUT, CANCELLED = WAYS = (
    "one host, one at a time", "one host, two at a time", "two hosts",
    "two hosts, one killed", "two hosts, one cut off", "two hosts, cancelled and resumed",
)  # fmt: skip
Bits = dict[str, tuple[str, str]]


@dataclass
class Found:
    """What a way left behind.

    Attributes:
        seconds: phases, scores, judged; empty where it came to no end.
        bits: of each run's checkpoint and scores, by fold, phase and seed.
        published: materializations of a phase's fold, and how many there should be.
        orphans: processes of it that live on.
        left: attempts that nobody published or removed.
        struck: the training that was hit, and where it was.
    """

    seconds: dict[str, float]
    bits: Bits
    published: tuple[int, int]
    orphans: int
    left: int
    struck: str = ""


class Bench:
    """The ways, on copies of one data root.

    Args:
        folder: with what `prepared` made.
    """

    def __init__(self, folder: Path, chain: Chain, hosts: Hosts | None):
        self.folder, self.chain, self.hosts = folder, chain, hosts
        self.struck = chain.phases[len(chain.phases) > 1]  # the phase in whose middle something happens

    def go(self, way: str) -> Found:
        """Carry out one way from its beginning."""
        place = self.folder / f"way{WAYS.index(way)}"
        shutil.rmtree(place, ignore_errors=True)
        copied(self.folder / "base" / "data", place / "data")
        remote = {"url": URL, "token_path": self.hosts.token_path} if self.hosts and way not in (ALONE, TWO) else {}
        chain = replace(
            self.chain, root=str(place / "data"), home=str(place / "home"), said=str(place / "said.json"),
            at_a_time=2 if way == TWO else 1, **remote,
        )  # fmt: skip
        struck = ""
        with self.started(chain, place) as process:
            if way in (KILLED, CUT, CANCELLED):
                struck = self.strike(way, chain, process)
            process.wait()
        if way == CANCELLED:
            resumed = self.after_the_cancel(chain)
            with self.started(resumed, place) as process:
                process.wait()
        found = self.found(chain, struck)
        if self.hosts and way in (KILLED, CUT):  # a fresh one for the next way
            self.hosts.do("join", "b")
            self.hosts.do("kill", "b")
            self.hosts.do("boot", "b")
        return found

    @contextmanager
    def started(self, chain: Chain, place: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A process of Dagster that carries out a chain, in the network of host a where the trainings go there."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.deploy.ray_chain", str(chain.write(place / "chain"))]
        environ = {**os.environ, **SPAN, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        with (place / "log").open("ab") as log, ExitStack() as stack:
            if self.hosts and chain.url:
                stack.enter_context(network_of(self.hosts, "a"))
            process = subprocess.Popen(command, env=environ, cwd=REPOSITORY, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def strike(self, way: str, chain: Chain, process: subprocess.Popen[bytes]) -> str:
        """Do to host b, or to the process of Dagster, what the way is about; says what it hit."""
        assert self.hosts is not None
        hit = awaited(lambda: self.under_way(chain), process, "a training of the phase on host b")
        if way == KILLED:
            self.hosts.do("kill", "b")
        elif way == CUT:
            self.hosts.do("cut", "b")
        else:
            process.send_signal(signal.SIGINT)
        return hit

    def under_way(self, chain: Chain) -> str:
        """A training of the struck phase that has begun on host b; one that only starts would have nothing to save."""
        assert self.hosts is not None
        for pid in self.hosts.processes("b", f"/phase{self.struck}/"):
            words = psutil.Process(pid).cmdline()
            request = next((Path(word) for word in words if word.startswith(chain.root)), None)
            if request is not None and "train" in words and (request.parent / RUN_JSON).exists():
                return f"{request.parts[-6]}/{request.parts[-4]}"
        return ""

    def after_the_cancel(self, chain: Chain) -> Chain:
        """What goes on where it was cancelled; nothing of the struck phase may be published, and nobody live."""
        until(lambda: not self.orphans(chain), "the end of all trainers")
        asset = f"fold_phase{self.struck}"
        with dg.DagsterInstance.from_config(chain.home) as instance:
            assert not instance.get_materialized_partitions(dg.AssetKey(asset)), f"{asset} is published"
        assert self.hosts is not None
        with network_of(self.hosts, "a"):
            assert all(job.over for job in JobsApi(URL, self.hosts.token_path).jobs()), "a job goes on"
        begun = sorted(Path(chain.root).glob(f"runs/*/phase{self.struck}/*-s*"))
        with_state = [run for run in begun if (run / STATE).exists()] or begun
        return replace(chain, phases=[p for p in chain.phases if p >= self.struck], resume=with_state[0].name)

    def orphans(self, chain: Chain) -> list[int]:
        """Processes that work on the copy."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if any(chain.root in word for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        return found

    def found(self, chain: Chain, struck: str) -> Found:
        """Count what there is at the end."""
        runs, made, wanted = Path(chain.root) / "runs", dict[str, tuple[str, str]](), 0
        published = 0
        with dg.DagsterInstance.from_config(chain.home) as instance:
            for index in self.chain.phases:
                events = instance.fetch_materializations(dg.AssetKey(f"fold_phase{index}"), limit=1000).records
                published += len(events)
                wanted += len(chain.names)
                for fold in chain.names:
                    ensemble = latest_ensemble(runs / fold / f"phase{index}")
                    for run in ensemble.runs if ensemble else ():
                        made[f"{fold}/phase{index}/{run.record.seed}"] = bits(run.folder)
        if struck:  # what was cut off lives until it finds its directory gone
            end = time.monotonic() + PATIENCE
            while self.orphans(chain) and time.monotonic() < end:
                time.sleep(1)
        left = sum(len(attempts(run)) for run in runs.glob("block*/phase*/*") if run.is_dir())
        said = Path(chain.said)
        seconds = json.loads(said.read_text()) if said.exists() else {}
        return Found(seconds, made, (published, wanted), len(self.orphans(chain)), left, struck)


def awaited(condition: Callable[[], str], process: subprocess.Popen[bytes], what: str) -> str:
    """Wait for what must come while a process lives."""
    while not (found := condition()):
        if process.poll() is not None:
            raise SystemExit(f"{what} did not come: the chain ended with {process.returncode}")
        time.sleep(0.3)
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come")
        time.sleep(0.5)


def copied(source: Path, target: Path) -> None:
    """A copy of a data root; what is large is shared by both."""

    def copy(one: str, other: str) -> object:
        return os.link(one, other) if Path(one).stat().st_size > LINKED else shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=copy, ignore=shutil.ignore_patterns(".*", "raw"))


def prepared(folder: Path, chain: Chain) -> None:
    """The data root that all ways begin with: the sandbox's panel of two years, its folds and baselines."""
    base = folder / "base"
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("ATFT_", "JQUANTS_", "DAGSTER_"))
    }
    environ |= {**SPAN, "ATFT_DATA": str(folder / "built"), "PYTHONPATH": str(REPOSITORY)}
    if not (folder / "built" / "panel" / "latest").exists():
        steps = [
            "--select trading_calendar",
            f"--select '{MONTHLY}' --partition-range {SPAN['ATFT_START'][:7]}...{SPAN['ATFT_END'][:7]}",
            "--select labels,training_panel",
        ]
        line = " && ".join([". ./env.sh", *(f"dagster asset materialize {step}" for step in steps)])
        with (folder / "built.log").open("w") as log:
            subprocess.run(["bash", "-c", line], cwd=REPOSITORY, env=environ, stdout=log, stderr=log, check=True)
    shutil.rmtree(base, ignore_errors=True)
    copied(folder / "built", base / "data")
    told = replace(chain, root=str(base / "data"), home=str(base / "home"), said=str(base / "said"), prepare=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.deploy.ray_chain", str(told.write(base / "chain"))]
    with (folder / "base.log").open("w") as log:
        subprocess.run(command, cwd=REPOSITORY, env={**environ}, stdout=log, stderr=log, check=True)


def remembered(path: Path) -> Found | None:
    """What one training at a time was before, in the same folder; None if it was not gone."""
    if not path.exists():
        return None
    told = json.loads(path.read_text())
    return Found(**{**told, "bits": {name: tuple(pair) for name, pair in told["bits"].items()}})


def trained(found: Found) -> float:
    """Seconds of what a launcher does: trainings and scores. The judgement takes the same everywhere."""
    return found.seconds.get("phases", 0.0) + found.seconds.get("scores", 0.0)


def line_of(way: str, found: Found, alone: Found | None) -> str:
    """One row of the table."""
    total, mine = sum(found.seconds.values()), trained(found)
    ratio = f"{mine / trained(alone):6.2f}" if alone and mine else "     -"
    parts = " ".join(f"{found.seconds.get(part, 0.0):8.1f}" for part in ("phases", "scores", "judged"))
    same = "-"
    if alone:
        same = f"{sum(alone.bits.get(name) == value for name, value in found.bits.items())} of {len(alone.bits)}"
    done, wanted = found.published
    return (
        f"{way:33} {total:8.1f} {ratio} {parts} {same:>10} {f'{done} of {wanted}':>10} {found.orphans:>7} "
        f"{found.left:>8}  {found.struck}"
    )


HEAD = (
    f"{'way':33} {'wall s':>8} {'ratio':>6} {'phases s':>8} {'scores s':>8} {'judged s':>8} {'same bits':>10} "
    f"{'published':>10} {'orphans':>7} {'attempts':>8}  struck"
)


def faults(found: Found, alone: Found | None) -> list[str]:
    """What does not hold."""
    wrong = [] if found.seconds else ["it came to no end"]
    wrong += ["other bits"] if alone and found.bits != alone.bits else []
    wrong += [] if found.published[0] == found.published[1] else ["not one publication a run"]
    return wrong + (["processes are left"] if found.orphans else []) + (["attempts are left"] if found.left else [])


def main() -> int:
    """Go each way; 1 if something does not hold."""
    options = argparse.ArgumentParser(prog="python -m tests.deploy.ray_walk_forward", description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps the panel for the next time; else a temporary one")
    options.add_argument("--folds", type=int, default=4)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--phases", type=int, default=4, help="of the curriculum, from the first one (%(default)s)")
    options.add_argument("--epochs", type=int, default=1, help="of each phase (%(default)s)")
    options.add_argument("--ways", default="012345", help=f"which: {', '.join(f'{i} {w}' for i, w in enumerate(WAYS))}")
    given = options.parse_args()
    ways = [WAYS[int(number)] for number in given.ways]
    if (why := why_not()) and any(way not in (ALONE, TWO) for way in ways):
        print(f"not possible here: {why}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    with ExitStack() as stack:
        folder = given.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="atft-walk-", dir="/var/tmp"))
        )
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        chain = Chain("", "", "", given.folds, given.seeds, list(range(given.phases)), given.epochs)
        kept = folder / "base" / f"for-{given.folds}-folds"
        if not kept.exists():
            prepared(folder, chain)
            kept.touch()
        hosts = None
        if any(way not in (ALONE, TWO) for way in ways):
            programs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atft-walk-bin-", dir="/var/tmp")))
            hosts = stack.enter_context(two_hosts(programs / "programs", [folder], {}))
        bench = Bench(folder, chain, hosts)
        print(
            f"{given.folds} folds x {given.seeds} seeds x {given.phases} phases of {given.epochs} epoch(s)\n{HEAD}",
            flush=True,
        )
        measured = folder / f"alone-{given.folds}-{given.seeds}-{given.phases}-{given.epochs}.json"
        alone, wrong = remembered(measured), []
        for way in ways:
            found = bench.go(way)
            print(line_of(way, found, found if way == ALONE else alone), flush=True)
            wrong += [f"{way}: {fault}" for fault in faults(found, None if way == ALONE else alone)]
            if way == ALONE:
                alone = found
                measured.write_text(json.dumps(asdict(found)))
        for fault in wrong:
            print(fault, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
