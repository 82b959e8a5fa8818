"""What a back-test leaves on disk: `trading/backtest/<id>/`, whole or not at all, and the returns of the swept rules.

A set holds equity, trades and positions of the rule in use and `run.json`, which says of what they are and has the hash
of each file; `latest` names the newest. The same scores, rule, costs, capital and days give the same id.
"""

import hashlib
import io
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from upath import UPath

from atft_assets.store import Store
from atft_assets.store.files import write_atomically
from atft_assets.trading.backtest_runs import Tested
from atft_assets.trading.champion import FOLDER
from atft_assets.trading.judging import BACKTEST, SWEEP
from atft_assets.trading.ledger_tables import frames_of
from atft_assets.trading.recorded import Recorded
from atft_assets.trials.recipes import recipe_of
from atft_model.interchange.disk import writing
from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.hashes import checked_bytes, write_sidecar
from atft_model.interchange.panel import publish_panel, staged_panel
from atft_model.interchange.records import read_json, read_pointer, write_json, write_text
from atft_model.interchange.run import LATEST, RUN_JSON

AGAIN = f"dagster asset materialize --select {BACKTEST}"
KEPT = 10  # sets; older ones can be made again


@dataclass(frozen=True)
class StoredBacktest:
    """A published back-test."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            RunError: it is gone or damaged.
        """
        path = self.folder / RUN_JSON
        document = read_json(path, f"run: {AGAIN}", RunError)
        if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
            raise RunError(damaged(path, "it describes no back-test"))
        return document

    def table(self, name: str) -> pl.DataFrame:
        """One of equity, trades, positions.

        Raises:
            RunError: it is gone, or not the one of the record.
        """
        file = f"{name}.parquet"
        return pl.read_parquet(io.BytesIO(checked_bytes(self.folder / file, self.record["files"].get(file), RunError)))

    def check(self) -> None:
        """Hold every file against its hash.

        Raises:
            RunError: one is gone or damaged.
        """
        for file, sha256 in self.record["files"].items():
            checked_bytes(self.folder / file, sha256, RunError)


def newest(root: Path) -> StoredBacktest | None:
    """The back-test that was published last; None before the first.

    Raises:
        RunError: the pointer names none.
    """
    sets = root / FOLDER / BACKTEST
    name = read_pointer(sets / LATEST, RunError)
    if name is None:
        return None
    if not (sets / name).is_dir():
        raise RunError(damaged(sets / LATEST, f"it names {name}, which is no back-test; run: {AGAIN}"))
    return StoredBacktest(sets / name)


def publish(store: Store, given: Recorded, tested: Tested) -> Path:
    """Write the tables of the rule in use as a new set, let `latest` name it, and replace the swept rules' returns."""
    sets, case, market = store.local(FOLDER, BACKTEST), tested.main.case, tested.market
    of = {
        "scores": {"name": given.name, "source": given.source, "recipe": given.recipe, "panel_id": given.panel_id},
        "first": market.dates[0],
        "last": market.dates[-1],
        "rule": {"name": next(iter(tested.by_rule)), **vars(case.rule)},
        "costs": vars(case.costs),
        "capital": case.capital,
        "dividends_known": market.dividends_known,
    }
    files = {}
    with staged_panel(sets) as staged:
        for name, (_, frame) in frames_of(tested.main.ledger).items():
            files[f"{name}.parquet"] = _write(staged / f"{name}.parquet", frame)
        write_json(staged / RUN_JSON, {"status": "finished", **of, "files": files})
        folder = publish_panel(staged, sets, recipe_of(of))
    write_text(sets / LATEST, folder.name + "\n")
    _forget(sets, folder)
    _replace(store.local(FOLDER, SWEEP), tested.swept)
    store.push(FOLDER)
    return folder


def _write(path: Path, frame: pl.DataFrame) -> str:
    """Write a table into a staged set; its hash."""
    data = _bytes(frame)
    with writing(path, len(data)):
        path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, frame: pl.DataFrame) -> None:
    """Replace a table in one step, its hash beside it."""
    data = _bytes(frame)
    write_atomically(UPath(path), data)
    write_sidecar(path, hashlib.sha256(data).hexdigest())


def _bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()  # through memory: a full disk is then a plain OSError
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _forget(sets: Path, newest: Path) -> None:
    """Remove the oldest sets beyond those that are kept, never the newest."""
    others = [path for path in sets.glob("[!.]*/") if path.is_dir() and path != newest]
    for old in sorted(others, key=lambda path: path.stat().st_mtime)[: -(KEPT - 1)]:
        shutil.rmtree(old, ignore_errors=True)
