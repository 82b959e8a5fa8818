"""A request is one JSON document; single fields can be set over it."""

import json
from datetime import date
from pathlib import Path

import pytest

from atft_assets.calendar import trading_days
from atft_model.interchange.config import PhaseChanges
from atft_model.interchange.errors import FoldError, RequestError
from atft_model.interchange.fold import cut, write_fold
from atft_model.interchange.records import to_plain
from atft_model.interchange.request import (
    PredictRequest,
    Scoring,
    TrainRequest,
    predict_request,
    read_document,
    train_request,
    write_request,
)

FOLD = cut(trading_days(date(2018, 1, 4), date(2020, 12, 30)))


def test_a_training_request_is_written_and_read(tmp_path: Path) -> None:
    request = TrainRequest(
        Path("panel"), FOLD, 2, Path("out"), init=Path("parent"), preset="demo", network={"dropout": 0.2},
        curriculum=PhaseChanges(epochs=3, losses={"anchor": 0.1}), n_seeds=2, max_seconds=60,
    )  # fmt: skip
    write_request(tmp_path / "request.json", request)
    assert train_request(read_document(tmp_path / "request.json", [])) == request


def test_fields_are_set_over_a_document(tmp_path: Path) -> None:
    write_fold(tmp_path / "fold.json", FOLD)
    (tmp_path / "request.json").write_text(
        json.dumps({"panel": "p", "out": "o", "phase": 0, "network": {"dropout": 0}})
    )
    settings = [
        f"fold={tmp_path / 'fold.json'}", "phase=1", "init=runs/a", "network.hidden_size=32", "curriculum.epochs=2",
        "device=cpu", "resume=true", "max_seconds=null",
    ]  # fmt: skip
    request = train_request(read_document(tmp_path / "request.json", settings))
    assert request.fold == FOLD and request.phase == 1 and request.init == Path("runs/a")
    assert request.network == {"dropout": 0, "hidden_size": 32} and request.curriculum.epochs == 2
    assert request.device == "cpu" and request.resume and request.max_seconds is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("phase", "sets nothing: write name=value"),
        ("phase.x=1", "phase is no object with fields"),
        ("phase=7", "there is no phase 7; the phases are 0, 1, 2, 3"),
        ("n_seeds=0", "n_seeds is 0"),
        ("colour=red", "unknown fields: colour"),
        ("device=tpu", "device is 'tpu': use one of auto, cpu, cuda"),
        ("curriculum.epoch=1", "curriculum has unknown fields: epoch"),
    ],
)
def test_what_cannot_be_asked_is_named(setting: str, said: str, tmp_path: Path) -> None:
    write_fold(tmp_path / "fold.json", FOLD)
    whole = ["panel=p", "out=o", "phase=0", f"fold={tmp_path / 'fold.json'}"]
    with pytest.raises(RequestError, match=said):
        train_request(read_document(None, [*whole, setting]))


def test_a_fold_that_is_not_there_is_named() -> None:
    with pytest.raises(FoldError, match=r"nowhere\.json does not exist"):
        train_request(read_document(None, ["panel=p", "out=o", "phase=0", "fold=nowhere.json"]))


def test_a_prediction_names_days_or_takes_all() -> None:
    request = predict_request(read_document(None, ["panel=p", "run=r", "out=s.parquet", "first=2020-01-06"]))
    assert request == PredictRequest(Path("p"), Path("r"), Path("s.parquet"), first=date(2020, 1, 6))
    assert request.scorings == (Scoring(Path("r"), Path("s.parquet")),)


def test_several_runs_score_in_one_request() -> None:
    document = {"panel": "p", "run": "r", "out": "s", "also": [{"run": "q", "out": "t"}]}
    request = predict_request(document)
    assert request.scorings == (Scoring(Path("r"), Path("s")), Scoring(Path("q"), Path("t")))
    assert predict_request(to_plain(request)) == request
    with pytest.raises(RequestError, match="also has unknown fields: panel"):
        predict_request(document | {"also": [{"run": "q", "out": "t", "panel": "p"}]})
