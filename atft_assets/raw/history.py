"""Months of a table by file instead of by day: which ones, and what becomes of a file that is of no use.

A file is a faster way to the same rows, never another source. A month comes from its file where the plan has files, the
month is over, and the file was written when the last of the month's days was wholly out. Whatever is wrong with a file
(it does not come, is damaged, holds other days, is no table of the endpoint), the month comes by day, and the log says
why. The newest days of a month that is there are asked for by day as well: corrections come there first.
"""

import contextlib
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import BinaryIO, Protocol

import polars as pl

from atft_assets import calendar
from atft_assets.contracts import ContractViolation
from atft_assets.failures import Refusal
from atft_assets.jquants.bulk import SMALLEST_PLAN, BulkFile, DiskFault, Downloads, monthly_files, served
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.errors import JQuantsError, TransientError
from atft_assets.jquants.jobs import in_order
from atft_assets.raw.cells import UnfitFile, blocks, cells, typed_cells
from atft_assets.raw.source import Released, Source

AUTO, ALWAYS, NEVER = "auto", "always", "never"
FEWEST_DAYS = 2  # of a month, below which its file is not worth its two requests


class Log(Protocol):
    """Where lines go."""

    def info(self, text: str, /) -> object:
        """Tell what is done."""

    def warning(self, text: str, /) -> object:
        """Tell a person."""


class UnknownChoice(Refusal):
    """The run's config says something else than when to use files."""


@dataclass
class History:
    """The files of one run, in the order of its months. A context: leaving it ends what is in flight.

    Args:
        choice: `auto`; `always`, for one day as well and for tables that a range gives at once; `never`.
        lacking: days to ask for by month, without those that are asked for only because corrections may have come.
        wanted: all days that the table holds of each of these months.
    """

    source: Source
    client: JQuantsClient
    released: Released
    log: Log
    choice: str
    lacking: Mapping[str, Sequence[date]]
    wanted: Mapping[str, Sequence[date]]
    files: dict[str, BulkFile] = field(default_factory=dict)
    used: int = 0
    _fetched: Generator[tuple[BulkFile, BinaryIO | str]] | None = None
    _failed: threading.Event = field(default_factory=threading.Event, repr=False)

    def __enter__(self) -> "History":
        self._downloads = Downloads(self.client)
        if months := self._worth_it():
            self._list(months)
        if self.files:
            self.log.info(
                f"{self.source.name}: {len(self.files)} months come by file "
                f"({sum(file.size for file in self.files.values()) / 1e6:.1f} MB)"
            )
            self._fetched = in_order(
                self.files.values(), self._one, self.client.threads, self.client.cut, self._say_how_far
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._fetched is not None:
            self._fetched.close()
            self._downloads.tidy()

    def _worth_it(self) -> list[str]:
        """Months for which a file would be taken."""
        if self.choice not in (AUTO, ALWAYS, NEVER):
            raise UnknownChoice(f"files is {self.choice!r}: use {AUTO}, {ALWAYS} or {NEVER}")
        source, name = self.source, self.source.name
        if self.choice == NEVER or not source.endpoint.in_bulk or (source.at_once and self.choice == AUTO):
            return []
        fewest = 1 if self.choice == ALWAYS else FEWEST_DAYS
        today = self.released.now.date()
        months = [
            key
            for key, days in self.lacking.items()
            if len(days) >= fewest
            and calendar.first_of_month(calendar.shift_month(key, 1)) <= today
            and all(map(self.released.complete, self.wanted[key]))
        ]
        if months and not served(self.client.plan):
            self.log.info(
                f"{name}: {len(months)} months could come by file, but files need the plan {SMALLEST_PLAN} and "
                f"JQUANTS_PLAN is {self.client.plan}: they come by day"
            )
            return []
        return months

    def _list(self, months: Sequence[str]) -> None:
        name = self.source.name
        try:
            there = monthly_files(self.client, self.source.endpoint, months)
            if there:
                self._downloads.prepare()
        except JQuantsError as error:
            self.log.warning(f"{name}: files of history cannot be had, months come by day: {error}")
            return
        except DiskFault as error:
            self.log.warning(f"{name}: months come by day: {error}")
            return
        old = []
        for month in months:
            complete = max(map(self.source.endpoint.rule.complete, self.wanted[month]))
            if month in there and there[month].modified >= complete:
                self.files[month] = there[month]
            elif month in there:
                old.append(month)
        if old:
            self.log.info(f"{name}: the files of {', '.join(old)} were written before the months were out: by day")
        if none := [month for month in months if month not in there]:
            self.log.info(f"{name}: there is no file of {_named(none)}: by day")

    def _one(self, file: BulkFile, cancel: threading.Event) -> tuple[BulkFile, BinaryIO | str]:
        """A file, open, or why there is none. After a fault that outlived every try the other files are not tried."""
        if self._failed.is_set():
            return file, "the files before it did not come"
        try:
            return file, self._downloads.get(file, cancel)
        except (JQuantsError, DiskFault) as error:
            if isinstance(error, TransientError | DiskFault):
                self._failed.set()
            return file, str(error)

    def _say_how_far(self) -> None:
        whole = sum(file.size for file in self.files.values())
        self.log.info(
            f"{self.source.name}: {self._downloads.bytes / 1e6:.1f} of {whole / 1e6:.1f} MB of files have come"
        )

    def month(self, key: str) -> pl.DataFrame | None:
        """The lacking days of a month from its file; None where it comes by day. Months are asked for in their order.

        Rows are typed as those of the API. Days without a row have none in the file.
        """
        if key not in self.files or self._fetched is None:
            return None
        file, come = next(self._fetched)
        said = come if isinstance(come, str) else ""
        frame = None
        if not isinstance(come, str):
            with come:
                try:
                    frame = self._read(file, come)
                except (UnfitFile, ContractViolation) as error:
                    said = str(error)
        if frame is None:
            self.done(key)
            self.log.warning(f"{self.source.name} {key}: its file is of no use, it comes by day: {said}")
            return None
        self.used += 1
        return frame

    def done(self, key: str) -> None:
        """The rows of a month are kept, or its file is of no use: the file goes."""
        if key in self.files:
            with contextlib.suppress(OSError):
                self._downloads.forget(self.files[key])

    def _read(self, file: BulkFile, come: BinaryIO) -> pl.DataFrame:
        source, asked = self.source, [str(day) for day in self.lacking[file.month]]
        day_field = source.day_field or source.endpoint.dated_by
        parts = []
        for block in blocks(come, file.size):
            frame = cells(block)
            if day_field not in frame.columns:
                raise UnfitFile(f"it has no column {day_field}")
            days = pl.col(day_field)
            # another month's days: its rows are laid down by another date, and those of this month lie elsewhere too
            strange = frame.filter(~days.str.starts_with(f"{file.month}-").fill_null(False))
            if strange.height:
                raise UnfitFile(
                    f"{strange.height} rows have {day_field} {strange[day_field][0]}, which is not of its month"
                )
            wanted = frame.filter(days.is_in(asked))
            parts.append(typed_cells(source.endpoint, wanted, source.contract, file.month, source.left_out))
        return pl.concat(parts, how="diagonal_relaxed").drop(source.left_out, strict=False)


def _named(months: Sequence[str]) -> str:
    return ", ".join(months[:3]) + (f" … ({len(months)} months)" if len(months) > 3 else "")
