"""What a broker's account holds, from a file `code,shares`, and wishes as JPX's own tutorial writes them.

A file for people: written by hand or exported, with or without a byte order mark, in UTF-8 or in the encoding of
Japanese Excel; further columns are passed over. A code may have four or five characters. A line `cash,1234567` says
what is not invested. Shares of a short position are negative.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from atft_assets.failures import Refusal
from atft_assets.trading.rules import LOT

FILE = "holdings.csv"  # under `trading/` of the data root
CODE, SHARES, CASH = "code", "shares", "cash"
TUTORIAL = ("date", "Local Code", "budget")  # columns of the tutorial's file


class HoldingsRefused(Refusal):
    """A file of holdings cannot be used; the text says which line and why."""


@dataclass(frozen=True)
class Holdings:
    """An account.

    Attributes:
        shares: by five-character code, signed, none of them 0.
        cash: JPY; None where the file does not say.
        odd: codes of which the holding is no whole number of lots; the odd shares are kept.
    """

    shares: dict[str, int]
    cash: float | None = None

    @property
    def odd(self) -> list[str]:
        return sorted(code for code, shares in self.shares.items() if shares % LOT)


def read_holdings(path: Path, known: Sequence[str]) -> Holdings:
    """Read an account.

    Args:
        known: five-character codes of the names that may be held.

    Raises:
        HoldingsRefused: the file is not there or not readable, lacks a column, or has a line with an unknown code, with
            something that is no whole number, or with a code that stood before.
    """
    shares: dict[str, int] = {}
    cash: float | None = None
    for line, row in _rows(path, (CODE, SHARES)):
        text = row[CODE].strip()
        number = _number(path, line, row[SHARES])
        if text.lower() == CASH:
            if cash is not None:
                raise HoldingsRefused(f"{path}, line {line}: {CASH} stands there twice; keep one line")
            cash = number
            continue
        code = five(text)
        if code not in known:
            raise HoldingsRefused(
                f"{path}, line {line}: {text or 'an empty code'} is no share of the universe of these days (funds, "
                f"foreign and preferred shares are not); remove the line, or correct the code"
            )
        if code in shares:
            raise HoldingsRefused(f"{path}, line {line}: {text} stands there twice; put its shares into one line")
        if number != int(number):
            raise HoldingsRefused(f"{path}, line {line}: {row[SHARES]} of {text} is no whole number of shares")
        shares[code] = int(number)
    if cash is not None and cash < 0:
        raise HoldingsRefused(f"{path}: the cash is {cash:,.0f} JPY; a loan is not invested, write 0")
    return Holdings({code: number for code, number in shares.items() if number}, cash)


def five(code: str) -> str:
    """The five-character code of a symbol as brokers write it; one of five characters as it is."""
    code = code.strip().upper()
    return f"{code}0" if len(code) == 4 else code


def read_wishes(path: Path) -> pl.DataFrame:
    """Read a file `date, Local Code, budget`, as JPX's J-Quants tutorial has it.

    Returns:
        date, code, budget (JPY, above 0) and rank: the place of the line in its day, from 1.

    Raises:
        HoldingsRefused: as `read_holdings`; a day or a budget that is none.
    """
    found = []
    for line, row in _rows(path, TUTORIAL):
        day, code, budget = (row[name].strip() for name in TUTORIAL)
        try:
            on = date.fromisoformat(day)
        except ValueError:
            raise HoldingsRefused(f"{path}, line {line}: {day!r} is no date; use YYYY-MM-DD") from None
        amount = _number(path, line, budget)
        if not amount > 0:
            raise HoldingsRefused(f"{path}, line {line}: a budget of {budget} buys nothing; give JPY above 0")
        found.append((on, five(code), amount))
    frame = pl.DataFrame(found, schema={"date": pl.Date, CODE: pl.String, "budget": pl.Float64}, orient="row")
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("date").alias("rank")
    return frame.with_columns(rank)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines by number that are not empty, with the named columns."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HoldingsRefused(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp932", errors="replace")
    reader = csv.DictReader(io.StringIO(text), restval="", skipinitialspace=True)
    head = [name.strip() for name in reader.fieldnames or []]
    if lacking := [name for name in columns if name not in head]:
        raise HoldingsRefused(
            f"{path} has no column {' and none '.join(lacking)}: its first line must be {','.join(columns)}"
        )
    reader.fieldnames = head
    for row in reader:
        if any((row[name] or "").strip() for name in columns):
            yield reader.line_num, {name: row[name] or "" for name in columns}


def _number(path: Path, line: int, text: str) -> float:
    try:
        number = float(text.replace(",", ""))
        if number != number or abs(number) == float("inf"):
            raise ValueError
        return number
    except ValueError:
        raise HoldingsRefused(f"{path}, line {line}: {text!r} is no number") from None
