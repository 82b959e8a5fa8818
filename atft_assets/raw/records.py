"""From JSON records to a typed frame, strictly: a value of the wrong JSON type is a violation, never a cast.

Names stay those of the API except the two keys, `Date` -> `date` and `Code` -> `code`. Fields that the endpoint table
does not know are kept as strings.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any

import polars as pl

from atft_assets.contracts import Contract, ContractViolation, Verdict, failures_frame
from atft_assets.jquants.endpoints import Endpoint, Field

AVAILABLE_AT = "available_at"
INSTANT = pl.Datetime("us", "Asia/Tokyo")
KEYS = {"Date": "date", "Code": "code"}
SAMPLES = 5

Record = dict[str, Any]
Failure = tuple[str, str, int, str]


def typed_frame(
    endpoint: Endpoint, records: Sequence[Record], contract: Contract, partition: str,
    available_at: Callable[[date], datetime],
) -> pl.DataFrame:  # fmt: skip
    """The records as a frame: declared fields first, then unknown ones by name, then `available_at`.

    Args:
        records: at least one; each carries every required field (the client saw to that).
        contract: of the table; an optional field that its schema demands is null where the answer lacks it.
        partition: for the message.
        available_at: when a date's records could first be had.

    Returns:
        date: Date; numbers: Float64; everything else: String; available_at: Datetime[us, Asia/Tokyo].

    Raises:
        ContractViolation: values of the wrong JSON type, or dates that are none; with the rows.
    """
    columns: dict[str, pl.Series] = {}
    failures: list[Failure] = []
    sent = set().union(*records)
    for field in endpoint.fields:
        name = KEYS.get(field.name, field.name)
        in_schema = name in contract.schema.columns and contract.schema.columns[name].required
        if field.name in sent:
            values = [record.get(field.name) for record in records]
            wrong = _wrong(field, values)
            if wrong:
                failures.append((name, _rule(field), len(wrong), _sample(records, wrong, field.name)))
            else:
                columns[name] = _series(name, field, values)
        elif in_schema:
            columns[name] = pl.Series(name, [None] * len(records), pl.Float64 if field.numeric else pl.String)
    if failures:
        raise ContractViolation(Verdict(contract.table, partition, failures_frame(failures)))
    for name in sorted(sent - endpoint.declared.keys()):
        columns[name] = pl.Series(name, [_text(record.get(name)) for record in records], pl.String)
    days = columns["date"].str.to_date("%Y-%m-%d", strict=False)
    if bad := days.is_null().arg_true().to_list():
        failure = ("date", "a date YYYY-MM-DD", len(bad), _sample(records, bad, "Date"))
        raise ContractViolation(Verdict(contract.table, partition, failures_frame([failure])))
    frame = pl.DataFrame(columns).with_columns(days)
    instants = {day: available_at(day) for day in days.unique().to_list()}
    stamp = pl.col("date").replace_strict(list(instants), list(instants.values()), return_dtype=INSTANT)
    return frame.with_columns(stamp.alias(AVAILABLE_AT))


def column_order(endpoint: Endpoint, names: Iterable[str]) -> list[str]:
    """The order of a table's columns on disk, independent of which answers it was put together from."""
    declared = [KEYS.get(field.name, field.name) for field in endpoint.fields]
    names = set(names)
    unknown = sorted(names - set(declared) - {AVAILABLE_AT})
    return [name for name in declared if name in names] + unknown + [AVAILABLE_AT]


def unknown_fields(endpoint: Endpoint, names: Iterable[str]) -> list[str]:
    """Columns that the endpoint table does not know."""
    return sorted(set(names) - {KEYS.get(name, name) for name in endpoint.declared} - {AVAILABLE_AT})


def _wrong(field: Field, values: Sequence[Any]) -> list[int]:
    if all(field.accepts(kind) for kind in set(map(type, values))):
        return []
    return [place for place, value in enumerate(values) if not field.accepts(type(value))]


def _rule(field: Field) -> str:
    kinds = {"S": "a JSON string", "N": "a JSON number or null", "NS": "a JSON number or a marker"}
    return kinds.get(field.kind.removesuffix("?"), f"JSON type {field.kind}")


def _series(name: str, field: Field, values: Sequence[Any]) -> pl.Series:
    if field.numeric:
        return pl.Series(name, values, pl.Float64)
    if field.kind in ("S", "S?"):
        return pl.Series(name, values, pl.String)
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1 and 1.0 are the same marker
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _sample(records: Sequence[Record], places: Sequence[int], name: str) -> str:
    shown = dict.fromkeys(("Date", "Code", name))
    rows = [{key: records[place][key] for key in shown if key in records[place]} for place in places[:SAMPLES]]
    return " | ".join(" ".join(f"{key}={value!r}" for key, value in row.items()) for row in rows)
