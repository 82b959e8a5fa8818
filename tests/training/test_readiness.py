"""Preflight: what is found of machine, panel, graph and labels, and what it does to a training."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from atft_assets.findings import Level
from atft_assets.training import machine as machines
from atft_assets.training.launcher import LocalLauncher
from atft_assets.training.machine import (
    Machine,
    free_ram,
    gpus_of,
    least_left,
    quota_left,
    this_machine,
    usable,
    visible_gpus,
)
from atft_assets.training.protocol import Share
from atft_assets.training.readiness import graph_findings, label_findings, machine_findings, panel_findings
from atft_model.interchange.config import NEWEST_ROW, Switches
from atft_model.interchange.footprint import Footprint
from atft_model.interchange.gpus import Gpu
from atft_model.interchange.panel import TENSORS, open_panel, write_panel
from tests.training.small_market import World
from tests.training.test_phases import checks, failure, train

GB = 10**9
NEED = Footprint(panel=1 * GB, weights=0, step=1 * GB, device=3 * GB, host=4 * GB, disk=1 * GB)
GPU = Gpu(0, "GPU-a", "Card", None, 2 * GB, 10 * GB, None, None)
ROOMY = Machine((), "", ram_free=64 * GB, disk_free=100 * GB, quota_free=None, cores=8, load=0.5)


def found(
    asked: str = "auto", threads: int = 4, at_a_time: int = 1, trainings: int = 1, **changes
) -> dict[str, tuple[Level, str, str]]:
    findings = machine_findings(asked, replace(ROOMY, **changes), NEED, Share(at_a_time, threads), trainings)
    return {one.subject: (one.level, one.found, one.todo) for one in findings}


class TestMachine:
    """Pure: a machine of our choice."""

    def test_enough_of_everything(self) -> None:
        assert {level for level, _, _ in found().values()} == {Level.OK}
        assert found()["device"][1] == "the processor; the driver shows no GPU"
        assert found(gpus=(GPU,))["device"][1] == "memory of Card: 8.0 GB free, about 3.00 GB needed"

    @pytest.mark.parametrize(
        ("changes", "subject", "level", "said", "todo"),
        [
            ({"ram_free": 3 * GB}, "memory", Level.FAIL, "3.0 GB free, about 4.00 GB needed: too little", "preset"),
            ({"ram_free": int(4.5 * GB)}, "memory", Level.WARN, "it may just not do", "preset"),
            ({"disk_free": GB // 2}, "disk", Level.FAIL, "0.5 GB free", "retention"),
            ({"quota_free": GB // 2}, "quota", Level.FAIL, "your quota there: 0.5 GB free", "ask for more"),
            ({"quota_free": 5 * GB}, "quota", Level.OK, "5.0 GB free", ""),
            ({"gpus": (replace(GPU, memory_used=9 * GB),)}, "device", Level.FAIL, "1.0 GB free", "nvidia-smi"),
            ({"gpus": (GPU, replace(GPU, memory_used=9 * GB))}, "device", Level.FAIL, "1.0 GB free", "nvidia-smi"),
            ({"gpus": (replace(GPU, memory_used=None),)}, "device", Level.WARN, "not told", "install the extra gpu"),
            ({"why_unread": "driver hangs"}, "device", Level.WARN, "cannot be read (driver hangs)", "nvidia-smi"),
            ({"asked": "cuda"}, "device", Level.FAIL, "there is no GPU", "auto or cpu"),
            ({"asked": "cpu", "gpus": (replace(GPU, memory_used=9 * GB),)}, "device", Level.OK, "as the config", ""),
            ({"threads": 16}, "threads", Level.WARN, "16 threads on 8 cores", "to 8 or 0"),
            ({"at_a_time": 3, "threads": 4}, "threads", Level.WARN, "12 threads on 8 cores", "ATFT_TRAININGS"),
            ({"at_a_time": 8, "threads": 1}, "threads", Level.OK, "8 of 8 cores", ""),
            ({"at_a_time": 3, "ram_free": 20 * GB}, "memory", Level.OK, "12.00 GB needed by 3 trainings", ""),
            ({"at_a_time": 3, "ram_free": 11 * GB}, "memory", Level.FAIL, "too little", "ATFT_TRAININGS"),
            ({"trainings": 30, "disk_free": 29 * GB}, "disk", Level.FAIL, "30.00 GB needed", "retention"),
            ({"trainings": 30, "quota_free": 29 * GB}, "quota", Level.FAIL, "30.00 GB needed", "ask for more"),
            ({"at_a_time": 2, "gpus": (GPU,)}, "device", Level.OK, "6.00 GB needed by 2 trainings at a time", ""),
            ({"at_a_time": 3, "gpus": (GPU,)}, "device", Level.FAIL, "too little", "ATFT_TRAININGS"),
            ({"at_a_time": 3, "gpus": (GPU, GPU)}, "device", Level.OK, "6.00 GB needed by 2 trainings", ""),
            ({"load": 9.0}, "threads", Level.WARN, "9.0 processes want the 8 cores already", "wait"),
        ],
    )
    def test_what_is_short_is_a_sentence_with_what_to_do(self, changes, subject, level, said: str, todo: str) -> None:
        ours = found(**changes)[subject]
        assert ours[0] is level and said in ours[1] and todo in ours[2]
        assert bool(ours[2]) is (level is not Level.OK)

    def test_so_many_share_the_machine(self) -> None:
        launcher = LocalLauncher(trainings=3, threads=2)
        assert [launcher.share(count) for count in (0, 1, 2, 9)] == [
            Share(1, 2), Share(1, 2), Share(2, 2), Share(3, 2)
        ]  # fmt: skip

    def test_a_gpu_that_is_hidden_from_a_trainer_is_not_counted(self, tmp_path: Path) -> None:
        cards = (GPU, replace(GPU, index=1, uuid="GPU-b"))
        for place, card in enumerate(cards):
            folder = tmp_path / "gpus" / f"0000:0{place}:00.0"
            folder.mkdir(parents=True)
            (folder / "information").write_text(f"GPU UUID:  {card.uuid}\n")

        def left(visible: str | None) -> tuple[Gpu, ...]:
            return usable(cards, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}, tmp_path)

        assert left(None) == cards and left("") == left("-1") == ()
        assert left("1") == left("GPU-b") == cards[1:]
        assert left("MIG-5c") == cards, "whose slice it is nobody tells"

    def test_this_machine_is_read(self, tmp_path: Path) -> None:
        read = this_machine(tmp_path / "not" / "yet")
        assert read.ram_free > 1 << 26 and read.disk_free > 0 and read.cores >= 1 and read.load >= 0

    def test_a_container_has_less_memory_than_its_host(self, tmp_path: Path) -> None:
        whole = free_ram(tmp_path)
        (tmp_path / "memory.max").write_text("300000000\n")
        (tmp_path / "memory.current").write_text("100000000\n")
        assert free_ram(tmp_path) == 200_000_000 < whole
        (tmp_path / "memory.max").write_text("max\n")
        assert free_ram(tmp_path) > 200_000_000

    def test_quota(self) -> None:
        head = "Disk quotas for user u (uid 1000):\n"
        head += "     Filesystem  blocks   quota   limit   grace   files   quota   limit\n"
        assert least_left(head + "  /dev/sda1  1000*  900000 1000000  0  12  0  0  0\n") == 899_000 * 1024
        assert (
            least_left(head + "  /dev/sda1  1000  0  3000  0  12  0  0  0\n  /dev/b 5 0 0 0 1 0 0 0\n") == 2000 * 1024
        )
        assert least_left(head + "  /dev/sda1  5000*  900  1000  0  12  0  0  0\n") == 0
        assert least_left("Disk quotas for user u (uid 0): none\n") is None

        def command(words, **_):
            assert words[0] == "quota" and words[-1] == "/place"
            return subprocess.CompletedProcess(words, 0, "  /dev/sda1  1  0  3  0  1  0  0  0\n", "")

        assert quota_left(Path("/place"), run=command) == 2048

    def test_gpus_by_the_command_where_the_library_is_not_there(self, tmp_path: Path, monkeypatch) -> None:
        line = "0, GPU-x, NVIDIA H100 80GB, 1024, 81559\n1, GPU-y, NVIDIA T4, [N/A], 15360\n"
        first, second = gpus_of(line)
        assert first.memory_free == (81559 - 1024) << 20 and second.memory_free is None
        command = tmp_path / "smi"
        command.write_text(f"#!/bin/sh\nprintf '{line.replace(chr(10), '')[:44]}'\n")
        command.chmod(0o755)
        monkeypatch.setattr(machines, "DRIVER", tmp_path / "none")
        assert visible_gpus(driver=tmp_path, command=["no-such-program"])[1], "a driver without a reader is said"
        if not Path("/proc/driver/nvidia").exists():
            assert visible_gpus(driver=tmp_path / "none", command=["no-such-program"]) == ((), "")


class TestPanel:
    """Of a real panel, changed where it must be found out."""

    def test_all_is_well(self, world: World) -> None:
        panel, fold = world.newest(), world.fold()
        ours = [*panel_findings(panel), *graph_findings(panel, fold, Switches()), *label_findings(panel, fold)]
        assert [one.level for one in ours] == [Level.OK] * 3
        assert panel.description.catalogue_hash in ours[0].found
        assert next(graph_findings(panel, fold, NEWEST_ROW)).found == "this phase reads none"

    def rewritten(self, world: World, tmp_path: Path, **tensors):
        panel = world.newest()
        write_panel(tmp_path / "other", {**{n: t for n, t in panel.tensors.items()}, **tensors}, panel.description)
        return open_panel(tmp_path / "other")

    def test_a_graph_that_links_few(self, world: World, tmp_path: Path) -> None:
        mask = np.array(world.newest().tensors["neighbour_mask"])
        mask[:, :, 1:] = False
        (nobody,) = graph_findings(self.rewritten(world, tmp_path, neighbour_mask=mask), world.fold(), Switches())
        assert nobody.level is Level.FAIL and "0% of the train block" in nobody.found
        assert "--select correlation_graph" in nobody.todo
        mask[:, ::2, 1] = True
        (half,) = graph_findings(self.rewritten(world, tmp_path / "b", neighbour_mask=mask), world.fold(), Switches())
        assert half.level is Level.WARN

    def test_labels_that_are_not_there_yet(self, world: World, tmp_path: Path) -> None:
        panel, fold = world.newest(), world.fold()
        y = np.array(panel.tensors["y_cc"])
        last = fold.places(panel.dates, "train").stop
        y[:, last - 15 : last] = np.nan
        (young,) = label_findings(self.rewritten(world, tmp_path, y_cc=y), fold)
        assert young.level is Level.FAIL and "too few" in young.found and "--select labels" in young.todo

    def test_labels_that_end_after_the_data_or_in_the_validation_block(self, world: World) -> None:
        panel, fold = world.newest(), world.fold()
        first = panel.dates.index(fold.validation[0])
        near = replace(fold, train=(fold.train[0], panel.dates[first - 20]))
        (inside,) = label_findings(panel, near)
        assert inside.level is Level.FAIL and f"end on {fold.validation[0]}, in the validation block" in inside.found
        (fits,) = label_findings(panel, replace(fold, train=(fold.train[0], panel.dates[first - 21])))
        assert fits.level is Level.OK
        (after,) = label_findings(panel, replace(fold, train=(fold.train[0], panel.dates[-3])))
        assert after.level is Level.FAIL and "end 18 trading day(s) after the data" in after.found

    def test_a_damaged_panel(self, world: World) -> None:
        path = world.newest().folder / TENSORS
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        (damaged,) = panel_findings(world.newest())
        assert damaged.level is Level.FAIL and "is not the one that was written" in damaged.found


@pytest.mark.usefixtures("trainer_on_path")
class TestBeforeATraining:
    """The blocking check of the phase's asset."""

    def test_the_table_is_on_the_page(self, world: World, instance) -> None:
        result = train(world, instance, "train_phase0", network={"hidden_size": 16})
        verdict = checks(result)["train_phase0", "preflight"]
        assert verdict.passed
        rows = [row.data for row in verdict.metadata["findings"].value.records]
        assert [row["subject"] for row in rows if row["subject"] != "quota"] == [
            "device", "memory", "disk", "threads", "panel", "graph", "labels",
        ]  # fmt: skip
        assert 0.3 < verdict.metadata["estimated_host_gb"].value < 2
        order = [e.event_type_value for e in result.all_events]
        assert order.index("ASSET_CHECK_EVALUATION") < order.index("ASSET_OBSERVATION"), "before the first epoch"

    def test_a_failed_finding_stops_it_before_anything_is_started(self, world: World, instance, monkeypatch) -> None:
        monkeypatch.setattr(machines.psutil, "virtual_memory", lambda: type("M", (), {"available": 1000})())
        result = train(world, instance, "train_phase0")
        said = failure(result)
        assert said.startswith("train_phase0 cannot start: main memory: 0.0 GB free") and "smaller preset" in said
        verdict = checks(result)["train_phase0", "preflight"]
        assert not verdict.passed and verdict.blocking and "too little" in verdict.description
        assert not list(world.runs(0).glob("*"))

    def test_a_refusal_of_the_road_is_the_check_too(self, world: World, instance) -> None:
        result = train(world, instance, "train_phase2")
        verdict = checks(result)["train_phase2", "preflight"]
        assert not verdict.passed and "which has no finished run" in verdict.description

    @pytest.mark.parametrize(
        ("phase", "config", "said"),
        [
            ("train_phase1", {"network": {"hidden_size": 32}}, "hidden_size 16, not 32"),
            ("train_phase1", {"seeds": [0, 5]}, "seed 5 starts from the run of its own seed"),
            ("train_phase0", {"resume_run": "nothing"}, "there is no run nothing to resume"),
            ("train_phase0", {"training": {"chunk_days": 0}}, "chunk_days"),
        ],
    )
    def test_what_the_config_asks_in_vain_is_the_check_too(
        self, world: World, instance, phase: str, config: dict, said: str
    ) -> None:
        assert train(world, instance, "train_phase0", network={"hidden_size": 16}).success
        before = sorted(world.root.glob("runs/*/*/*"))
        result = train(world, instance, phase, **config)
        verdict = checks(result)[phase, "preflight"]
        assert not verdict.passed and said in verdict.description and said in failure(result)
        assert sorted(world.root.glob("runs/*/*/*")) == before, "nothing was begun"

    def test_an_imported_run_asks_nothing_of_the_machine(
        self, world: World, instance, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(machines.psutil, "virtual_memory", lambda: type("M", (), {"available": 1000})())
        result = train(world, instance, "train_phase0", import_run=str(tmp_path))
        verdict = checks(result)["train_phase0", "preflight"]
        assert verdict.passed and not result.success and "cannot import a run" in failure(result)
        refused = train(world, instance, "train_phase1", import_run=str(tmp_path))
        assert not checks(refused)["train_phase1", "preflight"].passed

    def test_gpu_demanded_where_there_is_none(self, world: World, instance) -> None:
        if Path("/proc/driver/nvidia").exists():
            pytest.skip("this machine has a GPU")
        assert "the config asks for cuda, and there is no GPU" in failure(
            train(world, instance, "train_phase0", device="cuda")
        )

    def test_telemetry_of_a_run_is_on_the_page(self, world: World, instance, tmp_path: Path) -> None:
        """The small trainer takes none; a run that has some shows picture and figures."""
        from atft_assets.training.run_facts import device_metadata

        assert device_metadata(tmp_path, "t") == {}
        meter = {"format": 1, "device": "cuda", "source": "nvml", "name": "Card", "threads": 4, "unread": []}
        lines = [{"meter": meter}]
        for second in (1.0, 2.0, 3.0, 500.0):
            use = {"utilisation": 0.25 * min(second, 3), "memory_used": 5 * GB, "watts": 300.0, "celsius": 60.0}
            lines.append({"reading": {"at": second, "seconds": 1.0, **use, "cores": 1.0, "rss": GB}})
        (tmp_path / "telemetry.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        shown = device_metadata(tmp_path, "t")
        assert shown["device_idle_share"] == pytest.approx(0.4375) and shown["device_memory_peak_gb"] == 5
        assert (
            isinstance(shown["device_use"], dg.MarkdownMetadataValue)
            and "image/png;base64,iVBOR" in shown["device_use"].value
        )
        (tmp_path / "telemetry.jsonl").write_text('{"meter": {"format": 9}}\n')
        assert "this version reads 1" in device_metadata(tmp_path, "t")["device_use"]
