"""Dagster's home belongs to one data root: what its history says of tables is true of that root alone.

`env.sh` derives the home from the data root. One that a person exported is kept, but not used for two roots: the months
that are green in the UI, and the verdicts that stop a training, would be those of the other. A file in the home names
the root; `tools.home` writes it at the first use, and whatever loads the code location looks at it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from atft_assets.settings import SettingsError

VARIABLE = "DAGSTER_HOME"
FOLDER = ".dagster_home"  # in a local data root; env.sh spells it too
MARKER = "data_root"  # a file in the home; bin/dagster spells it too


def owner(home: Path) -> str | None:
    """The data root that a home belongs to; None before its first use, or if nobody can tell."""
    try:
        return (home / MARKER).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def belongs(home: Path, data_root: str) -> bool:
    """Whether a home may be used with a data root: nobody's yet, this root's, or within it, so that both moved."""
    inside = home.resolve() == Path(data_root.removeprefix("file://"), FOLDER)
    return inside or owner(home) in (None, data_root)


def check_home(data_root: str, environ: Mapping[str, str] | None = None) -> None:
    """Refuse the home that is exported if it belongs to another root; nothing is refused where none is exported.

    Args:
        data_root: as the settings say it: an absolute path, or a bucket's address.
        environ: what is exported; default: to this process.

    Raises:
        SettingsError: the text names both roots and says how to come to the right home.
    """
    home = Path((os.environ if environ is None else environ).get(VARIABLE, ""))
    if home.is_absolute() and not belongs(home, data_root):
        raise SettingsError(
            f"{VARIABLE} is {home}, the history of another data root ({owner(home)}), and ATFT_DATA is {data_root}: "
            f"take this root's own home (unset {VARIABLE}; . ./env.sh), or that root (export ATFT_DATA={owner(home)})"
        )


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` over a data root, without what is Dagster's."""
    for folder, folders, names in os.walk(root):
        if FOLDER in folders:
            folders.remove(FOLDER)
        yield folder, folders, names


def homes_of(root: Path) -> list[Path]:
    """Homes in which runs of a local data root may stand: its own, and the exported one unless it is another root's."""
    exported, own = Path(os.environ.get(VARIABLE, "")), root / FOLDER
    usable = exported.is_absolute() and exported.is_dir() and belongs(exported, str(root))
    found = [exported.resolve()] if usable else []
    return [*found, own] if own not in found and (own / "history").is_dir() else found


@contextmanager
def opened(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a home, be it the exported one or another: `dagster.yaml` names its storage by the variable."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
