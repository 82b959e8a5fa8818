"""Code versions that nobody has to remember: a hash of the code that computes a table.

The version of a table is a hash over the syntax trees of the modules that compute it: those that are named, and those
of the same rooms that they import. Comments, docstrings and layout are not part of a syntax tree, so only a change of
what is computed, or declared beside it, is another version. Dagster shows the months of an older version as stale, and
the sensor `corrections` rebuilds them.

Modules are read and parsed, never imported; a module is parsed once a process.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGES = Path(__file__).parent.parent  # where the top-level packages lie
ROOMS = ("atft_assets.features", "atft_assets.calendar", "atft_assets.partitions")

_NO_CODE = frozenset({"ctx", "kind", "type_comment"})  # fields of a tree that follow from the rest of it

Named = str | ModuleType | Callable[..., object]


def code_version(
    *computing: Named, rooms: Iterable[str] = ROOMS, without: Iterable[str] = (), also: Iterable[str] = ()
) -> str:
    """The version of what some modules compute.

    Args:
        computing: modules, their names, or functions, which stand for the modules that define them.
        rooms: packages or modules whose members count where a computing module imports them, directly or not.
        without: modules that do not count although they lie in a room: wiring and types.
        also: whatever else makes another version, such as the names of columns, in order.

    Returns:
        Sixteen hex digits.

    Raises:
        FileNotFoundError: there is no source of a named module.
    """
    modules = modules_of(computing, rooms=rooms, without=without)
    lines = [f"{name} {tree_hash(source(name))}" for name in modules]
    return _digest("\n".join([*lines, *also]))[:16]


def modules_of(computing: Iterable[Named], *, rooms: Iterable[str] = ROOMS, without: Iterable[str] = ()) -> list[str]:
    """The names of the modules that count, sorted."""
    rooms, without = tuple(rooms), frozenset(without)
    found: set[str] = set()
    waiting = [_name(one) for one in computing]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        imported = _imports(source(name))
        waiting += [other for other in imported if _belongs(other, rooms) and other not in without]
    return sorted(found)


def source(module: str) -> str:
    """The text of a module; the one place at which code is read.

    Raises:
        FileNotFoundError: there is none, neither in the repository nor of a module that was loaded from elsewhere.
    """
    path = _path(module)
    if path is None:  # a table of somebody's own module
        loaded = getattr(sys.modules.get(module), "__file__", None)
        if loaded is None:
            raise FileNotFoundError(f"there is no source of the module {module} under {PACKAGES}")
        path = Path(loaded)
    return path.read_text(encoding="utf-8")


def tree_hash(text: str) -> str:
    """Hash of the syntax tree of a source text, docstrings left out."""
    return _read(text)[0]


@cache
def _imports(text: str) -> tuple[str, ...]:
    """Modules of the repository that a source text imports, wherever in it."""
    found: set[str] = set()
    for node in _read(text)[1]:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if _path(alias.name)}
        elif node.module and not node.level:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in below if _path(name)}
            # what is no module of its own is a name in the module itself
            found |= modules | ({node.module} if modules != below and _path(node.module) else set())
    return tuple(sorted(found))


@cache
def _read(text: str) -> tuple[str, list[ast.Import | ast.ImportFrom]]:
    """The hash of a source text's tree, and its imports: found on one way through it, for the code location waits."""
    parts: list[str] = []
    imports: list[ast.Import | ast.ImportFrom] = []
    _write(ast.parse(text), parts, imports)
    return _digest("\0".join(parts)), imports


def _write(node: object, parts: list[str], imports: list[ast.Import | ast.ImportFrom]) -> None:
    """A tree as text: kinds, fields and values, nothing of where it stands.

    Fields that are empty are left out, so that the text is the same for every version of Python whose grammar has them.
    """
    if isinstance(node, list):
        for one in node:
            _write(one, parts, imports)
        parts.append("]")
    elif isinstance(node, ast.AST):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append(node)
        parts.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or name in _NO_CODE or value == []:
                continue
            parts.append(name)
            _write(_without_docstring(node, value) if name == "body" else value, parts, imports)
        parts.append(")")
    else:
        parts.append(repr(node))


def _without_docstring(node: ast.AST, body: object) -> object:
    documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    if not documented or not isinstance(body, list) or not body:
        return body
    first = body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if text else body


def _belongs(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@cache
def _path(module: str) -> Path | None:
    """Where a module of the repository lies; None for one of a library."""
    place = PACKAGES.joinpath(*module.split("."))
    for path in _candidates(place):
        if path.is_file():
            return path
    return None


def _candidates(place: Path) -> Iterator[Path]:
    yield place.with_suffix(".py")
    yield place / "__init__.py"


def _name(one: Named) -> str:
    if isinstance(one, str):
        return one
    return one.__name__ if isinstance(one, ModuleType) else one.__module__


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
