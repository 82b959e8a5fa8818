"""What is said of a network that came back: does every part learn, do its scores vary, is it better than its parent?"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from atft_assets.reports.shown import numbers
from atft_assets.scoring.block import Block
from atft_assets.training.preflight import GAIN, GRADIENT_FLOW, NO_DEGENERACY, PREFLIGHT
from atft_assets.training.runs import Run
from atft_assets.training.seeds import Ensemble
from atft_model.interchange.errors import RunError
from atft_model.interchange.records import to_plain
from atft_model.interchange.run import read_record
from atft_model.interchange.statistics import MeanVerdict, paired_difference

LEAST_GRADIENT = 1e-6

Checks = Iterator[dg.AssetCheckResult]


def check_specs(asset: str, parent: str | None) -> list[dg.AssetCheckSpec]:
    """The checks of a phase's asset."""
    return [
        dg.AssetCheckSpec(
            PREFLIGHT,
            asset=asset,
            blocking=True,
            description="Before the training: device, memory, disk, panel, graph and labels are fit for it.",
        ),
        dg.AssetCheckSpec(
            GRADIENT_FLOW,
            asset=asset,
            blocking=True,
            description=f"Every module that is on received gradient (norm > {LEAST_GRADIENT:g}).",
        ),
        dg.AssetCheckSpec(
            NO_DEGENERACY,
            asset=asset,
            blocking=True,
            description="The scores differ between names and depend on the newest day.",
        ),
        dg.AssetCheckSpec(
            GAIN,
            asset=asset,
            description=f"Paired daily validation RankIC against {parent or 'zero'}: the 95 % interval lies above "
            "zero; a warning, not a stop.",
        ),
    ]


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
        metadata=numbers({f"grad_norm_{module}": norm for module, norm in norms.items()}),
    )


def no_degeneracy(asset: str, guards: Mapping[str, Any]) -> dg.AssetCheckResult:
    """The trainer's guards on its scores (spread, distinct scores, sensitivity to the newest day) passed."""
    watched = ("score_spread", "distinct_share", "newest_day_sensitivity", "alpha", "attention_entropy", "node_cosine")
    measured = numbers({name: guards.get(name) for name in watched})
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


def guard_checks(asset: str, out: Path, message: str) -> Checks:
    """The failed checks of a training that ended itself: from its record where it wrote one."""
    try:
        guards = read_record(out).guards
    except RunError:
        guards = None
    if guards is None or "grad_norm" not in guards:  # ended before it could measure; the message has the reason
        yield _blocking_check(asset, NO_DEGENERACY, passed=False, description=message, metadata={})
    else:
        yield gradient_flow(asset, guards)
        yield no_degeneracy(asset, guards)


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


def gain_over(parent: Run | Ensemble | None, run: Run | Ensemble, block: Block) -> MeanVerdict:
    """Daily headline RankIC against the parent's, or zero: on the days of the block that both have scored."""
    ours = block.score(run.scores()).daily
    theirs = block.score(parent.scores()).daily if parent else np.zeros_like(ours)
    return paired_difference(ours, theirs, max(block.panel.horizons))


def gain_check(asset: str, parent: str | None, gain: MeanVerdict) -> dg.AssetCheckResult:
    """The gain as a check; a warning unless the whole interval is above zero."""
    passed = bool(gain.low > 0)
    said = f"daily RankIC {gain.mean:+.4f} against {parent or 'zero'} on {gain.days} days"
    if gain.too_short:
        said += f": too few to tell it from no gain, {gain.days_needed} are the least"
    else:
        said += f", 95 % interval {gain.low:+.4f} … {gain.high:+.4f}, p {gain.p:.3f}"
        said += "" if passed else ": not told apart from no gain"
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=GAIN,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=said,
        metadata=numbers(to_plain(gain)),
    )
