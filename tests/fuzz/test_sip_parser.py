"""One invariant: whatever bytes arrive, ``parse_message`` returns a message that serialises and parses back to
itself, or raises SipParseError; fed whole and byte by byte through ``StreamParser``, too.

Beside it, what the shells rely on: no view of a parsed message raises, what is said to be answerable can be
answered, a stream keeps no more than its limit, and no input takes longer than 50 ms.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.model.errors import SipParseError
from offhook.sip.message import Request, Response, SipMessage, response_to, serialize
from offhook.sip.parser import (
    MAX_BUFFER_BYTES,
    MAX_HEADER_SECTION_BYTES,
    MAX_HEADERS,
    MAX_LINE_BYTES,
    Broken,
    KeepAlive,
    MalformedRequest,
    StreamItem,
    StreamParser,
    parse_message,
)

LONGEST_S = 0.050
ROUNDS = 1_500
SOAK_ROUNDS = 150_000

# ── the invariant ────────────────────────────────────────────────────────────────────────────────────────


def check(data: bytes) -> None:
    check_datagram(data)
    check_stream(data)


def check_datagram(data: bytes) -> None:
    assert is_quick(is_message, data)
    try:
        message = parse_message(data)
    except SipParseError as error:
        check_error(error)
    else:
        check_message(message)


def is_message(data: bytes) -> bool:
    try:
        parse_message(data)
    except SipParseError:
        return False
    return True


def is_quick(action: Callable[[bytes], object], data: bytes) -> bool:
    """Whether one of three tries stays within the time; a garbage collection may fall into any of them."""
    return any(cpu_seconds(action, data) < LONGEST_S for _ in range(3))


def cpu_seconds(action: Callable[[bytes], object], data: bytes) -> float:
    started = thread_time()
    action(data)
    return thread_time() - started


def check_message(message: SipMessage) -> None:
    _ = message.via_top, message.from_, message.to, message.sip_call_id, message.cseq
    _ = message.contact, message.max_forwards
    written = serialize(message)
    message.headers.set("Content-Length", str(len(message.body)))
    if is_within_limits(written):
        assert parse_message(written) == message


def is_within_limits(written: bytes) -> bool:
    """At the very edge of a limit a message may grow past it: compact forms and Content-Length are written out."""
    head = written.partition(b"\r\n\r\n")[0]
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    sizes = len(head) <= MAX_HEADER_SECTION_BYTES and max(map(len, lines)) <= MAX_LINE_BYTES
    return sizes and len(lines) - 1 <= MAX_HEADERS


def check_error(error: SipParseError) -> None:
    assert error.status in {400, 413, 505, 513}
    if isinstance(error, MalformedRequest) and error.request is not None:
        assert error.request.method != "ACK"
        _ = error.request.via_top
        assert serialize(response_to(error.request, error.status, to_tag="t")).endswith(b"\r\n\r\n")


def check_stream(data: bytes) -> None:
    assert is_quick(lambda octets: StreamParser().feed(octets), data)
    whole = StreamParser().feed(data)
    stream = StreamParser()
    one_by_one: list[StreamItem] = []
    for octet in data:
        one_by_one += stream.feed(octet.to_bytes())
        assert stream.buffered <= MAX_BUFFER_BYTES
    assert list(map(comparable, one_by_one)) == list(map(comparable, whole))
    for item in whole:
        check_item(item)


def check_item(item: StreamItem) -> None:
    match item:
        case Request() | Response():
            check_message(item)
        case Broken():
            check_error(item.error)
        case SipParseError():
            check_error(item)
        case KeepAlive():
            pass


def comparable(item: StreamItem) -> object:
    """Errors compare by identity; here they are the same when they say the same."""
    error = item.error if isinstance(item, Broken) else item
    if not isinstance(error, SipParseError):
        return item
    return type(item), str(error), error.status, error.request if isinstance(error, MalformedRequest) else None


# ── what is fed ──────────────────────────────────────────────────────────────────────────────────────────

SEEDS = [
    b"INVITE sip:demo@192.0.2.1:5060;transport=udp SIP/2.0\r\n"
    b"Record-Route: <sip:198.51.100.7;lr;ftag=as5d1f>\r\n"
    b"Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK4f1a.7, SIP/2.0/TCP [2001:db8::9];received=192.0.2.9;rport=5\r\n"
    b'From: "Jos\xc3\xa9 \\"x\\", y" <sip:+15550100000@198.51.100.20;user=phone>;tag=as6f\r\n'
    b'To: sip:demo@192.0.2.1;x=y\r\nContact: <sip:a@198.51.100.20:5060>;+sip.instance="<urn:uuid:1>", <tel:+1>\r\n'
    b"Call-ID: 0c3b6a@198.51.100.20\r\nCSeq: 102 INVITE\r\nMax-Forwards: 69\r\nSubject: folded\r\n \tvalue\r\n"
    b"Content-Type: application/sdp\r\nContent-Length: 13\r\n\r\nv=0\r\n\r\nm=a 1\r\n",
    b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@b>;tag=1\r\nt: <sip:c@d>;tag=2\r\ni: x\r\n"
    b"m: *\r\nCSeq : 1 BYE\r\nl: 0\r\n\r\n",
    b"\r\n\r\nACK tel:+49301234 SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: a:b\r\nTo: a:b\r\nCall-ID: \xff\xfe\r\n"
    b"CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n\r\n\r\n",
]

TOKENS = [
    b"\r\n", b"\r\n\r\n", b"\r\n ", b"\r", b"\n", b"\0", b" ", b"\t", b":", b";", b",", b"<", b">", b'"', b"\\", b"=",
    b"@", b"?", b"%00", b"[", b"]", b"::", b"SIP/2.0", b"SIP/7.0", b"sip:", b"tel:", b"\xc3", b"\xe9", b"\xed\xa0\x80",
    b"\xc5\xbf", b"\xe2\x84\xaa", b"\xc2\x85", b"\xe2\x80\xa8", b"\xd9\xa3", b"-1", b"0", b"99999999999", b"4294967296",
    b"Via: SIP/2.0/UDP x\r\n", b"Content-Length: 5\r\n", b"l: 0\r\n", b"CSeq: 1 ACK\r\n", b"To: <sip:a>\r\n", b"*",
]  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """One to three seeds, one after another, with up to eight small damages."""
    data = bytearray(b"".join(rng.choices(SEEDS, k=rng.randint(1, 3))))
    for _ in range(rng.randint(0, 8)):
        rng.choice(MUTATIONS)(data, rng)
    return bytes(data)


def flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.choice(TOKENS) * rng.choice((1, 1, 1, 2, 40))


def cut(data: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(data))
    del data[at : at + rng.choice((1, 2, 5, 40, 400))]


def duplicate(data: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = data[at : at + rng.choice((1, 10, 80, 300))]


def swap_lines(data: bytearray, rng: random.Random) -> None:
    lines = data.split(b"\r\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    data[:] = b"\r\n".join(lines)


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [flip, insert, insert, cut, duplicate, swap_lines]


def fuzz(rounds: int) -> None:
    seed = int(os.environ.get("OFFHOOK_FUZZ_SEED") or random.randrange(2**32))
    print(f"OFFHOOK_FUZZ_SEED={seed}")  # pytest shows it with a failure
    rng = random.Random(seed)
    parsed = 0
    for _ in range(rounds):
        data = mutated(rng)
        check(data)
        parsed += is_message(data)
    assert rounds // 20 < parsed < rounds - rounds // 20  # else the damage is too heavy or too light to find much


# ── the tests ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", SEEDS, ids=["INVITE", "200", "ACK"])
def test_the_seeds_are_messages(data: bytes) -> None:
    assert is_message(data)
    check(data)


@given(st.binary(max_size=200) | st.lists(st.sampled_from([*TOKENS, *SEEDS]), max_size=12).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data: bytes) -> None:
    check(data)


def header_value() -> st.SearchStrategy[str]:
    """Text with the characters headers are made of more often than others."""
    special = st.sampled_from([*';,<>"\\=@?%[]:*/ ', "sip:", "SIP/2.0/UDP ", "a", "1"])
    return st.lists(special | st.characters(codec="utf-8"), max_size=12).map("".join)


@given(
    st.fixed_dictionaries(
        {name: header_value() for name in ("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "X")}
    ),
    st.sets(st.sampled_from(["Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "X"]), max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_any_text_in_a_header(strange: dict[str, str], chosen: set[str]) -> None:
    usual = {
        "Via": "SIP/2.0/UDP h",
        "From": "<sip:a@b>;tag=1",
        "To": "<sip:a@b>",
        "Call-ID": "x",
        "CSeq": "1 BYE",
        "Contact": "<sip:a@b>",
        "Max-Forwards": "70",
        "X": "",
    }
    lines = [f"{name}: {strange[name] if name in chosen else value}" for name, value in usual.items()]
    check("\r\n".join(["BYE sip:a@b SIP/2.0", *lines, "Content-Length: 0", "", ""]).encode())


def test_damaged_messages() -> None:
    fuzz(ROUNDS)


@pytest.mark.soak
def test_damaged_messages_for_minutes() -> None:
    fuzz(SOAK_ROUNDS)


REPEATED = [
    '"', "<", ">", ",", ";", "\\", " ", "\r\n ", "=", ":", "[", "::", "%", "?", "@", "0", "\0", "é", "a", "a,", "a:b,",
    ";a", ";a=b", "a;=,", '"",', '"\\', "<>,", "<a:b>,", "sip:a@b,", "sip:a@b;", "SIP/2.0/UDP a,", "SIP/2.0/UDP a;",
]  # fmt: skip

PLACES = [
    "Via: {}", "Via: SIP/2.0/UDP h{}", "From: {}", "To: <sip:a@b>{}", "Contact: {}", "Contact: <sip:{}>", "Route: {}",
    "Record-Route: {}", "Call-ID: {}", "CSeq: 1{} BYE", "X: {}", "X{}: y", "{}",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("repeated", REPEATED)
def test_no_input_takes_long(place: str, repeated: str) -> None:
    """As many lines as fit, each as long as allowed, of what makes naive parsers quadratic; and one of all."""
    room = MAX_LINE_BYTES - len(place)
    line = place.format(repeated * (room // len(repeated)))
    lines = [line] * ((MAX_HEADER_SECTION_BYTES - 300) // len(line.encode()))
    unlimited = place.format(repeated * (60_000 // len(repeated.encode())))
    for strange in (lines, lines[:1], [unlimited]):
        head = ["BYE sip:a@b SIP/2.0", "Via: SIP/2.0/UDP h", "From: <sip:a@b>;tag=1", "To: <sip:a@b>", "Call-ID: x"]
        check_datagram("\r\n".join([*head, "CSeq: 1 BYE", *strange, "", ""]).encode())
        check_datagram("\r\n".join([head[0], *strange, *head[1:], "CSeq: 1 BYE", "", ""]).encode())
        check_datagram("\r\n".join([f"BYE sip:{strange[0]} SIP/2.0", *head[1:], "", ""]).encode())
