"""Secrets taken out of what is told: by their value where this process knows it, by their form everywhere."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from atft_assets.settings import secrets

_SECRETS = [
    # scheme://user:<password>@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE), r"\1***@"),
    # api_key=…, "token": …, x-api-key: …, Authorization: Bearer …, ?key=…
    (
        re.compile(
            r"((?:[\w-]*(?:api[-_]?key|access[-_]?key|private[-_]?key|secret|token|passw(?:or)?d|authorization|signature"
            r"|credential)\w*|[?&]key)[\"']?\s*[=:]\s*[\"']?(?:bearer\s+)?)[^\s\"'&,;)]{4,}",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    # web hooks carry their token in the path
    (re.compile(r"(https?://(?:hooks\.|discord|[^/\s]*webhook)[^\s/]*/)\S+", re.IGNORECASE), r"\1***"),
]


def masked(value: Any, known: Sequence[str] | None = None) -> Any:
    """The same text, list or mapping without passwords, keys and tokens.

    Args:
        known: the secrets themselves, longest first; default: those of this process's environment.
    """
    known = secrets() if known is None else known
    if isinstance(value, str):
        for secret in known:
            for form in _forms(secret):
                value = value.replace(form, "***")
        for pattern, replacement in _SECRETS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {key: masked(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, known) for item in value]
    return value


def _forms(secret: str) -> list[str]:
    """How a secret may stand in a text, longest first: as it is, and as Python, JSON and a URL write it."""
    forms = {
        secret,
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(secret.encode())[2:-1],
        json.dumps(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    }
    return sorted(forms, key=len, reverse=True)
