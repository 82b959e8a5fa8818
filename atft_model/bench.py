"""Speed: feeding, step time by region, throughput, share of the bandwidth roof, memory; and the whole curriculum's
wall time.

All data is synthetic and made on the device. `demo` is the CPU size, `full` a GPU's. The comparison in the same run
is the usual way to train such a network: one (day, name) window a sample through a torch DataLoader, the very same
network on windows of its own.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from atft_model.checkpoint import plain, write_atomically
from atft_model.config import Preset, Switches, preset, replace_fields
from atft_model.curriculum import WHOLE
from atft_model.losses import day_correlation
from atft_model.metrics import summarise
from atft_model.model import ATFTGATFAN
from atft_model.panel import Panel
from atft_model.predict import build_model, precision
from atft_model.study import curriculum as run_curriculum
from atft_model.study import series_of, table
from atft_model.train import Fit, hardware, set_mode, versions

COPY_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
MATRIX = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Size:
    names: int
    days: int
    features: int
    neighbours: int
    preset: str


SIZES: Mapping[str, Size] = {
    "demo": Size(names=208, days=500, features=56, neighbours=10, preset="demo"),
    "full": Size(names=4480, days=2450, features=150, neighbours=15, preset="small"),
}


def panel_of(size: Size, config: Preset, device: torch.device, seed: int) -> Panel:
    """A synthetic panel of a size, made on the device."""
    return Panel.synthetic(
        names=size.names, days=size.days, features=size.features, neighbours=size.neighbours, seed=seed, device=device,
        lookback=config.model.lookback, chunk_days=config.train.chunk_days,
    )  # fmt: skip


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: torch.device, call: Callable[[], object], repeats: int, warm: int = 2) -> float:
    """Median seconds of a call, device work included."""
    for _ in range(warm):
        call()
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def roofs(device: torch.device) -> dict[str, float]:
    """What this machine can do: bytes/s of a large copy (read + written), FLOP/s of a large matrix product (bf16 on a
    GPU).
    """
    source = torch.randn(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    copy = timed(device, lambda: target.copy_(source), 5)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    n = MATRIX[device.type]
    a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
    multiply = timed(device, lambda: a @ b, 5)
    return {"bytes_per_s": 2 * source.numel() * 4 / copy, "flop_per_s": 2 * n**3 / multiply}


def step_bytes(model: ATFTGATFAN, batch_x: Tensor, days: int, neighbours: int) -> float:
    """Least bytes that one step's large tensors must move if every region were perfectly fused, forward and backward.

    Counted: features read (twice: forward, backward), the per-feature tensors [F, d, M] that the projection needs
    (written and read forward, read and its gradient written and read backward: 5 passes), hidden rows through encoder
    and attention (24 passes of [S, M', H]), gathered neighbour states (10 passes of [D, N, K, H] a layer). Parameters
    are negligible.
    """
    c = model.config
    width = 2 if model.compute_dtype == torch.bfloat16 else 4
    features, rows, chunks, names = batch_x.shape
    positions = rows * chunks * names
    total = 2.0 * batch_x.numel() * batch_x.element_size()
    total += 5.0 * positions * features * c.feature_size * width
    total += 24.0 * positions * c.hidden_size * width
    if model.switches.gat:
        total += 10.0 * len(c.gat_heads) * days * names * neighbours * c.hidden_size * width
    return total


def measure_step(fit: Fit, steps: int, device: torch.device) -> dict[str, float]:
    """Median seconds of feeding, of a whole step, and of its regions forward and backward."""
    panel = fit.panel
    fit.begin_epoch()
    order = fit.epoch_order(1).to(device)
    count = iter(range(10**9))

    def next_starts() -> Tensor:
        return order[next(count) % len(order)]

    result = {"feed": timed(device, lambda: panel.batch(next_starts()), steps)}
    result["step"] = timed(device, lambda: fit.step(next_starts()), steps, warm=6)
    result["host_waits"] = float(host_waits(fit, next_starts(), device))
    model, batch = fit.model.train(), panel.batch(next_starts())
    front, back = model.regions
    gradient = torch.randn(model.horizons, batch.valid[..., 0].numel(), panel.width, device=device)
    with precision(fit.mode, device):
        embedded = front(batch.x.flatten(2)).detach().requires_grad_()
        recurrent = model.recurrent(embedded).detach().requires_grad_()
        newest = model.newest(batch.x)
        graph = batch.graph if model.switches.gat else None
        regions: dict[str, tuple[Callable[[], Tensor], Tensor | None]] = {
            "front": (lambda: front(batch.x.flatten(2)), None),
            "lstm": (lambda: model.recurrent(embedded), None),
            "back": (lambda: back(embedded, recurrent, newest, graph).scores, gradient),
        }
        for name, (forward, upstream) in regions.items():
            result[f"{name} forward"] = timed(device, forward, steps)

            def both(forward: Callable[[], Tensor] = forward, upstream: Tensor | None = upstream) -> None:
                out = forward()
                out.backward(torch.ones_like(out) if upstream is None else upstream)

            result[f"{name} backward"] = max(0.0, timed(device, both, steps) - result[f"{name} forward"])
        model.zero_grad(set_to_none=True)

    def optimise() -> None:
        for _, parameter in fit.named:
            parameter.grad = torch.zeros_like(parameter)
        fit.update(order[0])

    result["optimizer"] = timed(device, optimise, steps)
    return result


def host_waits(fit: Fit, starts: Tensor, device: torch.device) -> bool:
    """Whether one step makes the host wait for the GPU anywhere (it must not); always False on a CPU."""
    if device.type != "cuda":
        return False
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        fit.step(starts)
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        print(f"a step waits for the GPU: {error}")
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


class WindowSamples(Dataset[dict[str, Tensor]]):
    """One (day, name) window a sample, as most trainers feed such a network: a copy of L x F values and its labels."""

    def __init__(self, panel: Panel) -> None:
        first, last = panel.meta.block("train")
        self.lookback = panel.lookback
        self.x = panel.x.permute(1, 2, 0).float().cpu().numpy()  # [padded rows, N, F]
        self.rank = panel.rank.cpu().numpy()
        self.mask = panel.label_mask.cpu().numpy()
        day, name = panel.valid[first : last + 1].cpu().numpy().nonzero()
        self.day, self.name = day + first, name

    def __len__(self) -> int:
        return len(self.day)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        t, n = self.day[index], self.name[index]
        return {
            "x": torch.from_numpy(self.x[t : t + self.lookback, n].copy()),
            "rank": torch.from_numpy(self.rank[:, t, n].copy()),
            "mask": torch.from_numpy(self.mask[:, t, n].copy()),
        }


COMPARED = ((20, (8, 32)), (60, (8, 64, 128)))
"""Lookbacks and chunk lengths of the comparison with per-sample windows."""


def window_trainer(panel: Panel, config: Preset, seconds: float, batch_size: int = 256) -> dict[str, float]:
    """Stock-days/s of the same network trained on shuffled single windows for about `seconds`, graph off."""
    device = panel.device
    torch.manual_seed(0)
    model = build_model(config.model, panel.meta, device).train()
    model.switches = Switches(gat=False)
    optimizer = torch.optim.AdamW(
        [p for n, p in model.named_parameters() if not n.startswith(("gat.", "fusion."))], fused=True
    )
    loader = DataLoader(WindowSamples(panel), batch_size=batch_size, shuffle=True, drop_last=True)
    done, fed, started = 0, 0.0, 0.0
    waiting = time.perf_counter()
    for i, sample in enumerate(loader):
        fed += time.perf_counter() - waiting
        if i == 2:
            synchronise(device)
            started, fed, done = time.perf_counter(), 0.0, 0
        x = sample["x"].to(device).permute(2, 1, 0)[:, :, None].contiguous()  # [F, L, 1, batch]
        scores = model(x).scores[:, 0]
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


def compare_with_windows(
    size: Size, base: Preset, device: torch.device, mode: str, seed: int, seconds: float
) -> list[dict[str, Any]]:
    """Day chunks against per-sample windows with a DataLoader: same network, same data, same machine, measured
    alternately.

    The graph is off in both, since a window alone has no neighbours. Each figure is the best of three alternating
    rounds, so a moment of other load on the machine hurts neither side for good. Prints a table and returns its rows.
    """
    rows = []
    for lookback, lengths in COMPARED:
        configs = {
            b: replace_fields(base, lookback=lookback, chunk_days=b, chunks_per_step=max(1, 16 // b)) for b in lengths
        }
        panels = {b: panel_of(size, configs[b], device, seed) for b in lengths}
        fits = {
            b: Fit(panels[b], configs[b], replace(WHOLE, on=Switches(gat=False)), seed=seed, mode=mode) for b in lengths
        }
        best = dict.fromkeys((0, *lengths), 0.0)
        share = 0.0
        for _ in range(3):
            windows = window_trainer(panels[lengths[0]], configs[lengths[0]], seconds)
            if windows["stock_days_per_s"] > best[0]:
                best[0], share = windows["stock_days_per_s"], windows["feed_share"]
            for b, fit in fits.items():
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
                best[b] = max(best[b], fed / (time.perf_counter() - started))
        for b, rate in best.items():
            rows.append(
                {
                    "lookback": lookback,
                    "chunk_days": b or None,
                    "stock_days_per_s": rate,
                    "ratio": rate / best[0],
                    "feed_share": share if b == 0 else None,
                }
            )
    cells = []
    for r in rows:
        feeding = f"windows + DataLoader ({r['feed_share'] or 0:.0%} feeding)"
        fed_by = f"chunks, B {r['chunk_days']}" if r["chunk_days"] else feeding
        cells.append([f"L {r['lookback']}", fed_by, f"{r['stock_days_per_s']:,.0f}", f"{r['ratio']:.1f}x"])
    print(table(["same network, no graph", "fed by", "stock-days/s", "ratio"], cells) + "\n", flush=True)
    return rows


def bench(
    size_name: str,
    device: torch.device,
    *,
    mode: str,
    steps: int,
    seed: int,
    curriculum: bool,
    compare: bool | None,
    preset_name: str | None,
    overrides: Mapping[str, Any],
    out: Path | None,
) -> dict[str, Any]:
    """Measures one size, prints the tables, returns (and writes) the figures."""
    size = SIZES[size_name]
    config = preset(preset_name or size.preset, **overrides)
    compare = size_name == "demo" if compare is None else compare
    set_mode(mode, device)
    place = hardware(device)
    print(
        f"{size_name}: {size.names:,} names x {size.days:,} days x {size.features} features, "
        f"L {config.model.lookback}, hidden {config.model.hidden_size}, d {config.model.feature_size}, "
        f"B {config.train.chunk_days}, G {config.train.chunks_per_step}; "
        f"{place.get('gpu', 'CPU')}, {place['threads']} threads, {mode}",
        flush=True,
    )
    started = time.perf_counter()
    panel = panel_of(size, config, device, seed)
    synchronise(device)
    figures: dict[str, Any] = {"size": asdict(size), "mode": mode, "hardware": place, "versions": versions()}
    figures["panel"] = {"seconds": time.perf_counter() - started, "gigabytes": panel.nbytes() / 1e9}
    print(
        f"panel made on the device in {figures['panel']['seconds']:.1f} s, "
        f"{figures['panel']['gigabytes']:.2f} GB resident"
    )
    figures["roofs"] = roofs(device)
    print(
        f"roofs measured here: copy {figures['roofs']['bytes_per_s'] / 1e9:,.0f} GB/s, "
        f"matrix product {figures['roofs']['flop_per_s'] / 1e12:,.2f} TFLOP/s\n",
        flush=True,
    )

    rows = []
    for label, switches in (
        ("encoder", Switches(False, False, False)),
        ("+ FAN, SAN", Switches(gat=False)),
        ("+ GAT", Switches()),
    ):
        started = time.perf_counter()
        fit = Fit(panel, config, replace(WHOLE, on=switches), seed=seed, mode=mode)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        times = measure_step(fit, steps, device)
        g, b = config.train.chunks_per_step, config.train.chunk_days
        stock_days = g * b * size.names
        flop = fit.model.flops_per_stock_day(b, size.neighbours) * stock_days
        moved = step_bytes(
            fit.model, panel.batch(torch.zeros(g, dtype=torch.int64, device=device)).x, g * b, size.neighbours
        )
        entry = {
            "seconds": times,
            "stock_days_per_s": stock_days / times["step"],
            "fed_stock_days_per_s": stock_days / times["feed"],
            "bandwidth_share": moved / times["step"] / figures["roofs"]["bytes_per_s"],
            "mfu": flop / times["step"] / figures["roofs"]["flop_per_s"],
            "peak_gigabytes": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
            "seconds_with_warm_up": time.perf_counter() - started,
        }
        figures[label] = entry
        ms = {k: v * 1e3 for k, v in times.items()}
        rows.append(
            [
                label,
                f"{ms['feed']:.2f}",
                *(f"{ms[f'{r} forward']:.1f}+{ms[f'{r} backward']:.1f}" for r in ("front", "lstm", "back")),
                f"{ms['optimizer']:.1f}",
                f"{ms['step']:.1f}",
                f"{entry['stock_days_per_s']:,.0f}",
                f"{entry['bandwidth_share']:.0%}",
                f"{entry['mfu']:.1%}",
                f"{entry['peak_gigabytes']:.1f}" if entry["peak_gigabytes"] is not None else "",
            ]
        )
        del fit
    header = [
        "ms a step",
        "feed",
        "front f+b",
        "lstm f+b",
        "back f+b",
        "optimizer",
        "step",
        "stock-days/s",
        "of roof",
        "MFU",
        "GB",
    ]
    print(table(header, rows), flush=True)
    if device.type == "cuda":
        waits = any(figures[label]["seconds"]["host_waits"] for label in ("encoder", "+ FAN, SAN", "+ GAT"))
        print("host waits inside a step: " + ("yes, see above" if waits else "none"))
    print(f"feed alone: {figures['+ GAT']['fed_stock_days_per_s']:,.0f} stock-days/s")
    print("of roof: bytes that a perfectly fused step would move, over the measured copy bandwidth\n")
    if compare:
        figures["windows"] = compare_with_windows(size, config, device, mode, seed, seconds=3.0)
    if curriculum:
        figures["curriculum"] = whole_curriculum(panel, config, mode, seed)
    if out is not None:
        write_atomically(out, json.dumps(plain(figures), indent=1).encode())
    return figures


def whole_curriculum(panel: Panel, config: Preset, mode: str, seed: int) -> dict[str, Any]:
    """All four phases on the synthetic panel, timed, with the test block's RankIC beside the oracle's."""
    device = panel.device
    synchronise(device)
    started = time.perf_counter()
    outcomes = run_curriculum(panel, config, ["test"], seed, mode)
    seconds = time.perf_counter() - started
    horizons = panel.meta.horizons
    rows = []
    tested = [summarise(series_of(o.scores["test"], panel, "test"), horizons) for o in outcomes]
    for outcome, summary in zip(outcomes, tested, strict=True):
        by = [f"{summary['rank_ic_by_horizon'][str(h)]:+.4f}" for h in horizons]
        rows.append(
            [
                f"phase {outcome.stage.phase} {outcome.stage.name}",
                str(outcome.epochs),
                f"{outcome.seconds:.1f}",
                f"{outcome.stock_days_per_s:,.0f}",
                f"{outcome.validation:+.4f}",
                f"{summary['rank_ic']:+.4f}",
                *by,
            ]
        )
    assert panel.oracle is not None
    first, last = panel.meta.block("test")
    oracle = summarise(series_of(panel.oracle[:, first : last + 1], panel, "test"), horizons)
    by = [f"{oracle['rank_ic_by_horizon'][str(h)]:+.4f}" for h in horizons]
    rows.append(["oracle", "", "", "", "", f"{oracle['rank_ic']:+.4f}", *by])
    header = [
        "curriculum",
        "epochs",
        "seconds",
        "stock-days/s",
        "validation",
        "test RankIC",
        *(f"{h}d" for h in horizons),
    ]
    print(table(header, rows))
    print(f"whole curriculum: {seconds:.1f} s wall, compilation and validation included", flush=True)
    return {
        "seconds": seconds,
        "oracle": oracle,
        "phases": [
            {
                "phase": o.stage.phase,
                "epochs": o.epochs,
                "seconds": o.seconds,
                "stock_days_per_s": o.stock_days_per_s,
                "validation": o.validation,
                "test": summary,
            }
            for o, summary in zip(outcomes, tested, strict=True)
        ],
    }
