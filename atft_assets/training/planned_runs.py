"""Which runs a phase is to train: a seed each, from which parent, and into which directory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atft_assets.training.lanes import Lane
from atft_assets.training.phase_config import PhaseConfig
from atft_assets.training.preflight import NotReady, Ready
from atft_assets.training.runs import Run, is_finished, new_run_id
from atft_model.interchange.attempts import newest_state
from atft_model.interchange.phases import Phase, ancestors


@dataclass(frozen=True)
class PlannedRun:
    """One run of a phase.

    Attributes:
        parent: whose weights it starts from; None: random ones.
        out: its directory; one that is there is gone on with.
        done: it has ended well already, and only waits for the others.
    """

    seed: int
    parent: Run | None
    out: Path
    done: bool = False


def planned(
    config: PhaseConfig, phase: Phase, lane: Lane, ready: Ready, folder: Path, dagster_run_id: str,
    *, together: bool = False,
) -> list[PlannedRun]:  # fmt: skip
    """The runs of a phase, in the order in which they are trained.

    Args:
        folder: `runs/<fold>/<phase>`.
        together: this fold is one of several of the Dagster run; what is to go on may be in another one's folder.

    Raises:
        NotReady: seeds that have no parent, or a run that is to go on and is not there, or finished.
    """
    seeds = _seeds(config, ready)
    parents = {seed: _parent(seed, seeds, phase, lane, ready) for seed in seeds}
    if config.resume_run is not None:
        if not together:
            _refuse_to_resume(folder / config.resume_run)
        return list(_resumed(config.resume_run, seeds, parents, folder, dagster_run_id))
    several = len(seeds) > 1
    return [
        PlannedRun(seed, parents[seed], folder / new_run_id(dagster_run_id, seed if several else None))
        for seed in seeds
    ]


def _seeds(config: PhaseConfig, ready: Ready) -> list[int]:
    if not config.seeds:
        inherited = ready.parents is not None and len(ready.parents.runs) > 1 and config.seed == 0
        return list(ready.parents.seeds) if ready.parents and inherited else [config.seed]
    if config.seed:
        raise NotReady(f"both seed ({config.seed}) and seeds ({config.seeds}) are given: leave out one of them")
    if len(set(config.seeds)) < len(config.seeds):
        raise NotReady(f"a seed stands twice in seeds ({config.seeds}): its two runs would be one")
    return list(config.seeds)


def _parent(seed: int, seeds: list[int], phase: Phase, lane: Lane, ready: Ready) -> Run | None:
    """The run of the phase before that a seed starts from: its own seed's, unless there is one of each."""
    if ready.parents is None:
        return None
    if len(seeds) == len(ready.parents.runs) == 1:
        return ready.parent
    if (own := ready.parents.of_seed(seed)) is None:
        before = lane.phase(ancestors(phase)[-1])
        known = ", ".join(map(str, ready.parents.seeds))
        raise NotReady(
            f"seed {seed} starts from the run of its own seed, and {before} was trained with {known}: give seeds there "
            f"first; run: {lane.command([before], ready.fold.name)} --config FILE"
        )
    return own


def _refuse_to_resume(out: Path) -> None:
    if not out.is_dir():
        raise NotReady(f"there is no run {out.name} to resume under {out.parent}")
    if is_finished(out):
        raise NotReady(f"the run {out.name} is finished, there is nothing to resume")


def _resumed(
    run_id: str, seeds: list[int], parents: dict[int, Run | None], folder: Path, dagster_run_id: str
) -> Iterator[PlannedRun]:
    """The runs of an interrupted training: what had ended stays, what has a state goes on, the others begin.

    The end of the run's name is that of its Dagster run, and with it of all that was begun together.
    """
    several = len(seeds) > 1
    for seed in seeds:
        begun = _begun(folder, run_id, seed if several else None)
        if begun and is_finished(begun[-1]):
            yield PlannedRun(seed, parents[seed], begun[-1], done=True)
        elif begun and (begun[-1].name == run_id or newest_state(begun[-1]) is not None):
            yield PlannedRun(seed, parents[seed], begun[-1])
        else:
            yield PlannedRun(seed, parents[seed], folder / new_run_id(dagster_run_id, seed if several else None))


def _begun(folder: Path, run_id: str, seed: int | None) -> list[Path]:
    """Run directories that the same Dagster run began, of a seed where it is one of several, the newest last."""
    if seed is None and (folder / run_id).is_dir():
        return [folder / run_id]
    which = "*" if seed is None else f"*-s{seed}"
    return sorted(path for path in folder.glob(f"{which}-{run_id.rpartition('-')[2]}") if path.is_dir())
