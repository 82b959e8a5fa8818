"""The asset `hpo`: one study of knobs, gone on with until it has the trials that are asked for."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from atft_assets.failures import PermanentFailure, Refusal, permanent
from atft_assets.groups import TRAINING
from atft_assets.hpo.page import best_config, importances, knob, page_name, picture, render, trials_table
from atft_assets.hpo.several import SideBySide
from atft_assets.hpo.space import DEFAULT, Dimension, check_space, starting_point, value_of
from atft_assets.hpo.study import WHY, best_of, counted, database_of, open_study
from atft_assets.hpo.trial import Plan, TrialFailed, run_trial, tidy
from atft_assets.hpo.tried import tried
from atft_assets.reports.pages import write_page
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.folds import CUT, FoldRow, fold_on, fold_rows
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.lanes import MAIN_LANE
from atft_assets.training.making import first_preset
from atft_assets.training.phase_config import Knobs
from atft_assets.training.protocol import TrainingLauncher
from atft_assets.trials.ledger import root_of, seen
from atft_model.interchange.config import PRESETS, Preset, changed
from atft_model.interchange.fold import MAIN, Fold
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.phases import PHASES, ancestors
from atft_model.interchange.records import to_plain, write_text

if TYPE_CHECKING:
    import optuna

NAME = "hpo"
BEST = "best.yaml"
STUDY = "atft_phase2_hpo"


class DimensionConfig(dg.Config):
    """One searched knob: low and high, or choices."""

    low: float | None = Field(None, description="Lower end, included")
    high: float | None = Field(None, description="Upper end, included")
    log: bool = Field(False, description="Factors count rather than differences")
    whole: bool = Field(False, description="Whole numbers only")
    choices: list[str] = Field([], description="Values to choose from, in place of low and high; read as JSON if it is")

    def dimension(self) -> Dimension:
        """Raises:
        ConfigError: neither an interval nor choices, or both.
        """
        kind = int if self.whole else float
        low, high = (None if end is None else kind(end) for end in (self.low, self.high))
        return Dimension(low, high, self.log, tuple(value_of(text) for text in self.choices))


class HpoConfig(Knobs):
    """A study; knobs that are set here hold in every trial."""

    study: str = Field(STUDY, description="Name of the study; one that is there is gone on with")
    trials: int = Field(20, description="Trials that the study is to have in the end", ge=1)
    through_phase: int = Field(2, description="Last phase of the curriculum that is trained and judged", ge=0, le=3)
    folds: list[str] = Field(
        [],
        description="Development folds, in the order in which they are trained. Default: all whose validation block "
        "ends before the days that are kept for the end",
    )
    space: dict[str, DimensionConfig] = Field(
        {},
        description="Searched knobs by dotted name (network.…, training.…, curriculum.…), e.g. "
        "{training.learning_rate: {low: 0.0003, high: 0.01, log: true}}; empty: " + ", ".join(DEFAULT),
    )
    spread_penalty: float = Field(
        0.5, description="Standard deviations over the folds that are taken off the mean neutral RankIC", ge=0
    )
    startup_trials: int = Field(
        6, description="Trials at random before the sampler learns, and before any is pruned", ge=1
    )
    trials_at_a_time: int = Field(
        1,
        description="Trials whose trainings run side by side, as many as this machine (ATFT_TRAININGS) or the Ray "
        "cluster has room for",
        ge=1,
    )
    keep_runs: bool = Field(False, description="Keep the run directories of all trials, not of the best one alone")


class NoDevelopmentFold(Refusal):
    """There is no fold by which knobs may be chosen."""


def hpo_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `hpo`."""

    @dg.asset(
        name=NAME,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET],
        pool="gpu",
        op_tags={"atft/kind": "training"},
        tags={"atft/kind": "training"},
        kinds={"optuna", "torch"},
        description="A search for knobs on development folds. The curriculum is trained again and again; mean neutral "
        "RankIC of their validation blocks minus a penalty on its spread. main and its test block are never looked at.",
    )
    def hpo(
        context: dg.AssetExecutionContext,
        config: HpoConfig,
        store: Store,
        launcher: dg.ResourceParam[TrainingLauncher],
    ) -> Iterator[dg.MaterializeResult]:
        with permanent(f"{NAME} cannot start"):
            plan, base = _plan(config, store, settings)
            database = database_of(context.instance, bucket=store.remote)
            study = open_study(
                plan.folder, config.study, _identity(plan, base, config),
                seed=config.seed, startup_trials=config.startup_trials, database=database,
            )  # fmt: skip
        context.log.info(f"study {config.study}: {counted(study)} of {config.trials} trials, {plan.folder}")
        with permanent(NAME):
            _search(context, config, plan, base, study, launcher, store)
            # those too of a worker that was killed before it could say so
            seen(root_of(store), tried(study))
        best = best_of(study)
        if best is None:
            why = {str(trial.user_attrs.get(WHY)) for trial in study.trials if WHY in trial.user_attrs}
            raise PermanentFailure(f"{NAME}: no trial of {config.study} came to a figure: {'; '.join(sorted(why)[:3])}")
        phases = [MAIN_LANE.phase(phase) for phase in plan.phases]
        text = best_config(study, str(plan.request["preset"]), _fixed(plan), phases)
        write_text(plan.folder / BEST, str(text))
        store.push("hpo")
        page = write_page(store, page_name(study), render(study, _outcome(study, plan, best), str(text), _train(plan)))
        yield dg.MaterializeResult(
            asset_key=NAME,
            data_version=dg.DataVersion(f"{config.study}:{best.number}:{counted(study)}"),
            metadata={**_metadata(study, plan, best, str(text)), "page": dg.MetadataValue.path(str(page))},
        )

    return hpo


def development_folds(store: Store, panel: Panel, names: list[str], rows: Sequence[FoldRow]) -> list[Fold]:
    """The folds by whose validation blocks knobs are chosen.

    Args:
        names: of the folds; empty takes every one of the panel whose validation block ends before the days that are
            kept for the end.
        rows: of all folds; those that are final, or share days with main's test block, are judged at the end.

    Raises:
        NoDevelopmentFold: there is none, or one of them reaches into days that are kept for the end.
        FoldError: one was not cut on this panel.
    """
    main = fold_on(store, panel, MAIN)
    stems = {path.stem for path in store.local("fold", panel.panel_id).glob("*.json")} - {MAIN}
    there = sorted((fold_on(store, panel, name) for name in stems), key=lambda fold: fold.validation)
    final = {row.name for row in rows if row.final}
    kept = [fold.test[0] for fold in there if fold.name in final or fold.test[1] >= main.test[0]]
    shut = min(main.test[0], *kept) if kept else main.test[0]
    open_ones = [fold.name for fold in there if fold.validation[1] < shut]
    chosen = [fold_on(store, panel, name) for name in names or open_ones]
    if not chosen:
        raise NoDevelopmentFold(
            f"the newest panel, {panel.panel_id}, has no fold beside {MAIN} whose validation block ends before {shut}; "
            "what comes after is for the comparison at the end: take a longer range of dates (ATFT_START, ATFT_END) or "
            f"other years (ATFT_WALK_FORWARD), then {CUT}"
        )
    for fold in chosen:
        if fold.name == MAIN or fold.validation[1] >= shut:
            raise NoDevelopmentFold(
                f"the validation block of {fold.name} ends on {fold.validation[1]}; the days from {shut} on, and the "
                f"fold {MAIN}, are kept for what is judged at the end: choose other folds "
                f"({', '.join(open_ones) or 'there is none'})"
            )
    return chosen


def _plan(config: HpoConfig, store: Store, settings: Settings) -> tuple[Plan, Preset]:
    """What the trials have in common, and the sizes and knobs from which they depart.

    Raises:
        Refusal, InterchangeError: the config, the panel or the folds do not allow a search.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", config.study):
        raise Refusal(f"a study cannot be called {config.study!r}: use letters, digits, -, _ and .")
    panel = latest_panel(store.local("panel"))
    request = {"preset": first_preset(settings), **config.request()}
    base = changed(PRESETS[request["preset"]], request["network"], request["training"])
    space = {name: one.dimension() for name, one in config.space.items()} or DEFAULT
    check_space(space, base)
    last = PHASES[config.through_phase]
    return Plan(
        folder=store.local(NAME, config.study),
        panel=panel,
        folds=development_folds(store, panel, config.folds, fold_rows(settings)),
        phases=[*ancestors(last), last],
        space=space,
        request=request,
        spread_penalty=config.spread_penalty,
    ), base


def _identity(plan: Plan, base: Preset, config: HpoConfig) -> dict[str, Any]:
    """What must be the same for figures of two trials to be comparable."""
    return {
        "panel": plan.panel.panel_id,
        "folds": {fold.name: [str(day) for day in (*fold.train, *fold.validation)] for fold in plan.folds},
        "phases": [phase.key for phase in plan.phases],
        "space": {name: dimension.as_json() for name, dimension in plan.space.items()},
        "spread penalty": plan.spread_penalty,
        "preset and knobs": to_plain(base),
        "curriculum": to_plain(plan.request["curriculum"]),
        "seeds": [config.seed, config.n_seeds],
    }


def _search(
    context: dg.AssetExecutionContext,
    config: HpoConfig,
    plan: Plan,
    base: Preset,
    study: "optuna.Study",
    launcher: TrainingLauncher,
    store: Store,
) -> None:
    """Trial after trial until the study has as many as are asked for; other workers' trials count."""
    import optuna

    if not study.trials and (start := starting_point(plan.space, base)):
        study.enqueue_trial(start, skip_if_exists=True)  # what everybody would take without a search

    def objective(trial: optuna.Trial) -> float:
        try:
            return run_trial(trial, plan, context, launcher)
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            # not this trial's fault: it is closed, and its values are the first that the next worker tries
            values = dict(trial.params)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(values)
            raise

    def told(trial: optuna.trial.FrozenTrial) -> None:
        knobs = ", ".join(f"{name} {knob(value)}" for name, value in trial.params.items())
        figure = f"{trial.value:+.4f}" if trial.state.name == "COMPLETE" else trial.user_attrs.get(WHY, "")
        seen(root_of(store), tried(study))
        store.push("trials")
        context.log.info(f"trial {trial.number} {trial.state.name.lower()} {figure} ({knobs})")
        if not config.keep_runs:
            tidy(study, plan)

    def after(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        told(trial)
        if counted(study) >= config.trials:
            study.stop()

    if config.trials_at_a_time > 1:
        SideBySide(study, plan, context, launcher, config.trials_at_a_time, config.trials, told).search()
    elif counted(study) < config.trials:
        study.optimize(objective, catch=(TrialFailed,), callbacks=[after])


def _fixed(plan: Plan) -> dict[str, dict[str, Any]]:
    """Knobs that all trials had, by part."""
    curriculum = {name: value for name, value in vars(plan.request["curriculum"]).items() if value is not None}
    return {
        "network": dict(plan.request["network"]),
        "training": dict(plan.request["training"]),
        "curriculum": curriculum,
    }


def _outcome(study: "optuna.Study", plan: Plan, best: "optuna.trial.FrozenTrial") -> str:
    folds = f"{len(plan.folds)} fold{'s' if len(plan.folds) > 1 else ''}"
    return f"trial {best.number} of {len(study.trials)}: objective {best.value:+.4f} over {folds}"


def _train(plan: Plan) -> str:
    """The command that trains with the best knobs."""
    phases = ",".join(MAIN_LANE.phase(phase) for phase in plan.phases)
    return f"dagster asset materialize --select {phases} --config $ATFT_DATA/{NAME}/{plan.folder.name}/{BEST}"


def _metadata(study: "optuna.Study", plan: Plan, best: "optuna.trial.FrozenTrial", config: str) -> dict[str, Any]:
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    return {
        "outcome": _outcome(study, plan, best),
        "trials": dg.MetadataValue.table(trials_table(study)),
        "history_and_importances": dg.MetadataValue.md(picture(study)),
        "best_config": dg.MetadataValue.md(f"```yaml\n{config}```"),
        "train_with": _train(plan),
        "best_objective": float(best.value or 0.0),
        **{f"importance_{name.replace('.', '_')}": share for name, share in importances(study).items()},
        **{f"trials_{state.lower()}": states.count(state) for state in ("COMPLETE", "PRUNED", "FAIL")},
        "study": study.study_name,
        "folds": ", ".join(fold.name for fold in plan.folds),
        "panel_id": plan.panel.panel_id,
        "path": dg.MetadataValue.path(str(plan.folder)),
    }
