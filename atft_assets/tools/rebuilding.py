"""The commands that materialize what is lacking, in the order of the road, months grouped into ranges."""

import re
from collections.abc import Iterable, Iterator, Sequence

from atft_assets.operations.corrections import unbroken
from atft_assets.panel.asset import NAME as PANEL
from atft_assets.raw import SOURCES
from atft_assets.raw.published import refetch_option
from atft_assets.settings import Settings
from atft_assets.store import UNPARTITIONED
from atft_assets.store.damage import Lost
from atft_assets.tools.judges import judges
from atft_assets.trading import daily_scores, orders, portfolio
from atft_assets.training.folds import NAME as FOLDS
from atft_assets.training.lanes import BASELINES, EVALUATION, FOLD_SCORES, MAIN_LANE, WALK_FORWARD, Lane
from atft_model.interchange.phases import PHASES

EVENING = (daily_scores.NAME, portfolio.NAME, orders.NAME)  # judged with tables, made after everything else
MONTH = re.compile(r"\d{4}-\d{2}")  # a key of a month; those of folds are years, `2018` or `2018-2019`


def commands(lost: Iterable[Lost], settings: Settings, *, refetch: bool = False) -> list[str]:
    """One command for each run of assets that lack the same partitions; each comes after what it reads.

    Args:
        refetch: what is there already of raw months is asked for again as well.
    """
    keys: dict[str, set[str | None]] = {}
    for one in lost:
        keys.setdefault(one.asset, set()).add(one.key)
    said: list[tuple[list[str], list[str]]] = []
    for asset in sorted(keys, key=_road(settings).index):
        options = list(_options(keys[asset]))
        if said and said[-1][1] == options:
            said[-1][0].append(asset)
        else:
            said.append(([asset], options))
    return [
        f"dagster asset materialize --select {','.join(assets)}{option}{_config(assets) if refetch else ''}"
        for assets, options in said
        for option in options
    ]


def _config(assets: Sequence[str]) -> str:
    """The option by which the raw tables among the assets fetch their months whole."""
    fetched = {source.name for source in SOURCES}
    return refetch_option([asset for asset in assets if asset in fetched])


def _options(keys: set[str | None]) -> Iterator[str]:
    if keys <= {None, UNPARTITIONED}:
        yield ""
        return
    named = sorted(key for key in keys if key)
    if not MONTH.fullmatch(named[0]):  # folds
        yield from (f" --partition {key}" for key in named)
        return
    for span in unbroken(named):
        yield f" --partition {span[0]}" if len(span) == 1 else f" --partition-range {span[0]}...{span[-1]}"


def _road(settings: Settings) -> list[str]:
    """Names of all assets that may be lost, each after what it reads."""
    others = Lane(("other",))
    return [
        *(name for _, name in judges(settings) if name not in EVENING),
        PANEL,
        FOLDS,
        *(lane.asset(BASELINES) for lane in (MAIN_LANE, others)),
        *(lane.phase(phase) for lane in (MAIN_LANE, others) for phase in PHASES),
        *(lane.asset(EVALUATION) for lane in (MAIN_LANE, others)),
        FOLD_SCORES,
        WALK_FORWARD,
        *EVENING,
    ]
