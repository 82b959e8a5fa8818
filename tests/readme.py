"""The README's table and pictures, rendered from docs/demo.json: `python -m tests.readme`.

docs/demo.json holds what one `make demo` stored. `--record data/evaluation/main/validation.json` takes the figures of
another one first. `--compare` with the same file tells which RankICs of a demo lie further from the record than another
processor explains, with exit code 1 if one does.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atft_assets.reports.closing_table import judged, render
from tests.pictures import asset_graph, rank_ic_bars

REPOSITORY = Path(__file__).parents[1]
RECORD = REPOSITORY / "docs" / "demo.json"
PICTURES = REPOSITORY / "docs" / "images"
READMES = (REPOSITORY / "README.md", REPOSITORY / "README.ja.md")
BEGIN, END = "<!-- demo: begin -->\n", "<!-- demo: end -->"
BOARD = ("block", "first", "last", "days", "panel_id", "rows")
JUDGED = ("comparisons",)  # of the board, where today's rule judged it
ROW = ("name", "label", "kind", "rank_ic", "t", "icir", "neutral_rank_ic", "seconds", "previous")
VERDICT = ("critical", "p", "low", "high")  # of a row, where today's rule judged it
NOT_SHOWN = ("neutral",)  # of a comparison: the table has the headline's
WRAPPED = 118  # columns of what stands below the table
TOLERANCE = 0.02  # of RankIC: more than another kind of processor changes, less than a phase gains
ID_DIGITS = 8  # a whole id looks like a key to the scan for secrets
MISSING = "there is no such file: run make demo, or name the file that it stored"


def condensed(board: Mapping[str, Any]) -> dict[str, Any]:
    """What the table shows of a stored comparison, to six digits."""
    kept = {name: board[name] for name in BOARD} | {"panel_id": f"{board['panel_id'][:ID_DIGITS]}…"}
    kept |= {name: board[name] for name in JUDGED if judged(board)}
    return kept | {"rows": [_row(row, ROW + VERDICT if judged(board) else ROW) for row in board["rows"]]}


def _row(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    shown = {name: row.get(name) for name in names}
    others = sorted({row["previous"], "ridge", "lightgbm"} & set(row["against"]))
    against = {name: {k: v for k, v in row["against"][name].items() if k not in NOT_SHOWN} for name in others}
    return _short({**shown, "against": against})


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def recorded() -> dict[str, Any]:
    """The record."""
    document: dict[str, Any] = json.loads(RECORD.read_text())
    return document


def block(board: Mapping[str, Any]) -> str:
    """What stands between the marks of a README."""
    *table, note, _, sentence = render(board).splitlines()
    words = [*textwrap.wrap(note, WRAPPED), "", *textwrap.wrap(sentence, WRAPPED)]
    return "\n".join(["```text", *table, *words, "```\n"])


def between(text: str) -> str:
    """What stands between the marks of a text."""
    _, begin, rest = text.partition(BEGIN)
    inside, end, _ = rest.partition(END)
    assert begin and end, "the README has lost its marks"
    return inside


def pictures(board: Mapping[str, Any]) -> dict[str, str]:
    """Every picture of docs/images, by the name of its file."""
    return {"assets.svg": asset_graph(), "rank_ic.svg": rank_ic_bars(board)}


def write(board: Mapping[str, Any]) -> None:
    """Bring pictures and tables up to date."""
    for name, picture in pictures(board).items():
        (PICTURES / name).write_text(picture)
    for path in READMES:
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(before + BEGIN + block(board) + END + rest.partition(END)[2])


def differences(board: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Rows of a demo that lie further from the record than TOLERANCE, or are missing."""
    found = {row["name"]: row["rank_ic"] for row in board["rows"]}
    told = []
    for row in record["rows"]:
        value = found.get(row["name"])
        if value is None:
            told.append(f"{row['name']}: missing, {row['rank_ic']:.4f} in the record")
        elif abs(value - row["rank_ic"]) > TOLERANCE:
            told.append(f"{row['name']}: {value:.4f}, {row['rank_ic']:.4f} in the record")
    return told


def main(arguments: list[str] | None = None) -> int:
    """Render, take a record, or compare with it; 1 if the comparison failed, 2 if there is nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m tests.readme", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--record", type=Path, metavar="FILE", help="validation.json of the demo to take as the record")
    what.add_argument(
        "--compare", type=Path, metavar="FILE", help="validation.json of a demo to hold against the record"
    )
    given = parser.parse_args(arguments)
    source: Path | None = given.compare or given.record
    if source is not None and not source.is_file():
        parser.error(f"{source}: {MISSING}")
    if given.compare:
        told = differences(json.loads(given.compare.read_text()), recorded())
        print("\n".join(told) or f"every RankIC is within {TOLERANCE} of docs/demo.json")
        return int(bool(told))
    if given.record:
        board = condensed(json.loads(given.record.read_text()))
        RECORD.write_text(json.dumps(board, indent=1, ensure_ascii=False) + "\n")
    write(recorded())
    return 0


if __name__ == "__main__":
    sys.exit(main())
