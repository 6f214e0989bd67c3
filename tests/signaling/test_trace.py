"""What a log and a trace may show of a message."""

from __future__ import annotations

import time

import pytest
from tests.signaling.wire import request

from offhook.signaling.trace import redacted, sip_call_id_of
from offhook.sip.parser import parse_message

LONGEST_S = 1.0
"""Some 20 ms on an idle machine; coverage and other work are let pass. What is not linear takes minutes here."""


@pytest.mark.parametrize(
    ("data", "call_id"),
    [
        (b"OPTIONS sip:a SIP/2.0\r\nCall-ID: abc@d\r\n\r\n", "abc@d"),
        (b"OPTIONS sip:a SIP/2.0\r\ni:abc \r\n\r\n", "abc"),
        (b"OPTIONS sip:a SIP/2.0\r\nCALL-ID : x\r\n", "x"),
        (b"OPTIONS sip:a SIP/2.0\r\nCall-ID:\r\n \tfolded\r\n", "folded"),
        (b"OPTIONS sip:a SIP/2.0\r\nX: Call-ID: no\r\n\r\n", ""),
        (b"", ""),
    ],
)
def test_the_call_id_is_found_without_parsing(data: bytes, call_id: str) -> None:
    assert sip_call_id_of(data) == call_id


@pytest.mark.parametrize("call_id", ["a@b", "with space", "ü", "\udcff"])
def test_the_call_id_is_the_parser_s(call_id: str) -> None:
    data = request(call_id="CALLID").replace(
        b": CALLID\r\n", b": " + call_id.encode("utf-8", "surrogateescape") + b"\r\n"
    )
    assert sip_call_id_of(data) == call_id == parse_message(data).headers.get("Call-ID")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            b'Authorization: Digest username="bob", realm="r", nonce="n", response="0123abcd", cnonce="c"',
            b'Authorization: Digest username="bob", realm="r", nonce="n", response="xxxxxxxx", cnonce="c"',
        ),
        (b"Proxy-Authorization: Digest response=0123,nc=1", b"Proxy-Authorization: Digest response=xxxx,nc=1"),
        (b'AUTHORIZATION :digest RESPONSE = "0a"', b'AUTHORIZATION :digest RESPONSE = "xx"'),
        (b'Authorization: Digest a=1,\r\n response=\r\n\t"0a"', b'Authorization: Digest a=1,\r\n response=\r\n\t"xx"'),
        (b'Authentication-Info: rspauth="0a", qop=auth', b'Authentication-Info: rspauth="xx", qop=auth'),
        (b"Authorization: basic Ym9iOg==", b"Authorization: basic xxxxxxxx"),
        (b"Proxy-Authorization: Bearer a.b,\r\n c", b"Proxy-Authorization: Bearer xxxx\r\n x"),
        (b"Refer-To: <sip:bob@h?Authorization=a%22&X=y>", b"Refer-To: <sip:bob@h?Authorization=xxxx&X=y>"),
        (b"To: <sip:bob:secret@pbx>", b"To: <sip:bob:xxxxxx@pbx>"),
        (b"To: SIPS:bob:se:cret@pbx", b"To: SIPS:bob:xxxxxxx@pbx"),
        (b"a=crypto:1 AES_CM_128 inline:a2V5|2^20", b"a=crypto:1 AES_CM_128 inline:xxxx|2^20"),
        (b"a=crypto:1 AES_CM_128 inline:a2;inline:b2", b"a=crypto:1 AES_CM_128 inline:xx;inline:xx"),
        (b"a=ice-pwd:abc", b"a=ice-pwd:xxx"),
        (b"a=key-mgmt:mikey AQAF", b"a=key-mgmt:mikey xxxx"),
        (b"k=clear:abc", b"k=clear:xxx"),
    ],
)
def test_secrets_are_crossed_out_and_lengths_stay(line: bytes, shown: bytes) -> None:
    before, after = b"INVITE sip:x@y SIP/2.0\r\n", b"\r\nCSeq: 1 INVITE\r\n\r\n"
    assert redacted(before + line + after) == before + shown + after


@pytest.mark.parametrize(
    "line",
    [
        b"Contact: <sip:bob@10.0.0.1:5060>",
        b"Contact: <sip:10.0.0.1:5060;transport=tcp>",
        b'WWW-Authenticate: Digest realm="r", nonce="n"',
        b"X-Status: response=late",
        b"Content-Disposition: inline",
        b"k=prompt",
    ],
)
def test_what_is_no_secret_stays(line: bytes) -> None:
    data = b"SIP/2.0 401 Unauthorized\r\n" + line + b"\r\n\r\n"
    assert redacted(data) == data


@pytest.mark.parametrize(
    "piece",
    [
        *(b"sip:", b"sip:a:", b"sip:a:b@", b"\ni:", b"\r\n ", b"\nauthorization:", b"authorization response"),
        *(b'response="', b"?authorization=", b"inline:", b"a=key-mgmt:", b"\nk=a:", b" "),
    ],
)
@pytest.mark.parametrize("start", [b"", b"\nauthorization: response", b"\nauthorization:", b"\ni:", b"\nk="])
def test_no_message_is_slow(start: bytes, piece: bytes) -> None:
    data = start + piece * (65_535 // len(piece))
    took = []
    for _ in range(3):  # the best of three: the machine may be busy
        began = time.perf_counter()
        assert len(redacted(data)) == len(data)
        sip_call_id_of(data)
        took.append(time.perf_counter() - began)
    assert min(took) < LONGEST_S
