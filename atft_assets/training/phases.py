"""The curriculum: one factory over a list of stages makes `train_phase0` … `train_phase3`.

A stage checks what it stands on, has its training done in another process, judges what came back, and only then moves
the pointer `latest` that the next stage starts from.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from atft_assets.settings import Settings
from atft_assets.store import Store, StoreError
from atft_assets.training.block import Block
from atft_assets.training.curves import curves_markdown
from atft_assets.training.evaluation import Difference, paired_difference
from atft_assets.training.launcher import GUARD, TrainingFailed, TrainingLauncher, TrainRequest
from atft_assets.training.panel import catalogued
from atft_assets.training.panel_file import Panel
from atft_assets.training.preflight import GAIN, GRADIENT_FLOW, NO_DEGENERACY, NotReady, preflight
from atft_assets.training.runs import Run, RunError, new_run_id, open_run, point_latest_run

CODE_VERSION = "1"
LEAST_GRADIENT = 1e-6


@dataclass(frozen=True)
class PhaseSpec:
    """One stage of the curriculum."""

    index: int
    name: str
    what_is_on: str

    @property
    def asset(self) -> str:
        return f"train_phase{self.index}"

    @property
    def ancestors(self) -> list[str]:
        """Assets of the stages before, oldest first."""
        return [f"train_phase{index}" for index in range(self.index)]

    @property
    def parent(self) -> str | None:
        """Asset whose weights the stage starts from."""
        return self.ancestors[-1] if self.ancestors else None


PHASES = (
    PhaseSpec(0, "Baseline", "the temporal fusion encoder and the heads, from random weights"),
    PhaseSpec(1, "Adaptive Norm", "frequency- and slice-adaptive normalisation (FAN, SAN) opens its gates"),
    PhaseSpec(2, "GAT", "graph attention over the correlation graph joins through the residual gate alpha"),
    PhaseSpec(3, "Fine-tuning", "everything, at a low learning rate"),
)


class TrainConfig(dg.Config):
    """How a stage is trained; what is not given is the trainer's default for the stage.

    Attributes:
        preset: size of the network: demo, cpu, small, seed64, base, wide256; by default the parent's, and without a
            parent demo on the sandbox, small elsewhere.
        seed, n_seeds: first seed, and how many networks are trained and averaged.
        device: auto, cpu or cuda.
        mode: safe (eager, deterministic) or optimized (compiled).
        max_epochs: epochs of the stage at most (patience may end it before); by default the curriculum's.
        max_seconds: no epoch starts that would end later.
        resume_run: id of an interrupted run of this stage that is to go on.
        allow_ephemeral_instance: train although Dagster will forget the run.
    """

    preset: str | None = None
    seed: int = 0
    n_seeds: int = 1
    device: str = "auto"
    mode: str = "safe"
    max_epochs: int | None = None
    max_seconds: float | None = None
    resume_run: str | None = None
    allow_ephemeral_instance: bool = False


def current_catalogue(feature_set: str) -> str:
    """Hash of a named feature set as the code has it now."""
    return catalogued(feature_set)[1]


def first_preset(settings: Settings) -> str:
    """Size of the network at the start of a curriculum."""
    return "demo" if settings.sandbox else "small"


def train_asset(
    spec: PhaseSpec, settings: Settings, catalogue: Callable[[str], str] = current_catalogue
) -> dg.AssetsDefinition:
    """The asset of one stage.

    Args:
        catalogue: the code's catalogue hash of a named feature set.
    """
    check_specs = [
        dg.AssetCheckSpec(
            GRADIENT_FLOW,
            asset=spec.asset,
            blocking=True,
            description=f"Every module that is on received gradient (norm > {LEAST_GRADIENT:g}).",
        ),
        dg.AssetCheckSpec(
            NO_DEGENERACY,
            asset=spec.asset,
            blocking=True,
            description="The scores differ between names and depend on the newest day.",
        ),
        dg.AssetCheckSpec(
            GAIN,
            asset=spec.asset,
            description="Paired daily validation RankIC "
            + (f"against {spec.parent}" if spec.parent else "against zero")
            + ", block bootstrap; a warning, not a stop.",
        ),
    ]

    @dg.asset(
        name=spec.asset,
        group_name="training",
        deps=["training_panel", *([spec.parent] if spec.parent else [])],
        check_specs=check_specs,
        pool="gpu",
        op_tags={"atft/kind": "training"},
        tags={"atft/kind": "training"},
        kinds={"torch"},
        owners=["team:atft"],
        code_version=CODE_VERSION,
        description=f"Phase {spec.index}, {spec.name}: {spec.what_is_on}.",
    )
    def train(context: dg.AssetExecutionContext, config: TrainConfig, store: Store, launcher: TrainingLauncher):
        try:
            ready = preflight(
                spec.asset,
                spec.ancestors,
                store=store,
                instance=context.instance,
                current_catalogue=catalogue,
                allow_ephemeral_instance=config.allow_ephemeral_instance,
            )
            out = store.local("runs", spec.asset, config.resume_run or new_run_id(context.run.run_id))
        except (NotReady, StoreError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None  # the sentence is all there is to say
        if config.resume_run and not out.is_dir():
            raise dg.Failure(f"there is no run {config.resume_run} to resume under {out.parent}", allow_retries=False)
        request = TrainRequest(
            phase=spec.index,
            panel=ready.panel.folder,
            out=out,
            init=ready.parent.folder if ready.parent else None,
            preset=config.preset or (None if ready.parent else first_preset(settings)),
            seed=config.seed,
            n_seeds=config.n_seeds,
            device=config.device,
            mode=config.mode,
            epochs=config.max_epochs,
            max_seconds=config.max_seconds,
            resume=config.resume_run is not None,
        )
        try:
            launcher.train(context, request, partial(_observe_epoch, context, spec.asset))
            run = open_run(out)
        except TrainingFailed as failure:
            if failure.exit_code == GUARD:
                yield from _guard_checks(spec.asset, out, str(failure))
            raise dg.Failure(
                f"{spec.asset} ({spec.name}): {failure}",
                metadata={
                    "exit_code": failure.exit_code,
                    "run_directory": dg.MetadataValue.path(str(out)),
                    "stderr": dg.MetadataValue.md(f"```\n{failure.stderr}\n```"),
                },
                allow_retries=False,
            ) from failure
        except RunError as error:
            raise dg.Failure(f"{spec.asset}: the trainer reported success, but {error}", allow_retries=False) from error
        yield from _judge_and_publish(context, spec, run, ready.parent, ready.panel)

    return train


def _observe_epoch(context: dg.AssetExecutionContext, asset: str, message: Mapping[str, Any]) -> None:
    """An epoch's metrics as an observation: its curves grow in the UI while the training goes on."""
    if message.get("event") == "epoch":
        context.log_event(dg.AssetObservation(asset, metadata=_numbers(message)))


def _numbers(fields: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among the fields; Dagster plots these."""
    return {
        k: float(v)
        for k, v in fields.items()
        if isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v)
    }


def _judge_and_publish(
    context: dg.AssetExecutionContext, spec: PhaseSpec, run: Run, parent: Run | None, panel: Panel
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Checks first; `latest` moves and the materialization is recorded only if the blocking ones pass."""
    record = run.record
    sha256 = hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()
    if sha256 != record["checkpoint_sha256"]:
        raise dg.Failure(
            f"{spec.asset}: {run.checkpoint} is not the checkpoint that its run.json describes; train again",
            allow_retries=False,
        )
    blocking = [gradient_flow(spec.asset, record["guards"]), no_degeneracy(spec.asset, record["guards"])]
    if refused := [check for check in blocking if not check.passed]:
        yield from blocking
        raise dg.Failure(
            f"{spec.asset} ({spec.name}): {'; '.join(str(check.description) for check in refused)}. The checkpoint in "
            f"{run.folder} is not published, the stage's `latest` is as it was.",
            allow_retries=False,
        )
    gain = _gain_over(parent, run, panel)
    point_latest_run(run)
    if parent:
        context.log.info(f"{spec.asset} started from {parent.stage} {parent.run_id}")
    yield dg.MaterializeResult(
        asset_key=spec.asset,
        data_version=dg.DataVersion(record["checkpoint_sha256"]),
        metadata=_metadata(spec, run, parent),
    )
    yield from blocking
    yield _gain_check(spec, gain)


def gradient_flow(asset: str, guards: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Every module that is on has a gradient norm above 1e-6."""
    norms = {module: float(norm) for module, norm in guards["grad_norm"].items() if norm is not None}
    starved = {module: norm for module, norm in norms.items() if not norm > LEAST_GRADIENT}
    return _blocking_check(
        asset,
        GRADIENT_FLOW,
        passed=bool(norms) and not starved,
        description=(
            "no gradient reaches " + ", ".join(f"{module} (norm {norm:.1e})" for module, norm in starved.items())
            if starved
            else f"{len(norms)} modules receive gradient"
            if norms
            else "the run reports no gradient norms"
        ),
        metadata=_numbers({f"grad_norm_{module}": norm for module, norm in norms.items()}),
    )


def no_degeneracy(asset: str, guards: Mapping[str, Any]) -> dg.AssetCheckResult:
    """The trainer's guards on its scores (spread, distinct scores, sensitivity to the newest day) passed."""
    watched = ("score_spread", "distinct_share", "newest_day_sensitivity", "alpha", "attention_entropy", "node_cosine")
    measured = _numbers({name: guards.get(name) for name in watched})
    missing = [name for name in watched[:3] if name not in measured]
    messages = [*guards.get("messages", []), *(f"{name} was not measured" for name in missing)]
    passed = bool(guards["passed"]) and not missing
    return _blocking_check(
        asset,
        NO_DEGENERACY,
        passed=passed,
        description="the scores vary and follow the newest day" if passed else "; ".join(messages) or "a guard failed",
        metadata=measured,
    )


def _blocking_check(
    asset: str, name: str, *, passed: bool, description: str, metadata: Mapping[str, Any]
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata=metadata,
    )


def _guard_checks(asset: str, out: Path, message: str) -> Iterator[dg.AssetCheckResult]:
    """The failed checks of a training that ended itself: from its record where it wrote one."""
    try:
        guards = Run(out).record["guards"]
        yield gradient_flow(asset, guards)
        yield no_degeneracy(asset, guards)
    except (FileNotFoundError, KeyError, ValueError):  # ended before it could measure; the message has the reason
        yield _blocking_check(asset, NO_DEGENERACY, passed=False, description=message, metadata={})


def _gain_over(parent: Run | None, run: Run, panel: Panel) -> Difference:
    block = Block(panel, "validation")
    ours = block.score(run.scores()).daily
    return paired_difference(ours, block.score(parent.scores()).daily if parent else np.zeros_like(ours))


def _gain_check(spec: PhaseSpec, gain: Difference) -> dg.AssetCheckResult:
    against = spec.parent or "zero"
    return dg.AssetCheckResult(
        asset_key=spec.asset,
        check_name=GAIN,
        passed=bool(gain.low > 0),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"daily RankIC {gain.mean:+.4f} against {against} on {gain.days} days, 95 % interval "
        f"{gain.low:+.4f} … {gain.high:+.4f}" + ("" if gain.low > 0 else ": not told apart from no gain"),
        metadata=_numbers(gain.as_json()),
    )


def _metadata(spec: PhaseSpec, run: Run, parent: Run | None) -> dict[str, Any]:
    """What the UI shows of a run; numbers plot over the runs."""
    record = run.record
    validation, guards = record["validation"], record["guards"]
    numbers: dict[str, Any] = {"rank_ic": validation["rank_ic"]}
    for label, field in (
        ("rank_ic", "rank_ic_by_horizon"),
        ("t", "t_newey_west_by_horizon"),
        ("ic", "ic_by_horizon"),
        ("icir", "icir_by_horizon"),
    ):
        numbers |= {f"{label}_{h}d": value for h, value in validation[field].items()}
    numbers |= {
        name: record.get(name) for name in ("epochs", "best_epoch", "seconds", "stock_days_per_s", "seed", "n_seeds")
    }
    numbers |= {f"grad_norm_{module}": norm for module, norm in guards["grad_norm"].items()}
    numbers["alpha"] = guards.get("alpha")
    return {
        **_numbers(numbers),
        "validation_days": validation["days"],
        "run_id": run.run_id,
        "parent_run": f"{parent.stage}/{parent.run_id}" if parent else "-",
        "panel_id": record["panel_id"],
        "catalogue_hash": record["catalogue_hash"],
        "checkpoint": dg.MetadataValue.path(str(run.checkpoint)),
        "curves": dg.MetadataValue.md(curves_markdown(run.metrics(), f"{spec.asset} · {spec.name} · {run.run_id}")),
    }
