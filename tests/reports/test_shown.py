"""Numbers, lines and pictures as the UI shows them."""

import base64
import re
import xml.etree.ElementTree as ElementTree

import polars as pl
import pytest

from atft_assets.reports.curves import curves_markdown, overlay_png
from atft_assets.reports.shown import numbers, rounded
from atft_assets.reports.spark import INLINE_LIMIT, spark_markdown

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.18471740011758803, 0.1847), (1.23456e-7, 1.23e-7), (20537.7627, 20537.8), (-3.14159, -3.1416), (0.0, 0.0)],
)
def test_floats_are_rounded_and_still_numbers(value: float, shown: float) -> None:
    assert rounded(value) == shown


def test_only_finite_numbers_are_shown() -> None:
    fields = {"a": 1, "b": 0.123456, "c": float("nan"), "d": True, "e": "text", "f": None}
    assert numbers(fields) == {"a": 1, "b": 0.1235}


def picture(markdown: str) -> ElementTree.Element:
    (data,) = re.findall(r"data:image/svg\+xml;base64,([^)]+)\)", markdown)
    return ElementTree.fromstring(base64.b64decode(data))


@pytest.mark.parametrize("epochs", [1, 2, 7, 60, 400])
def test_the_line_fits_into_what_the_ui_shows_in_place(epochs: int) -> None:
    best = max(1, epochs // 2)
    values = [0.1 + 0.0137 * (epoch % 13) - 0.001 * epoch for epoch in range(1, epochs + 1)]
    markdown = spark_markdown(values, best, "validation RankIC")
    assert len(markdown) < INLINE_LIMIT
    svg = picture(markdown)
    text = [element.text for element in svg.iter(f"{SVG}text")]
    assert f"epoch {best} kept: {values[best - 1]:.4f}" in text[0]
    assert f"{max(values):.4f}" in text and str(epochs) in text
    (mark,) = svg.iter(f"{SVG}circle")
    line = next(svg.iter(f"{SVG}path")).attrib["d"]
    assert f"{mark.attrib['cx']} {mark.attrib['cy']}" in line.removeprefix("M").split("L")  # on the line, not near it


def test_a_run_that_kept_its_parents_weights_marks_no_epoch() -> None:
    svg = picture(spark_markdown([0.2, None, float("nan"), 0.1], 0, "RankIC"))
    assert not list(svg.iter(f"{SVG}circle"))
    assert "the weights it started from were kept" in next(svg.iter(f"{SVG}text")).text
    assert spark_markdown([None], 0, "RankIC") == "no RankIC yet"


def test_pictures_are_a_thousand_pixels_wide() -> None:
    metrics = pl.DataFrame(
        {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "rank_ic": [0.1, 0.3, 0.2], "rank_ic_1d": [0.2, 0.3, 0.4]}
    )
    shown = curves_markdown(metrics, "a run", kept_epoch=2)
    assert shown.startswith("![a run](data:image/png;base64,")
    for data in (shown.rpartition(",")[2].removesuffix(")"), overlay_png({"a": (metrics, 2), "b": (metrics, None)})):
        png = base64.b64decode(data)
        assert png[:4] == b"\x89PNG" and int.from_bytes(png[16:20]) == 1000
