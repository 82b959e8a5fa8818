"""A walk-forward of the real trainer by one process of Dagster: `python -m tests.deploy.ray_chain FILE`.

Every phase of all folds and seeds, the scores of their test blocks, and the judgement, as assets of the shipped rooms
on a data root that holds a panel. `tests.deploy.ray_walk_forward` starts it again and again, here and on two hosts.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets import training
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.folds import FoldRow
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.ray_launcher import RayLauncher
from atft_model.interchange.fold import MAIN
from atft_model.interchange.panel import latest_panel
from atft_model.interchange.phases import PHASES

VALIDATION_DAYS = 25
TESTED = 0.4  # of the panel's days
BASELINES = {"trees": 10, "settings": 1, "threads": 1}


@dataclass(frozen=True)
class Chain:
    """What is done.

    Attributes:
        root: data root; `home` is Dagster's.
        folds, seeds: how many.
        phases: of the curriculum, by index; the scores and the judgement follow behind the last one.
        epochs: of each phase.
        at_a_time: trainings on this machine; with an address, on the Ray cluster there.
        resume: run with which the first of the phases goes on.
        prepare: cut the folds and fit the baselines instead.
    """

    root: str
    home: str
    said: str
    folds: int = 4
    seeds: int = 3
    phases: list[int] = field(default_factory=lambda: [phase.index for phase in PHASES])
    epochs: int = 1
    at_a_time: int = 1
    url: str = ""
    token_path: str = ""
    resume: str = ""
    prepare: bool = False

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @property
    def names(self) -> list[str]:
        return [f"block{number}" for number in range(1, self.folds + 1)]


def rows_of(days: Sequence[date], names: Sequence[str]) -> tuple[FoldRow, ...]:
    """`main`, and test blocks end to end over the last days of a panel."""
    length = int(len(days) * TESTED) // len(names)
    starts = [len(days) - length * (len(names) - place) for place in range(len(names))]
    return (
        FoldRow(MAIN),
        *(
            FoldRow(name, test_start=days[start], end=days[start + length - 1], validation_days=VALIDATION_DAYS)
            for name, start in zip(names, starts, strict=True)
        ),
    )


def launcher_of(chain: Chain) -> LocalLauncher | RayLauncher:
    """One thread a training everywhere: another number of threads gives other bits."""
    if chain.url:
        return RayLauncher(
            url=chain.url, token_path=chain.token_path, python=sys.executable, cpus=1, silence_seconds=300.0
        )
    return LocalLauncher(threads=1, trainings=chain.at_a_time)


class Walker:
    """Materializes assets of the chain and notes how long they take."""

    def __init__(self, chain: Chain, instance: dg.DagsterInstance):
        self.chain, self.instance, self.seconds = chain, instance, dict[str, float]()
        store = Store(root=chain.root)
        exported = {name: value for name, value in os.environ.items() if name in ("ATFT_START", "ATFT_END")}
        settings = Settings.from_env({**exported, "ATFT_DATA": chain.root, "ATFT_TRAININGS": "2"})
        made = training.definitions(settings, rows_of(latest_panel(store.local("panel")).dates, chain.names))
        self.assets = [*(made.assets or []), dg.AssetSpec("training_panel")]
        self.resources = {"store": store, "launcher": launcher_of(chain)}

    def run(self, what: str, *names: str, fold: str | None = None, together: bool = False, **config: Any) -> None:
        """Materialize some assets, of a fold, of all of them in one run, or of none."""
        first, last = self.chain.names[0], self.chain.names[-1]
        began = time.monotonic()
        done = dg.materialize(
            self.assets,
            selection=list(names),
            resources=self.resources,
            run_config={"ops": {name: {"config": given} for name, given in config.items()}},
            partition_key=fold,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
            if together
            else None,
            instance=self.instance,
        )
        assert done.success
        self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - began

    def prepare(self) -> None:
        self.run("folds", "folds")
        for fold in self.chain.names:
            self.run("baselines", "fold_baselines", fold=fold, fold_baselines=BASELINES)

    def walk(self) -> None:
        phases = [PHASES[index] for index in self.chain.phases]
        names = [f"fold_{phase.key}" for phase in phases]
        config: dict[str, dict[str, Any]] = {name: {"curriculum": {"epochs": self.chain.epochs}} for name in names}
        seeds = list(range(self.chain.seeds))
        if phases[0].index == 0:
            config[names[0]] |= {"preset": "demo"}
        config[names[0]] |= {"seeds": seeds}
        if self.chain.resume:
            config[names[0]] |= {"resume_run": self.chain.resume}
        self.run("phases", *names, together=True, **config)
        for fold in self.chain.names:
            self.run("scores", "fold_scores", fold=fold)
        self.run("judged", "walk_forward", walk_forward={"open_final": True})


def main() -> None:
    """Carry out the chain of a file; how long its parts took goes to another one."""
    chain = Chain(**json.loads(Path(sys.argv[1]).read_text()))
    Path(chain.home).mkdir(parents=True, exist_ok=True)
    Path(chain.home, "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(chain.home) as instance:
        walker = Walker(chain, instance)
        if chain.prepare:
            walker.prepare()
        else:
            walker.walk()
        Path(chain.said).write_text(json.dumps(walker.seconds))


if __name__ == "__main__":
    main()
