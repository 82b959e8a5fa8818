"""From JSON records to a typed frame, strictly: a value of the wrong JSON type is a violation, never a cast.

Names stay those of the API except two: the endpoint's date field is `date`, and `Code` is `code`. Fields that the
endpoint table does not know are kept as strings. Where a string may be null, "" is null too: a bulk file cannot tell
them apart (`cells`), and a table is the same by both ways.
"""

import ast
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from atft_assets.contracts import Contract, ContractViolation, Verdict, failures_frame
from atft_assets.jquants.endpoint import Endpoint, Field
from atft_assets.jquants.errors import record_text
from atft_assets.raw.stamps import AVAILABLE_AT, SAMPLES, Failure, stamped

Record = dict[str, Any]


def typed_frame(endpoint: Endpoint, records: Sequence[Record], contract: Contract, partition: str) -> pl.DataFrame:
    """The records as a frame: declared fields first, then unknown ones by name, then `available_at`.

    Args:
        endpoint: says which field becomes `date`, and when a record could first be known.
        records: each carries every required field (the client saw to that); none gives a frame without rows.
        contract: of the table; an optional field that its schema demands is null where the answer lacks it.
        partition: for the message.

    Returns:
        date: Date; numbers: Float64; everything else: String, other dates included; available_at:
        Datetime[us, Asia/Tokyo].

    Raises:
        ContractViolation: values of the wrong JSON type, dates that are none, or records without an instant; with the
            rows.
        ValueError: the endpoint has no availability rule.
    """
    dated_by = endpoint.dated_by
    columns: dict[str, pl.Series] = {}
    failures: list[Failure] = []
    sent = set().union(*records) if records else endpoint.required
    for field in endpoint.fields:
        name = endpoint.column(field.name)
        in_schema = name in contract.schema.columns and contract.schema.columns[name].required
        if field.name in sent:
            values = [record.get(field.name) for record in records]
            wrong = _wrong(field, values)
            if wrong:
                failures.append((name, _rule(field), len(wrong), _sample(endpoint, records, wrong, field.name)))
                continue
            try:
                columns[name] = _series(name, field, values)
            except (OverflowError, UnicodeError) as error:  # 400 digits; half a surrogate pair
                what = "a number of 64 bits" if isinstance(error, OverflowError) else "text in UTF-8"
                failures.append((name, what, len(values), type(error).__name__))
        elif in_schema:
            columns[name] = pl.Series(name, [None] * len(records), pl.Float64 if field.numeric else pl.String)
    if failures:
        raise ContractViolation(Verdict(contract.table, partition, failures_frame(failures)))
    for name in sorted(sent - endpoint.declared.keys()):
        texts = pl.Series(name, [_text(record.get(name)) for record in records], pl.String)
        columns[name] = texts.replace("", None)
    days = columns["date"].str.to_date("%Y-%m-%d", strict=False)
    if bad := days.is_null().arg_true().to_list():
        failure = ("date", "a date YYYY-MM-DD", len(bad), _sample(endpoint, records, bad, dated_by))
        raise ContractViolation(Verdict(contract.table, partition, failures_frame([failure])))
    return stamped(endpoint, pl.DataFrame(columns).with_columns(days), contract.table, partition)


def column_order(endpoint: Endpoint, names: Iterable[str]) -> list[str]:
    """The order of a table's columns on disk, independent of which answers it was put together from."""
    declared = [endpoint.column(field.name) for field in endpoint.fields]
    names = set(names)
    unknown = sorted(names - set(declared) - {AVAILABLE_AT})
    return [name for name in declared if name in names] + unknown + [AVAILABLE_AT]


def row_order(endpoint: Endpoint, names: Sequence[str]) -> list[str]:
    """Columns by which a table is sorted on disk: date, code, then what else tells rows apart."""
    order = dict.fromkeys(("date", "code", *(endpoint.key_columns or names)))  # without a key, every column
    return [name for name in order if name in names]


def unknown_fields(endpoint: Endpoint, names: Iterable[str]) -> list[str]:
    """Columns that the endpoint table does not know."""
    return sorted(set(names) - {endpoint.column(name) for name in endpoint.declared} - {AVAILABLE_AT})


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
        text = pl.Series(name, values, pl.String)
        return text.replace("", None) if field.kind == "S?" else text
    texts = pl.Series(name, [_text(value) for value in values], pl.String)
    return texts.replace("", None) if field.kind == "SN?" else texts


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1 and 1.0 are the same marker
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


_FLOAT = re.compile(r"-?\d+(\.\d+(e[+-]?\d+)?|e[+-]\d+)")


def plain(text: str) -> str:
    """A text of a field of an open kind as it is stored, whoever wrote it: 1.0 as 1, an object or a list as JSON."""
    if text[:1] in ("{", "["):
        return _as_json(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return str(int(number)) if number.is_integer() else json.dumps(number)
    return text


def _as_json(text: str) -> str:
    """An object or a list, in the notation of JSON or of Python (as bulk files have it), as JSON; else the text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return json.dumps(read(text), ensure_ascii=False, sort_keys=True, allow_nan=False)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def _sample(endpoint: Endpoint, records: Sequence[Record], places: Sequence[int], name: str) -> str:
    shown = dict.fromkeys((endpoint.dated_by, "Code", *endpoint.keys, name))
    rows = [{key: records[place][key] for key in shown if key in records[place]} for place in places[:SAMPLES]]
    return " | ".join(" ".join(f"{key}={record_text(repr(value), 80)}" for key, value in row.items()) for row in rows)
