"""Which headers are the application's."""

from __future__ import annotations

import pytest

from offhook.sip.custom_headers import MOST_CHARACTERS, MOST_HEADERS, custom_headers, is_custom_header, states_identity
from offhook.sip.headers import Headers


@pytest.mark.parametrize("name", ["X-Ticket", "P-Asserted-Identity", "Diversion", "x-a", "Subject"])
def test_an_application_may_send(name: str) -> None:
    assert is_custom_header(name, "value")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Via", "x"),
        ("f", "x"),
        ("CONTACT", "x"),
        ("Content-Length", "0"),
        ("Refer-To", "x"),
        ("X-A", "a\r\nVia: b"),
        ("X-A", "a\nVia: b"),
        ("X-A", "a\x0bVia: b"),
        ("X-A", "a\x85Via: b"),
        ("X-A", "a\u2028Via: b"),
        ("X-A", "a\x00b"),
        ("X A", "x"),
        ("", "x"),
        ("X-A", "x" * (MOST_CHARACTERS + 1)),
    ],
)
def test_it_may_not_send(name: str, value: str) -> None:
    assert not is_custom_header(name, value)


def test_an_application_is_told_a_bounded_number_of_those_that_came() -> None:
    headers = Headers([("From", "x"), *((f"X-{number}", "v") for number in range(100))])
    found = custom_headers(headers)
    assert len(found) == MOST_HEADERS
    assert found[0] == ("X-0", "v")


@pytest.mark.parametrize("name", ["P-Asserted-Identity", "p-preferred-identity", "P-Charge-Info", "Remote-Party-ID"])
def test_these_say_who_calls(name: str) -> None:
    assert states_identity(name)
    assert not states_identity("X-Ticket")
