"""What a log may show of a message."""

from __future__ import annotations

import pytest

from offhook.signaling.trace import redacted, sip_call_id_of, without_credentials

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


@pytest.mark.parametrize(
    ("data", "call_id"),
    [
        (b"OPTIONS sip:a SIP/2.0\r\nCall-ID: abc@d\r\n\r\n", "abc@d"),
        (b"OPTIONS sip:a SIP/2.0\r\ni:abc \r\n\r\n", "abc"),
        (b"OPTIONS sip:a SIP/2.0\r\nCALL-ID : x\r\n", "x"),
        (b"OPTIONS sip:a SIP/2.0\r\nX: Call-ID: no\r\n\r\n", ""),
        (b"", ""),
    ],
)
def test_the_call_id_is_found_without_parsing(data: bytes, call_id: str) -> None:
    assert sip_call_id_of(data) == call_id


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (
            b'Authorization: Digest username="bob", realm="r", nonce="n", response="0123abcd", cnonce="c"',
            b'Authorization: Digest username="bob", realm="r", nonce="n", response="xxxxxxxx", cnonce="c"',
        ),
        (b"Proxy-Authorization: Digest response=0123", b"Proxy-Authorization: Digest response=xxxx"),
        (b"Authorization: Basic Ym9iOg==", b"Authorization: Basic xxxxxxxx"),
        (b"To: <sip:bob:secret@pbx>", b"To: <sip:bob:xxxxxx@pbx>"),
        (
            b"a=crypto:1 AES_CM_128 inline:a2V5|2^20",
            b"a=crypto:1 AES_CM_128 inline:xxxx|2^20",
        ),
        (b"a=ice-pwd:abc\r\nm=", b"a=ice-pwd:xxx\r\nm="),
        (b"Contact: <sip:bob@10.0.0.1:5060>", b"Contact: <sip:bob@10.0.0.1:5060>"),
    ],
)
def test_secrets_are_crossed_out_and_lengths_stay(data: bytes, shown: bytes) -> None:
    assert redacted(data) == shown
    assert len(shown) == len(data)
