"""How rows become JSON: cells that are not of one type within a column, and a memory of what was made for a day.

A field of the API may hold a number in one record and a marker in the next, or an object with other keys in each.
Such a column is text here, and a cell that starts with `RAW` is JSON already: `raw(12.0)` is sent as 12.0, `"-"` as
"-".
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from atft_assets.sandbox.market import Market

RAW = "\ue000"  # of the private use area: no text of the API holds it
_CELL = re.compile(rb'"' + RAW.encode() + rb'((?:[^"\\]|\\.)*)"')

P = ParamSpec("P")
T = TypeVar("T")


def raw(value: Any) -> str:
    """A cell that is sent as the JSON of a value, in a column of text."""
    return RAW + json.dumps(value, ensure_ascii=False)


def numbers_or(values: Iterable[float], marked: NDArray[np.bool_], marker: str) -> pl.Series:
    """Numbers, and a marker in place of some."""
    cells = [marker if no else f"{RAW}{value!r}" for value, no in zip(map(float, values), marked.tolist(), strict=True)]
    return pl.Series(cells, dtype=pl.String)


def flags(values: NDArray[np.bool_]) -> pl.Series:
    """Flags as text, 1 where true."""
    return pl.Series(np.where(values, "1", "0").astype(object), dtype=pl.String)


def value_of(cell: str) -> Any:
    """What a cell of a column of text is on the wire."""
    return json.loads(cell[1:]) if cell.startswith(RAW) else cell


def rows_json(frame: pl.DataFrame) -> bytes:
    """The rows as a JSON list of objects."""
    text = frame.write_json().encode()
    return _CELL.sub(_plain, text) if RAW.encode() in text else text


def _plain(match: re.Match[bytes]) -> bytes:
    cell = match[1]
    return json.loads(b'"' + cell + b'"').encode() if b"\\" in cell else cell


def remembered(
    size: int,
) -> Callable[[Callable[Concatenate["Market", P], T]], Callable[Concatenate["Market", P], T]]:
    """Keep the last `size` results of a function of a market: the pages of a listing are made once, not once a page."""

    def decorate(function: Callable[Concatenate["Market", P], T]) -> Callable[Concatenate["Market", P], T]:
        @wraps(function)
        def call(market: "Market", *args: P.args, **kwargs: P.kwargs) -> T:
            memory = market.memory.setdefault(function.__qualname__ + function.__module__, {})
            key = (*args, *sorted(kwargs.items()))
            found = memory.get(key)
            if found is None:  # two threads may both make it, and both make room: that costs time alone
                found = function(market, *args, **kwargs)
                while len(memory) >= size:
                    memory.pop(next(iter(memory), None), None)
                memory[key] = found
            return found

        return call

    return decorate
