"""The asset `promotion`: who scores tomorrow's evening, decided on what was judged, and set down with its grounds.

The first champion of a root is what won its evaluation, be it a network, LightGBM or their blend, for without one there
is nothing to defend. From then on nothing changes unless a person says `promote: true` *and* the rule for that kind of
change is met; refits alone may go by themselves, if the config says so. Where a person knows better than the rule,
`override_reason` says why, and stands in the record for ever.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from atft_assets.contracts import Event
from atft_assets.failures import permanent
from atft_assets.groups import TRADING
from atft_assets.reports.shown import numbers
from atft_assets.store import Store
from atft_assets.trading import champion as champions
from atft_assets.trading.boards import evaluation, walk_forward
from atft_assets.trading.champion import Champion, Promotion, check_whole, install, promotions, record
from atft_assets.trading.decisions import Decision
from atft_assets.trading.gates import Gate
from atft_assets.trading.judging import Case, judged, keep_walked
from atft_model.interchange.panel import latest_panel
from atft_model.interchange.records import to_plain

NAME = "promotion"
EVIDENCE = "evidence"


class PromotionConfig(dg.Config):
    """Who is to be judged, and what is to follow."""

    candidate: str = Field(
        "", description="network (its last phase), lightgbm, blend, or a phase, e.g. phase2. Default: what won"
    )
    portfolio_rule: str = Field("", description="A swept portfolio rule to trade the champion's scores by from now on")
    promote: bool = Field(False, description="Take the candidate into use if its rule is met. Without it it is judged.")
    automatic_refits: bool = Field(
        False, description="Take a refit, the same recipe on newer days, into use without promote if its rule is met."
    )
    override_reason: str = Field(
        "", description="With promote: take the candidate although its rule is not met; why, for the record."
    )
    who: str = Field("", description="Who decides, for the record. Default: the user of this process")
    note: str = Field("", description="Anything else that the record should say")


def promotion_asset(boards: Sequence[str] = ("evaluation",)) -> dg.AssetsDefinition:
    """The asset.

    Args:
        boards: assets whose boards it reads.
    """

    @dg.asset(
        name=NAME,
        group_name=TRADING,
        deps=list(boards),
        check_specs=[
            dg.AssetCheckSpec(
                EVIDENCE,
                asset=NAME,
                description="The candidate meets the rule for its kind of change: refit, recipe or portfolio; a "
                "warning, as nothing is promoted without it.",
            )
        ],
        kinds={"numpy"},
        tags={"atft/kind": "promotion"},
        output_required=False,
        description="Which champion scores the evenings, and why. The first is what won its evaluation; after that a "
        "refit must not be worse, a recipe must be shown to be better by the walk-forward, a portfolio rule must be "
        "more than luck, and a person must say `promote: true`. Back: python -m atft_assets.trading.rollback.",
    )
    def promotion(context: dg.AssetExecutionContext, config: PromotionConfig, store: Store) -> Iterator[Event]:
        with permanent(f"{NAME} cannot decide"):
            case = look(store, config)
            if case is None:
                champion = champions.needed(store.local(champions.FOLDER))
                context.log.info(f"nothing to decide: {champion} is in use already")
                yield dg.MaterializeResult(asset_key=NAME, metadata=_in_use(champion))
                yield _check(True, "the newest runs are in use already")
                return
            line = decide(store, case, config)
        for gate in (*case.decision.parts, *case.gates):
            if not gate.passed:
                context.log.warning(gate.sentence)
        yield dg.MaterializeResult(asset_key=NAME, metadata=_shown(case, line))
        yield _check(case.passed, case.sentence)

    return promotion


def look(store: Store, config: PromotionConfig) -> Case | None:
    """The candidate beside the champion; None if it is in use already.

    Raises:
        ChampionRefused: there is no such candidate, or it cannot score.
        RunError, FoldError, PanelError: something that it rests on is gone or damaged.
    """
    root, folder = store.local(), store.local(champions.FOLDER)
    champion = champions.current(folder)
    found, walked = evaluation(root), walk_forward(root)
    lines = promotions(folder)
    case = judged(store, found, walked, champion, lines, config.candidate, config.portfolio_rule)
    candidate = case.candidate
    # the id of a run names it within its phase only
    if champion and (champion.sources, champion.kind, champion.phase, champion.portfolio_rule) == (
        candidate.sources, candidate.kind, candidate.phase, candidate.portfolio_rule,
    ):  # fmt: skip
        return None
    check_whole(candidate, root, latest_panel(store.local("panel")).description.catalogue_hash)
    return case


def decide(store: Store, case: Case, config: PromotionConfig) -> Promotion:
    """Set the case down, and let the candidate be the champion if it may."""
    folder = store.local(champions.FOLDER)
    line = Promotion(
        at=champions.now(),
        role="candidate",
        champion=case.candidate,
        previous=case.champion.champion_id if case.champion else None,
        rule=case.decision.rule,
        decision=_decision(case, config),
        gates=tuple(to_plain(gate) for gate in case.gates),
        who=config.who or champions.whoever(),
        note=config.note,
    )
    if taken(case, config):
        keep_walked(store, walk_forward(store.local()), case.candidate)
        line = install(folder, line)
    else:
        record(folder, line)
    store.push(champions.FOLDER)
    return line


def taken(case: Case, config: PromotionConfig) -> bool:
    """Whether a candidate goes into use."""
    if not case.passed:
        return config.promote and bool(config.override_reason)
    if case.champion is None or config.promote:
        return True
    return config.automatic_refits and case.decision.rule == "refit"


def first_champion(store: Store, who: str = "") -> Champion:
    """The champion in use; on a fresh root what won its evaluation, from then on.

    Raises:
        ChampionRefused: what won is not fit to score; the gates say why.
        RunError, FoldError, PanelError: nothing was judged yet, or it is gone or damaged.
    """
    folder = store.local(champions.FOLDER)
    if (champion := champions.current(folder)) is not None:
        return champion
    config = PromotionConfig.model_validate({"who": who})
    case = look(store, config)
    assert case is not None, "there is no champion that it could be"
    line = decide(store, case, config)
    if line.role != "champion":
        raise champions.ChampionRefused(outcome(case, line))
    return line.champion


def _decision(case: Case, config: PromotionConfig) -> dict[str, Any]:
    decision: Decision = case.decision
    return {
        **to_plain(decision),
        "passed": case.passed,
        "sentence": case.sentence,
        "board": case.board,
        "figures": case.figures,
        "override_reason": config.override_reason,
    }


def outcome(case: Case, line: Promotion) -> str:
    """What came of it, in a sentence."""
    if line.role == "champion":
        over = f" instead of {case.champion.champion_id}" if case.champion else ", the first of this root"
        against = "" if case.passed else f" against the rule ({case.sentence})"
        return f"{case.candidate} is the champion now{over}{against}"
    how = "to promote it: the config promote: true"
    if not case.passed:
        how = "to promote it all the same: the config promote: true and an override_reason"
    return f"{case.candidate} was judged and is not in use. {case.sentence}; {how}"


def _shown(case: Case, line: Promotion) -> dict[str, Any]:
    decision = case.decision
    return {
        "outcome": outcome(case, line),
        "asked": dg.MetadataValue.table([_record(gate) for gate in (*decision.parts, *_only(case))]),
        "power": f"a difference of {decision.detectable:.4f} would be seen in 80 % of cases on these {decision.days} "
        "days" if decision.days else "nothing was compared",
        "champion": line.champion.champion_id if line.role == "champion" else line.previous or "-",
        "candidate": str(case.candidate),
        "rule": decision.rule,
        **numbers(
            {
                "statistic": decision.statistic,
                "low": decision.low,
                "high": decision.high,
                "p": decision.p,
                "detectable": decision.detectable,
                **{f"{name}/neutral_rank_ic": value for name, value in case.figures.items()},
            }
        ),
    }  # fmt: skip


def _only(case: Case) -> tuple[Gate, ...]:
    """The gates that are not parts of the decision."""
    names = {gate.name for gate in case.decision.parts}
    return tuple(gate for gate in case.gates if gate.name not in names)


def _record(gate: Gate) -> dg.TableRecord:
    said = "passed" if gate.passed else "FAILED" if gate.blocking else "warning"
    return dg.TableRecord({"": gate.name, "outcome": said, "what was seen": gate.sentence})


def _in_use(champion: Champion) -> dict[str, Any]:
    return {"outcome": f"{champion} stays: it is the newest", "champion": champion.champion_id}


def _check(passed: bool, said: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=NAME, check_name=EVIDENCE, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=said
    )
