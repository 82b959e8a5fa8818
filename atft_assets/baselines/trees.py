"""LightGBM on every row of the train block: one regression a horizon, or its ranking objective.

Learning rate, leaves and number of trees are chosen on the tail of the train block by RankIC; then the whole block is
fitted with them. Rows go from the panel into LightGBM's bins a day at a time, so that what stays in memory is a byte a
value (and as much again in the row-wise layout), never the block in float32: 0.9 GB twice instead of 3.6 GB for 2,450
days of 2,500 names and 149 features.

Imported by whoever fits, not before: LightGBM takes a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as engine
import numpy as np
from numpy.typing import NDArray

from atft_assets.baselines.config import TREES, BaselineConfig
from atft_assets.baselines.fitted import CannotFit, Fitted, Predict
from atft_assets.baselines.samples import (
    Judge,
    JudgedDay,
    Rows,
    eligible,
    features_of,
    inner_split,
    rows_held,
    targets_of,
)
from atft_assets.scoring.ranking import average_ranks
from atft_assets.scoring.trailing import Floats
from atft_model.interchange.fold import Fold
from atft_model.interchange.panel import Panel, from_bfloat16

# What is chosen from. The first is what a short search tries.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.1, "num_leaves": 31},
    {"learning_rate": 0.05, "num_leaves": 31},
    {"learning_rate": 0.05, "num_leaves": 63},
)
FIXED: dict[str, Any] = {
    "min_data_in_leaf": 100,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 5,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "metric": "None",
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
    "verbosity": -1,
}
GRADES = 10  # of a day's returns, for the ranking objective: tenths
RANKING: dict[str, Any] = {"label_gain": list(range(GRADES)), "lambdarank_truncation_level": 100}

EVERY = 10  # trees between two looks at the tail
PATIENCE = 100  # trees without a better RankIC, after which the search stops
ONE_THREAD_ROWS = 200_000


class DayRows(engine.Sequence):
    """The rows of a day [n,F], read when LightGBM asks for them."""

    batch_size = 1 << 16  # a day at once

    def __init__(self, panel: Panel, t: int, rows: NDArray[np.bool_]):
        self._bits, self._names = panel.tensors["x"][t], np.flatnonzero(rows)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, places: int | slice | list[int]) -> NDArray[np.floating]:
        values = from_bfloat16(self._bits[self._names[places]])
        return values.astype(np.float64) if values.ndim == 1 else values  # bins are made of single rows, in float64


@dataclass(frozen=True)
class Growth:
    """What was chosen for a horizon: a setting, its number of trees, and their RankIC on the tail (NaN: not chosen)."""

    setting: dict[str, Any]
    trees: int
    rank_ic: float


@dataclass(frozen=True)
class Table:
    """Rows of some days in LightGBM's bins, and their targets [R,H], NaN where unknown."""

    data: engine.Dataset
    targets: NDArray[np.float32]

    @classmethod
    def of(
        cls, panel: Panel, days: Sequence[int], rows: Rows, parameters: dict[str, Any], binned: "Table | None" = None
    ) -> "Table":
        """Read some days.

        Args:
            binned: a table whose bins are used.
        """
        chosen = [rows(panel, t) & panel.valid[t] for t in days]
        sequences = [DayRows(panel, t, names) for t, names in zip(days, chosen, strict=True) if names.any()]
        targets = np.concatenate([targets_of(panel, t, names) for t, names in zip(days, chosen, strict=True)])
        data = engine.Dataset(
            sequences,
            np.zeros(len(targets)),  # those of a horizon are set by `learning`
            params=dict(parameters),
            reference=binned.data if binned else None,
        )
        data.set_group([len(sequence) for sequence in sequences] if parameters["objective"] == "lambdarank" else None)
        return cls(data.construct(), targets)

    def learning(self, h: int) -> engine.Dataset:
        """The data with the targets of a horizon; a row whose target is unknown weighs nothing."""
        known = np.isfinite(self.targets[:, h])
        if self.data.get_group() is None:
            labels = np.where(known, self.targets[:, h], 0)
            self.data.set_weight(None if known.all() else known.astype(np.float32))
        else:
            labels = self._grades(h)
        self.data.set_label(labels)
        return self.data

    def _grades(self, h: int) -> NDArray[np.float32]:
        """Tenths of each day [R], 0 the lowest."""
        grades = []
        bounds = np.cumsum(np.asarray(self.data.get_group()))[:-1]
        for day in np.split(self.targets[:, h], bounds):
            ranks, (count,) = average_ranks(day[:, None])
            grades.append(np.minimum((ranks[:, 0] - 0.5) * GRADES // count, GRADES - 1))
        return np.concatenate(grades).astype(np.float32)


def lightgbm(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """Regression on the gaussian ranks."""
    parameters = _parameters(panel, fold, config, {"objective": "regression"})
    models, facts = fit_trees(panel, fold, config, parameters, range(len(panel.horizons)), eligible)
    return _fitted(models, panel, parameters["num_threads"], facts)


def lambdarank(panel: Panel, fold: Fold, config: BaselineConfig) -> Fitted:
    """LambdaRank (Burges 2010) on tenths of each day: a pair counts by what its exchange does to the NDCG."""
    parameters = _parameters(panel, fold, config, {"objective": "lambdarank", **RANKING})
    models: list[engine.Booster] = []
    facts: dict[str, Any] = {}
    for h in range(len(panel.horizons)):
        # a row without a target would still be one of a pair, so the rows are the horizon's own
        def labelled(panel: Panel, t: int, h: int = h) -> NDArray[np.bool_]:
            return panel.valid[t] & np.isfinite(panel.target[h, t])

        found, chosen = fit_trees(panel, fold, config, parameters, [h], labelled)
        models, facts = models + found, facts | chosen
    return _fitted(models, panel, parameters["num_threads"], facts)


def fit_trees(
    panel: Panel, fold: Fold, config: BaselineConfig, parameters: dict[str, Any], heads: Sequence[int], rows: Rows
) -> tuple[list[engine.Booster], dict[str, Any]]:
    """Choose on the tail, then fit the whole block.

    Args:
        heads: horizons, by their places, that are fitted on these rows.

    Returns:
        A model a horizon; and what was chosen, of how many rows and days.
    """
    every = fold.places(panel.dates, "train")
    days = thinned(panel, every, config.rows)
    most = config.trees or TREES
    split = inner_split(panel, fold)
    facts: dict[str, Any] = {}
    if config.settings == 0:
        growths = [Growth(SETTINGS[0], most, float("nan")) for _ in heads]
        facts["chosen"] = "nothing: no search was asked for"
    elif split is None:
        growths = [Growth(SETTINGS[0], min(most, PATIENCE), float("nan")) for _ in heads]
        facts["chosen"] = f"nothing: {len(every)} training days are too few for an inner split"
    else:
        inner = Table.of(panel, [t for t in days if t in split.fit], rows, parameters)
        judge = Judge(panel, [t for t in days if t in split.tail], rows)
        tail = Table.of(panel, [day.t for day in judge.days], rows, parameters, inner)
        settings = SETTINGS[: config.settings]
        growths = [choose(inner, tail, judge, h, settings, parameters, most) for h in heads]
        del inner, tail  # before the whole block is read
    table = Table.of(panel, days, rows, parameters)
    models = []
    for h, growth in zip(heads, growths, strict=True):
        models.append(engine.train({**parameters, **growth.setting}, table.learning(h), num_boost_round=growth.trees))
        horizon = panel.horizons[h]
        facts |= {f"trees_{horizon}d": growth.trees, f"inner_rank_ic_{horizon}d": growth.rank_ic}
        facts |= {f"{name}_{horizon}d": value for name, value in growth.setting.items()}
    facts |= {"rows": len(table.targets), "days": len(days), "days_left_out": len(every) - len(days)}
    return models, {**facts, "trees_at_most": most, "parameters": parameters}


def thinned(panel: Panel, days: range, rows: int) -> range:
    """Days, evenly thinned if they hold more rows than may be read."""
    return days[:: -(-rows_held(panel, days) // rows) or 1]


def choose(
    inner: Table,
    tail: Table,
    judge: Judge,
    h: int,
    settings: Sequence[dict[str, Any]],
    parameters: dict[str, Any],
    most: int,
) -> Growth:
    """The setting and the number of trees with the highest RankIC on the tail; the first one if they are equal."""
    starts = np.cumsum([0, *(day.rows.sum() for day in judge.days)])
    places = {day.t: slice(a, b) for day, a, b in zip(judge.days, starts, starts[1:], strict=False)}

    def rank_ic(scores: Floats, data: engine.Dataset) -> tuple[str, float, bool]:
        def of_day(day: JudgedDay) -> Floats:
            return scores[places[day.t], None]

        return "rank_ic", float(judge.rank_ic(of_day, [h])[0]), True

    best = Growth(settings[0], EVERY, float("-inf"))
    for setting in settings:
        booster = engine.Booster({**parameters, **setting}, train_set=inner.learning(h))
        booster.add_valid(tail.learning(h), "tail")
        here = Growth(setting, 0, float("-inf"))
        for tree in range(1, most + 1):
            if booster.update():  # no leaf can be split any more
                break
            if tree % EVERY == 0 or tree == most:
                (judged,) = booster.eval_valid(rank_ic)
                figure = judged[2]
                if figure > here.rank_ic:
                    here = Growth(setting, tree, figure)
                elif tree - here.trees >= PATIENCE:
                    break
        if here.rank_ic > best.rank_ic:
            best = here
    return best


def _parameters(panel: Panel, fold: Fold, config: BaselineConfig, objective: dict[str, Any]) -> dict[str, Any]:
    small = rows_held(panel, fold.places(panel.dates, "train")) < ONE_THREAD_ROWS
    return {**FIXED, **objective, "seed": config.seed, "num_threads": config.threads or int(small)}


def _fitted(models: Sequence[engine.Booster], panel: Panel, threads: int, facts: dict[str, Any]) -> Fitted:
    texts = {f"{h}d": model.model_to_string() for h, model in zip(panel.horizons, models, strict=True)}
    return Fitted(_predict(models, threads), facts, texts)


def reloaded(texts: Mapping[str, str], horizons: Sequence[int], threads: int = 0) -> Predict:
    """The scores of models that were kept as text, equal to the bit to those of the models that were fitted.

    Args:
        texts: as `Fitted.models` has them, a horizon each.
        horizons: H of the panel that is to be scored.
        threads: of LightGBM; 0: all.

    Raises:
        CannotFit: there is no model of a horizon, or its text is damaged.
    """
    models = []
    for h in horizons:
        if f"{h}d" not in texts:
            raise CannotFit(f"no model of LightGBM was kept for the horizon of {h} days; kept are {', '.join(texts)}")
        try:
            models.append(engine.Booster(model_str=texts[f"{h}d"]))
        except engine.basic.LightGBMError as error:
            raise CannotFit(f"the model of LightGBM for the horizon of {h} days cannot be read: {error}") from error
    return _predict(models, threads)


def _predict(models: Sequence[engine.Booster], threads: int) -> Predict:
    def predict(panel: Panel, days: range) -> Floats:
        scores = np.full((len(models), len(days), len(panel.codes)), np.nan, np.float32)
        for d, t in enumerate(days):
            rows = panel.valid[t]
            if rows.any():
                x = features_of(panel, t, rows)
                for h, model in enumerate(models):
                    scores[h, d, rows] = model.predict(x, num_threads=threads)
        return scores

    return predict
