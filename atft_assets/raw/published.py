"""What is published of a raw table when a run brings it up to date: to build upon, or to replace."""

import json
import shlex
from collections.abc import Sequence
from datetime import date

import polars as pl

from atft_assets.failures import Refusal
from atft_assets.jquants.plans import Window
from atft_assets.store import UNPARTITIONED, StoreError, Table
from atft_model.interchange.errors import MEND


class DamagedFile(Refusal):
    """A published file is not as it was written, and the run would build upon it."""

    def __init__(self, table: Table, key: str):
        self.table, self.key = table.name, key
        super().__init__(
            f"{table.path(key)} was changed or damaged outside the platform, and new days would be added to it. Fetch "
            f"it again, whole: {refetch_command(table.name, key)} – or let {MEND} do it. Days that the plan no longer "
            "covers cannot be fetched again: if you have a copy of the file, put that in its place instead"
        )


def refetch_command(table: str, key: str = UNPARTITIONED) -> str:
    """The command that fetches a month, or a table without months, again, whatever state its file is in."""
    partition = "" if key == UNPARTITIONED else f" --partition {key}"
    return f"dagster asset materialize --select {table}{partition}{refetch_option([table])}"


def refetch_option(tables: Sequence[str]) -> str:
    """The option of that command by which raw tables are fetched whole; nothing for no table."""
    config = json.dumps({"ops": {table: {"config": {"refetch": True}} for table in tables}})
    return f" --config-json {shlex.quote(config)}" if tables else ""


def published(table: Table, key: str, columns: Sequence[str] | None, *, refetch: bool) -> pl.DataFrame | None:
    """A published file; None if it is gone, or damaged where it is to be replaced anyway.

    Raises:
        DamagedFile: it is damaged, and the run would build upon it.
    """
    if not table.path(key).exists():
        return None
    try:
        return table.read([key], columns)
    except StoreError:
        if refetch:
            return None
    raise DamagedFile(table, key)  # outside the handler: one sentence, not two


def replaced_text(table: Table, key: str, lost: Sequence[date], covered: Window) -> str:
    """The sentence about a file that is fetched anew since the published one cannot be built upon.

    Args:
        lost: days that it may have held and that cannot be asked for again.
    """
    state = "damaged" if table.path(key).exists() else "gone"
    text = f"{table.name} {key}: its published file is {state}; it is fetched again"
    if lost:
        text += (
            f", but for {len(lost)} days ({lost[0]} … {lost[-1]}) that lie outside what can be asked for (the plan "
            f"covers {covered}): what the file held of these is lost, unless you put a copy of it in its place"
        )
    return text
