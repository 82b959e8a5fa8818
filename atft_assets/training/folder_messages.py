"""Dagster Pipes through a folder that both sides see: each attempt at a training writes a file of its own.

The reader follows all of them, so a training that begins again on another host goes on being heard, and two attempts
never write one file. Nothing here waits for a process: when the session closes, what lies there is read, and that is
all.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg

from atft_model.interchange.batch import MESSAGES

POLL_SECONDS = 0.5
LAST_LOOK_SECONDS = 60.0  # at what came until the session closed: a share that hangs must not hold the run


class FolderMessageReader(dg.PipesMessageReader):
    """Reads the messages of all attempts at one training.

    Args:
        folder: where each attempt writes its `<attempt>.jsonl`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[Path, int] = {}  # bytes of each file

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Follow the folder until the session closes; yields where a process writes, which each attempt sets over."""
        self.folder.mkdir(parents=True, exist_ok=True)
        over = Event()
        reader = Thread(target=self._follow, args=(handler, over), daemon=True)
        reader.start()
        try:
            yield {"path": str(self.folder / f"attempt-1{MESSAGES}")}
        finally:
            over.set()
            reader.join(timeout=LAST_LOOK_SECONDS)

    def no_messages_debug_text(self) -> str:
        """What Dagster adds to its warning when nothing came."""
        return f"Attempted to read messages from files in {self.folder}."

    def _follow(self, handler: Any, over: Event) -> None:
        while True:
            last = over.wait(POLL_SECONDS)
            for message in self._new() if self.folder.is_dir() else ():
                # an attempt that closes is not the end: another one may follow, and Dagster would warn of its messages
                if message.get("method") != "closed":
                    handler.handle_message(message)
            if last:
                handler.handle_message({"__dagster_pipes_version": "0.1", "method": "closed", "params": {}})
                return

    def _new(self) -> Iterator[dict[str, Any]]:
        """Whole lines that were written since the last look; a line that is none is left out."""
        for path in sorted(self.folder.glob(f"*{MESSAGES}")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                try:
                    message = json.loads(line)
                except ValueError:  # a host that died in the middle of it
                    continue
                if isinstance(message, dict):
                    yield message
