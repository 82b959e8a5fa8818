"""The sensor `disk_usage`: readings of the volumes that fill, as observations of an asset, and alerts at two levels.

A reading is an event of no run, which Dagster never deletes: so one is written when something moved, or four times a
day, and not at every look.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from pydantic import Field

from atft_assets.groups import OPERATIONS
from atft_assets.operations.alerts import Alert, Alerts, Severity
from atft_assets.operations.retention import COMMAND as RETENTION_COMMAND
from atft_assets.settings import Settings, cache_folder
from atft_assets.store import Store
from atft_model.interchange.disk import size_of

DISK_CURSOR = 1
DISK_ASSET = "disk_usage"
LEVELS = ("ok", "warning", "critical")
MAX_ENTRIES = 200_000
QUIET_SECONDS = 6 * 3600
TREND_DAYS, TREND_READINGS, TREND_SPAN = 14, 200, 2.0
HORIZON_DAYS = 3650
NO_GROWTH = "-"
VARIABLES = {"data": "ATFT_DATA", "cache": "ATFT_CACHE", "dagster_home": "DAGSTER_HOME"}  # by name of a volume


class DiskLevels(dg.ConfigurableResource):
    """Shares of a volume, in percent, at which to warn. Resource key: `disk_levels`."""

    warning: float = Field(default=85.0, description="Percent of a volume in use at which to warn")
    critical: float = Field(default=95.0, description="Percent at which the warning is urgent")
    hysteresis: float = Field(
        default=1.0,
        description="Points below a level at which it is left, so that a volume at the limit does not tell every five "
        "minutes",
    )

    def level(self, used_percent: float, before: str = "ok") -> str:
        """The level of a reading, given the level before it."""
        limits = {"critical": self.critical, "warning": self.warning}
        for name, limit in limits.items():
            held = LEVELS.index(before) >= LEVELS.index(name)
            if used_percent >= limit - (self.hysteresis if held else 0):
                return name
        return "ok"


def disk_usage(settings: Settings, usage: Callable[[str], Any] = shutil.disk_usage) -> dg.SensorDefinition:
    """Readings of the volumes of the data and of Dagster's home, and an alert when a level is entered or left.

    Args:
        usage: as `shutil.disk_usage`.
    """

    @dg.sensor(
        name="disk_usage",
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Disk use as observations of the asset `disk_usage` (see its plots); warns at two levels.",
    )
    def disk_usage(context: dg.SensorEvaluationContext, alerts: Alerts, disk_levels: DiskLevels) -> dg.SensorResult:
        alerts.flush()
        cursor = _disk_cursor(context.cursor)
        home = context.instance.root_directory if not context.instance.is_ephemeral else None
        readings = {name: reading_of(path, usage) for name, path in volumes(settings.data_root, home).items()}
        levels: dict[str, str] = {}
        for name, reading in readings.items():
            before = cursor["levels"].get(name, "ok")
            levels[name] = disk_levels.level(reading["used_percent"], before)
            if levels[name] != before:
                alerts.send(_disk_alert(name, reading, before, levels[name]))
        now = time.time()
        used = {name: reading["used_percent"] for name, reading in readings.items()}
        moved = used.keys() != cursor["used"].keys() or any(
            abs(used[name] - before) > 0.5 for name, before in cursor["used"].items()
        )
        if not (moved or levels != cursor["levels"] or now - cursor["observed"] >= QUIET_SECONDS):
            return dg.SensorResult(skip_reason=_disk_text(readings), cursor=context.cursor)
        metadata: dict[str, Any] = {
            f"{name}_{what}": value
            for name, reading in readings.items()
            for what, value in reading.items()
            if what != "path"
        }
        metadata |= {f"data_{name}_gb": size for name, size in folder_sizes(settings.data_root).items()}
        if home:
            metadata["dagster_home_gb"] = round(size_of(Path(home)) / 1e9, 4)
        past = free_before(context.instance, now - TREND_DAYS * 86_400)
        for name, reading in readings.items():
            trend = [*past.get(name, []), (now, reading["free_gb"])]
            metadata[f"{name}_days_to_full"] = days_to_full(trend)
        return dg.SensorResult(
            skip_reason=_disk_text(readings),
            asset_events=[dg.AssetObservation(DISK_ASSET, metadata=metadata)],
            cursor=json.dumps({"version": DISK_CURSOR, "levels": levels, "used": used, "observed": now}),
        )

    return disk_usage


def disk_asset() -> dg.AssetSpec:
    """The external asset under which the readings are kept."""
    return dg.AssetSpec(
        DISK_ASSET,
        group_name=OPERATIONS,
        description="How full the volumes are. Observed, never materialized: the sensor `disk_usage` reads the volumes "
        "of ATFT_DATA and DAGSTER_HOME every five minutes; see the observations under Events, and Plots.",
        kinds={"file"},
    )


def volumes(data_root: str, home: str | None) -> dict[str, str]:
    """A path on each volume that fills, by what it is called; of a data root in a bucket it is the mirror's.

    Args:
        home: Dagster's; None for a temporary one.
    """
    local = {"data": data_root.removeprefix("file://")}
    found = {"cache": str(cache_folder())} if Store(root=data_root).remote else local
    return {**found, **({"dagster_home": home} if home else {})}


def free_before(instance: dg.DagsterInstance, since: float) -> dict[str, list[tuple[float, float]]]:
    """Earlier readings: by volume, when (seconds of the epoch) and free gigabytes."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(DISK_ASSET), after_timestamp=since)
    found: dict[str, list[tuple[float, float]]] = {}
    for record in instance.fetch_observations(wanted, limit=TREND_READINGS).records:
        said = record.asset_observation
        for name in VARIABLES:
            value = said.metadata.get(f"{name}_free_gb") if said else None
            if value is not None:
                found.setdefault(name, []).append((record.timestamp, float(str(value.value))))
    return found


def days_to_full(readings: Sequence[tuple[float, float]]) -> float | str:
    """Days until a volume is full if it fills as it lately did; "-" if it does not, or too little is known.

    The trend is the median of the slopes between all pairs of readings (Theil and Sen), which a file that comes and
    goes does not move.

    Args:
        readings: when (seconds of the epoch) and free gigabytes; the last one is now.
    """
    at, free = np.array(readings, float).reshape(-1, 2).T
    if not len(at) or at.max() - at.min() < TREND_SPAN * 86_400:
        return NO_GROWTH
    earlier, later = np.triu_indices(len(at), 1)
    apart = (at[later] - at[earlier]) / 86_400
    known = np.abs(apart) > 1 / 24
    filled = -float(np.median((free[later] - free[earlier])[known] / apart[known]))  # gigabytes a day
    days = free[-1] / filled if filled > 0 else np.inf
    return round(float(days), 1) if days <= HORIZON_DAYS else NO_GROWTH


def _disk_cursor(text: str | None) -> dict[str, Any]:
    fresh = {"version": DISK_CURSOR, "levels": {}, "used": {}, "observed": 0.0}
    try:
        cursor = json.loads(text) if text else fresh
    except ValueError:
        return fresh
    return cursor if isinstance(cursor, dict) and cursor.get("version") == DISK_CURSOR else fresh


def reading_of(path: str, usage: Callable[[str], Any] = shutil.disk_usage) -> dict[str, Any]:
    """Percent in use and gigabytes free of the volume of a path, which need not exist yet."""
    place = Path(path)
    while not place.exists():  # the data root appears with the first table; its volume is there already
        place = place.parent
    measured = usage(str(place))
    # of what this user may fill: the share that root keeps back counts as neither used nor free
    share = 100 * measured.used / ((measured.used + measured.free) or 1)
    return {"path": path, "used_percent": round(share, 2), "free_gb": round(measured.free / 1e9, 3)}


def folder_sizes(root: str) -> dict[str, float]:
    """Gigabytes in each folder of the data root, Dagster's home last; stops counting at 200,000 files."""
    sizes: dict[str, float] = {}
    if "://" in root or not Path(root).is_dir():
        return sizes
    left = MAX_ENTRIES
    folders = (entry for entry in Path(root).iterdir() if entry.is_dir())
    for folder in sorted(folders, key=lambda entry: (entry.name.startswith("."), entry)):
        total, waiting = 0, [str(folder)]
        while waiting and left > 0:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        left -= 1
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # a staged file that was renamed meanwhile
        sizes[folder.name.removeprefix(".")] = round(total / 1e9, 4)
    return sizes


def _disk_text(readings: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{name} {r['used_percent']:.1f} % used, {r['free_gb']:.1f} GB free" for name, r in readings.items()
    )


def _disk_alert(name: str, reading: Mapping[str, Any], before: str, level: str) -> Alert:
    better = LEVELS.index(level) < LEVELS.index(before)
    variable = VARIABLES[name]
    severity = {"ok": Severity.INFO, "warning": Severity.WARNING, "critical": Severity.FAILURE}[level]
    return Alert(
        kind="disk_usage",
        fingerprint=f"disk_usage/{name}/{before}-{level}",
        what=f"the volume of {variable} is {reading['used_percent']:.1f} % full: {before} → {level}",
        where={"volume of": variable, "path": reading["path"]},
        why=f"{reading['used_percent']:.1f} % used, {reading['free_gb']:.1f} GB free",
        todo=(
            "Nothing: the volume has room again."
            if level == "ok"
            else "The level fell; free some more."
            if better
            else f"While no run works on this machine, delete the folders in {reading['path']}: what is needed is "
            f"fetched from the bucket again. Or move {variable} to a larger volume."
            if name == "cache"
            else f"See what is old and no longer needed: `{RETENTION_COMMAND}` lists it, with --yes it goes. Or move "
            f"{variable} to a larger volume. The plots of the asset `disk_usage` show which folder grows."
        ),
        severity=severity,
        # a change of level is news whenever it happens; only a tick that died half way would repeat it
        repeat_after=timedelta(minutes=4),
    )
