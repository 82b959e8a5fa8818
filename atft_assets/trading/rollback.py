"""Back to the champion before: `python -m atft_assets.trading.rollback`.

Says which champion is in use and to which it goes back, whether that one can still score, then does it and sets it
down. Going back twice goes back two promotions; a champion that was left is promoted again, not rolled back to.
"""

import argparse
import sys
from pathlib import Path

from atft_assets.failures import Refusal
from atft_assets.settings import Settings, SettingsError
from atft_assets.store import Store
from atft_assets.trading.champion import (
    FOLDER,
    Champion,
    ChampionRefused,
    Promotion,
    before,
    by_id,
    check_whole,
    install,
    needed,
    now,
    whoever,
)
from atft_model.interchange.disk import DiskError, keep_private
from atft_model.interchange.errors import InterchangeError

COMMAND = "python -m atft_assets.trading.rollback"


def target_of(root: Path, wanted: str | None = None) -> tuple[Champion, Champion]:
    """The champion in use, and the one to go back to.

    Args:
        root: the data root.
        wanted: name of a champion that was in use before; by default the one that the present one replaced.

    Raises:
        ChampionRefused: there is none, or it cannot score.
        RunError: the records are damaged.
    """
    folder = root / FOLDER
    present = needed(folder)
    target = by_id(folder, wanted) if wanted else before(folder, present)
    if target is None:
        raise ChampionRefused(f"{present} is the first champion of this root: there is none before it")
    if target.champion_id == present.champion_id:
        raise ChampionRefused(f"{present} is in use already")
    check_whole(target, root)
    return present, target


def roll_back(root: Path, target: Champion, note: str = "") -> Promotion:
    """Let a champion of before be the one in use again, and set it down."""
    line = Promotion(now(), "champion", target, rollback=True, rule="rollback", who=whoever(), note=note)
    return install(root / FOLDER, line)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 if it was done or shown, 1 if it cannot be."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--to", help="name of the champion to go back to (default: the one before)")
    parser.add_argument("--note", default="", help="why, for the record")
    parser.add_argument("--show", action="store_true", help="only say what would be done")
    given = parser.parse_args(arguments)
    keep_private()
    try:
        store = Store(root=Settings.from_env().data_root)
        root = store.local()
        present, target = target_of(root, given.to)
        print(f"in use:     {present}")
        print(f"goes back:  {target}")
        if given.show:
            print("Nothing was changed; without --show it is done.")
            return 0
        line = roll_back(root, target, given.note)
        store.push(FOLDER)
        print(f"done {line.at}: {target.champion_id} scores from the next evening on; {root / FOLDER} says so.")
    except (Refusal, SettingsError, InterchangeError, DiskError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
