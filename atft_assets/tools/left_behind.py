"""Services of Dagster that a crash left behind: found by their command lines, ended by the reaper.

A killed `dagster dev` leaves its webserver and its daemon running, unseen; a second daemon beside them would start
everything twice. Found are the processes of this user and this DAGSTER_HOME that only `dagster dev`, `tools.ui` or
another service start, and whose starter is gone. A webserver or daemon that a person or a service manager started by
itself is left alone; so is a code server as long as runs work under it (it ends after them, by itself).
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from atft_assets.tools.services import FOLDER, PARENT, children, end, living

PATIENCE_SECONDS = 5.0

# The words of a command line behind the interpreter, joined by blanks. What `dagster dev` starts carries a pipe, what
# starts a code server for itself asks for a heartbeat; neither option is meant for people.
SERVICES = {
    "webserver": re.compile(r"(^|[\s/])(dagster[-_]webserver|atft_assets\.tools\.webserver)\s"),
    "daemon": re.compile(r"(^|[\s/])(dagster-daemon|dagster\._daemon) run\b"),
    "code server": re.compile(r"(^|[\s/])dagster (code-server start|api grpc)\b"),
}
STARTED_BY_ANOTHER = re.compile(r"\s--(shutdown-pipe|heartbeat)\b")
STARTER = re.compile(r"(^|[\s/])(dagster|dg) dev\b")
UI_FOLDER = re.compile(rf"^{FOLDER}(\d+)-")


def end_services(home: Path) -> Iterator[str]:
    """End what was left behind for a DAGSTER_HOME; yields a sentence for each.

    Args:
        home: of the Dagster instance; services of another are not touched.
    """
    found = [(kind, process) for kind, process in left_behind(home) if not working(process)]
    end([process for _, process in found], PATIENCE_SECONDS)
    for kind, process in found:
        yield f"{kind}, process {process.pid}: what started it is gone; ended"


def left_behind(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Services of this user and this home whose starter is gone."""
    for process in psutil.process_iter():
        try:
            if process.uids().real != os.getuid():
                continue
            words = command_line(process)
            kind = kind_of(words)
            if not kind:
                continue
            environment = process.environ()
            if not same_folder(environment.get("DAGSTER_HOME", ""), home):
                continue
            if PARENT in environment:
                if not started_by(process, int(environment[PARENT])):
                    yield kind, process
            elif STARTED_BY_ANOTHER.search(words) and not starter_lives(process):
                yield kind, process
        except (psutil.Error, ValueError):
            continue  # it ended meanwhile, or does not let itself be asked


def command_line(process: psutil.Process) -> str:
    """The words behind the interpreter; a shell's script (`bash -c "…"`) is none of them."""
    words = process.cmdline()
    return "" if "-c" in words[1:2] else " ".join(words[1:])


def kind_of(words: str) -> str:
    """Which service a command line is of, or nothing."""
    return next((kind for kind, pattern in SERVICES.items() if pattern.search(f"{words} ")), "")


def started_by(process: psutil.Process, supervisor: int) -> bool:
    """Whether the supervisor still stands above a service, be it with another service between."""
    return any(one.pid == supervisor for one in process.parents())


def starter_lives(process: psutil.Process) -> bool:
    """Whether the parent is `dagster dev`, or a service in its turn."""
    parent = process.parent()
    if parent is None:
        return False
    words = command_line(parent)
    return bool(STARTER.search(words) or kind_of(words))


def working(process: psutil.Process) -> bool:
    """Whether runs work under a code server: it has descendants that are no services."""
    for child in children(process.pid, recursive=True):
        with suppress(psutil.Error):
            helper = "multiprocessing.resource_tracker" in " ".join(child.cmdline())
            if living(child) and not helper and not kind_of(command_line(child)):
                return True
    return False


def same_folder(given: str, home: Path) -> bool:
    """Whether a DAGSTER_HOME names that folder."""
    return bool(given) and Path(given).resolve() == home.resolve()


def remove_folders(temporary: Path | None = None) -> Iterator[str]:
    """Remove the folders (socket, workspace) of UIs whose process is gone."""
    for folder in (temporary or Path(tempfile.gettempdir())).glob(f"{FOLDER}*"):
        match = UI_FOLDER.match(folder.name)
        if match and folder.stat().st_uid == os.getuid() and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)
            yield f"{folder}: left behind by a UI that was killed, removed"
