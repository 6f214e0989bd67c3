"""What a log may show of a message."""

from __future__ import annotations

import pytest

from offhook.signaling.trace import without_credentials

SECRET = b'Digest username="alice", response="5ccc069c403ebaf9f0171e9517f40e41"'


@pytest.mark.parametrize("header", [b"Authorization", b"Proxy-Authorization", b"AUTHORIZATION", b"authorization "])
def test_credentials_are_cut_and_the_rest_stays(header: bytes) -> None:
    message = b"INVITE sip:x@y SIP/2.0\r\n" + header + b": " + SECRET + b"\r\nCSeq: 1 INVITE\r\n\r\n"
    shown = without_credentials(message)
    assert b"5ccc069c" not in shown
    assert shown.startswith(b"INVITE sip:x@y SIP/2.0\r\n")
    assert shown.endswith(b"(cut)\r\nCSeq: 1 INVITE\r\n\r\n")


def test_credentials_on_folded_lines_are_cut() -> None:
    message = b'A: 1\r\nAuthorization: Digest username="a",\r\n response="5ccc069c",\r\n\tnc=1\r\nB: 2\r\n\r\n'
    assert without_credentials(message) == b"A: 1\r\nAuthorization: Digest (cut)\r\nB: 2\r\n\r\n"


def test_a_challenge_is_no_secret() -> None:
    message = b'SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\n\r\n'
    assert without_credentials(message) == message
