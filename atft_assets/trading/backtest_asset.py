"""The asset `backtest`: what a portfolio of the scores would have earned, with what it must be measured by.

The rule in use at one, two and three times its costs and with other capital; the same rule on LightGBM, low
volatility, 12-1 momentum and, on the sandbox, on the oracle and on noise; further rules where the config names them.
Nothing is written before the checks have passed, and every rule stands in the ledger of trials before its figures can
be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from atft_assets.code_version import code_version
from atft_assets.contracts import Event
from atft_assets.dagster_private import RefusalCheckResult
from atft_assets.failures import PermanentFailure, permanent
from atft_assets.features.names import DAILY_QUOTES, LISTED_INFO, TOPIX, UNIVERSE
from atft_assets.groups import TRADING
from atft_assets.panel.config import day_setting
from atft_assets.reports import backtest_page, backtest_pictures
from atft_assets.reports.backtest import Backtest, Figures
from atft_assets.reports.pages import write_page
from atft_assets.reports.shown import numbers
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.trading.agreement import agreement, touched
from atft_assets.trading.backtest_checks import LEAST_AGREEMENT, forbidden_fills, leak, sees_ahead
from atft_assets.trading.backtest_runs import NOISE, ORACLE, Asked, Tested, TooShort, run_all, trials_of
from atft_assets.trading.backtest_sets import publish
from atft_assets.trading.backtest_shown import Tried, shown
from atft_assets.trading.champion import Champion
from atft_assets.trading.costs import PRESETS
from atft_assets.trading.first import champion_in_use
from atft_assets.trading.inference import overfitting
from atft_assets.trading.judging import BACKTEST
from atft_assets.trading.ledger_tables import broken_identities, frames_of
from atft_assets.trading.names import MasterLacks, master_of
from atft_assets.trading.promotion import NAME as PROMOTION
from atft_assets.trading.recorded import Recorded, recorded
from atft_assets.trading.rulebook import CAPITAL, COSTS, DEFAULT
from atft_assets.trials.ledger import count, root_of, seen

NAME = BACKTEST
IDENTITY, FORBIDDEN, AHEAD, LEAK, LIMITS = "identity", "forbidden_fills", "sees_ahead", "leak", "limit_agreement"
CHECKS: Mapping[str, str] = {
    IDENTITY: "The tables meet their contracts and agree: nav is cash, dividends to come and positions; the costs of a "
    "day are those of its trades.",
    FORBIDDEN: "Every fill is at the open of a day on which the name traded, none on the losing side of a limit, no "
    "short sale where shares cannot be borrowed.",
    AHEAD: "Orders and fills stay as they are when prices after the open are others.",
    LEAK: "The scores do not rank the next day's returns as only scores that have seen them can.",
    LIMITS: f"Computed limits are the exchange's on {LEAST_AGREEMENT:.1%} of the bars that touched one, days of events "
    "left out. Not asked of the sandbox, whose names stop at moves of its own.",
}
COLUMNS = ("", "growth a year", "Sharpe", "95 %", "largest fall", "our lead a year")
CODE_VERSION = code_version(
    "atft_assets.trading.backtest_runs",
    "atft_assets.trading.backtest_shown",
    "atft_assets.trading.ledger",
    "atft_assets.trading.loading",
    "atft_assets.trading.recorded",
)


class BacktestConfig(dg.Config):
    """What is traded, by which rule, and what it costs."""

    scores: str = Field(
        "", description="walk_forward or validation. Default: the first where it holds the model, else the second."
    )
    name: str = Field("", description="Model of the walk-forward: phase3, lightgbm, blend. Default: the champion's.")
    rule: str = Field("", description="Portfolio rule by name. Default: the champion's.")
    sweep: list[str] = Field(
        [], description="Further rules, run at one and two times the costs; each is a trial that deflates all results."
    )
    costs: str = Field(COSTS, description=f"Preset of costs: {', '.join(PRESETS)}.")
    capital: float = Field(CAPITAL, gt=0, description="JPY on the first evening.")
    capacity: bool = Field(True, description="Run it again with 10 million to 3 billion yen.")
    first: str | None = Field(None, description="First evening, YYYY-MM-DD. Default: the first with a score.")
    last: str | None = Field(None, description="Last day, YYYY-MM-DD. Default: the day after the last with a score.")

    def asked(self, champion: Champion | None) -> Asked:
        """What is to be run.

        Raises:
            PanelError: a day that is none.
        """
        return Asked(
            rule=self.rule or (champion.portfolio_rule if champion else DEFAULT),
            sweep=tuple(self.sweep),
            costs=self.costs,
            capital=self.capital,
            capacity=self.capacity,
            first=day_setting(self.first, "first"),
            last=day_setting(self.last, "last"),
        )


def backtest_asset(settings: Settings, boards: Sequence[str] = ("evaluation",)) -> dg.AssetsDefinition:
    """The asset.

    Args:
        boards: the assets whose scores may be traded.
    """

    @dg.asset(
        name=NAME,
        group_name=TRADING,
        deps=[PROMOTION, DAILY_QUOTES, LISTED_INFO, TOPIX, UNIVERSE, *boards],
        check_specs=[
            dg.AssetCheckSpec(name, asset=NAME, blocking=True, description=said) for name, said in CHECKS.items()
        ],
        kinds={"numpy", "polars"},
        tags={"atft/kind": "backtest"},
        code_version=CODE_VERSION,
        output_required=False,
        description="What a portfolio of the scores would have earned. With Tokyo's limits, lots, ticks and costs, "
        "beside TOPIX, the equal-weight universe, LightGBM, low volatility and momentum; at 1, 2 and 3 times the "
        "costs, by capital, and how much of it is luck.",
    )
    def backtest(context: dg.AssetExecutionContext, config: BacktestConfig, store: Store) -> Iterator[Event]:
        with permanent(f"{NAME} cannot start"):
            champion = champion_in_use(store, context.log.info)
            if champion is None and not config.name:
                yield from _nothing(
                    context, "there is no champion yet. The first is what wins the evaluation; run: make road"
                )
                return
            given = recorded(store, champion, config.scores, config.name)
            try:
                tested = run_all(settings, store, given, config.asked(champion))
            except TooShort as error:
                yield from _nothing(context, str(error))
                return
            verdicts = judged(settings, store, tested)
        if failed := [verdict for verdict in verdicts if not verdict.passed]:
            yield from failed
            said = "; ".join(f"{verdict.check_name}: {verdict.description}" for verdict in failed)
            raise PermanentFailure(f"the back-test does not stand, nothing was published: {said}")
        with permanent(f"{NAME} cannot be kept"):
            # the ledger of trials first: figures that somebody can read must stand in it
            seen(root_of(store), trials_of(given, tested))
            store.push("trials")
            told = told_of(settings, store, given, tested)
            folder = publish(store, given, tested)
            page = write_page(store, backtest_page.PAGE, backtest_page.render(told))
        context.log.info(backtest_page.headline(told))
        yield dg.MaterializeResult(asset_key=NAME, metadata=_shown(folder, told, page))
        yield from verdicts

    return backtest


def judged(settings: Settings, store: Store, tested: Tested) -> list[dg.AssetCheckResult]:
    """What each check says of the ledgers.

    Raises:
        StoreError: daily quotes are damaged.
    """
    market, main = tested.market, tested.main
    broken = []
    for one in tested.every:
        audits = [contract.audit(frame, one.case.strategy) for contract, frame in frames_of(one.ledger).values()]
        broken += [str(audit) for audit in audits if not audit.passed]
        broken += [
            f"{one.case.strategy}: {column} is not the {rule} on {days} days, {sample} among them"
            for column, rule, days, sample in broken_identities(one.ledger)
        ]
    limit_fill = main.case.costs.limit_fill
    wrong = [said for one in (main, *tested.others) for said in forbidden_fills(market, one.ledger, limit_fill)]
    ahead = sees_ahead(market, main.case)
    gate = leak(market, main.case.scores, settings.sandbox)
    filled = int((main.ledger.trades["shares"] > 0).sum())
    return [
        _check(IDENTITY, broken, f"{main.ledger.equity.height} days of {len(tested.every)} ledgers add up"),
        _check(FORBIDDEN, wrong, f"each of {filled} fills could have been had"),
        _check(AHEAD, ahead, "orders and fills depend on nothing after the open"),
        _check(LEAK, [] if gate.passed else [gate.sentence], gate.sentence),
        _limits(settings, store, tested),
    ]


def _limits(settings: Settings, store: Store, tested: Tested) -> dg.AssetCheckResult:
    if settings.sandbox:
        return _check(LIMITS, [], "not asked: the sandbox's names stop at moves of its own")
    found = agreement(tested.market, *touched(store, tested.market))
    said = (
        f"{found.ordinary_agreed} of {found.ordinary_rows} bars that touched a limit outside days of events are at the "
        f"computed one, {found.agreed} of {found.rows} in all; {found.outside} bars lie outside of the band"
    )
    if not found.ordinary_rows:
        said = (
            "not judged: the daily quotes flag no bar outside days of events that touched a limit, so nothing says "
            f"whether the computed limits are the exchange's; {found.outside} bars lie outside of the band"
        )
    causes = found.mismatches.group_by("cause").len().sort("cause")
    metadata = {
        **numbers({"share": found.share, "ordinary_share": found.ordinary_share, "outside": found.outside}),
        "causes": ", ".join(f"{cause} {bars}" for cause, bars in causes.iter_rows()) or "-",
    }
    # NaN: no bar touched one
    return _check(LIMITS, [said] if found.ordinary_share < LEAST_AGREEMENT else [], said, metadata)


def _check(
    name: str, wrong: Sequence[str], well: str, metadata: Mapping[str, Any] | None = None
) -> dg.AssetCheckResult:
    kind = RefusalCheckResult if wrong else dg.AssetCheckResult
    said = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return kind(passed=not wrong, asset_key=NAME, check_name=name, description=said or well, metadata=metadata or {})


def told_of(settings: Settings, store: Store, given: Recorded, tested: Tested) -> Backtest:
    """What the page shows; how much was tried is read from the ledger of trials."""
    market, main, so_far = tested.market, tested.main, count(store.local())
    pbo = float("nan")
    if len(tested.by_rule) > 1:
        wide = tested.swept.pivot(on="rule", index="date", values="ret").sort("date").drop_nulls()
        pbo = overfitting(wide.drop("date").to_numpy())
    rule = ", ".join(f"{name} {value}" for name, value in vars(main.case.rule).items() if value is not None)
    costs, of_names = main.case.costs, market.eligible.sum(axis=1)
    header = {
        "scores": given.name,
        "recipe": given.recipe,
        "panel": given.panel_id,
        "universe": f"{of_names.min():,} to {of_names.max():,} eligible names a day",
        "rule": f"{next(iter(tested.by_rule))}: {rule}",
        "costs": f"{costs.name}; half-spread by turnover, impact {costs.impact:g} × sigma × √(order / daily turnover)",
        "capital": f"{main.case.capital:,.0f} JPY",
        "trials": f"{so_far.trials:,}: {', '.join(f'{study} {n}' for study, n in so_far.by_study.items())}",
        "lots": "100 shares; before October 2018 some names had others, which the data do not tell",
    }
    if any(one.case.strategy == ORACLE for one in tested.others):
        header["other scores"] = f"{ORACLE} knows what was planted in this simulated market, {NOISE} knows nothing"
    caveats = [f"Scores: {given.said}."]
    if settings.sandbox:
        caveats.append(
            "The market is simulated, and what was planted in it is far stronger than anything in a real one."
        )
    return shown(
        market,
        main,
        Tried(so_far.trials, so_far.sharpes, pbo=pbo),
        header=header,
        caveats=caveats,
        names=_names(store, tested),
        others=tested.others,
        at_costs=tested.at_costs,
        at_capital=tested.at_capital,
    )


def _names(store: Store, tested: Tested) -> dict[str, str]:
    """Japanese names by code, as of the last day; none where no master of that time is stored."""
    try:
        return dict(master_of(store, tested.market.dates[-1]).select("code", "CoName").iter_rows())
    except MasterLacks:
        return {}


def _nothing(context: dg.AssetExecutionContext, why: str) -> Iterator[dg.AssetCheckResult]:
    """Before there is anything to judge nothing is traded, and nothing is wrong."""
    said = f"nothing was traded: {why}"
    context.log.warning(f"{NAME}: {said}")
    context.log_event(dg.AssetObservation(NAME, metadata={"nothing": why}))
    for name in CHECKS:
        yield _check(name, [], said)


def _shown(folder: Path, told: Backtest, page: Path) -> dict[str, Any]:
    figures, luck = told.figures, told.luck
    columns = [figures, *([told.topix] if told.topix else []), told.equal, *told.others]
    value = backtest_pictures.value(told)
    return {
        "said": backtest_page.headline(told),
        "figures": dg.MetadataValue.table([_record(one) for one in columns]),
        "value": dg.MetadataValue.md(f"![{value.title}](data:image/png;base64,{value.png})"),
        "page": dg.MetadataValue.path(str(page)),
        "path": dg.MetadataValue.path(str(folder)),
        **numbers(
            {
                "cagr": figures.cagr,
                "sharpe": figures.sharpe,
                "max_drawdown": figures.max_drawdown,
                "lead": told.equal.lead,
                "psr": luck.psr,
                "dsr": luck.dsr,
                "trials": luck.trials,
                "pbo": luck.pbo,
                **{f"cagr_at_{one.multiple:g}x_costs": one.cagr for one in told.at_costs},
            }
        ),
    }


def _record(one: Figures) -> dg.TableRecord:
    line = (
        one.name,
        f"{one.cagr:+.1%}",
        f"{one.sharpe:.2f}",
        f"{one.sharpe_low:.2f} to {one.sharpe_high:.2f}",
        f"{one.max_drawdown:.1%}",
        "" if one.lead != one.lead else f"{one.lead:+.1%}",
    )
    return dg.TableRecord(dict(zip(COLUMNS, line, strict=True)))
