"""Serves recorded J-Quants records from a folder of Parquet files in the wire format, and takes them in.

Not a test: such records are a subscriber's own and stand in no repository. `python -m tests.raw.real_records FOLDER`
starts a server on loopback, materializes each raw asset that a file is there for through the real client, and prints a
table: rows of the file that are no records, records on days for which nobody asks, records that were asked for, stored
and refused, and what the contract says of the first month that it refuses. Which files, and what becomes of them, says
`real_files`; further columns of a collector are left out.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from atft_assets import calendar
from atft_assets.jquants.endpoint import Field
from atft_assets.jquants.endpoints import CALENDAR
from atft_assets.raw import SOURCES
from atft_assets.raw.source import Released
from atft_assets.settings import Plan
from tests.jquants.scripted_server import Answer, Request, ScriptedServer, scripted

from .conftest import Lab
from .real_files import FILES, File

PAGE = 2_000
FIRST = "2008-01-04"
BY_NAME = {source.name: source for source in SOURCES}


class Records:
    """The records of one file by the day by which they are asked for."""

    def __init__(self, file: File, frame: pl.DataFrame, since: str = FIRST):
        source = BY_NAME[file.asset]
        self.file, self.own = file, source
        self.source = replace(source, choose=self._recorded)
        kept = file.records(frame)
        self.left_out = frame.height - kept.height
        day_field = source.day_field or source.endpoint.dated_by
        self.by_day: dict[str, list[dict[str, Any]]] = {}
        for row in kept.iter_rows(named=True):
            record = {one.name: _wire(one, row) for one in source.endpoint.fields if _sent(one, row)}
            day = str(record[day_field])
            if not day or day >= since:
                self.by_day.setdefault(day, []).append(record)
        self.asked: set[str] = set()

    def _recorded(self, days: Sequence[date], released: Released) -> list[date]:
        """The days of which there are records, of those that the asset asks for: a collector did not run on each."""
        chosen = days if self.file.every_day or not self.own.choose else self.own.choose(days, released)
        there = [day for day in chosen if str(day) in self.by_day]
        self.asked |= set(map(str, there))
        return there

    def rows(self, *, asked: bool) -> int:
        """Records of days that were asked for, or were not."""
        return sum(len(records) for day, records in self.by_day.items() if (day in self.asked) is asked)

    def answer(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        if self.source.query in query:
            return self.by_day.get(query[self.source.query], [])
        first, last = query.get("from", ""), query.get("to", "9")
        return [row for day in sorted(self.by_day) if first <= day <= last for row in self.by_day[day]]


def _sent(one: Field, row: Mapping[str, Any]) -> bool:
    return not one.optional or row.get(one.name) is not None


def _wire(one: Field, row: Mapping[str, Any]) -> Any:
    """A value as the API would send it."""
    value = row.get(one.name)
    if value is None:
        return {"S": "", "NS": "-" if one.name.endswith("Chg") else "", "N": 0.0}.get(one.kind)
    if one.kind in ("N", "NS") and isinstance(value, str) and value not in ("", "-", "*"):
        return float(value)
    return str(value) if isinstance(value, date) else value


@dataclass(frozen=True)
class Outcome:
    """What was stored, and what the contract said of the first month that it refused."""

    stored: int
    months: int
    refused_months: int
    said: str


def taken_in(records: Records, server: ScriptedServer, root: Path) -> Outcome:
    """Every month of a file's records through the real client into a data root of their own."""
    source = records.source
    today = calendar.trading_days(date(2026, 11, 1), date(2026, 11, 20))[-1]
    lab = Lab(
        None, server, root, now=f"{today}T12:00", plan=Plan.PREMIUM, start=date.fromisoformat(FIRST), end=today,  # type: ignore[arg-type]
        sources=(source,),
    )  # fmt: skip
    months, refused, said = sorted({day[:7] for day in records.by_day if day}), 0, ""
    for month in months:
        result = lab.run(source.name, month)
        if not result.success:
            refused, said = refused + 1, said or f"{month}: {_words(result)}"
    whole = len(months) - refused
    return Outcome(lab.read(source.name).height if whole else 0, whole, refused, said or "passed")


def _words(result: Any) -> str:
    """What was wrong with a month: rules of the contract, or the sentence of the failed step."""
    checks = result.get_asset_check_evaluations()
    rows = [one.data for one in checks[0].metadata["failures"].value.records] if checks else []
    if rows:
        return "; ".join(f"{r['column']}: {r['rule']} ({r['failing_rows']}, {r['sample'][:90]})" for r in rows[:3])
    for event in result.all_node_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            return str((data.user_failure_data.description if data.user_failure_data else "") or data.error.message)[
                :300
            ]
    return "?"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="Parquet files named as in real_files")
    parser.add_argument("--only", nargs="*", default=[], help="these files or assets alone")
    parser.add_argument("--since", default=FIRST, help="records from this day on")
    parser.add_argument("--into", type=Path, help="a folder to keep the data roots in; default: none is kept")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the table says it
    serving: list[Records] = []

    def script(request: Request, _: int) -> Answer:
        if request.path == CALENDAR.path:
            return Answer({"data": []})
        records = serving[-1].answer(request.query) if request.path == serving[-1].source.endpoint.path else []
        start = int(request.query.get("pagination_key", "0"))
        more = {"pagination_key": str(start + PAGE)} if start + PAGE < len(records) else {}
        return Answer({"data": records[start : start + PAGE], **more})

    head = ("no record", "not asked", "asked", "stored", "refused")
    print(f"{'asset':18} {'file':20} {'rows':>8}" + "".join(f" {one:>9}" for one in head) + "  months  contract")
    failed = 0
    with tempfile.TemporaryDirectory() as passing, scripted(script) as server:
        for number, file in enumerate(FILES):
            path = arguments.folder / f"{file.name}.parquet"
            if not path.exists() or (arguments.only and not {file.name, file.asset} & set(arguments.only)):
                continue
            frame = pl.read_parquet(path)
            serving.append(Records(file, frame, arguments.since))
            outcome = taken_in(serving[-1], server, (arguments.into or Path(passing)) / f"{number}_{file.name}")
            asked = serving[-1].rows(asked=True)
            counts = (serving[-1].left_out, serving[-1].rows(asked=False), asked, outcome.stored)
            failed += outcome.refused_months
            print(
                f"{file.asset:18} {file.name:20} {frame.height:8,}"
                + "".join(f" {count:9,}" for count in (*counts, asked - outcome.stored))
                + f"  {outcome.months:3}/{outcome.months + outcome.refused_months:<3} {outcome.said}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
