"""How the rooms know each other: imports, lazy ones included, read from the source without running it."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("atft_assets", "atft_model")
DOOR = "atft_model.interchange"
LONGEST_MODULE = 400

# Floors of `atft_assets`, top to bottom. A room imports from the floors below its own and, as long as no circle comes
# of it, from its own floor. docs/architecture.md says what each room is for.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("tools", "benches"),
    ("definitions",),
    ("build",),
    ("operations",),
    ("hpo",),
    ("trading", "training", "baselines", "raw"),
    ("reports", "panel", "graph", "features", "scoring"),
    ("trials", "jquants", "contracts", "store", "sandbox"),
    (
        "calendar",
        "fold_years",
        "partitions",
        "settings",
        "failures",
        "findings",
        "closing_words",
        "home",
        "host",
        "log_lines",
        "postgres",
        "groups",
        "code_version",
        "dagster_private",
    ),
)

# Arrows between rooms that are meant although they run up or close a circle of rooms (never of files), and why.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("features", "reports"): "the asset `feature_report` belongs to the group of features; `reports` renders it",
}

# Rooms of one floor that must not know each other at all: they meet in tables and runs.
STRANGERS = ({"training", "trading"},)


def name_of(path: Path) -> str:
    """Dotted name of a module's file."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages."""
    return {name_of(path): path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever the statement stands; those under `if TYPE_CHECKING` never run."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:  # `from package import module` names a module, `from module import name` does not
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else str(node.module)


@cache
def arrows() -> dict[str, set[str]]:
    """Modules of ours that each module imports."""
    return {
        name: {other for other in imported(path) if other.partition(".")[0] in PACKAGES and other != name}
        for name, path in modules().items()
    }


def room_of(module: str) -> str:
    """The room of a module of `atft_assets`; the module's own name where it stands in none."""
    return module.split(".")[1] if "." in module else "atft_assets"


def floor_of(room: str) -> int:
    return next(place for place, floor in enumerate(FLOORS) if room in floor)


def room_arrows() -> Iterator[tuple[str, str, str]]:
    """File, its room, and another room that it imports."""
    for module, others in arrows().items():
        if module.startswith("atft_assets."):
            rooms = {room_of(other) for other in others if other.startswith("atft_assets.")} - {room_of(module)}
            yield from ((module, room_of(module), room) for room in sorted(rooms))


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room_of(module) for module in modules() if module.startswith("atft_assets.")}
    known = {room for floor in FLOORS for room in floor}
    assert rooms - known == set()


def test_imports_point_downwards() -> None:
    up = [
        f"{module} imports {other}, which stands above {room}"
        for module, room, other in room_arrows()
        if floor_of(other) < floor_of(room) and (room, other) not in EXCEPTIONS
    ]
    assert up == []


def test_rooms_that_meet_in_tables_do_not_import_each_other() -> None:
    assert [f"{m} imports {o}" for m, room, o in room_arrows() if any({room, o} <= pair for pair in STRANGERS)] == []


def test_every_exception_is_needed_and_has_a_reason() -> None:
    found = {(room, other) for _, room, other in room_arrows()}
    assert set(EXCEPTIONS) - found == set()
    assert all(len(reason) > 20 for reason in EXCEPTIONS.values())


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            place = stack.index(node)
            component = stack[place:]
            del stack[place:]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_no_file_is_part_of_a_circle() -> None:
    assert circles(arrows()) == []


def test_no_room_is_part_of_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for _, room, other in room_arrows():
        if (room, other) not in EXCEPTIONS:
            graph.setdefault(room, set()).add(other)
    assert circles(graph) == []


def test_the_circles_are_found() -> None:
    """The finder itself: two circles, one of them through three files, and a loop-free tail."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"d"}}) == [["a", "b", "c"], ["d", "e"]]


def test_the_wall_has_one_door() -> None:
    """`atft_assets` imports `atft_model.interchange` alone, `atft_model` nothing of `atft_assets`."""
    through = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in others
        if other.partition(".")[0] != module.partition(".")[0] and not other.startswith(DOOR)
    ]
    assert through == []
    assert [m for m, others in arrows().items() if m.startswith("atft_model") and "atft_assets" in str(others)] == []


def test_the_door_imports_the_standard_library_and_numpy() -> None:
    outside = {
        f"{module} imports {other}"
        for module, path in modules().items()
        if module.startswith(DOOR)
        for other in imported(path)
        if not other.startswith(DOOR) and other.partition(".")[0] not in {*sys.stdlib_module_names, "numpy"}
    }
    assert outside == set()


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_is_short_or_says_why_not(module: str) -> None:
    """Above 400 lines a module's docstring has a line that begins with "Long because"."""
    text = modules()[module].read_text()
    if len(text.splitlines()) <= LONGEST_MODULE:
        return
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert any(line.startswith("Long because") for line in docstring.splitlines()), (
        f"{module} has {len(text.splitlines())} lines: divide it, or say in its docstring why it is long"
    )


@pytest.mark.parametrize("module", sorted(name for name, path in modules().items() if path.name == "__init__.py"))
def test_a_room_says_what_belongs_there_and_what_does_not(module: str) -> None:
    docstring = (ast.get_docstring(ast.parse(modules()[module].read_text())) or "").replace("\n", " ").lower()
    assert "belong" in docstring
    assert "not here:" in docstring or "does not belong here:" in docstring
