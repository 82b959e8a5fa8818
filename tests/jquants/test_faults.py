"""Every fault is an error of ours, says what happened in its own words, and what to do; none shows the key."""

import socket
import ssl

import pytest
import requests

from atft_assets.jquants import errors
from atft_assets.jquants.answers import words
from atft_assets.jquants.client import JQuantsClient
from atft_assets.jquants.endpoints import TOPIX
from atft_assets.jquants.faults import explained
from atft_assets.jquants.patience import Patience
from atft_assets.settings import Plan

from .scripted_server import Answer, scripted

ONCE = Patience(attempts=1, throttled=1, listings=1, first_freeze=(0, 0), next_freeze=0, connect=2, read=1, whole=5)
KEY = "key-for-tests-0123"
PAGE = b"<html><head><title>Maintenance</title><script>var x;</script></head><body>Closed until 9:00</body></html>"


def error_of(base_url: str, key: str = KEY) -> errors.JQuantsError:
    with (
        JQuantsClient(base_url, key, Plan.PREMIUM, requests_per_minute=0, patience=ONCE) as client,
        pytest.raises(errors.JQuantsError) as caught,
    ):
        client.fetch(TOPIX)
    assert KEY not in str(caught.value)
    return caught.value


def deep(depth: int = 100_000) -> bytes:
    return b'{"data": [{"Date": ' + b"[" * depth + b"]" * depth + b"}]}"


HOSTILE = {
    "key of pages is a list": (Answer({"data": [], "pagination_key": ["a"]}), errors.MalformedAnswer, "is a list"),
    "key of pages is a map": (
        Answer({"data": [], "pagination_key": {"a": 1}}),
        errors.MalformedAnswer,
        "is a dict",
    ),
    "key of pages is a number": (Answer({"data": [], "pagination_key": 7}), errors.MalformedAnswer, "is a int"),
    "nested 100,000 deep": (Answer(deep()), errors.MalformedAnswer, "nested deeper"),
    "a refusal nested 100,000 deep": (Answer(deep(), 400), errors.BadRequest, "HTTP 400"),
    "an integer of 5,000 digits": (Answer(b'{"data": [' + b"9" * 5000 + b"]}"), errors.MalformedAnswer, "not JSON"),
    "a web page": (Answer(PAGE), errors.MalformedAnswer, "'Maintenance Closed until 9:00'"),
    "a web page with the key": (Answer(b"<p>bad " + KEY.encode()), errors.MalformedAnswer, "bad ***"),
    "broken gzip": (Answer(b"xxxx", headers={"Content-Encoding": "gzip"}), errors.ConnectionFault, "not valid gzip"),
    "401": (Answer({"message": "Unauthorized"}, 401), errors.AccessDenied, "Check JQUANTS_API_KEY"),
    "404": (Answer({"message": "Not Found"}, 404), errors.UnknownEndpoint, "JQUANTS_BASE_URL"),
    "418": (Answer({}, 418), errors.BadRequest, "check JQUANTS_BASE_URL"),
    "500": (Answer({}, 500), errors.ServerError, "run the same command later"),
    "502 with a page": (Answer(PAGE, 502), errors.ServerError, "Closed until 9:00"),
    "a long message": (Answer({"message": "x" * 10_000}, 400), errors.BadRequest, "x…"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_an_error_of_ours_with_a_remedy(name):
    answer, kind, says = HOSTILE[name]
    with scripted(answer) as server:
        error = error_of(server.base_url)
    assert type(error) is kind and says in str(error)
    assert error.remedy and len(str(error)) < 800


@pytest.mark.parametrize("key", [KEY + "\r", KEY + "\n", KEY + "é\r\n", KEY + "キー"])
def test_a_key_that_no_header_can_hold_is_not_shown(key):
    """Settings refuse such a key; should one come by another way, the client refuses too, and at once."""
    with scripted(Answer({"data": []})) as server:
        error = error_of(server.base_url, key)
        assert isinstance(error, errors.Unsendable) and server.requests == []
    assert error.__cause__ is None and error.__context__ is None


def test_an_address_that_is_none_is_permanent():
    assert isinstance(error_of("gopher://127.0.0.1/v2"), errors.Unsendable)


def test_nothing_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        error = error_of(f"http://127.0.0.1:{port}/v2")
    assert f"127.0.0.1:{port} refuses it" in str(error) and "nothing listens there" in error.remedy


def test_a_name_that_does_not_resolve(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = error_of("https://api.jquants.example/v2")
    assert "the name of api.jquants.example does not resolve" in str(error) and "DNS" in error.remedy
    assert str(error).count("resolve") == 1


def test_plain_text_where_tls_is_spoken():
    with scripted(Answer({"data": []})) as server:
        error = error_of(server.base_url.replace("http:", "https:").replace("127.0.0.1", "localhost"))
    assert "TLS with localhost" in str(error) and "does that port speak https?" in error.remedy


def test_an_untrusted_certificate_and_a_failing_proxy():
    untrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
    untrusted.verify_message = "self-signed certificate"
    said, remedy = explained(requests.exceptions.SSLError(untrusted), "host")
    assert "not trusted (self-signed certificate)" in said and "REQUESTS_CA_BUNDLE" in remedy
    refused = requests.exceptions.ProxyError(ConnectionRefusedError(111, "Connection refused"))
    said, remedy = explained(refused, "host")
    assert said == "the proxy of the environment failed (connection refused)" and "HTTPS_PROXY" in remedy


def test_first_words_of_a_body():
    assert words(PAGE) == "Maintenance Closed until 9:00"
    assert words(b"\x00\x01bin\xffary\n") == "bin\ufffdary"
    assert words(b"word " * 100).endswith("…") and len(words(b"word " * 100)) == 120
