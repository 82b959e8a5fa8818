"""Settings: every default, every refusal."""

from datetime import date

import pytest

from atft_assets.partitions import months
from atft_assets.settings import (
    DEMO_END,
    DEMO_START,
    JQUANTS_URL,
    PLAIN_SECRETS,
    Plan,
    Settings,
    SettingsError,
    clean_key,
    secrets,
)

TODAY = date(2026, 11, 23)


def read(**environ: str) -> Settings:
    return Settings.from_env(environ, today=TODAY)


def test_nothing_exported_is_the_sandbox_with_the_demo_range():
    settings = read(ATFT_START=" ", JQUANTS_API_KEY="")  # empty counts as absent
    assert settings.sandbox and settings.plan is Plan.STANDARD
    assert (settings.start, settings.end) == (DEMO_START, DEMO_END)
    keys = months(settings).get_partition_keys()
    assert (keys[0], keys[-1], len(keys)) == ("2022-01", "2025-09", 45)


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


BAD_KEYS = {
    "a line break inside": ("abcd1234\r\nX-Other: efgh5678", "a line break inside it"),
    "a blank inside": ("abcd1234 efgh5678", "a blank inside it"),
    "not ASCII": ("abcd1234é", "a letter outside ASCII"),
    "a control character": ("abcd\x001234", "a control character"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(name: str) -> None:
    key, says = BAD_KEYS[name]
    with pytest.raises(SettingsError, match=r"^JQUANTS_API_KEY has ") as caught:
        Settings.from_env({"JQUANTS_API_KEY": key})
    assert says in str(caught.value) and "abcd" not in str(caught.value)


@pytest.mark.parametrize("around", ["{}\r", "{}\n", " {}\t\r\n", "{}"])
def test_blanks_and_line_ends_around_a_key_are_no_fuss(around: str) -> None:
    key = around.format("abcd1234")
    assert clean_key(key) == "abcd1234"
    settings = Settings.from_env({"JQUANTS_API_KEY": key})
    assert settings.has_key and not settings.sandbox and "abcd1234" not in repr(settings)


@pytest.mark.parametrize(
    "url", ["api.example.com/v2", "ftp://host/v2", "http://", "http://[::1/v2", "http://host:x/v2"]
)
def test_an_address_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="JQUANTS_BASE_URL is not an address") as caught:
        Settings.from_env({"JQUANTS_BASE_URL": url})
    assert url not in str(caught.value)


def test_the_secrets_of_the_environment() -> None:
    key, word = "abcd1234", "pass0word"
    environ = {
        "JQUANTS_API_KEY": f"{key}\r\n",
        "ATFT_SANDBOX_KEY": "sand5678",
        "JQUANTS_BASE_URL": f"http://u:{word}0@host/v2",  # pragma: allowlist secret
        "ATFT_ALERT_URLS": f"slack://TokenA1/TokenB2/TokenC3/#alerts jsons://taro.y:{word}@h/services?token=quer7777",
        "ATFT_DATA": "folder99",
        **{name: f"of-{name.lower()}" for name in PLAIN_SECRETS},
        "AWS_ACCESS_KEY_ID": "no-secret-by-itself",
        "ATFT_PG_URL": "postgresql+psycopg2://atft_user:data%40base@db.example:5432/atft",  # pragma: allowlist secret
    }
    found = secrets(environ)
    assert {"data%40base", "data@base"} <= set(found) and not {"atft_user", "db.example"} & set(found)
    assert {"abcd1234", "abcd1234\r\n", "sand5678", "TokenA1", "TokenB2", "TokenC3", "pass0word"} <= set(found)
    assert {"of-pgpassword", "of-aws_secret_access_key", "of-aws_session_token", "of-ray_auth_token"} <= set(found)
    assert "no-secret-by-itself" not in found
    assert "quer7777" in found and not {"services", "host", "u", "folder99"} & set(found)
    assert found == sorted(found, key=len, reverse=True)


def test_where_trainings_run():
    here = read()
    assert (here.trainings, here.ray_url, here.fans_out, here.lock_folder) == (1, None, False, "")
    several = read(ATFT_TRAININGS="4", ATFT_LOCKS="/run/atft")
    assert several.trainings == 4 and several.fans_out and several.lock_folder == "/run/atft"
    cluster = read(ATFT_RAY_URL="http://10.77.0.1:8265/", ATFT_RAY_TOKEN_PATH="/etc/t", ATFT_RAY_TASK="cpus=4 gpus=.5")
    assert cluster.ray_url == "http://10.77.0.1:8265" and cluster.fans_out and cluster.ray_token_path == "/etc/t"
    assert (cluster.ray_task.cpus, cluster.ray_task.gpus) == (4, 0.5)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ATFT_TRAININGS", "0", "ATFT_TRAININGS is '0': use a whole number"),
        ("ATFT_TRAININGS", "two", "use a whole number"),
        ("ATFT_RAY_URL", "10.77.0.1:8265", "ATFT_RAY_URL is not an address such as http://head:8265"),
        ("ATFT_RAY_TASK", "cpus=0", "use words such as cpus=4 gpus=1"),
        ("ATFT_RAY_TASK", "cpu=4", "use words such as cpus=4 gpus=1"),
    ],
)
def test_what_cannot_say_where_trainings_run(name: str, value: str, said: str):
    with pytest.raises(SettingsError, match=said):
        read(**{name: value})


def test_a_password_in_the_address_of_the_cluster_is_refused_unsaid():
    with pytest.raises(SettingsError, match="holds a password") as refused:
        read(ATFT_RAY_URL="http://me:hunter22@10.77.0.1:8265")  # pragma: allowlist secret
    assert "hunter22" not in str(refused.value)
