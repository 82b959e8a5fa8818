"""Panels that are damaged, and the pointer to the newest."""

from collections.abc import Iterator
from pathlib import Path

from atft_assets.panel.asset import NAME
from atft_assets.store.damage import Damage, Lost, said_of
from atft_model.interchange.errors import OldPanel, PanelError, damaged
from atft_model.interchange.panel import DESCRIPTION, LATEST, checked_panel
from atft_model.interchange.records import read_pointer, write_text

LOST = (Lost(NAME),)


def panel_damages(root: Path) -> Iterator[Damage]:
    """Damaged panels of a data root, and the pointer if it names none that is whole.

    Panels of an older version are not damaged: they are refused, and built again.
    """
    folder = root / "panel"
    kept = []
    for panel in sorted(path for path in folder.glob("[!.]*") if path.is_dir()):
        try:
            checked_panel(panel)
            kept.append(panel.name)
        except OldPanel:
            kept.append(panel.name)
        except PanelError as error:
            yield Damage(panel, said_of(error), LOST if panel.name == pointed(folder / LATEST) else ())
    if why := pointer_damage(folder / LATEST, kept):
        yield Damage(folder / LATEST, why, LOST)


def pointer_damage(pointer: Path, whole: list[str]) -> str:
    """What is wrong with a pointer; nothing if it names one of the whole directories beside it, or is not there."""
    try:
        name = read_pointer(pointer, PanelError)
    except PanelError as error:
        return said_of(error)
    if name is None or name in whole:
        return ""
    return said_of(damaged(pointer, f"it names {name}, which is not whole or not there"))


def point_again(pointer: Path, newest: Path) -> str:
    """Let a pointer that was put aside name a directory beside it; the line about it."""
    write_text(pointer, newest.name + "\n")
    return f"{pointer}: names {newest.name} now, the newest that is whole"


def point_at_newest_panel(root: Path) -> Iterator[str]:
    """Set the pointer again."""
    folder = root / "panel"
    panels = [path.parent for path in folder.glob(f"[!.]*/{DESCRIPTION}")]
    if panels:
        yield point_again(folder / LATEST, max(panels, key=lambda panel: (panel / DESCRIPTION).stat().st_mtime))


def pointed(pointer: Path) -> str | None:
    """What a pointer names; None also where it is damaged."""
    try:
        return read_pointer(pointer, PanelError)
    except PanelError:
        return None
