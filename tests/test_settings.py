"""Settings: every default, every refusal."""

from datetime import date

import pytest

from atft_assets.partitions import months
from atft_assets.settings import DEMO_END, DEMO_START, JQUANTS_URL, Plan, Settings, SettingsError

TODAY = date(2026, 11, 23)


def read(**environ: str) -> Settings:
    return Settings.from_env(environ, today=TODAY)


def test_nothing_exported_is_the_sandbox_with_the_demo_range():
    settings = read(ATFT_START=" ", JQUANTS_API_KEY="")  # empty counts as absent
    assert settings.sandbox and settings.plan is Plan.STANDARD
    assert (settings.start, settings.end) == (DEMO_START, DEMO_END)
    keys = months(settings).get_partition_keys()
    assert (keys[0], keys[-1], len(keys)) == ("2022-01", "2024-12", 36)


def test_a_key_means_the_real_service_and_the_window_of_its_plan():
    settings = read(JQUANTS_API_KEY="secret")
    assert settings.base_url == JQUANTS_URL and settings.plan is Plan.LIGHT and not settings.sandbox
    assert settings.start == date(2021, 12, 1) and settings.end is None
    assert "secret" not in repr(settings) + settings.model_dump_json()
    assert read(JQUANTS_API_KEY="k", JQUANTS_PLAN="Premium").start == date(2006, 12, 1)


def test_free_lags_twelve_weeks():
    settings = read(JQUANTS_API_KEY="k", JQUANTS_PLAN="free")
    assert settings.end == date(2026, 8, 31)
    assert settings.start == date(2024, 9, 1)


def test_a_given_range_makes_its_months():
    settings = read(JQUANTS_BASE_URL="http://127.0.0.1:9/v2/", ATFT_START="2014-01-20", ATFT_END="2019-12-15")
    assert settings.base_url == "http://127.0.0.1:9/v2"
    keys = months(settings).get_partition_keys()
    assert (keys[0], keys[-1], len(keys)) == ("2014-01", "2019-12", 72)


def test_the_current_month_exists_without_an_end():
    keys = months(read(JQUANTS_API_KEY="k")).get_partition_keys(
        current_time=__import__("datetime").datetime(2026, 11, 23)
    )
    assert keys[-1] == "2026-11"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"JQUANTS_PLAN": "gold"}, "JQUANTS_PLAN is 'gold': use one of free, light, standard, premium"),
        ({"ATFT_START": "2024/01/04"}, "ATFT_START is '2024/01/04': use YYYY-MM-DD"),
        ({"ATFT_START": "2024-02-01", "ATFT_END": "2024-01-01"}, "is after ATFT_END"),
    ],
)
def test_bad_settings_say_what_is_accepted(environ, says):
    with pytest.raises(SettingsError, match=says.replace("(", r"\(")):
        read(**environ)
