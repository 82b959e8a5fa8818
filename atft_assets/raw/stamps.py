"""`available_at` of every record: the endpoint's rule, evaluated once for each combination of what it reads.

A record whose date or time is missing or malformed has no instant, and neither has one that claims to have been
published before the date it describes: both are violations, never a guess.
"""

from datetime import datetime

import polars as pl

from atft_assets.contracts import ContractViolation, Verdict, failures_frame
from atft_assets.jquants.endpoint import Endpoint

AVAILABLE_AT = "available_at"
INSTANT = pl.Datetime("us", "Asia/Tokyo")
SAMPLES = 5

Failure = tuple[str, str, int, str]


def stamped(endpoint: Endpoint, frame: pl.DataFrame, table: str, partition: str) -> pl.DataFrame:
    """The frame with its column `available_at` (Datetime[us, Asia/Tokyo]) computed anew.

    Args:
        frame: `date` as Date, the other fields that the rule reads as String, as the API sends them.
        table, partition: for the message.

    Raises:
        ContractViolation: fields that the rule needs are missing or malformed; with column and rows.
        ValueError: the endpoint has no availability rule.
    """
    rule = endpoint.rule
    values, failures = [], []
    for field in rule.fields:
        column = endpoint.column(field)
        parsed, kind = _parsed(frame, column, field in rule.clock_fields)
        bad = parsed.is_null() if field not in rule.absent_ok else parsed.is_null() & ~_absent(frame, column)
        if bad.any():
            failures.append((column, f"{kind}: `available_at` follows from it", *_where(endpoint, frame, bad, column)))
        values.append(parsed.alias(field))
    if not failures:
        read = pl.DataFrame(values)
        instants, failures = _instants(endpoint, frame, read)
        stamps = read.join(instants, on=list(rule.fields), how="left", nulls_equal=True, maintain_order="left")
        frame = frame.with_columns(stamps[AVAILABLE_AT])
        failures += [] if rule.foretells or failures else _contradictions(endpoint, frame)
    if failures:
        raise ContractViolation(Verdict(table, partition, failures_frame(failures)))
    return frame


def _instants(endpoint: Endpoint, frame: pl.DataFrame, read: pl.DataFrame) -> tuple[pl.DataFrame, list[Failure]]:
    """Each combination of values once, with its instant; and those that have none."""
    combinations = read.unique(maintain_order=True)
    instants: list[datetime | None] = []
    said = ""
    for row in combinations.iter_rows():
        try:
            instants.append(endpoint.rule.at(*row))
        except (ValueError, OverflowError) as error:
            instants.append(None)
            said = said or str(error)
    found = combinations.with_columns(pl.Series(AVAILABLE_AT, instants, INSTANT))
    if not said:
        return found, []
    lost = found.filter(pl.col(AVAILABLE_AT).is_null())
    bad = read.with_row_index("_row").join(lost, on=read.columns, how="semi", nulls_equal=True)["_row"]
    mask = pl.Series(range(frame.height)).is_in(bad.to_list())
    # the last date: where there are two, the first is a clock's own day, of which an instant always follows
    column = endpoint.column([field for field in endpoint.rule.fields if field not in endpoint.rule.clock_fields][-1])
    return found, [(column, f"a date of which an instant follows ({said})", *_where(endpoint, frame, mask, column))]


def _contradictions(endpoint: Endpoint, frame: pl.DataFrame) -> list[Failure]:
    """Records that claim to have been known before the day that they describe."""
    column = endpoint.column(endpoint.rule.fields[0])
    early = frame[AVAILABLE_AT].dt.date() < frame["date"]
    if not early.any():
        return []
    return [(column, "not before the record's own date", *_where(endpoint, frame, early, column))]


def _parsed(frame: pl.DataFrame, column: str, clock: bool) -> tuple[pl.Series, str]:
    """A column as dates or times, null where it is none; and what was wanted, in words."""
    kind = "a time HH:MM or HH:MM:SS" if clock else "a date YYYY-MM-DD"
    if column not in frame.columns:
        return pl.Series(column, [None] * frame.height, pl.Time if clock else pl.Date), kind
    if frame.schema[column] == pl.Date:
        return frame[column], kind
    text = pl.col(column)
    if clock:
        whole = pl.when(text.str.len_chars() == 5).then(text + ":00").otherwise(text)
        return frame.select(whole.str.to_time("%H:%M:%S", strict=False)).to_series(), kind
    return frame.select(text.str.to_date("%Y-%m-%d", strict=False)).to_series(), kind


def _absent(frame: pl.DataFrame, column: str) -> pl.Series:
    """Where a field is not there at all: lacking, null or empty."""
    if column not in frame.columns:
        return pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
    return frame[column].is_null() | (frame[column] == "").fill_null(False)


def _where(endpoint: Endpoint, frame: pl.DataFrame, bad: pl.Series, column: str) -> tuple[int, str]:
    """How many rows, and a few of them as text."""
    names = dict.fromkeys(("date", "code", *endpoint.key_columns, column))
    rows = frame.filter(bad).select(name for name in names if name in frame.columns).head(SAMPLES)
    text = " | ".join(" ".join(f"{k}={v!s}" for k, v in row.items()) for row in rows.iter_rows(named=True))
    return int(bad.sum()), text or f"{column} is not there"
