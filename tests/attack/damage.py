"""Ways in which a file is damaged, and the files of a data root that are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from atft_model.interchange.errors import MEND

Damage = Callable[[Path], None]


def flipped(path: Path) -> None:
    """A run of bytes in the middle inverted; the length stays."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, min(len(data), len(data) // 2 + 64)):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    """The second half is gone."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def gone(path: Path) -> None:
    path.unlink()


def holding(content: bytes) -> Damage:
    """Such bytes in its place."""
    return lambda path: path.write_bytes(content) and None


def reversed_scores(path: Path) -> None:
    """A whole Parquet file, but other scores."""
    frame = pl.read_parquet(path)
    frame.with_columns(pl.col("score_5d").reverse()).write_parquet(path)


empty, binary, nul = holding(b""), holding(b"\xff\xfe\xfa"), holding(b"a\x00b")
nonsense, traversal = holding(b"nonsense\n"), holding(b"../../../etc\n")
brace, list_ = holding(b"{"), holding(b"[]")

NAMES: dict[Damage, str] = {
    flipped: "flipped", cut: "cut", gone: "gone", reversed_scores: "other scores", empty: "empty", binary: "binary",
    nul: "NUL", nonsense: "nonsense", traversal: "../../../etc", brace: "{", list_: "[]",
}  # fmt: skip


BY_ITSELF = ""


@dataclass(frozen=True)
class Row:
    """One damage.

    Attributes:
        place: pattern of the file under the data root; exactly one matches.
        reader: what reads it, a name of the test's readers.
        rebuild: what is run after the command that mends, so that the reader works again; "" for nothing.
        says: the command that the reader's sentence must name; `BY_ITSELF`: it refuses nothing and makes the file anew.
    """

    place: str
    damage: Damage
    reader: str
    rebuild: str = ""
    says: str = MEND

    @property
    def name(self) -> str:
        return f"{self.place}: {NAMES[self.damage]}"


def rows(place: str, *damages: Damage, reader: str, rebuild: str = "", says: str = MEND) -> list[Row]:
    """The same file damaged in several ways."""
    return [Row(place, damage, reader, rebuild, says) for damage in damages]


TABLES = [
    *rows("raw/daily_quotes/2022-02.parquet", flipped, cut, empty, gone, reader="universe", rebuild="daily_quotes"),
    *rows("raw/trading_calendar/all.parquet", flipped, reader="trading_calendar", rebuild="trading_calendar"),
    *rows("raw/trading_calendar/all.parquet", gone, reader="trading_calendar", says=BY_ITSELF),
    *rows("features/universe/2022-02.parquet", flipped, gone, reader="labels", rebuild="universe"),
    *rows("raw/daily_quotes/manifest.json", flipped, empty, binary, reader="universe"),
    # without its manifest a table looks as one that was never built
    *rows("raw/daily_quotes/manifest.json", gone, reader="universe", says="dagster asset materialize"),
    *rows("raw/origin.txt", binary, nul, empty, reader="daily_quotes"),
]  # fmt: skip
POINTERS = (empty, nonsense, traversal, binary, nul)
TRAININGS = [
    *rows("panel/*/panel.safetensors", flipped, cut, gone, reader="panel", rebuild="panel"),
    *rows("panel/*/panel.json", flipped, empty, binary, gone, reader="panel", rebuild="panel"),
    *rows("panel/latest", *POINTERS, reader="panel", rebuild="panel"),
    *rows("runs/main/phase0/*/checkpoint.safetensors", flipped, gone, reader="evaluation", rebuild="train_phase0"),
    *rows("runs/main/phase0/*/run.json", brace, binary, list_, flipped, reader="evaluation", rebuild="train_phase0"),
    *rows("runs/main/phase0/*/scores.parquet", flipped, reversed_scores, gone, reader="evaluation",
          rebuild="train_phase0"),
    *rows("runs/main/phase0/latest", *POINTERS, reader="evaluation", rebuild="train_phase0"),
]  # fmt: skip
