"""The docs are true: docs/architecture.md names every module, paths and commands that any page names exist."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "README.ja.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "deploy").rglob("*.md")),
]
BEGIN, END = "<!-- modules: begin -->\n", "<!-- modules: end -->"


def layout() -> str:
    """The list of modules as the page must have it: a table a package, a row a room."""
    parts = []
    for package in ("atft_assets", "atft_model"):
        rows = [_row(package, folder) for folder in _folders(REPOSITORY / package)]
        parts.append("\n".join([f"| `{package}` | modules | what |", "|---|---|---|", *rows]))
    return "\n" + "\n\n".join(parts) + "\n\n"


def _folders(package: Path) -> list[Path]:
    return [package, *sorted(path.parent for path in package.glob("*/__init__.py"))]


def _row(package: str, folder: Path) -> str:
    room = "itself" if folder.name == package else f"`{folder.name}/`"
    modules = sorted(path.stem for path in folder.glob("*.py") if path.name != "__init__.py")
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    summary = " ".join(docstring.split("\n\n")[0].split())
    return f"| {room} | {', '.join(modules)} | {summary} |"


def test_the_architecture_names_every_module() -> None:
    """To bring the page up to date: `python -m tests.test_docs`."""
    _, _, rest = ARCHITECTURE.read_text().partition(BEGIN)
    found, end, _ = rest.partition(END)
    assert end, f"{ARCHITECTURE} has lost its marks"
    missing = [line for line in layout().splitlines() if line not in found.splitlines()]
    surplus = [line for line in found.splitlines() if line not in layout().splitlines()]
    assert (missing, surplus) == ([], []), "run: python -m tests.test_docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)", page.read_text()):
        path, anchor = target
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{page.name} links to {path}"
        if anchor and goal.suffix == ".md":
            assert anchor[1:] in _anchors(goal), f"{page.name} links to {path}{anchor}"


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_are_run_or_named_exist(page: Path) -> None:
    text = page.read_text()
    for module in set(re.findall(r"python -m ((?:atft_assets|atft_model)[\w.]*)", text)):
        assert find_spec(module), f"{page.name} runs {module}"
    begun = set(re.findall(r"(?m)^`([\w/]+\.py)`:", text))  # files that the reader writes
    for path in set(re.findall(r"`((?:atft_assets|atft_model|tests|examples|docs)/[\w/]+\.(?:py|md))`", text)) - begun:
        assert (REPOSITORY / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for block in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL)
        for target in re.findall(r"(?:^|[`$(] ?)make ([a-z][a-z-]*)(?![a-z*-])", block, re.MULTILINE)
    }
    assert named - targets == set()


if __name__ == "__main__":
    before, _, rest = ARCHITECTURE.read_text().partition(BEGIN)
    ARCHITECTURE.write_text(before + BEGIN + layout() + END + rest.partition(END)[2])
