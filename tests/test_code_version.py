"""Code versions: another expression is another version, other words are not."""

import ast
from pathlib import Path

import pytest

from atft_assets import code_version as module
from atft_assets.code_version import code_version, modules_of, tree_hash
from atft_assets.features.registry import complete
from atft_assets.features.table import WIRING

# features/technical.py before and after commit 41316b3 ("ADX: a tie of the two movements is neither"), which changed
# the values of adx_14 and neither its formula nor any version
BEFORE = '''
def movements():
    """The two movements."""
    return (
        pl.when((pl.col("_up") > pl.col("_down")) & (pl.col("_up") > 0)).then("_up").otherwise(0.0).alias("_plus_dm"),
        pl.when((pl.col("_down") > pl.col("_up")) & (pl.col("_down") > 0))
        .then("_down")
        .otherwise(0.0)
        .alias("_minus_dm"),
    )
'''
AFTER = '''
def movements():
    """The two movements."""
    return (
        # a tie is neither: on prices adjusted to another day the rounding would decide it otherwise
        pl.when(_above("_up", "_down") & (pl.col("_up") > 0)).then("_up").otherwise(0.0).alias("_plus_dm"),
        pl.when(_above("_down", "_up") & (pl.col("_down") > 0)).then("_down").otherwise(0.0).alias("_minus_dm"),
    )
'''


def test_the_change_of_the_adx_would_have_been_seen() -> None:
    assert tree_hash(BEFORE) != tree_hash(AFTER)


@pytest.mark.parametrize(
    "text",
    [
        BEFORE.replace("The two movements.", "What moved."),
        BEFORE.replace('    """The two movements."""\n', ""),
        "# a comment\n" + BEFORE.replace("    return (", "    return (  # both"),
        BEFORE.replace("\n        .then", ".then").replace("\n        .otherwise", ".otherwise"),
        '"""A module."""\n\n\n' + BEFORE,
    ],
)
def test_words_and_layout_are_no_other_version(text: str) -> None:
    assert tree_hash(text) == tree_hash(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("> 0", ">= 0"),
        ("0.0", "1.0"),
        ('"_up") > pl', '"_up") < pl'),
        ("_plus_dm", "_plus"),
        ("def movements", "def moves"),
    ],
)
def test_any_expression_is(old: str, new: str) -> None:
    assert tree_hash(BEFORE.replace(old, new, 1)) != tree_hash(BEFORE)


def package(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package(
        tmp_path,
        toy__table="from toy import rolling\nfrom toy.bars import bars\nimport wiring\n\n\nBUILD = bars\n",
        toy__rolling="def mean():\n    from toy import windows\n    return windows.WINDOW\n",
        toy__windows="WINDOW = 20\n",
        toy__bars="def bars():\n    return 1\n",
        toy__other="OTHER = 1\n",
        wiring="import toy.other\n",
    )
    monkeypatch.setattr(module, "PACKAGES", tmp_path)
    module._path.cache_clear()
    module._imports.cache_clear()
    yield tmp_path
    module._path.cache_clear()
    module._imports.cache_clear()


def test_the_modules_are_those_that_compute(toy: Path) -> None:
    assert modules_of(["toy.table"], rooms=["toy"]) == ["toy.bars", "toy.rolling", "toy.table", "toy.windows"]
    assert modules_of(["toy.table"], rooms=["toy"], without=["toy.rolling"]) == ["toy.bars", "toy.table"]


def test_a_version_hangs_on_what_is_imported_and_on_nothing_else(toy: Path) -> None:
    def version(**changes: str) -> str:
        package(toy, **changes)
        return code_version("toy.table", rooms=["toy"])

    first = version()
    assert len(first) == 16
    assert version(toy__other="OTHER = 2\n", wiring="import toy.other\nX = 1\n") == first
    assert version(toy__windows="WINDOW = 20  # days\n") == first
    second = version(toy__windows="WINDOW = 21\n")
    assert second != first
    assert version(toy__windows="WINDOW = 20\n") == first
    assert code_version("toy.table", rooms=["toy"], also=["a"]) != code_version("toy.table", rooms=["toy"], also=["b"])


def test_a_module_without_source_is_named(toy: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"toy\.nothing"):
        code_version("toy.nothing")


def test_each_table_counts_what_computes_it_and_no_wiring() -> None:
    counted = {table.name: modules_of([table.build], without=WIRING) for table in complete()}
    room = "atft_assets.features."
    for name in ("price", "technical", "volatility", "calendar_features", "rolling", "bars", "joining"):
        assert room + name in counted["stock_features"]
    assert room + "technical" not in counted["sector_features"] and room + "labels" in counted["sector_features"]
    for wiring in ("assets", "build", "catalogue", "lineage", "registry", "schemas", "table"):
        assert not [name for name, modules in counted.items() if room + wiring in modules]
    assert len({table.code_version for table in complete()}) == len(counted)


def test_a_module_is_parsed_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code location loads in a second or two: the versions of all tables must not show in it."""
    versions = {table.name: table.code_version for table in complete()}
    monkeypatch.setattr(ast, "parse", lambda *_: pytest.fail("parsed again"))
    for table in complete():
        assert code_version(table.build, without=WIRING, also=table.columns) == versions[table.name]
