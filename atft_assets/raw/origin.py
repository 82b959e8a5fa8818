"""Where the raw tables of a data root came from: one place, noted beside them, so that two never mix."""

from upath import UPath

from atft_assets.failures import Refusal
from atft_assets.jquants.resource import A_SERVER_HERE, JQuantsResource, demo_origin
from atft_assets.raw.landing import ASKED, LANDED
from atft_assets.store import Table
from atft_assets.store.files import write_atomically
from atft_model.interchange.errors import damaged

NOTE = "origin.txt"
LONGEST_NOTE = 300


class OtherOrigin(Refusal):
    """The published raw tables came from elsewhere than this run's answers would, or nobody can say from where."""


def require_origin(table: Table, jquants: JQuantsResource) -> None:
    """Keep simulated and real data apart: all raw tables of a data root come from one place.

    Roots from before markets had names say "a server on this machine"; those are taken for the demo's, and for no
    other market's.

    Raises:
        OtherOrigin: published tables came from elsewhere.
        TransientError: a server on this machine cannot be asked which market it serves.
    """
    group, origin = table.folder.parent, jquants.origin
    note = group / NOTE
    known = noted(note)
    same = known == origin or (known == A_SERVER_HERE and origin == demo_origin())
    if known is not None and not same and any(group.glob("*/manifest.json")):
        if not known:
            raise OtherOrigin(
                f"{damaged(note, 'it should say where the raw tables beside it came from')}. The next fetch then notes "
                f"its own source: this run's is {origin}. If that is not where the tables came from, set ATFT_DATA to "
                "another folder. Nothing was requested"
            )
        raise OtherOrigin(
            f"the raw tables in {group} came from {known}, but this run would take the lacking days from "
            f"{origin}. One table must not mix two sources: set ATFT_DATA to another folder, or delete this "
            "one. Nothing was requested"
        )
    if known is not None and not same:
        for left in [*group.glob(f"*/{LANDED}"), *group.glob(f"*/{ASKED}")]:  # of a run that never published
            left.unlink(missing_ok=True)
    if known != origin:
        write_atomically(note, origin + "\n")


def noted(note: UPath) -> str | None:
    """What the note says; None without one, an empty text if it is damaged."""
    try:
        text = note.read_bytes().decode().strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() and len(text) <= LONGEST_NOTE else ""
