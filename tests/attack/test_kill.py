"""A representative part of the kill matrix; `python -m tests.attack.kill --all` runs the whole of it.

Trainings that are struck are tests of the launcher (`tests/training/test_launcher.py`) and of the trainer
(`tests/model`); a publication that dies at every step is one of the store's.
"""

from collections.abc import Iterator
from datetime import date

import pytest

from tests.attack.kill import CELLS, DEADLINE, PHASES, Matrix, main, matrix

SELECT = "daily_quotes,listed_info,universe"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    root = tmp_path_factory.mktemp("kill")
    with matrix(root, date(2022, 1, 4), date(2022, 2, 28), names=40, select=SELECT) as made:
        yield made


@pytest.mark.parametrize(
    "cell", ["ingest:worker:SIGINT", "ingest:worker:SIGTERM", "features:worker:SIGINT", "publish:worker:SIGKILL"]
)
def test_a_struck_run_ends_leaves_nothing_torn_and_is_taken_up(small: Matrix, cell: str) -> None:
    found = small.strike(cell)
    assert found.wrong == []
    assert found.seconds < 3 * DEADLINE  # generous: a busy machine starts and ends processes slowly


def test_every_phase_target_and_signal_is_a_cell() -> None:
    assert len(CELLS) == len(set(CELLS)) == 27
    assert {cell.split(":")[0] for cell in CELLS} == set(PHASES)


def test_the_command_lists_its_cells_and_knows_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(CELLS)
    with pytest.raises(SystemExit):
        main(["ingest:worker:SIGHUP"])
    assert "no such cell: ingest:worker:SIGHUP" in capsys.readouterr().err
