"""How a vendor's websocket is addressed."""

from __future__ import annotations

import pytest

from offhook.bridge.cascade.vendor_wire import headers_of, refusal, websocket_url


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.example.com", "wss://api.example.com/tts?a=1&b=true&c=x&c=y+z"),
        ("http://127.0.0.1:80/v1/", "ws://127.0.0.1:80/v1/tts?a=1&b=true&c=x&c=y+z"),
        ("ws://host", "ws://host/tts?a=1&b=true&c=x&c=y+z"),
    ],
)
def test_an_http_url_is_a_websockets_with_parameters(base_url: str, expected: str) -> None:
    assert websocket_url(base_url, "/tts", {"a": 1, "b": True, "c": ["x", "y z"], "d": None, "e": []}) == expected


def test_without_parameters_there_is_no_question_mark() -> None:
    assert websocket_url("wss://host", "/tts", {"a": None}) == "wss://host/tts"


def test_given_headers_go_over_our_own() -> None:
    given = {"authorization": "Token t", "X-Trace": "1"}
    assert headers_of({"Authorization": "Bearer k", "Version": "2"}, given) == (
        ("Version", "2"),
        ("authorization", "Token t"),
        ("X-Trace", "1"),
    )


def test_a_refusal_says_what_the_vendor_said() -> None:
    fault = refusal(401, b'{"title":"No such key"}')
    assert "No such key" in fault.problem
    assert fault.verdict == "fall_over"
