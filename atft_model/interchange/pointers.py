"""Paths as people give them: a run or panel directory, a pointer `latest`, or the folder in which one lies."""

from pathlib import Path

from atft_model.interchange.errors import InterchangeError, damaged
from atft_model.interchange.panel import DESCRIPTION
from atft_model.interchange.records import read_pointer
from atft_model.interchange.run import LATEST, REQUEST, RUN_JSON

RECORDS = (RUN_JSON, DESCRIPTION, REQUEST)  # what a directory that is a run or a panel holds


def resolve(path: Path) -> Path:
    """The run or panel directory that a path means.

    Args:
        path: such a directory, which comes back as it is; `.../latest`; or a folder with a `latest` in it, as that of
            a phase (`runs/main/phase2`) and that of the panels (`panel`).

    Raises:
        InterchangeError: a pointer is asked for and is not there, is damaged, or names nothing.
    """
    pointer = path if path.name == LATEST and not path.is_dir() else path / LATEST
    if pointer != path and (not pointer.is_file() or any((path / name).exists() for name in RECORDS)):
        return path
    name = read_pointer(pointer, InterchangeError)
    if name is None:
        raise InterchangeError(
            f"{pointer} does not exist: nothing was published there yet; `python -m atft_model runs` lists what was "
            "trained, `info DIR` says what a folder holds"
        )
    target = pointer.parent / name
    if not target.is_dir():
        raise InterchangeError(damaged(pointer, f"it names {name}, which is not there"))
    return target
