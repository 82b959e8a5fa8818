"""The folds: a row each, cut from the days of the newest panel, judged on it, and written as small files.

`fold/<panel_id>/<name>.json` exists if, and only if, the fold was cut from the days of that panel and passed its
contract there; of one that was not, `<name>.left_out` says why. No panel is built for a fold. The rows are `main` and
the years of the walk-forward, which a setting names (`atft_assets.fold_years`).
"""

import re
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from pydantic import Field

from atft_assets.calendar import previous_trading_day
from atft_assets.code_version import code_version
from atft_assets.contracts import CONTRACT_CHECK, ContractViolation, Event, Verdict, contract_check, judged
from atft_assets.groups import TRAINING
from atft_assets.panel.config import day_setting
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.fold_contract import audit_fold
from atft_assets.training.lanes import Lane
from atft_assets.training.runs import prune_panels
from atft_model.interchange.errors import FoldError
from atft_model.interchange.fold import (
    BLOCKS,
    EMBARGO_DAYS,
    MAIN,
    PURGE_DAYS,
    VALIDATION_DAYS,
    Fold,
    cut,
    read_fold,
    write_fold,
)
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.records import read_text, write_text

NAME = "folds"
LEFT_OUT = ".left_out"
CUT = f"run: dagster asset materialize --select {NAME}"


@dataclass(frozen=True)
class FoldRow:
    """How one fold is cut from the days of a panel.

    Attributes:
        name: in paths, and of the partition.
        validation_start, test_start: first days of the blocks; by default the last 15 % of the days are test, as many
            before them, the gap between, validation.
        validation_days: length of the validation block, in place of its first day.
        least_validation_days: with neither, validation has so many days at least, as far as 30 % of all days go.
        end: last day that the fold uses; by default the panel's last. The panel must reach it.
        train_years: calendar years of the train block; by default it begins with the panel.
        final: its test block is kept for the end.
        purge_days, embargo_days: trading days left out between two blocks.
    """

    name: str
    validation_start: date | None = None
    test_start: date | None = None
    end: date | None = None
    validation_days: int | None = None
    least_validation_days: int = 0
    train_years: int | None = None
    final: bool = False
    purge_days: int = PURGE_DAYS
    embargo_days: int = EMBARGO_DAYS

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"a fold cannot be called {self.name!r}: use letters, digits, - and _")


def fold_rows(settings: Settings) -> tuple[FoldRow, ...]:
    """`main`, and a row for each fold of the walk-forward."""
    plan = settings.walk_forward
    return (
        FoldRow(MAIN, least_validation_days=VALIDATION_DAYS),
        *(
            FoldRow(
                years.name,
                test_start=years.span[0],
                end=years.span[1],
                validation_days=plan.validation_days,
                train_years=plan.rolling_years,
                final=years.final,
            )
            for years in settings.fold_years()
        ),
    )


class FoldConfig(dg.Config):
    """How the fold `main` is cut; the other folds are those of the setting ATFT_WALK_FORWARD."""

    validation_start: str | None = Field(
        None,
        description=f"First day of the validation block, YYYY-MM-DD; by default it has as many days as the test block, "
        f"and {VALIDATION_DAYS} at least where that is no more than 30 % of all days.",
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
                days[: _stop(days, row)],
                row.name,
                validation_start=row.validation_start,
                validation_days=row.validation_days,
                test_start=row.test_start,
                least_validation_days=row.least_validation_days,
                train_years=row.train_years,
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


def write_folds(folder: Path, found: CutFolds) -> None:
    """The files of one panel's folds, and the reasons of those that were left out; other names are removed."""
    for name, fold in found.folds.items():
        write_fold(folder / f"{name}.json", fold)
    for name, why in found.left_out.items():
        write_text(folder / f"{name}{LEFT_OUT}", why + "\n")
    for suffix, names in ((".json", found.folds), (LEFT_OUT, found.left_out)):
        for path in folder.glob(f"*{suffix}"):
            if path.stem not in names:
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
    write_folds(store.local("fold", panel.panel_id), kept)
    return panel, kept


def fold_on(store: Store, panel: Panel, name: str) -> Fold:
    """A fold that was cut and judged on this panel.

    Raises:
        FoldError: it was not; the text says why not.
    """
    folder = store.local("fold", panel.panel_id)
    if (path := folder / f"{name}.json").exists():
        return read_fold(path)
    if why := (read_text(folder / f"{name}{LEFT_OUT}", FoldError) or "").strip():
        raise FoldError(f"the fold {name} was left out when the folds of panel {panel.panel_id} were cut: {why}")
    raise FoldError(f"the fold {name} has not been cut on the newest panel, {panel.panel_id}; {CUT}")


def folds_asset(rows: Sequence[FoldRow]) -> dg.AssetsDefinition:
    """The asset `folds`."""

    @dg.asset(
        name=NAME,
        group_name=TRAINING,
        deps=["training_panel"],
        check_specs=[contract_check(NAME)],
        code_version=code_version("atft_assets.training.folds", "atft_model.interchange.fold"),
        kinds={"numpy"},
        tags={"atft/kind": "fold"},
        description="Train, validation and test dates on the newest panel. The fold main, and those of the "
        "walk-forward, which ATFT_WALK_FORWARD names.",
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
            store.push("panel")
        store.push("fold")
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


def _stop(days: Sequence[date], row: FoldRow) -> int:
    """How many of the days a row may use.

    Raises:
        FoldError: trading goes on after the last of them before the row ends: its test block would be cut short.
    """
    if row.end is None:
        return len(days)
    last = previous_trading_day(row.end + timedelta(days=1))
    if days[-1] < last:
        raise FoldError(
            f"the test block of fold {row.name} ends on {last}, the days at hand on {days[-1]}: take an earlier last "
            "year, or build a panel that reaches it"
        )
    return bisect_right(days, row.end)
