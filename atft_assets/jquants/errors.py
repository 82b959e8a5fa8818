"""What can go wrong between us and J-Quants, one class a cause, with a text for people.

The service answers a wrong key, a plan gate and an unknown path with the same status 403, so the class follows from the
message. A permanent error never goes away by asking again; a transient one may. No error carries the key, the request
or the response: nothing that a traceback prints can leak it.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from atft_assets.failures import Refusal
from atft_assets.jquants.endpoint import Endpoint


class JQuantsError(Exception):
    """Anything the client raises. Its text is `said`, then the remedy.

    Attributes:
        endpoint: the path; `query` the parameters as text.
        said: what was asked and what went wrong, in one sentence.
        remedy: what to do; that of the class unless one is given.
    """

    remedy = ""

    def __init__(self, endpoint: str, query: Mapping[str, str], what: str, remedy: str = ""):
        self.endpoint, self.query, self.remedy = endpoint, dict(query), remedy or self.remedy
        asked = "&".join(f"{k}={v}" for k, v in self.query.items() if k != "pagination_key")
        self.said = f"J-Quants {endpoint}{'?' + asked if asked else ''}: {what}"
        super().__init__(f"{self.said}. {self.remedy}" if self.remedy else self.said)


class PermanentError(JQuantsError, Refusal):
    """Asking again gives the same answer: something must be changed first."""


class TransientError(JQuantsError):
    """Asking again later may help."""


class MissingKey(PermanentError):
    """403: no key arrived."""

    remedy = "Export JQUANTS_API_KEY with the key from the J-Quants dashboard"


class WrongKey(PermanentError):
    """403: the key is unknown, expired or deleted."""

    remedy = "Check JQUANTS_API_KEY against the key in the J-Quants dashboard (a re-issued key replaces the old one)"


class NoSubscription(PermanentError):
    """403: the account has no plan."""

    remedy = "Choose a plan in the J-Quants dashboard"


class PlanGate(PermanentError):
    """403, or refused here before the first request: the plan does not include the endpoint."""

    remedy = "Set JQUANTS_PLAN to the plan of your key, or move to a larger plan"


class UnknownEndpoint(PermanentError):
    """403 or 404: there is no such path in V2 (or 410: it belonged to V1, switched off on 2026-06-01)."""

    remedy = "Check the path and JQUANTS_BASE_URL (the service is https://api.jquants.com/v2)"


class AccessDenied(PermanentError):
    """401, 407, or 403 with a text that says none of the above."""

    remedy = (
        "Check JQUANTS_API_KEY against the J-Quants dashboard, and JQUANTS_BASE_URL; a proxy or firewall on the way "
        "may also answer so"
    )


class BadRequest(PermanentError):
    """400 and other refusals of the request itself."""

    remedy = (
        "The same request would be refused again: check JQUANTS_BASE_URL and JQUANTS_PLAN; if both are right, the "
        "service has changed, and the endpoint table (atft_assets/jquants/endpoints.py) must follow"
    )


class Unsendable(PermanentError):
    """The request could not even be made of what was given."""

    remedy = "Check JQUANTS_BASE_URL (the service is https://api.jquants.com/v2) and JQUANTS_API_KEY"


class OutsideWindow(PermanentError):
    """400, or refused here before the first request: dates outside those that the plan covers.

    Attributes:
        first, last: the covered dates; `last` is None when the plan has no delay.
    """

    remedy = "Set ATFT_START and ATFT_END inside these dates, or move to a plan with a longer history"

    def __init__(self, endpoint: str, query: Mapping[str, str], what: str, first: date, last: date | None):
        self.first, self.last = first, last
        super().__init__(endpoint, query, what)


class MissingField(PermanentError):
    """Records lack a declared field: the schema of the service changed.

    Attributes:
        fields: names of the missing fields.
        failing_rows: records that lack the first of them.
        sample: one such record as text, shortened.
        unknown: fields of the answer that the endpoint table does not know (the new name may be among them).
    """

    remedy = "The answer's schema changed: compare it with the endpoint table (atft_assets/jquants/endpoints.py)"

    def __init__(
        self, endpoint: str, query: Mapping[str, str], fields: Sequence[str], failing_rows: int, sample: str,
        unknown: Sequence[str],
    ):  # fmt: skip
        self.fields, self.failing_rows, self.sample, self.unknown = list(fields), failing_rows, sample, list(unknown)
        names = ", ".join(fields)
        new = f"; fields that the table does not know: {', '.join(unknown)}" if unknown else ""
        super().__init__(endpoint, query, f"{failing_rows} records lack the field {names}{new}; e.g. {sample}")


class PaginationLoop(PermanentError):
    """Pages repeat, stay empty, or never end."""

    remedy = (
        "The service pages wrongly, or JQUANTS_BASE_URL is not J-Quants: run the same command later; what has been "
        "fetched is kept"
    )


class RateLimited(TransientError):
    """429, still after several cool-downs."""

    remedy = "Another program may be using the same key, or JQUANTS_PLAN names a larger plan than the key has"


class ServerError(TransientError):
    """5xx, still after every retry."""

    remedy = (
        "The service has a fault of its own: run the same command later, it goes on where this one stopped "
        "(maintenance is announced in the J-Quants dashboard)"
    )


class ConnectionFault(TransientError):
    """No answer, or half of one: refused, reset, timed out. The remedy depends on what failed (`faults`)."""


class MalformedAnswer(TransientError):
    """A 200 whose body is not what the API promises: truncated JSON, no `data`, a redirect."""

    remedy = (
        "Something that is not the API answers, or it is under maintenance: check JQUANTS_BASE_URL (the service is "
        "https://api.jquants.com/v2) and any proxy; if both are right, run the same command later"
    )


_COVERED = re.compile(r"covers the following dates:\s*(\d{4}-\d\d-\d\d)\s*~\s*(\d{4}-\d\d-\d\d)?")

_FORBIDDEN: tuple[tuple[str, type[PermanentError]], ...] = (
    ("api key is required", MissingKey),
    ("invalid or expired", WrongKey),
    ("no active subscription", NoSubscription),
    ("not available on your subscription", PlanGate),
    ("endpoint is not available", PlanGate),
    ("does not exist", UnknownEndpoint),
)


def refusal(endpoint: Endpoint, query: Mapping[str, str], status: int, message: str) -> JQuantsError:
    """The error that an answer other than 200 and 210 stands for.

    Args:
        message: the body's `message`, already free of secrets; may be empty.
    """
    path, said = endpoint.path, f"HTTP {status}" + (f", {message.rstrip('. ')!r}" if message else "")
    lower = message.lower()
    if status == 429:
        return RateLimited(path, query, said)
    if status >= 500 or status == 408:
        return ServerError(path, query, said)
    if 200 <= status < 400:
        return MalformedAnswer(path, query, f"{said}, neither data nor a refusal")
    if status in (404, 410):
        return UnknownEndpoint(path, query, said)
    if status in (401, 407):
        return AccessDenied(path, query, said)
    if status == 403:
        kind = next((kind for text, kind in _FORBIDDEN if text in lower), AccessDenied)
        if kind is PlanGate:
            return PlanGate(path, query, f"{said}; {_needs(endpoint)}")
        return kind(path, query, said)
    if status == 400 and (found := _COVERED.search(message)):
        first, last = (date.fromisoformat(text) if text else None for text in found.groups())
        assert first is not None  # the pattern demands it
        what = f"the plan covers {first} ~ {last or 'today'}, the request lies outside (HTTP 400)"
        return OutsideWindow(path, query, what, first, last)
    if status == 400 and "no approval received" in lower:
        return PlanGate(path, query, f"{said}; {_needs(endpoint)}")
    return BadRequest(path, query, said)


def _needs(endpoint: Endpoint) -> str:
    if endpoint.path.startswith("/bulk/"):
        return "files are for the plans that have the data set, light or larger (those of the calendar for every plan)"
    addon = f" with the add-on {endpoint.addon}" if endpoint.addon else ""
    return f"the endpoint needs the plan {endpoint.plan}{addon}"


_SIGNED = re.compile(r"\?[^\s'\"<>\\]*=[^\s'\"<>\\]*")


def unsigned(text: str) -> str:
    """A text of the service without the queries of addresses: whoever reads a signed one may fetch what it names."""
    return _SIGNED.sub("?***", text)


def record_text(record: Any, limit: int = 240) -> str:
    """A record as short text for a message."""
    text = unsigned(str(record))
    return text if len(text) <= limit else text[: limit - 1] + "…"
