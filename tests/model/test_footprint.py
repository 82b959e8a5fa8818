"""The memory that a training is expected to take, against the peak of the real trainer on the processor."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from atft_model.interchange.config import PRESETS, Switches
from atft_model.interchange.fold import write_fold
from atft_model.interchange.footprint import EVAL_CHUNKS, FACTOR, TILE, axes_of, footprint, parameters, resident, width
from atft_model.interchange.panel import open_panel
from atft_model.interchange.phases import PHASES
from atft_model.model import build_model, sizes_of
from atft_model.panel import DevicePanel
from atft_model.synthetic import Shape, synthetic, write
from tests.patience import PATIENCE

# the kernel's own account of the process: the most memory that it ever had resident
TRAIN = """
import re, sys
from atft_model.__main__ import main
code = main(sys.argv[1:])
print("peak", code, re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
SHAPE = Shape(names=800, days=300, features=40, neighbours=16)


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("footprint")
    made, fold = synthetic(SHAPE)
    write(root / "panel", made)
    write_fold(root / "fold.json", fold)
    return root


def expected(root: Path, preset: str, phase: int, **changes):
    opened = open_panel(root / "panel")
    axes = axes_of(opened.description, opened.tensors.shapes, int(opened.valid.sum(1).max()))
    return footprint(axes, PRESETS[preset], PHASES[phase].on, validation_days=60, **changes)


def command(root: Path, preset: str, phase: int, out: Path, init: Path | None = None) -> list[str]:
    """The trainer, which says at its end what it had resident at most."""
    fields = {"panel": root / "panel", "fold": root / "fold.json", "phase": phase, "out": out, "preset": preset,
              "device": "cpu", "curriculum.epochs": 1, **({"init": init} if init else {})}  # fmt: skip
    words = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    return [sys.executable, "-c", TRAIN, "train", "--threads", "2", *words]


def peak(root: Path, preset: str, phase: int, out: Path, init: Path | None = None) -> float:
    """Bytes that the trainer had resident at most."""
    done = subprocess.run(command(root, preset, phase, out, init), capture_output=True, text=True, timeout=PATIENCE)
    found = re.search(r"^peak 0 (\d+)$", done.stdout, re.M)
    assert found, done.stderr[-2000:]
    return int(found[1]) * 1024


def share_of(process: subprocess.Popen) -> int:
    """Bytes of a process, of each page that others have too its part; 0 once it has ended."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+)", text, re.M)
    return int(found[1]) * 1024 if found else 0


@pytest.mark.slow
def test_several_at_a_time_take_what_the_sum_of_their_estimates_says(panel: Path, tmp_path: Path) -> None:
    """What preflight holds against the free memory before a fan-out: no less than they take, and not much more."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("the kernel does not tell how pages are shared (smaps_rollup)")
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    command(panel, "small", 0, tmp_path / str(seed)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            )
            for seed in range(2)
        ]
        held = 0
        while any(process.poll() is None for process in running):
            held = max(held, sum(map(share_of, running)))
            time.sleep(0.02)
    assert [process.returncode for process in running] == [0, 0]
    ours = 2 * expected(panel, "small", 0).host
    assert 1 / FACTOR < ours / held < FACTOR, f"{ours / 1e6:.0f} MB, {held / 1e6:.0f} measured"


@pytest.mark.slow
def test_the_estimate_is_near_the_peak_of_a_real_training(panel: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the kernel tells no peak (VmHWM)")
    init = None
    for phase in range(3):
        measured = peak(panel, "small", phase, tmp_path / str(phase), init)
        ours = expected(panel, "small", phase).host
        assert 1 / FACTOR < ours / measured < FACTOR, (
            f"phase {phase}: {ours / 1e6:.0f} MB, {measured / 1e6:.0f} measured"
        )
        init = tmp_path / str(phase)


def test_the_resident_panel_is_counted_to_the_tensor(panel: Path) -> None:
    held = DevicePanel.load(panel / "panel", lookback=20, chunk_days=8).nbytes()
    opened = open_panel(panel / "panel")
    axes = axes_of(opened.description, opened.tensors.shapes, SHAPE.names)
    assert resident(axes, 20, 4) == pytest.approx(held, rel=0.03)


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_nearly_counted(panel: Path, preset: str) -> None:
    opened = open_panel(panel / "panel")
    axes = axes_of(opened.description, opened.tensors.shapes, SHAPE.names)
    model = build_model(PRESETS[preset].model, sizes_of(opened.description), switches=Switches())
    assert parameters(PRESETS[preset].model, axes) == pytest.approx(sum(model.parameter_counts().values()), rel=0.15)


def test_it_grows_with_what_it_should(panel: Path) -> None:
    phases = [expected(panel, "small", phase).host for phase in range(3)]
    assert phases == sorted(phases) and phases[0] < phases[1] < phases[2]
    assert expected(panel, "base", 2).step > expected(panel, "small", 2).step
    gpu = expected(panel, "small", 2, device="cuda", mode="optimized")
    assert gpu.panel < expected(panel, "small", 2).panel, "features in half the bytes"
    assert gpu.device > gpu.panel + gpu.step and expected(panel, "small", 2).device == 0
    assert expected(panel, "small", 0, members=5).disk > expected(panel, "small", 0).disk


def test_what_it_repeats_of_the_trainer_is_the_trainers(panel: Path) -> None:
    from atft_model import layers, predict
    from atft_model import panel as panels
    from atft_model.interchange import footprint as ours

    assert (layers.TILE, predict.EVAL_CHUNKS, panels.SPARE_WIDTH) == (TILE, EVAL_CHUNKS, ours.SPARE_WIDTH)
    opened = open_panel(panel / "panel")
    axes = axes_of(opened.description, opened.tensors.shapes, int(opened.valid.sum(1).max()))
    loaded = DevicePanel.load(panel / "panel", lookback=20, chunk_days=1)
    assert width(axes, 0) == pytest.approx(loaded.width, rel=0.1)
