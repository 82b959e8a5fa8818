"""Wrong settings and wrong input: each is refused in one sentence that names what is wrong and what is right.

How the command lines print such a sentence is tested where they are (`tests/tools`, `tests/e2e`).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from atft_assets.failures import Refusal
from atft_assets.settings import Settings, SettingsError
from tests.attack.lab import BEFORE, MONTH, Lab, sentence
from tests.training.small_market import END, START, make_world

BAD_KEY = "sandbox-key-with"


@dataclass(frozen=True)
class Wrong:
    """Exports that cannot be used, and words that the refusal must hold."""

    name: str
    exports: dict[str, str]
    says: tuple[str, ...]


WRONG = (
    Wrong("start after end", {"ATFT_START": "2023-01-04", "ATFT_END": "2022-01-04"}, ("ATFT_START", "ATFT_END")),
    Wrong("slashes in a date", {"ATFT_START": "2022/01/04"}, ("ATFT_START", "2022/01/04", "YYYY-MM-DD")),
    Wrong("a word for a date", {"ATFT_END": "tomorrow"}, ("ATFT_END", "tomorrow", "YYYY-MM-DD")),
    Wrong("a day that does not exist", {"ATFT_START": "2022-02-30"}, ("ATFT_START", "2022-02-30")),
    Wrong("no such plan", {"JQUANTS_PLAN": "foo"}, ("JQUANTS_PLAN", "foo", "free, light, standard, premium")),
    Wrong("a line break in the key", {"JQUANTS_API_KEY": f"{BAD_KEY}\nbreak"}, ("JQUANTS_API_KEY", "line break")),
    Wrong("a return in the key", {"JQUANTS_API_KEY": f"{BAD_KEY}\rbreak"}, ("JQUANTS_API_KEY", "line break")),
    Wrong("a blank in the key", {"JQUANTS_API_KEY": f"{BAD_KEY} blank"}, ("JQUANTS_API_KEY", "blank")),
    Wrong("a Greek letter in the key", {"JQUANTS_API_KEY": f"{BAD_KEY}-λ"}, ("JQUANTS_API_KEY", "ASCII")),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_wrong_exports(wrong: Wrong) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(wrong.exports)
    for word in wrong.says:
        assert word in str(caught.value)
    assert BAD_KEY not in str(caught.value)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", " ", "\t"])
def test_a_key_with_a_line_end_behind_it_is_the_key(end: str) -> None:
    assert not Settings.from_env({"JQUANTS_API_KEY": f"{BAD_KEY}{end}"}).sandbox


def test_a_data_root_that_is_a_file(lab: Lab) -> None:
    shutil.rmtree(lab.data)
    try:
        lab.data.write_text("")
        result = lab.run("daily_quotes", MONTH)
        said = sentence(result)
        assert not result.success and str(lab.data) in said and "ATFT_DATA" in said, said
        assert len([event for event in result.all_events if event.is_failure]) >= 1
        assert "STEP_UP_FOR_RETRY" not in {event.event_type_value for event in result.all_events}
    finally:
        lab.data.unlink()
        lab.data.mkdir()


def test_a_range_the_wrong_way_round(lab: Lab) -> None:
    lab.clean()
    span = "dagster/asset_partition_range_"
    tags = {f"{span}start": MONTH, f"{span}end": BEFORE}
    result = lab.job.execute_in_process(
        instance=lab.instance, asset_selection=[dg.AssetKey("daily_quotes")], raise_on_error=False, tags=tags
    )
    said = sentence(result)
    assert not result.success and "range" in said and "first month" in said, said


def test_a_panel_over_no_days(tmp_path: Path) -> None:
    world = make_world(tmp_path / "data")
    with pytest.raises(Refusal, match=f"no trading day from {END} to {START}"):
        world.plan(start=END.isoformat(), end=START.isoformat())
