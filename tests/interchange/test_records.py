"""Records go to JSON and come back the same; what does not fit is named."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft_model.interchange import config, panel, request, run
from atft_model.interchange.errors import ConfigError, RequestError
from atft_model.interchange.fold import Fold
from atft_model.interchange.records import choices_of, doc_of, entry, from_plain, to_plain, write_json

RECORDS = (
    config.Switches,
    config.ModelConfig,
    config.TrainConfig,
    config.LossWeights,
    config.PhaseChanges,
    config.Preset,
    Fold,
    panel.PanelFeature,
    panel.PanelDescription,
    request.TrainRequest,
    request.PredictRequest,
    run.Parent,
    run.RunRecord,
)


@dataclass(frozen=True)
class Inner:
    size: int = entry("A size", 1)


@dataclass(frozen=True)
class Record:
    name: str = entry("A name")
    day: date = entry("A day")
    kind: Literal["a", "b"] = entry("One of two", "a")
    ratio: float = entry("A ratio", 0.5)
    span: tuple[int, ...] = entry("Numbers", ())
    pair: tuple[date, float] | None = entry("A pair", None)
    inner: Inner = entry("A record", factory=Inner)
    free: Mapping[str, Any] = entry("Anything", factory=dict)
    path: Path | None = entry("A path", None)
    on: bool = entry("A switch", False)


records = st.builds(
    Record,
    name=st.text(),
    day=st.dates(),
    kind=st.sampled_from(["a", "b"]),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    span=st.lists(st.integers(-9, 9)).map(tuple),
    pair=st.none() | st.tuples(st.dates(), st.floats(0, 1)),
    inner=st.builds(Inner, size=st.integers(0, 9)),
    free=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
    path=st.none() | st.sampled_from([Path("/a/b"), Path("c")]),
    on=st.booleans(),
)


@given(records)
def test_to_json_and_back(record: Record) -> None:
    document = json.loads(json.dumps(to_plain(record)))
    assert from_plain(Record, document, "it") == record


GOOD = {"name": "n", "day": "2020-01-06"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 1}, "it has unknown fields: size; it knows name, day"),
        ({"day": "6 January"}, "it: day is '6 January': use YYYY-MM-DD"),
        ({"kind": "c"}, "it: kind is 'c': use one of a, b"),
        ({"ratio": "half"}, "it: ratio is 'half': it must be of type float"),
        ({"ratio": True}, "it: ratio is True"),
        ({"on": 1}, "it: on is 1: it must be of type bool"),
        ({"span": 3}, "it: span must be a list"),
        ({"span": [1, "x"]}, "it: span is 'x': it must be of type int"),
        ({"pair": ["2020-01-06"]}, "it: pair must have 2 items, not 1"),
        ({"inner": {"width": 2}}, "it: inner has unknown fields: width"),
        ({"free": []}, "it: free must be an object"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        from_plain(Record, {**GOOD, **changes}, "it", ConfigError)


def test_a_lacking_field_is_named_with_its_meaning() -> None:
    with pytest.raises(RequestError, match=r"it lacks the field day \(A day\)"):
        from_plain(Record, {"name": "n"}, "it", RequestError)
    with pytest.raises(RequestError, match="it must be an object"):
        from_plain(Record, [1], "it", RequestError)


def test_plain_values_are_strict_json(tmp_path: Path) -> None:
    value = {"nan": math.nan, "inf": np.float32("inf"), "n": np.int64(3), "path": Path("a"), 1: (1, date(2020, 1, 6))}
    expected = {"nan": None, "inf": None, "n": 3, "path": "a", "1": [1, "2020-01-06"]}
    assert to_plain(value) == expected
    write_json(tmp_path / "deep" / "x.json", value)
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == expected
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.json"]  # nothing staged is left


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_says_what_it_means(record: type) -> None:
    hints = get_type_hints(record)
    for field in fields(record):
        assert doc_of(field), f"{record.__name__}.{field.name}"
        assert field.name in hints


def test_choices_are_those_of_the_type() -> None:
    hints = get_type_hints(request.TrainRequest)
    assert choices_of(hints["preset"]) == tuple(config.PRESETS)
    assert choices_of(hints["mode"]) == ("safe", "optimized")
    assert choices_of(hints["seed"]) == ()
