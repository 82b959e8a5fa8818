"""What a webserver says of the code that it serves."""

import json
import urllib.request
from typing import Any

from tests.patience import PATIENCE

DOCUMENT = b'{"query": "{workspaceOrError{... on Workspace{locationEntries{name locationOrLoadError{__typename}}}}}"}'
LOADED = [{"name": "atft", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]


def locations(url: str) -> list[dict[str, Any]]:
    """Its code locations; `LOADED` once the code is there, none while it does not serve."""
    request = urllib.request.Request(f"{url}/graphql", DOCUMENT, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
    except OSError:
        return []
    return found
