"""Attempts at a training: one writer a directory, one publication, whatever is killed in between."""

import multiprocessing
import os
from pathlib import Path

import pytest

from atft_model.interchange.attempts import attempts, begin, newest_state, publish, settle
from atft_model.interchange.errors import RunError
from atft_model.interchange.run import CHECKPOINT, LOG, REQUEST, STATE, held


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "main" / "phase0" / "the-run"
    folder.mkdir(parents=True)
    (folder / REQUEST).write_text("as it was asked")
    return folder


def _begin(path: str) -> str:
    return str(begin(Path(path)))


def test_no_two_attempts_write_one_path(out: Path) -> None:
    """Sixteen processes at once, as hosts of a cluster would."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.map(_begin, [str(out)] * 16, chunksize=1)
    assert len(set(made)) == 16 and set(made) == {str(path) for path in attempts(out)}
    assert all(Path(path).name == out.name for path in made)


def test_an_attempt_goes_on_from_the_newest_state_of_any(out: Path) -> None:
    assert newest_state(out) is None
    first, second = begin(out), begin(out)
    for folder, epoch, seconds in ((first, "epoch 3", 2_000), (second, "epoch 2", 1_000)):
        (folder / STATE).write_text(epoch)
        (folder / LOG).write_text(f"log of {epoch}")
        os.utime(folder / STATE, (seconds, seconds))
    third = begin(out)
    assert [path.parent.name for path in attempts(out)] == ["attempt-1", "attempt-2", "attempt-3"]
    assert (third / STATE).read_text() == "epoch 3" and (third / LOG).read_text() == "log of epoch 3"
    (third / STATE).write_text("epoch 4")
    assert (first / STATE).read_text() == "epoch 3"  # a copy, not the same file


def test_one_publication_whatever_still_writes(out: Path) -> None:
    isolated, winner = begin(out), begin(out)
    (winner / CHECKPOINT).write_text("weights")
    (winner / REQUEST).write_text("of the attempt")
    (winner / f".{CHECKPOINT}.1.tmp").write_text("half")
    assert publish(out, winner)
    assert (out / CHECKPOINT).read_text() == "weights" and (out / REQUEST).read_text() == "as it was asked"
    assert sorted(path.name for path in out.iterdir()) == [CHECKPOINT, REQUEST]
    with pytest.raises(FileNotFoundError):  # the other one, cut off all the while, finds its directory gone
        (isolated / CHECKPOINT).write_text("late weights")


def test_a_withdrawn_order_publishes_nothing(out: Path, tmp_path: Path) -> None:
    attempt, withdrawn = begin(out), tmp_path / "ended"
    (attempt / CHECKPOINT).write_text("weights")
    withdrawn.touch()
    assert not publish(out, attempt, unless=withdrawn)
    assert not (out / CHECKPOINT).exists() and attempts(out) == [attempt]


def test_settling_waits_for_nobody_and_disturbs_nobody(out: Path) -> None:
    assert not settle(out)  # there is nothing
    dead, alive = begin(out), begin(out)
    (dead / STATE).write_text("epoch 1")
    with held(alive), pytest.raises(RunError, match="being written by another training"):
        settle(out)
    assert len(attempts(out)) == 2
    assert settle(out) and attempts(out) == [] and (out / STATE).read_text() == "epoch 1"
