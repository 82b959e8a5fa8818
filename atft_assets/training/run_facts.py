"""What a person asks of a run: how it was set, and what came out. One table, for the UI and for the report of runs."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import dagster as dg

from atft_assets.reports.curves import curves_markdown
from atft_assets.reports.device_picture import device_figures, device_markdown
from atft_assets.reports.shown import numbers
from atft_assets.reports.spark import spark_markdown
from atft_assets.training.runs import Run
from atft_model.interchange.config import PRESETS, knobs_apart
from atft_model.interchange.errors import RunError
from atft_model.interchange.phases import Phase
from atft_model.interchange.run import RunRecord
from atft_model.interchange.telemetry import read_telemetry

# what is shown: where it stands in `run.json`
SETTINGS: Mapping[str, str] = {
    "newest_size": "config.model.newest_size",
    "hidden_size": "config.model.hidden_size",
    "temporal_size": "config.model.temporal_size",
    "lookback": "config.model.lookback",
    "dropout": "config.model.dropout",
    "learning_rate": "config.train.learning_rate",
    "learning_rate_factor": "curriculum.rate",
    "schedule": "config.train.schedule",
    "weight_decay": "config.train.weight_decay",
    "names": "config.train.names",
    "keep": "config.train.keep",
    "epochs_asked": "curriculum.epochs",
    "patience": "curriculum.patience",
    "seed": "seed",
    "n_seeds": "n_seeds",
    "mode": "mode",
    "device": "hardware.device",
}
FIGURES: Mapping[str, str] = {
    "rank_ic": "validation.rank_ic",
    "kept_epoch": "kept_epoch",
    "epochs": "epochs",
    "seconds": "seconds",
    "stock_days_per_s": "stock_days_per_s",
}
BY_HORIZON: Mapping[str, str] = {
    "rank_ic": "rank_ic_by_horizon",
    "t": "t_newey_west_by_horizon",
    "p": "p_by_horizon",
    "ic": "ic_by_horizon",
    "icir": "icir_by_horizon",
}
JUDGED = "p_by_horizon"  # a record without it is of a version whose t were too large
CLOSE = 4  # knobs in which a network may differ from a preset and still be called after it


def settings_of(record: RunRecord) -> dict[str, Any]:
    """Preset and hyper-parameters of a run; what its record does not say is left out."""
    found = {name: _at(record, path) for name, path in SETTINGS.items()}
    return {"preset": preset_of(record.config), **{name: value for name, value in found.items() if value is not None}}


def figures_of(record: RunRecord) -> dict[str, int | float]:
    """The numbers that a run ended with: the headline first, then by horizon, then the guards.

    Of a run of an earlier version the t are left out: they stood on another rule, and would not compare.
    """
    validation, guards = record.validation or {}, record.guards or {}
    shown = {name: _at(record, path) for name, path in FIGURES.items()}
    for name, part in BY_HORIZON.items():
        if name == "t" and JUDGED not in validation:
            continue
        shown |= {f"{name}_{horizon}d": value for horizon, value in validation.get(part, {}).items()}
    shown["validation_days"] = validation.get("days")
    shown |= {f"grad_norm_{module}": norm for module, norm in guards.get("grad_norm", {}).items()}
    return numbers({**shown, "alpha": guards.get("alpha")})


def preset_of(config: Mapping[str, Any]) -> str:
    """Name of the preset that a resolved configuration is, or is nearest to, with what differs."""
    others = {name: knobs_apart(config, preset) for name, preset in PRESETS.items()}
    name = min(others, key=lambda one: len(others[one]))
    if len(others[name]) > CLOSE:
        return "none"
    changes = ", ".join(f"{knob} {config.get(part, {}).get(knob)}" for part, knob in others[name])
    return f"{name}, but {changes}" if changes else name


def epoch_figures(message: Mapping[str, Any]) -> dict[str, int | float]:
    """An epoch's metrics under names of their own: the UI draws a line a name, and runs are not epochs."""
    return {
        f"epoch_{name.removeprefix('epoch_')}": value for name, value in numbers(message).items() if name != "epoch"
    }


def headline(record: RunRecord) -> str:
    """The outcome of a run in a sentence."""
    figures = figures_of(record)
    best = f"epoch {record.kept_epoch} of {record.epochs} kept" if record.kept_epoch else "its parent's weights kept"
    t = f", t {figures['t_1d']:.1f} at one day" if "t_1d" in figures else ""
    ranked = f"{figures['rank_ic']:.4f}" if "rank_ic" in figures else "unknown"
    return f"validation RankIC {ranked}{t}; {best}; {record.seconds or 0:.0f} s{_idle(record)}"


def _idle(record: RunRecord) -> str:
    """How much of the time the device did nothing, where that was told."""
    share = (record.telemetry or {}).get("idle_share")
    return "" if share is None else f"; device idle {share:.0%} of the time"


def _at(record: RunRecord, path: str) -> Any:
    first, *rest = path.split(".")
    found = getattr(record, first)
    for name in rest:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


assert all(path.partition(".")[0] in {field.name for field in fields(RunRecord)} for path in SETTINGS.values())


def shown(asset: str, phase: Phase, run: Run, parent: str) -> dict[str, Any]:
    """What the UI shows of a run, in this order: outcome and picture, settings, numbers (they plot over the runs)."""
    record, metrics = run.record, run.metrics()
    title = f"{asset} · {phase.name} · {run.run_id}"
    return {
        "outcome": headline(record),
        "rank_ic_by_epoch": dg.MetadataValue.md(
            spark_markdown(metrics["rank_ic"].to_list(), record.kept_epoch, "validation RankIC")
        ),
        "curves": dg.MetadataValue.md(curves_markdown(metrics, title, record.kept_epoch)),
        **device_metadata(run.folder, title),
        **settings_of(record),
        **figures_of(record),
        "run_id": run.run_id,
        "parent_run": parent,
        "fold": record.fold.name,
        "panel_id": record.panel_id,
        "catalogue_hash": record.catalogue_hash,
        "checkpoint": dg.MetadataValue.path(str(run.checkpoint)),
    }


def device_metadata(folder: Path, title: str) -> dict[str, Any]:
    """What the device did during a run, as picture and numbers; empty where no look was taken.

    A training that went well is published whatever became of its telemetry: damage is said in the picture's place.
    """
    try:
        found = read_telemetry(folder)
    except RunError as error:
        return {"device_use": f"not shown: {error}"}
    summary = found.summary() if found else None
    if found is None or summary is None:
        return {}
    return {"device_use": dg.MetadataValue.md(device_markdown(found, title)), **device_figures(summary)}
