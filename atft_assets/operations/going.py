"""What retention would remove, a line each, and how it is shown."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

ROWS_SHOWN = 200


@dataclass(frozen=True)
class Going:
    """One thing that may go.

    Attributes:
        kind: what it is, such as `Dagster run`.
        name: run id or path.
        why: why nothing needs it.
        size: bytes on disk; what it holds in a database that it shares with others is not counted.
    """

    kind: str
    name: str
    why: str
    size: int


def by_kind(going: Collection[Going]) -> Mapping[str, tuple[int, int]]:
    """How many things of each kind, and their bytes, in the order in which the kinds come."""
    kinds = dict.fromkeys(one.kind for one in going)
    return {kind: (len(of := [one.size for one in going if one.kind == kind]), sum(of)) for kind in kinds}


def table(going: Collection[Going]) -> Iterator[str]:
    """A line each, a sum for each kind, and the total."""
    if not going:
        yield "nothing may go: what is there is young, or something still needs it"
        return
    for kind, (count, size) in by_kind(going).items():
        yield from (f"{kind:<14}{megabytes(one.size)}  {one.name}  ({one.why})" for one in going if one.kind == kind)
        yield f"{kind:<14}{megabytes(size)}  in {count}"
    yield f"{'total':<14}{megabytes(sum(one.size for one in going))}  in {len(going)}"


def megabytes(size: int) -> str:
    """Bytes in a column of megabytes."""
    return f"{size / 1e6:>11.2f} MB"


def markdown(going: Collection[Going]) -> str:
    """The same as a table for Dagster's UI; the first 200 lines of it."""
    lines = ["| kind | what | why | MB |", "|---|---|---|---:|"]
    lines += [f"| {one.kind} | `{one.name}` | {one.why} | {one.size / 1e6:.2f} |" for one in [*going][:ROWS_SHOWN]]
    if len(going) > ROWS_SHOWN:
        lines.append(f"| … | and {len(going) - ROWS_SHOWN} more | | |")
    lines += [f"| **{kind}** | {count} | | **{size / 1e6:.2f}** |" for kind, (count, size) in by_kind(going).items()]
    return "\n".join(lines)
