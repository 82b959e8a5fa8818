"""The training loop: one network through one phase on a resident panel, in memory. No loader, no worker, no fork.

The bench and the studies use it directly; `train.py` adds the run directory. A `Fit` can say everything that the rest
of its training depends on (`state`), and one built with the same arguments goes on from there bit for bit (`restore`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atft_model import checkpoint as files
from atft_model import monitor
from atft_model.curriculum import PhasePlan, check_patience
from atft_model.device import optimized_gpu
from atft_model.interchange.config import Preset
from atft_model.interchange.fold import Fold
from atft_model.interchange.horizons import horizon_weights
from atft_model.interchange.statistics import information_ratio
from atft_model.losses import score_gradients
from atft_model.metrics import daily_series, headline_series, summarise
from atft_model.model import MODULES, build_model, sizes_of
from atft_model.panel import Batch, DevicePanel, Draw
from atft_model.predict import score_days
from atft_model.schedule import average_decay, in_steps, loss_weights_of_horizons, mixed_seed, random_shift, rate_share


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved."""


class Fit:
    """One network being trained through one phase, on the training days of a fold of a resident panel."""

    def __init__(
        self, panel: DevicePanel, fold: Fold, config: Preset, plan: PhasePlan, *, seed: int = 0, member: int = 0,
        mode: str = "safe", weights: Mapping[str, Tensor] | None = None, compiled: bool | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            seed: of the first member of an ensemble; `member` counts from there.
            weights: to start from, by parameter; None: random ones.
            compiled: by default where the mode is `optimized` on a GPU.

        Raises:
            FoldError: the panel holds none of the days of a block, or the blocks lie too close together.
            ConfigError: the phase reads sequences and the panel marks none, or may end early and keeps its last epoch.
            Mismatch: the weights are those of another network.
        """
        fold.check(panel.dates, panel.horizons)
        check_patience(plan, config.train)
        panel = panel.read_by(plan.on, config.train)
        self.panel, self.config, self.plan, self.mode = panel, config, plan, mode
        self.train_days = fold.places(panel.dates, "train")
        self.validation_days = fold.places(panel.dates, "validation")
        self.seed, self.member = seed + member, member
        device = panel.device
        torch.manual_seed(mixed_seed(self.seed, plan.phase))
        self.model = build_model(
            config.model, sizes_of(panel.description), switches=plan.on, mode=mode, device=device,
            compiled=optimized_gpu(mode, device) if compiled is None else compiled,
        )  # fmt: skip
        if weights is not None:
            files.load_weights(self.model, weights)
        weighed = loss_weights_of_horizons(config.train.horizon_weights, horizon_weights(panel.horizons).tolist())
        self.horizon_weights = torch.tensor(weighed, device=device)
        self.trained = self.model.active_modules()
        self.named = [(n, p) for n, p in self.model.named_parameters() if self.model.module_of(n) in self.trained]
        self.optimizer = self._optimizer()
        self.ema = [p.detach().clone() for _, p in self.named] if config.train.ema else None
        self.moments = torch.zeros(3, device=device)
        self.epoch, self.step_in_epoch, self.steps = 1, 0, 0
        self.kept: dict[str, Tensor] = {}
        self.kept_epoch, self.kept_rank_ic = 0, -math.inf
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.stopped = ""
        self._owners: dict[tuple[int, ...], Tensor] = {}
        self.reset_sums()

    def _optimizer(self) -> torch.optim.AdamW:
        """AdamW, a parameter group for each (rate over the epochs, decay or not); learning rates are set each step."""
        together: dict[Any, list[nn.Parameter]] = {}
        for name, parameter in self.named:
            rates = tuple(self.plan.rate_of(self.model.module_of(name), e) for e in range(1, self.plan.epochs + 1))
            together.setdefault((rates, self.model.decays(name, parameter)), []).append(parameter)
        decay = self.config.train.weight_decay
        groups = [
            {"params": own, "rates": rates, "weight_decay": decay if decays else 0.0}
            for (rates, decays), own in together.items()
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.config.train.betas, fused=True)

    def reset_sums(self) -> None:
        """Begin the sums of an epoch anew."""
        device = self.panel.device
        self.sums = {"loss": torch.zeros((), device=device), "stock_days": torch.zeros((), device=device)}
        self.norm_sums = torch.zeros(len(MODULES), device=device)
        self.bad_step = torch.full(
            (1 + self.config.train.chunks_per_step,), -1, device=device
        )  # its number, its starts
        self.epoch_steps = 0

    # -- the order of the days ---------------------------------------------------------------------------------------

    def steps_per_epoch(self) -> int:
        """Planned optimizer steps of one epoch (the random phase may add one)."""
        return -(-len(self.panel.train_starts(self.train_days, 0)) // self.config.train.chunks_per_step)

    def epoch_order(self, epoch: int) -> Tensor:
        """Chunk starts of an epoch, [steps, G]: a random shift, shuffled, the last step filled from the front."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.plan.phase, epoch))
        starts = self.panel.train_starts(self.train_days, random_shift(generator, self.panel.chunk_days))
        return in_steps(starts, self.config.train.chunks_per_step, generator)

    def batch_of(self, step: int, starts: Tensor) -> Batch:
        """The batch of a step of the present epoch (0-based), of the chunks that start at `starts` [G]; always the same
        for one step.
        """
        names = self.config.train.names
        draw = Draw(names, mixed_seed(self.seed, self.plan.phase, self.epoch, step)) if names else None
        return self.panel.batch(starts, draw)

    # -- one step ----------------------------------------------------------------------------------------------------

    def rate(self) -> float:
        """Learning rate of the present step before the phase's multipliers."""
        total, train = max(1, self.plan.epochs * self.steps_per_epoch()), self.config.train
        return train.learning_rate * rate_share(self.steps, total, self.plan.warmup, train.schedule)

    def begin_epoch(self) -> None:
        """Freeze and thaw the module groups as the plan says for this epoch."""
        frozen = self.plan.frozen(self.epoch)
        for name, parameter in self.model.named_parameters():
            module = self.model.module_of(name)
            parameter.requires_grad_(module in self.trained and module not in frozen)
            if not parameter.requires_grad:
                parameter.grad = None

    def backward(self, batch: Batch) -> None:
        """Forward, the losses' gradients at the scores, and one backward pass through the network."""
        with self.model.precision():
            out = self.model(*batch.inputs)
        days = batch.valid.shape[:2]
        scores = out.scores.unflatten(1, days)
        quantiles = None if out.quantiles is None else out.quantiles.unflatten(2, days)
        gradients, terms, self.moments = score_gradients(
            scores,
            quantiles,
            batch.targets,
            self.plan.losses,
            self.horizon_weights,
            self.config.model.quantiles,
            self.moments,
        )
        outputs = [scores] if quantiles is None else [scores, quantiles]
        torch.autograd.backward(outputs, gradients)
        for name, value in terms.items():
            self.sums[f"loss_{name}"] = self.sums.get(f"loss_{name}", torch.zeros_like(value)) + value
            self.sums["loss"] = self.sums["loss"] + value
        self.sums["stock_days"] = self.sums["stock_days"] + batch.valid.sum()

    def step(self, starts: Tensor) -> None:
        """One optimizer step on the chunks that start at `starts` [G] int64; nothing in it waits for the device."""
        self.model.train()
        self.backward(self.batch_of(self.step_in_epoch, starts))
        self.update(starts)

    def update(self, starts: Tensor) -> None:
        """Clip, record gradient norms per module, and step; a step whose gradient is not finite is not taken.

        starts: [G] of the step, remembered for the message if it was not finite.
        """
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
        here = torch.nn.functional.pad(starts, (1, 0), value=self.step_in_epoch)
        self.bad_step = torch.where(bad & (self.bad_step[0] < 0), here, self.bad_step)
        torch._foreach_mul_(grads, (self.plan.clip / (total + 1e-12)).clamp(max=1.0))
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rates"][self.epoch - 1]
        # the fused kernel leaves the weights alone where found_inf is 1 (what torch's GradScaler uses)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            keep = average_decay(self.config.train.ema, self.steps)
            torch._foreach_lerp_(self.ema, [p.detach() for _, p in self.named], 1.0 - keep)
        self.steps += 1
        self.step_in_epoch += 1
        self.epoch_steps += 1

    def _owner_index(self, owner: tuple[int, ...]) -> Tensor:
        """Module numbers of the gradients, kept on the device: a copy in every step would make the host wait."""
        if owner not in self._owners:
            self._owners[owner] = torch.tensor(owner, device=self.panel.device)
        return self._owners[owner]

    def check_finite(self) -> None:
        """Look at the flags of the steps since the last check.

        Raises:
            NonFinite: one of them was not finite; the message names the first module that made such a value.
        """
        step, starts = int(self.bad_step[0]), self.bad_step[1:]
        if step >= 0:
            where = monitor.first_non_finite(self.model, self.batch_of(step, starts))
            days = ", ".join(str(self.panel.dates[min(int(s), self.panel.days - 1)]) for s in starts)
            raise monitor.NonFinite(
                f"a value that is not finite appeared in {where} (epoch {self.epoch}, step {step + 1}, "
                f"chunks from {days}); the weights before that step are kept"
            )

    # -- epochs ------------------------------------------------------------------------------------------------------

    def current(self) -> dict[str, Tensor]:
        """A copy of the weights that count: the averaged ones if the phase keeps an average."""
        weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        if self.ema is not None:
            for (name, _), averaged in zip(self.named, self.ema, strict=True):
                weights[name] = averaged.clone()
        return weights

    def validate(self) -> tuple[Tensor, dict[str, Any]]:
        """Scores [H, D, N] of the validation block with the weights that count, and their summary."""
        swapped = [p.detach().clone() for _, p in self.named] if self.ema is not None else []
        with torch.no_grad():
            if self.ema is not None:
                torch._foreach_copy_([p for _, p in self.named], self.ema)
            scores = score_days(self.model, self.panel, self.validation_days)
            if self.ema is not None:
                torch._foreach_copy_([p for _, p in self.named], swapped)
        days, horizons = self.validation_days, self.panel.horizons
        series = daily_series(scores, self.panel.learned_on(days), self.panel.valid_on(days))
        summary = summarise(series, horizons)
        summary["icir"] = information_ratio(headline_series(series, horizons))
        return scores, summary

    def _row(self, summary: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One row of metrics.parquet."""
        done = max(1, self.epoch_steps)
        sums = {k: v.item() for k, v in self.sums.items()}
        norms = (self.norm_sums / done).tolist()
        row: dict[str, Any] = {"phase": self.plan.phase, "member": self.member, "epoch": self.epoch}
        row |= {k: v / done for k, v in sums.items() if k.startswith("loss")}
        row["rank_ic"], row["icir"] = summary["rank_ic"], summary["icir"]
        for h in self.panel.horizons:
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
        """Train to the end of the phase, from where the state stands.

        Args:
            deadline: of time.monotonic; no epoch starts that would end after it, judged by the last one.

        Yields:
            After each epoch its row of metrics.parquet, and whether its weights are those that are kept so far.

        Raises:
            Interrupted: should_stop() turned true between two steps.
            NonFinite: a step was not finite.
        """
        choosing = self.config.train.keep == "best"
        if choosing and self.plan.keep_parent and not self.kept and self.epoch == 1 and self.step_in_epoch == 0:
            _, summary = self.validate()
            self.kept, self.kept_rank_ic, self.kept_epoch = self.current(), summary["rank_ic"], 0
        while not self.stopped:
            started = time.perf_counter()
            self._train_epoch(should_stop)
            train_seconds = time.perf_counter() - started
            _, summary = self.validate()
            row = self._row(summary, train_seconds)
            row["epoch_seconds"] = time.perf_counter() - started
            keeps = not choosing or not self.kept or summary["rank_ic"] > self.kept_rank_ic
            if keeps:
                self.kept, self.kept_epoch, self.kept_rank_ic = self.current(), self.epoch, summary["rank_ic"]
            self.rows.append(row)
            self.seconds += row["epoch_seconds"]
            self.stopped = self._why_stop(row["epoch_seconds"], deadline)
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
            self.reset_sums()
            yield row, keeps

    def _train_epoch(self, should_stop: Callable[[], bool]) -> None:
        """The steps of the present epoch that are not taken yet."""
        self.begin_epoch()
        order = self.epoch_order(self.epoch).to(self.panel.device)
        for index in range(self.step_in_epoch, len(order)):
            if should_stop():
                raise Interrupted
            self.step(order[index])
            if self.panel.device.type == "cpu" or self.steps % self.config.train.check_every == 0:
                self.check_finite()
        self.check_finite()

    def _why_stop(self, epoch_seconds: float, deadline: float | None) -> str:
        """What ends the phase after this epoch; empty if nothing does."""
        if self.epoch >= self.plan.epochs:
            return "epochs"
        if self.plan.patience and self.epoch - self.kept_epoch >= self.plan.patience:
            return "patience"
        if deadline is not None and time.monotonic() + epoch_seconds > deadline:
            return "max_seconds"
        return ""

    # -- resumption --------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the rest of the training depends on: (tensors, plain values)."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"kept/{k}": v for k, v in self.kept.items()}
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
            "epoch_steps": self.epoch_steps, "kept_epoch": self.kept_epoch,
            "kept_rank_ic": self.kept_rank_ic if math.isfinite(self.kept_rank_ic) else None,
            "rows": self.rows, "seconds": self.seconds, "stopped": self.stopped,
        }  # fmt: skip
        return tensors, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Inverse of `state`, on a Fit built with the same arguments."""
        device = self.panel.device

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        files.load_weights(self.model, part("model/"))
        self.kept = {k: v.to(device) for k, v in part("kept/").items()}
        by_name = dict(self.named)
        for key, value in part("optimizer/").items():
            name, entry = key.rsplit("/", 1)
            self.optimizer.state[by_name[name]][entry] = value.to(device)
        if self.ema is not None:
            averaged = part("ema/")
            self.ema = [averaged[n].to(device) for n, _ in self.named]
        self.sums = {k: v.to(device) for k, v in part("sums/").items()}
        self.norm_sums, self.moments = tensors["norm_sums"].to(device), tensors["moments"].to(device)
        torch.set_rng_state(tensors["rng"])
        if "rng_cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng_cuda"], device)
        self.epoch, self.step_in_epoch, self.steps = values["epoch"], values["step_in_epoch"], values["steps"]
        self.epoch_steps, self.kept_epoch = values["epoch_steps"], values["kept_epoch"]
        kept = values["kept_rank_ic"]
        self.kept_rank_ic = -math.inf if kept is None else kept
        self.rows, self.seconds, self.stopped = list(values["rows"]), values["seconds"], values["stopped"]
