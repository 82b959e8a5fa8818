"""Raw cells that hold a number or a list of flags as text."""

from __future__ import annotations

import polars as pl

NONE = ("", "-", "*")  # not applicable or missing, undecided or not published the day before, not of this kind


def number_of(column: str) -> pl.Expr:
    """A number that J-Quants writes as text, Float64; null for its markers of none, which are no zeros."""
    return pl.col(column).replace(dict.fromkeys(NONE)).cast(pl.Float64)


def said(column: str, flag: str) -> pl.Expr:
    """Whether a cell of flags says "1" of one of them; null where the cell is a marker for none.

    The API gives JSON, a bulk file the same with single quotes, which is none.
    """
    text = pl.col(column)
    yes = text.str.contains(rf"""['"]{flag}['"]\s*:\s*['"]?1['"]?\s*[,}}]""")
    return pl.when(~text.is_in(NONE)).then(yes)
