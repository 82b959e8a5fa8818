"""The key appears in no log, repr, error, traceback, and reaches no other place than the header of its request."""

import logging
import pickle
import traceback

import pytest
import requests

from atft_assets.jquants.client import JQuantsClient, Patience
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.jquants.errors import JQuantsError, MalformedAnswer
from atft_assets.settings import Plan

from .scripted_server import Answer, scripted

KEY = "s3cr3t-0123456789-abcdef"
FAST = Patience(attempts=2, first_wait=0.001, longest_wait=0.001, throttled=2, first_freeze=(0, 0), next_freeze=0,
                connect=1, read=0.2)  # fmt: skip

ECHO = f"The incoming api key {KEY} is invalid or expired."
ANSWERS = {
    "echoed by a refusal": Answer({"message": ECHO}, 403),
    "echoed by a fault": Answer({"message": f"failed for {KEY}"}, 500),
    "echoed without JSON": Answer(f"bad key {KEY}".encode(), 400),
    "rate limit": Answer({"message": KEY}, 429),
    "reset": Answer(reset=True),
    "timeout": Answer({}, delay=0.5),
    "truncated": Answer(b'{"data": ['),
    "missing field": Answer({"data": [{"Date": "2024-01-04"}]}),
}


def everything_about(error: BaseException) -> str:
    """Its traceback with chained errors, and the reprs of every local of every frame, as debuggers print them."""
    parts = []
    seen = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        captured = traceback.TracebackException.from_exception(one, capture_locals=True, compact=False)
        parts += [*captured.format(chain=True), repr(one), str(one), repr(vars(one))]
        # what error trackers pick up from exceptions of requests
        request = getattr(one, "request", None)
        parts.append(str(getattr(request, "headers", "")))
        pending += [one.__cause__, one.__context__]
    # the test's own frame holds the script with the key; its locals do not count
    return "\n".join(part for part in parts if "test_secrecy.py" not in part)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_error_and_no_log_shows_the_key(name, caplog):
    caplog.set_level(logging.DEBUG)
    with (
        scripted(ANSWERS[name]) as server,
        JQuantsClient(server.base_url, KEY, Plan.PREMIUM, requests_per_minute=0, patience=FAST) as client,
    ):
        with pytest.raises(JQuantsError) as caught:
            client.fetch(TOPIX)
        assert server.requests[0].headers["x-api-key"] == KEY  # it was really in use
        assert KEY not in repr(client) + str(vars(client)) + repr(vars(client._key))
    assert KEY not in everything_about(caught.value)
    assert not any(isinstance(error, requests.RequestException) for error in chain(caught.value))
    assert KEY not in caplog.text
    assert KEY not in "".join(str(record.__dict__) for record in caplog.records)


def refused(client) -> JQuantsError:
    with pytest.raises(JQuantsError) as caught:
        client.fetch(TOPIX)
    return caught.value


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_a_redirect_does_not_carry_the_key_elsewhere():
    with scripted(Answer({"data": []})) as elsewhere:
        there = f"{elsewhere.base_url}/indices/bars/daily/topix"
        with (
            scripted(Answer({}, 302, headers={"Location": there})) as server,
            JQuantsClient(server.base_url, KEY, Plan.PREMIUM, requests_per_minute=0, patience=FAST) as client,
        ):
            error = refused(client)
        assert isinstance(error, MalformedAnswer) and "302" in str(error)
        assert elsewhere.requests == []


def test_a_client_cannot_be_pickled_into_a_file():
    client = JQuantsClient("http://127.0.0.1:9/v2", KEY, Plan.PREMIUM)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(client)
