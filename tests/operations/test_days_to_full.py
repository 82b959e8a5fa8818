"""Days until a volume is full: the trend of its own readings, and what does not count as one."""

from collections.abc import Sequence

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_assets.operations.disk import DISK_ASSET, days_to_full, free_before
from atft_assets.operations.retention import COMMAND
from tests.operations.test_sensors import Ticker, Volume, disk, log, volume  # noqa: F401  fixtures

DAY = 86_400.0


def readings(free: Sequence[float], every: float = DAY / 4) -> list[tuple[float, float]]:
    return [(1e9 + number * every, gigabytes) for number, gigabytes in enumerate(free)]


@given(filled=st.floats(0.05, 5), left=st.floats(1, 100), count=st.integers(10, 50))
def test_a_steady_growth_is_continued(filled: float, left: float, count: int) -> None:
    steady = [left + filled / 4 * (count - 1 - number) for number in range(count)]
    assert days_to_full(readings(steady)) == pytest.approx(left / filled, abs=0.1)


def test_a_file_that_comes_and_goes_does_not_move_it() -> None:
    steady = [100 - number / 4 for number in range(40)]
    disturbed = [free - (60 if number in (7, 8, 21) else 0) for number, free in enumerate(steady)]
    known, moved = days_to_full(readings(steady)), days_to_full(readings(disturbed))
    assert isinstance(known, float) and isinstance(moved, float)
    assert moved == pytest.approx(known, rel=0.05)


@pytest.mark.parametrize(
    "free", [[], [50.0], [50.0] * 40, [50.0 + n for n in range(40)], [50.0, 40.0, 30.0], [1e6 - n for n in range(40)]]
)
def test_no_growth_too_few_readings_and_decades_are_no_number(free: list[float]) -> None:
    """The fifth has grown fast, but for half a day only; the last would be full in 700 years."""
    assert days_to_full(readings(free)) == "-"


def test_readings_at_one_instant_are_passed_over() -> None:
    doubled = sorted(readings([100 - n / 4 for n in range(20)]) * 2)
    assert days_to_full(doubled) == pytest.approx(95.2, abs=0.2)


def test_earlier_readings_come_from_the_observations(instance: dg.DagsterInstance) -> None:
    for free in (10.0, 9.5):
        metadata = {"data_free_gb": free, "data_used_percent": 1.0}
        instance.report_runless_asset_event(dg.AssetObservation(DISK_ASSET, metadata=metadata))
    found = free_before(instance, 0.0)
    assert [free for _, free in sorted(found["data"])] == [10.0, 9.5] and "dagster_home" not in found
    assert free_before(instance, 4e9) == {}


def test_the_alert_of_a_full_volume_names_the_command(disk: Ticker, volume: Volume, log: object) -> None:  # noqa: F811
    from tests.operations.helpers import read_log

    volume.used = 90
    disk.tick()
    assert all(COMMAND in one["todo"] for one in read_log(log) if "warning" in one["what"])  # type: ignore[arg-type]
    assert read_log(log)  # type: ignore[arg-type]
