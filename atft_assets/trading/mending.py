"""Damaged lines of trials and promotions, a pointer to the champion that names nobody, tables of a back-test."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from atft_assets.store.damage import Damage, said_of
from atft_assets.store.lines import write_lines
from atft_assets.trading.backtest_sets import AGAIN, StoredBacktest, newest
from atft_assets.trading.champion import FOLDER, POINTER, PROMOTIONS, Promotion, current, promotions
from atft_assets.trading.judging import BACKTEST, SWEEP
from atft_assets.trials import ledger
from atft_assets.trials.ledger import Trial, all_trials
from atft_model.interchange.errors import RunError
from atft_model.interchange.hashes import checked_bytes, read_sidecar
from atft_model.interchange.records import from_plain, to_plain, write_text
from atft_model.interchange.run import LATEST

LOST = "lost"  # study of a trial whose line could not be read: it was one all the same


def trading_damages(root: Path) -> Iterator[Damage]:
    """The two files of lines, the pointer where the lines are whole, and the tables that a back-test left."""
    folder = root / FOLDER
    for path in sorted((folder / BACKTEST).glob("[!.]*/")):
        try:
            StoredBacktest(path).check()
        except RunError as error:
            yield Damage(path, said_of(error), command=AGAIN)
    try:
        newest(root)
    except RunError as error:
        yield Damage(folder / BACKTEST / LATEST, said_of(error), command=AGAIN)
    if (path := folder / SWEEP).exists():
        try:
            checked_bytes(path, read_sidecar(path, RunError), RunError)
        except RunError as error:
            yield Damage(path, said_of(error), command=AGAIN)
    try:
        all_trials(root)
    except RunError as error:
        yield Damage(root / ledger.FOLDER / ledger.FILE, said_of(error))
    try:
        promotions(folder)
    except RunError as error:
        yield Damage(folder / PROMOTIONS, said_of(error))
        return
    try:
        current(folder)
    except RunError as error:
        yield Damage(folder / POINTER, said_of(error))


def menders(root: Path) -> dict[Path, Callable[[Path, bytes], Iterator[str]]]:
    """What is done with a file after it was put aside, given its bytes, by its path."""
    return {
        root / ledger.FOLDER / ledger.FILE: _keep_trials,
        root / FOLDER / PROMOTIONS: _keep_promotions,
        root / FOLDER / POINTER: _point_again,
    }


def _keep_trials(path: Path, data: bytes) -> Iterator[str]:
    """The trials that can be read; each other line stays a trial, or what is shown would be deflated by too few."""
    kept, lost = [], 0
    for line in data.splitlines():
        trial = _read(Trial, line)
        if trial is None and line.strip():
            lost += 1
            trial = Trial(LOST, str(lost), hashlib.sha256(line).hexdigest()[:16])
        if trial is not None:
            kept.append(to_plain(trial))
    write_lines(path, kept)
    yield f"{path}: {len(kept) - lost} trials kept, {lost} lost; a lost one counts as a trial"


def _keep_promotions(path: Path, data: bytes) -> Iterator[str]:
    found = [_read(Promotion, line) for line in data.splitlines() if line.strip()]
    kept = [to_plain(line) for line in found if line is not None]
    write_lines(path, kept)
    yield f"{path}: {len(kept)} lines kept, {len(found) - len(kept)} lost"


def _point_again(path: Path, data: bytes) -> Iterator[str]:
    """To the last that was promoted: without a pointer the next promotion would take itself for the first."""
    last = [line.champion for line in promotions(path.parent) if line.role == "champion"]
    if last:
        write_text(path, last[-1].champion_id + "\n")
        yield f"{path} names {last[-1]} now, the last that was promoted"


def _read(kind: type[Any], line: bytes) -> Any:
    try:
        return from_plain(kind, json.loads(line), "a line", RunError)
    except (ValueError, RunError):
        return None
