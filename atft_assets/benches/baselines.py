"""What baselines cost, and the network beside them: `python -m atft_assets.benches.baselines` (make bench-baselines).

Writes a panel of random features whose targets hold a line and an interaction of some of them, then fits each baseline
in a process of its own, so that seconds and peak memory are its alone; the pages of the panel's file that it read are
among them. The RankIC on the validation block says that it found what is there, nothing more. Two lines are there to be
set against each other: 200 trees of LightGBM without a search, and the newest row of the network over five epochs, both
on every row of the train block. `--panel DIR --train-fold FILE` measures on a panel of one's own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from atft_assets.baselines.config import BaselineConfig
from atft_assets.baselines.registry import BASELINES, OPTIONAL
from atft_assets.baselines.samples import rows_held
from atft_assets.calendar import trading_days
from atft_assets.scoring.block import Block
from atft_model.interchange.fold import Fold, cut, read_fold, write_fold
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.panel import (
    FORMAT,
    PanelDescription,
    PanelFeature,
    from_bfloat16,
    open_panel,
    to_bfloat16,
    write_panel,
)
from atft_model.interchange.records import to_plain
from atft_model.interchange.run import read_finished

DAYS, NAMES, FEATURES = 1000, 1500, 149
FIRST_DAY = date(2015, 1, 5)
LIQUID = "log_adv_20"  # the first feature, by which names are ordered
ONE_FIT_TREES, EPOCHS = 200, 5
ONE_FIT, NETWORK = f"lightgbm {ONE_FIT_TREES}", f"network {EPOCHS}"  # lines beside those of the baselines
STRENGTH = 0.05  # of what is planted, against noise of 1


def write_random(folder: Path, days: int, names: int, features: int, seed: int = 0) -> None:
    """A panel directory whose returns are, in small part, a line and an interaction of its features."""
    rng = np.random.default_rng(seed)
    dates = trading_days(FIRST_DAY, FIRST_DAY + timedelta(days=2 * days))[:days]
    x = np.empty((days, names, features), np.uint16)
    y = np.empty((len(HORIZONS), days, names), np.float32)
    weights = rng.normal(size=features) / np.sqrt(features)
    for t in range(days):
        x[t] = to_bfloat16(rng.standard_normal((names, features), np.float32))
        day = from_bfloat16(x[t])
        planted = day @ weights + np.sign(day[:, 1] * day[:, 2])
        y[:, t] = 0.02 * (STRENGTH * planted + rng.standard_normal((len(HORIZONS), names)))
    own = np.arange(names, dtype=np.int32)[None, :, None]
    tensors = {
        "x": x,
        "valid": rng.random((days, names)) < 0.98,
        "y_cc": y,
        "y_oo": y,
        "neighbours": own,
        "neighbour_attr": np.ones((1, names, 1, 3), np.float32),
        "neighbour_mask": np.ones((1, names, 1), bool),
        "graph_period": np.zeros(days, np.int32),
    }
    description = PanelDescription(
        format=FORMAT,
        panel_id=folder.name,
        dates=tuple(dates),
        codes=tuple(f"{1000 + n:04}0" for n in range(names)),
        features=tuple(PanelFeature(LIQUID if i == 0 else f"f{i}", "random", "time_series") for i in range(features)),
        catalogue_hash="random",
        horizons=HORIZONS,
        sector33=tuple(f"{n % 33}" for n in range(names)),
    )
    write_panel(folder, tensors, description)


def measure(folder: Path, fold: Fold, name: str, config: BaselineConfig) -> dict[str, float]:
    """Seconds, peak memory and the validation RankIC of one baseline on a panel directory."""
    panel = open_panel(folder)
    rows = rows_held(panel, fold.places(panel.dates, "train"))
    since, cpu = time.perf_counter(), time.process_time()
    fitted = {**BASELINES, **OPTIONAL}[name](panel, fold, config)
    fit = time.perf_counter() - since
    block = Block.of(panel, fold, "validation")
    scores = fitted.predict(panel, block.days)
    wall = time.perf_counter() - since
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "rows": rows,
        "fit_s": fit,
        "predict_s": wall - fit,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": peak,
        "rank_ic": block.score_dense(scores).rank_ic,
        **{key: value for key, value in fitted.facts.items() if key.startswith("trees_")},
    }


def measure_network(folder: Path, rows: int, fold: Fold, epochs: int, out: Path) -> dict[str, float]:
    """The same of phase 0 of the curriculum, preset `cpu`, every name in every step; the trainer is its own process."""
    request = {
        "panel": str(folder),
        "fold": to_plain(fold),
        "phase": 0,
        "out": str(out / "run"),
        "preset": "cpu",
        "training": {"names": 0},
        "curriculum": {"epochs": epochs},
    }
    (out / "request.json").write_text(json.dumps(request))
    before, since = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "atft_model", "train", str(out / "request.json")], check=True, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    record = read_finished(out / "run")
    assert record.seconds is not None and record.validation is not None
    return {
        "rows": rows,
        "fit_s": record.seconds,
        "predict_s": wall - record.seconds,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gb": after.ru_maxrss / 2**20,
        "rank_ic": record.validation["rank_ic"],
    }


HEADER = (
    f"{'baseline':<15} {'rows':>10} {'fit s':>8} {'rows/s':>9} {'predict s':>10} {'CPU s':>8} {'peak GB':>8}  RankIC"
)


def line(name: str, one: dict[str, float]) -> str:
    """A baseline as a line under HEADER."""
    trees = [str(value) for key, value in one.items() if key.startswith("trees_") and key != "trees_at_most"]
    grown = f"  trees {' '.join(trees)}" if trees else ""
    return (
        f"{name:<15} {one['rows']:>10,} {one['fit_s']:>8.1f} {one['rows'] / max(one['fit_s'], 1e-3):>9,.0f} "
        f"{one['predict_s']:>10.1f} {one['cpu_s']:>8.1f} {one['peak_gb']:>8.2f}  {one['rank_ic']:.4f}{grown}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.baselines", description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS, help="days of the panel (%(default)s)")
    parser.add_argument("--names", type=int, default=NAMES, help="names of the panel (%(default)s)")
    parser.add_argument("--features", type=int, default=FEATURES, help="features of the panel (%(default)s)")
    parser.add_argument("--panel", metavar="DIR", type=Path, help="measure on this panel instead of a random one")
    parser.add_argument("--train-fold", metavar="FILE", type=Path, help="its fold (the panel's last 15 %% are test)")
    parser.add_argument("--trees", type=int, help="trees at most of LightGBM (its own default)")
    parser.add_argument("--settings", type=int, help="settings of LightGBM that are tried (all)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="lines to measure (all but the optional ones)")
    parser.add_argument("--fit", metavar="NAME", help="fit one baseline here, and print its figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atft-bench-") as root:
        folder = given.panel or Path(root) / "panel"
        if not given.panel:
            write_random(folder, given.days, given.names, given.features)
        panel = open_panel(folder)
        fold = read_fold(given.train_fold) if given.train_fold else cut(panel.dates, "bench")
        if given.fit:
            config = BaselineConfig.model_validate({"trees": given.trees, "settings": given.settings})
            print(json.dumps(measure(folder, fold, given.fit, config)))
            return
        write_fold(Path(root) / "fold.json", fold)
        rows, features = rows_held(panel, fold.places(panel.dates, "train")), len(panel.description.features)
        print(f"{rows:,} rows to learn from, {features} features; load {os.getloadavg()[0]:.1f}")
        print(HEADER, flush=True)
        for name in given.only or [*BASELINES, ONE_FIT, NETWORK]:
            if name == NETWORK:
                one = measure_network(folder, rows, fold, EPOCHS, Path(root))
            else:
                options = ["--panel", str(folder), "--train-fold", f"{root}/fold.json"]
                trees, settings = (ONE_FIT_TREES, 0) if name == ONE_FIT else (given.trees, given.settings)
                options += [] if trees is None else ["--trees", str(trees)]
                options += [] if settings is None else ["--settings", str(settings)]
                fitted = "lightgbm" if name == ONE_FIT else name
                command = [sys.executable, "-m", "atft_assets.benches.baselines", "--fit", fitted, *options]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                one = json.loads(out.splitlines()[-1])
            print(f"{line(name, one)}  (load {os.getloadavg()[0]:.1f})", flush=True)


if __name__ == "__main__":
    main()
