"""What the evaluations left for a promotion to judge by: the boards, and who won them.

Boards are read as the files that `evaluation` and `walk_forward` wrote; the networks, LightGBM and their blend are what
may become champion. The rules among the baselines, ridge and the oracle are yardsticks and may not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft_assets.baselines.kept import read_set
from atft_assets.trading.champion import BASELINES, LIGHTGBM, Champion, ChampionRefused, Kind, new_id
from atft_assets.trials.recipes import recipe_of_baseline, recipe_of_blend, recipe_of_run
from atft_model.interchange.errors import RunError
from atft_model.interchange.fold import MAIN
from atft_model.interchange.records import entry, read_json, read_pointer
from atft_model.interchange.run import LATEST, read_finished

BLEND = "blend"
EVALUATION = ("evaluation", MAIN, "validation.json")
WALK_FORWARDS = ("development.json", "final.json")
AGAIN = "dagster asset materialize --select evaluation"
TRAIN, FOLD = "train_", "fold_"  # what the assets of a phase begin with, on main and on the other folds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One score of a board: what a decision asks of it.

    Attributes:
        dates: days of the daily series, ISO, ascending [D].
        daily_neutral: neutral RankIC of each day [D]; None where it has none.
        turnover: one-way, a day, of the highest tenth.
        spread: mean one-day return of the highest tenth less the lowest, before costs.
    """

    name: str = entry("Name of the row")
    recipe: str = entry("Recipe of what was judged")
    panel_id: str = entry("Panel on which")
    dates: tuple[str, ...] = entry("Days of the daily series")
    daily_neutral: tuple[float, ...] = entry("Neutral RankIC of each day")
    turnover: float = entry("One-way turnover a day of the highest tenth")
    spread: float = entry("Mean one-day return of the highest tenth less the lowest, before costs")

    def on(self, dates: tuple[str, ...]) -> Floats:
        """The daily series on other days [D], NaN where it has none."""
        known = dict(zip(self.dates, self.daily_neutral, strict=True))
        return np.array([known.get(day, np.nan) for day in dates], np.float64)


@dataclass(frozen=True)
class WalkForward:
    """The newest board of `walk_forward`.

    Attributes:
        rows: by the name of the network's phase (`phase3`), lightgbm or blend.
        folds: first and last day of each test block, ISO.
        which: development or final: of which board, and of the files of scores beside it.
    """

    at: str
    rows: Mapping[str, Judged]
    folds: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    which: str = ""

    def in_folds(self, dates: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
        """Of days [D] those of each fold."""
        return {name: np.array([low <= day <= high for day in dates]) for name, (low, high) in self.folds.items()}


@dataclass(frozen=True)
class Evaluation:
    """The board of `evaluation` on the fold `main`, and what on it may become champion."""

    root: Path
    board: Mapping[str, Any]

    @cached_property
    def figures(self) -> dict[str, float]:
        """Neutral headline RankIC of what may become champion: `phase0` …, lightgbm, blend."""
        found = {}
        for row in self.board["rows"]:
            name = row["name"].removeprefix(TRAIN)
            if row["kind"] == "phase" or name in (LIGHTGBM, BLEND):
                value = row["neutral_rank_ic"] if row["neutral_rank_ic"] is not None else row["rank_ic"]
                if value is not None:
                    found[name] = float(value)
        return found

    def champion(self, name: str, rule: str = "default") -> Champion:
        """One of them as a champion.

        Raises:
            ChampionRefused: the board does not have it.
            RunError: its runs, or the set of baselines, are gone or are not those of the board.
        """
        rows = {row["name"].removeprefix(TRAIN): row for row in self.board["rows"]}
        if name not in self.figures:
            raise ChampionRefused(
                f"the evaluation of {self.board['created_at']} has no {name}, it has {', '.join(self.figures)}; "
                f"train or fit it and run: {AGAIN}"
            )
        kind: Kind = "network"
        phase, baselines = name, ""
        if name == LIGHTGBM:
            kind, phase, baselines = "lightgbm", "", self._baselines()
        elif name == BLEND:
            networks = [row["name"].removeprefix(TRAIN) for row in self.board["rows"] if row["kind"] == "phase"]
            kind, phase, baselines = "blend", networks[-1], self._baselines()
        runs = tuple(rows[phase]["run_id"].split(", ")) if phase else ()
        folders = [self.root / "runs" / MAIN / phase / run_id for run_id in runs]
        records = [read_finished(folder) for folder in folders]
        recipes = [recipe_of_run(folders[-1])] if folders else []
        first = records[0] if records else None
        as_of = first.fold.test[1] if first else None
        catalogue, panel_id = (first.catalogue_hash, first.panel_id) if first else ("", self.board["panel_id"])
        if baselines:
            document = read_set(self.root / "runs" / MAIN / BASELINES / baselines)
            recipes.append(recipe_of_baseline(LIGHTGBM, document))
            if as_of is None:
                as_of = date.fromisoformat(str(document["fold"]["test"][1]))
                catalogue = str(document.get("catalogue_hash"))
        assert as_of is not None, "a champion has runs or a set of baselines"
        recipe = recipes[0] if len(recipes) == 1 else recipe_of_blend(recipes)
        row = rows[name]
        return Champion(
            champion_id=new_id(recipe, (*runs, baselines), rule),
            kind=kind,
            fold=MAIN,
            recipe=recipe,
            panel_id=panel_id,
            catalogue_hash=catalogue,
            as_of=as_of,
            horizons=tuple(self.board["horizons"]),
            phase=phase,
            runs=runs,
            checkpoints=tuple(str(record.checkpoint_sha256) for record in records),
            baselines=baselines,
            portfolio_rule=rule,
            expected={key: row[key] for key in ("rank_ic", "neutral_rank_ic", "icir") if row.get(key) is not None},
        )

    def _baselines(self) -> str:
        """Id of the set of baselines that was judged: the newest, which must be of the board's panel."""
        folder = self.root / "runs" / MAIN / BASELINES
        newest = read_pointer(folder / LATEST, RunError)
        if newest is None or read_set(folder / newest)["panel_id"] != self.board["panel_id"]:
            raise ChampionRefused(
                f"the baselines were fitted anew since the evaluation of {self.board['created_at']}; run: {AGAIN}"
            )
        return newest


def evaluation(root: Path) -> Evaluation:
    """The board of `evaluation`.

    Raises:
        RunError: there is none, or it is damaged.
        ChampionRefused: nothing on it may become champion, or an earlier version judged it.
    """
    path = root.joinpath(*EVALUATION)
    board = read_json(path, f"nothing was judged yet; run: {AGAIN}", RunError)
    if not isinstance(board, dict) or not {"rows", "horizons", "panel_id", "created_at"} <= set(board):
        raise ChampionRefused(f"{path} was written by an earlier version; run: {AGAIN}")
    found = Evaluation(root, board)
    if not found.figures:
        raise ChampionRefused(f"{path} has neither a network nor {LIGHTGBM} with a figure; run: {AGAIN}")
    return found


def walk_forward(root: Path) -> WalkForward | None:
    """The newest board of `walk_forward`; None where there is none with profiles.

    Raises:
        RunError: one of them is damaged.
    """
    folder = root / "evaluation" / "walk_forward"
    there = [path for path in (folder / name for name in WALK_FORWARDS) if path.exists()]
    boards = {path.stem: read_json(path, "it is gone", RunError) for path in there}
    boards = {
        which: one for which, one in boards.items() if isinstance(one, dict) and {"profiles", "folds"} <= set(one)
    }
    if not boards:
        return None
    which, board = max(boards.items(), key=lambda one: str(one[1]["created_at"]))
    rows = {}
    profiles = board["profiles"]
    for one in profiles["scores"]:
        name = one["name"].removeprefix(FOLD)
        if (name.startswith("phase") or name in (LIGHTGBM, BLEND)) and (recipe := _recipe(root, board, name)):
            rows[name] = Judged(
                name=name,
                recipe=recipe,
                panel_id=board["panel_id"],
                dates=tuple(profiles["dates"]),
                daily_neutral=tuple(np.nan if value is None else value for value in one["daily_neutral"]),
                turnover=_number(one["turnover"]),
                spread=_number(one["spread"]),
            )
    return WalkForward(board["created_at"], rows, {fold["fold"]: tuple(fold["test"]) for fold in board["folds"]}, which)


def winner(found: Evaluation, walked: WalkForward | None) -> tuple[str, dict[str, float], str]:
    """What won: its name, the figures of all by name, and of which board they are.

    The walk-forward decides where every one of them was walked with the recipe that stands on `main`: its days chose
    nothing. Else the validation block, by which epochs were chosen.
    """
    if walked:
        recipes = {name: found.champion(name).recipe for name in found.figures}
        same = {name: row for name, row in walked.rows.items() if recipes.get(name) == row.recipe}
        figures = {name: float(np.nanmean(row.daily_neutral)) for name, row in same.items()}
        if figures and set(figures) == set(found.figures):
            return max(figures, key=lambda name: figures[name]), figures, "walk_forward"
    return max(found.figures, key=lambda name: found.figures[name]), found.figures, "evaluation"


def _recipe(root: Path, board: Mapping[str, Any], name: str) -> str | None:
    """The recipe of a row of the walk-forward; None where its folds are of several, or their runs are gone."""
    found = set()
    for fold in board["folds"]:
        runs, phases = root / "runs" / fold["fold"], sorted(fold["runs"])
        try:
            parts = []
            if name != LIGHTGBM:
                asset = f"{FOLD}{name}" if name != BLEND else phases[-1]
                parts.append(recipe_of_run(runs / asset.removeprefix(FOLD) / fold["runs"][asset][-1]))
            if name in (LIGHTGBM, BLEND):
                newest = read_pointer(runs / BASELINES / LATEST, RunError)
                if newest is None:
                    return None
                parts.append(recipe_of_baseline(LIGHTGBM, read_set(runs / BASELINES / newest)))
        except (RunError, LookupError):
            return None
        found.add(parts[0] if len(parts) == 1 else recipe_of_blend(parts))
    return found.pop() if len(found) == 1 else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
