"""The whole curriculum over several seeds with its controls, and presets against each other, on one panel and fold.

Everything is scored by `metrics` on the same rows and compared by paired daily differences. The functions return or
print tables; they train in memory and write nothing but an optional JSON file of figures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atft_model.checkpoint import load_weights, write_atomically
from atft_model.curriculum import CURRICULUM, WHOLE, PhasePlan, first_with_graph
from atft_model.device import set_mode
from atft_model.evaluate import series_of
from atft_model.fit import Fit
from atft_model.interchange.config import Preset, preset
from atft_model.interchange.errors import ConfigError, RequestError
from atft_model.interchange.fold import BLOCKS, Fold
from atft_model.interchange.records import to_plain
from atft_model.interchange.statistics import MeanVerdict, holm, mean_by_day, paired_difference
from atft_model.metrics import daily_series, headline_series, summarise
from atft_model.panel import DevicePanel
from atft_model.predict import ensemble, read_scores, score_days
from atft_model.synthetic import Shape, synthetic
from atft_model.tables import mean_and_error, metric_cells, metric_header, p_cell, table

DEMO = Shape(names=224, days=560, features=56, neighbours=10)


@dataclass(frozen=True)
class Source:
    """Where a study's panel comes from: a directory with a fold, or else a synthetic panel of the demo's size.

    Raises:
        RequestError: a panel directory without a fold, or a fold without a panel.
    """

    directory: Path | None = None
    fold: Fold | None = None

    def __post_init__(self) -> None:
        if (self.directory is None) != (self.fold is None):
            raise RequestError("a panel directory needs a fold: give --panel DIR and --fold FILE, or neither")

    def open(self, config: Preset, device: torch.device, seed: int = 0) -> tuple[DevicePanel, Fold]:
        """The panel, with the look-back and chunks of a configuration, and its fold."""
        lookback, chunk_days = config.model.lookback, config.train.chunk_days
        if self.directory is None or self.fold is None:
            return synthetic(DEMO, lookback=lookback, chunk_days=chunk_days, seed=seed, device=device)
        return DevicePanel.load(self.directory, lookback=lookback, chunk_days=chunk_days, device=device), self.fold


def sizes(
    source: Source, presets: Sequence[str], epochs: int, seed: int, device: torch.device, mode: str,
    overrides: Mapping[str, Any],
) -> str:  # fmt: skip
    """Train each preset's whole network for a few epochs on the same fold; one table."""
    set_mode(mode, device)
    rows = []
    horizons: tuple[int, ...] = ()
    for name in presets:
        config = preset(name, **overrides)
        panel, fold = source.open(config, device, seed)
        horizons = panel.horizons
        fit = Fit(panel, fold, config, replace(WHOLE, epochs=epochs), seed=seed, mode=mode)
        started = time.perf_counter()
        for _ in fit.epochs():
            pass
        seconds = time.perf_counter() - started
        load_weights(fit.model, fit.kept)
        days = fit.validation_days
        summary = summarise(series_of(score_days(fit.model, panel, days), panel, days), horizons)
        rate = fit.rows[-1]["stock_days_per_s"]
        parameters = sum(fit.model.parameter_counts().values())
        rows.append([name, f"{parameters:,}", f"{seconds:.1f}", f"{rate:,.0f}", *metric_cells(summary, horizons)])
    return table(["preset", "parameters", "seconds", "stock-days/s", *metric_header(horizons)], rows)


@dataclass(frozen=True)
class Outcome:
    """One trained phase of one seed: its weights, what they score on the reported blocks, and what they cost."""

    plan: PhasePlan
    weights: dict[str, Tensor]
    scores: dict[str, Tensor]  # by block, [H, D, N]
    seconds: float
    validation: float
    epochs: int
    stock_days_per_s: float

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"phase {self.plan.phase} {self.plan.name}"


def curriculum(
    panel: DevicePanel, fold: Fold, config: Preset, blocks: Sequence[str], seed: int, mode: str,
    plans: Sequence[PhasePlan] = CURRICULUM, first_weights: Mapping[str, Tensor] | None = None,
) -> list[Outcome]:  # fmt: skip
    """Train the phases in order in memory, each from the one before, and score the blocks after each.

    first_weights: what the first of them starts from; None: random weights.
    """
    outcomes: list[Outcome] = []
    current = first_weights
    for plan in plans:
        started = time.perf_counter()
        fit = Fit(panel, fold, config, plan, seed=seed, mode=mode, weights=current)
        for _ in fit.epochs():
            pass
        current = fit.kept
        load_weights(fit.model, fit.kept)
        scores = {block: score_days(fit.model, panel, fold.places(panel.dates, block)) for block in blocks}
        seconds = time.perf_counter() - started
        trained = sum(r["seconds"] for r in fit.rows)
        rate = sum(r["stock_days_per_s"] * r["seconds"] for r in fit.rows) / max(trained, 1e-9)
        outcomes.append(Outcome(plan, fit.kept, scores, seconds, fit.kept_rank_ic, len(fit.rows), rate))
    return outcomes


class Board:
    """The table of one block: rows of mean and standard error over seeds, with paired daily gains.

    A board holds many comparisons, so beside the p of each stands what Holm makes of it among all of them.
    """

    def __init__(self, panel: DevicePanel, days: range) -> None:
        self.panel, self.days = panel, days
        self.horizons = panel.horizons
        self.gains: dict[str, MeanVerdict] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.daily: dict[str, Any] = {}

    def add(
        self, name: str, scores: Sequence[Tensor], *, over: Sequence[Tensor] = (), neutral: bool = False,
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        """A row from the scores [H, D, N] of all seeds; `over`: those that it should beat, their mean day by day."""
        runs, others = ([series_of(s, self.panel, self.days, neutral=neutral) for s in of] for of in (scores, over))
        summaries = [summarise(r, self.horizons) for r in runs]
        heads, other_heads = ([headline_series(r, self.horizons) for r in of] for of in (runs, others))
        paired = None
        if others:
            paired = paired_difference(mean_by_day(heads), mean_by_day(other_heads), max(self.horizons))
            self.gains[name] = paired
        self.rows[name] = {"by_seed": summaries, "paired": paired, "seconds": seconds}
        self.daily[name] = [h.tolist() for h in heads]

    def adjusted(self) -> dict[str, float]:
        """p of every gain of the board after Holm, by row."""
        return dict(zip(self.gains, holm([gain.p for gain in self.gains.values()]), strict=True))

    def figures(self) -> dict[str, Any]:
        """Every figure, for the JSON file."""
        after = self.adjusted()
        return {name: {**row, "p_holm": after.get(name)} for name, row in self.rows.items()}

    def __str__(self) -> str:
        after = self.adjusted()
        lines = []
        for name, row in self.rows.items():
            cells = [name, mean_and_error([s["rank_ic"] for s in row["by_seed"]])]
            cells += [mean_and_error([s["rank_ic_by_horizon"][str(h)] for s in row["by_seed"]]) for h in self.horizons]
            gain = self.gains.get(name)
            cells += [f"{gain.mean:+.4f}", p_cell(gain.p), p_cell(after[name])] if gain else ["", "", ""]
            lines.append([*cells, f"{row['seconds']:.1f}" if row["seconds"] is not None else ""])
        heads = ["", "RankIC", *(f"{h}d" for h in self.horizons), "gain", "p", "p Holm", "seconds"]
        return table(heads, lines)


def study(
    source: Source, config: Preset, seeds: int, blocks: Sequence[str], device: torch.device, mode: str, *,
    controls: bool, neutral: bool, out: Path | None, against: Sequence[Path] = (),
    epochs: Sequence[int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run the curriculum for several seeds (and the controls), print a table for each block, return every figure.

    Rows: each phase; their gain over the phase before, paired by day and seed; the ensemble of all seeds' last phase;
    the scores of the files `against`, and what the last phase and the ensemble gain over each. With such files a second
    table says how alike each phase's scores and theirs are; of a simulated market's components, that is what was found.
    Controls: all phases on permuted labels (nothing may be found); the first phase with the graph, from the same phase
    before it, with self edges only (what more epochs and parameters give) and with shuffled edges, compared with self
    edges (nothing may be gained).

    Args:
        neutral: also figures without what sector and volatility explain.
        against: files of scores; of those that name a block (`ridge.test.parquet`), each is read for that block only.
        epochs: of each phase; by default the curriculum's.

    Raises:
        ConfigError: not one number of epochs a phase.
    """
    set_mode(mode, device)
    plans = with_epochs(CURRICULUM, epochs)
    panel, fold = source.open(config, device)
    every: list[list[Outcome]] = []
    for seed in range(seeds):
        every.append(curriculum(panel, fold, config, blocks, seed, mode, plans))
        reached = "  ".join(f"{o.plan.phase}: {o.validation:+.4f} ({o.seconds:.0f} s)" for o in every[-1])
        print(f"seed {seed}: validation RankIC by phase  {reached}", flush=True)
    controlled = train_controls(source, config, every, blocks, device, mode, plans) if controls else {}
    panel_id = panel.description.panel_id
    figures: dict[str, Any] = {
        "panel_id": panel_id, "fold": fold, "seeds": seeds, "config": config, "blocks": {},
    }  # fmt: skip
    for block in blocks:
        files = [p for p in against if not any(f".{b}." in p.name for b in BLOCKS if b != block)]
        days = fold.places(panel.dates, block)
        theirs = {path.stem: read_scores(path, panel, days) for path in files}
        board = block_board(panel, days, block, every, controlled, theirs, neutral=neutral)
        alike = likeness(panel, days, block, every, theirs)
        print(f"\npanel {panel_id}, fold {fold.name}, block {block}, {seeds} seeds (mean ± SE), {device.type}, {mode}")
        print(board, flush=True)
        if theirs:
            print("\nrank correlation of the scores with those of")
            print(table(["", *theirs], [[k, *v.values()] for k, v in alike.items()]), flush=True)
        figures["blocks"][block] = {"rows": board.figures(), "daily": board.daily, "likeness": alike}
    if out is not None:
        write_atomically(out, json.dumps(to_plain(figures)).encode())
    return figures


def with_epochs(plans: Sequence[PhasePlan], epochs: Sequence[int] | None) -> list[PhasePlan]:
    """The plans with other numbers of epochs.

    Raises:
        ConfigError: not one number a phase.
    """
    if epochs is None:
        return list(plans)
    if len(epochs) != len(plans):
        raise ConfigError(f"--epochs has {len(epochs)} numbers: give one for each of the {len(plans)} phases")
    return [replace(plan, epochs=count) for plan, count in zip(plans, epochs, strict=True)]


def block_board(
    panel: DevicePanel, days: range, block: str, every: Sequence[Sequence[Outcome]],
    controlled: Mapping[str, Sequence[Outcome]], theirs: Mapping[str, Tensor], *, neutral: bool,
) -> Board:  # fmt: skip
    """One block's table.

    Args:
        every: by seed, the outcomes of the phases.
        controlled: by control, the outcome of each seed.
        theirs: scores [H, D, N] to compare with, by name.
    """

    def scored(outcomes: Sequence[Outcome]) -> list[Tensor]:
        return [o.scores[block] for o in outcomes]

    board = Board(panel, days)
    phases = [(seeds[0], seeds) for seeds in zip(*every, strict=True)]
    final, newest = phases[-1][0], scored(phases[-1][1])
    joint = ensemble(newest, panel.valid_on(days))
    for kind in (False, True) if neutral else (False,):
        mark = " neutral" if kind else ""
        before: Sequence[Tensor] = ()
        for one, seeds in phases:
            seconds = None if kind else float(np.mean([o.seconds for o in seeds]))
            board.add(f"{one.title}{mark}", scored(seeds), over=before, neutral=kind, seconds=seconds)
            before = scored(seeds)
        if len(every) > 1:
            board.add(f"ensemble of {len(every)}{mark}", [joint], over=newest, neutral=kind)
        for name, other in theirs.items():
            board.add(f"{name}{mark}", [other], neutral=kind)
            board.add(f"phase {final.plan.phase} over {name}{mark}", newest, over=[other], neutral=kind)
            if len(every) > 1:
                board.add(f"ensemble over {name}{mark}", [joint], over=[other], neutral=kind)
    if panel.oracle is not None:
        board.add("oracle", [panel.oracle[:, days.start : days.stop]])
    if controlled:
        place = first_with_graph([one.plan for one, _ in phases])
        graph, alone = phases[place][0].plan.phase, scored(controlled["self edges only"])
        board.add(f"phase {graph}, self edges only", alone, over=scored(phases[place - 1][1]))
        board.add(f"phase {graph}, shuffled edges", scored(controlled["shuffled edges"]), over=alone)
        board.add(f"phase {final.plan.phase}, permuted labels", scored(controlled["permuted labels"]))
    return board


def likeness(
    panel: DevicePanel, days: range, block: str, every: Sequence[Sequence[Outcome]], theirs: Mapping[str, Tensor]
) -> dict[str, dict[str, str]]:
    """How each phase's scores correlate in rank with those of others, by phase and name.

    What ranks is compared, not what it earned: the other scores stand where the returns would.
    """

    def alike(scores: Tensor, other: Tensor) -> float:
        figure: float = summarise(daily_series(scores, other, panel.valid_on(days)), panel.horizons)["rank_ic"]
        return figure

    return {
        seeds[0].title: {
            name: mean_and_error([alike(o.scores[block], other) for o in seeds]) for name, other in theirs.items()
        }
        for seeds in zip(*every, strict=True)
    }


def train_controls(
    source: Source, config: Preset, every: Sequence[Sequence[Outcome]], blocks: Sequence[str], device: torch.device,
    mode: str, plans: Sequence[PhasePlan],
) -> dict[str, list[Outcome]]:  # fmt: skip
    """One outcome a seed of each control: the graph's phase on cut and on shuffled edges, all on permuted labels."""
    place = first_with_graph(plans)
    (alone, fold), (shuffled, _), (null, _) = (source.open(config, device) for _ in range(3))
    alone.cut_edges()
    shuffled.shuffle_edges(1)
    null.permute_labels(1)

    def graph_phase(panel: DevicePanel) -> list[Outcome]:
        return [
            curriculum(panel, fold, config, blocks, seed, mode, [plans[place]], outcomes[place - 1].weights)[-1]
            for seed, outcomes in enumerate(every)
        ]

    return {
        "self edges only": graph_phase(alone),
        "shuffled edges": graph_phase(shuffled),
        "permuted labels": [
            curriculum(null, fold, config, blocks, seed, mode, plans)[-1] for seed in range(len(every))
        ],
    }
