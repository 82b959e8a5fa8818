"""Data roots of before the tables got the names they have: recognised, and refused in one sentence."""

from atft_assets.failures import Refusal
from atft_assets.features.names import ALL, GROUP, STOCK
from atft_assets.store import Store

RENAMED = {"phase1_features": STOCK, "phase2_features": ALL}  # old name -> name


class OldRoot(Refusal):
    """The data root was written by a version that called tables otherwise."""


def refuse_old_root(store: Store) -> None:
    """Refuse a root that holds feature tables under their old names.

    Raises:
        OldRoot: it does; the text has the command.
    """
    found = [name for name in RENAMED if (store.table(GROUP, name).folder / "manifest.json").exists()]
    if found:
        raise OldRoot(
            f"{store.root} holds {', '.join(f'{GROUP}/{name}' for name in found)}, as an older version called "
            f"{', '.join(RENAMED[name] for name in found)}: run python -m atft_assets.tools.migrate, which renames "
            "what can be kept and puts the rest aside"
        )
