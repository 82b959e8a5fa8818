"""Typed records to plain JSON values and back, strictly: an unknown field, a missing one or a wrong type is an error.

Records are frozen dataclasses. What a field means stands in its `doc`, what it may be in its type or `choices`; the
documentation of the formats and the forms in Dagster's launchpad are made of the same.
"""

import dataclasses
import json
import math
import os
import re
import types
import uuid
from collections.abc import Mapping
from dataclasses import MISSING, Field
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from atft_model.interchange.disk import writing
from atft_model.interchange.errors import InterchangeError, damaged

T = TypeVar("T")
POINTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\s*", re.ASCII)


def entry(doc: str, default: Any = MISSING, *, factory: Any = MISSING) -> Any:
    """A field of a record with what it means."""
    metadata = {"doc": doc}
    if factory is not MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def doc_of(field: Field[Any]) -> str:
    """What a field of a record means."""
    return str(field.metadata.get("doc", ""))


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values that a field may have, of a `Literal` or an optional one; () where any value of the type may stand."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(value for part in get_args(hint) for value in choices_of(part))
    return ()


def to_plain(value: Any) -> Any:
    """A record, or anything made of records, numbers and text, as JSON values; NaN and infinities become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, date | Path):
        return str(value)
    if hasattr(value, "item"):  # NumPy's and torch's scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(cls: type[T], document: Any, where: str, error: type[InterchangeError] = InterchangeError) -> T:
    """The record that a JSON document describes.

    Args:
        where: what the document is, for messages.
        error: what to raise.

    Raises:
        InterchangeError: as `error`; the text names the field and what it should be.
    """
    if not isinstance(document, Mapping):
        raise error(f"{where} must be an object with fields, not {type(document).__name__}")
    hints = get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(document) - set(known)):
        raise error(f"{where} has unknown fields: {', '.join(unknown)}; it knows {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in document:
            values[name] = _value(hints[name], document[name], f"{where}: {name}", error)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise error(f"{where} lacks the field {name} ({doc_of(field)})")
    return cls(**values)


def _value(hint: Any, value: Any, where: str, error: type[InterchangeError]) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        options = [part for part in parts if part is not type(None)]
        return _value(options[0], value, where, error)
    if origin is Literal:
        if value not in parts:
            raise error(f"{where} is {value!r}: use one of {', '.join(map(str, parts))}")
        return value
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, where, error)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise error(f"{where} must be a list, not {value!r}")
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_value(parts[0], item, where, error) for item in value)
        if len(value) != len(parts):
            raise error(f"{where} must have {len(parts)} items, not {len(value)}")
        return tuple(_value(part, item, where, error) for part, item in zip(parts, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise error(f"{where} must be an object, not {value!r}")
        return {str(key): _value(parts[1], item, f"{where}.{key}", error) for key, item in value.items()}
    return _plain_value(hint, value, where, error)


def _plain_value(hint: Any, value: Any, where: str, error: type[InterchangeError]) -> Any:
    if hint is date:
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            raise error(f"{where} is {value!r}: use YYYY-MM-DD") from None
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and value is None:
        return math.nan  # what to_plain made null
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise error(f"{where} is {value!r}: it must be of type {hint.__name__}")
    return value


def read_text(path: Path, error: type[InterchangeError]) -> str | None:
    """The text of a small file; None if there is no such file.

    Raises:
        InterchangeError: as `error`; it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(damaged(path, getattr(problem, "strerror", None) or "it is not text")) from problem


def read_json(path: Path, missing: str, error: type[InterchangeError]) -> Any:
    """The JSON document in a file.

    Args:
        missing: what to say after the path if there is none.

    Raises:
        InterchangeError: as `error`; there is no such file, or it is not JSON.
    """
    text = read_text(path, error)
    if text is None:
        raise error(f"{path} does not exist: {missing}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(damaged(path, f"not JSON: {str(problem)[:100]}")) from problem


def read_pointer(pointer: Path, error: type[InterchangeError]) -> str | None:
    """The name that a pointer file holds, of a directory beside it; None if there is no pointer.

    Raises:
        InterchangeError: as `error`; it holds anything but one plain name.
    """
    text = read_text(pointer, error)
    if text is None:
        return None
    if not POINTED.fullmatch(text):
        raise error(damaged(pointer, f"it should hold one name, not {text[:40]!r}"))
    return text.strip()


def write_text(path: Path, text: str) -> None:
    """Replace a small file in one step: a reader sees the old text or the new one.

    Raises:
        DiskFull, Unwritable: there is no room for it, or nobody may write there.
    """
    with writing(path, len(text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.staged")
        try:
            with sibling.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(sibling, path)
        except OSError:  # a full disk must not be made fuller
            sibling.unlink(missing_ok=True)
            raise
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """`to_plain(value)` as a file, in one step."""
    write_text(path, json.dumps(to_plain(value), indent=1, ensure_ascii=False) + "\n")
