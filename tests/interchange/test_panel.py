"""The panel directory: what is written is what any safetensors reader sees, and what does not fit is refused."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open

from atft_assets.calendar import trading_days
from atft_model.interchange import hashes
from atft_model.interchange.errors import MEND, FoldError, PanelError
from atft_model.interchange.panel import (
    FORMAT,
    SPECS,
    PanelDescription,
    PanelFeature,
    checked_panel,
    from_bfloat16,
    latest_panel,
    open_panel,
    point_latest,
    publish_panel,
    staged_panel,
    to_bfloat16,
    write_panel,
)

DAYS = tuple(trading_days(date(2020, 1, 6), date(2020, 2, 28)))
CODES = ("13010", "13050", "20000")
FEATURES = tuple(PanelFeature(f"f{i}", "family", "time_series") for i in range(4))


def description(**changes: object) -> PanelDescription:
    return replace(
        PanelDescription(FORMAT, "p1", DAYS, CODES, FEATURES, "hash", (1, 5), sector33=("a", "b", "a")), **changes
    )


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    t, n, f, h, p, k = len(DAYS), len(CODES), len(FEATURES), 2, 2, 3
    return {
        "x": to_bfloat16(rng.normal(size=(t, n, f)).astype(np.float32)),
        "valid": rng.random((t, n)) < 0.8,
        "y_cc": rng.normal(size=(h, t, n)).astype(np.float32),
        "y_oo": rng.normal(size=(h, t, n)).astype(np.float32),
        "neighbours": rng.integers(0, n, (p, n, k)).astype(np.int32),
        "neighbour_attr": rng.normal(size=(p, n, k, 3)).astype(np.float32),
        "neighbour_mask": rng.random((p, n, k)) < 0.5,
        "graph_period": (np.arange(t) // 20).astype(np.int32),
    }


def test_any_reader_of_safetensors_sees_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    held = tensors()
    write_panel(tmp_path / "p1", held, description())
    panel = open_panel(tmp_path / "p1")
    with safe_open(tmp_path / "p1" / "panel.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(held) and file.metadata() == {"panel_id": "p1"}
        for name, array in held.items():
            np.testing.assert_array_equal(panel.tensors[name], array)
            theirs = file.get_tensor(name)
            if name == "x":
                assert theirs.dtype == torch.bfloat16
                np.testing.assert_array_equal(theirs.float().numpy(), from_bfloat16(array))
            else:
                np.testing.assert_array_equal(theirs.numpy(), array)
    assert panel.description.bytes == (tmp_path / "p1" / "panel.safetensors").stat().st_size
    assert replace(panel.description, bytes=0, hashes={}, seal="") == description()
    assert panel.features == ["f0", "f1", "f2", "f3"] and panel.sectors.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(panel.one_day_returns, held["y_cc"][0])
    np.testing.assert_array_equal(panel.x(3), from_bfloat16(held["x"][3]))


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32)))
def test_bfloat16_rounds_as_torch_does(values: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("valid"), "lacks valid"),
        (lambda t: t.update(valid=t["valid"].astype(np.int32)), r"valid is I32 .* implies BOOL"),
        (lambda t: t.update(y_cc=t["y_cc"][:, :-1]), r"y_cc is F32 \[2, 36, 3\].* implies F32 \[2, 37, 3\] \(H T N\)"),
        (lambda t: t.update(neighbour_mask=t["neighbour_mask"][:, :, :1]), r"neighbour_mask is BOOL \[2, 3, 1\]"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, said: str, tmp_path: Path) -> None:
    held = tensors()
    change(held)
    with pytest.raises(PanelError, match=said):
        write_panel(tmp_path / "p1", held, description())


def test_a_neutral_target_needs_its_tensor(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match="lacks y_neutral"):
        write_panel(tmp_path / "p1", tensors(), description(target="y_neutral"))
    held = tensors()
    held["y_neutral"] = held["y_cc"] * 2
    write_panel(tmp_path / "p1", held, description(target="y_neutral"))
    np.testing.assert_array_equal(open_panel(tmp_path / "p1").target, held["y_neutral"])


def test_what_is_no_whole_panel_says_what_to_run(tmp_path: Path) -> None:
    remedy = "run: dagster asset materialize --select training_panel"
    with pytest.raises(PanelError, match=rf"there is no training panel under .*{remedy}"):
        latest_panel(tmp_path)
    folder = tmp_path / "p1"
    write_panel(folder, tensors(), description())
    point_latest(tmp_path, "p1")
    assert latest_panel(tmp_path).panel_id == "p1"
    whole = json.loads((folder / "panel.json").read_text())
    for broken, said in (
        ({**whole, "format": 1}, "has format 1, this version reads 3"),
        ({**whole, "dates": whole["dates"][::-1]}, "dates must increase strictly"),
        ({**whole, "split": {}}, "unknown fields: split"),
        ({k: v for k, v in whole.items() if k != "codes"}, "lacks the field codes"),
        (
            {**whole, "codes": ["13010", "13050", "20001"]},
            f"panel.json is damaged .it is not as it was written.*{MEND}",
        ),
        (
            {k: v for k, v in whole.items() if k != "hashes"},
            f"panel.json is damaged .it is not as it was written.*{MEND}",
        ),
        ({**whole, "format": 2}, f"has format 2, this version reads 3; {remedy}"),
        ([], f"panel.json is damaged .it describes no panel.*{MEND}"),
    ):
        (folder / "panel.json").write_text(json.dumps(broken))
        with pytest.raises(PanelError, match=said):
            latest_panel(tmp_path)
    for damage in (b"{", b"", b"\xff\xfe\x00", b"[" * 100_000):
        (folder / "panel.json").write_bytes(damage)
        with pytest.raises(PanelError, match=f"panel.json is damaged .*{MEND}"):
            latest_panel(tmp_path)
    (folder / "panel.json").write_text(json.dumps(whole))
    with (folder / "panel.safetensors").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(PanelError, match=rf"damaged .it has 100 bytes instead of \d+.*{MEND}"):
        latest_panel(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\n", b"p\0q\n", b"\xff\xfe", b"../../etc\n", b"a\nb\n", b"p2\n", b"..\n"])
def test_a_damaged_pointer_is_a_sentence(damage: bytes, tmp_path: Path) -> None:
    write_panel(tmp_path / "p1", tensors(), description())
    (tmp_path / "latest").write_bytes(damage)
    with pytest.raises(PanelError, match=f"latest is damaged .*{MEND}"):
        latest_panel(tmp_path)


@pytest.mark.parametrize("name", sorted(tensors()))
def test_a_flipped_bit_of_any_tensor_is_found_when_it_is_read(name: str, tmp_path: Path) -> None:
    """And not before: what is not read costs nothing."""
    held = tensors()
    write_panel(tmp_path / "p1", held, description())
    path = tmp_path / "p1" / "panel.safetensors"
    whole = path.read_bytes()
    at = whole.index(held[name].tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    panel = open_panel(tmp_path / "p1")
    for other in set(held) - {name}:
        np.testing.assert_array_equal(panel.tensors[other], held[other])
    with pytest.raises(PanelError, match=f"panel.safetensors is damaged .the tensor {name} is not the one.*{MEND}"):
        _ = panel.tensors[name]
    with pytest.raises(PanelError, match=MEND):
        checked_panel(tmp_path / "p1")


def test_any_byte_of_the_header_may_be_lost(tmp_path: Path) -> None:
    """Whatever it is, reading gives the tensors as they were, or a sentence."""
    held = tensors()
    write_panel(tmp_path / "p1", held, description())
    path = tmp_path / "p1" / "panel.safetensors"
    whole = path.read_bytes()
    for at in range(0, 8 + int.from_bytes(whole[:8], "little"), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        try:
            read = checked_panel(tmp_path / "p1").tensors
        except PanelError as error:
            assert MEND in str(error)
        else:
            np.testing.assert_array_equal(read["x"], held["x"])


def test_the_hash_does_not_depend_on_how_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(1000, dtype=np.int32).reshape(10, 100)
    alone = hashlib.sha256(hashlib.sha256(values.tobytes()).digest()).hexdigest()
    assert hashes.tensor_hash(values) == hashes.tensor_hash(values.T.copy().T) == alone
    monkeypatch.setattr(hashes, "PIECE", 1024)
    pieces = [values.tobytes()[i : i + 1024] for i in range(0, 4000, 1024)]
    expected = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
    assert hashes.tensor_hash(values) == expected != alone
    assert hashes.tensor_hash(np.zeros((0, 3), np.float32)) == hashlib.sha256(b"").hexdigest()


def test_days_are_found_by_date() -> None:
    one = description()
    assert one.places() == range(len(DAYS))
    assert one.places(date(2020, 1, 11), date(2020, 1, 14)) == range(5, 6)  # a weekend and a holiday before it
    with pytest.raises(FoldError, match="holds none of the days at hand"):
        one.places(date(2021, 1, 4), None)


def test_a_publication_is_whole_or_not_at_all(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".staged-{dead.pid}").mkdir()
    with pytest.raises(OSError, match="full"), staged_panel(tmp_path) as folder:
        assert folder.name == f".staged-{os.getpid()}"
        write_panel(folder, tensors(), description())
        raise OSError("the disk is full")
    assert list(tmp_path.iterdir()) == []
    with staged_panel(tmp_path) as folder:
        write_panel(folder, tensors(), description())
        publish_panel(folder, tmp_path, "p1")
    assert [p.name for p in tmp_path.iterdir()] == ["p1"]
    open_panel(tmp_path / "p1")


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_equal_panels_have_equal_bytes(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp("panel") for _ in range(2)]
    for folder in folders:
        write_panel(folder, dict(sorted(tensors(seed).items(), reverse=folder is folders[0])), description())
    ours, theirs = ((f / "panel.safetensors").read_bytes() for f in folders)
    assert ours == theirs


def test_every_tensor_is_described() -> None:
    assert all(spec.doc and spec.axes and spec.dtype for spec in SPECS)
