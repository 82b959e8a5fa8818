"""The usual way to train such a network, for comparison: one (day, name) window a sample through a torch DataLoader.

It is the very same network, on windows of its own, on the same machine in the same run.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from atft_model.curriculum import WHOLE
from atft_model.device import synchronise
from atft_model.fit import Fit
from atft_model.interchange.config import Preset, Switches, replace_fields
from atft_model.interchange.fold import Fold
from atft_model.losses import day_correlation
from atft_model.model import build_model, sizes_of
from atft_model.panel import DevicePanel
from atft_model.synthetic import Shape, synthetic
from atft_model.tables import table

COMPARED = ((20, (8, 32)), (60, (8, 64, 128)))
"""Lookbacks and chunk lengths of the comparison."""
NO_GRAPH = Switches(gat=False)  # a window alone has no neighbours


class WindowSamples(Dataset[dict[str, Tensor]]):
    """One (day, name) a sample, as most trainers feed such a network: a copy of its row, its window and its labels."""

    def __init__(self, panel: DevicePanel, days: range) -> None:
        self.lookback = panel.lookback
        self.x = panel.x.float().cpu().numpy()  # [T, N, F]
        self.sequences = panel.sequences.permute(1, 2, 0).float().cpu().numpy()  # [L-1 + T, N, R]
        self.rank = panel.rank.cpu().numpy()
        self.mask = panel.label_mask.cpu().numpy()
        day, name = panel.valid_on(days).cpu().numpy().nonzero()
        self.day, self.name = day + days.start, name

    def __len__(self) -> int:
        return len(self.day)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        t, n = self.day[index], self.name[index]
        return {
            "newest": torch.from_numpy(self.x[t, n].copy()),
            "window": torch.from_numpy(self.sequences[t : t + self.lookback, n].copy()),
            "rank": torch.from_numpy(self.rank[:, t, n].copy()),
            "mask": torch.from_numpy(self.mask[:, t, n].copy()),
        }


def window_trainer(
    panel: DevicePanel, fold: Fold, config: Preset, seconds: float, batch_size: int = 256
) -> dict[str, float]:
    """Stock-days/s of the same network trained on shuffled single windows for about `seconds`, graph off."""
    device = panel.device
    torch.manual_seed(0)
    model = build_model(config.model, sizes_of(panel.description), switches=NO_GRAPH, device=device).train()
    optimizer = torch.optim.AdamW(
        [p for n, p in model.named_parameters() if not n.startswith(("gat.", "fusion."))], fused=True
    )
    samples = WindowSamples(panel, fold.places(panel.dates, "train"))
    loader = DataLoader(samples, batch_size=batch_size, shuffle=True, drop_last=True)
    done, fed, started = 0, 0.0, 0.0
    waiting = time.perf_counter()
    for i, sample in enumerate(loader):
        fed += time.perf_counter() - waiting
        if i == 2:
            synchronise(device)
            started, fed, done = time.perf_counter(), 0.0, 0
        windows = sample["window"].to(device).permute(2, 1, 0)[:, :, None].contiguous()  # [R, L, 1, batch]
        scores = model(sample["newest"].to(device)[None], windows).scores[:, 0]
        rank, mask = sample["rank"].to(device).T, sample["mask"].to(device).T
        loss = (1.0 - day_correlation(scores, rank, mask)[0]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += batch_size
        if i > 4 and time.perf_counter() - started > seconds:
            break
        waiting = time.perf_counter()
    synchronise(device)
    elapsed = time.perf_counter() - started
    return {"stock_days_per_s": done / elapsed, "feed_share": fed / elapsed}


def chunk_rate(fit: Fit, seconds: float) -> float:
    """Stock-days/s of training by chunks of days for about `seconds`."""
    device = fit.panel.device
    fit.begin_epoch()
    order = fit.epoch_order(1).to(device)
    for i in range(2):
        fit.step(order[i])
    fit.reset_sums()
    synchronise(device)
    started, i = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        fit.step(order[i % len(order)])
        i += 1
    fed = fit.sums["stock_days"].item()
    return fed / (time.perf_counter() - started)


def compare_with_windows(
    shape: Shape, base: Preset, device: torch.device, mode: str, seed: int, seconds: float
) -> list[dict[str, Any]]:
    """Day chunks against per-sample windows: same network, data and machine, measured alternately.

    The graph is off in both. Each figure is the best of three alternating rounds, so a moment of other load on the
    machine hurts neither side for good. Prints a table and returns its rows.
    """
    rows: list[dict[str, Any]] = []
    for lookback, lengths in COMPARED:
        fits = {}
        for b in lengths:
            config = replace_fields(base, lookback=lookback, chunk_days=b, chunks_per_step=max(1, 16 // b), names=0)
            panel, fold = synthetic(shape, seed=seed, device=device, lookback=lookback, chunk_days=b)
            fits[b] = Fit(panel, fold, config, replace(WHOLE, on=NO_GRAPH), seed=seed, mode=mode)
        first = fits[lengths[0]]
        best = dict.fromkeys((0, *lengths), 0.0)
        share = 0.0
        for _ in range(3):
            windows = window_trainer(first.panel, fold, first.config, seconds)
            if windows["stock_days_per_s"] > best[0]:
                best[0], share = windows["stock_days_per_s"], windows["feed_share"]
            for b, fit in fits.items():
                best[b] = max(best[b], chunk_rate(fit, seconds))
        rows += [
            {
                "lookback": lookback,
                "chunk_days": b or None,
                "stock_days_per_s": rate,
                "ratio": rate / best[0],
                "feed_share": share if b == 0 else None,
            }
            for b, rate in best.items()
        ]
    cells = []
    for r in rows:
        feeding = f"windows + DataLoader ({r['feed_share'] or 0:.0%} feeding)"
        fed_by = f"chunks, B {r['chunk_days']}" if r["chunk_days"] else feeding
        cells.append([f"L {r['lookback']}", fed_by, f"{r['stock_days_per_s']:,.0f}", f"{r['ratio']:.1f}x"])
    print(table(["same network, no graph", "fed by", "stock-days/s", "ratio"], cells) + "\n", flush=True)
    return rows
