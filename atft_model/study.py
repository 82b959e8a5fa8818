"""Comparisons on one panel: a run against others, presets against each other, seeds and controls of the whole
curriculum.

Everything is scored by `metrics` on the same rows and compared by paired daily differences. The functions return or
print tables; the studies train in memory and write nothing but an optional JSON file of figures.
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

from atft_model.checkpoint import load_weights, plain, read_run, write_atomically
from atft_model.config import Preset, preset, to_json
from atft_model.curriculum import STAGES, WHOLE, Stage
from atft_model.graph import density
from atft_model.metrics import Array, daily_series, headline_series, paired_difference, residualise, summarise
from atft_model.panel import BLOCKS, Panel, PanelError, read_meta
from atft_model.predict import block_view, build_model, ensemble, load_run, read_scores, score_block
from atft_model.train import Fit, set_mode


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text table, first column left, the others right."""
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = str(cells[0]).ljust(widths[0])
        return "  ".join([first, *(str(c).rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *(line(r) for r in rows)])


def neutral_exposures(panel: Panel, feature: str, block: str) -> tuple[Tensor, Tensor]:
    """(the feature's values [D, N], sector codes [N]) that neutral figures are residualised on."""
    names = [f.name for f in panel.meta.features]
    if feature not in names:
        close = [n for n in names if "vol" in n][:10]
        raise PanelError(
            f"the panel has no feature {feature!r} to neutralise; volatility features: {', '.join(close) or 'none'}"
        )
    if not panel.meta.sector33:
        raise PanelError("panel.json has no sector33: neutral figures need it")
    first, last = panel.meta.block(block)
    start = panel.lookback - 1
    exposure = panel.x[names.index(feature), start + first : start + last + 1].float()
    codes = {s: i for i, s in enumerate(sorted(set(panel.meta.sector33)))}
    group = [codes[s] for s in panel.meta.sector33] + [0] * (panel.names - len(panel.meta.codes))
    return exposure, torch.tensor(group, device=panel.device)


def neutralise(scores: Tensor, panel: Panel, block: str, feature: str) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, returns, mask) with the feature and the sector taken out of both, per day and horizon."""
    returns, valid = block_view(panel, block)
    exposure, group = neutral_exposures(panel, feature, block)
    mask = valid & torch.isfinite(returns) & torch.isfinite(scores)
    new_scores = torch.stack([residualise(s, exposure, group, m) for s, m in zip(scores, mask, strict=True)])
    new_returns = torch.stack([residualise(r, exposure, group, m) for r, m in zip(returns, mask, strict=True)])
    return new_scores, torch.where(mask, new_returns, torch.nan), valid


def series_of(scores: Tensor, panel: Panel, block: str, neutral: str | None = None) -> dict[str, Array]:
    """Daily RankIC and IC of scores [Z, D, N], raw or neutral."""
    returns, valid = block_view(panel, block)
    if neutral is not None:
        scores, returns, valid = neutralise(scores, panel, block, neutral)
    return daily_series(scores, returns, valid)


def metric_cells(summary: Mapping[str, Any], horizons: Sequence[int]) -> list[str]:
    by = [f"{summary['rank_ic_by_horizon'][str(h)]:+.4f}" for h in horizons]
    t = [f"{summary['t_newey_west_by_horizon'][str(h)]:+.1f}" for h in horizons]
    return [f"{summary['rank_ic']:+.4f}", *by, *t]


def metric_header(horizons: Sequence[int]) -> list[str]:
    return ["RankIC", *(f"{h}d" for h in horizons), *(f"t {h}d" for h in horizons)]


def evaluate_runs(
    runs: Sequence[Path], panel_directory: Path, block: str, device: torch.device, mode: str, neutral: str | None,
    *, as_json: bool,
) -> str:  # fmt: skip
    """Figures of finished runs on a block; each after the first is compared with the first, paired by day."""
    set_mode(mode, device)
    rows: list[list[str]] = []
    documents: list[dict[str, Any]] = []
    reference: dict[str | None, Array] = {}
    header: list[str] = []
    for path in runs:
        models, panel = load_run(path, panel_directory, device)
        first, last = panel.meta.block(block)
        scores = ensemble([score_block(m, panel, block, mode=mode) for m in models], panel.valid[first : last + 1])
        header = ["run", *metric_header(panel.meta.horizons), "vs first", "p"]
        for kind in (None, neutral) if neutral else (None,):
            series = series_of(scores, panel, block, kind)
            summary = summarise(series, panel.meta.horizons)
            daily = headline_series(series, panel.meta.horizons)
            reference.setdefault(kind, daily)
            paired = paired_difference(daily, reference[kind])
            name = f"{path.name}{' neutral' if kind else ''}"
            same = daily is reference[kind]
            versus = ["", ""] if same else [f"{paired['difference']:+.4f}", f"{paired['p']:.3f}"]
            rows.append([name, *metric_cells(summary, panel.meta.horizons), *versus])
            documents.append({"run": str(path), "neutral": kind, "block": block, **summary, "paired": paired})
    return json.dumps(plain(documents), indent=1) if as_json else table(header, rows)


def open_panel(directory: Path | None, config: Preset, device: torch.device, seed: int = 0) -> Panel:
    """A panel directory, or a synthetic panel of the demo's size."""
    lookback, chunk_days = config.model.lookback, config.train.chunk_days
    if directory is not None:
        return Panel.load(directory, lookback=lookback, chunk_days=chunk_days, device=device)
    return Panel.synthetic(
        names=224,
        days=560,
        features=56,
        neighbours=10,
        seed=seed,
        lookback=lookback,
        chunk_days=chunk_days,
        device=device,
    )


def sizes(
    directory: Path | None, presets: Sequence[str], epochs: int, seed: int, device: torch.device, mode: str,
    overrides: Mapping[str, Any],
) -> str:  # fmt: skip
    """Trains each preset's whole network for a few epochs on the same folds; one table."""
    set_mode(mode, device)
    rows = []
    horizons: tuple[int, ...] = ()
    for name in presets:
        config = preset(name, **overrides)
        panel = open_panel(directory, config, device, seed)
        horizons = panel.meta.horizons
        fit = Fit(panel, config, replace(WHOLE, epochs=epochs), seed=seed, mode=mode)
        started = time.perf_counter()
        for _ in fit.epochs():
            pass
        seconds = time.perf_counter() - started
        load_weights(fit.model, fit.best)
        summary = summarise(
            series_of(score_block(fit.model, panel, "validation", mode=mode), panel, "validation"), horizons
        )
        rate = fit.rows[-1]["stock_days_per_s"]
        parameters = sum(fit.model.parameter_counts().values())
        rows.append([name, f"{parameters:,}", f"{seconds:.1f}", f"{rate:,.0f}", *metric_cells(summary, horizons)])
    return table(["preset", "parameters", "seconds", "stock-days/s", *metric_header(horizons)], rows)


@dataclass(frozen=True)
class Outcome:
    """One trained stage of one seed: its weights, what they score on the reported blocks, and what they cost."""

    stage: Stage
    weights: dict[str, Tensor]
    scores: dict[str, Tensor]  # by block, [Z, D, N]
    seconds: float
    validation: float
    epochs: int
    stock_days_per_s: float


def curriculum(
    panel: Panel, config: Preset, blocks: Sequence[str], seed: int, mode: str, stages: Sequence[Stage] = STAGES,
    first_weights: Mapping[str, Tensor] | None = None,
) -> list[Outcome]:  # fmt: skip
    """Trains the stages in order in memory, each from the one before, and scores the blocks after each."""
    outcomes: list[Outcome] = []
    current = first_weights
    for stage in stages:
        started = time.perf_counter()
        fit = Fit(panel, config, stage, seed=seed, mode=mode, weights=current)
        for _ in fit.epochs():
            pass
        current = fit.best
        model = build_model(config.model, panel.meta, panel.device)
        load_weights(model, fit.best)
        model.switches = stage.on
        model.compute_dtype = fit.model.compute_dtype
        scores = {block: score_block(model, panel, block, mode=mode) for block in blocks}
        seconds = time.perf_counter() - started
        trained = sum(r["seconds"] for r in fit.rows)
        rate = sum(r["stock_days_per_s"] * r["seconds"] for r in fit.rows) / max(trained, 1e-9)
        outcomes.append(Outcome(stage, fit.best, scores, seconds, fit.best_rank_ic, len(fit.rows), rate))
    return outcomes


def mean_and_error(values: Sequence[float]) -> str:
    """Mean and standard error over seeds; of one value just that."""
    x = np.asarray(values, dtype=np.float64)
    return f"{x.mean():+.4f}" + (f" ± {x.std(ddof=1) / np.sqrt(len(x)):.4f}" if len(x) > 1 else "")


def mean_by_day(series: Sequence[Array]) -> Array:
    """Mean over seeds of daily series [D], NaN on days that none has."""
    x = np.asarray(series, dtype=np.float64)
    known = np.isfinite(x).sum(0)
    return np.where(known > 0, np.nansum(x, 0) / np.maximum(known, 1), np.nan)


def oracle_series(panel: Panel, block: str) -> dict[str, Array] | None:
    """The attainable series of a synthetic panel, None for any other."""
    if panel.oracle is None:
        return None
    first, last = panel.meta.block(block)
    return series_of(panel.oracle[:, first : last + 1], panel, block)


class Board:
    """The table of one block: rows of mean and standard error over seeds, with paired daily gains."""

    def __init__(self, panel: Panel, block: str) -> None:
        self.panel, self.block = panel, block
        self.horizons = panel.meta.horizons
        self.cells: list[list[str]] = []
        self.rows: dict[str, Any] = {}
        self.daily: dict[str, Any] = {}

    def add(
        self, name: str, scores: Sequence[Tensor], *, over: Sequence[Tensor] = (), neutral: str | None = None,
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        """A row from the scores [Z, D, N] of all seeds; `over`: those that it should beat, their mean day by day."""
        runs, others = ([series_of(s, self.panel, self.block, neutral) for s in of] for of in (scores, over))
        summaries = [summarise(r, self.horizons) for r in runs]
        heads, other_heads = ([headline_series(r, self.horizons) for r in of] for of in (runs, others))
        cells = [name, mean_and_error([s["rank_ic"] for s in summaries])]
        cells += [mean_and_error([s["rank_ic_by_horizon"][str(h)] for s in summaries]) for h in self.horizons]
        paired = None
        if others:
            paired = paired_difference(mean_by_day(heads), mean_by_day(other_heads))
            cells += [f"{paired['difference']:+.4f}", f"{paired['p']:.4f}"]
        else:
            cells += ["", ""]
        self.cells.append([*cells, f"{seconds:.1f}" if seconds is not None else ""])
        self.rows[name] = {"by_seed": summaries, "paired": paired, "seconds": seconds}
        self.daily[name] = [h.tolist() for h in heads]

    def __str__(self) -> str:
        return table(["", "RankIC", *(f"{h}d" for h in self.horizons), "gain", "p", "seconds"], self.cells)


def study(
    directory: Path | None, config: Preset, seeds: int, blocks: Sequence[str], device: torch.device, mode: str, *,
    controls: bool, neutral: str | None, out: Path | None, against: Sequence[Path] = (),
    epochs: Sequence[int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Runs the curriculum for several seeds (and the controls), prints a table for each block, returns every figure.

    Rows: each phase; their gain over the phase before, paired by day and seed; the ensemble of all seeds' last phase;
    the scores of the files `against`, and what the last phase and the ensemble gain over each. With such files a second
    table says how alike each phase's scores and theirs are; of a simulated market's components, that is what was found.
    Controls: phases 0-3 on permuted labels (nothing may be found); phase 2 from the same phase 1 with self edges only
    (what more epochs and parameters give) and with shuffled edges, compared with self edges (nothing may be gained).

    Args:
        against: files of scores; of those that name a block (`ridge.test.parquet`), each is read for that block only.
        epochs: of each phase; by default the curriculum's.
    """
    set_mode(mode, device)
    panel = open_panel(directory, config, device)
    stages = [replace(s, epochs=e) for s, e in zip(STAGES, epochs or [s.epochs for s in STAGES], strict=True)]
    every: list[list[Outcome]] = []
    for seed in range(seeds):
        every.append(curriculum(panel, config, blocks, seed, mode, stages))
        reached = "  ".join(f"{o.stage.phase}: {o.validation:+.4f} ({o.seconds:.0f} s)" for o in every[-1])
        print(f"seed {seed}: validation RankIC by phase  {reached}", flush=True)
    controlled = train_controls(directory, config, every, blocks, device, mode, stages) if controls else {}
    figures: dict[str, Any] = {"panel_id": panel.meta.panel_id, "seeds": seeds, "config": to_json(config), "blocks": {}}
    for block in blocks:
        files = [p for p in against if not any(f".{b}." in p.name for b in BLOCKS if b != block)]
        board, likeness = block_board(panel, block, every, controlled, neutral, files)
        print(f"\npanel {panel.meta.panel_id}, block {block}, {seeds} seeds (mean ± SE), {device.type}, {mode}")
        print(board, flush=True)
        if files:
            print("\nrank correlation of the scores with those of")
            print(table(["", *(f.stem for f in files)], [[k, *v.values()] for k, v in likeness.items()]), flush=True)
        figures["blocks"][block] = {"rows": board.rows, "daily": board.daily, "likeness": likeness}
    if out is not None:
        write_atomically(out, json.dumps(plain(figures)).encode())
    return figures


def block_board(
    panel: Panel, block: str, every: Sequence[Sequence[Outcome]], controlled: Mapping[str, Sequence[Outcome]],
    neutral: str | None, files: Sequence[Path],
) -> tuple[Board, dict[str, dict[str, str]]]:  # fmt: skip
    """One block's table, and for each phase how its scores correlate in rank with those of each file."""

    def scored(outcomes: Sequence[Outcome]) -> list[Tensor]:
        return [o.scores[block] for o in outcomes]

    board = Board(panel, block)
    first, last = panel.meta.block(block)
    valid = panel.valid[first : last + 1]
    phases = [(seeds[0].stage, seeds) for seeds in zip(*every, strict=True)]
    newest = scored(phases[-1][1])
    joint = ensemble(newest, valid)
    theirs = {path.stem: read_scores(path, panel, block) for path in files}
    for kind in (None, neutral) if neutral else (None,):
        mark = " neutral" if kind else ""
        before: Sequence[Tensor] = ()
        for stage, seeds in phases:
            seconds = None if kind else float(np.mean([o.seconds for o in seeds]))
            name = f"phase {stage.phase} {stage.name}{mark}"
            board.add(name, scored(seeds), over=before, neutral=kind, seconds=seconds)
            before = scored(seeds)
        if len(every) > 1:
            board.add(f"ensemble of {len(every)}{mark}", [joint], over=newest, neutral=kind)
        for name, other in theirs.items():
            board.add(f"{name}{mark}", [other], neutral=kind)
            board.add(f"phase {phases[-1][0].phase} over {name}{mark}", newest, over=[other], neutral=kind)
            if len(every) > 1:
                board.add(f"ensemble over {name}{mark}", [joint], over=[other], neutral=kind)
    if panel.oracle is not None:
        board.add("oracle", [panel.oracle[:, first : last + 1]])
    if controlled:
        alone = scored(controlled["self edges only"])
        board.add("phase 2, self edges only", alone, over=scored(phases[1][1]))
        board.add("phase 2, shuffled edges", scored(controlled["shuffled edges"]), over=alone)
        board.add("phase 3, permuted labels", scored(controlled["permuted labels"]))
    # what ranks is compared, not what it earned: their scores stand where the returns would
    likeness = {
        f"phase {stage.phase} {stage.name}": {
            name: mean_and_error(
                [summarise(daily_series(s, other, valid), board.horizons)["rank_ic"] for s in scored(seeds)]
            )
            for name, other in theirs.items()
        }
        for stage, seeds in phases
    }
    return board, likeness


def train_controls(
    directory: Path | None, config: Preset, every: Sequence[Sequence[Outcome]], blocks: Sequence[str],
    device: torch.device, mode: str, stages: Sequence[Stage],
) -> dict[str, list[Outcome]]:  # fmt: skip
    """One outcome a seed of each control: phase 2 on cut and on shuffled edges, all phases on permuted labels."""

    def phase2(panel: Panel) -> list[Outcome]:
        return [
            curriculum(panel, config, blocks, seed, mode, stages[2:3], outcomes[1].weights)[-1]
            for seed, outcomes in enumerate(every)
        ]

    alone, shuffled, null = (open_panel(directory, config, device) for _ in range(3))
    alone.cut_edges()
    shuffled.shuffle_edges(1)
    null.permute_labels(1)
    return {
        "self edges only": phase2(alone),
        "shuffled edges": phase2(shuffled),
        "permuted labels": [curriculum(null, config, blocks, s, mode, stages)[-1] for s in range(len(every))],
    }


def describe(directory: Path) -> str:
    """What a panel or run directory holds, in words."""
    if (directory / "panel.json").exists():
        meta = read_meta(directory)
        lines = [
            f"panel {meta.panel_id}: {len(meta.codes):,} names, {len(meta.dates):,} days "
            f"{meta.dates[0]} to {meta.dates[-1]}",
            f"{len(meta.features)} features, catalogue {meta.catalogue_hash}, label {meta.label}, "
            f"horizons {', '.join(map(str, meta.horizons))}",
        ]
        for name in BLOCKS:
            if name in meta.split:
                first, last = meta.block(name)
                lines.append(f"  {name:<10} {meta.dates[first]} to {meta.dates[last]}, {last - first + 1} days")
        families: dict[str, int] = {}
        for feature in meta.features:
            families[feature.family] = families.get(feature.family, 0) + 1
        lines.append("  families: " + ", ".join(f"{k} {v}" for k, v in families.items()))
        panel = Panel.load(directory, lookback=2, chunk_days=1)
        shape = density(panel.neighbours[:, : len(meta.codes)], panel.neighbour_mask[:, : len(meta.codes)])
        lines.append(
            f"  graph: {panel.neighbours.shape[0]} periods, {panel.neighbours.shape[2]} slots, mean degree "
            f"{shape['mean_degree']:.1f}, {shape['isolated_share']:.1%} of names without neighbours"
        )
        return "\n".join(lines)
    run = read_run(directory)
    lines = [f"run {run['run_id']}: phase {run['phase']} {run['name']}, {run['status']}, panel {run['panel_id']}"]
    if run.get("parent"):
        lines.append(f"  started from {run['parent']['run_id']} ({run['parent']['path']})")
    if "parameters" in run:
        counts = run["parameters"]
        lines.append(f"  {sum(counts.values()):,} parameters: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()))
    if "validation" in run:
        v = run["validation"]
        ranks = ", ".join(
            f"{h}d {r:+.4f} (t {v['t_newey_west_by_horizon'][h]:+.1f})" for h, r in v["rank_ic_by_horizon"].items()
        )
        lines.append(f"  validation RankIC {v['rank_ic']:+.4f} on {v['days']} days: {ranks}")
        lines.append(
            f"  best epoch {run['best_epoch']} of {run['epochs']}, {run['seconds']:.1f} s, "
            f"{run['stock_days_per_s']:,.0f} stock-days/s"
        )
        lines.append(
            "  families: "
            + ", ".join(f"{k} {x:.1%}" for k, x in sorted(run["family_importance"].items(), key=lambda i: -i[1]))
        )
    guards = run.get("guards")
    if guards:
        lines.append("  guards: " + ("passed" if guards["passed"] else "; ".join(guards["messages"])))
    return "\n".join(lines)
