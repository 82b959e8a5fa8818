"""What a webserver says of the code that it serves."""

import json
import urllib.request
from typing import Any

DOCUMENT = b'{"query": "{workspaceOrError{... on Workspace{locationEntries{name locationOrLoadError{__typename}}}}}"}'
LOADED = [{"name": "atft", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]


def locations(url: str) -> list[dict[str, Any]]:
    """Its code locations; `LOADED` once the code is there."""
    request = urllib.request.Request(f"{url}/graphql", DOCUMENT, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
