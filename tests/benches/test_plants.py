"""The bench of what the sandbox plants: how it judges a report, and that it can fail."""

import subprocess
import sys

import polars as pl
import pytest

from atft_assets.benches.plants import MADE_FOR, READ_IT_TOO, STRENGTHS, faults_of, lines_of, told
from atft_assets.features.catalogue import feature_set
from atft_assets.sandbox.config import PLANTED
from atft_assets.store import Store
from tests.patience import PATIENCE


def report(**t: float) -> pl.DataFrame:
    """As `feature_report` publishes it: a column a family, beyond chance from a t of four on."""
    rows = [
        {
            "feature": f"{family}_column",
            "family": family,
            "horizon": horizon,
            "t_newey_west": value if horizon == 1 else 9.0,  # of other horizons nothing is asked
            "p": 1 / (1 + abs(value)) ** 4,
            "p_holm": 0.01 if abs(value) > 4 else 1.0,
        }
        for family, value in {"price": 0.5, "flow": 0.1, **t}.items()
        for horizon in (1, 5)
    ]
    return pl.DataFrame(rows).with_columns(p=pl.when(pl.col("family") == "flow").then(None).otherwise("p"))


def test_the_families_that_are_named_are_in_the_catalogue() -> None:
    assert set(MADE_FOR) == set(READ_IT_TOO) == set(STRENGTHS) == set(PLANTED)
    named = {*MADE_FOR.values(), *(family for some in READ_IT_TOO.values() for family in some)}
    assert named <= {feature.family for feature in feature_set("full")}


def test_a_line_a_family_the_surest_first() -> None:
    lines = lines_of(report(statements=-6.0))
    assert [(one.family, one.column, one.t, one.found) for one in lines] == [
        ("statements", "statements_column", -6.0, True),
        ("price", "price_column", 0.5, False),
    ]


@pytest.mark.parametrize(
    ("plant", "t", "said"),
    [
        ("revision", {"statements": 6.0, "interactions": 5.0}, []),
        ("revision", {"statements": 3.0}, ["revision: not found in statements, which is made for it"]),
        ("regime", {"pressure": 6.0, "short": -5.0}, ["regime: short reads nothing of it"]),
        ("none", {"pressure": 3.0}, []),
        ("none", {"pressure": 4.5}, ["none: pressure reads nothing of it"]),
    ],
)
def test_a_plant_is_to_be_found_where_it_can_be_and_nowhere_else(
    plant: str, t: dict[str, float], said: list[str]
) -> None:
    found = faults_of(plant, lines_of(report(**t)))
    assert len(found) == len(said) and all(one.startswith(begin) for one, begin in zip(found, said, strict=True))


def test_a_market_is_a_line_of_the_table(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = Store(root=str(tmp_path))
    table = store.table("features", "feature_report")
    table.publish([table.stage("all", report(short=7.25, pressure=6.0, statements=2.0), code_version="t")])
    (line,) = told("covering", store)
    # pressure reads short positions too: the next family is one that does not
    assert line.split() == [
        *("covering", "short", "short_column", "+7.2", "0.010"),
        *("statements", "statements_column", "+2.0", "1.000"),
    ]


def test_a_market_of_half_a_year_walks_the_road_and_nothing_is_found_of_nothing() -> None:
    """Over the reform of 2022-04-04, when for days no flow of a section is known. To find a plant takes years."""
    span = ["--start", "2022-01-04", "--end", "2022-06-30"]
    command = [sys.executable, "-W", "ignore", "-m", "atft_assets.benches.plants", "--names", "110", *span]
    done = subprocess.run([*command, "--plants", "none"], capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.splitlines()[1].split()[:2] == ["none", "-"]
