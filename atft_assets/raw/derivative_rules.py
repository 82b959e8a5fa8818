"""What the three tables of derivatives share: columns of a contract's day, and rules over them.

Prices are 0 where nothing was traded, and also where a volume was traded outside the auction alone (`Vo` > 0, `VoOA` =
0): a zero price says nothing of volume. The night session is "" on the first day of a contract. Codes have nine
characters, not all digits. A date has two rows of a contract when emergency margin fired: 002 is the regular
settlement, 001 the extra one.
"""

from collections.abc import Iterator

import pandera.polars as pa
import polars as pl

from atft_assets.raw.columns import (
    amount,
    available_at_column,
    code_column,
    date_column,
    day_text,
    number,
    number_text,
    text,
)
from atft_assets.raw.stamps import SAMPLES, Failure

CODE = r"^[0-9A-Z]{9}$"
SESSIONS = {"": "of the whole day", "M": "of the morning", "E": "of the night session", "A": "of the day session"}
_PRICES = {"O": "Open", "H": "High", "L": "Low", "C": "Close"}
LATE = ("LTD", "SQD", "Settle", "VoOA")  # filled since 2016-07-19
VALUED = ("Theo", "BaseVol", "UnderPx", "IV", "IR")  # of options, likewise


def session(prefix: str, *, marked: bool) -> dict[str, pa.Column]:
    """The four prices of a session.

    Args:
        marked: "" where the contract was not there yet, so that they come as text.
    """
    if marked:
        return {
            prefix + name: number_text(f"{title} {SESSIONS[prefix]}; empty where there was none")
            for name, title in _PRICES.items()
        }
    return {
        prefix + name: amount(f"{title} {SESSIONS[prefix]}; 0 untraded", nullable=False)
        for name, title in _PRICES.items()
    }


def contract_columns() -> dict[str, pa.Column]:
    """Of a future and an option alike, besides its sessions."""
    return {
        "date": date_column(),
        "code": code_column(CODE, "Code of the contract, nine characters"),
        "Vo": amount("Contracts traded", nullable=False),
        "OI": amount("Open interest, contracts", nullable=False),
        "Va": amount("Turnover, JPY", nullable=False),
        "CM": text("Contract month YYYY-MM; of weekly ones the week as well (2024-51)"),
        "VoOA": amount("Contracts traded in the auction (since 2016-07-19)"),
        "EmMrgnTrgDiv": text(
            "002 regular settlement, 001 extra one at emergency margin", pa.Check.isin(["001", "002"])
        ),
        "LTD": day_text("Last trading day (since 2016-07-19)", nullable=True, undecided=True),
        "SQD": day_text("Day of the special quotation (since 2016-07-19)", nullable=True, undecided=True),
        "Settle": amount("Settlement price (since 2016-07-19)"),
        "available_at": available_at_column(),
    }


def option_columns() -> dict[str, pa.Column]:
    """Of an option besides those."""
    return {
        "Strike": amount("Strike", nullable=False),
        "PCDiv": text("1 put, 2 call", pa.Check.isin(["1", "2"])),
        "Theo": amount("Theoretical price by J-Quants's own rule (since 2016-07-19)"),
        "BaseVol": amount("Base volatility, % a year (since 2016-07-19)"),
        "UnderPx": amount("Level of the underlying (since 2016-07-19)"),
        "IV": amount("Implied volatility, % a year, cut at 1 and 320 (since 2016-07-19)"),
        "IR": number("Interest rate, % a year (since 2016-07-19)"),
    }


def product_columns() -> dict[str, pa.Column]:
    """Where several products stand in one table."""
    return {
        "ProdCat": text("Category of the product"),
        "CCMFlag": text("1: central contract month", nullable=True),
    }


def expired(frame: pl.DataFrame) -> Iterator[Failure]:
    """A contract has no day after its special quotation."""
    last = pl.col("SQD").str.to_date("%Y-%m-%d", strict=False)
    late = frame.filter(last < pl.col("date"))
    if late.height:
        rows = late.select("date", "code", "SQD").head(SAMPLES).iter_rows()
        yield (
            "SQD",
            "not before the record's own date",
            late.height,
            " | ".join(" ".join(map(str, row)) for row in rows),
        )
