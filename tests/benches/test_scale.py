"""The bench of scale: its processes begin together, and what it carries on is what larger axes are."""

from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path

import pytest

from atft_assets.benches import scale
from atft_assets.benches.scale import PARTS, publication, together
from atft_assets.benches.scale_panels import DAYS, NAMES, carried_on, larger
from atft_model.interchange.footprint import Axes
from tests.patience import until

MEASURED = Axes(500, 300, 50, 10, 4, 290, 25, 11, False, file_bytes=500 * 300 * 150 + 25 * 300 * 11 * 17)


def test_a_larger_panel_has_as_many_bytes_a_cell_and_a_graph_a_month() -> None:
    wide = larger(MEASURED)
    assert (wide.days, wide.names, wide.eligible, wide.periods) == (DAYS, NAMES, NAMES, 240)
    assert wide.file_bytes == DAYS * NAMES * 150 + 240 * NAMES * 11 * 17
    assert (wide.features, wide.neighbours, wide.horizons) == (50, 11, 4)
    wider = larger(MEASURED, features=384)
    assert wider.features == 384 and wider.file_bytes == wide.file_bytes + DAYS * NAMES * (384 - 50) * 2


def test_what_is_carried_on_is_said_with_its_preset_and_device() -> None:
    made, panel = {"cpu_s": 25.0, "rows": 1_000_000}, {"panel_s": 3.6}
    first, *others = carried_on(made, panel, MEASURED)
    assert "features 0.3 h of processor; panel 8 GB, 0.3 h" in first
    assert [line.split(": ")[0] for line in others] == [
        f"computed, phase 2, {feature_set}, preset {preset} on {device}"
        for feature_set in ("core", "stock", "full")
        for preset in ("small", "base")
        for device in ("cpu (safe)", "cuda (optimized)")
    ]


def test_processes_begin_at_the_same_moment(tmp_path: Path) -> None:
    """None passes the gate before the last has come."""

    def come(number: int, wait: Callable[[], int]) -> int:
        (tmp_path / str(number)).touch()
        wait()
        return len(list(tmp_path.iterdir()))

    assert together(come, 3) == [3, 3, 3]


def test_one_that_fails_leaves_no_other_behind(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(scale, "SECONDS", 0.5)
    before = set(active_children())

    def fail(number: int, wait: Callable[[], int]) -> None:
        if number == 0:
            raise ValueError("on purpose")
        wait()

    with pytest.raises(RuntimeError, match="one of 3 processes did not answer"):
        together(fail, 3)
    until(lambda: set(active_children()) <= before, "the end of the others")


@pytest.mark.slow
def test_publishers_lose_nothing(tmp_path: Path) -> None:
    assert publication("this disk", str(tmp_path), 2).endswith("12 of 12 months are there")


def test_every_part_has_a_name() -> None:
    assert list(PARTS) == ["writers", "publishers", "queue", "fan-out", "partitions", "panels"]
