"""The asset `daily_scores`: what the champion says of an evening, judged by the gates, published or withheld.

An evening that was written stays as it is: tomorrow's champion does not say anew what yesterday's said. Only the
evening itself is scored again when the asset runs again, and with the same tables and champion the rows are the same,
bit for bit. Evenings that were missed lately are made up for.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.calendar import (
    first_of_month,
    month_key,
    next_trading_day,
    previous_trading_day,
    shift_trading_days,
    trading_days,
)
from atft_assets.code_version import code_version
from atft_assets.contracts import CONTRACT_CHECK, Built, Event, contract_check, write_audit_publish
from atft_assets.failures import Refusal, permanent
from atft_assets.features.names import ALL, DAILY_QUOTES, LABELS, LISTED_INFO, UNIVERSE
from atft_assets.graph.asset import NAME as GRAPH
from atft_assets.groups import TRADING
from atft_assets.panel.asset import FeaturesOf, catalogued_on
from atft_assets.panel.config import day_setting
from atft_assets.panel.evening import evening_panel
from atft_assets.partitions import LOOKBACK_MONTHS, look_back, months
from atft_assets.reports import evening_page
from atft_assets.reports.pages import page_path, write_page
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.trading import gates
from atft_assets.trading.champion import Champion, check_whole
from atft_assets.trading.daily_scores import (
    CONTRACT,
    GROUP,
    NAME,
    PUBLISHED,
    WITHHELD,
    Provenance,
    broken_days,
    combined,
    empty,
    rows_of,
    with_days,
)
from atft_assets.trading.evening_gates import DRIFT_DAYS, GATES, OVERALL, Tonight, Usual, judge, matured, raw_of
from atft_assets.trading.first import champion_in_use
from atft_assets.trading.gates import Gate
from atft_assets.trading.names import facts_of, master_of, newest_bars, recent_bars
from atft_assets.trading.promotion import NAME as PROMOTION
from atft_assets.trading.scorer import fold_of, lookback, scored, validation
from atft_assets.trading.shown import shown_of
from atft_model.interchange.panel import open_panel
from atft_model.interchange.request import PredictRequest, Scoring

TRADING_DAY = "atft/trading_day"  # tag of a run of the nightly refresh
PANELS = "panel"  # folder of the panels of last days, beside the table
SCRATCH = ".predicted-"  # and the process that reads them: scores of single runs, until they are joined
CODE_VERSION = code_version(
    "atft_assets.baselines.blend",
    "atft_assets.panel.evening",
    "atft_assets.trading.daily_scores",
    "atft_assets.trading.evening_gates",
    "atft_assets.trading.gates",
    "atft_assets.trading.names",
    "atft_assets.trading.scorer",
)


class NoEvening(Refusal):
    """There is no such evening to be scored; the text says why."""


class Predicts(Protocol):
    """Where a network scores; the resource `launcher`."""

    def predict(self, context: dg.AssetExecutionContext, request: PredictRequest) -> None: ...


class ScoresConfig(dg.Config):
    """Which evenings are scored."""

    day: str | None = Field(
        None, description="The evening, YYYY-MM-DD, a day of the months of the run; by default their newest."
    )
    catch_up: int = Field(
        5,
        ge=0,
        description="Trading days before it that are scored too where the table lacks them, within the months of the "
        "run and after the days that the champion was chosen by.",
    )


@dataclass(frozen=True)
class Evening:
    """What came of one evening."""

    day: date
    rows: pl.DataFrame
    gates: list[Gate]

    @property
    def status(self) -> str:
        return WITHHELD if gates.blocked(self.gates) else PUBLISHED


def evenings_due(
    config: ScoresConfig, keys: Sequence[str], store: Store, asked: date | None, after: date
) -> list[date]:
    """The evenings that a run scores, oldest first; the last is the one that it is about.

    Args:
        keys: months of the run.
        asked: the evening that the refresh is of; None where a person runs it.
        after: the last day that the champion was chosen by.

    Raises:
        NoEvening: the evening's features are not there, or it is none of these months, or the champion knows it.
        MissingTable: no month of the universe was published.
    """
    universe = store.table("features", UNIVERSE)
    published = universe.keys()
    there = [key for key in keys if key in published] or list(keys[-1:])
    newest = universe.read(there[-1:], columns=["date"])["date"].max()
    assert isinstance(newest, date)
    day = day_setting(config.day, "day") or newest
    if day > newest or (config.day is None and asked is not None and newest < asked):
        raise NoEvening(
            f"the features end on {newest}, so the evening of {max(day, asked or day)} cannot be scored: fetch and "
            f"compute that day first (the job nightly_refresh)"
        )
    if month_key(day) not in keys or trading_days(day, day) != [day]:
        raise NoEvening(f"{day} is no trading day of the months of this run, {keys[0]} to {keys[-1]}")
    if day <= after:
        raise NoEvening(
            f"the champion was trained or chosen by days up to {after}, so what it says of {day} is no forecast: ask "
            "for a later day, or for a champion of that time"
        )
    held = written(store)
    earliest = shift_trading_days(day, -config.catch_up) if config.catch_up else day
    earlier = [one for one in trading_days(earliest, day) if after < one < day and month_key(one) in keys]
    return [*(one for one in earlier if one not in held), day]


def written(store: Store) -> set[date]:
    """Days that the table holds."""
    table = store.table(GROUP, NAME)
    return set(table.read(columns=["date"])["date"].unique().to_list()) if table.keys() else set()


def score_evenings(
    store: Store,
    champion: Champion,
    days: Sequence[date],
    catch_up: int,
    features_of: FeaturesOf,
    predict: Callable[[PredictRequest], None],
    simulated: bool = False,
) -> list[Evening]:
    """Score and judge some evenings, oldest first.

    Args:
        catch_up: how far before the last of the days the first may lie. The panel begins by it, so that it is the same
            whichever of the days the table lacks.
        simulated: the market is that of the sandbox.

    Raises:
        Refusal, InterchangeError: the champion, a table or a panel cannot be used.
    """
    root, folder = store.local(), store.local(GROUP)
    trained = open_panel(store.local("panel", champion.panel_id))
    features, catalogue_hash = features_of(trained.description.feature_set)
    check_whole(champion, root, catalogue_hash)
    first = previous_trading_day(days[0])  # for what is compared with the evening before
    back = max(lookback(champion, root) - 1, DRIFT_DAYS)
    since = shift_trading_days(days[-1], -(catch_up + 1 + back))
    since = max(since, first_of_month(store.table("features", UNIVERSE).keys()[0]))
    panel = evening_panel(store, features, catalogue_hash, trained.description, (since, days[-1]), folder / PANELS)
    block = Block(panel, panel.description.places(first, days[-1]))

    def ask(scorings: Sequence[Scoring]) -> None:
        one, *others = scorings
        # one day at a time: no score depends on where the panel of tonight begins
        asked = PredictRequest(panel.folder, one.run, one.out, first, days[-1], exact=True, device="cpu")
        predict(PredictRequest(**{**vars(asked), "also": tuple(others)}))

    sweep(folder)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", dir=folder) as scratch:
        dense = scored(champion, root, block, ask, Path(scratch))
    learned = Block.of(trained, fold_of(champion, root), "validation")
    usual = Usual.of(validation(champion, root, learned), learned)
    raw = raw_of(dense, panel.horizons)
    heads, score = combined(dense, panel.horizons)
    provenance = Provenance(champion.champion_id, panel.panel_id, catalogue_hash)
    evenings = []
    for day in days:
        d = panel.dates.index(day) - block.days.start
        master, bars = master_of(store, day), recent_bars(store, day)
        tonight = Tonight(
            day=day,
            panel=panel,
            t=block.days.start + d,
            raw=raw[d],
            score=score[d],
            before=score[d - 1] if d else None,
            bars=newest_bars(master, bars),
            sectors=panel.description.sector33,
            matured=matured(store, champion, trained.description.label, day),
        )
        said = judge(tonight, champion, usual, folder, simulated)
        facts = facts_of([code for code, one in zip(panel.codes, score[d], strict=True) if one == one], master, bars)
        status = WITHHELD if gates.blocked(said) else PUBLISHED
        rows = rows_of(day, next_trading_day(day), panel.codes, heads[:, d], score[d], facts, provenance, status)
        evenings.append(Evening(day, rows, said))
    return evenings


def sweep(folder: Path) -> None:
    """Remove what scorings have left that were killed."""
    for left in folder.glob(f"{SCRATCH}*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)


def daily_scores_asset(settings: Settings, features_of: FeaturesOf | None = None) -> dg.AssetsDefinition:
    """The asset; a month a partition.

    Args:
        features_of: the features of a named set, and their catalogue hash; default: those of the settings' plan.
    """
    features_of = features_of or catalogued_on(settings.plan)

    @dg.asset(
        name=NAME,
        group_name=TRADING,
        partitions_def=months(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            dg.AssetDep(DAILY_QUOTES, partition_mapping=look_back(2)),
            dg.AssetDep(LISTED_INFO, partition_mapping=look_back(1)),
            dg.AssetDep(UNIVERSE, partition_mapping=look_back(LOOKBACK_MONTHS)),
            dg.AssetDep(ALL, partition_mapping=look_back(LOOKBACK_MONTHS)),
            dg.AssetDep(GRAPH, partition_mapping=look_back(LOOKBACK_MONTHS)),
            LABELS,
            "data_release",
            PROMOTION,
        ],
        check_specs=[
            contract_check(NAME),
            dg.AssetCheckSpec(
                OVERALL,
                asset=NAME,
                description="The evening may be used: no gate that forbids it has failed. If not, its rows are marked "
                "withheld, nothing reads them, and one alert is sent.",
            ),
            *(dg.AssetCheckSpec(f"gate_{name}", asset=NAME, description=_of_gate(name)) for name in GATES),
        ],
        kinds={"polars", "torch"},
        tags={"atft/kind": "scores"},
        code_version=CODE_VERSION,
        output_required=False,
        description="What the champion says of every evening. A row a name that may be bought on the next day, with "
        "rank, sector and whether it is liquid or may be sold short; gates decide whether it is published.",
    )
    def daily_scores(
        context: dg.AssetExecutionContext,
        config: ScoresConfig,
        store: Store,
        launcher: dg.ResourceParam[Predicts],
    ) -> Iterator[Event]:
        began = time.monotonic()
        keys = list(context.partition_keys)
        with permanent(f"{NAME} cannot be computed"):
            store.local(GROUP).mkdir(parents=True, exist_ok=True)
            champion = champion_in_use(store, context.log.info)
            if champion is None:
                yield from _nothing(context)
                return
            tag = context.run.tags.get(TRADING_DAY)
            asked = date.fromisoformat(tag) if tag else None
            learned = fold_of(champion, store.local()).validation[1]
            days = evenings_due(config, keys, store, asked, learned)
            evenings = score_evenings(
                store,
                champion,
                days,
                config.catch_up,
                features_of,
                lambda request: launcher.predict(context, request),
                settings.sandbox,
            )
        for evening in evenings:
            for gate in (*gates.blocked(evening.gates), *gates.warned(evening.gates)):
                context.log.warning(f"{evening.day}: {gate.name}: {gate.sentence}")
        tonight = evenings[-1]
        context.log.info(f"{tonight.day}: {tonight.rows.height} names, {tonight.status}")
        table = store.table(GROUP, NAME)

        def build(keys: list[str]) -> Iterator[Built]:
            held = set(table.keys())
            for key in keys:
                mine = [one for one in evenings if month_key(one.day) == key]
                frame = table.read([key]) if key in held else empty()
                frame = with_days(frame, [one.rows for one in mine], [one.day for one in mine])
                yield Built(key, frame, failures=tuple(broken_days(frame)))

        others = [one.rows for one in evenings[:-1]]
        shown = shown_of(store, champion, tonight.day, tonight.rows, tonight.gates, others)
        newest = tonight.day >= max(written(store), default=tonight.day)
        details = _details(tonight, champion, time.monotonic() - began) | evening_page.metadata(shown)
        if newest:
            details["page"] = dg.MetadataValue.path(str(page_path(store, evening_page.PAGE)))
        yield from write_audit_publish(context, table, CONTRACT, build, code_version=CODE_VERSION, details=details)
        yield from _verdicts(tonight)
        if newest:  # one of an earlier evening would pass for tonight's
            with permanent(f"the page of {NAME} cannot be written"):
                write_page(store, evening_page.PAGE, evening_page.render(shown))

    return daily_scores


def _nothing(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Without a champion nothing is scored, and nothing is wrong."""
    said = "there is no champion yet: nothing was scored. The first is what wins the evaluation; run: make road"
    context.log.warning(f"{NAME}: {said}")
    context.log_event(dg.AssetObservation(NAME, metadata={"champion": said}))
    for name in (CONTRACT_CHECK, OVERALL, *(f"gate_{gate}" for gate in GATES)):
        yield dg.AssetCheckResult(passed=True, asset_key=NAME, check_name=name, description=said)


def _verdicts(evening: Evening) -> Iterator[dg.AssetCheckResult]:
    """The gates of an evening as checks, and whether it may be used."""
    blocked = gates.blocked(evening.gates)
    where: dict[str, Any] = {"date": str(evening.day), "partition": month_key(evening.day)}
    yield dg.AssetCheckResult(
        passed=not blocked,
        asset_key=NAME,
        check_name=OVERALL,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{evening.day}: "
        + ("; ".join(f"{gate.name}: {gate.sentence}" for gate in blocked) or f"{evening.rows.height} names published"),
        metadata={**where, "gates": ", ".join(gate.name for gate in blocked) or "-"},
    )
    for gate in evening.gates:
        yield dg.AssetCheckResult(
            passed=gate.passed,
            asset_key=NAME,
            check_name=f"gate_{gate.name}",
            severity=dg.AssetCheckSeverity.ERROR if gate.blocking else dg.AssetCheckSeverity.WARN,
            description=gate.sentence,
            metadata={**where, "figure": str(gate.figure), "threshold": " to ".join(map(str, gate.threshold))},
        )


def _details(evening: Evening, champion: Champion, seconds: float) -> dict[str, Any]:
    return {
        "status": evening.status,
        "evening": str(evening.day),
        "trade_date": str(next_trading_day(evening.day)),
        "names": evening.rows.height,
        "champion": str(champion),
        "seconds": round(seconds, 1),
    }


def _of_gate(name: str) -> str:
    return f"Gate before publication, {'which withholds the evening' if GATES[name] else 'a warning'}: {name}."
