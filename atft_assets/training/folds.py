"""The folds: a row each, cut from the days of the newest panel, judged on it, and written as small files.

`fold/<panel_id>/<name>.json` exists if, and only if, the fold was cut from the days of that panel and passed its
contract there. No panel is built for a fold; a further fold is a further row of `FOLDS`.
"""

import re
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import dagster as dg
from pydantic import Field

from atft_assets.code_version import code_version
from atft_assets.contracts import CONTRACT_CHECK, ContractViolation, Event, Verdict, contract_check, judged
from atft_assets.groups import TRAINING
from atft_assets.panel.config import day_setting
from atft_assets.store import Store
from atft_assets.training.fold_contract import audit_fold
from atft_assets.training.lanes import Lane
from atft_assets.training.runs import prune_panels
from atft_model.interchange.errors import FoldError
from atft_model.interchange.fold import (
    BLOCKS,
    EMBARGO_DAYS,
    LARGEST_SHARE,
    MAIN,
    PURGE_DAYS,
    VALIDATION_DAYS,
    Block,
    Fold,
    cut,
    read_fold,
    write_fold,
)
from atft_model.interchange.panel import Panel, latest_panel

NAME = "folds"
CUT = f"run: dagster asset materialize --select {NAME}"


@dataclass(frozen=True)
class EndOf:
    """The last day of a block of a fold further up in the list."""

    fold: str
    block: Block


@dataclass(frozen=True)
class FoldRow:
    """How one fold is cut from the days of a panel.

    Attributes:
        name: in paths, and of the partition.
        validation_start, test_start: first days of the blocks; by default the last 15 % of the days are test, as many
            before them, the gap between, validation.
        validation_days: without a start, validation has so many days at least, as far as 40 % of the days go that test
            and gaps leave.
        end: last day that the fold uses; by default the panel's last.
        purge_days, embargo_days: trading days left out between two blocks.
    """

    name: str
    validation_start: date | None = None
    test_start: date | None = None
    end: date | EndOf | None = None
    validation_days: int = VALIDATION_DAYS
    purge_days: int = PURGE_DAYS
    embargo_days: int = EMBARGO_DAYS

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"a fold cannot be called {self.name!r}: use letters, digits, - and _")


# The further rows serve to ask whether a choice that main's validation block suggests would have been right before.
FOLDS = (
    FoldRow(MAIN),
    FoldRow("previous", end=EndOf(MAIN, "validation")),
)


class FoldConfig(dg.Config):
    """How the fold `main` is cut; the other folds are rows of `atft_assets.training.folds.FOLDS`."""

    validation_start: str | None = Field(
        None,
        description="First day of the validation block, YYYY-MM-DD; by default it has as many days as the test block, "
        f"and {VALIDATION_DAYS} at least, as far as {LARGEST_SHARE:.0%} of the days go that test and gaps leave.",
    )
    test_start: str | None = Field(
        None, description="First day of the test block, YYYY-MM-DD; by default the last 15 % of the days are test."
    )
    purge_days: int = Field(
        PURGE_DAYS, description="Trading days left out between two blocks: at least the longest label's."
    )
    embargo_days: int = Field(EMBARGO_DAYS, description="Trading days left out beyond the purge.")
    keep: int = Field(3, description="Newest panels that stay on disk, besides those that a run refers to.")

    def row(self, row: FoldRow) -> FoldRow:
        """A row with what is set here."""
        return replace(
            row,
            validation_start=day_setting(self.validation_start, "validation_start") or row.validation_start,
            test_start=day_setting(self.test_start, "test_start") or row.test_start,
            purge_days=self.purge_days,
            embargo_days=self.embargo_days,
        )


@dataclass(frozen=True)
class CutFolds:
    """Folds by name, and of those that could not be cut or did not pass the reason."""

    folds: dict[str, Fold] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def other_folds(rows: Sequence[FoldRow]) -> Lane:
    """The lane of all folds but `main`; without any it has no partition.

    Raises:
        ValueError: two rows have one name, or none is `main`.
    """
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or MAIN not in names:
        raise ValueError(f"folds need names of their own, and one of them is {MAIN}: {', '.join(names)}")
    return Lane(tuple(name for name in names if name != MAIN))


def cut_rows(days: Sequence[date], rows: Sequence[FoldRow]) -> CutFolds:
    """Cut every row from ascending trading days; a row whose days do not suffice is left out."""
    found = CutFolds()
    for row in rows:
        try:
            found.folds[row.name] = cut(
                days[: bisect_right(days, _end(row, found.folds) or days[-1])],
                row.name,
                validation_start=row.validation_start,
                test_start=row.test_start,
                validation_days=row.validation_days,
                purge_days=row.purge_days,
                embargo_days=row.embargo_days,
            )
        except FoldError as error:
            found.left_out[row.name] = str(error)
    return found


def audited(panel: Panel, found: CutFolds) -> tuple[CutFolds, dict[str, Verdict]]:
    """The folds that stand on a panel, and the verdicts on all that were cut."""
    kept, verdicts = CutFolds({}, dict(found.left_out)), {}
    for name, fold in found.folds.items():
        try:
            verdicts[name] = audit_fold(panel, fold)
        except FoldError as error:
            kept.left_out[name] = str(error)
            continue
        if verdicts[name].passed:
            kept.folds[name] = fold
        else:
            kept.left_out[name] = str(verdicts[name])
    return kept, verdicts


def write_folds(folder: Path, folds: Mapping[str, Fold]) -> None:
    """The files of one panel's folds; those of other names are removed."""
    for name, fold in folds.items():
        write_fold(folder / f"{name}.json", fold)
    for path in folder.glob("*.json"):
        if path.stem not in folds:
            path.unlink()


def cut_audit_publish(store: Store, rows: Sequence[FoldRow]) -> tuple[Panel, CutFolds]:
    """Cut the rows on the newest panel's days, judge each there, and write those that stand; `main` must.

    Raises:
        PanelError, FoldError: there is no panel, or `main` cannot be cut from its days.
        ContractViolation: `main` does not pass.
    """
    panel = latest_panel(store.local("panel"))
    kept, verdicts = audited(panel, cut_rows(panel.dates, rows))
    if MAIN not in kept.folds and MAIN not in verdicts:
        raise FoldError(
            f"{kept.left_out[MAIN]} (panel {panel.panel_id} begins on {panel.dates[0]}: its config, start and "
            "warm_up_days, decides)"
        )
    if not verdicts[MAIN].passed:
        raise ContractViolation(verdicts[MAIN])
    write_folds(store.local("fold", panel.panel_id), kept.folds)
    return panel, kept


def fold_on(store: Store, panel: Panel, name: str) -> Fold:
    """A fold that was cut and judged on this panel.

    Raises:
        FoldError: it was not.
    """
    path = store.local("fold", panel.panel_id, f"{name}.json")
    if not path.exists():
        why = "" if name == MAIN else f", or its days do not suffice (see the metadata of the asset {NAME})"
        raise FoldError(f"the fold {name} has not been cut on the newest panel, {panel.panel_id}{why}; {CUT}")
    return read_fold(path)


def folds_asset(rows: Sequence[FoldRow] = FOLDS) -> dg.AssetsDefinition:
    """The asset `folds`."""

    @dg.asset(
        name=NAME,
        group_name=TRAINING,
        deps=["training_panel"],
        check_specs=[contract_check(NAME)],
        code_version=code_version("atft_assets.training.folds", "atft_model.interchange.fold"),
        kinds={"numpy"},
        tags={"atft/kind": "fold"},
        description="Train, validation and test dates on the newest panel. The fold main, and earlier ones to check "
        "choices by.",
    )
    def folds(context: dg.AssetExecutionContext, config: FoldConfig, store: Store) -> Iterator[Event]:
        def publish() -> tuple[Panel, CutFolds]:
            return cut_audit_publish(store, [config.row(row) if row.name == MAIN else row for row in rows])

        panel, kept = yield from judged(NAME, publish, untouched="the folds are as they were")
        for name, why in kept.left_out.items():
            context.log.warning(f"the fold {name} is left out: {why}")
        removed = prune_panels(store.local("panel"), store.local("runs"), panel.panel_id, config.keep)
        for panel_id in removed:
            shutil.rmtree(store.local("fold", panel_id), ignore_errors=True)
        if removed:
            context.log.info(f"panels that nothing refers to were removed: {', '.join(removed)}")
        yield dg.MaterializeResult(
            asset_key=NAME,
            metadata={
                "folds": dg.MetadataValue.table(_table(kept)),
                "panel_id": panel.panel_id,
                "path": dg.MetadataValue.path(str(store.local("fold", panel.panel_id))),
                **{f"left out: {name}": why for name, why in kept.left_out.items()},
            },
        )
        yield dg.AssetCheckResult(
            passed=True, asset_key=NAME, check_name=CONTRACT_CHECK, metadata={"folds": len(kept.folds)}
        )

    return folds


def _table(found: CutFolds) -> list[dg.TableRecord]:
    rows = []
    for name, fold in found.folds.items():
        spans: dict[str, str] = {block: " to ".join(map(str, fold.span(block))) for block in BLOCKS}
        gap = f"{fold.purge_days} + {fold.embargo_days}"
        rows.append(dg.TableRecord({"fold": name, **spans, "days between": gap}))
    return rows


def _end(row: FoldRow, found: Mapping[str, Fold]) -> date | None:
    if not isinstance(row.end, EndOf):
        return row.end
    if row.end.fold not in found:
        raise FoldError(f"it ends with the {row.end.block} block of the fold {row.end.fold}, which there is not")
    return found[row.end.fold].span(row.end.block)[1]
