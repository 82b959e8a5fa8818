"""What an answer of the service holds: decoded, recognised when it repeats, held against the declared fields."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from atft_assets.jquants.endpoint import Endpoint
from atft_assets.jquants.errors import MissingField, record_text

Record = dict[str, Any]
MESSAGE_CHARACTERS = 300


def require_fields(row: Endpoint, query: Mapping[str, str], records: Sequence[Record]) -> None:
    """Refuse records that lack a declared field.

    Raises:
        MissingField: some do; with how many and a sample.
    """
    required = row.required
    incomplete = [record for record in records if not required <= record.keys()]
    if incomplete:
        first = incomplete[0]
        missing = [field.name for field in row.fields if field.name in required and field.name not in first]
        count = sum(missing[0] not in record for record in incomplete)
        unknown = sorted(first.keys() - row.declared.keys())
        shown = {name: first[name] for name in dict.fromkeys([*list(first)[:3], *unknown])}
        raise MissingField(row.path, query, missing, count, record_text(shown), unknown)


def message_of(body: bytes) -> str:
    """The `message` of an error body, or the first words of a page; the service does not promise that there is one."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return words(body)
    message = str(answer.get("message", "")) if isinstance(answer, dict) else ""
    return message if len(message) <= MESSAGE_CHARACTERS else message[: MESSAGE_CHARACTERS - 1] + "…"


def words(body: bytes, limit: int = 120) -> str:
    """The first words of a body that is not JSON; of a web page those that a reader would see."""
    text = body[: 1 << 14].decode("utf-8", "replace")
    text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", " ", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def decode(row: Endpoint, body: bytes) -> tuple[dict[str, Any], str]:
    """The answer's object, or what is wrong with it."""
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        return {}, f"the body of {len(body)} bytes is JSON nested deeper than anything that the API serves"
    except ValueError as error:
        if re.match(rb"\s*<", body):
            return {}, f"a web page came instead of JSON: {words(body)!r}"
        what = f"{type(error).__name__}: {str(error)[:80]}"
        return {}, f"the body of {len(body)} bytes is not JSON ({what}); it begins {words(body, 40)!r}"
    if not isinstance(answer, dict):
        return {}, f"the body is a {type(answer).__name__}, not an object"
    if row.envelope == "data":
        data = answer.get("data")
        if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
            has = record_text(", ".join(sorted(answer)) or "nothing", 120)
            return {}, f"the body has no list of records under `data` (it has {has})"
        key = answer.get("pagination_key")
        if key is not None and not isinstance(key, str):
            return {}, f"the pagination key is a {type(key).__name__}, not a string"
    return answer, ""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def page_digest(data: Any) -> bytes:
    """Tells pages apart by their size and their outer records; whole pages would cost more than decoding them.

    Raises:
        RecursionError: a record is nested too deeply to be looked at.
    """
    if not isinstance(data, list) or not data:
        return b""
    return hashlib.blake2b(repr((len(data), data[0], data[-1])).encode(errors="replace"), digest_size=16).digest()
