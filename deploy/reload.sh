#!/usr/bin/env bash
# Loads new code (after a `git pull`, or a `pip install`) into the running code server, through the webserver. Runs in
# flight go on with the code that they have; a restart of the service would end them.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)
exec "${ATFT_PYTHON:-$root/.venv/bin/python}" - <<'PYTHON'
import json, os, sys, urllib.request

host = os.environ.get("ATFT_UI_HOST") or "127.0.0.1"
host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # all addresses of the machine: no name to ask it by
url = f"http://{f'[{host}]' if ':' in host else host}:{os.environ.get('ATFT_UI_PORT') or 3000}/graphql"
query = """mutation {reloadRepositoryLocation(repositoryLocationName: "atft") {
  __typename
  ... on WorkspaceLocationEntry {locationOrLoadError {__typename ... on PythonError {message}}}
  ... on PythonError {message}}}"""
request = urllib.request.Request(url, json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
try:
    with urllib.request.urlopen(request, timeout=240) as answer:
        told = json.load(answer)["data"]["reloadRepositoryLocation"]
except OSError as error:
    sys.exit(f"reload.sh: the webserver at {url} did not answer ({error}); is it running?")
loaded = (told.get("locationOrLoadError") or {}).get("__typename")
if loaded != "RepositoryLocation":
    why = (told.get("locationOrLoadError") or told).get("message", told["__typename"])
    sys.exit(f"reload.sh: the new code does not load; runs to come fail until it is mended: {why}")
PYTHON
