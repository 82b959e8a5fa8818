"""README, its Japanese twin and the glossary say what the code says: table, pictures, plans, variables, words."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from atft_assets import settings as settings_module
from atft_assets.build import build_defs
from atft_assets.jquants.plans import REQUESTS_PER_MINUTE
from atft_assets.reports.closing_table import HEAD
from atft_assets.settings import FREE_DELAY, HISTORY_YEARS, Plan
from atft_assets.store import Store
from atft_model.cli import build_parser
from tests import readme
from tests.pictures import SETTINGS, arrows, asset_graph, labels, nodes_of, rank_ic_bars
from tests.test_definitions import PLANNED

ENGLISH, JAPANESE = readme.READMES
GLOSSARY = readme.REPOSITORY / "docs" / "glossary.md"
HOW_TO_UPDATE = "run: make docs"


def rows(page: Path, head: str) -> list[list[str]]:
    """Cells of the table whose first line begins with `head`."""
    lines = page.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(head))
    table = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def code(text: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


# the demo


@pytest.mark.parametrize("page", readme.READMES, ids=lambda page: page.name)
def test_the_table_is_that_of_the_record(page: Path) -> None:
    assert readme.between(page.read_text()) == readme.block(readme.recorded()), HOW_TO_UPDATE


def test_a_demo_far_from_the_record_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = readme.recorded()
    assert readme.differences(record, record) == []
    first, second, *rest = record["rows"]
    moved = {**first, "rank_ic": first["rank_ic"] + 1.5 * readme.TOLERANCE}
    near = [{**row, "rank_ic": row["rank_ic"] - 0.5 * readme.TOLERANCE} for row in rest]
    demo = tmp_path / "validation.json"
    demo.write_text(json.dumps({**record, "rows": [moved, *near]}))
    assert readme.main(["--compare", str(demo)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == [first["name"], second["name"]] and "missing" in told[1]
    demo.write_text(json.dumps(record))
    assert readme.main(["--compare", str(demo)]) == 0


def test_a_record_keeps_what_the_table_shows_and_nothing_else() -> None:
    record = readme.recorded()
    full = {**record, "panel_id": "0123456789", "fold": "main", "created_at": "today"}
    full["rows"] = [
        {**row, "coverage": 1.0, "against": {n: {**p, "neutral": {"mean": 0.0}} for n, p in row["against"].items()}}
        for row in record["rows"]
    ]
    assert readme.condensed(full) == {**record, "panel_id": "01234567…"}


# pictures


def test_the_graph_is_that_of_the_definitions() -> None:
    drawn, now = (readme.PICTURES / "assets.svg").read_text(), asset_graph()
    assert sorted(labels(drawn)) == sorted(labels(now)), HOW_TO_UPDATE
    assert arrows(drawn) == arrows(now), HOW_TO_UPDATE


def test_the_graph_names_every_asset_of_the_road() -> None:
    drawn = set(labels((readme.PICTURES / "assets.svg").read_text()))
    road = {name for group, names in PLANNED.items() if group != "operations" for name in names}
    assert road - drawn == set()
    assert {"road1_raw", "road2_features", "road3_graph", "road4_training", "road5_trading"} <= drawn


def test_an_arrow_is_left_out_only_where_others_say_it() -> None:
    """Every dependency of the definitions can be walked along the arrows, and no arrow can be spared."""
    definitions = build_defs(SETTINGS)
    nodes = nodes_of(definitions)
    home = {name: node.name for node in nodes.values() for name in node.names}

    def reached(name: str) -> set[str]:
        return {name}.union(*(reached(parent) for parent in nodes[name].parents))

    for spec in definitions.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        if name in home:
            reads = {dep.asset_key.to_user_string() for dep in spec.deps}
            assert {home[read] for read in reads if read in home} <= reached(home[name]), name
    for node in nodes.values():
        for parent in node.parents:
            assert not any(parent in reached(other) for other in node.parents - {parent}), (parent, node.name)


def test_the_bars_are_those_of_the_record() -> None:
    record = readme.recorded()
    drawn = labels((readme.PICTURES / "rank_ic.svg").read_text())
    assert drawn == labels(rank_ic_bars(record)), HOW_TO_UPDATE
    for row in record["rows"]:
        assert f"{row['name']} {row['label']}".strip() in drawn and f"{row['rank_ic']:.4f}" in drawn


def test_a_picture_is_rendered_the_same_twice() -> None:
    record = readme.recorded()
    assert rank_ic_bars(record) == rank_ic_bars(record)


def test_pictures_are_white_sheets_without_a_date() -> None:
    for path in sorted(readme.PICTURES.glob("*.svg")):
        text = path.read_text()
        assert "fill: #ffffff" in text and "dc:date" not in text, path.name
        assert f"docs/images/{path.name}" in ENGLISH.read_text(), f"{path.name} is shown nowhere"


# what the tables say


@pytest.mark.parametrize("page", readme.READMES, ids=lambda page: page.name)
def test_the_plans_are_those_of_the_client(page: Path) -> None:
    plans = rows(page, "| plan |" if page == ENGLISH else "| プラン |")
    assert [row[0] for row in plans] == [f"`{plan}`" for plan in Plan]
    for plan, (_, years, ends, requests, *_) in zip(Plan, plans, strict=True):
        assert (int(years), int(requests)) == (HISTORY_YEARS[plan], REQUESTS_PER_MINUTE[plan])
        weeks = re.findall(r"\d+", ends)
        assert weeks == ([str(FREE_DELAY.days // 7)] if plan is Plan.FREE else [])


def variables_read() -> set[str]:
    """Names of environment variables in the one module that reads them."""
    tree = ast.parse(Path(settings_module.__file__).read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch(r"(ATFT|JQUANTS)_[A-Z_]+", text)}


@pytest.mark.parametrize("page", readme.READMES, ids=lambda page: page.name)
def test_the_variables_are_those_that_are_read(page: Path) -> None:
    table = rows(page, "| name |" if page == ENGLISH else "| 変数 |")
    named = code(" ".join(row[0] for row in table))
    assert named == variables_read() | {"DAGSTER_HOME", "DAGSTER_MODULE_NAME"}
    defaults = {name: row[-1] for row in table for name in code(row[0])}
    assert f"{settings_module.DEMO_START}" in defaults["ATFT_START"]
    assert f"{settings_module.DEMO_END}" in defaults["ATFT_START"]


def test_every_asset_is_in_the_table_of_assets() -> None:
    named = code(" ".join(row[0] for row in rows(ENGLISH, "| asset |")))
    assert {spec.key.to_user_string() for spec in build_defs(SETTINGS).resolve_all_asset_specs()} == named


def test_the_snippet_reads_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    """The README's lines, word for word, on a store of one row."""
    table = Store(root=str(tmp_path / "data")).table("features", "all_features")
    frame = pl.DataFrame({"date": ["2024-12-30"], "code": ["13010"], "returns_5d": [0.25]})
    table.publish([table.stage("2024-12", frame, code_version="1")])
    (snippet,) = re.findall(r"```python\n(.*?)```", ENGLISH.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert "13010" in capsys.readouterr().out


# commands

PAGES = [*readme.READMES, *sorted((readme.REPOSITORY / "docs").rglob("*.md")), readme.REPOSITORY / "CONTRIBUTING.md"]


def lines_of(page: Path) -> Iterator[str]:
    """Lines of code of a page, in blocks and in backticks, without the shell's prompt and without comments."""
    text = page.read_text()
    for block in re.findall(r"^```(?:console|bash|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (re.sub(r"\s#\s.*$", "", line.removeprefix("$ ")) for line in block.splitlines())
    yield from code(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_know_the_options_that_a_page_gives_them(page: Path) -> None:
    commands = next(a for a in build_parser()._actions if a.dest == "command").choices
    assert isinstance(commands, dict)
    for line in lines_of(page):
        for module, given in re.findall(r"python -m ((?:atft_assets|atft_model|tests)\b[\w.]*)([^|;&\n]*)", line):
            options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", given))
            if module == "atft_model":
                command = given.split()[0] if given.split() else ""
                if not command.isalpha():
                    continue  # the module itself is named, not a command of it
                assert command in commands, f"{page.name}: {line}"
                known = set(commands[command]._option_string_actions)
            else:
                spec = find_spec(module) and (
                    find_spec(f"{module}.__main__") if is_package(module) else find_spec(module)
                )
                assert spec and spec.origin, f"{page.name}: {line}"
                known = set(re.findall(r'"(--[a-z-]+)"', Path(spec.origin).read_text()))
            assert options <= known | {"--help"}, f"{page.name}: {line}"


def is_package(module: str) -> bool:
    found = find_spec(module)
    return found is not None and found.submodule_search_locations is not None


def test_make_knows_the_targets_and_variables_of_every_page() -> None:
    makefile = (readme.REPOSITORY / "Makefile").read_text()
    found = [
        (page, line, words.split())
        for page in PAGES
        for line in lines_of(page)
        for words in re.findall(r"(?:^|&& )make ((?:[a-z-]+|[A-Z_]+=\S+)(?: [A-Z_]+=\S+)*)(?= |$)", line)
    ]
    targets = sorted({word for *_, words in found for word in words if "=" not in word})
    assert {"demo", "test", "ui", "doctor", "road"} <= set(targets)
    done = subprocess.run(["make", "-n", *targets], cwd=readme.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page, line, words in found:
        for name in (word.partition("=")[0] for word in words if "=" in word):
            assert re.search(rf"^{name} \?=|\$\({name}\)", makefile, re.MULTILINE), f"{page.name}: {line}"


# the glossary


def test_the_glossary_explains_every_column_of_the_table() -> None:
    terms = " ".join(re.findall(r"^\*\*(.*?)\*\*", GLOSSARY.read_text(), re.MULTILINE))
    explained = terms + " ".join(re.findall(r"\*(Δ \w+)\*", GLOSSARY.read_text()))
    assert [column for column in HEAD if column not in explained] == []


def test_an_entry_of_the_glossary_is_short_and_stands_once() -> None:
    entries = re.findall(r"^\*\*(.*?)\.?\*\*(.*?)(?=\n\n|\Z)", GLOSSARY.read_text(), re.MULTILINE | re.DOTALL)
    terms = [term for term, _ in entries]
    assert len(terms) == len(set(terms)) >= 40
    long = [term for term, text in entries if len(re.findall(r"[.?!](?=\s|$)", text)) > 5 or len(text) > 400]
    assert long == []


# the Japanese twin


def fences(text: str) -> list[str]:
    return re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)


def without_comments(block: str) -> list[str]:
    """Lines of a block without what follows a `#`, which is prose."""
    return [line.partition("#")[0].rstrip() for line in block.splitlines()]


def test_the_twin_has_the_same_headings() -> None:
    one, other = (re.findall(r"^(#+) ", page.read_text(), re.MULTILINE) for page in readme.READMES)
    assert one == other


def test_the_twin_has_the_same_code() -> None:
    one, other = (fences(page.read_text()) for page in readme.READMES)
    assert [without_comments(block) for block in one] == [without_comments(block) for block in other]


def test_the_twin_has_the_same_tables() -> None:
    one, other = (
        [line.count("|") for line in page.read_text().splitlines() if line.startswith("|")] for page in readme.READMES
    )
    assert one == other
    for head, japanese in (("| asset |", "| アセット |"), ("| RankIC |", "| RankIC |"), ("| to |", "| したいこと |")):
        for ours, theirs in zip(rows(ENGLISH, head), rows(JAPANESE, japanese), strict=True):
            numbers = [re.findall(r"[−\d.]+", cell) for cell in ours[1:]] if "RankIC" in head else []
            assert code(ours[0]) == code(theirs[0])
            assert numbers == ([re.findall(r"[−\d.]+", cell) for cell in theirs[1:]] if numbers else [])


def test_the_twin_has_the_same_links_and_pictures() -> None:
    one, other = (sorted(re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", page.read_text())) for page in readme.READMES)
    differs = {("", "README.ja.md"), ("", "README.md")}  # each names the other
    assert [link for link in one if link not in differs] == [link for link in other if link not in differs]
    assert "(README.ja.md)" in ENGLISH.read_text() and "(README.md)" in JAPANESE.read_text()
