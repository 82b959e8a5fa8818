"""The asset `ablation`: what each family of features is worth, by itself and to a model, on a fold's validation block.

Each model is fitted on the train block with all families but one, and with the price set and one more; both sides of a
question are judged on the same rows. It is slow, so nothing else waits for it, and it is run by hand. The test block is
not touched: days that reach it, by themselves or by their labels, are refused before anything is fitted.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from atft_assets.baselines.config import BaselineConfig
from atft_assets.baselines.families import (
    MODELS,
    Question,
    families_of,
    judge_sets,
    questions,
    scorers,
    sets_of,
)
from atft_assets.code_version import code_version
from atft_assets.contracts import Event
from atft_assets.failures import Refusal, permanent
from atft_assets.features.catalogue import feature_set, features_of
from atft_assets.features.names import ALL, GROUP, STOCK
from atft_assets.features.registry import TABLES, served
from atft_assets.features.table import FeatureTable
from atft_assets.groups import TRAINING
from atft_assets.reports import ablation_page, feature_report
from atft_assets.reports.family_table import by_column, by_family, coverage
from atft_assets.reports.pages import write_page
from atft_assets.reports.shown import numbers
from atft_assets.scoring.block import Block
from atft_assets.settings import Settings
from atft_assets.store import Store
from atft_assets.training.ablation_board import ablation_board, outcome, reaches_test, tried
from atft_assets.training.folds import NAME as FOLDS_ASSET
from atft_assets.training.folds import fold_on
from atft_assets.trials.ledger import seen
from atft_model.interchange.fold import MAIN, Fold, read_fold
from atft_model.interchange.panel import Panel, latest_panel
from atft_model.interchange.records import write_json
from atft_model.interchange.statistics import LEVEL

NAME = "ablation"
FILE = "ablation.json"
CLOSED_TEST = "test_block_closed"
TREES, SANDBOX_TREES = 200, 60
CODE_VERSION = code_version(
    "atft_assets.baselines.families",
    "atft_assets.baselines.narrowed",
    "atft_assets.baselines.ridge",
    "atft_assets.baselines.samples",
    "atft_assets.baselines.trees",
    "atft_assets.reports.family_table",
    "atft_assets.scoring.evaluation",
    "atft_assets.training.ablation_board",
    "atft_model.interchange.statistics",
)


class CannotAblate(Refusal):
    """The config names what the panel has not, or the days are not to be looked at."""


class AblationConfig(dg.Config):
    """What is asked, of which models."""

    fold: str = Field(MAIN, description="The fold whose validation block is scored; its test block never is.")
    families: list[str] | None = Field(
        None, description="Families that are asked about, by their names in the catalogue. By default all of the panel."
    )
    price_set: list[str] | None = Field(
        None,
        description="Families of the set to which one is added. By default those of the table `stock_features`: a "
        "stock's own prices and volumes, and the calendar.",
    )
    models: list[str] = Field(list(MODELS), description=f"Which models are fitted: {', '.join(MODELS)}.")
    seeds: list[int] = Field(
        [0],
        description="Seeds of LightGBM's sampling of rows and columns; figures are means over them, and each is a fit "
        "more of every set.",
    )
    trees: int | None = Field(
        None,
        ge=1,
        description=f"Trees at most of LightGBM, a horizon. By default {TREES}, on the sandbox {SANDBOX_TREES}.",
    )
    settings: int = Field(
        1,
        ge=0,
        description="How many of LightGBM's settings are tried on the newest part of the train block, for every set "
        "anew, and with them how many trees are grown. 0: no search, `trees` trees.",
    )
    rows: int = Field(
        5_000_000,
        ge=1,
        description="Rows at most that LightGBM learns from; days are thinned evenly to stay below.",
    )
    threads: int = Field(0, description="Threads of LightGBM; 0: all, or one where the data are small.")

    def of_models(self, settings: Settings) -> BaselineConfig:
        """How the models are fitted."""
        return BaselineConfig(
            trees=self.trees or (SANDBOX_TREES if settings.sandbox else TREES),
            settings=self.settings,
            rows=self.rows,
            threads=self.threads,
            seed=self.seeds[0] if self.seeds else 0,
            lambdarank=False,
        )


def asked_of(config: AblationConfig, panel: Panel, tables: Iterable[FeatureTable] = TABLES) -> list[Question]:
    """The questions of a config, to a panel.

    Raises:
        CannotAblate: a family is none of the panel's, a model is not known, or no seed or nothing is left to ask.
    """
    every = list(families_of(panel))
    base = config.price_set
    if base is None:
        base = sorted({f.family for f in features_of(STOCK, tables)})
    elif strange := sorted(set(base) - set(every)):
        raise CannotAblate(_not_there("price_set", strange, every))
    if strange := sorted(set(config.families or ()) - set(every)):
        raise CannotAblate(_not_there("families", strange, every))
    if strange := sorted(set(config.models) - set(MODELS)):
        raise CannotAblate(f"the config `models` names {', '.join(strange)}: use {' or '.join(MODELS)}")
    if not config.seeds or not config.models:
        raise CannotAblate("the config has no model or no seed: name one of each at least")
    asked = questions(every, base, every if config.families is None else list(dict.fromkeys(config.families)))
    if not asked:
        raise CannotAblate(
            f"the panel {panel.panel_id} has the family {', '.join(every)} alone, and nothing is left without it: "
            "build the panel with a larger `feature_set`"
        )
    return asked


def not_served(tables: Iterable[FeatureTable], every: Iterable[FeatureTable]) -> dict[str, str]:
    """Families of which a plan serves no column, and the smallest plan that does.

    Args:
        tables: those that are served, of `every`.
    """
    there = {f.family for f in feature_set("full", tables)}
    found: dict[str, str] = {}
    for table in every:
        for feature in table.features:
            if feature.model_input and feature.family not in there:
                found.setdefault(feature.family, str(table.plan))
    return found


def _not_there(field: str, strange: list[str], every: list[str]) -> str:
    return (
        f"the config `{field}` names {', '.join(strange)}, which is no family of the newest panel; it has "
        f"{', '.join(every)}: mend the name, or build the panel with a `feature_set` that holds it"
    )


def closed_test(panel: Panel, fold: Fold, board: dict[str, Any]) -> dg.AssetCheckResult:
    """Whether what is published was judged on the fold's validation block, away from its test block."""
    days = [panel.dates[t] for t in (fold.places(panel.dates, "validation"))]
    first, last = (next((day for day in panel.dates if str(day) == board[key]), None) for key in ("first", "last"))
    if first is None or last is None:
        why = f"{board['first']} to {board['last']} are no days of the panel {panel.panel_id}"
    elif why := reaches_test(panel, fold, first, last):
        pass
    elif (first, last, board["days"]) != (days[0], days[-1], len(days)):
        why = f"judged on {first} to {last}, which is not the validation block {days[0]} to {days[-1]}"
    return dg.AssetCheckResult(
        asset_key=NAME,
        check_name=CLOSED_TEST,
        passed=not why,
        severity=dg.AssetCheckSeverity.ERROR,
        description=why or f"judged on {first} to {last}; the test block begins on {fold.test[0]}",
        metadata={"days": board["days"], "test_first": str(fold.test[0]), "test_last": str(fold.test[1])},
    )


def ablation_asset(settings: Settings, tables: Iterable[FeatureTable] = TABLES) -> dg.AssetsDefinition:
    """The asset, of one fold that its config names."""
    every = tuple(tables)
    tables = served(settings.plan, every)

    @dg.asset(
        name=NAME,
        group_name=TRAINING,
        deps=["training_panel", FOLDS_ASSET, feature_report.NAME],
        check_specs=[
            dg.AssetCheckSpec(
                CLOSED_TEST,
                asset=NAME,
                description="What was judged lies in the validation block: neither its days nor their labels reach "
                "the test block.",
            )
        ],
        kinds={"lightgbm", "numpy"},
        tags={"atft/kind": "evaluation"},
        code_version=CODE_VERSION,
        description="What each family of features is worth. On the validation block, ridge and LightGBM with one "
        "family left out of all, and with one added to the price set, paired by day; and what single columns say, "
        "family by family.",
    )
    def ablation(context: dg.AssetExecutionContext, config: AblationConfig, store: Store) -> Iterator[Event]:
        fitted = config.of_models(settings)
        with permanent(f"{NAME} cannot start"):
            panel = latest_panel(store.local("panel"))
            fold = fold_on(store, panel, config.fold)
            block = Block.of(panel, fold, "validation")
            days = [panel.dates[t] for t in block.days]
            if why := reaches_test(panel, fold, days[0], days[-1]):
                raise CannotAblate(f"{why}, and nothing was fitted: cut the folds anew with a longer purge")
            asked = asked_of(config, panel, tables)
            columns = _columns(store, fold, days[-1], tables)
        sets = sets_of(asked)
        judged = []
        for one in judge_sets(block, sets, scorers(panel, fold, config.models, fitted), config.seeds):
            judged.append(one)  # no figure is told before the ledger has its line
            context.log.info(
                f"{len(judged)} of {len(sets) * len(config.models)}: {one.model} with {one.columns} columns, "
                f"{one.seconds:.1f} s"
            )
        board = ablation_board(
            block,
            fold,
            judged,
            asked,
            families_of(panel),
            models=config.models,
            seeds=config.seeds,
            config=config.model_dump(),
            univariate=by_family(columns, LEVEL),
            coverage_first=fold.train[0],
            test=fold.test,
            plan=settings.plan,
            not_served=not_served(tables, every),
        )
        path = store.local("evaluation", fold.name, FILE)
        with permanent(f"{NAME} cannot be kept"):
            seen(store.local("trials").parent, tried(panel, judged, asked, fitted.model_dump(), fold.name))
            store.push("trials")
            write_json(path, board)
            store.push("evaluation", fold.name)
            said = outcome(board)
            page = write_page(store, ablation_page.page_name(fold.name), ablation_page.render(board, said, columns))
            cut = read_fold(store.local("fold", panel.panel_id) / f"{fold.name}.json")
        yield dg.MaterializeResult(asset_key=NAME, metadata=_shown(board, said, page, path))
        yield closed_test(panel, cut, board)

    return ablation


def _columns(store: Store, fold: Fold, last: Any, tables: Iterable[FeatureTable]) -> pl.DataFrame:
    """What single columns say, from the published report; their coverage from the train block to the last day.

    Raises:
        MissingTable: feature_report or all_features has not been published.
    """
    features = feature_set("full", tables)
    report = store.table(GROUP, feature_report.NAME).read(["all"])
    covered = coverage(store.table(GROUP, ALL), [f.name for f in features], fold.train[0], last)
    return by_column(report, features, covered)


def _shown(board: dict[str, Any], said: str, page: Path, path: Path) -> dict[str, Any]:
    drawn = ablation_page.picture(board)
    lines = [
        dg.TableRecord(
            {
                "family": one["family"],
                "model": one["model"],
                "change": one["change"],
                "difference": ablation_page.number(one["mean"], "+.4f"),
                "p Holm": ablation_page.number(one["p_holm"], ".3f"),
                "verdict": one["verdict"],
                "next day": ablation_page.number(one["shortest"]["mean"], "+.4f"),
                "its p Holm": ablation_page.number(one["shortest"]["p_holm"], ".3f"),
                "its verdict": one["shortest"]["verdict"],
            }
        )
        for one in board["comparisons"]
    ]
    figures = {f"{one['model']}/{one['change']}/{one['family']}": one["mean"] for one in board["comparisons"]}
    return {
        "outcome": said,
        "table": dg.MetadataValue.table(lines),
        **({"picture": dg.MetadataValue.md(f"![{drawn.title}](data:image/png;base64,{drawn.png})")} if drawn else {}),
        "page": dg.MetadataValue.path(str(page)),
        **numbers(figures),
        "fold": board["fold"],
        "panel_id": board["panel_id"],
        "path": dg.MetadataValue.path(str(path)),
    }
