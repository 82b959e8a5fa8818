"""The champion as what scores: which days it must see, what it says of them, and what it said of its validation block.

The network computes in a process of its own, all seeds in one; LightGBM here, from the models that were kept as text.
Several seeds, and network and LightGBM in a blend, are joined as the evaluation joined them: by the mean of the
gaussian ranks of each day.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from atft_assets.baselines.blend import blend
from atft_assets.baselines.fitted import CannotFit
from atft_assets.baselines.kept import files_of, kept_models, read_set
from atft_assets.scoring.block import Block
from atft_assets.scoring.trailing import Floats
from atft_assets.trading.champion import LIGHTGBM, Champion, ChampionRefused
from atft_model.interchange.config import ModelConfig
from atft_model.interchange.errors import FoldError, RunError, damaged
from atft_model.interchange.fold import Fold
from atft_model.interchange.hashes import checked_bytes, read_sidecar
from atft_model.interchange.panel import Panel
from atft_model.interchange.records import from_plain
from atft_model.interchange.request import Scoring
from atft_model.interchange.run import SCORES, read_file, read_finished

Predict = Callable[[Sequence[Scoring]], None]  # scores the days of the block by each run into its file

BASELINES_AGAIN = "dagster asset materialize --select baselines"


def lookback(champion: Champion, root: Path) -> int:
    """Days that a score sees, its own included.

    Raises:
        RunError: a run is gone.
    """
    seen = [1]
    for folder in champion.run_folders(root):
        record = read_finished(folder)
        if record.switches.get("temporal", True):
            seen.append(int(record.config["model"].get("lookback", ModelConfig.lookback)))
    return max(seen)


def fold_of(champion: Champion, root: Path) -> Fold:
    """The days that the champion learned from and was chosen by.

    Raises:
        RunError, FoldError: a run or the set of baselines is gone or damaged.
    """
    if runs := champion.run_folders(root):
        return read_finished(runs[0]).fold
    folder = champion.baselines_folder(root)
    if folder is None:
        raise RunError(f"the champion {champion} names neither runs nor baselines")
    return from_plain(Fold, read_set(folder)["fold"], str(folder), FoldError)


def scored(champion: Champion, root: Path, block: Block, predict: Predict, scratch: Path) -> Floats:
    """Scores of the champion [H,D,N], NaN where a name is not eligible.

    Args:
        block: days of a panel that holds the look-back before them.
        predict: the network's process.
        scratch: a folder for its scores, which nobody reads after.

    Raises:
        RunError: a run, the set of baselines or the scores are gone or damaged.
        ChampionRefused: the set of baselines keeps no models.
    """
    parts = []
    if champion.runs:
        folders = champion.run_folders(root)
        scorings = [Scoring(folder, scratch / f"{i}-{folder.name}.parquet") for i, folder in enumerate(folders)]
        predict(scorings)
        parts.append(_joined([block.dense(_read(one.out)) for one in scorings], block))
    trees = champion.baselines_folder(root)
    if trees is not None:
        parts.append(_trees(trees, block.panel, block.days))
    return _joined(parts, block)


def validation(champion: Champion, root: Path, block: Block) -> Floats:
    """What the champion said of its validation block [H,D,N], as it was stored when it was judged.

    Args:
        block: that block of the panel that it was trained on.

    Raises:
        RunError: a file is gone or damaged.
    """
    parts = []
    if champion.runs:
        frames = [
            parquet_of(read_file(folder, read_finished(folder), SCORES), folder / SCORES)
            for folder in champion.run_folders(root)
        ]
        parts.append(_joined([block.dense(frame) for frame in frames], block))
    trees = champion.baselines_folder(root)
    if trees is not None:
        file = f"{LIGHTGBM}.{block.name}.parquet"
        data = checked_bytes(trees / file, files_of(read_set(trees)).get(file), RunError)
        parts.append(block.dense(parquet_of(data, trees / file)))
    return _joined(parts, block)


def _joined(parts: Sequence[Floats], block: Block) -> Floats:
    """One set of scores as it is, several in equal parts."""
    return parts[0] if len(parts) == 1 else blend(parts, block.eligible)


def _trees(folder: Path, panel: Panel, days: range) -> Floats:
    texts = kept_models(folder, LIGHTGBM)
    if not texts:
        raise ChampionRefused(
            f"the set of baselines {folder} holds the scores of {LIGHTGBM} without its models, which versions before "
            f"0.4 did not keep; run: {BASELINES_AGAIN}"
        )
    from atft_assets.baselines.trees import reloaded  # 1 s to import

    try:
        return reloaded(texts, panel.horizons)(panel, days)
    except CannotFit as why:
        raise ChampionRefused(f"the set of baselines {folder} cannot score: {why}; run: {BASELINES_AGAIN}") from why


def _read(path: Path) -> pl.DataFrame:
    return parquet_of(checked_bytes(path, read_sidecar(path, RunError), RunError), path)


def parquet_of(data: bytes, path: Path) -> pl.DataFrame:
    """A file's bytes as a frame.

    Raises:
        RunError: they are no Parquet file.
    """
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise RunError(damaged(path, f"no Parquet file: {str(error)[:100]}")) from error
