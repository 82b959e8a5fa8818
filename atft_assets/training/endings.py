"""What is said of a training that ended: one sentence for an exit code, the record closed, and how to go on."""

import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from atft_assets.training.protocol import TrainingFailed
from atft_assets.training.runs import how_to_resume
from atft_model.interchange.attempts import newest_state, settle
from atft_model.interchange.disk import size_of
from atft_model.interchange.errors import RunError
from atft_model.interchange.exits import Exit
from atft_model.interchange.run import REQUEST, Status, end_record

GOES_ON = (Exit.INTERRUPTED, Exit.DISK_FULL)  # the state is saved, so that the run is interrupted rather than failed


def failed(code: int, stderr: Iterable[str], *, out: Path, runs: Path, lock: Path | None) -> TrainingFailed:
    """Close the run directory of a training that ended without success; returns what to raise, or to hand back."""
    tail = list(stderr)
    close(out, "interrupted" if code < 0 or code in GOES_ON else "failed")
    return TrainingFailed(explain(code, tail, out=out, runs=runs, lock=lock), code, "\n".join(tail))


def lost(why: str, out: Path) -> TrainingFailed:
    """What to hand back for a training of which nobody knows how it ended; its state, where it has one, is kept."""
    close(out, "interrupted")
    return TrainingFailed(f"{why}. {_how_to_go_on(out)}", Exit.INTERRUPTED, "")


def close(out: Path, status: Status) -> None:
    """See to it that no record says "running" of a process that has ended; what never began leaves nothing behind."""
    with suppress(RunError, FileNotFoundError):  # an attempt lives on elsewhere: the next resume settles it
        settle(out)
    if not out.is_dir():
        return
    if [path.name for path in out.iterdir()] == [REQUEST]:
        shutil.rmtree(out)
        return
    with suppress(RunError):  # no record yet, or a damaged one
        end_record(out, status)


def interrupted(out: Path) -> str:
    """Close the run directory of a training that was told to stop; returns how to go on."""
    close(out, "interrupted")
    return _was_interrupted(out)


def _was_interrupted(out: Path) -> str:
    return f"the training was interrupted and nothing was published. {_how_to_go_on(out)}"


def _how_to_go_on(out: Path) -> str:
    if newest_state(out) is not None:
        return how_to_resume(out)
    return "No epoch of it had ended; start it again"


def explain(code: int, stderr: Iterable[str], *, out: Path, runs: Path, lock: Path | None) -> str:
    """One sentence for an exit code: what happened and what to do.

    Args:
        lock: file whose lock stands for the device; None where it is another host's.
    """
    said = last_words(stderr)
    if code == Exit.BAD_INPUT:
        return f"the trainer refused what it was given: {said}"
    if code == Exit.GUARD:
        return f"a guard was violated, so no checkpoint is published: {said}"
    if code == Exit.DISK_FULL:
        return (
            f"the disk or quota under {out.parent} is full ({_free(out)} free); the last good checkpoint is intact. "
            f"Free space ({_what_to_free(runs)}; `python -m atft_assets.tools.retention` lists what may go). {said}. "
            f"{_how_to_go_on(out)}"
        )
    if code == Exit.LOCK_BUSY:
        if lock is None:
            return f"the device of the host is in use: {said}. Wait for what holds it, or end it there"
        return f"the device is in use by {lock_holder(lock)}: wait for it or end it (lock {lock})"
    if code == Exit.INTERRUPTED:
        return _was_interrupted(out)
    if code == -signal.SIGKILL:
        return (
            "the training process was killed (SIGKILL), by hand or because the machine ran out of memory. "
            f"{_how_to_go_on(out)}"
        )
    if code < 0:
        return f"the training process died of signal {-code} ({_signal_name(-code)}): {said}. {_how_to_go_on(out)}"
    return f"the training process ended with exit code {code}: {said}"


def last_words(stderr: Iterable[str]) -> str:
    """The trainer's closing message: from the last line that does not continue the one before (by an indent)."""
    words: list[str] = []
    for line in filter(str.strip, stderr):
        words = [*words, line.strip()] if line[0].isspace() and words else [line.strip()]
    return " ".join(words).removeprefix("atft_model: ") or "it said nothing"


def lock_holder(lock: Path) -> str:
    """Who holds a file lock, as the kernel tells it."""
    try:
        inode = lock.stat().st_ino
        held = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return "another process"
    for words in map(str.split, held):
        # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF"
        if "->" not in words and len(words) > 5 and words[5].rpartition(":")[2] == str(inode):
            return f"process {words[4]} ({_command_line(words[4])})"
    return "another process"


def _command_line(pid: str) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone by now"
    return " ".join(words).strip()[:200] or "unnamed"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else "unknown"


def _free(out: Path) -> str:
    folder = next(p for p in (out, *out.parents) if p.exists())
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"


def _what_to_free(runs: Path) -> str:
    """Sizes of what may be deleted: other runs of all phases, and panels."""
    sizes = {folder: size_of(folder) for folder in (runs, runs.parent / "panel") if folder.is_dir()}
    return ", ".join(f"{size / 1e9:.1f} GB in {folder}" for folder, size in sizes.items()) or "old runs and panels"
