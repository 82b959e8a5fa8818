"""docs/how-to is true: snippets run, commands exist with the options that are named, addresses are understood."""

import argparse
import ast
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import apprise
import dagster as dg
import matplotlib
import pytest
import yaml

from atft_assets.build import build_defs
from atft_assets.hpo.asset import HpoConfig
from atft_assets.hpo.space import check_space
from atft_assets.settings import Settings
from atft_assets.training.runs import latest_run, point_latest_run
from atft_model.interchange.config import PRESETS, ModelConfig, PhaseChanges, TrainConfig
from atft_model.interchange.request import PredictRequest, TrainRequest
from tests.test_command_lines import parser_of
from tests.test_docs import _anchors
from tests.training.conftest import _world, world  # noqa: F401
from tests.training.small_market import World
from tests.training.test_importing import OTHER_PARENT, REFUSED, trained_elsewhere

matplotlib.use("Agg")

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted((REPOSITORY / "docs" / "how-to").glob("*.md"))
LONGEST = 120
BESIDE = {  # what a shell has beside our own commands
    ".", "cd", "chmod", "cp", "du", "export", "git", "jupyter", "mkdir", "pip", "python3", "rm", "rsync", "ssh", "tmux",
    "touch",
}  # fmt: skip
PARTS = {"network": ModelConfig, "training": TrainConfig, "curriculum": PhaseChanges}
REQUESTS = {"train": TrainRequest, "predict": PredictRequest}


def blocks(page: Path, *languages: str) -> list[str]:
    """Fenced blocks of a page in these languages."""
    return [
        code
        for language, code in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.S | re.M)
        if language in languages
    ]


def commands(page: Path) -> list[list[str]]:
    """The words of every command of a page: of its shell blocks, and those in running text that begin as ours do."""
    lines = [
        line.removeprefix("$ ")
        for block in blocks(page, "bash", "console")
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    lines += re.findall(r"`((?:python -m atft_|make |dagster )[^`\n]+)`", page.read_text())
    return [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]


COMMANDS = sorted({(page.name, shlex.join(words)) for page in PAGES for words in commands(page)})


@cache
def help_of(*words: str) -> str:
    """What a Dagster command says of its options."""
    done = subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True)
    return done.stdout


def options(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Options that a parser knows for these words, those of the command among them included."""
    known = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            named = [word for word in words if word in action.choices]
            assert named, f"none of {', '.join(action.choices)} in {words}"
            known |= options(action.choices[named[0]], words)
    return known


def settings_exist(words: list[str]) -> None:
    """Fields that `--set` names are fields of the request, or of the part of it that is named."""
    request = next((REQUESTS[word] for word in words if word in REQUESTS), None)
    for given in (words[at + 1] for at, word in enumerate(words) if word == "--set"):
        assert request is not None
        name, equals, _ = given.partition("=")
        part, dot, field = name.partition(".")
        assert equals and (field if dot else part) in {one.name for one in fields(PARTS[part] if dot else request)}, (
            given
        )


def ours(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m` one of our modules: it is there, its parser knows the options, its request the fields."""
    found = find_spec(words[2])
    assert found and found.origin, f"there is no module {words[2]}"
    module = f"{words[2]}.__main__" if found.origin.endswith("__init__.py") else words[2]
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    if given or "ArgumentParser(" in Path(found.origin).read_text():
        assert given <= options(parser_of(module, monkeypatch), words[3:])
    settings_exist(words)


def dagsters(words: list[str]) -> None:
    """A command of Dagster's: its options exist, and the assets that it selects."""
    command, rest = ["dagster", *words[1:3]], words[3:]
    assert all(word.partition("=")[0] in help_of(*command) for word in rest if word.startswith("--"))
    if "--select" in rest:
        assert set(rest[rest.index("--select") + 1].strip("+").split(",")) <= assets()


@pytest.mark.slow  # Dagster's own help takes seconds
@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_exists_with_its_options(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match words := shlex.split(command):
        case ["python", "-m", "pytest", *_]:
            pass
        case ["python", "-m", *_]:
            ours(words, monkeypatch)
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.M)
        case ["dagster", *_]:
            dagsters(words)
        case [assignment, *_] if re.match(r"[A-Z]+=", assignment):
            pass
        case _:
            assert words[0] in BESIDE, f"{page} has a command that nobody knows: {command}"


@cache
def assets() -> set[str]:
    """Names of all assets."""
    keys = build_defs(Settings.from_env({})).resolve_asset_graph().get_all_asset_keys()
    return {key.to_user_string() for key in keys}


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(
    world: World,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = trained_elsewhere(world, tmp_path, 0, "20260131T180000-gpu")
    target = world.runs(0) / folder.name
    target.parent.mkdir(parents=True)
    folder.rename(target)
    point_latest_run(target)
    monkeypatch.setenv("ATFT_DATA", str(world.root))
    session: dict = {}
    for code in blocks(REPOSITORY / "docs" / "how-to" / "notebook.md", "python"):
        exec(compile(code, "notebook.md", "exec"), session)
    assert session["joined"].height == session["features"].height > 0
    assert session["evening"].height == session["panel"].valid[session["t"]].sum() > 0
    assert session["best"].height == 10 and session["best"]["score_5d"].is_sorted(descending=True)
    assert session["runs"]["rank_ic"].to_list() == [round(session["run"].record.validation["rank_ic"], 4)]
    assert session["epochs"].height == 3
    above, below = session["figure"].axes
    (curve,) = above.lines
    assert curve.get_ydata().tolist() == session["epochs"]["rank_ic"].to_list()
    (curve,) = below.lines
    assert curve.get_ydata()[-1] / session["score"].days == pytest.approx(session["score"].rank_ic)
    for call in re.findall(
        r"`(open_run\(store\.local\(.*?\)\))`", (REPOSITORY / "docs/how-to/notebook.md").read_text()
    ):
        assert eval(call, session).run_id == latest_run(world.runs(0)).run_id


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_python_and_every_language_is_run_or_shown(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)
    named = set(re.findall(r"^```(\w*)$", page.read_text(), re.M)) - {""}
    assert named <= {"python", "bash", "console", "text", "yaml"}
    # run by this file, tests/features/test_docs.py, tests/training/test_walk_forward.py, tests/store/test_bucket.py
    if blocks(page, "python"):
        assert page.name in ("notebook.md", "adding-a-feature.md", "walk-forward.md", "bucket.md")


def run_configs() -> list[tuple[str, dict]]:
    """The YAML of the pages, but for what belongs into Dagster's own file of a package that is not among ours."""
    every = [(page.name, yaml.safe_load(code)) for page in PAGES for code in blocks(page, "yaml")]
    assert [page for page, config in every if "compute_logs" in config] == ["bucket.md"]
    return [(page, config) for page, config in every if "compute_logs" not in config]


@pytest.mark.parametrize(("page", "config"), run_configs())
def test_the_launchpad_takes_a_config(page: str, config: dict) -> None:
    keys = {dg.AssetKey(name) for name in config["ops"]}
    job = build_defs(Settings.from_env({})).resolve_implicit_global_asset_job_def()
    assert dg.validate_run_config(job.get_subset(asset_selection=keys), config), page


def test_the_settings_of_the_walk_forward_are_understood() -> None:
    """Each line of the page that exports them, with the folds that its comment promises."""
    (text,) = [code for code in blocks(REPOSITORY / "docs" / "how-to" / "walk-forward.md", "bash") if "export" in code]
    plans = [
        Settings.from_env(dict(word.split("=", 1) for word in shlex.split(line, comments=True)[1:]))
        for line in text.splitlines()
    ]
    folds = [[fold.name for fold in plan.fold_years()] for plan in plans]
    assert folds[0] == folds[2] == [str(year) for year in range(2018, 2024)]
    assert folds[1] == ["2018-2019", "2020-2021", "2022-2023"]
    assert [fold.name for fold in plans[3].fold_years() if fold.final] == ["2024"]


def test_the_config_of_a_search_is_one_that_it_takes() -> None:
    (block,) = blocks(REPOSITORY / "docs" / "how-to" / "hpo.md", "yaml")
    config = HpoConfig(**yaml.safe_load(block)["ops"]["hpo"]["config"])
    space = {name: one.dimension() for name, one in config.space.items()}
    check_space(space, PRESETS["demo"])
    assert space["network.hidden_size"].choices == (32, 64, 128) and config.request()["curriculum"].epochs == 6


ADDRESSES = {
    "T…/B…/…": "T00000000/B00000000/" + "x" * 24,
    "webhooks/…/…": "webhooks/" + "1" * 10 + "/" + "y" * 30,
    "CHANNEL_ACCESS_TOKEN/USER_ID": "z" * 40 + "/U1234567890",
    "BOT_TOKEN/CHAT_ID": "123456789:" + "a" * 34 + "/12345678",
}


def test_apprise_understands_every_address() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "slack.md").read_text()
    (table,) = re.findall(r"\| where to \| address \|\n(.*?)\n\n", page, re.S)
    found = re.findall(r"`([a-z]+://[^`]+)`", table)
    assert len(found) >= 8
    for address in found:
        for shown, like in ADDRESSES.items():
            address = address.replace(shown, like)
        assert apprise.Apprise().add(address), address


def test_every_kind_of_alert_is_in_the_table() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "slack.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    sources = [*(REPOSITORY / "atft_assets").glob("operations/*.py"), *(REPOSITORY / "atft_assets").glob("tools/*.py")]
    sent = {kind for path in sources for kind in re.findall(r'\bkind="(\w+)"', path.read_text())}
    assert sent and sent <= told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_short_and_its_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= LONGEST
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)", text):
        goal = (page.parent / target).resolve()
        assert goal.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor[1:] in _anchors(goal), f"{page.name} links to {target}{anchor}"


def test_each_refusal_that_the_page_names_is_said() -> None:
    """The sentences are those that tests/training/test_importing.py provokes."""
    page = (REPOSITORY / "docs" / "how-to" / "gpu-box.md").read_text()
    (table,) = re.findall(r"\| the sentence says \| do \|\n\|---\|---\|\n(.*)", page, re.S)
    cells = re.findall(r"^\| `([^`]+)`", table, re.M)
    said = "\n".join([*REFUSED.values(), OTHER_PARENT])
    assert len(cells) >= 7
    for cell in cells:
        assert all(piece.strip() in said for piece in cell.split("…")), cell
