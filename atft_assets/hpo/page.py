"""What a person reads of a study: its trials, their history, which knobs decide, and the config to train with."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import yaml

from atft_assets.hpo.space import knobs_of
from atft_assets.hpo.study import WHY, best_of
from atft_assets.reports.markup import document, paragraph, percent, section, shown, table
from atft_assets.reports.pictures import ACCENT, WIDTH, Picture, base64_png, figure, plain

if TYPE_CHECKING:
    import optuna

FOLDS, RAW, SECONDS = "neutral RankIC by fold", "RankIC by fold", "seconds"  # user attributes of a trial
SHOWN_TRIALS = 50
MIN_FOR_IMPORTANCES = 8


def trials_table(study: "optuna.Study") -> list[dg.TableRecord]:
    """A line a trial, the best first, then what was pruned, failed or still runs; the 50 first."""
    order = {"COMPLETE": 0, "PRUNED": 1, "FAIL": 2, "RUNNING": 3, "WAITING": 4}
    trials = sorted(
        study.get_trials(deepcopy=False),
        key=lambda trial: (order[trial.state.name], -(trial.value or 0), trial.number),
    )
    return [
        dg.TableRecord(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "objective": _figure(trial.value if trial.state.name == "COMPLETE" else None),
                "by fold": ", ".join(f"{k} {_figure(v)}" for k, v in trial.user_attrs.get(FOLDS, {}).items()),
                "knobs": ", ".join(f"{name.partition('.')[2]} {knob(v)}" for name, v in trial.params.items()),
                "seconds": round(trial.user_attrs.get(SECONDS, 0.0)),
                "why": str(trial.user_attrs.get(WHY, ""))[:200],
            }
        )
        for trial in trials[:SHOWN_TRIALS]
    ]


def importances(study: "optuna.Study") -> dict[str, float]:
    """Share of each knob in what sets the best tenth of the trials apart (PED-ANOVA, Watanabe et al. 2023).

    Empty below eight complete trials, and where nothing differs: a share of a handful of trials says nothing.
    """
    import optuna

    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(complete) < MIN_FOR_IMPORTANCES or len({trial.value for trial in complete}) < 2:
        return {}
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        )
    except (ValueError, RuntimeError):  # a knob that never varied
        return {}
    return {name: float(share) for name, share in found.items()}


def history(study: "optuna.Study") -> Picture:
    """Objectives in the order of the trials, and which knobs decide."""
    made = figure(WIDTH, 4.2)
    left, right = made.subplots(1, 2)
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    numbers, values = [trial.number for trial in complete], [float(trial.value or 0) for trial in complete]
    best = [max(values[: place + 1]) for place in range(len(values))]
    left.plot(numbers, values, "o", color=ACCENT, label="trial")
    left.step(numbers, best, where="post", color="black", label="best so far")
    left.set(title="objective by trial", xlabel="trial", ylabel="neutral RankIC, mean minus spread")
    left.legend(frameon=False)
    shares = dict(reversed(importances(study).items()))
    right.barh(list(shares), list(shares.values()), color=ACCENT)
    few = f"{len(complete)} complete trials: too few to say which knobs decide"
    right.set(title="which knobs decide" if shares else few, xlabel="importance (PED-ANOVA)" if shares else "")
    for axes in (left, right):
        plain(axes)
    top = f"{best[-1]:+.4f} is the best of {len(complete)} complete trials" if best else "no trial is complete"
    return Picture(f"{study.study_name}: {top}", base64_png(made))


def picture(study: "optuna.Study") -> str:
    """History and importances as one inline PNG in Markdown."""
    return f"![{study.study_name}](data:image/png;base64,{history(study).png})"


def page_name(study: "optuna.Study") -> str:
    """The file of a study's page."""
    return f"hpo-{study.study_name}.html"


def render(study: "optuna.Study", outcome: str, config: str, train_with: str) -> str:
    """The page of a study.

    Args:
        outcome: the result in a sentence.
        config: what `best_config` gives.
        train_with: the command that trains with it.
    """
    rows = [[str(cell) for cell in record.data.values()] for record in trials_table(study)]
    head = ("trial", "state", "objective", "by fold", "knobs", "seconds", "why")
    shares = [(name, percent(share)) for name, share in importances(study).items()]
    return document(
        f"Search {study.study_name}: {outcome}",
        paragraph(
            "Knobs are chosen by validation blocks of development folds; the days on which models are judged were not "
            "looked at. The best of many trials looks better than it is: judge it by a training of its own."
        ),
        shown(history(study)),
        section("best", "What to train with", "", f"<pre>{html.escape(config)}</pre>", paragraph(train_with)),
        section(
            "knobs", "Which knobs decide", "",
            table(("knob", "share"), shares) if shares else paragraph("Too few trials to say.", "left-out"),
        ),
        section(
            "trials", "Trials", "The best first, then what was pruned or failed.",
            table(head, rows, text=("state", "by fold", "knobs", "why"), wide=("by fold", "knobs", "why")),
        ),
    )  # fmt: skip


def best_config(study: "optuna.Study", preset: str, base: Mapping[str, Any], assets: list[str]) -> str | None:
    """Run config, as YAML, with which the phases are trained as the best trial was; None without one.

    Args:
        preset: of every trial.
        base: knobs that all trials had, by part.
        assets: the phases, in order; a network's sizes are chosen in the first and kept from there on.
    """
    best = best_of(study)
    if best is None:
        return None
    knobs = knobs_of(best.params)
    found = {part: {**base.get(part, {}), **chosen} for part, chosen in knobs.items()}
    ops: dict[str, Any] = {}
    for place, asset in enumerate(assets):
        config = {part: values for part, values in found.items() if values}
        ops[asset] = {"config": {"preset": preset, **config} if place == 0 else config}
    return yaml.safe_dump({"ops": ops}, sort_keys=False)


def knob(value: Any) -> str:
    """A value of a knob in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"
