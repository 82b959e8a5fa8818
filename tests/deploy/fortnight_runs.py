"""Runs of the two weeks without a daemon: what was there before them, an evening, and all evenings at one stroke.

`python -m tests.deploy.fortnight_runs before`, `evening DAY`, `stroke DAY`, which builds what evenings build up to that
day, or `night DAY`, what is asked for in the night after it. The clock is set by the one who calls.
"""

import sys
from datetime import UTC, date, datetime

import dagster as dg

from atft_assets.calendar import month_key
from atft_assets.dagster_private import UnresolvedAssetJobDefinition
from atft_assets.groups import MONTHLY
from atft_assets.operations.schedules import months_due, published_months
from atft_assets.partitions import months
from atft_assets.store import Store
from atft_assets.trading.champion import Champion, Promotion, install
from atft_assets.training.baselines import StoredBaselines, stored_baselines
from atft_model.interchange.panel import latest_panel
from tests.deploy.fortnight_code import defs, settings

SPAN = "dagster/asset_partition_range_"
BOOK = ("portfolio", "orders")
WARM_UP_DAYS = 275  # until the market's volatility has its year
CONFIG = {  # small and soon, as on the sandbox: the settings say that the real service is meant
    "training_panel": {"feature_set": "core", "warm_up_days": WARM_UP_DAYS, "turnover_floor": 0},
    "folds": {"embargo_days": 0},
    "baselines": {"trees": 30, "settings": 0, "threads": 1},
}


def run(instance: dg.DagsterInstance, names: list[str], tags: dict[str, str], config: dict | None = None) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(name) for name in names], tags=tags, run_config=config or {}
    )
    assert result.success


def names_of(selection: dg.AssetSelection) -> list[str]:
    keys = selection.resolve(defs.resolve_asset_graph())
    return sorted(key.to_user_string() for key in keys)


def before(instance: dg.DagsterInstance) -> None:
    """Tables to this day, a panel, LightGBM trained on it, and that it is the champion."""
    keys = months(settings).get_partition_keys(current_time=datetime.now(UTC))
    run(instance, ["trading_calendar"], {})
    monthly = names_of(dg.AssetSelection.from_string(MONTHLY))
    run(instance, monthly, {f"{SPAN}start": keys[0], f"{SPAN}end": keys[-1]})
    run(instance, ["labels"], {})
    ops = {name: {"config": config} for name, config in CONFIG.items()}
    run(instance, ["training_panel", "folds", "baselines"], {}, {"ops": ops})
    store = Store(root=settings.data_root)
    panel, trees = latest_panel(store.local("panel")), stored_baselines(store.local("runs", "main", "baselines"))
    assert isinstance(trees, StoredBaselines)
    champion = Champion(
        champion_id="c1", kind="lightgbm", fold="main", recipe="r", panel_id=panel.panel_id,
        catalogue_hash=panel.description.catalogue_hash, as_of=panel.dates[-1], phase="", runs=(), checkpoints=(),
        baselines=trees.folder.name,
    )  # fmt: skip
    at = datetime.now(UTC).isoformat(timespec="seconds")
    install(store.local("trading"), Promotion(at, "champion", champion, rule="first"))


def refresh(instance: dg.DagsterInstance, day: date, word: str) -> None:
    """The refresh of an evening, or of the night after it.

    At one stroke it scores the evenings before it too, and leaves the book, which goes from evening to evening, alone.
    """
    due = months_due(day, published_months(Store(root=settings.data_root)))
    tags = {"atft/trading_day": day.isoformat()}
    tags |= {"dagster/partition": due[0]} if len(due) == 1 else {f"{SPAN}start": due[0], f"{SPAN}end": due[-1]}
    assert due[-1] == month_key(day)
    name = "night_refresh" if word == "night" else "nightly_refresh"
    job = next(job for job in defs.jobs or () if job.name == name)
    assert isinstance(job, UnresolvedAssetJobDefinition)
    selected = [name for name in names_of(job.selection) if not (word == "stroke" and name in BOOK)]
    scores = {"daily_scores": {"config": {"catch_up": 10 if word == "stroke" else 5}}}
    run(instance, selected, tags, {} if word == "night" else {"ops": scores})


def main(words: list[str]) -> None:
    with dg.DagsterInstance.get() as instance:
        if words == ["before"]:
            before(instance)
        else:
            refresh(instance, date.fromisoformat(words[1]), words[0])


if __name__ == "__main__":
    main(sys.argv[1:])
