"""What the trainer says of its device: of a real training, and of NVIDIA's library by a stand-in that gcc makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atft_model.checkpoint import read_tensors
from atft_model.interchange.records import to_plain
from atft_model.interchange.request import TrainRequest, train_request
from atft_model.interchange.run import read_record
from atft_model.interchange.telemetry import FORMAT, TELEMETRY, Meter, Reading, Telemetry, read_telemetry
from atft_model.telemetry import ProcessorProbe, Watch, watching
from atft_model.train import train
from tests.model.conftest import QUIET
from tests.nvml import stand_in
from tests.patience import PATIENCE, until

# the binding keeps what it has looked up, so each library is read in a process of its own
READ = """
import json, sys
from atft_model.interchange.records import to_plain
from atft_model.telemetry import probe_of
probe = probe_of("cuda", sys.argv[1] if len(sys.argv) > 1 else None, 4)
print(json.dumps({"meter": to_plain(probe.meter), "look": probe.look(1.0)}))
probe.close()
"""


def read_gpu(folder: Path | None, *uuid: str) -> dict:
    """What the trainer's probe says in a process that finds the library of a folder."""
    environ = {**os.environ, **({"LD_LIBRARY_PATH": str(folder)} if folder else {})}
    done = subprocess.run(
        [sys.executable, "-c", READ, *uuid], env=environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestNvidia:
    """The real binding over a library of ours."""

    @pytest.fixture(autouse=True)
    def binding(self) -> None:
        pytest.importorskip("pynvml", reason="the extra `gpu` is not installed")

    def test_everything_is_read(self, tmp_path: Path) -> None:
        found = read_gpu(stand_in(tmp_path))
        assert found["meter"] == {
            "format": FORMAT, "device": "cuda", "source": "nvml", "name": "Stand-in 80GB", "threads": 4,
            "memory_total": 80 << 30, "unread": [],
        }  # fmt: skip
        assert found["look"] == [0.97, 12 << 30, 412.5, 61.0]

    @pytest.mark.parametrize(
        ("lacking", "place", "said"),
        [
            ("nvmlDeviceGetUtilizationRates", 0, "utilisation (Function Not Found"),
            ("nvmlDeviceGetMemoryInfo", 1, "memory (Function Not Found"),
            ("nvmlDeviceGetPowerUsage", 2, "power (Function Not Found"),
        ],
    )
    def test_an_old_driver_lacks_a_function(self, tmp_path: Path, lacking: str, place: int, said: str) -> None:
        found = read_gpu(stand_in(tmp_path, without=lacking))
        assert found["look"][place] is None and found["meter"]["unread"][0].startswith(said)
        assert sum(one is None for one in found["look"]) == 1, "the rest is read as before"

    def test_a_card_that_tells_no_power(self, tmp_path: Path) -> None:
        found = read_gpu(stand_in(tmp_path, refuses="nvmlDeviceGetPowerUsage"))
        assert found["look"][2] is None and found["meter"]["unread"] == ["power (Not Supported)"]

    def test_the_gpu_that_cuda_named_is_read(self, tmp_path: Path) -> None:
        folder = stand_in(tmp_path, count=2)
        assert read_gpu(folder, "00000000-0000-0000-0000-000000000001")["look"][0] == 0.05
        lost = read_gpu(folder, "ffffffff-0000-0000-0000-000000000000")
        assert lost["meter"]["source"] == "psutil" and "none of them is ffffffff" in lost["meter"]["unread"][0]

    def test_without_a_driver_the_run_says_so(self) -> None:
        if Path("/proc/driver/nvidia").exists():
            pytest.skip("this machine has a driver")
        found = read_gpu(None)
        assert found["look"] == [None] * 4 and "NVIDIA's library does not answer" in found["meter"]["unread"][0]


def test_a_training_tells_what_the_processor_did(ask, tmp_path: Path) -> None:
    run = train(ask(tmp_path / "run", telemetry_seconds=0.05), QUIET)
    found = read_telemetry(tmp_path / "run")
    assert found is not None and len(found.meters) == 1 and found.readings
    meter, summary = found.meters[0], found.summary()
    assert (meter.device, meter.source) == ("cpu", "psutil") and meter.memory_total > 1 << 28
    assert all(0 <= one.utilisation <= 1 and one.rss > 50e6 and one.seconds > 0 for one in found.readings)
    assert any(one.cores > 0.1 for one in found.readings), "the training worked"
    covered = found.readings[-1].at - found.readings[0].at + found.readings[0].seconds
    seconds = sum(one.seconds for one in found.readings)
    assert seconds == pytest.approx(covered, rel=0.1), "no gaps"
    assert summary.seconds == round(seconds, 1)  # told to a tenth
    assert run.telemetry == to_plain(summary) == read_record(tmp_path / "run").telemetry
    assert 0 <= summary.idle_share <= 1 and summary.peak_memory >= max(one.memory_used for one in found.readings)
    assert str(summary) == f"device idle {summary.idle_share:.0%} of the time"


def test_one_setting_turns_it_off_and_no_figure_depends_on_it(ask, tmp_path: Path) -> None:
    said: list[str] = []
    with_, without = tmp_path / "with", tmp_path / "without"
    train(ask(with_, telemetry_seconds=0.01), type(QUIET)(line=said.append))
    assert "device idle" in said[-1]
    record = train(ask(without, telemetry_seconds=0), QUIET)
    assert record.telemetry is None and not (without / TELEMETRY).exists()
    ours, theirs = (read_tensors(folder / "checkpoint.safetensors") for folder in (with_, without))
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_resumed_run_counts_what_it_did_before(ask, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    earlier = Reading(1.0, 1000.0, 0.0, 7 << 40, None, None, 0.0, 1)
    meter = Meter(FORMAT, "cpu", "psutil", "x", 1)
    lines = [json.dumps({"meter": to_plain(meter)}), json.dumps({"reading": to_plain(earlier)}), '{"reading": {"at": 1']
    (out / TELEMETRY).write_text("\n".join(lines) + "\n")
    record = train(ask(out, telemetry_seconds=0.05), QUIET)
    assert len(read_telemetry(out).meters) == 2, "the torn line is passed over"
    assert record.telemetry["seconds"] > 1000 and record.telemetry["peak_memory"] == 7 << 40
    assert record.telemetry["idle_share"] > 0.5


def test_a_file_that_cannot_be_written_ends_the_telemetry_and_not_the_training(ask, tmp_path: Path) -> None:
    out, said = tmp_path / "run", []
    (out / TELEMETRY).mkdir(parents=True)
    record = train(ask(out, telemetry_seconds=0.05), type(QUIET)(line=said.append))
    assert record.status == "finished" and record.telemetry is None
    assert "no telemetry: [Errno 21]" in said[-1]


def test_lines_grow_longer_and_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atft_model.telemetry.LINES", 4)
    watch = Watch(tmp_path, ProcessorProbe(1), 0.01)
    watch.start()
    until(lambda: len((read_telemetry(tmp_path) or Telemetry((), ())).readings) > 8, "nine lines")
    watch.stop()
    seconds = [one.seconds for one in read_telemetry(tmp_path).readings]
    assert sum(seconds[-4:-1]) > 3 * sum(seconds[:3]), "a line covers a fourth of the time so far"


def test_it_ends_with_the_block_also_where_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), watching(tmp_path, 60.0, "cpu", None, 1) as watch:
        until(lambda: (tmp_path / TELEMETRY).exists(), "the file")
        raise ZeroDivisionError
    assert len(read_telemetry(tmp_path).readings) == 1, "the last look is written without waiting for the next"
    assert watch.summary().seconds < 60


def test_a_negative_interval_is_refused(ask, tmp_path: Path) -> None:
    document = to_plain(ask(tmp_path / "run"))
    with pytest.raises(Exception, match="telemetry_seconds is -1"):
        train_request({**document, "telemetry_seconds": -1.0})
    assert TrainRequest.__dataclass_fields__["telemetry_seconds"].default == 1.0
