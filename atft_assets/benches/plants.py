"""Do our columns see what other data than prices show? `python -m atft_assets.benches.plants` (make bench-plants).

A market a plant (`sandbox.config.PLANTED`), and one in which nothing is planted; what prices show by themselves is
switched off in all of them, so that whatever a family says, it says of the plant. Each is served by the sandbox on the
plan Premium and walks the real road in a process of its own: raw tables by file, every feature table, the labels, the
report of single columns, and with `--ablation` the panel, its folds and the ablation.

A family is found where its best column is beyond chance among all columns (p below 5 % after Holm, at one day). Each
plant must be found in the family that is made for it and in none that reads nothing of it, and of nothing planted
nothing must be found; else the exit code is 1.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from atft_assets.build import build_defs
from atft_assets.calendar import month_key
from atft_assets.features.names import GROUP, LABELS
from atft_assets.features.registry import complete
from atft_assets.graph.asset import NAME as NEIGHBOURS
from atft_assets.jquants.resource import JQuantsResource
from atft_assets.panel.asset import NAME as PANEL
from atft_assets.panel.config import SANDBOX_WARM_UP_DAYS
from atft_assets.raw import SOURCES
from atft_assets.reports.feature_report import NAME as REPORT
from atft_assets.sandbox import MarketConfig, serve, simulate
from atft_assets.sandbox.config import PLANTED
from atft_assets.settings import CACHE_VARIABLE, Plan, Settings
from atft_assets.store import Store
from atft_assets.training.ablation import FILE
from atft_assets.training.ablation import NAME as ABLATION
from atft_assets.training.folds import NAME as FOLDS
from atft_model.interchange.fold import MAIN
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.statistics import LEVEL

NONE = "none"
# the family that is made for a plant, and those that read what shows it besides
MADE_FOR = {"revision": "statements", "covering": "short", "regime": "pressure", "volatility": "regimes"}
READ_IT_TOO: dict[str, set[str]] = {
    "revision": {"interactions"},
    "covering": {"pressure"},
    "regime": set(),
    "volatility": set(),
}
# A drift that lasts for weeks shows in the returns behind it too, but with the square of its strength: at these a plant
# is found in its family, and what past returns show of it is not told from chance. That of the regime turns too often.
STRENGTHS = {"revision": 0.05, "covering": 0.06, "regime": 0.12, "volatility": 0.06}
PANEL_CONFIG = {"feature_set": "full", "label": "y_cc", "target": "raw", "turnover_floor": 0}


@dataclass(frozen=True)
class Line:
    """What the best column of a family says of the next day: the one whose p is the smallest.

    Attributes:
        t: Newey and West's.
        p_holm: after Holm, of all columns.
    """

    family: str
    column: str
    t: float
    p_holm: float

    @property
    def found(self) -> bool:
        """Whether it is more than chance."""
        return self.p_holm < LEVEL


def lines_of(report: pl.DataFrame) -> list[Line]:
    """A line a family, the surest first.

    Args:
        report: the table `feature_report`.
    """
    known = report.filter((pl.col("horizon") == HORIZONS[0]) & pl.col("p").is_not_null()).sort("p")
    best = known.group_by("family", maintain_order=True).first()
    return [
        Line(one["family"], one["feature"], one["t_newey_west"], one["p_holm"]) for one in best.iter_rows(named=True)
    ]


def faults_of(plant: str, lines: Sequence[Line]) -> list[str]:
    """What is not as it should be in the report of a market: a sentence each."""
    mine = MADE_FOR.get(plant, "")
    wrong = [
        f"{plant}: {one.family} reads nothing of it, and {one.column} has a t of {one.t:.1f}"
        for one in lines
        if one.found and one.family not in {mine, *READ_IT_TOO.get(plant, ())}
    ]
    if mine and not any(one.found for one in lines if one.family == mine):
        wrong.append(f"{plant}: not found in {mine}, which is made for it")
    return wrong


def walk(root: str, plant: str, config: MarketConfig, ablation: Mapping[str, Any] | None) -> None:
    """The road of one market, from nothing to the report and, with a config of it, the ablation.

    Raises:
        SystemExit: a step failed; the text says why.
    """
    market, now = simulate(config), datetime.combine(config.end, clock(20))
    os.environ[CACHE_VARIABLE] = str(Path(root) / "cache")
    with serve(market, plan=Plan.PREMIUM, now=now, page_rows=config.n_names * 50) as server:
        settings = Settings(
            base_url=server.base_url, plan=Plan.PREMIUM, data_root=root, start=config.start, end=config.end
        )
        jquants = JQuantsResource(
            api_key=server.api_key, base_url=server.base_url, plan=Plan.PREMIUM, requests_per_minute=0,
            now=now.isoformat(),
        )  # fmt: skip
        defs = build_defs(settings, resource_overrides={"jquants": jquants})
        assets: Sequence[Any] = [*(defs.assets or ()), *(defs.asset_checks or ())]
        tables = complete()
        read = {name for one in tables for name in one.reads}
        raw = [source.name for source in SOURCES if source.name in read]
        monthly = [one.name for one in tables if not one.whole]
        span = "dagster/asset_partition_range_"
        months = {f"{span}start": month_key(config.start), f"{span}end": month_key(config.end)}
        with dg.DagsterInstance.ephemeral() as instance:

            def step(names: Sequence[str], config: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> None:
                result = dg.materialize(
                    assets, selection=list(names), tags=tags,
                    resources=defs.resources, instance=instance, raise_on_error=False,
                    run_config={"ops": {name: {"config": dict(one)} for name, one in config.items()}},
                )  # fmt: skip
                if not result.success:
                    failed = [event for event in result.all_events if event.is_step_failure]
                    raise SystemExit("\n".join(f"{plant}: {one.step_key} failed: {_why(one)}" for one in failed))

            step(["trading_calendar"], {})
            step(raw, {name: {"files": "always"} for name in raw}, months)
            step([*monthly, NEIGHBOURS], {}, months)
            step([LABELS, REPORT], {})
            if ablation is not None:
                panel = {**PANEL_CONFIG, "warm_up_days": SANDBOX_WARM_UP_DAYS}
                step([PANEL, FOLDS, ABLATION], {PANEL: panel, ABLATION: ablation})


def _why(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    said = data.user_failure_data.description if data.user_failure_data else ""
    return said or (data.error.message if data.error else "")


def told(plant: str, store: Store) -> list[str]:
    """A line of the table of a market that was walked, and what its ablation found beyond chance."""
    lines = lines_of(store.table(GROUP, REPORT).read())
    seen = {MADE_FOR.get(plant, ""), *READ_IT_TOO.get(plant, ())}
    mine = next((one for one in lines if one.family == MADE_FOR.get(plant)), None)
    others = [one for one in lines if one.family not in seen]
    cells = [*_cells(mine), *_cells(others[0] if others else None)]
    out = [_row(plant, cells)]
    path = store.local("evaluation", MAIN, FILE)
    if path.exists():
        board = json.loads(path.read_text())
        near = [(one, one["shortest"]) for one in board["comparisons"]]
        found = [
            f"{one['family']} ({one['model']}, {one['change']}: {said['mean']:+.3f}, t {said['t']:.1f})"
            for one, said in near
            if said["p_holm"] is not None and said["p_holm"] < LEVEL
        ]
        out.append(f"{'':<11}ablation, next day: {', '.join(found) or 'no family'}")
    return out


WIDTHS = (14, 30, 8, 8)


def _row(first: str, cells: Sequence[str]) -> str:
    return f"{first:<11}{''.join(f'{cell:<{width}}' for cell, width in zip(cells, WIDTHS * 2, strict=True))}".rstrip()


def _cells(line: Line | None) -> tuple[str, ...]:
    if line is None:
        return ("-", "", "", "")
    return (line.family, line.column, f"{line.t:+.1f}", f"{line.p_holm:.3f}")


def head() -> str:
    """The head of the table."""
    cells = ("made for it", "column", "t", "p Holm", "next family", "column", "t", "p Holm")
    return _row("planted", cells)


def main() -> int:
    """Walk every market and print what is found."""
    parser = argparse.ArgumentParser(prog="python -m atft_assets.benches.plants", description=__doc__.split("\n\n")[0])
    parser.add_argument("--names", type=int, default=250, help="names of the market (default: %(default)s)")
    parser.add_argument(
        "--start", type=date.fromisoformat, default=date(2022, 1, 4), help="first day (default: %(default)s)"
    )
    parser.add_argument(
        "--end", type=date.fromisoformat, default=date(2024, 12, 30), help="last day (default: %(default)s)"
    )
    parser.add_argument("--strength", type=float, help=f"of every plant (default: {STRENGTHS})")
    parser.add_argument("--seed", type=int, default=7, help="of the market (default: %(default)s)")
    parser.add_argument(
        "--plants", nargs="+", choices=(NONE, *PLANTED), default=[NONE, *PLANTED], help="markets to walk (default: all)"
    )
    parser.add_argument("--ablation", action="store_true", help="fit models too: minutes more a market")
    parser.add_argument("--walk", metavar="ROOT", help="only walk the road of one plant under ROOT")
    given = parser.parse_args()
    config = MarketConfig(
        n_names=given.names, start=given.start, end=given.end, seed=given.seed,
        level=0.0, interaction=0.0, deviation=0.0, neighbour=0.0,
    )  # fmt: skip
    if given.walk:
        logging.disable(logging.CRITICAL)  # Dagster's own lines
        (plant,) = given.plants
        strengths: dict[str, Any] = (
            {} if plant == NONE else {plant: STRENGTHS[plant] if given.strength is None else given.strength}
        )
        chosen = replace(config, **strengths)
        walk(given.walk, plant, chosen, {} if given.ablation else None)
        return 0
    print(head(), flush=True)
    wrong: list[str] = []
    for plant in given.plants:
        with tempfile.TemporaryDirectory(prefix="atft-plants-") as root:
            asked = [sys.executable, "-W", "ignore", "-m", "atft_assets.benches.plants", *sys.argv[1:]]
            if code := subprocess.run([*asked, "--walk", root, "--plants", plant], check=False).returncode:
                return code
            store = Store(root=root)
            print("\n".join(told(plant, store)), flush=True)
            wrong += faults_of(plant, lines_of(store.table(GROUP, REPORT).read()))
    print("\n".join(wrong) or "each plant in the family that is made for it, and in no other")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
