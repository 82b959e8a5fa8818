"""What is damaged under a data root: one form for what each room finds among its own files."""

from dataclasses import dataclass
from pathlib import Path

from atft_assets.store.retired import retire
from atft_model.interchange.errors import MEND


@dataclass(frozen=True)
class Lost:
    """A materialization that is lacking once the damaged file has gone; `key` is its partition, None: it has none."""

    asset: str
    key: str | None = None


@dataclass(frozen=True)
class Damage:
    """A file or folder that is not as it was written.

    Attributes:
        path: what goes aside; it may be gone already.
        said: the sentence about it.
        lost: what has to be built again.
        command: what builds it again where no asset does.
    """

    path: Path
    said: str
    lost: tuple[Lost, ...] = ()
    command: str = ""

    def mend(self, root: Path) -> str:
        """Move it aside; the line about it."""
        target = retire(root, self.path)
        return f"{self.said}: {f'moved to {target.relative_to(root)}' if target else 'nothing was left of it'}"


def said_of(error: object) -> str:
    """A reader's sentence without the remedy, which is this very command."""
    return str(error).removesuffix(f"; run: {MEND}")
