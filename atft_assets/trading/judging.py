"""Evidence for a decision: the candidate beside the champion, on days that both know. Reads runs, boards and records.

A refit is judged on the days that both validation blocks have: epochs were chosen on them for both, so neither is
favoured; days that only the refit has would be some twenty a month, on which nothing can be told. Another recipe is
judged on the test blocks of the walk-forward; what the champion's walk-forward was is kept with its promotion, for the
folds will by then hold other networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from atft_assets.scoring.block import Block
from atft_assets.scoring.daily import daily_spearman
from atft_assets.scoring.evaluation import evaluate
from atft_assets.scoring.ordering import levels_of
from atft_assets.store import Store
from atft_assets.trading import gates
from atft_assets.trading.boards import Evaluation, Judged, WalkForward, winner
from atft_assets.trading.champion import FOLDER, Champion, ChampionRefused, Promotion
from atft_assets.trading.daily_scores import combined
from atft_assets.trading.decisions import Decision, first, not_judged, p_of, portfolio, recipe, refit
from atft_assets.trading.evening_gates import Usual, raw_of
from atft_assets.trading.gates import Gate
from atft_assets.trading.scorer import fold_of, validation
from atft_assets.trials.ledger import count
from atft_model.interchange.errors import FoldError, RunError
from atft_model.interchange.fold import places
from atft_model.interchange.panel import latest_panel
from atft_model.interchange.records import from_plain, read_json, write_json

WALKED = "walked"  # folder of what the champions' walk-forwards were
SWEEP = "sweep.parquet"  # date, rule, ret, ret_twice: daily returns of each swept portfolio rule, at 1 and 2 times cost
BACKTEST = "backtest"  # the asset that writes it, and the folder of its other tables
LAST_DAYS = 20  # of the validation block, on which the gates are asked
SPARED = 1  # evenings of them on which a gate may say no: one in twenty is chance


@dataclass(frozen=True)
class Case:
    """What is to be decided.

    Attributes:
        figures: neutral RankIC of everything that could be champion, by name, and of which board.
        gates: what the gates say of the candidate's last days.
    """

    champion: Champion | None
    candidate: Champion
    name: str
    figures: dict[str, float]
    board: str
    decision: Decision
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """The rule is met, and no gate would stop an evening of the candidate's."""
        return self.decision.passed and not gates.blocked(self.gates)

    @property
    def sentence(self) -> str:
        """The outcome, and what stood against it."""
        asked = {gate.name for gate in self.decision.parts}
        more = [gate.sentence for gate in gates.blocked(self.gates) if gate.name not in asked]
        return "; ".join([self.decision.sentence, *more])


def name_of(champion: Champion) -> str:
    """What a champion is called on the boards."""
    return champion.phase if champion.kind == "network" else champion.kind


def judged(
    store: Store,
    found: Evaluation,
    walked: WalkForward | None,
    champion: Champion | None,
    lines: Sequence[Promotion],
    wanted: str = "",
    rule: str = "",
) -> Case:
    """The candidate and what is to be said of it.

    Args:
        lines: of `promotions.jsonl`.
        wanted: network, lightgbm, blend or a phase; empty takes what won.
        rule: name of a portfolio rule that is to be taken; empty leaves the champion's.

    Raises:
        ChampionRefused: there is no such candidate, or no such portfolio rule.
        RunError, FoldError, PanelError: something that the candidate rests on is gone or damaged.
    """
    name, figures, board = winner(found, walked)
    if wanted:
        networks = [one for one in figures if one.startswith("phase")]
        name = networks[-1] if wanted == "network" and networks else wanted
    if rule and champion is not None:
        candidate = found.champion(name_of(champion), rule)
        if candidate.sources != champion.sources:
            raise ChampionRefused(
                "the runs were trained anew since they were promoted: promote them first, then the portfolio rule"
            )
        return Case(champion, candidate, name_of(champion), figures, board, _portfolio(store, rule), ())
    candidate = found.champion(name, rule or (champion.portfolio_rule if champion else "default"))
    said = shape_gates(store, candidate)
    if champion is None:
        others = {other: value for other, value in figures.items() if other != name}
        decision = first(name, others, figures[name])
    else:
        kind = "refit" if candidate.recipe == champion.recipe else "recipe"
        try:
            if kind == "refit":
                decision = _refit(store, champion, candidate, lines, said)
            else:
                decision = _recipe(store, walked, champion, candidate, lines)
        except (ChampionRefused, RunError, FoldError) as why:  # then it is for a person to answer for it
            decision = not_judged(kind, str(why))
    return Case(champion, candidate, name, figures, board, decision, said)


def common_block(store: Store, *champions: Champion) -> Block:
    """The days of the newest panel that all their validation blocks have.

    Raises:
        FoldError: there are none.
    """
    panel = latest_panel(store.local("panel"))
    spans = [fold_of(one, store.local()).validation for one in champions]
    low, high = max(span[0] for span in spans), min(span[1] for span in spans)
    return Block(panel, places(panel.dates, low, high, "what both validation blocks have"), "validation")


def shape_gates(store: Store, candidate: Champion) -> tuple[Gate, ...]:
    """What the gates on the shape of scores say of the last days of the candidate's validation block.

    They are asked as they would have been evening after evening, with the days before as what is usual; a gate fails
    if it says no on more than one of twenty.
    """
    block = common_block(store, candidate)
    scores = validation(candidate, store.local(), block)
    usual = Usual.of(scores, block)
    raw, (_, score) = raw_of(scores, block.panel.horizons), combined(scores, block.panel.horizons)
    last, days = LAST_DAYS, len(block.days)
    if days <= last:
        return ()
    asked: dict[str, list[Gate]] = {}
    for d in range(days - last, days):
        back = days - d
        for gate in (
            gates.coverage(score[d], block.eligible[d]),
            gates.score_spread(raw[d], usual.spreads[:-back]),
            gates.distinct_share(raw[d], usual.distinct[:-back]),
            gates.rank_agreement(score[d], score[d - 1], usual.agreements[:-back]),
            gates.top_overlap(score[d], score[d - 1], usual.overlaps[:-back]),
        ):
            asked.setdefault(gate.name, []).append(gate)
    return tuple(_summed(name, made) for name, made in asked.items())


def walked_of(store: Store, walked: WalkForward | None, champion: Champion) -> Judged | None:
    """The champion's walk-forward: on the newest board if its recipe stands there, else as it was kept."""
    if walked:
        for row in walked.rows.values():
            if row.recipe == champion.recipe:
                return row
    path = store.local(FOLDER, WALKED, f"{champion.recipe}.json")
    return from_plain(Judged, read_json(path, "it is gone", RunError), str(path), RunError) if path.exists() else None


def keep_walked(store: Store, walked: WalkForward | None, champion: Champion) -> None:
    """Keep a champion's walk-forward, for the challengers to come."""
    if (row := walked_of(store, walked, champion)) is not None:
        write_json(store.local(FOLDER, WALKED, f"{champion.recipe}.json"), row)


def _refit(
    store: Store, champion: Champion, candidate: Champion, lines: Sequence[Promotion], said: Sequence[Gate]
) -> Decision:
    block = common_block(store, champion, candidate)
    ours, theirs = (validation(one, store.local(), block) for one in (candidate, champion))
    both = np.isfinite(ours).all(axis=0) & np.isfinite(theirs).all(axis=0) & block.eligible
    returns = block.panel.y[:, block.rows]
    daily = [evaluate(one, returns, both, horizons=block.panel.horizons).daily for one in (ours, theirs)]
    orders = [levels_of(np.where(both, combined(one, block.panel.horizons)[1], np.nan)) for one in (ours, theirs)]
    past = [
        part["figure"]
        for line in lines
        if line.role == "champion" and line.rule == "refit"
        for part in line.decision.get("parts", ())
        if part["name"] == "agreement" and part["figure"] is not None
    ]
    return refit(daily[0], daily[1], daily_spearman(orders[0], orders[1]), past, max(block.panel.horizons), said)


def _recipe(
    store: Store, walked: WalkForward | None, champion: Champion, candidate: Champion, lines: Sequence[Promotion]
) -> Decision:
    theirs = walked_of(store, walked, champion)
    ours = next((row for row in (walked.rows.values() if walked else ()) if row.recipe == candidate.recipe), None)
    if walked is None or ours is None or theirs is None:
        lacking = "the candidate's recipe" if ours is None else "the champion's"
        raise ChampionRefused(
            f"the walk-forward does not hold {lacking} on all its folds, and another recipe is judged by nothing else: "
            "train the folds with it and run walk_forward"
        )
    dates = tuple(sorted(set(ours.dates) & set(theirs.dates)))
    horizon = max(candidate.horizons)
    reference = theirs.on(dates)
    beside = {
        row.recipe: p_of(row.on(dates), reference, horizon)
        for row in walked.rows.values()
        if row.recipe not in (ours.recipe, theirs.recipe)
    }
    return recipe(
        ours.on(dates),
        reference,
        walked.in_folds(dates),
        list({**_before(champion, candidate, lines), **beside}.values()),
        (ours.turnover, theirs.turnover),
        (ours.spread, theirs.spread),
        horizon,
    )


def _before(champion: Champion, candidate: Champion, lines: Sequence[Promotion]) -> dict[str, float]:
    """p, before Holm, of the recipes that were compared with this champion since it came into use, by recipe."""
    found: dict[str, float] = {}
    for line in lines:
        if line.role == "champion" and line.champion.champion_id == champion.champion_id:
            found = {}
        elif line.role == "candidate" and line.rule == "recipe" and line.champion.recipe != candidate.recipe:
            p = line.decision.get("p_alone")
            found[line.champion.recipe] = float("nan") if p is None else float(p)
    return found


def _portfolio(store: Store, rule: str) -> Decision:
    path = store.local(FOLDER, SWEEP)
    if not path.exists():
        raise ChampionRefused(
            f"{path} does not exist: sweep portfolio rules first; run: dagster asset materialize --select {BACKTEST}"
        )
    frame = pl.read_parquet(path)
    names = frame["rule"].unique().sort().to_list()
    if rule not in names:
        raise ChampionRefused(f"{path} has no rule {rule!r}; it has {', '.join(names)}")
    wide = frame.pivot(on="rule", index="date", values="ret").sort("date").drop_nulls()
    own = frame.filter(pl.col("rule") == rule).sort("date")
    tried = count(store.local())
    swept = wide.select(names).to_numpy().astype(np.float64)
    return portfolio(own["ret"], own["ret_twice"], swept, max(tried.trials, len(names)), tried.sharpes)


def _summed(name: str, asked: Sequence[Gate]) -> Gate:
    """Twenty evenings of one gate as one."""
    failed = [gate for gate in asked if not gate.passed]
    worst = failed[-1] if failed else asked[-1]
    said = f"failed on {len(failed)} of the last {len(asked)} days of its validation block; {worst.sentence}"
    return Gate(name, len(failed) <= SPARED, worst.blocking, worst.figure, worst.threshold, said)
