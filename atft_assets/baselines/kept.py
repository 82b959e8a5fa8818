"""The models that a set of baselines keeps beside its scores, `runs/<fold>/baselines/<id>/<baseline>.<part>.txt`.

By them a baseline scores days that did not exist when it was fitted. A part is a horizon, `20d`; which files there are,
and their hashes, stands in the set's `run.json` under `files`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.hashes import checked_bytes
from atft_model.interchange.records import read_json
from atft_model.interchange.run import RUN_JSON

SUFFIX = ".txt"


def model_file(name: str, part: str) -> str:
    """Name of the file with a part of a baseline's models."""
    return f"{name}.{part}{SUFFIX}"


def read_set(folder: Path) -> dict[str, Any]:
    """`run.json` of a set of baselines.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / RUN_JSON
    document = read_json(path, "give a set of baselines", RunError)
    if not isinstance(document, dict) or not {"baselines", "panel_id", "fold"} <= set(document):
        raise RunError(damaged(path, "it describes no set of baselines"))
    return document


def kept_models(folder: Path, name: str) -> dict[str, str]:
    """The models of a baseline, text by part; empty where it keeps none, or a version before 0.4 fitted it.

    Raises:
        RunError: the set, or a file that its record lists, is gone or damaged.
    """
    found = {}
    for file, sha256 in files_of(read_set(folder)).items():
        if file.startswith(f"{name}.") and file.endswith(SUFFIX):
            part = file.removeprefix(f"{name}.").removesuffix(SUFFIX)
            found[part] = checked_bytes(folder / file, sha256, RunError).decode()
    return found


def files_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of a set's files, by name."""
    return dict(record.get("files", {}))
