"""The champion: which runs the scores of an evening come from, who decided that, and on what grounds.

Three files under `trading/` of the data root. `champion` names the one in use, replaced in one step.
`promotions.jsonl` is only added to: every candidate that was judged, every promotion and every rollback, each with the
champion as a whole, so that a name is enough to go back to it. What `champion` names and the lines describe is only a
reference: the runs lie where they were trained, and a champion whose runs are gone, or learned from other features than
those at hand, is refused with a sentence, never replaced by what happens to be there.
"""

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from atft_assets.failures import Refusal
from atft_assets.store.lines import extend_lines, read_lines
from atft_assets.trials.recipes import recipe_of
from atft_model.interchange.errors import RunError, damaged
from atft_model.interchange.records import entry, from_plain, read_json, read_pointer, to_plain, write_text
from atft_model.interchange.run import CHECKPOINT, RUN_JSON, read_file, read_finished

FOLDER = "trading"
POINTER, PROMOTIONS = "champion", "promotions.jsonl"
BASELINES, LIGHTGBM = "baselines", "lightgbm"  # of `runs/<fold>/baselines/<id>/run.json`
PROMOTE = "dagster asset materialize --select promotion"

Kind = Literal["network", "lightgbm", "blend"]
Role = Literal["candidate", "champion", "retired"]


class ChampionRefused(Refusal):
    """There is no champion, or it cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Champion:
    """What an evening's scores come from."""

    champion_id: str = entry("Its name: when it was put together, and its recipe")
    kind: Kind = entry("network, lightgbm, or blend: both in equal parts of gaussian ranks")
    fold: str = entry("Fold on which it was trained")
    recipe: str = entry("Hash of what was chosen; a refit on newer days has the same")
    panel_id: str = entry("Panel that it learned from")
    catalogue_hash: str = entry("Hash of the feature set that it learned from, the code included")
    as_of: date = entry("Last day of the data when it was trained")
    horizons: tuple[int, ...] = entry("Label horizons in trading days, a head each", (1, 5, 10, 20))
    phase: str = entry("Phase of the network's runs, `phase3`; empty without a network", "")
    runs: tuple[str, ...] = entry("Ids of the network's runs, a seed each", ())
    checkpoints: tuple[str, ...] = entry("Hashes of their checkpoints, in the same order", ())
    baselines: str = entry("Id of the set of baselines that holds LightGBM; empty without it", "")
    portfolio_rule: str = entry("Name of the portfolio rule that its scores are traded by", "default")
    expected: Mapping[str, float] = entry("Figures of the evaluation that chose it, by name", factory=dict)

    def run_folders(self, root: Path) -> tuple[Path, ...]:
        """Directories of the network's runs."""
        return tuple(root / "runs" / self.fold / self.phase / run_id for run_id in self.runs)

    def baselines_folder(self, root: Path) -> Path | None:
        """Directory of the set of baselines; None if it takes no part."""
        return root / "runs" / self.fold / BASELINES / self.baselines if self.baselines else None

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of everything that it consists of."""
        return (*self.runs, *([self.baselines] if self.baselines else []))

    def __str__(self) -> str:
        of = {"network": f"{self.phase} {', '.join(self.runs)}", "lightgbm": f"{LIGHTGBM} {self.baselines}"}
        parts = of.get(self.kind, f"the blend of {of['network']} with {of['lightgbm']}")
        return f"{self.champion_id}: {parts}, data to {self.as_of}"


@dataclass(frozen=True)
class Promotion:
    """A line of `promotions.jsonl`."""

    at: str = entry("When, UTC")
    role: Role = entry("candidate: judged, not taken; champion: in use from then on; retired: no longer in use")
    champion: Champion = entry("Whom the line is about")
    previous: str | None = entry("The champion that was in use before", None)
    rollback: bool = entry("Whether a person went back to it", False)
    rule: str = entry("first, refit, recipe or portfolio: by which rule it was judged", "")
    decision: Mapping[str, Any] = entry("Statistic, interval, p, margin, power and what each part said", factory=dict)
    gates: tuple[Mapping[str, Any], ...] = entry("What the gates said", ())
    who: str = entry("Who asked for it", "")
    note: str = entry("Why, in their words", "")


def promotions(folder: Path) -> list[Promotion]:
    """Every line, the oldest first.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / PROMOTIONS
    found = []
    for place, line in enumerate(read_lines(path)):
        try:
            found.append(from_plain(Promotion, line, f"line {place + 1}", RunError))
        except RunError as error:
            raise RunError(damaged(path, error)) from error
    return found


def current(folder: Path) -> Champion | None:
    """The champion in use; None before the first.

    Raises:
        RunError: pointer or lines are damaged, or the pointer names none of the lines.
    """
    name = read_pointer(folder / POINTER, RunError)
    return None if name is None else by_id(folder, name)


def needed(folder: Path) -> Champion:
    """The champion in use.

    Raises:
        ChampionRefused: there is none.
        RunError: as `current`.
    """
    champion = current(folder)
    if champion is None:
        raise ChampionRefused(f"there is no champion yet, so there are no scores to publish; run: {PROMOTE}")
    return champion


def by_id(folder: Path, name: str) -> Champion:
    """A champion that was in use, or is.

    Raises:
        RunError: no line knows it.
    """
    known = [line.champion for line in promotions(folder) if line.champion.champion_id == name]
    if not known:
        raise RunError(
            f"{folder / POINTER} names {name}, of which {PROMOTIONS} knows nothing: write the name of a champion that "
            f"stands there into it, or remove it and choose one anew ({PROMOTE})"
        )
    return known[-1]


def before(folder: Path, champion: Champion) -> Champion | None:
    """The champion that one replaced when it was promoted; None if it was the first. A rollback is no promotion."""
    for line in reversed(promotions(folder)):
        if line.role == "champion" and not line.rollback and line.champion.champion_id == champion.champion_id:
            return by_id(folder, line.previous) if line.previous else None
    return None


def record(folder: Path, line: Promotion) -> None:
    """Add a line."""
    extend_lines(folder / PROMOTIONS, lambda _: [to_plain(line)])


def install(folder: Path, line: Promotion) -> Promotion:
    """Let the line's champion be the one in use: recorded first, and the one that it replaces as retired.

    Args:
        line: of the role champion; `previous` is filled in.

    Raises:
        RunError: pointer or lines are damaged.
    """
    old = current(folder)
    line = replace(line, role="champion", previous=old.champion_id if old else None)
    lines = [line]
    if old and old.champion_id != line.champion.champion_id:
        lines.append(Promotion(line.at, "retired", old, rollback=line.rollback, who=line.who, note=line.note))
    extend_lines(folder / PROMOTIONS, lambda _: [to_plain(one) for one in lines])
    write_text(folder / POINTER, line.champion.champion_id + "\n")
    return line


def check_whole(champion: Champion, root: Path, catalogue_hash: str | None = None) -> None:
    """Refuse a champion that cannot score.

    Args:
        root: the data root.
        catalogue_hash: of the features at hand; None where there are none yet.

    Raises:
        ChampionRefused: a run or a set of baselines is gone, not the one that was promoted, or learned from another
            catalogue.
    """
    parts = list(zip(champion.run_folders(root), champion.checkpoints, strict=True))
    try:
        hashes = {folder: _catalogue_of_run(folder, sha256) for folder, sha256 in parts}
        if folder := champion.baselines_folder(root):
            hashes[folder] = _catalogue_of_baselines(folder)
    except RunError as error:
        raise ChampionRefused(f"the champion {champion} cannot be used: {error}. {_ways_out()}") from error
    if not hashes:
        raise ChampionRefused(f"the champion {champion} names no run at all. {_ways_out()}")
    wanted = catalogue_hash or champion.catalogue_hash
    for folder, found in hashes.items():
        if found != wanted:
            raise ChampionRefused(
                f"the champion {champion} cannot be used: {folder} learned from the catalogue {found}, the features "
                f"are of {wanted}. {_ways_out()}"
            )


def new_id(recipe: str, sources: Sequence[str], rule: str = "default", at: datetime | None = None) -> str:
    """A name for a champion, sortable by time."""
    return f"{at or datetime.now(UTC):%Y%m%dT%H%M%S}-{recipe_of([recipe, *sources, rule])[:8]}"


def now() -> str:
    """The time of a line, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def whoever() -> str:
    """The user of this process; empty where the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def kept_ids(lines: Sequence[Promotion]) -> set[str]:
    """Ids of runs and sets of baselines that were ever in use: what a rollback may lead back to."""
    return {name for line in lines if line.role != "candidate" for name in line.champion.sources}


def _catalogue_of_run(folder: Path, sha256: str) -> str:
    found = read_finished(folder)
    if found.checkpoint_sha256 != sha256:
        raise RunError(f"{folder} is another run than the one that was promoted: its checkpoint has another hash")
    read_file(folder, found, CHECKPOINT)
    return found.catalogue_hash


def _catalogue_of_baselines(folder: Path) -> str:
    found = read_json(folder / RUN_JSON, "the set of baselines is gone", RunError)
    if not isinstance(found, Mapping) or LIGHTGBM not in found.get("baselines", {}):
        raise RunError(damaged(folder / RUN_JSON, f"it describes no set of baselines with {LIGHTGBM}"))
    return str(found.get("catalogue_hash"))


def _ways_out() -> str:
    return f"Go back (python -m atft_assets.trading.rollback), or choose another champion ({PROMOTE})"
