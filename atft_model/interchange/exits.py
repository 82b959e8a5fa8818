"""Exit codes of the training process, and what each means."""

from enum import IntEnum


class Exit(IntEnum):
    """As `sys.exit` gives them; a negative code in a parent's eyes is the signal that killed the process."""

    FINISHED = 0
    BAD_INPUT = 2
    GUARD = 3
    DISK_FULL = 74
    LOCK_BUSY = 75
    INTERRUPTED = 130


MEANING = {
    Exit.FINISHED: "finished",
    Exit.BAD_INPUT: "bad input: panel, fold, request or parent run cannot be used",
    Exit.GUARD: "a guard was violated: trained, but degenerate, or not finite",
    Exit.DISK_FULL: "disk full or over quota; what was saved before is intact",
    Exit.LOCK_BUSY: "the device's lock is taken",
    Exit.INTERRUPTED: "interrupted; the state is saved",
}
