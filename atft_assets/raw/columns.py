"""Pandera columns that several raw tables share."""

import pandera.polars as pa
import polars as pl

from atft_assets.raw.stamps import AVAILABLE_AT, INSTANT

CODE = r"^[0-9A-Z]{5}$"
INDEX_CODE = r"^[0-9A-F]{4}$"


def date_column() -> pa.Column:
    return pa.Column(pl.Date, description="Trading day")


def code_column(pattern: str = CODE, description: str = "Code, five characters, never normalised") -> pa.Column:
    return pa.Column(pl.String, pa.Check.str_matches(pattern), description=description)


def available_at_column() -> pa.Column:
    return pa.Column(INSTANT, description="When the record could first be known")


def text(description: str, *checks: pa.Check, nullable: bool = False, required: bool = True) -> pa.Column:
    return pa.Column(pl.String, list(checks), nullable=nullable, required=required, description=description)


def price(description: str, *checks: pa.Check, nullable: bool = False, required: bool = True) -> pa.Column:
    """A positive number."""
    return pa.Column(
        pl.Float64, [pa.Check.gt(0), *checks], nullable=nullable, required=required, description=description
    )


def amount(description: str, nullable: bool = True, required: bool = True) -> pa.Column:
    """A number that is not negative."""
    return pa.Column(pl.Float64, pa.Check.ge(0), nullable=nullable, required=required, description=description)


def highest() -> pa.Check:
    """The high is at least every other price of the day; a null price is not compared."""
    return pa.Check(
        lambda data: data.lazyframe.select(pl.col("H") >= pl.max_horizontal("O", "L", "C")),
        name="highest",
        error="H is at least O, L and C",
    )


def lowest() -> pa.Check:
    """The low is at most every other price of the day."""
    return pa.Check(
        lambda data: data.lazyframe.select(pl.col("L") <= pl.min_horizontal("O", "H", "C")),
        name="lowest",
        error="L is at most O, H and C",
    )


DATED = frozenset({"date", AVAILABLE_AT})  # constant in a month of which one day is out

MARKERS = ("", "-", "*")  # not applicable or missing, undecided or not published the day before, not of this kind


def day_text(description: str, *, nullable: bool = False, undecided: bool = False, required: bool = True) -> pa.Column:
    """A date as the API writes it, YYYY-MM-DD.

    Args:
        undecided: "" or "-" may stand in its place.
    """
    pattern = r"^(\d{4}-\d{2}-\d{2}|-?)$" if undecided else r"^\d{4}-\d{2}-\d{2}$"
    return text(description, pa.Check.str_matches(pattern), nullable=nullable, required=required)


def number_text(description: str, *, nullable: bool = True, required: bool = True) -> pa.Column:
    """A number that the API writes as text, or one of its markers for none."""
    return text(description, pa.Check(_numbers, name="number", error="a number, or a marker for none"),
                nullable=nullable, required=required)  # fmt: skip


def _numbers(data: pa.PolarsData) -> pl.LazyFrame:
    column = pl.col(data.key)
    return data.lazyframe.select(column.is_in(MARKERS) | column.cast(pl.Float64, strict=False).is_finite())


def number(description: str, *, nullable: bool = True, required: bool = True) -> pa.Column:
    """A number of either sign."""
    return pa.Column(pl.Float64, nullable=nullable, required=required, description=description)


def of_number(name: str) -> pl.Expr:
    """A number that the API writes as text, as Float64; null for its markers."""
    return pl.col(name).replace(dict.fromkeys(MARKERS)).cast(pl.Float64)
