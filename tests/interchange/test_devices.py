"""Names of devices and of their locks, from a driver's files as NVIDIA writes them."""

from pathlib import Path

import pytest

from atft_model.interchange.devices import gpu_lock, gpus, locks_of, places

FIRST, SECOND = "GPU-11111111-aaaa-bbbb-cccc-000000000001", "GPU-22222222-aaaa-bbbb-cccc-000000000002"


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Two GPUs, in the order of the bus."""
    for bus, uuid in (("0000:17:00.0", FIRST), ("0000:65:00.0", SECOND)):
        folder = tmp_path / "nvidia" / "gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t NVIDIA H100\nIRQ:   \t\t 42\nGPU UUID: \t {uuid}\nBus Type: PCIe\n"
        )
    return tmp_path / "nvidia"


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, [FIRST, SECOND]),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        ("GPU-2222", [SECOND]),
        ("MIG-5c", ["MIG-5c"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [FIRST]),
    ],
)
def test_what_a_process_may_use(driver: Path, visible: str | None, found: list[str]) -> None:
    assert gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}, driver) == found


def test_a_driver_that_tells_nothing_has_a_first_gpu(tmp_path: Path) -> None:
    assert gpus({}, tmp_path / "none") == []
    (tmp_path / "bare").mkdir()
    assert gpus({}, tmp_path / "bare") == ["0"]
    assert gpus({"CUDA_VISIBLE_DEVICES": "3"}, tmp_path / "bare") == ["3"]


def test_the_same_gpu_has_one_lock_by_whatever_name(driver: Path) -> None:
    names = [{"CUDA_VISIBLE_DEVICES": text} for text in ("1", "GPU-2222", SECOND)]
    assert {gpu_lock(gpus(environ, driver)[0]) for environ in names} == {f"atft-{SECOND}.lock"}
    assert gpu_lock("0") == "atft-gpu0.lock" and gpu_lock("MIG-a/b", 1) == "atft-MIG-a-b.1.lock"


def test_trainings_at_a_time_take_turns_over_gpus(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    three = places("auto", tmp_path / "runs", 3, tmp_path / "locks", driver)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in three] == [FIRST, SECOND, FIRST]
    assert len({place.lock for place in three}) == 3 and {place.lock.parent for place in three} == {tmp_path / "locks"}
    on_cpu = places("cpu", tmp_path / "runs", 2, tmp_path / "locks", driver)
    assert [place.lock.name for place in on_cpu] == [".cpu.lock", ".cpu.1.lock"] and not on_cpu[0].environment
    for place in (*three, *on_cpu):
        place.lock.parent.mkdir(exist_ok=True)
        place.lock.touch()
    assert set(locks_of(tmp_path / "runs", tmp_path / "locks")) == {place.lock for place in (*three, *on_cpu)}
