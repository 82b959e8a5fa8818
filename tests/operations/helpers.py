"""Helpers of this room's tests."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from atft_assets.settings import JQUANTS_URL, Plan, Settings


def live_settings(data_root: Path | str = "data", **changes: Any) -> Settings:
    """The real service, without an end date; nothing here connects to it."""
    given = {"base_url": JQUANTS_URL, "plan": Plan.LIGHT, "data_root": str(data_root), "start": date(2019, 1, 1)}
    return Settings(**{**given, "end": None, **changes})


def read_log(path: Path) -> list[dict[str, Any]]:
    """The alert log's records."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
