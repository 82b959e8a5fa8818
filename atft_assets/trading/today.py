"""What the champion says of tomorrow: `python -m atft_assets.trading.today`.

Prints the best and the worst of the newest evening and where the files lie; reads what `daily_scores` wrote, computes
nothing.
"""

import argparse
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atft_assets.calendar import month_key, shift_month
from atft_assets.failures import Refusal
from atft_assets.panel.config import day_setting
from atft_assets.reports.evening_page import PAGE
from atft_assets.reports.pages import page_path
from atft_assets.reports.sector_names import SECTOR33
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store
from atft_assets.trading.champion import current
from atft_assets.trading.daily_scores import GROUP, NAME, WITHHELD
from atft_assets.trading.shown import beside
from atft_model.interchange.errors import InterchangeError

HEAD = ("rank", "change", "code", "name", "sector", "segment", "score", "flags")
NUMBERS = ("rank", "change", "score")  # columns that are set to the right
TOP = 20
SECTOR_WIDTH, NAME_WIDTH = 26, 28
MATERIALIZE = f"dagster asset materialize --select {NAME}"


class NothingYet(Refusal):
    """There are no scores to be shown; the text says what to do."""


@dataclass(frozen=True)
class Shown:
    """An evening.

    Attributes:
        rows: of the evening, best first, with `change`: places won since the evening before, null where unknown.
        before: the evening before that the table holds; None where the change is not known.
        file: the month's file.
        page: the page of the newest evening, there or not.
    """

    day: date
    rows: pl.DataFrame
    before: date | None
    file: str
    page: str

    @property
    def withheld(self) -> bool:
        return self.rows["status"][0] == WITHHELD


def evening(store: Store, day: date | None = None) -> Shown:
    """The newest evening, or a given one.

    Raises:
        NothingYet: there is none.
        StoreError: the table is damaged.
    """
    table = store.table(GROUP, NAME)
    keys = table.keys()
    if not keys:
        champion = current(store.local(GROUP))
        why = (
            "there is no champion yet: one is chosen when the phases are judged" if champion is None else str(champion)
        )
        todo = "make demo, or: make road" if champion is None else f"{MATERIALIZE} --partition YYYY-MM"
        raise NothingYet(f"there are no scores yet ({why}); run: {todo}")
    months = [key for key in keys if day is None or key == month_key(day)]
    for key in reversed(months):
        frame = table.read([key])
        days = frame["date"].unique().sort().to_list()
        if day in days or (day is None and days):
            chosen = day or days[-1]
            return _shown(store, chosen, keys, frame)
    newest = _newest(store, keys)
    if day is None or newest is None:
        raise NothingYet(f"{NAME} holds no evening yet; run: {MATERIALIZE} --partition {keys[-1]}")
    config = f'{{"ops": {{"{NAME}": {{"config": {{"day": "{day}"}}}}}}}}'
    raise NothingYet(
        f"{NAME} holds no scores of {day}; its newest evening is {newest}. To score it, run: {MATERIALIZE} --partition "
        f"{month_key(day)} --config-json '{config}'"
    )


def _newest(store: Store, keys: Sequence[str]) -> date | None:
    days = store.table(GROUP, NAME).read(keys, columns=["date"])["date"]
    newest = days.max()
    return newest if isinstance(newest, date) else None


def _shown(store: Store, day: date, keys: Sequence[str], month: pl.DataFrame) -> Shown:
    """An evening beside the one before it, which may lie in the month before."""
    table = store.table(GROUP, NAME)
    last = shift_month(month_key(day), -1)
    known = pl.concat([table.read([last]), month]) if last in keys else month
    rows, before = beside(day, month.filter(pl.col("date") == day), known)
    return Shown(day, rows, before, str(table.path(month_key(day))), str(page_path(store, PAGE)))


def render(shown: Shown, top: int = TOP) -> str:
    """The evening as text: what it is, the best, the worst, what the flags mean, where the file lies."""
    rows = shown.rows
    first = rows.row(0, named=True)
    title = (
        f"Evening of {shown.day}, for the open of {first['trade_date']}: {rows.height} names, ranked by "
        f"{first['model_run']}"
    )
    change = f"places won since {shown.before}" if shown.before else "not known: there is no evening before"
    parts = [title]
    if shown.withheld:
        parts.append(
            "WITHHELD: a gate forbids to use these scores, so no order comes of them. Which one, and why, stand at the "
            f"checks of {NAME} in the UI (make ui) and in alerts.log."
        )
    if 2 * top >= rows.height:
        parts.append("\n".join(_table(rows)))
    else:
        parts += ["\n".join(["best", *_table(rows.head(top))]), "\n".join(["worst", *_table(rows.tail(top))])]
    parts.append(
        f"change: {change}. Flags: L liquid, its turnover in the upper half; S may be sold short; x not in the "
        "universe any more."
    )
    parts.append(f"All names, and the scores by horizon: {shown.file}\nThe newest evening as a page: {shown.page}")
    return "\n\n".join(parts)


def _table(rows: pl.DataFrame) -> list[str]:
    """Lines of aligned text; a Japanese character takes two places."""
    cells = [HEAD, *(_cells(row) for row in rows.iter_rows(named=True))]
    widths = [max(_width(line[i]) for line in cells) for i in range(len(HEAD))]
    lines = [
        "  ".join(_set(cell, width, name) for cell, width, name in zip(line, widths, HEAD, strict=True))
        for line in cells
    ]
    return [line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]]


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    change, sector = row["change"], str(row["sector33"])
    flags = "".join(letter for letter, there in (("L", row["liquid"]), ("S", row["shortable"])) if there)
    return (
        str(row["rank"]),
        "" if change is None else f"{change:+d}",
        str(row["code"]),
        _cut(str(row["name"]), NAME_WIDTH),
        _cut(SECTOR33.get(sector, sector), SECTOR_WIDTH),
        str(row["segment"]),
        f"{row['score']:+.2f}",
        flags + ("" if row["eligible"] else "x"),
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _set(cell: str, width: int, name: str) -> str:
    blanks = " " * (width - _width(cell))
    return blanks + cell if name in NUMBERS else cell + blanks


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 for published scores, 1 where there are none, 3 where they were withheld."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.trading.today", description=__doc__)
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="the evening; by default the newest that was scored")
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help="names of either end (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        if given.top < 1:
            raise SettingsError(f"--top is {given.top}: show one name at least")
        shown = evening(Store(root=Settings.from_env().data_root), day_setting(given.date, "--date"))
    except (SettingsError, Refusal, InterchangeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(render(shown, given.top))
    return 3 if shown.withheld else 0


if __name__ == "__main__":
    sys.exit(main())
