"""Which error an answer stands for: the service's own texts, told apart although they share two statuses."""

from datetime import date

import pytest

from atft_assets.jquants import errors
from atft_assets.jquants.endpoints import DAILY_BARS, INDICES
from atft_assets.jquants.errors import PermanentError, TransientError, refusal

MORE = "If you want more data, please check other plans:https://jpx-jquants.com/#dataset"


@pytest.mark.parametrize(
    ("status", "message", "kind", "says"),
    [
        (403, "The api key is required.", errors.MissingKey, "JQUANTS_API_KEY"),
        (403, "The incoming api key is invalid or expired.", errors.WrongKey, "dashboard"),
        (403, f"This API is not available on your subscription. {MORE}", errors.PlanGate, "needs the plan standard"),
        (403, "There is no active subscription for this account", errors.NoSubscription, "Choose a plan"),
        (403, "The requested endpoint does not exist. Please check the URL", errors.UnknownEndpoint, "BASE_URL"),
        (403, "This endpoint is not available", errors.PlanGate, "JQUANTS_PLAN"),
        (403, "Forbidden", errors.AccessDenied, "Forbidden"),
        (410, "", errors.UnknownEndpoint, "410"),
        (400, "This API requires at least 1 parameter as follows; date, code", errors.BadRequest, "date, code"),
        (400, "'from' must be older than 'to'", errors.BadRequest, "older"),
        (400, "No approval received", errors.PlanGate, "needs the plan"),
        (413, "Response data is too large.", errors.BadRequest, "413"),
        (429, "Too Many Requests", errors.RateLimited, "429"),
        (500, "Unexpected error. Please try again later.", errors.ServerError, "500"),
        (503, "", errors.ServerError, "503"),
        (302, "", errors.MalformedAnswer, "302"),
    ],
)
def test_kind_and_text(status, message, kind, says):
    error = refusal(INDICES, {"date": "2024-01-05"}, status, message)
    assert type(error) is kind
    assert says in str(error) and "/indices/bars/daily?date=2024-01-05" in str(error)
    assert isinstance(error, TransientError if status == 429 or status >= 500 or status < 400 else PermanentError)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        (f"Your subscription covers the following dates: 2024-03-21 ~ 2026-03-21. {MORE}",
         date(2024, 3, 21), date(2026, 3, 21)),
        (f"Your subscription covers the following dates: 2016-09-21 ~ . {MORE}", date(2016, 9, 21), None),
    ],
)  # fmt: skip
def test_the_covered_dates_are_read_from_the_message(text, first, last):
    error = refusal(DAILY_BARS, {"date": "2010-01-05"}, 400, text)
    assert isinstance(error, errors.OutsideWindow)
    assert (error.first, error.last) == (first, last)
    assert f"covers {first} ~ {last or 'today'}" in str(error) and "ATFT_START" in str(error)


def test_missing_field_names_endpoint_field_and_what_came_instead():
    error = errors.MissingField("/equities/bars/daily", {"date": "2024-01-05"}, ["O"], 7, "{'Open': 1.0}", ["Open"])
    text = str(error)
    assert all(part in text for part in ("/equities/bars/daily", "field O", "7 records", "Open"))
