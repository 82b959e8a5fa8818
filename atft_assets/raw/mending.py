"""Small files of raw tables that are damaged: where the records came from, what was set down, what was asked for."""

from collections.abc import Iterator
from pathlib import Path

from upath import UPath

from atft_assets.raw.ingest import GROUP
from atft_assets.raw.landing import ASKED, LANDED, landed_rows
from atft_assets.raw.origin import NOTE, noted
from atft_assets.store.damage import Damage, said_of
from atft_model.interchange.errors import InterchangeError, damaged
from atft_model.interchange.records import read_json


def raw_damages(root: Path) -> Iterator[Damage]:
    """Damaged files beside the raw tables of a data root; nothing that is published is lost with them."""
    group = root / GROUP
    origin = group / NOTE
    if why := _origin_damage(origin):
        more = "the next fetch notes its own source; before it, make sure that it is the one of the tables"
        yield Damage(origin, f"{why}; {more}")
    for path in sorted(group.glob(f"*/{LANDED}")):
        if why := _landed_damage(path):
            yield Damage(path, said_of(damaged(path, why)))
    for path in sorted(group.glob(f"*/{ASKED}")):
        try:
            months = read_json(path, "it is gone", InterchangeError)
        except InterchangeError as error:
            yield Damage(path, said_of(error))
            continue
        if not isinstance(months, dict) or not all(isinstance(days, dict) for days in months.values()):
            yield Damage(path, said_of(damaged(path, "it is no list of days")))


def _landed_damage(path: Path) -> str:
    try:
        landed_rows(path.read_bytes())
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _origin_damage(path: Path) -> str:
    return said_of(damaged(path, "it names no source")) if noted(UPath(path)) == "" else ""
