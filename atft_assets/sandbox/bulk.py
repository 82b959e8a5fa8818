"""Whole months and days as files: `/bulk/list`, `/bulk/get`, and the signed addresses behind them.

A file is what the endpoint itself would answer for each of its days, so an endpoint that the sandbox comes to serve has
its files by itself. They are gzip CSV in UTF-8 with a byte order mark; a cell is empty where the API has null or "", a
nested object is a dict in single quotes, and no server-adjusted price is among the columns.

A month is one file from the first day of the next month on, rewritten every morning until the tenth with what has come
out since; until then the daily files of the month stand beside it. Months that only larger plans reach have the plan in
their key. An address is good for five minutes, needs no key, and serves ranges.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import parse_qs, quote, unquote, urlsplit

import polars as pl

from atft_assets import calendar
from atft_assets.sandbox.endpoints import ENDPOINTS, Query, Refusal
from atft_assets.sandbox.faults import Fault
from atft_assets.sandbox.limits import NOT_IN_PLAN, includes
from atft_assets.sandbox.wire import RAW, value_of
from atft_assets.settings import HISTORY_YEARS, Plan, plan_window, years_before

PATHS = ("/bulk/list", "/bulk/get")
FILES = "/bulk-files/"  # where files lie; outside the API, as a bucket of S3 is
FAULT_PATH = "/bulk/file"  # by which rules of faults name a download
SECONDS = 300.0  # that an address is good for

WRITTEN_AT = time(6, 0)  # each morning
LAST_WRITTEN = 10  # day of the next month

NEED_ENDPOINT_OR_DATE = "This API requires at least 1 parameter as follows; endpoint, date"
NEED_KEY = "This API requires at least 1 parameter as follows; key, endpoint and date"
EXCLUSIVE = "'endpoint' and 'date' cannot be given together."
NO_DATA_SET = "'endpoint' is not available in bulk."
NO_FILE = "The specified file does not exist."
BAD_WHEN = "must be YYYY-MM-DD, YYYYMMDD, YYYY-MM or YYYYMM."

_ADJUSTED = re.compile(r"[MA]?Adj(O|H|L|C|Vo)")


@dataclass(frozen=True)
class DataSet:
    """How an endpoint is asked for one day.

    Attributes:
        by: the parameter that takes the day; empty: `from` and `to`.
        dated: the field of a record that holds the day.
        one_file: all of it in one file without a date in its name.
    """

    by: str = "date"
    dated: str = "Date"
    one_file: bool = False


# every data set that the service has in files; those are listed here that the sandbox serves (`ENDPOINTS`)
DATA_SETS: Mapping[str, DataSet] = {
    "/equities/master": DataSet(),
    "/equities/bars/daily": DataSet(),
    "/equities/bars/minute": DataSet(),
    "/equities/investor-types": DataSet("", "PubDate"),
    "/equities/valuation": DataSet(),
    "/fins/summary": DataSet(dated="DiscDate"),
    "/fins/details": DataSet(dated="DiscDate"),
    "/fins/dividend": DataSet(dated="PubDate"),
    "/fins/earnings-date": DataSet(dated="PubDate"),
    "/markets/short-ratio": DataSet(),
    "/markets/short-sale-report": DataSet("disc_date", "DiscDate"),
    "/markets/margin-interest": DataSet(),
    "/markets/margin-alert": DataSet(dated="PubDate"),
    "/markets/breakdown": DataSet(),
    "/markets/calendar": DataSet("", one_file=True),
    "/indices/bars/daily": DataSet(),
    "/indices/bars/daily/topix": DataSet(""),
    "/derivatives/bars/daily/futures": DataSet(),
    "/derivatives/bars/daily/options": DataSet(),
    "/derivatives/bars/daily/options/225": DataSet(),
}


@dataclass(frozen=True)
class File:
    """A file that is there at an instant: its key, its days, and when it was written."""

    path: str
    plan: Plan
    key: str
    first: date
    last: date
    modified: datetime


@dataclass(frozen=True)
class Grant:
    """What an address gives, until when."""

    file: File
    until: float


class Shelf:
    """The files of a server.

    Args:
        rows: what an endpoint answers to a query.
        span: first and last day of the market.
        clock: seconds, by which addresses go out of date.
    """

    def __init__(
        self, rows: Callable[[Query], pl.DataFrame], span: tuple[date, date], clock: Callable[[], float]
    ) -> None:
        self._rows, (self._start, self._end), self._clock = rows, span, clock
        self._lock = threading.Lock()
        self._grants: dict[str, Grant] = {}
        self._made: dict[File, bytes] = {}
        self._changed: datetime | None = None

    def change(self, now: datetime) -> None:
        """Data of the past have changed: files are written again."""
        with self._lock:
            self._made.clear()
            self._changed = now

    def answer(self, query: Query, struck: Iterable[Fault], root: str) -> bytes:
        """The JSON of `/bulk/list` or `/bulk/get`.

        Args:
            root: address of the server, without a path.

        Raises:
            Refusal: parameters, plan, or no such file.
        """
        if query.path == "/bulk/list":
            wrong = any(rule.kind == "wrong_size" for rule in struck)
            return json.dumps({"data": [self._listed(file, wrong) for file in self._asked(query)]}).encode()
        file = self._one(query)
        signature = secrets.token_hex(32)
        with self._lock:
            self._grants[signature] = Grant(file, self._clock() + SECONDS)
        signed = f"X-Amz-Expires={SECONDS:.0f}&X-Amz-Credential=sandbox&X-Amz-Signature={signature}"
        return json.dumps({"url": f"{root}{FILES}{quote(file.key)}?{signed}"}).encode()

    def _listed(self, file: File, wrong: bool) -> dict[str, object]:
        modified = f"{file.modified.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        return {"Key": file.key, "LastModified": modified, "Size": len(self._data(file)) + (7 if wrong else 0)}

    def _asked(self, query: Query) -> list[File]:
        endpoint, when = query.params.get("endpoint"), query.params.get("date")
        if endpoint and when:
            raise Refusal(400, EXCLUSIVE)
        if endpoint:
            first, _ = _days(query, "from", (date.min, date.max))
            _, last = _days(query, "to", (date.min, date.max))
            if first > last:
                raise Refusal(400, "'from' must be older than 'to'")
            return [file for file in self._files(query, endpoint) if first <= file.last and file.first <= last]
        if not when:
            raise Refusal(400, NEED_ENDPOINT_OR_DATE)
        entitled = [path for path in DATA_SETS if path in ENDPOINTS and _entitled(query.plan, path)]
        return [file for path in entitled for file in self._files(query, path) if _dated(file, query)]

    def _one(self, query: Query) -> File:
        key, endpoint, when = (query.params.get(name) for name in ("key", "endpoint", "date"))
        if key:
            named = [path for path in DATA_SETS if path in ENDPOINTS and key.startswith(f"{path[1:]}/")]
            path = max(named, key=len, default="")  # `options/225` lies below `options`
            found = [file for file in self._files(query, path) if file.key == key] if path else []
        elif endpoint and when:
            found = [file for file in self._files(query, endpoint) if _dated(file, query)]
        else:
            raise Refusal(400, NEED_KEY)
        if not found:
            raise Refusal(400, NO_FILE)
        return found[0]

    def _files(self, query: Query, path: str) -> list[File]:
        """The files of a data set that are there, monthly ones first."""
        if path not in DATA_SETS or path not in ENDPOINTS:
            raise Refusal(400, NO_DATA_SET)
        if not _entitled(query.plan, path):
            raise Refusal(403, NOT_IN_PLAN)
        return [*self._monthly(query, path), *self._live(query, path)]

    def _monthly(self, query: Query, path: str) -> Iterator[File]:
        now, name = query.now, path[1:].replace("/", "_")
        if DATA_SETS[path].one_file:
            written = datetime.combine(_morning(now), WRITTEN_AT, calendar.TOKYO)
            yield File(path, query.plan, f"{path[1:]}/{name}.csv.gz", date.min, date.max, written)
            return
        edge, _ = plan_window(query.plan, query.today)
        newest = calendar.month_key(min(self._end, now.date()))
        for month in calendar.months_between(calendar.month_key(max(self._start, edge)), newest):
            after = calendar.first_of_month(calendar.shift_month(month, 1))
            if _morning(now) < after:
                continue
            written = datetime.combine(min(_morning(now), after.replace(day=LAST_WRITTEN)), WRITTEN_AT, calendar.TOKYO)
            first, last = calendar.first_of_month(month), after - timedelta(days=1)
            folder = f"{path[1:]}/{_plan_folder(last, query.today)}historical/{month[:4]}"
            key = f"{folder}/{name}_{month.replace('-', '')}.csv.gz"
            yield File(path, query.plan, key, first, last, max(written, self._changed or written))

    def _live(self, query: Query, path: str) -> Iterator[File]:
        now, name = query.now, path[1:].replace("/", "_")
        if DATA_SETS[path].one_file:
            return
        month = calendar.month_key(now.date() if now.day > LAST_WRITTEN else now.date() - timedelta(days=now.day))
        first, last = max(self._start, calendar.first_of_month(month)), min(self._end, now.date())
        for day in calendar.trading_days(first, last):
            written = datetime.combine(day + timedelta(days=1), WRITTEN_AT, calendar.TOKYO)
            if written <= now:
                key = f"{path[1:]}/live/{name}_{day:%Y%m%d}.csv.gz"
                yield File(path, query.plan, key, day, day, max(written, self._changed or written))

    # -- what is in a file --------------------------------------------------------------------------------------------

    def _data(self, file: File) -> bytes:
        with self._lock:
            if file not in self._made:
                days = [frame for frame in self._frames(file) if frame.width]
                self._made[file] = csv_file(pl.concat(days, how="diagonal_relaxed") if days else pl.DataFrame())
            return self._made[file]

    def _frames(self, file: File) -> Iterator[pl.DataFrame]:
        """What the endpoint answered for each day when the file was written."""
        asked = DATA_SETS[file.path]
        if asked.one_file:
            yield self._rows(Query(file.path, file.plan, file.modified, {}))
            return
        edge, _ = plan_window(file.plan, file.modified.date())
        days = [file.first + timedelta(days=n) for n in range((file.last - file.first).days + 1)]
        if not asked.by:
            span = {"from": str(max(file.first, edge)), "to": str(file.last)}
            yield self._of_days(file, span, days)
            return
        for day in days:
            if day >= edge:
                yield self._of_days(file, {asked.by: str(day)}, [day])

    def _of_days(self, file: File, params: Mapping[str, str], days: list[date]) -> pl.DataFrame:
        frame = self._rows(Query(file.path, file.plan, file.modified, params))
        dated = DATA_SETS[file.path].dated  # a closed day's master is the next day's
        return frame.filter(pl.col(dated).is_in([str(day) for day in days])) if dated in frame.columns else frame

    # -- addresses ----------------------------------------------------------------------------------------------------

    def download(
        self, target: str, headers: Mapping[str, str], strike: Callable[[str, Mapping[str, str]], list[Fault]]
    ) -> tuple[int, dict[str, str], bytes, list[Fault]]:
        """Status, headers, body and faults of a GET on an address.

        Args:
            headers: of the request, names in small letters.
            strike: gives the faults of a request.
        """
        url = urlsplit(target)
        key = unquote(url.path.removeprefix(FILES))
        signature = parse_qs(url.query).get("X-Amz-Signature", [""])[0]
        struck = strike(FAULT_PATH, {"key": key})
        kinds = {rule.kind for rule in struck}
        grant = self._grants.get(signature)
        if grant is None or grant.file.key != key:
            return (403, *_xml("SignatureDoesNotMatch", "The request signature does not match."), struck)
        if "expired" in kinds or self._clock() >= grant.until:
            return (403, *_xml("AccessDenied", "Request has expired"), struck)
        if status := next((int(kind) for kind in ("500", "503", "429") if kind in kinds), 0):
            return (status, *_xml("SlowDown", "Please reduce your request rate."), struck)
        data = self._data(grant.file)
        tag = _tag(data)
        if "corrupt" in kinds:
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :]
        if "truncated" in kinds:
            data = data[: len(data) // 2]
        return (*_part(data, tag, headers), struck)


def _tag(data: bytes) -> str:
    """The entity tag of a file, as S3 makes it."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _part(data: bytes, tag: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    """The whole file, or the range that is asked for of it as long as it is the same file."""
    about = {"Content-Type": "application/gzip", "ETag": tag, "Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if asked is None or headers.get("if-range", tag) != tag:
        return 200, about, data
    start = int(asked[1])
    if start >= len(data):
        return 416, about | {"Content-Range": f"bytes */{len(data)}"}, b""
    return 206, about | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]


def _xml(code: str, message: str) -> tuple[dict[str, str], bytes]:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return {"Content-Type": "application/xml"}, body.encode()


def _entitled(plan: Plan, path: str) -> bool:
    """The plan has the data set, and files of it: of the calendar every plan has."""
    return includes(plan, path) and (plan is not Plan.FREE or DATA_SETS[path].one_file)


def _plan_folder(last: date, today: date) -> str:
    """The plan in the key of a month that the smallest plan with files does not reach."""
    reaching = (plan for plan in (Plan.LIGHT, Plan.STANDARD) if years_before(today, HISTORY_YEARS[plan]) <= last)
    plan = next(reaching, Plan.PREMIUM)
    return "" if plan is Plan.LIGHT else f"{plan}/"


def _morning(now: datetime) -> date:
    """The last day whose files have been written."""
    return now.date() if now.time() >= WRITTEN_AT else now.date() - timedelta(days=1)


def _dated(file: File, query: Query) -> bool:
    """Whether a file is that of the day or month that `date` names."""
    return (file.first, file.last) == _days(query, "date", (date.max, date.max))


def _days(query: Query, name: str, absent: tuple[date, date]) -> tuple[date, date]:
    """First and last day that a parameter names: a day, or a month."""
    text = query.params.get(name)
    if not text:
        return absent
    digits = text.replace("-", "")
    if not re.fullmatch(r"\d{4}-?\d{2}(-?\d{2})?", text) or not 1 <= int(digits[4:6]) <= 12:
        raise Refusal(400, f"'{name}' {BAD_WHEN}")
    if len(digits) == 6:
        month = f"{digits[:4]}-{digits[4:]}"
        return (
            calendar.first_of_month(month),
            calendar.first_of_month(calendar.shift_month(month, 1)) - timedelta(days=1),
        )
    try:
        day = date.fromisoformat(digits)
    except ValueError:
        raise Refusal(400, f"'{name}' is not a valid date.") from None
    return day, day


def csv_file(frame: pl.DataFrame) -> bytes:
    """A frame as such a file."""
    frame = frame.select(_cells(frame[name]) for name in frame.columns if not _ADJUSTED.fullmatch(name))
    if any(kind.is_nested() or kind == pl.Object for kind in frame.dtypes):
        return packed(frame.columns, json.loads(frame.write_json()))
    text = io.BytesIO()
    frame.with_columns(pl.col(pl.String).replace("", None)).write_csv(text, include_bom=True)
    return gzip.compress(text.getvalue(), compresslevel=1, mtime=0)


def _cells(column: pl.Series) -> pl.Series:
    """A column as a file has it: what the wire holds as JSON (`wire.RAW`) as Python writes it."""
    if column.dtype != pl.String or not column.str.starts_with(RAW).any():
        return column
    texts = column.unique()
    values = [None if text is None else value_of(text) for text in texts]
    written = pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
    return column.replace_strict(texts, written, return_dtype=pl.String)


def packed(columns: list[str], records: Iterable[Mapping[str, object]]) -> bytes:
    """Records of the API as such a file: nested cells are dicts in single quotes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(["" if record.get(name) is None else record[name] for name in columns] for record in records)
    return gzip.compress(b"\xef\xbb\xbf" + text.getvalue().encode(), compresslevel=1, mtime=0)
