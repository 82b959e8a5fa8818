"""The kill matrix: a process of the road is struck in a phase, and what it leaves is looked at.

A cell is `phase:target:signal`. The command of the phase is the real `dagster asset materialize`, over a market of our
own; after the blow it must end by itself within seconds, leave no process, no torn file, no run under way and nothing
that is published later (after a SIGKILL the reaper sees to that); the same command then completes, with the bytes of an
undisturbed run.

    python -m tests.attack.kill --list
    python -m tests.attack.kill ingest:worker:SIGINT
    python -m tests.attack.kill --all
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
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from unittest import mock

import dagster as dg
import psutil

from atft_assets.groups import MONTHLY
from atft_assets.sandbox import MarketConfig, SandboxServer, serve
from tests.attack.place import MARK

REPOSITORY = Path(__file__).parents[2]
KEY = "sandbox-key-of-the-kill-matrix"
BARS = "/equities/bars/daily"
CELL = "ATFT_ATTACK_CELL"  # in the environment of every process of a cell
DEADLINE = 10.0  # seconds that a struck process may take to end
PATIENCE = 900.0  # seconds that a command may take at all
REST = "labels,training_panel,folds,train_phase0,train_phase1,train_phase2,train_phase3,baselines,evaluation"


@dataclass(frozen=True)
class Phase:
    """A part of the road.

    Attributes:
        select: assets of its command.
        monthly: the command takes the range of all months.
        targets: processes that are struck.
        without: what a prepared data root loses before the command, so that the command has to make it.
        early: the command begins with an empty data root.
    """

    name: str
    select: str
    monthly: bool = False
    early: bool = False
    targets: tuple[str, ...] = ("worker",)
    without: tuple[str, ...] = ()


LATER_PHASES = tuple(f"runs/main/phase{phase}" for phase in (1, 2, 3))
PHASES = {
    phase.name: phase
    for phase in (
        Phase("ingest", MONTHLY, monthly=True, early=True),
        Phase("features", MONTHLY, monthly=True, early=True),
        Phase("publish", MONTHLY, monthly=True, early=True),
        Phase("panel", "training_panel", without=("panel", "runs")),
        Phase("epoch", "train_phase1", targets=("worker", "trainer"), without=LATER_PHASES),
        Phase("checkpoint", "train_phase1", targets=("worker", "trainer"), without=LATER_PHASES),
        Phase("evaluation", "evaluation"),
    )
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGKILL")
CELLS = tuple(f"{p.name}:{t}:{s}" for p in PHASES.values() for t in p.targets for s in SIGNALS)


@dataclass
class Findings:
    """What a blow left behind; `wrong` is empty when the cell was survived."""

    cell: str
    seconds: float = 0.0
    code: int | None = None
    reaped: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Matrix:
    """Runs cells over one market.

    Args:
        select: assets in place of those of the early phases, for a smaller command.
        config: run config of the trainings.
    """

    def __init__(self, sandbox: SandboxServer, root: Path, start: date, end: date, select: str = ""):
        self.sandbox, self.root, self.start, self.end, self.select = sandbox, root, start, end, select
        self._undisturbed: dict[str, dict[str, str]] = {}
        self.prepared: Path | None = None

    def command(self, phase: Phase) -> list[str]:
        """The command line of a phase."""
        select = self.select if phase.early and self.select else phase.select
        line = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "tests.attack.place", "--select", select]
        if phase.monthly:
            line += ["--partition-range", f"{self.start:%Y-%m}...{self.end:%Y-%m}"]
        if phase.name in ("epoch", "checkpoint") or "train_phase" in phase.select:
            names = [name for name in phase.select.split(",") if name.startswith("train_phase")]
            epochs = 1 if len(names) > 1 else 3  # a training that is struck has more to come
            config = {"ops": {name: {"config": {"curriculum": {"epochs": epochs}}} for name in names}}
            line += ["--config-json", json.dumps(config)]
        return line

    def environment(self, folder: Path, **more: str) -> dict[str, str]:
        """What a process over `folder/data` and `folder/home` is given; of our own environment nothing that matters."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JQUANTS_", "ATFT_", "DAGSTER_"))}
        return kept | more | {
            "JQUANTS_API_KEY": KEY, "JQUANTS_BASE_URL": self.sandbox.base_url, "JQUANTS_PLAN": "standard",
            "ATFT_START": str(self.start), "ATFT_END": str(self.end), "ATFT_DATA": str(folder / "data"),
            "DAGSTER_HOME": str(folder / "home"), "DAGSTER_DISABLE_TELEMETRY": "yes",
            "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    def start_command(self, phase: Phase, folder: Path, cell: str, log: Path, pauses: bool) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, over `folder/data` and `folder/home`."""
        environment = self.environment(folder, **{CELL: cell, "ATFT_ATTACK_PHASE": phase.name if pauses else ""})
        with log.open("wb") as out:
            return subprocess.Popen(
                self.command(phase), env=environment, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
            )  # fmt: skip

    def folder(self, phase: Phase, name: str) -> Path:
        """A data root and a Dagster home for one cell."""
        folder = self.root / name.replace(":", "-")
        (folder / "home").mkdir(parents=True)
        shutil.copy(REPOSITORY / "dagster.yaml", folder / "home")
        if phase.early:
            (folder / "data").mkdir()
        else:
            assert self.prepared is not None, f"{phase.name} needs the road that `prepare` walks"
            shutil.copytree(self.prepared, folder / "data")
            for part in phase.without:
                shutil.rmtree(folder / "data" / part, ignore_errors=True)
        return folder

    def prepare(self) -> None:
        """Walk the whole road once; later phases are struck on copies of it."""
        folder = self.folder(PHASES["ingest"], "prepared")
        for phase in (PHASES["ingest"], Phase("rest", REST)):
            self.finish(phase, folder, "prepared")
        self.prepared = folder / "data"

    def finish(self, phase: Phase, folder: Path, cell: str) -> None:
        """Run the command to its end.

        Raises:
            AssertionError: with its last words, if it fails.
        """
        log = folder / "log-to-the-end"
        process = self.start_command(phase, folder, cell, log, pauses=False)
        code = process.wait(PATIENCE)
        assert code == 0, f"the command failed:\n{log.read_text(errors='replace')[-3000:]}"

    def undisturbed(self, phase: Phase) -> dict[str, str]:
        """Hashes of what the command makes when nobody strikes it."""
        key = " ".join(self.command(phase))
        if key not in self._undisturbed:
            folder = self.folder(phase, f"undisturbed-{len(self._undisturbed)}")
            self.finish(phase, folder, "undisturbed")
            self._undisturbed[key] = contents(folder / "data")
            shutil.rmtree(folder)
        return self._undisturbed[key]

    def strike(self, cell: str) -> Findings:
        """Run one cell."""
        name, target, number = cell.split(":")
        phase, found, marker = PHASES[name], Findings(cell), uuid.uuid4().hex
        expected = self.undisturbed(phase)
        folder = self.folder(phase, cell)
        data, log = folder / "data", folder / "log"
        asked = self.asked()
        process = self.start_command(phase, folder, marker, log, pauses=True)
        try:
            reached = self.trigger(phase, data, log, asked)
            wait_for(lambda: reached() or process.poll() is not None, f"{cell} to begin, see {log}")
            assert process.poll() is None, f"the command ended before the blow: {log.read_text()[-1000:]}"
            victim = process.pid if target == "worker" else trainer_of(process.pid)
            os.kill(victim, getattr(signal, number))
            began = time.monotonic()
            try:
                found.code = process.wait(3 * DEADLINE)
            except subprocess.TimeoutExpired:
                found.wrong.append(f"still running {3 * DEADLINE:.0f} s after {number}")
                process.kill()
                process.wait()
            found.seconds = time.monotonic() - began
            if found.code == 0 and (target == "worker" or name == "epoch"):
                found.wrong.append("the command ended well in spite of the blow")
            before = contents(data)
            time.sleep(1.0)
            found.wrong += [f"left behind: {line}" for line in processes(marker)]
            if contents(data) != before:
                found.wrong.append("published after the end")
            found.wrong += [f"torn: {path}" for path in torn(data)]
            if victim == process.pid and number == "SIGKILL":
                self.reap(folder, found)
            found.wrong += self.not_ended(folder)
            self.finish(phase, folder, marker)
            made = contents(data)
            found.wrong += [f"differs: {path}" for path in sorted(expected) if made.get(path) != expected[path]]
            found.wrong += [f"run.json still says running: {path}" for path in running(data)]
        except AssertionError as error:
            found.wrong.append(str(error))
        finally:
            for pid in [process.pid, *(pid for pid, _ in marked(marker))]:
                with_no_error(lambda pid=pid: os.kill(pid, signal.SIGKILL))
            process.wait()
        if not found.wrong:
            shutil.rmtree(folder)
        return found

    def reap(self, folder: Path, found: Findings) -> None:
        """What the next start does first, for what had no chance to end itself."""
        done = subprocess.run(
            [sys.executable, "-m", "atft_assets.tools.reaper"], env=self.environment(folder), cwd=REPOSITORY,
            text=True, capture_output=True, check=False,
        )  # fmt: skip
        found.reaped = done.stdout.splitlines()
        if done.returncode:
            found.wrong.append(f"the reaper failed: {done.stderr[-500:]}")

    def not_ended(self, folder: Path) -> list[str]:
        """Staged files that lie about, and runs that Dagster believes to be under way."""
        left = [f"staged and left: {path}" for path in (folder / "data").rglob("*.staged")]
        home = str(folder / "home")  # its dagster.yaml names the variable
        with mock.patch.dict(os.environ, DAGSTER_HOME=home), dg.DagsterInstance.from_config(home) as instance:
            runs = [run for run in instance.get_runs() if not run.is_finished]
        return left + [f"run {run.run_id} is {run.status.value}" for run in runs]

    def asked(self) -> int:
        """Bars that the sandbox was asked for so far."""
        return sum(count for (path, _), count in self.sandbox.requests.items() if path == BARS)

    def trigger(self, phase: Phase, data: Path, log: Path, asked: int) -> Callable[[], bool]:
        """What shows that the process is in the phase."""
        run = data / "runs" / "main" / "phase1"
        return {
            "ingest": lambda: self.asked() >= asked + 10,
            "epoch": lambda: any(run.glob("*/state.safetensors")) or "epoch 1" in log.read_text(errors="replace"),
            "checkpoint": lambda: any(run.glob("*/.checkpoint.safetensors*")) or any(run.glob("*/checkpoint*")),
        }.get(phase.name, (data / MARK).exists)


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain for {what}"
        time.sleep(0.002)


def contents(data: Path) -> dict[str, str]:
    """Hash of every published table file, panel and finished run. Manifests and records hold instants, and are not."""
    parts = ("raw/*/*.parquet", "features/*/*.parquet", "graph/*/*.parquet", "panel/*/panel.safetensors")
    files = [path for part in parts for path in data.glob(part) if not path.name.startswith(".")]
    found = {str(path.relative_to(data)): sha256(path.read_bytes()).hexdigest() for path in files}
    for pointer in data.glob("runs/main/*/latest"):
        run = pointer.parent / pointer.read_text().strip()
        for name in ("checkpoint.safetensors", "scores.parquet"):
            if (run / name).exists():
                found[f"{pointer.parent.name}/{name}"] = sha256((run / name).read_bytes()).hexdigest()
    return found


def torn(data: Path) -> list[str]:
    """Published files that their manifest does not vouch for, and records that cannot be read."""
    found = []
    for path in data.glob("*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        entries, pending = manifest["entries"], manifest["pending"]
        for key in entries | pending:
            vouched = {one[key]["sha256"] for one in (entries, pending) if key in one}
            file = path.with_name(f"{key}.parquet")
            if not file.exists():
                found += [str(file)] if key in entries else []
            elif sha256(file.read_bytes()).hexdigest() not in vouched:
                found.append(str(file))
    for path in data.glob("runs/*/*/*/run.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            found.append(str(path))
    return found


def running(data: Path) -> list[str]:
    """Records of runs that say running; no process of the cell is alive any more."""
    return [str(p) for p in data.glob("runs/*/*/*/run.json") if json.loads(p.read_text())["status"] == "running"]


def marked(marker: str) -> Iterator[tuple[int, str]]:
    """Living processes whose environment holds the marker of a cell."""
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(CELL) == marker:
                yield process.pid, " ".join(process.cmdline())[:120]
        except psutil.Error:
            continue


def processes(marker: str) -> list[str]:
    return [f"{pid} {line}" for pid, line in marked(marker)]


def trainer_of(worker: int) -> int:
    """The training process of a worker."""
    children = psutil.Process(worker).children(recursive=True)
    found = [child.pid for child in children if "atft_model" in " ".join(child.cmdline())]
    assert found, "no trainer at the time of the blow"
    return found[0]


def with_no_error(action: Callable[[], None]) -> None:
    try:
        action()
    except ProcessLookupError:
        return


@contextmanager
def matrix(root: Path, start: date, end: date, names: int, select: str = "") -> Iterator[Matrix]:
    """A matrix over a simulated market whose bars come slowly enough to be struck."""
    pages = max(20, int(0.6 * names))
    with serve(MarketConfig(n_names=names, start=start, end=end, seed=5), page_rows=pages, api_key=KEY) as sandbox:
        sandbox.faults.add("slow", path=BARS, seconds=0.05)
        yield Matrix(sandbox, root, start, end, select)


def main(arguments: list[str] | None = None) -> int:
    """Strike the cells that are named; 1 if one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack.kill", description=__doc__)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="phase:target:signal")
    parser.add_argument("--all", action="store_true", help="every cell: most of an hour")
    parser.add_argument("--list", action="store_true", help="print the cells and stop")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(CELLS))
        return 0
    cells = CELLS if given.all else tuple(given.cells)
    if unknown := sorted(set(cells) - set(CELLS)):
        parser.error(f"no such cell: {', '.join(unknown)}; --list shows them")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lost = 0
    root = Path(tempfile.mkdtemp(prefix="atft-kill-"))
    with matrix(root, date(2022, 1, 4), date(2023, 12, 29), names=200) as lab:
        if any(not PHASES[cell.split(":")[0]].early for cell in cells):
            print("walking the road once, for the later phases ...", flush=True)
            lab.prepare()
        for cell in cells:
            found = lab.strike(cell)
            lost += bool(found.wrong)
            verdict = "survived" if not found.wrong else "; ".join(found.wrong)
            print(f"{cell:28} ended after {found.seconds:5.1f} s, exit {found.code}, reaper {len(found.reaped)} "
                  f"line(s): {verdict}", flush=True)  # fmt: skip
    if lost:
        print(f"{lost} of {len(cells)} cells were not survived; their folders are in {root}")
    else:
        shutil.rmtree(root)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
