"""Panels of growing markets, built for real, and what follows for every name of twenty years: part of `benches.scale`.

Features, graph and panel of each size are built by processes of their own. Seconds are of the processor, which depend
less than the clock does on what else a machine has to do.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from atft_assets.graph.asset import GraphConfig, month_graphs
from atft_assets.panel.asset import build_audit_publish, catalogued
from atft_assets.panel.config import FeatureSet, PanelConfig
from atft_assets.panel.sources import plan_panel
from atft_assets.store import Store
from atft_model.interchange.config import PRESETS
from atft_model.interchange.footprint import Axes, axes_of, footprint
from atft_model.interchange.phases import PHASES

NAMES, DAYS = 10_000, 4_900  # what is carried on to: every name of twenty years
DAYS_A_MONTH = 20.4  # of trading
SIZES = ((150, 500), (300, 1000))
Lines = Iterator[str]


def said(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """The last line of a program."""
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


def build(root: str) -> dict[str, Any]:
    """Graph and panel under a root that `features` has filled: seconds of processor, peak memory and axes."""
    store = Store(root=root)
    universe = store.table("features", "universe")
    start = universe.read(universe.keys()[:1], ["date"])["date"].min()
    assert isinstance(start, date)
    table = store.table("graph", "correlation_graph")
    began = time.process_time()
    keys = store.table("raw", "daily_quotes").keys()
    graphs = month_graphs(store, start, keys, GraphConfig())
    table.publish(table.stage_all(graphs, code_version="t"))
    graph_seconds = time.process_time() - began
    columns, digest = catalogued("core")
    config = PanelConfig.model_validate({"feature_set": "core", "min_names": 10})
    began = time.process_time()
    plan = plan_panel(store, columns, feature_set="core", catalogue_hash=digest, config=config)
    panel = build_audit_publish(store, plan).panel
    axes = axes_of(panel.description, panel.tensors.shapes, int(panel.valid.sum(1).max()))
    return {
        "graph_s": graph_seconds,
        "panel_s": time.process_time() - began,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "axes": vars(axes),
    }


def panels() -> Lines:
    """Features, graph and panel of growing markets; then the panel of all names over twenty years, carried on."""
    found: list[tuple[dict[str, Any], dict[str, Any], Axes]] = []
    for names, days in SIZES:
        with tempfile.TemporaryDirectory(prefix="atft-bench-") as root:
            module = [sys.executable, "-m", "atft_assets.benches.features"]
            subprocess.run([*module, "--fill", root, "--names", str(names), "--days", str(days)], check=True)
            made = json.loads(said([*module, "--build", root]))
            panel = json.loads(said([sys.executable, "-m", "atft_assets.benches.scale_panels", root]))
        axes = Axes(**panel["axes"])
        found.append((made, panel, axes))
        cells = axes.days * axes.names
        yield (
            f"market {names} x {days}: features {made['rows'] / made['wall_s']:,.0f} rows a second "
            f"({1e6 * made['cpu_s'] / made['rows']:.0f} us of processor a row), graph {panel['graph_s']:.1f} s; "
            f"panel {axes.days} x {axes.names} x {axes.features}: {axes.file_bytes / 1e6:.0f} MB, "
            f"{axes.file_bytes / cells:.0f} bytes a cell, {panel['panel_s']:.1f} s of processor, "
            f"peak {panel['peak_gb']:.2f} GB"
        )
    made, panel, axes = found[-1]
    yield from carried_on(made, panel, axes)


def larger(axes: Axes, names: int = NAMES, days: int = DAYS, features: int | None = None) -> Axes:
    """The axes of a larger panel: all of its names eligible, a graph a month, the same features or another number."""
    months = round(days / DAYS_A_MONTH)
    graph = months * names * axes.neighbours * 17  # a place, a mask, three numbers
    each = (axes.file_bytes - axes.periods * axes.names * axes.neighbours * 17) / (axes.days * axes.names)
    features = axes.features if features is None else features
    each += 2 * (features - axes.features)  # a feature is a BF16
    wide = {**vars(axes), "days": days, "names": names, "eligible": names, "periods": months, "features": features}
    return Axes(**{**wide, "file_bytes": int(each * days * names + graph)})


def carried_on(made: dict[str, Any], panel: dict[str, Any], axes: Axes) -> Lines:
    """Computed from the largest that was measured: features and panel by their cells, memory as `footprint` has it."""
    wide = larger(axes)
    ratio = wide.days * wide.names / (axes.days * axes.names)
    rows = NAMES * DAYS
    yield (
        f"carried on to {NAMES} x {DAYS}: features {rows * made['cpu_s'] / made['rows'] / 3600:.1f} h of processor; "
        f"panel {wide.file_bytes / 1e9:.0f} GB, {ratio * panel['panel_s'] / 3600:.1f} h"
    )
    for feature_set in FeatureSet:
        each = larger(axes, features=len(catalogued(feature_set)[0]))
        for name in ("small", "base"):
            for device, mode in (("cpu", "safe"), ("cuda", "optimized")):
                need = footprint(each, PRESETS[name], PHASES[2].on, device=device, mode=mode)  # type: ignore[arg-type]
                yield (
                    f"computed, phase 2, {feature_set}, preset {name} on {device} ({mode}): {each.features} features, "
                    f"file {each.file_bytes / 1e9:.1f} GB, panel {need.panel / 1e9:.0f} GB, step {need.step / 1e9:.1f} "
                    f"GB; device {need.device / 1e9:.0f} GB, host {need.host / 1e9:.0f} GB"
                )


if __name__ == "__main__":
    print(json.dumps(build(sys.argv[1])))
