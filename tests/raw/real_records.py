"""Serves recorded J-Quants records from a folder of Parquet files in the wire format, and takes them in.

Not a test: such records are a subscriber's own and stand in no repository. `python -m tests.raw.real_records FOLDER`
starts a server on loopback, materializes each raw asset that a file is there for through the real client, and prints a
table of what was served, what was stored and what the contract says. A file is named after its asset and has the API's
field names; further columns of the collector are left out, fields that a collector lost are filled as the API would
send none.
"""

import argparse
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from atft_assets import calendar
from atft_assets.jquants.endpoint import Field
from atft_assets.jquants.endpoints import CALENDAR
from atft_assets.raw import SOURCES, Source
from atft_assets.raw.source import Released
from atft_assets.settings import Plan
from tests.jquants.scripted_server import Answer, Request, scripted

from .conftest import Lab

PAGE = 2_000
# rows that a collector took from elsewhere and that lack what every record of the API has
WHOLE: Mapping[str, pl.Expr] = {
    "margin_interest": pl.col("IssType").is_not_null(),
    "options_225": pl.col("Settle").is_not_null() | (pl.col("Date") < "2016-07-19"),
    "fins_summary": ~pl.col("Source").str.starts_with("api_v2_lossy"),
    "earnings_calendar": pl.col("Source").str.starts_with("api_v1"),
    "investor_types": pl.col("PubDate").is_not_null(),
    "short_sale_report": pl.col("ShrtPosShares").is_not_null(),
}
# what a collector lost of every record, with what is known of it: on which side of the threshold a position lies
FILLED: Mapping[str, Mapping[str, pl.Expr]] = {
    "short_sale_report": {
        "ShrtPosToSO": pl.when("Below005").then(0.004).otherwise(0.006),
        "ShrtPosUnits": pl.col("ShrtPosShares") / 100,
    }
}


class Records:
    """The records of one endpoint by the day by which they are asked for."""

    def __init__(self, source: Source, frame: pl.DataFrame, since: str = "2008-01-04"):
        self.source = replace(source, choose=self._recorded)
        kept = frame.filter(WHOLE[source.name]) if source.name in WHOLE else frame
        self.skipped = frame.height - kept.height
        filled = FILLED.get(source.name, {})
        kept = kept.with_columns(pl.coalesce(name, value).alias(name) for name, value in filled.items())
        day_field = source.day_field or source.endpoint.dated_by
        self.by_day: dict[str, list[dict[str, Any]]] = {}
        for number, row in enumerate(kept.iter_rows(named=True)):
            record = {field.name: _wire(field, row, number) for field in source.endpoint.fields if _sent(field, row)}
            if str(record[day_field]) >= since:
                self.by_day.setdefault(str(record[day_field]), []).append(record)
        self.rows = sum(map(len, self.by_day.values()))

    def _recorded(self, days: Sequence[date], _: Released) -> list[date]:
        """The days of which there are records: a collector did not run on every one."""
        return [day for day in days if str(day) in self.by_day]

    def answer(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        if self.source.query in query:
            return self.by_day.get(query[self.source.query], [])
        first, last = query.get("from", ""), query.get("to", "9")
        days = [day for day in sorted(self.by_day) if first <= day <= last]
        return [
            record for day in days for record in self.by_day[day] if query.get("code") in (None, record.get("Code"))
        ]


def _sent(field: Field, row: Mapping[str, Any]) -> bool:
    return not field.optional or row.get(field.name) is not None


def _wire(field: Field, row: Mapping[str, Any], number: int) -> Any:
    """A value as the API would send it."""
    value = row.get(field.name)
    if value is None:
        if field.name == "DiscNo":
            return f"{number:014}"
        if field.name == "DiscTime":
            return "15:30:00"
        if field.name == "CurPerType":
            return ""
        if field.name == "DocType":
            return "unknown"
        return {"S": "", "NS": "-" if field.name.endswith("Chg") else "", "N": 0.0}.get(field.kind)
    if field.kind == "N" and isinstance(value, str):
        return float(value)
    return str(value) if isinstance(value, date) else value


def sources(folder: Path) -> dict[str, Path]:
    """The assets for which a file is there, `listed_info` under the name of its endpoint too."""
    names = {source.name: source.name for source in SOURCES} | {"listed_info": "master", "fins_summary": "fins_summary"}
    return {name: folder / f"{file}.parquet" for name, file in names.items() if (folder / f"{file}.parquet").exists()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="Parquet files named after the raw assets")
    parser.add_argument("--only", nargs="*", default=[], help="these assets alone")
    parser.add_argument("--since", default="2008-01-04", help="records from this day on")
    parser.add_argument("--into", type=Path, help="a data root to keep what was taken in; default: none is kept")
    arguments = parser.parse_args()
    by_name = {source.name: source for source in SOURCES}
    logging.disable(logging.CRITICAL)  # the table says it
    served: dict[str, Records] = {}
    for name, file in sources(arguments.folder).items():
        if not arguments.only or name in arguments.only:
            served[by_name[name].endpoint.path] = Records(by_name[name], pl.read_parquet(file), arguments.since)

    def script(request: Request, _: int) -> Answer:
        if request.path == CALENDAR.path:
            return Answer({"data": []})
        records = served[request.path].answer(request.query) if request.path in served else []
        start = int(request.query.get("pagination_key", "0"))
        more = {"pagination_key": str(start + PAGE)} if start + PAGE < len(records) else {}
        return Answer({"data": records[start : start + PAGE], **more})

    print(f"{'asset':18} {'served':>8} {'skipped':>8} {'stored':>8} {'months':>6}  contract")
    failed = 0
    with tempfile.TemporaryDirectory() as passing, scripted(script) as server:
        root = arguments.into or Path(passing)
        for path, records in served.items():
            outcome = _taken_in(records, server, root)
            failed += outcome[-1] != "passed"
            stored, months, verdict = outcome
            print(f"{records.source.name:18} {records.rows:8,} {records.skipped:8,} {stored:8,} {months:6}  {verdict}")
            assert path
    return 1 if failed else 0


def _taken_in(records: Records, server: Any, root: Path) -> tuple[int, int, str]:
    """Rows and months stored, and what the contract said of the first month that failed."""
    source = records.source
    today = calendar.trading_days(date(2026, 11, 1), date(2026, 11, 20))[-1]
    lab = Lab(
        None, server, root, now=f"{today}T12:00", plan=Plan.PREMIUM, start=date(2008, 1, 4), end=today,  # type: ignore[arg-type]
        sources=(source,),
    )  # fmt: skip
    keys = Counter(day[:7] for day in records.by_day if day >= "2008-01-04")
    whole = 0
    said = "passed"
    for key in sorted(keys):
        result = lab.run(source.name, key)
        if result.success:
            whole += 1
        elif said == "passed":
            checks = result.get_asset_check_evaluations()
            rows = checks[0].metadata["failures"].value.records if checks else []
            said = f"{key}: " + (
                "; ".join(
                    f"{row.data['column']}: {row.data['rule']} ({row.data['failing_rows']}, {row.data['sample'][:90]})"
                    for row in rows[:3]
                )
                or _text(result)
            )
    stored = lab.read(source.name).height if whole else 0
    return stored, whole, said


def _text(result: Any) -> str:
    for event in result.all_node_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            return str((data.user_failure_data.description if data.user_failure_data else "") or data.error.message)[
                :300
            ]
    return "?"


if __name__ == "__main__":
    sys.exit(main())
