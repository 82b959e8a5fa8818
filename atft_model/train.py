"""Training: one loop over resident chunks, for one stage of the curriculum, from its parent's weights to a run
directory.

`Fit` is the loop (one network, one stage, in memory: the bench and the studies use it directly); `train` adds the run
directory: lineage, ensemble members, checkpoints, resumption, guards, scores. There is no loader, no worker and no
fork.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atft_model import checkpoint as files
from atft_model import monitor
from atft_model.config import Preset, from_json, horizon_weights, to_json
from atft_model.curriculum import Stage, stage
from atft_model.losses import score_gradients
from atft_model.metrics import daily_series, headline_series, icir, summarise
from atft_model.model import ATFTGATFAN, MODULES
from atft_model.panel import Batch, Panel, read_meta
from atft_model.predict import block_view, build_model, ensemble, evaluate_scores, precision, score_block, write_scores

CODE_VERSION = "1"
FINAL_RATE = 0.1
"""Learning rate at the end of a stage, as a share of its peak."""


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved."""


class GuardViolation(Exception):
    """The run finished but what it trained is degenerate; the message is the guards' sentences."""


class InvalidRequest(ValueError):
    """A combination of arguments that cannot be trained; the message says what to do."""


def mixed_seed(*parts: int) -> int:
    """One 63-bit seed from several small integers, so phases, members and epochs draw independent numbers."""
    value = 0x9E3779B97F4A7C15
    for part in parts:
        value = (value ^ (part + 0x7F4A7C15)) * 0xBF58476D1CE4E5B9 % 2**64
        value ^= value >> 31
    return value % 2**63


def set_mode(mode: str, device: torch.device) -> None:
    """`safe`: deterministic algorithms, full float32. `optimized`: TF32 matrix products where the device has them."""
    safe = mode == "safe"
    # on a GPU a running sum along rows has no variant that torch calls deterministic, so there it warns instead of
    # failing
    torch.use_deterministic_algorithms(safe, warn_only=device.type == "cuda")
    # a debugging aid of the deterministic mode that costs a tenth of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cpu":
        torch.backends.cuda.enable_flash_sdp(
            False
        )  # its CPU kernel is made for long sequences: three times slower here
    if device.type == "cuda":
        torch.backends.cuda.enable_mem_efficient_sdp(not safe)
        torch.backends.cuda.enable_flash_sdp(not safe)
        torch.backends.cuda.enable_cudnn_sdp(False)  # plans every shape anew; these are thousands of tiny attentions
        torch.backends.cudnn.deterministic = safe
        torch.set_float32_matmul_precision("highest" if safe else "high")
        torch.backends.cudnn.allow_tf32 = not safe


class Fit:
    """One network being trained through one stage on a resident panel."""

    def __init__(
        self, panel: Panel, config: Preset, stage: Stage, *, seed: int = 0, member: int = 0, mode: str = "safe",
        weights: Mapping[str, Tensor] | None = None, compiled: bool | None = None,
    ) -> None:  # fmt: skip
        self.panel, self.config, self.stage, self.mode = panel, config, stage, mode
        self.seed, self.member = seed + member, member
        device = panel.device
        torch.manual_seed(mixed_seed(self.seed, stage.phase))
        self.model = build_model(config.model, panel.meta, device)
        if weights is not None:
            files.load_weights(self.model, weights)
        self.model.switches = stage.on
        optimized_gpu = mode == "optimized" and device.type == "cuda"
        if optimized_gpu:
            self.model.compute_dtype = torch.bfloat16
        if optimized_gpu if compiled is None else compiled:
            self.model.compile_regions()
        self.weights = torch.tensor(horizon_weights(panel.meta.horizons), device=device)
        self.trained = self.model.active_modules()
        self.named = [(n, p) for n, p in self.model.named_parameters() if self.model.module_of(n) in self.trained]
        self.optimizer = self._optimizer()
        self.ema = [p.detach().clone() for _, p in self.named] if stage.ema else None
        self.moments = torch.zeros(3, device=device)
        self.epoch, self.step_in_epoch, self.steps = 1, 0, 0
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_rank_ic = 0, -math.inf
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.stopped = ""
        self._owners: dict[tuple[int, ...], Tensor] = {}
        self.reset_sums()

    def _optimizer(self) -> torch.optim.AdamW:
        """AdamW, a parameter group for each (rate over the epochs, decay or not); learning rates are set each step."""
        together: dict[Any, list[nn.Parameter]] = {}
        for name, parameter in self.named:
            rates = tuple(self.stage.rate_of(self.model.module_of(name), e) for e in range(1, self.stage.epochs + 1))
            together.setdefault((rates, self.model.decays(name, parameter)), []).append(parameter)
        decay = self.config.train.weight_decay
        groups = [
            {"params": own, "rates": rates, "weight_decay": decay if decays else 0.0}
            for (rates, decays), own in together.items()
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.config.train.betas, fused=True)

    def reset_sums(self) -> None:
        device = self.panel.device
        self.sums = {"loss": torch.zeros((), device=device), "stock_days": torch.zeros((), device=device)}
        self.norm_sums = torch.zeros(len(MODULES), device=device)
        self.bad_starts = torch.full((self.config.train.chunks_per_step,), -1, device=device)
        self.epoch_steps = 0

    # -- the order of the days ---------------------------------------------------------------------------------------

    def steps_per_epoch(self) -> int:
        """Planned optimizer steps of one epoch (the random phase may add one)."""
        return -(-len(self.panel.train_starts(0)) // self.config.train.chunks_per_step)

    def epoch_order(self, epoch: int) -> Tensor:
        """Chunk starts of an epoch, [steps, G]: a random phase, shuffled, the last step filled from the front."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.stage.phase, epoch))
        shift = int(torch.randint(self.config.train.chunk_days, (1,), generator=generator))
        starts = torch.tensor(self.panel.train_starts(shift))
        starts = starts[torch.randperm(len(starts), generator=generator)]
        g = self.config.train.chunks_per_step
        if extra := -len(starts) % g:
            starts = torch.cat([starts, starts.repeat(-(-extra // len(starts)))[:extra]])
        return starts.view(-1, g)

    # -- one step ----------------------------------------------------------------------------------------------------

    def rate(self) -> float:
        """Learning rate of the present step before the stage's multipliers: linear warm-up, then a cosine."""
        total = max(1, self.stage.epochs * self.steps_per_epoch())
        warm = self.stage.warmup * total
        if self.steps < warm:
            share = (self.steps + 1) / (warm + 1)
        else:
            done = min(1.0, (self.steps - warm) / max(1.0, total - warm))
            share = FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
        return self.config.train.learning_rate * share

    def begin_epoch(self) -> None:
        """Freezes and thaws the module groups as the stage says for this epoch."""
        frozen = self.stage.frozen(self.epoch)
        for name, parameter in self.model.named_parameters():
            module = self.model.module_of(name)
            parameter.requires_grad_(module in self.trained and module not in frozen)
            if not parameter.requires_grad:
                parameter.grad = None

    def backward(self, batch: Batch) -> None:
        """Forward, the losses' gradients at the scores, and one backward pass through the network."""
        with precision(self.mode, self.panel.device):
            out = self.model(batch.x, batch.graph)
        days = batch.valid.shape[:2]
        scores = out.scores.unflatten(1, days)
        quantiles = None if out.quantiles is None else out.quantiles.unflatten(2, days)
        gradients, terms, self.moments = score_gradients(
            scores, quantiles, batch.targets, self.stage.losses, self.weights, self.config.model.quantiles, self.moments
        )
        outputs = [scores] if quantiles is None else [scores, quantiles]
        torch.autograd.backward(outputs, gradients)
        for name, value in terms.items():
            self.sums[f"loss_{name}"] = self.sums.get(f"loss_{name}", torch.zeros_like(value)) + value
            self.sums["loss"] = self.sums["loss"] + value
        self.sums["stock_days"] = self.sums["stock_days"] + batch.valid.sum()

    def step(self, starts: Tensor) -> None:
        """One optimizer step on the chunks that start at `starts` [G]; nothing in it waits for the device."""
        self.model.train()
        self.backward(self.panel.batch(starts))
        self.update(starts)

    def update(self, starts: Tensor) -> None:
        """Clips, records gradient norms per module, and steps; a step whose gradient is not finite is not taken."""
        grads, owner = [], []
        for name, parameter in self.named:
            if parameter.grad is not None:
                grads.append(parameter.grad)
                owner.append(MODULES.index(self.model.module_of(name)))
        squares = torch.stack(torch._foreach_norm(grads)).square()
        by_module = torch.zeros_like(self.norm_sums).index_add(0, self._owner_index(tuple(owner)), squares)
        total = squares.sum().sqrt()
        self.norm_sums = self.norm_sums + by_module.sqrt()
        bad = ~torch.isfinite(total)
        self.bad_starts = torch.where(bad & (self.bad_starts[0] < 0), starts, self.bad_starts)
        torch._foreach_mul_(grads, (self.stage.clip / (total + 1e-12)).clamp(max=1.0))
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rates"][self.epoch - 1]
        # the fused kernel leaves the weights alone where found_inf is 1 (what torch's GradScaler uses)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            decay = min(self.stage.ema or 0.0, (1.0 + self.steps) / (10.0 + self.steps))
            torch._foreach_lerp_(self.ema, [p.detach() for _, p in self.named], 1.0 - decay)
        self.steps += 1
        self.step_in_epoch += 1
        self.epoch_steps += 1

    def _owner_index(self, owner: tuple[int, ...]) -> Tensor:
        """Module numbers of the gradients, kept on the device: a copy in every step would make the host wait."""
        if owner not in self._owners:
            self._owners[owner] = torch.tensor(owner, device=self.panel.device)
        return self._owners[owner]

    def check_finite(self) -> None:
        """Raises NonFinite, naming the first module, if any step since the last check was not finite."""
        starts = self.bad_starts
        if int(starts[0]) >= 0:
            where = monitor.first_non_finite(self.model, self.panel.batch(starts))
            days = ", ".join(self.panel.meta.dates[min(int(s), self.panel.days - 1)] for s in starts)
            raise monitor.NonFinite(
                f"a value that is not finite appeared in {where} (epoch {self.epoch}, step {self.step_in_epoch}, "
                f"chunks from {days}); the weights before that step are kept"
            )

    # -- epochs ------------------------------------------------------------------------------------------------------

    def current(self) -> dict[str, Tensor]:
        """A copy of the weights that count: the averaged ones if the stage keeps an average."""
        weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        if self.ema is not None:
            for (name, _), averaged in zip(self.named, self.ema, strict=True):
                weights[name] = averaged.clone()
        return weights

    def validate(self) -> tuple[Tensor, dict[str, Any]]:
        """(scores of the validation block, their summary against what is learned) with the weights that count."""
        swapped = [p.detach().clone() for _, p in self.named] if self.ema is not None else []
        with torch.no_grad():
            if self.ema is not None:
                torch._foreach_copy_([p for _, p in self.named], self.ema)
            scores = score_block(self.model, self.panel, "validation", mode=self.mode)
            if self.ema is not None:
                torch._foreach_copy_([p for _, p in self.named], swapped)
        first, last = self.panel.meta.block("validation")
        learned, valid = self.panel.learned[:, first : last + 1], self.panel.valid[first : last + 1]
        series = daily_series(scores, learned, valid)
        summary = summarise(series, self.panel.meta.horizons)
        summary["icir"] = icir(headline_series(series, self.panel.meta.horizons))
        return scores, summary

    def _row(self, summary: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One row of metrics.parquet."""
        done = max(1, self.epoch_steps)
        sums = {k: v.item() for k, v in self.sums.items()}
        norms = (self.norm_sums / done).tolist()
        row: dict[str, Any] = {"phase": self.stage.phase, "member": self.member, "epoch": self.epoch}
        row |= {k: v / done for k, v in sums.items() if k.startswith("loss")}
        row["rank_ic"], row["icir"] = summary["rank_ic"], summary["icir"]
        for h in self.panel.meta.horizons:
            row[f"rank_ic_{h}d"] = summary["rank_ic_by_horizon"][str(h)]
            row[f"ic_{h}d"] = summary["ic_by_horizon"][str(h)]
        row |= {"seconds": seconds, "stock_days_per_s": sums["stock_days"] / max(seconds, 1e-9), "lr": self.rate()}
        row["alpha"] = self.model.fusion.alpha().item() if self.model.switches.gat else None
        row |= {f"grad_norm_{m}": norms[i] if m in self.trained else None for i, m in enumerate(MODULES)}
        device = self.panel.device
        row["device_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        return row

    def epochs(
        self, *, should_stop: Callable[[], bool] = lambda: False, deadline: float | None = None,
    ) -> Iterator[tuple[dict[str, Any], bool]]:  # fmt: skip
        """Trains; after each epoch yields (its metrics row, whether it is the best so far). Continues where the state
        stands.

        Raises Interrupted when should_stop() turns true between two steps. deadline (time.monotonic): no epoch starts
        that would end after it, judged by the last one.
        """
        if self.stage.keep_parent and not self.best and self.epoch == 1 and self.step_in_epoch == 0:
            _, summary = self.validate()
            self.best, self.best_rank_ic, self.best_epoch = self.current(), summary["rank_ic"], 0
        while not self.stopped:
            started = time.perf_counter()
            self.begin_epoch()
            order = self.epoch_order(self.epoch)
            on_device = order.to(self.panel.device)
            train_seconds = 0.0
            for index in range(self.step_in_epoch, len(order)):
                if should_stop():
                    raise Interrupted
                self.step(on_device[index])
                if self.panel.device.type == "cpu" or self.steps % self.config.train.check_every == 0:
                    self.check_finite()
            self.check_finite()
            train_seconds = time.perf_counter() - started
            _, summary = self.validate()
            row = self._row(summary, train_seconds)
            row["epoch_seconds"] = time.perf_counter() - started
            better = summary["rank_ic"] > self.best_rank_ic or not self.best
            if better:
                self.best, self.best_epoch, self.best_rank_ic = self.current(), self.epoch, summary["rank_ic"]
            self.rows.append(row)
            self.seconds += row["epoch_seconds"]
            patience = self.stage.patience
            if self.epoch >= self.stage.epochs:
                self.stopped = "epochs"
            elif patience is not None and self.epoch - self.best_epoch >= patience:
                self.stopped = "patience"
            elif deadline is not None and time.monotonic() + row["epoch_seconds"] > deadline:
                self.stopped = "max_seconds"
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
            self.reset_sums()
            yield row, better

    # -- resumption --------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the rest of the training depends on: (tensors, plain values)."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        for name, parameter in self.named:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{key}"] = value
        for (name, _), averaged in zip(self.named, self.ema or [], strict=False):
            tensors[f"ema/{name}"] = averaged
        tensors |= {f"sums/{k}": v for k, v in self.sums.items()}
        tensors |= {"norm_sums": self.norm_sums, "moments": self.moments, "rng": torch.get_rng_state()}
        if self.panel.device.type == "cuda":
            tensors["rng_cuda"] = torch.cuda.get_rng_state(self.panel.device)
        values = {
            "member": self.member, "epoch": self.epoch, "step_in_epoch": self.step_in_epoch, "steps": self.steps,
            "epoch_steps": self.epoch_steps, "best_epoch": self.best_epoch,
            "best_rank_ic": self.best_rank_ic if math.isfinite(self.best_rank_ic) else None,
            "rows": self.rows, "seconds": self.seconds, "stopped": self.stopped,
        }  # fmt: skip
        return tensors, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Inverse of `state`, on a Fit built with the same arguments."""
        device = self.panel.device

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        files.load_weights(self.model, part("model/"))
        self.best = {k: v.to(device) for k, v in part("best/").items()}
        by_name = dict(self.named)
        for key, value in part("optimizer/").items():
            name, entry = key.rsplit("/", 1)
            self.optimizer.state[by_name[name]][entry] = value.to(device)
        if self.ema is not None:
            stored = part("ema/")
            self.ema = [stored[n].to(device) for n, _ in self.named]
        self.sums = {k: v.to(device) for k, v in part("sums/").items()}
        self.norm_sums, self.moments = tensors["norm_sums"].to(device), tensors["moments"].to(device)
        torch.set_rng_state(tensors["rng"])
        if "rng_cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng_cuda"], device)
        self.epoch, self.step_in_epoch, self.steps = values["epoch"], values["step_in_epoch"], values["steps"]
        self.epoch_steps, self.best_epoch = values["epoch_steps"], values["best_epoch"]
        best = values["best_rank_ic"]
        self.best_rank_ic = -math.inf if best is None else best
        self.rows, self.seconds, self.stopped = list(values["rows"]), values["seconds"], values["stopped"]


# -- a run directory -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What `python -m atft_model train` was asked to do."""

    panel: Path
    phase: int
    out: Path
    config: Preset | None = None  # None: the parent's
    init: Path | None = None
    seed: int = 0
    n_seeds: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    mode: str = "safe"
    epochs: int | None = None
    max_seconds: float | None = None
    resume: bool = False
    shuffle_edges: int | None = None
    permute_labels: int | None = None


@dataclass(frozen=True)
class Listener:
    """Who hears about a run: a line for people, a record for machines, and whether to stop."""

    line: Callable[[str], None] = print
    record: Callable[[Mapping[str, Any]], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False


def hardware(device: torch.device) -> dict[str, Any]:
    """Names and sizes of what the run ran on."""
    found: dict[str, Any] = {"machine": platform.machine(), "threads": torch.get_num_threads(), "device": device.type}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return found


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def progress_line(
    row: Mapping[str, Any], stage: Stage, horizons: tuple[int, ...], remaining: float, n_seeds: int
) -> str:
    """The line printed after each epoch."""
    member = f" seed {row['member'] + 1}/{n_seeds}" if n_seeds > 1 else ""
    ranks = " ".join(f"{h}d {row[f'rank_ic_{h}d']:+.4f}" for h in horizons)
    minutes, seconds = divmod(int(remaining), 60)
    memory = f"  {row['device_memory_gb']:.1f} GB" if row["device_memory_gb"] is not None else ""
    return (
        f"phase {stage.phase} {stage.name}{member}  epoch {row['epoch']}/{stage.epochs}  loss {row['loss']:.4f}  "
        f"RankIC {row['rank_ic']:+.4f} ({ranks})  {row['stock_days_per_s']:,.0f} stock-days/s  "
        f"ETA {minutes}:{seconds:02d}{memory}"
    )


def importances(models: list[ATFTGATFAN], panel: Panel) -> dict[str, float]:
    """Mean selection weight of each feature over evenly spaced validation chunks and the members; sums to 1."""
    batch = probe(panel, "validation")
    total = torch.zeros(len(panel.meta.features), device=panel.device)
    keep = batch.valid.any(0)  # [G, W]
    with torch.no_grad():
        for model in models:
            x = batch.x.float()
            flat = x.flatten(2)
            flat = model.fan(flat) if model.switches.fan else flat
            total += model.vsn.weights(flat.flatten(1)).view(x.shape)[..., keep].mean((1, 2))
    return dict(zip([f.name for f in panel.meta.features], (total / total.sum()).tolist(), strict=True))


def family_importances(importance: Mapping[str, float], panel: Panel) -> dict[str, float]:
    """Selection weight summed by feature family."""
    out: dict[str, float] = {}
    for feature in panel.meta.features:
        out[feature.family] = out.get(feature.family, 0.0) + importance[feature.name]
    return out


def probe(panel: Panel, block: str, chunks: int = 4) -> Batch:
    """A few chunks spread over a block, for measurements that need one batch."""
    starts = panel.block_starts(block)
    first, last = panel.meta.block(block)
    inside = [s for s in starts if s >= first and s + panel.chunk_days - 1 <= last] or starts
    picked = [inside[round(i * (len(inside) - 1) / max(1, chunks - 1))] for i in range(chunks)]
    return panel.batch(torch.tensor(picked, device=panel.device))


def parent_of(request: Request, config: Preset | None) -> tuple[Preset, dict[str, Any] | None, list[dict[str, Tensor]]]:
    """(configuration, lineage record, weights of each parent member); refuses a parent that does not fit."""
    meta = read_meta(request.panel)
    if request.init is None:
        if request.phase > 0:
            raise InvalidRequest(
                f"phase {request.phase} starts from phase {request.phase - 1}: give its run directory with --init"
            )
        if config is None:
            raise InvalidRequest("phase 0 needs a --preset")
        return config, None, []
    run = files.read_run(request.init)
    if run.get("status") != "finished":
        raise InvalidRequest(
            f"the parent run {request.init} has status {run.get('status')!r}, not finished: train it to its end first"
        )
    files.check_fit(run, meta, config, same_panel=True)
    stored = from_json(run["config"])
    parent = {
        "run_id": run["run_id"],
        "path": str(request.init),
        "sha256": run["checkpoint_sha256"],
        "phase": run["phase"],
    }
    chosen = config or stored
    return chosen, parent, files.load_members(request.init)


def train(request: Request, listener: Listener) -> dict[str, Any]:
    """Trains one phase into `request.out` and returns run.json's content.

    Raises InvalidRequest, PanelError, Mismatch (bad input), GuardViolation (trained but degenerate; run.json says
    "failed"), NonFinite, DiskFull, Interrupted (state saved).
    """
    began = time.monotonic()
    out = request.out
    plan = stage(request.phase)
    if request.epochs is not None:
        if request.epochs < 1:
            raise InvalidRequest("--epochs must be at least 1")
        plan = replace(plan, epochs=request.epochs)
    config, parent, parents = parent_of(request, request.config)
    existing = files.read_run(out) if (out / files.RUN_JSON).exists() else None
    if existing and existing.get("status") == "finished":
        raise InvalidRequest(f"{out} holds a finished run, which is immutable: choose another --out")
    resuming = request.resume and (out / files.STATE).exists()
    if existing and not resuming and not request.resume:
        raise InvalidRequest(f"{out} holds an unfinished run: continue it with --resume or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    set_mode(request.mode, request.device)
    panel = Panel.load(
        request.panel, lookback=config.model.lookback, chunk_days=config.train.chunk_days, device=request.device
    )
    if request.permute_labels is not None:
        panel.permute_labels(request.permute_labels)
    if request.shuffle_edges is not None:
        panel.shuffle_edges(request.shuffle_edges)
    log = files.RunLog(out)
    header = {
        "status": "running", "run_id": out.name, "phase": plan.phase, "name": plan.name, "config": to_json(config),
        "stage": plan.to_json(), "switches": plan.to_json()["on"], "parent": parent, "panel_id": panel.meta.panel_id,
        "catalogue_hash": panel.meta.catalogue_hash, "features": [f.name for f in panel.meta.features],
        "horizons": list(panel.meta.horizons), "split": panel.meta.split, "label": panel.meta.label,
        "target": panel.meta.target,
        "code_version": CODE_VERSION, "seed": request.seed, "n_seeds": request.n_seeds, "mode": request.mode,
        "controls": {"shuffle_edges": request.shuffle_edges, "permute_labels": request.permute_labels},
        "hardware": hardware(request.device), "versions": versions(),
    }  # fmt: skip
    members: list[dict[str, Tensor]] = []
    rows: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []
    stored_tensors: dict[str, Tensor] = {}
    stored: dict[str, Any] = {}
    if resuming:
        stored_tensors, stored = read_state(out, header)
        members = files.split_members(
            {k.removeprefix("done/"): v for k, v in stored_tensors.items() if k.startswith("done/")}
        )
        rows, finished = stored["rows_done"], stored["finished"]
        listener.line(f"resuming {out} at member {len(members) + 1}, epoch {stored['fit']['epoch']}")
    else:
        files.write_json(out / files.RUN_JSON, header)
    deadline = began + request.max_seconds if request.max_seconds is not None else None

    def save(fit: Fit, better: bool) -> None:
        if better:
            files.write_tensors(out / files.CHECKPOINT, files.join_members([*members, fit.best]))
        tensors, values = fit.state()
        tensors |= {f"done/{k}": v for k, v in files.join_members(members).items()}
        files.write_tensors(
            out / files.STATE, tensors, {"header": header, "fit": values, "rows_done": rows, "finished": finished}
        )

    models: list[ATFTGATFAN] = []
    scores: list[Tensor] = []
    grad_norms: dict[str, float] = {}
    for member in range(len(members), request.n_seeds):
        weights = parents[member % len(parents)] if parents else None
        fit = Fit(panel, config, plan, seed=request.seed, member=member, mode=request.mode, weights=weights)
        if member == 0 and not resuming:
            size = sum(p.numel() * p.element_size() for p in fit.model.parameters())
            files.require_space(out, (6 + 2 * request.n_seeds) * size, "the checkpoints and the state of this run")
        if resuming and stored["fit"]["member"] == member:
            fit.restore(stored_tensors, stored["fit"])
        share = (
            None if deadline is None else time.monotonic() + (deadline - time.monotonic()) / (request.n_seeds - member)
        )
        try:
            for row, better in fit.epochs(should_stop=listener.should_stop, deadline=share):
                save(fit, better)
                left = 0 if fit.stopped else plan.epochs - row["epoch"]
                remaining = row["epoch_seconds"] * (left + plan.epochs * (request.n_seeds - member - 1))
                listener.line(progress_line(row, plan, panel.meta.horizons, remaining, request.n_seeds))
                log.write({"event": "epoch", **row})
                listener.record({"event": "epoch", **row})
        except Interrupted:
            save(fit, False)
            log.write({"event": "interrupted", "epoch": fit.epoch, "step": fit.step_in_epoch})
            raise
        except monitor.NonFinite as error:
            files.write_json(
                out / files.RUN_JSON,
                {**header, "status": "failed", "guards": {"passed": False, "messages": [str(error)]}},
            )
            log.write({"event": "failed", "messages": [str(error)]})
            raise GuardViolation(str(error)) from error
        members.append({k: v.detach().cpu() for k, v in fit.best.items()})
        rows += fit.rows
        finished.append(
            {"best_epoch": fit.best_epoch, "epochs": len(fit.rows), "seconds": fit.seconds, "stopped_by": fit.stopped}
        )
        grad_norms = last_norms(fit)

    for weights in members:
        model = build_model(config.model, panel.meta, request.device)
        files.load_weights(model, weights)
        model.switches = plan.on
        models.append(model.eval())
        scores.append(score_block(model, panel, "validation", mode=request.mode))
    valid = block_view(panel, "validation")[1]
    joint = ensemble(scores, valid)
    if not grad_norms:
        grad_norms = {m: rows[-1][f"grad_norm_{m}"] for m in models[0].active_modules()}
    # a group that was frozen to the end of a shortened stage has no gradient to show
    learned = tuple(m for m in models[0].active_modules() if plan.rate_of(m, rows[-1]["epoch"]) > 0)
    grad_norms = {m: norm for m, norm in grad_norms.items() if m in learned}
    guards = monitor.judge(monitor.measure(models[0], probe(panel, "validation"), joint, valid, grad_norms), learned)
    importance = importances(models, panel)
    sha = files.write_tensors(out / files.CHECKPOINT, files.join_members(members))
    files.write_rows(out / files.METRICS, rows)
    write_scores(out / files.SCORES, joint, panel, "validation")
    seconds = sum(f["seconds"] for f in finished)
    trained = sum(r["stock_days_per_s"] * r["seconds"] for r in rows)
    document = {
        **header, "status": "finished" if guards.passed else "failed",
        "epochs": max(f["epochs"] for f in finished), "best_epoch": finished[0]["best_epoch"], "members": finished,
        "seconds": seconds, "stock_days_per_s": trained / max(1e-9, sum(r["seconds"] for r in rows)),
        "validation": evaluate_scores(joint, panel, "validation"), "guards": guards.to_json(),
        "parameters": models[0].parameter_counts(), "feature_importance": importance,
        "family_importance": family_importances(importance, panel), "checkpoint_sha256": sha,
    }  # fmt: skip
    files.write_json(out / files.RUN_JSON, document)
    (out / files.STATE).unlink(missing_ok=True)
    log.write({"event": document["status"], "validation": document["validation"], "guards": document["guards"]})
    if not guards.passed:
        raise GuardViolation("; ".join(guards.messages))
    listener.record({"event": "finished", "run_json": str(out / files.RUN_JSON)})
    return document


def last_norms(fit: Fit) -> dict[str, float]:
    """Mean gradient norm of each trained module over the last epoch."""
    return {m: fit.rows[-1][f"grad_norm_{m}"] for m in fit.trained} if fit.rows else {}


def read_state(out: Path, header: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The saved state of an unfinished run; refuses one that another request made."""
    stored = files.read_values(out / files.STATE)
    now, then = files.plain(header), stored["header"]
    changed = [
        f"{k}: then {then.get(k)}, now {now[k]}"
        for k in (
            "phase",
            "config",
            "stage",
            "parent",
            "panel_id",
            "catalogue_hash",
            "seed",
            "n_seeds",
            "mode",
            "controls",
        )
        if now[k] != then.get(k)
    ]
    if changed:
        raise files.Mismatch("--resume continues the same request, but this one differs:\n  " + "\n  ".join(changed))
    return files.read_tensors(out / files.STATE), stored
