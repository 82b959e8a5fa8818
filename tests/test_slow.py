"""The list of slow tests names what exists; a renamed test would otherwise slip back among the fast ones."""

import ast
from pathlib import Path

import pytest

from tests.slow import MINUTES, SLOW, listed

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("entry", [*SLOW, *MINUTES])
def test_what_is_called_slow_exists(entry: str) -> None:
    path, _, test = entry.partition("::")
    tree = ast.parse((REPOSITORY / path).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not test or test in names


def test_a_slow_test_carries_the_mark(request: pytest.FixtureRequest) -> None:
    """Of what was collected in this run."""
    for item in request.session.items:
        for mark, entries in {"slow": SLOW, "machine": MINUTES}.items():
            named = listed(item.nodeid.partition("[")[0], entries)
            assert not named or item.get_closest_marker(mark), item.nodeid
