"""What a failed command says last: a block of four lines below whatever Dagster printed above it.

Failures of ours are noted here where they arise. A process that was started as a Dagster command prints them when it
ends; one that serves (`dagster dev`, a code server) prints at once what it cannot load. Everywhere else they are
exceptions and nothing more. Standard library alone: settings are read, and may be refused, before Dagster is there.
"""

import atexit
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WIDTH = 110
MOST = 3  # blocks of one process: branches of a run fail one by one, often for one reason

# commands that carry out what they are told and end; a run that the UI launched is one as well
WORKS = (("asset", "materialize"), ("job", "execute"), ("api", "execute_run"), ("api", "execute_step"))

# "<why>: make road", "<why>; run: dagster asset materialize ..."
COMMAND = re.compile(r"^(?P<why>.*?)(?:[;.,]? ?\brun)?: (?P<todo>(?:make|dagster|python -m|export) .*)$", re.S)
AGAIN = "what is said above, then the same command again: it goes on from what is there"
CORRECT = "correct it as said above, then the same command again; `make doctor` looks at all of it"
INTERRUPTED = "nothing half-done was published"
GOES_ON = "run the same command again: it goes on"


@dataclass(frozen=True)
class Note:
    """What failed, why, and what a person is to do."""

    what: str
    why: str
    todo: str = AGAIN
    where: str = ""

    def __str__(self) -> str:
        place = self.where or os.environ.get("ATFT_DATA", "")
        rows = {"what": self.what, "why": self.why, "where": place, "do this": self.todo}
        return "\n".join(line for name, text in rows.items() if text for line in _row(name, text))


def _row(name: str, text: str) -> Iterator[str]:
    """A row of the block; commands stay in one line, so that they can be copied."""
    lines = text.strip().splitlines()
    if name != "do this":
        lines = [short for line in lines for short in _wrapped(line)]
    for number, line in enumerate(lines):
        yield f"{'' if number else name + ':':<9} {line}"


def _wrapped(line: str) -> list[str]:
    """Prose in lines; a path or an address is never broken."""
    return textwrap.wrap(line, WIDTH - 10, break_long_words=False, break_on_hyphens=False)


def note_of(text: str, where: str = "") -> Note:
    """The note of a sentence "<what cannot be done>: <why>[: <command>]", as every failure of a step is worded."""
    what, colon, why = text.partition(": ")
    if not colon:
        what, why = "this command", text
    elif " " not in what:
        what = f"{what} failed"
    found = COMMAND.match(why)
    return Note(what, found["why"], found["todo"], where) if found else Note(what, why, where=where)


_notes: list[Note] = []


def note(one: Note) -> None:
    """Keep what is to be said at the end; the same is said once."""
    if one not in _notes:
        _notes.append(one)


def note_interrupt(what: str, todo: str = GOES_ON) -> None:
    """Keep that a person stopped it; who knows best how to go on speaks first, and alone.

    Args:
        what: was stopped; words from " cannot " on are left out.
    """
    if not any(one.why == INTERRUPTED for one in _notes):
        note(Note(f"{what.partition(' cannot ')[0]} was interrupted", INTERRUPTED, todo))


def block(notes: Sequence[Note]) -> str:
    """The closing block."""
    rule = "─" * 60
    more = [f"and {len(notes) - MOST} more, see above"] if len(notes) > MOST else []
    return "\n".join([rule, f"\n{rule}\n".join([*map(str, notes[:MOST]), *more]), rule])


def say() -> None:
    """Print what was noted, once."""
    if _notes:
        text = block(_notes)
        _notes.clear()
        print(f"\n{text}", file=sys.stderr, flush=True)


def words_of(arguments: Sequence[str]) -> tuple[str, ...] | None:
    """The words of a Dagster command line; None if the process is none."""
    if not arguments:
        return None
    program = Path(arguments[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return tuple(arguments[1:3]) if name == "dagster" else None


def say_at_exit() -> None:
    """Let this process say at its end what was noted, if it is a command that carries out and ends."""
    if words_of(sys.argv) in WORKS:
        atexit.unregister(_end)  # a code location may be loaded twice
        atexit.register(_end, _listen())


def _listen() -> int:
    """Where the numbers of the signals of this process can be read, whoever handles them: Dagster changes handlers, and
    an interrupt that comes between two steps passes through no code of ours.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    with suppress(ValueError):  # not the main thread, so none that is interrupted
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _end(signals: int) -> None:
    with suppress(BlockingIOError):
        if {signal.SIGINT, signal.SIGTERM} & {*os.read(signals, 1000)}:
            note_interrupt("the command")
    say()


@contextmanager
def refused_at_load() -> Iterator[None]:
    """What is refused while the code location loads is said last, or at once where the process goes on to live."""
    say_at_exit()
    try:
        yield
    except ValueError as error:
        words = words_of(sys.argv)
        if words is not None:
            note(Note("the settings cannot be used", str(error), CORRECT, "what is exported"))
            if words not in WORKS:
                say()
        raise
