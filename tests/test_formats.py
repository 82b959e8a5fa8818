"""docs/formats.md is what the definitions render."""

from pathlib import Path

from atft_model.interchange.formats import render

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"


def test_the_page_is_up_to_date() -> None:
    """Otherwise: `make docs`."""
    assert PAGE.read_text().rstrip("\n") == render().rstrip("\n")
