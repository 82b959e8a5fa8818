"""A tiny J-Quants for tests: a dozen invented names, every value a hash of what it belongs to.

It pages, keeps the publication clock, and can be told to misbehave: faults before an answer, edits of its records,
plan gates, missing days. It has no files of history.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from zlib import crc32

from atft_assets import calendar
from tests.jquants.scripted_server import Answer, Request

CODES = ["13010", "130A0", "13320", "13330", "14140", "17190", "25935", "41850", "67580", "72030", "86970", "99840"]
SECTORS = [f"{number:04X}" for number in range(0x40, 0x61)]
DERIVATIVES_ONLY = date(2024, 1, 8)

Record = dict[str, Any]


def share(*parts: object) -> float:
    """A number in [0, 1) that follows from the parts."""
    return crc32("/".join(map(str, parts)).encode()) / 2**32


@dataclass
class TinyExchange:
    """Answers requests as V2 does.

    Attributes:
        now: the server's present; None: everything is out.
        fault: gets (request, number) before an answer is made; what it returns is answered instead.
        edit: gets (path, record) of every record; what it returns is served, None drops it.
        gated: paths that the plan does not include.
        closed: days that the server, other than our calendar, holds for closed.
        page_rows: records of a page.
        extra: further endpoints: path -> records of a query.
    """

    now: datetime | None = None
    fault: Callable[[Request, int], Answer | None] | None = None
    edit: Callable[[str, Record], Record | None] | None = None
    gated: set[str] = field(default_factory=set)
    closed: set[date] = field(default_factory=set)
    page_rows: int = 5
    extra: dict[str, Callable[[dict[str, str]], list[Record]]] = field(default_factory=dict)

    def __call__(self, request: Request, number: int) -> Answer:
        if request.path.startswith("/bulk/"):
            return Answer({"message": "The requested endpoint does not exist."}, 403)
        if self.fault and (answer := self.fault(request, number)):
            return answer
        if request.path in self.gated:
            return Answer({"message": "This API is not available on your subscription."}, 403)
        makers = {
            "/equities/bars/daily": self.bars,
            "/equities/master": self.master,
            "/indices/bars/daily/topix": self.topix,
            "/indices/bars/daily": self.indices,
            "/markets/calendar": self.calendar,
            **self.extra,
        }
        query = dict(request.query)
        offset = int(query.pop("pagination_key", "0"))
        records = makers[request.path](query)
        if self.edit:
            edited = (self.edit(request.path, json.loads(json.dumps(record))) for record in records)
            records = [record for record in edited if record is not None]
        end = offset + self.page_rows
        more = {"pagination_key": str(end)} if end < len(records) else {}
        return Answer({"data": records[offset:end], **more})

    def is_out(self, day: date, at: time, day_before: bool = False) -> bool:
        if self.now is None:
            return True
        base = calendar.previous_trading_day(day) if day_before else day
        return datetime.combine(base, at, calendar.TOKYO) <= self.now

    def days(self, query: dict[str, str]) -> list[date]:
        """Trading days that a query asks for and that are out."""
        first = date.fromisoformat(query.get("date") or query.get("from", "2008-05-07"))
        last = date.fromisoformat(query.get("date") or query.get("to", "2026-12-31"))
        return [d for d in calendar.trading_days(first, last) if self.is_out(d, time(16, 30)) and d not in self.closed]

    def bars(self, query: dict[str, str]) -> list[Record]:
        return [bar(day, code) for day in self.days(query) for code in CODES if query.get("code", code) == code]

    def topix(self, query: dict[str, str]) -> list[Record]:
        return [{"Date": str(day), **prices("topix", day)} for day in self.days(query)]

    def indices(self, query: dict[str, str]) -> list[Record]:
        codes = ["0000", *SECTORS, "0080"]
        return [
            {"Date": str(day), "Code": code, **prices(code, day)}
            for day in self.days(query) for code in codes if query.get("code", code) == code
        ]  # fmt: skip

    def master(self, query: dict[str, str]) -> list[Record]:
        asked = date.fromisoformat(query["date"])
        day = asked if calendar.is_trading_day(asked) else calendar.next_trading_day(asked)
        if not self.is_out(day, time(17, 30), day_before=True):
            return []
        return [issue(day, code) for code in CODES]

    def calendar(self, query: dict[str, str]) -> list[Record]:
        first, last = date.fromisoformat(query["from"]), date.fromisoformat(query["to"])
        every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        return [{"Date": str(day), "HolDiv": self.division(day)} for day in every]

    def division(self, day: date) -> str:
        if day in self.closed:
            return "0"
        if calendar.is_trading_day(day):
            return "1"
        return "3" if day == DERIVATIVES_ONLY else "0"


def prices(name: str, day: date) -> Record:
    base = 1000 + 500 * share(name)
    o, c = (round(base * (0.95 + 0.1 * share(name, day, which)), 1) for which in "oc")
    return {"O": o, "H": max(o, c) + 5.0, "L": min(o, c) - 5.0, "C": c}


def bar(day: date, code: str) -> Record:
    """A daily bar; one name in twenty does not trade, and nobody does on the day of the system halt."""
    traded = share(code, day, "traded") > 0.05 and day not in calendar.SYSTEM_HALTS
    values = {**prices(code, day), "Vo": float(round(1e6 * share(code, day, "vo"))), "Va": 1e9 * share(code, day, "va")}
    adjusted = {f"Adj{name}": values[name] for name in ("O", "H", "L", "C", "Vo")}
    if not traded:
        values, adjusted = dict.fromkeys(values), dict.fromkeys(adjusted)
    limits = {"UL": "0", "LL": "0"}
    return {"Date": str(day), "Code": code, **values, **limits, "AdjFactor": 1.0, **adjusted}


def issue(day: date, code: str) -> Record:
    return {
        "Date": str(day), "Code": code, "CoName": f"会社{code}", "CoNameEn": f"Company {code}",
        "S17": "1", "S17Nm": "食品", "S33": "3050", "S33Nm": "食料品", "ScaleCat": "TOPIX Small 1",
        "Mkt": "0111", "MktNm": "プライム", "Mrgn": "2", "MrgnNm": "貸借", "ProdCat": "011",
    }  # fmt: skip
