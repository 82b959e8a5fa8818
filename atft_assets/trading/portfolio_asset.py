"""The asset `portfolio`: from the scores of an evening and what is held to what should be held tomorrow.

Holdings come from a broker's file where there is one, else from the paper book. An evening whose scores were withheld
decides nothing: the targets of the evening before stand, and nothing is ordered.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.calendar import month_key
from atft_assets.code_version import code_version
from atft_assets.contracts import CONTRACT_CHECK, Built, Event, contract_check, write_audit_publish
from atft_assets.failures import permanent
from atft_assets.features.names import DAILY_QUOTES, LISTED_INFO, TOPIX, UNIVERSE
from atft_assets.groups import TRADING
from atft_assets.partitions import look_back, months
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.trading import daily_scores
from atft_assets.trading.champion import promotions
from atft_assets.trading.costs import PRESETS, Costs
from atft_assets.trading.holdings import FILE, HoldingsRefused, read_holdings
from atft_assets.trading.policy import Rule
from atft_assets.trading.portfolio import CONTRACT, GROUP, NAME, broken_rows, empty, rows_of, targets_of, with_evening
from atft_assets.trading.rulebook import CAPITAL, COSTS, DEFAULT, rule_named
from atft_assets.trading.standing import PortfolioRefused, Standing, broker_book, fresh, paper_book
from atft_assets.trading.tonight import EveningConfig, Tonight, View, tonight_of, view_of

CODE_VERSION = code_version(
    "atft_assets.trading.account",
    "atft_assets.trading.costs",
    "atft_assets.trading.derived",
    "atft_assets.trading.fills",
    "atft_assets.trading.policy",
    "atft_assets.trading.portfolio",
    "atft_assets.trading.rules",
    "atft_assets.trading.selection",
    "atft_assets.trading.standing",
    "atft_assets.trading.targets",
)


class PortfolioConfig(EveningConfig):
    """What is held, and by which rule. What is not given is as it was on the evening before."""

    holdings: str | None = Field(
        None,
        description=f"A file code,shares of a broker's account. By default trading/{FILE} of the data root where it "
        "lies there, else the paper book.",
    )
    capital: float = Field(
        CAPITAL,
        gt=0,
        description="JPY: what a new paper book begins with, and what is invested in all where a broker's file names "
        "no cash.",
    )
    costs: str | None = Field(None, description=f"Preset of costs: {', '.join(PRESETS)}; the first is {COSTS}.")
    rule: dict[str, Any] = Field(
        {},
        description="Changes of the champion's portfolio rule, such as names: 30; its fields are those of "
        "trading.policy.Rule.",
    )


def rule_of(given: dict[str, Any], named: str, eligible: int, before: pl.DataFrame | None) -> Rule:
    """The champion's rule with changes: those of the evening before, as long as the rule is of the same name.

    Args:
        named: the rule that the champion was promoted with.
        eligible: names of the universe.

    Raises:
        PortfolioRefused: a field that no rule has, or a value that it refuses.
        UnknownRule: the champion was promoted with a rule that this version does not know.
    """
    known = asdict(rule_named(named, eligible))
    if before is not None and str(before["rule_name"][0]) == named:
        known = json.loads(before["rule"][0])
    try:
        return Rule(**{**known, **given})
    except (TypeError, ValueError) as error:
        raise PortfolioRefused(
            f"the config `rule` cannot be used: {error}. Its fields: {', '.join(asdict(Rule()))}"
        ) from None


def promoted_rule(store: Store, champion_id: str) -> str:
    """Name of the rule that the champion of an evening was promoted with."""
    lines = promotions(store.local(GROUP))
    known = [line.champion.portfolio_rule for line in lines if line.champion.champion_id == champion_id]
    return known[-1] if known else DEFAULT


def costs_of(given: str | None, before: pl.DataFrame | None) -> Costs:
    """The preset that is asked for, else that of the evening before.

    Raises:
        PortfolioRefused: there is no such preset.
    """
    name = given or (str(before["costs"][0]) if before is not None else COSTS)
    if name not in PRESETS:
        raise PortfolioRefused(f"the config `costs` is {name!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def last_decided(store: Store, day: date, strategy: str) -> pl.DataFrame | None:
    """Rows of the last evening before a day that decided about a strategy; None before the first."""
    table = store.table(GROUP, NAME)
    keys = table.keys()
    for key in reversed([key for key in keys if key <= month_key(day)]):
        rows = table.read([key]).filter((pl.col("date") < day) & (pl.col("strategy") == strategy))
        if rows.height:
            return rows.filter(pl.col("date") == pl.col("date").max())
    return None


def standing_of(
    store: Store, view: View, config: PortfolioConfig, before: pl.DataFrame | None, costs: Costs
) -> Standing:
    """What is held: a broker's file, or the paper book, which begins where there is nothing before.

    Raises:
        HoldingsRefused, PortfolioRefused: the file cannot be used.
    """
    path = Path(config.holdings).expanduser() if config.holdings else store.local(GROUP, FILE)
    if config.holdings and not path.is_file():
        raise HoldingsRefused(f"the config `holdings` is {config.holdings}, which is no file")
    if path.is_file():
        found = read_holdings(path, view.market.codes)
        return broker_book(view.market, view.t, found, config.capital, before)
    if before is None:
        return fresh(view.market, view.t, config.capital)
    return paper_book(view.market, view.t, before, costs)


def decided_tonight(
    store: Store, tonight: Tonight, config: PortfolioConfig, before: pl.DataFrame | None
) -> tuple[pl.DataFrame, Standing]:
    """The rows of an evening, and what is held on it."""
    costs = costs_of(config.costs, before)
    view = view_of(store, tonight, before["date"][0] if before is not None else None)
    named = promoted_rule(store, str(tonight.rows["model_run"][0]))
    rule = rule_of(config.rule, named, int(view.market.eligible[view.t].sum()), before)
    standing = standing_of(store, view, config, before, costs)
    decision = targets_of(view.market, view.t, view.scores, standing, rule, costs, view.tomorrow)
    text = json.dumps(asdict(rule), sort_keys=True)
    of = (tonight.trade_date, config.strategy, named, text, costs.name)
    rows = rows_of(view.market, view.t, decision, standing, *of)
    return rows, standing


def portfolio_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset; a month a partition."""

    @dg.asset(
        name=NAME,
        group_name=TRADING,
        partitions_def=months(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            daily_scores.NAME,
            *(
                dg.AssetDep(name, partition_mapping=look_back(4))
                for name in (DAILY_QUOTES, LISTED_INFO, TOPIX, UNIVERSE)
            ),
        ],
        check_specs=[contract_check(NAME)],
        kinds={"polars"},
        tags={"atft/kind": "portfolio"},
        code_version=CODE_VERSION,
        output_required=False,
        description="What should be held after the next opening auction. From the published scores of an evening and "
        "what is held: a broker's file code,shares, else the paper book. A withheld evening changes nothing.",
    )
    def portfolio(context: dg.AssetExecutionContext, config: PortfolioConfig, store: Store) -> Iterator[Event]:
        with permanent(f"{NAME} cannot be computed"):
            tonight = tonight_of(store, context.partition_keys, config, context.run.tags)
            if tonight is None:
                yield from nothing(context, NAME, [CONTRACT_CHECK])
                return
            before = last_decided(store, tonight.day, config.strategy)
            rows, standing = empty(), None
            notes: tuple[str, ...] = ()
            if tonight.published:
                rows, standing = decided_tonight(store, tonight, config, before)
                notes = standing.notes
        for note in notes:
            context.log.warning(note)
        table = store.table(GROUP, NAME)

        def build(keys: list[str]) -> Iterator[Built]:
            held = set(table.keys())
            for key in keys:
                frame = table.read([key]) if key in held else empty()
                if key == month_key(tonight.day):
                    frame = with_evening(frame, rows, tonight.day, config.strategy)
                yield Built(key, frame, failures=tuple(broken_rows(frame)))

        details = _details(tonight, rows, standing, before, notes)
        context.log.info(f"{tonight.day}: {details['said']}")
        yield from write_audit_publish(context, table, CONTRACT, build, code_version=CODE_VERSION, details=details)

    return portfolio


def nothing(context: dg.AssetExecutionContext, name: str, checks: list[str]) -> Iterator[dg.AssetCheckResult]:
    """Without scores there is nothing to decide, and nothing is wrong."""
    said = "there are no scores of these months, for there was no champion: nothing was decided, nothing is ordered"
    context.log.warning(f"{name}: {said}")
    context.log_event(dg.AssetObservation(name, metadata={"scores": said}))
    for check in checks:
        yield dg.AssetCheckResult(passed=True, asset_key=name, check_name=check, description=said)


def _details(
    tonight: Tonight,
    rows: pl.DataFrame,
    standing: Standing | None,
    before: pl.DataFrame | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    days: dict[str, Any] = {"evening": str(tonight.day), "trade_date": str(tonight.trade_date)}
    if notes:
        days["notes"] = "; ".join(notes)
    if standing is None:
        since = f"the targets of {before['date'][0]} stand" if before is not None else "nothing was decided before"
        return {**days, "status": "withheld", "said": f"the scores are withheld: {since}, nothing is ordered"}
    wanted = rows.filter(pl.col("shares") != 0)
    changes = rows.filter(pl.col("shares") != pl.col("held")).height
    odd = rows.filter("odd")["code"].to_list()
    return {
        **days,
        "status": "decided",
        "said": f"{wanted.height} names to hold, {changes} to trade, by the {standing.book} book",
        "book": standing.book,
        "net_asset_value": round(standing.nav),
        "cash": round(standing.cash),
        "names": wanted.height,
        "changes": changes,
        "invested": round(float(rows["value"].sum()) / standing.nav, 4),
        "odd_lots": ", ".join(odd) or "none",
    }
