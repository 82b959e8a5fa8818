"""The hash of a recipe: what a person chose, without what chance or the calendar gave.

Seed, panel, fold, machine and date are no part of it, so a refit on newer days is the same recipe; features (the code
that computes them included), label, target, network, training, curriculum and the version of the trainer's numerics
are, of every phase that a run came through.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atft_model.interchange.records import to_plain
from atft_model.interchange.run import RunRecord, lineage

DIGITS = 16


def recipe_of(chosen: Any) -> str:
    """Hash of anything made of records, numbers and text; the order of keys does not matter."""
    text = json.dumps(to_plain(chosen), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def recipe_of_run(folder: Path) -> str:
    """The recipe of a run, and of those that it started from as far as they are still there.

    Raises:
        RunError: it has no record.
    """
    return recipe_of([_chosen(record) for record in lineage(folder)])


def recipe_of_baseline(name: str, record: Mapping[str, Any]) -> str:
    """The recipe of a baseline.

    Args:
        record: `run.json` of its set: config, catalogue_hash, label and target of the panel.
    """
    return recipe_of([name, *(record.get(key) for key in ("config", "catalogue_hash", "label", "target"))])


def recipe_of_blend(parts: Sequence[str]) -> str:
    """The recipe of a blend in equal parts of what has these recipes."""
    return recipe_of(["blend", sorted(parts)])


def _chosen(record: RunRecord) -> list[Any]:
    return [
        record.phase,
        record.catalogue_hash,
        list(record.horizons),
        record.label,
        record.target,
        record.config,
        record.curriculum,
        record.switches,
        record.controls,
        record.code_version,
    ]
