"""The scores that a back-test trades: what models said of days that they had not learned from.

The stitched test blocks of `walk_forward` where they hold the champion's kind of model; else what the champion said of
its validation block, by which its epochs were chosen, so that a figure on it is kinder than the truth. The page says
which of the two it is.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft_assets.baselines.kept import files_of, read_set
from atft_assets.scoring.block import Block
from atft_assets.store import Store
from atft_assets.trading.boards import FOLD, WalkForward, walk_forward
from atft_assets.trading.champion import BASELINES, LIGHTGBM, Champion, ChampionRefused
from atft_assets.trading.daily_scores import combined
from atft_assets.trading.judging import name_of
from atft_assets.trading.market import Market
from atft_assets.trading.scorer import fold_of, parquet_of, validation
from atft_assets.trials.recipes import recipe_of, recipe_of_baseline
from atft_model.interchange.errors import RunError
from atft_model.interchange.hashes import checked_bytes, read_sidecar
from atft_model.interchange.horizons import HORIZONS
from atft_model.interchange.panel import open_panel
from atft_model.interchange.records import read_pointer, to_plain
from atft_model.interchange.run import LATEST

Source = Literal["walk_forward", "validation"]
WALKED: Source = "walk_forward"
VALIDATION: Source = "validation"
AGAIN = "dagster asset materialize --select walk_forward"
MOMENTUM = "momentum_12_1"  # of the baselines: it looks back a year, which the market of a back-test does not hold


@dataclass(frozen=True)
class Recorded:
    """Scores of one model, and of LightGBM and momentum beside it.

    Attributes:
        name: of the model: `phase3`, lightgbm or blend.
        recipe: of what scored.
        scores: date, code, score_<h>d.
        lightgbm: the same of LightGBM, and its recipe; None where it is the model itself, or was not fitted.
        momentum: the same of 12-1 momentum, whose recipe is its name; None where there are none.
        horizons: of the scores.
        said: what the page says of where they come from.
    """

    source: Source
    name: str
    recipe: str
    scores: pl.DataFrame
    lightgbm: tuple[pl.DataFrame, str] | None
    horizons: tuple[int, ...]
    panel_id: str
    said: str
    momentum: pl.DataFrame | None = None

    @property
    def span(self) -> tuple[date, date]:
        """First and last day."""
        days = self.scores["date"]
        return days.min(), days.max()  # type: ignore[return-value]


def recorded(store: Store, champion: Champion | None, source: str = "", name: str = "") -> Recorded:
    """The scores.

    Args:
        champion: in use; None asks for a name and a walk-forward.
        source: walk_forward or validation; empty takes the first where it holds the model.
        name: of the model; empty takes the champion's.

    Raises:
        ChampionRefused: there are no such scores; the text says what to do.
        RunError, FoldError, PanelError: a file is gone or damaged.
    """
    walked = walk_forward(store.local()) if source != VALIDATION else None
    name = name or (name_of(champion) if champion else "")
    if not name:
        raise ChampionRefused(
            "there is no champion whose scores could be traded: give the config name, or run make road"
        )
    if walked is not None and (found := _walked(store, walked, champion, name)):
        return found
    if source == WALKED:
        raise ChampionRefused(f"the walk-forward holds no scores of {name}; run: {AGAIN}")
    if champion is None or name != name_of(champion):
        raise ChampionRefused(
            f"only the champion's scores of the validation block can be traded, and {name} is not it; run: {AGAIN}"
        )
    return _validation(store, champion)


def on_market(frame: pl.DataFrame, horizons: tuple[int, ...], market: Market) -> NDArray[np.float32]:
    """One score a day and name on the axes of a market [D,N], as `daily_scores` makes it; NaN for none.

    Other days and names are left out; the weighted mean is standardised over the names that are left.
    """
    days = pl.DataFrame({"date": market.dates, "d": range(len(market.dates))}, schema={"date": pl.Date, "d": pl.Int64})
    column = pl.col("code").cast(pl.Enum(market.codes), strict=False).to_physical().cast(pl.Int64).alias("n")
    placed = frame.with_columns(column).join(days, on="date").drop_nulls("n")
    heads = np.full((len(horizons), len(market.dates), len(market.codes)), np.nan, np.float32)
    d, n = placed["d"].to_numpy(), placed["n"].to_numpy()
    for h, horizon in enumerate(horizons):
        heads[h, d, n] = placed[f"score_{horizon}d"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return combined(heads, horizons)[1]


def _walked(store: Store, walked: WalkForward, champion: Champion | None, name: str) -> Recorded | None:
    """Stitched scores of a model; None where there are none."""
    folder = store.local("evaluation", "walk_forward", "scores")

    def read(what: str) -> pl.DataFrame | None:
        for file in (f"{walked.which}-{what}.parquet", f"{walked.which}-{FOLD}{what}.parquet"):
            if (path := folder / file).exists():
                return parquet_of(checked_bytes(path, read_sidecar(path, RunError), RunError), path)
        return None

    scores = read(name)
    if scores is None:
        return None
    row = walked.rows.get(name)
    recipe = row.recipe if row else recipe_of([WALKED, name, walked.at])
    folds = ", ".join(walked.folds)
    said = f"the walk-forward of {walked.at}, test blocks of the folds {folds}: days that no model had learned from"
    if champion is not None and recipe != champion.recipe:
        said += "; the champion in use is of another recipe"
    horizons = tuple(h for h in HORIZONS if f"score_{h}d" in scores.columns)
    trees = None
    if name != LIGHTGBM and (frame := read(LIGHTGBM)) is not None:
        beside = walked.rows.get(LIGHTGBM)
        trees = frame, beside.recipe if beside else recipe_of([WALKED, LIGHTGBM, walked.at])
    panel = row.panel_id if row else "-"
    return Recorded(WALKED, name, recipe, scores, trees, horizons, panel, said, read(MOMENTUM))


def _validation(store: Store, champion: Champion) -> Recorded:
    root = store.local()
    panel = open_panel(store.local("panel", champion.panel_id))
    block = Block.of(panel, fold_of(champion, root), "validation")
    scores = block.frame(validation(champion, root, block))
    said = (
        f"the champion's validation block of the fold {champion.fold}: choices were made on these days, so the figures "
        "are kinder than those of days to come"
    )
    trees = None if champion.kind == "lightgbm" else _baseline(store, champion, block, LIGHTGBM)
    momentum = _baseline(store, champion, block, MOMENTUM)
    return Recorded(
        VALIDATION, name_of(champion), champion.recipe, scores, trees, tuple(panel.horizons), panel.panel_id, said,
        momentum[0] if momentum else None,
    )  # fmt: skip


def _baseline(store: Store, champion: Champion, block: Block, name: str) -> tuple[pl.DataFrame, str] | None:
    """A baseline's scores of the same days by the champion's set of baselines or the newest, and its recipe."""
    folder = store.local("runs", champion.fold, BASELINES)
    newest = champion.baselines or read_pointer(folder / LATEST, RunError)
    if newest is None:
        return None
    document = read_set(folder / newest)
    files, file = files_of(document), f"{name}.{block.name}.parquet"
    if file not in files or document["fold"] != to_plain(fold_of(champion, store.local())):
        return None  # not fitted, or on other days
    path = folder / newest / file
    return parquet_of(checked_bytes(path, files[file], RunError), path), recipe_of_baseline(name, document)
