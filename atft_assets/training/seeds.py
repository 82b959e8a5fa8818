"""Several seeds of one phase: a run each, published, judged and used together.

The runs of one training lie side by side in `runs/<fold>/<phase>/`. `latest` names the last of them, as ever; the file
`<run_id>.members` beside it, named after that run and written before `latest` moves, lists all of them. So one rename
publishes them together, and a reader that knows of one run alone still finds a whole one.

Their scores are ranks of different networks, on scales of their own: each day's are made gaussian ranks before the mean
is taken, so that no seed counts for more because its scores are wider.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import polars as pl

from atft_assets.scoring.ranking import gaussian_ranks
from atft_assets.training.runs import Run, latest_run, open_run, point_latest_run
from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.records import POINTED, read_text, write_text

MEMBERS = ".members"
KEYS = ("date", "code")


@dataclass(frozen=True)
class Ensemble:
    """The published runs of one phase on one fold, a seed each; `latest` names the last."""

    runs: tuple[Run, ...]

    @property
    def newest(self) -> Run:
        return self.runs[-1]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.record.seed for run in self.runs)

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(run.run_id for run in self.runs)

    @property
    def version(self) -> str:
        """Hash of the checkpoints."""
        hashes = [str(run.record.checkpoint_sha256) for run in self.runs]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    def of_seed(self, seed: int) -> Run | None:
        """The run of a seed."""
        return next((run for run in self.runs if run.record.seed == seed), None)

    def scores(self) -> pl.DataFrame:
        """Validation scores: date, code, score_<h>d.

        Raises:
            RunError: they are gone, or not those of the records.
        """
        return averaged([run.scores() for run in self.runs])


def averaged(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The mean of the seeds' scores of the same rows, each made gaussian ranks within its day; of one seed, its own.

    Args:
        frames: date, code, score_<h>d; of one panel, days and names.

    Returns:
        The same columns, float32, sorted by date and code; only rows that every seed has scored.
    """
    if len(frames) == 1:
        return frames[0]
    columns = [name for name in frames[0].columns if name not in KEYS]
    numbered = [_ranked(frame.sort(KEYS), columns, suffix=f"/{i}") for i, frame in enumerate(frames)]
    joined = reduce(lambda left, right: left.join(right, on=KEYS, how="inner", validate="1:1"), numbered)
    seeds = range(len(frames))
    means = [pl.mean_horizontal(f"{name}/{i}" for i in seeds).cast(pl.Float32).alias(name) for name in columns]
    return joined.select(*KEYS, *means).sort(KEYS)


def latest_ensemble(folder: Path) -> Ensemble | None:
    """The runs that `latest` in `runs/<fold>/<phase>` stands for; None when nothing was trained yet.

    Raises:
        RunError: the pointer or the list beside it is damaged, or names a run that is not whole.
    """
    newest = latest_run(folder)
    if newest is None:
        return None
    others = [folder / run_id for run_id in members(newest.folder) if run_id != newest.run_id]
    for other in others:
        if not other.is_dir():
            raise RunError(damaged(members_file(newest.folder), f"it names {other.name}, which is no run"))
    return Ensemble((*map(open_run, others), newest))


def publish(ensemble: Ensemble) -> None:
    """Let `latest` stand for these runs."""
    newest = ensemble.newest.folder
    if len(ensemble.runs) > 1:
        write_text(members_file(newest), "\n".join(ensemble.run_ids) + "\n")
    else:
        members_file(newest).unlink(missing_ok=True)
    point_latest_run(newest)


def members(run: Path) -> tuple[str, ...]:
    """Ids of the runs that are published with a run, its own the last; its own alone where there is no list.

    Raises:
        RunError: the list is damaged.
    """
    path = members_file(run)
    text = read_text(path, RunError)
    if text is None:
        return (run.name,)
    names = text.split()
    if not names or names[-1] != run.name or not all(POINTED.fullmatch(name) for name in names):
        raise RunError(damaged(path, f"it should list runs, {run.name} the last"))
    return tuple(names)


def members_file(run: Path) -> Path:
    """The list of the runs that are published with a run; there is none if it is the only one."""
    return run.with_name(run.name + MEMBERS)


def _ranked(frame: pl.DataFrame, columns: Sequence[str], suffix: str) -> pl.DataFrame:
    """Gaussian ranks within each day of a frame that is sorted by day; the columns with a suffix."""
    values = frame.select(columns).to_numpy().astype(np.float32)  # [rows, H]
    _, starts = np.unique(frame["date"].to_numpy(), return_index=True)
    days = np.split(values, starts[1:])
    ranks = np.concatenate([gaussian_ranks(day) for day in days])
    ranked = [pl.Series(name + suffix, ranks[:, i]) for i, name in enumerate(columns)]
    return frame.select(KEYS).with_columns(ranked)
