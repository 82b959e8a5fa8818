"""Speed: feeding, step time by region, throughput, share of the bandwidth roof, memory; and the whole curriculum's
wall time.

All data is synthetic and made on the device. `demo` is the CPU size, `full` a GPU's. `bench_windows.py` compares with
the usual way to train such a network in the same run.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atft_model.bench_windows import compare_with_windows
from atft_model.checkpoint import write_atomically
from atft_model.curriculum import WHOLE
from atft_model.device import hardware, set_mode, synchronise, versions
from atft_model.evaluate import series_of
from atft_model.fit import Fit
from atft_model.interchange.config import NEWEST_ROW, Preset, Switches, preset
from atft_model.interchange.fold import Fold
from atft_model.interchange.records import to_plain
from atft_model.metrics import summarise
from atft_model.model import ATFTGATFAN
from atft_model.panel import Batch, DevicePanel
from atft_model.study import Outcome
from atft_model.study import curriculum as run_curriculum
from atft_model.synthetic import Shape, synthetic
from atft_model.tables import table

COPY_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
MATRIX = {"cpu": 1024, "cuda": 8192}
STEPS = {
    "newest row": NEWEST_ROW,
    "+ sequences": Switches(fan=False, san=False, gat=False),
    "+ FAN, SAN": Switches(gat=False),
    "+ GAT": Switches(),
}
"""Networks whose steps are timed."""
REGIONS = ("front", "lstm", "back")
"""A step's parts: up to the LSTM, the LSTM, and from there to the scores; without sequences all of it is `back`."""


@dataclass(frozen=True)
class Size:
    """A synthetic panel and the preset that is measured on it."""

    shape: Shape
    preset: str


SIZES: Mapping[str, Size] = {
    "demo": Size(Shape(names=208, days=500, features=56, neighbours=10), "demo"),
    "full": Size(Shape(names=4480, days=2450, features=150, neighbours=15), "small"),
}


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
    """What this machine can do: bytes/s of a large copy (read and written), FLOP/s of a large matrix product.

    The product is in bfloat16 on a GPU, in float32 on a CPU.
    """
    source = torch.randn(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    copy = timed(device, lambda: target.copy_(source), 5)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    n = MATRIX[device.type]
    a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
    multiply = timed(device, lambda: a @ b, 5)
    return {"bytes_per_s": 2 * source.numel() * 4 / copy, "flop_per_s": 2 * n**3 / multiply}


def step_bytes(model: ATFTGATFAN, batch: Batch) -> float:
    """Least bytes that one step's large tensors must move if every region were perfectly fused, forward and backward.

    Counted: inputs read (twice: forward, backward), the hidden rows of the newest row (10 passes of both layers), the
    per-input tensors [R, E, M] that the projection of the sequences needs (written and read forward, read and its
    gradient written and read backward: 5 passes), hidden rows through encoder and attention (24 passes of [S, G*W, A]),
    gathered neighbour states (10 passes of [D, W, K, C] a layer). Parameters are negligible.
    """
    c = model.config
    width = 2 if model.compute_dtype == torch.bfloat16 else 4
    days, names, _ = batch.newest.shape
    total = 2.0 * batch.newest.numel() * batch.newest.element_size()
    total += 10.0 * days * names * (c.newest_size + c.hidden_size) * width
    if batch.windows is not None:
        inputs, positions = batch.windows.shape[0], batch.windows[0].numel()
        total += 2.0 * batch.windows.numel() * batch.windows.element_size()
        total += 5.0 * positions * inputs * c.feature_size * width
        total += 24.0 * positions * c.temporal_size * width
    if model.switches.gat:
        total += 10.0 * len(c.gat_heads) * days * names * batch.graph.neighbours.shape[-1] * c.hidden_size * width
    return total


def flops_per_stock_day(model: ATFTGATFAN, chunk_days: int, neighbours: int) -> float:
    """Multiply-add FLOPs of one training step (forward and backward, 3 x forward) per predicted (day, name).

    Counted from the shapes: 2 FLOP for each multiply-add of every matrix product; element-wise work is left out.
    Rows of a chunk are shared by its days, so encoder work counts S / B times.
    """
    config, f, on = model.config, model.sizes.features, model.switches
    c = config.hidden_size
    newest = f * config.newest_size + config.newest_size * c
    gat = (len(config.gat_heads) * (2 * c * c + neighbours * 5 * c) + f * c + 2 * c * c) if on.gat else 0
    heads = 3 * c * c + c * model.sizes.horizons * (1 + 2 * config.head_rank)
    return 6.0 * (newest + _temporal_products(model, chunk_days) * on.temporal + gat + heads)


def _temporal_products(model: ATFTGATFAN, chunk_days: int) -> float:
    """Multiply-adds of the temporal encoder, forward, per predicted (day, name)."""
    config, r = model.config, model.sizes.sequences
    a, e = config.temporal_size, config.feature_size
    rows = (config.lookback + chunk_days - 1) / chunk_days
    select = r * config.context_size + 3 * config.context_size**2 + config.context_size * r
    encode = r * 2 * e * e + r * e * a + select + config.lstm_layers * 8 * a * a + 2 * a * a
    keys = a * a + a * (a // config.attention_heads)
    inner = config.feed_forward * a
    query = a * a + 2 * config.lookback * a + a * a // config.attention_heads + 2 * a * a + a * inner + 2 * inner * a
    attention = (config.attention_blocks - 1) * rows * (keys + query) + rows * keys + query
    san = (2 * config.san_slices * a + 2 * a) * config.san_rank if model.switches.san else 0
    return rows * encode + attention + san + a * config.hidden_size


def measure_step(fit: Fit, steps: int) -> dict[str, float]:
    """Median seconds of feeding, of a whole step, of its regions forward and backward, and of the optimizer."""
    device = fit.panel.device
    fit.begin_epoch()
    order = fit.epoch_order(1).to(device)
    count = iter(range(10**9))

    def next_starts() -> Tensor:
        return order[next(count) % len(order)]

    result = {"feed": timed(device, lambda: fit.batch_of(0, next_starts()), steps)}
    result["step"] = timed(device, lambda: fit.step(next_starts()), steps, warm=6)
    result["host_waits"] = float(host_waits(fit, next_starts(), device))
    result |= region_times(fit, next_starts(), steps)

    def optimise() -> None:
        for _, parameter in fit.named:
            parameter.grad = torch.zeros_like(parameter)
        fit.update(order[0])

    result["optimizer"] = timed(device, optimise, steps)
    return result


def region_times(fit: Fit, starts: Tensor, repeats: int, warm: int = 2) -> dict[str, float]:
    """Median seconds of a step's regions, forward and backward, told apart by when the LSTM is entered and left."""
    model, batch, device = fit.model.train(), fit.batch_of(0, starts), fit.panel.device
    gradient = torch.randn(model.sizes.horizons, *batch.newest.shape[:2], device=device)
    clock: list[float] = []

    def mark(*_: Any) -> None:
        synchronise(device)
        clock.append(time.perf_counter())

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mark()
        inputs[0].register_hook(mark)  # its gradient is complete: the LSTM has been left on the way back

    def leave(_: nn.Module, __: Any, output: tuple[Tensor, Any]) -> None:
        mark()
        output[0].register_hook(mark)

    def once() -> list[float]:
        clock.clear()
        mark()
        with model.precision():
            scores = model(*batch.inputs).scores
        mark()
        scores.backward(gradient)
        mark()
        model.zero_grad(set_to_none=True)
        return [after - before for before, after in pairwise(clock)]

    cell = model.lstm["cell"]
    handles = [cell.register_forward_pre_hook(enter), cell.register_forward_hook(leave)]
    try:
        for _ in range(warm):
            once()
        spans = [once() for _ in range(repeats)]
    finally:
        for handle in handles:
            handle.remove()
    regions = REGIONS if model.switches.temporal else REGIONS[-1:]
    names = [f"{region} forward" for region in regions] + [f"{region} backward" for region in reversed(regions)]
    return {name: statistics.median(times) for name, times in zip(names, zip(*spans, strict=True), strict=True)}


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


def bench(
    size_name: str, device: torch.device, *, mode: str, steps: int, seed: int, curriculum: bool, compare: bool | None,
    preset_name: str | None, overrides: Mapping[str, Any], out: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Measure one size, print the tables, return (and write) the figures.

    Args:
        curriculum: also train all phases on the synthetic panel.
        compare: also time windows through a DataLoader; by default in the demo size.
        preset_name: by default the size's own.
        overrides: fields of the preset that are replaced.
        out: JSON file of the figures.
    """
    size = SIZES[size_name]
    config = preset(preset_name or size.preset, **overrides)
    set_mode(mode, device)
    figures: dict[str, Any] = {"size": {**asdict(size.shape), "preset": size.preset}, "mode": mode}
    figures |= {"hardware": hardware(device), "versions": versions()}
    print(headline(size_name, size.shape, config, figures["hardware"], mode), flush=True)
    panel, fold = measured_panel(size.shape, config, device, seed, figures)
    rows = []
    for label, switches in STEPS.items():
        fit = Fit(panel, fold, config, replace(WHOLE, on=switches), seed=seed, mode=mode)
        figures[label] = measure_network(fit, size.shape, steps, figures["roofs"])
        rows.append(step_cells(label, figures[label]))
        del fit
    header = ["ms a step", "feed", *(f"{region} f+b" for region in REGIONS), "optimizer", "step"]
    print(table([*header, "stock-days/s", "of roof", "MFU", "GB"], rows), flush=True)
    if device.type == "cuda":
        waits = any(figures[label]["seconds"]["host_waits"] for label in STEPS)
        print("host waits inside a step: " + ("yes, see above" if waits else "none"))
    print(f"feed alone: {figures['+ GAT']['fed_stock_days_per_s']:,.0f} stock-days/s")
    print("of roof: bytes that a perfectly fused step would move, over the measured copy bandwidth\n")
    if compare or (compare is None and size_name == "demo"):
        figures["windows"] = compare_with_windows(size.shape, config, device, mode, seed, seconds=3.0)
    if curriculum:
        figures["curriculum"] = whole_curriculum(panel, fold, config, mode, seed)
    if out is not None:
        write_atomically(out, json.dumps(to_plain(figures), indent=1).encode())
    return figures


def headline(name: str, shape: Shape, config: Preset, place: Mapping[str, Any], mode: str) -> str:
    """What is measured, where and how, in a line."""
    return (
        f"{name}: {shape.names:,} names x {shape.days:,} days x {shape.features} features, "
        f"{config.model.newest_size}-{config.model.hidden_size}, L {config.model.lookback}, "
        f"A {config.model.temporal_size}, E {config.model.feature_size}, names {config.train.names or 'all'}, "
        f"B {config.train.chunk_days}, G {config.train.chunks_per_step}; "
        f"{place.get('gpu', 'CPU')}, {place['threads']} threads, {mode}"
    )


def measured_panel(
    shape: Shape, config: Preset, device: torch.device, seed: int, figures: dict[str, Any]
) -> tuple[DevicePanel, Fold]:
    """The synthetic panel; what it took and what the machine can do are printed and put into `figures`."""
    started = time.perf_counter()
    panel, fold = synthetic(
        shape, seed=seed, device=device, lookback=config.model.lookback, chunk_days=config.train.chunk_days
    )
    synchronise(device)
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
    return panel, fold


def measure_network(fit: Fit, shape: Shape, steps: int, roof: Mapping[str, float]) -> dict[str, Any]:
    """The times of a network's step and what they mean against the machine's roofs."""
    started, device, train = time.perf_counter(), fit.panel.device, fit.config.train
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = measure_step(fit, steps)
    batch = fit.batch_of(0, torch.zeros(train.chunks_per_step, dtype=torch.int64, device=device))
    stock_days = len(batch.newest) * min(shape.names, batch.newest.shape[1])
    flop = flops_per_stock_day(fit.model, fit.panel.chunk_days, shape.neighbours) * stock_days
    moved = step_bytes(fit.model, batch)
    return {
        "seconds": times,
        "stock_days_per_s": stock_days / times["step"],
        "fed_stock_days_per_s": stock_days / times["feed"],
        "bandwidth_share": moved / times["step"] / roof["bytes_per_s"],
        "mfu": flop / times["step"] / roof["flop_per_s"],
        "peak_gigabytes": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
        "seconds_with_warm_up": time.perf_counter() - started,
    }


def step_cells(label: str, entry: Mapping[str, Any]) -> list[str]:
    """A network's row of the table."""
    ms = {k: v * 1e3 for k, v in entry["seconds"].items()}
    return [
        label,
        f"{ms['feed']:.2f}",
        *(
            f"{ms[f'{region} forward']:.1f}+{ms[f'{region} backward']:.1f}" if f"{region} forward" in ms else ""
            for region in REGIONS
        ),
        f"{ms['optimizer']:.1f}",
        f"{ms['step']:.1f}",
        f"{entry['stock_days_per_s']:,.0f}",
        f"{entry['bandwidth_share']:.0%}",
        f"{entry['mfu']:.1%}",
        f"{entry['peak_gigabytes']:.1f}" if entry["peak_gigabytes"] is not None else "",
    ]


def whole_curriculum(panel: DevicePanel, fold: Fold, config: Preset, mode: str, seed: int) -> dict[str, Any]:
    """All phases on the synthetic panel, timed, with the test block's RankIC beside the oracle's."""
    assert panel.oracle is not None
    synchronise(panel.device)
    started = time.perf_counter()
    outcomes = run_curriculum(panel, fold, config, ["test"], seed, mode)
    seconds = time.perf_counter() - started
    days, horizons = fold.places(panel.dates, "test"), panel.horizons

    def tested(scores: Tensor) -> dict[str, Any]:
        return summarise(series_of(scores, panel, days), horizons)

    def cells(summary: Mapping[str, Any]) -> list[str]:
        return [f"{summary['rank_ic']:+.4f}", *(f"{summary['rank_ic_by_horizon'][str(h)]:+.4f}" for h in horizons)]

    def cost(o: Outcome) -> list[str]:
        return [str(o.epochs), f"{o.seconds:.1f}", f"{o.stock_days_per_s:,.0f}", f"{o.validation:+.4f}"]

    figures = [tested(o.scores["test"]) for o in outcomes]
    oracle = tested(panel.oracle[:, days.start : days.stop])
    rows = [[o.title, *cost(o), *cells(summary)] for o, summary in zip(outcomes, figures, strict=True)]
    rows.append(["oracle", "", "", "", "", *cells(oracle)])
    header = ["curriculum", "epochs", "seconds", "stock-days/s", "validation", "test RankIC"]
    print(table([*header, *(f"{h}d" for h in horizons)], rows))
    print(f"whole curriculum: {seconds:.1f} s wall, compilation and validation included", flush=True)
    phases = [
        {
            "phase": o.plan.phase, "epochs": o.epochs, "seconds": o.seconds, "stock_days_per_s": o.stock_days_per_s,
            "validation": o.validation, "test": summary,
        }
        for o, summary in zip(outcomes, figures, strict=True)
    ]  # fmt: skip
    return {"seconds": seconds, "oracle": oracle, "phases": phases}
