"""What is put aside under `retired/` of a data root: nothing that a person may miss is deleted."""

from pathlib import Path

RETIRED = "retired"


def aside(root: Path, path: Path) -> Path:
    """A free place under `retired/` that keeps the path."""
    target = root / RETIRED / path.relative_to(root)
    n = 2
    while target.exists():
        target = target.with_name(f"{path.name}.{n}")
        n += 1
    return target


def retire(root: Path, path: Path) -> Path | None:
    """Move a file or folder aside; where to, or None if there is nothing to move."""
    if not path.exists():
        return None
    target = aside(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return target
