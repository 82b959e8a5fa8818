"""What a server may answer, and what must become of it: the rows of the attack on the API.

The market is small: some sixty names, two pages a day. January is published; the case is fetched with February, and
strikes on `DAY` unless it says otherwise. Answers that never end, come byte by byte or would fill the memory are tests
of the client alone (`tests/jquants`).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from tests.attack.hostile import (
    Move,
    Record,
    closed_early,
    each,
    echo,
    edit,
    first,
    first_half,
    flipped,
    garbage,
    half_open,
    half_without_length,
    literal,
    no_content,
    not_zipped,
    on,
    other_kind,
    page_of,
    put,
    records,
    redirect,
    scaled,
    status,
    yesterday,
    zipped,
)

BARS, MASTER, TOPIX = "/equities/bars/daily", "/equities/master", "/indices/bars/daily/topix"
CALENDAR, INDICES = "/markets/calendar", "/indices/bars/daily"
DAY, DAY_BEFORE, NEXT_DAY = "2022-02-09", "2022-02-08", "2022-02-10"
SNAPSHOT = "2022-02-07"  # the first trading day of a week: a day of the master


class Fate(StrEnum):
    """What must become of an answer."""

    REFUSED = "refused"  # one failed run, one alert, nothing changed
    PUBLISHED = "published"  # the bytes of an undisturbed run, and no alert
    KEPT = "kept"  # published; what the server added is kept beside the columns of an undisturbed run
    TOLD = "told"  # published, a warning that is told, and scores wait until a person has accepted it


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        group: transport, pages, values, fields, calendar, topix, master or sectors.
        table: the raw table that is fetched through the move.
        says: words of the sentence that a refused one must hold.
        seen_in_features: what is wrong shows only when the month is carried into the features.
    """

    name: str
    group: str
    move: Move
    fate: Fate
    table: str = "daily_quotes"
    says: str = ""
    seen_in_features: bool = False


def _bars(move: Move, day: str | None = DAY, times: int | None = None) -> Move:
    return on(BARS, move, day, times)


def _transport() -> Iterator[Case]:
    def refused(name: str, move: Move, says: str = "") -> Case:
        return Case(name, "transport", move, Fate.REFUSED, says=says)

    def passing(name: str, move: Move) -> Case:
        return Case(name, "transport", move, Fate.PUBLISHED)

    expired = "The incoming api key is invalid or expired."
    yield passing("HTML with status 200, once", _bars(page_of(200), None, 1))
    yield passing("500 once", _bars(status(500, "Unexpected error"), None, 1))
    yield passing("429 three times", _bars(status(429, "Too Many Requests"), None, 3))
    yield passing("another content type, good JSON", _bars(other_kind, None))
    yield refused("HTML with status 200, always", _bars(page_of(200), None), BARS)
    yield refused("HTML with status 503, always", _bars(page_of(503), None), "503")
    yield refused("502 always", _bars(status(502, "Bad Gateway"), None), "502")
    yield refused("429 for ever", _bars(status(429, "Too Many Requests"), None), "429")
    yield refused("401 for one day", _bars(status(401, "Unauthorized")), "401")
    yield refused("401 as HTML", _bars(page_of(401)), "401")
    yield refused("403, the key expires half way", _bars(status(403, expired)), "403")
    yield refused("403 of a firewall, HTML", _bars(page_of(403)), "403")
    yield refused("404 as HTML", _bars(page_of(404)), "404")
    yield refused("418", _bars(status(418, "I'm a teapot")), "418")
    yield refused("a redirect", _bars(redirect), "302")
    yield refused("204 without content", _bars(no_content), BARS)
    yield refused("200 with a message alone", _bars(status(200, "internal")), BARS)
    yield refused("gzip cut, honest length", _bars(zipped(first_half)), BARS)
    yield refused("gzip cut by the end of the connection", _bars(zipped(first_half, cut=True)), BARS)
    yield refused("a plain body that claims to be gzip", _bars(not_zipped), BARS)
    yield refused("gzip with a wrong checksum", _bars(zipped(flipped(lambda n: n - 6))), BARS)
    yield refused("gzip with a byte flipped", _bars(zipped(flipped(lambda n: n // 2))), BARS)
    yield refused("a body cut short", _bars(closed_early), BARS)
    yield refused("a body cut short, without a length", _bars(half_without_length), BARS)
    yield refused("no HTTP at all", _bars(garbage), BARS)
    yield refused("half open", _bars(half_open), BARS)
    yield refused("403 that shows the key", _bars(echo(403)), "403")


def _pages() -> Iterator[Case]:
    def case(name: str, move: Move, fate: Fate = Fate.REFUSED, day: str | None = DAY, says: str = "") -> Case:
        return Case(name, "pages", _bars(move, day), fate, says=says)

    def key(value: object) -> Move:
        return edit(lambda document: document | {"pagination_key": value})

    lost = edit(lambda document: {"data": document["data"]})
    yield case("the pagination key never changes", key("same"), says="pagination")
    yield case("the pagination key is a list", key(["a"]), says="pagination")
    yield case("the pagination key is an object", key({"a": 1}), says="pagination")
    yield case("the pagination key is a number", key(7), says="pagination")
    yield case("the pagination key is lost on one day", lost, says="code")
    yield case("the pagination key is lost on every day", lost, day=None, says="code")
    yield case("the last 30 % of each page are lost", records(lambda rows: rows[: int(0.7 * len(rows))]), says="code")
    yield case("a page holds its rows twice", records(lambda rows: rows * 2))
    yield case("one row twice", records(lambda rows: rows + rows[:1]))
    yield case("one key twice, other values", records(lambda rows: [*rows, scaled(lambda v: v * 1.01)(rows[0])]))
    yield case("rows in another order", records(lambda rows: rows[::-1]), Fate.PUBLISHED, day=None)


def _values() -> Iterator[Case]:
    def case(name: str, move: Move, fate: Fate = Fate.REFUSED, says: str = "") -> Case:
        return Case(name, "values", _bars(move), fate, says=says)

    def crossed(row: Record) -> Record:
        return row | {"H": row["L"], "L": row["H"]}

    def half_without_prices(rows: list[Record]) -> list[Record]:
        none = dict.fromkeys(("O", "H", "L", "C"))
        return [row | none if place % 2 == 0 else row for place, row in enumerate(rows)]

    def but_one_without_close(rows: list[Record]) -> list[Record]:
        return rows[:1] + [row | {"C": None} for row in rows[1:]]

    yield case("NaN", literal("NaN"))
    yield case("Infinity", literal("Infinity"))
    yield case("1e999", literal("1e999"))
    yield case("an integer of 400 digits", literal("1" + "0" * 400))
    yield case("an integer of 5,000 digits", literal("1" + "0" * 5000))
    yield case("a number as text", first(lambda row: row | {"C": str(row["C"])}), says="C")
    yield case("a number as bool", first(put(C=True)), says="C")
    yield case("a number as object", first(put(C={"v": 1})), says="C")
    yield case("a negative close", first(scaled(lambda v: -abs(v))), says="C")
    yield case("a close of zero", first(scaled(lambda v: 0)), says="greater_than(0)")
    yield case("the high below the low", first(crossed), says="H")
    yield case("a negative volume", first(put(Vo=-5)), says="Vo")
    yield case("AdjFactor 0", first(put(AdjFactor=0)), says="AdjFactor")
    yield case("AdjFactor null", first(put(AdjFactor=None)), says="AdjFactor")
    yield case("a flag that is 2", first(put(UL="2")), says="UL")
    yield case("prices of all names x 1000", each(scaled(lambda v: v * 1000)))
    yield case("prices of one name x 1000", first(scaled(lambda v: v * 1000)), Fate.TOLD)
    yield case("half of the names without prices, with volume", records(half_without_prices))
    yield case("all names but one without a close", records(but_one_without_close))
    yield case("yesterday's bars under today's date", yesterday(DAY_BEFORE))
    yield case("every price is 100", each(scaled(lambda v: 100.0)))
    yield case("AdjFactor 0.5 for all names", each(put(AdjFactor=0.5)))


def _fields() -> Iterator[Case]:
    def case(name: str, move: Move, fate: Fate = Fate.REFUSED, day: str | None = DAY, says: str = "") -> Case:
        return Case(name, "fields", _bars(move, day), fate, says=says)

    def renamed(row: Record) -> Record:
        return {("Volume" if name == "Vo" else name): value for name, value in row.items()}

    def lacking(rows: list[Record]) -> list[Record]:
        return [{k: v for k, v in row.items() if k != "Vo" or place % 2} for place, row in enumerate(rows)]

    def shifted(rows: list[Record]) -> list[Record]:
        codes = [row["Code"] for row in rows]
        return [row | {"Code": code} for row, code in zip(rows, codes[1:] + codes[:1], strict=True)]

    outside = "Your subscription covers the following dates: 2022-03-01 ~ 2024-03-01. If you want more data"
    yield case("an empty day", edit(lambda _: {"data": []}), says=DAY)
    yield case("210 for a day", status(210, "There is no content to return"), says=DAY)
    yield case("another day", each(put(Date=NEXT_DAY)))
    yield case("one row of another day", first(put(Date=NEXT_DAY)))
    yield case("400, outside the plan", status(400, outside), says="400")
    yield case("date 2022-02-30", first(put(Date="2022-02-30")))
    yield case("date null", first(put(Date=None)))
    yield case("date 20220209", each(put(Date="20220209")))
    yield case("date with a time", each(put(Date=f"{DAY}T00:00:00")))
    yield case("codes of four digits", each(lambda row: row | {"Code": row["Code"][:4]}), says="code")
    yield case("a code that another row has", records(lambda rows: [rows[1] | {"Code": rows[2]["Code"]}, *rows[1:]]))
    yield case("a code in lower case", first(put(Code="130a0")), says="code")
    yield case("codes as numbers", each(put(Code=12345)))
    yield case("a code null", first(put(Code=None)))
    yield case("codes shifted by one name", records(shifted))
    yield case("a further field", each(put(NewField="x")), Fate.KEPT, None)
    yield case("a further field, an object", each(put(NewField={"a": [1, 2]})), Fate.KEPT, None)
    yield case("a further field called date", each(put(date="x")), day=None, says="date")
    yield case("a further field called available_at", each(put(available_at="x")), Fate.PUBLISHED, None)
    yield case("a field renamed", each(renamed), says="Vo")
    yield case("a field lacking in half of the records", records(lacking), says="Vo")
    yield case("100,000 lists in each other", edit(lambda _: b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))
    yield case("records that are lists", edit(lambda _: {"data": [[1, 2]]}))
    yield case("data null", edit(lambda _: {"data": None}))
    yield case("a body that is a number", edit(lambda _: b"7"))
    yield case("a byte order mark", edit(lambda d: b"\xef\xbb\xbf" + json.dumps(d).encode()), Fate.PUBLISHED, None)
    yield case("latin-1", edit(lambda d: json.dumps(d).encode()[:-1] + b',"x":"\xe9"}'))


def _other_tables() -> Iterator[Case]:
    def struck(change: Callable[[Record], Record]) -> Move:
        return records(lambda rows: [change(row) if row["Date"] == DAY else row for row in rows])

    def without_day(rows: list[Record]) -> list[Record]:
        return [row for row in rows if row["Date"] != DAY]

    def a_day_late(rows: list[Record]) -> list[Record]:
        return rows[:1] + [before | {"Date": row["Date"]} for before, row in pairwise(rows)]

    def as_number(row: Record) -> Record:
        return row | {"HolDiv": int(row["HolDiv"])}

    calendar, topix = "trading_calendar", "topix"
    closed = struck(put(HolDiv="0"))
    yield Case("an open day called closed", "calendar", on(CALENDAR, closed), Fate.REFUSED, calendar, DAY)
    yield Case("a day lacks", "calendar", on(CALENDAR, records(without_day)), Fate.REFUSED, calendar, DAY)
    yield Case("HolDiv 7", "calendar", on(CALENDAR, first(put(HolDiv="7"))), Fate.REFUSED, calendar, "HolDiv")
    yield Case("HolDiv as number", "calendar", on(CALENDAR, each(as_number)), Fate.REFUSED, calendar, "HolDiv")
    yield Case("a day of the index lacks", "topix", on(TOPIX, records(without_day)), Fate.REFUSED, topix, DAY)
    yield Case("the index x 1000 on a day", "topix", on(TOPIX, struck(scaled(lambda v: v * 1000))), Fate.REFUSED, topix)
    yield Case("the index a day late", "topix", on(TOPIX, records(a_day_late)), Fate.TOLD, topix, seen_in_features=True)
    yield Case("a day of the index twice", "topix", on(TOPIX, records(lambda r: r + r[:1])), Fate.REFUSED, topix)

    master = "listed_info"
    lost = edit(lambda document: {"data": document["data"]})
    yield Case("a page of every snapshot is lost", "master", on(MASTER, lost), Fate.REFUSED, master, "code")
    yield Case("a page of one snapshot is lost", "master", on(MASTER, lost, SNAPSHOT), Fate.REFUSED, master, "code")
    yield Case("every sector is 9999", "master", on(MASTER, each(put(S33="9999"))), Fate.REFUSED, master, "S33")
    yield Case("every sector is empty", "master", on(MASTER, each(put(S33=""))), Fate.REFUSED, master, "S33")

    few = records(lambda rows: [row for row in rows if row["Code"] != "0045"])
    yield Case("32 of 33 sector indices", "sectors", on(INDICES, few), Fate.REFUSED, "sector_indices", "33")


CASES = tuple(_transport()) + tuple(_pages()) + tuple(_values()) + tuple(_fields()) + tuple(_other_tables())
