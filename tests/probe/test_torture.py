"""RFC 4475's and RFC 5118's messages against a live server: it lives, answers as the RFCs say, and takes the next call.

``tests/sip/test_rfc4475.py`` says what the parser makes of each; here is what the network sees.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import pytest
from tests.probe.calls import whole_call
from tests.probe.drafts import new_request
from tests.probe.programs import Server, scripted, serving
from tests.probe.wire import PATIENCE_S, Peer, StreamPeer
from tests.vectors.location import vectors

SILENCE = 0
"""Beside statuses: no answer at all."""

RFC_4475: dict[str, tuple[set[int], str]] = {
    "wsinv": ({481}, "3.1.1.1: read as it is meant; its To has a tag of no dialog of ours"),
    "intmeth": ({405, 501}, "3.1.1.2: an unknown method in legal characters"),
    "esc01": ({200}, "3.1.1.3: escapes"),
    "escnull": ({405}, "3.1.1.4: a REGISTER, and we are no registrar"),
    "esc02": ({405, 501}, "3.1.1.5: an unknown method that looks like REGISTER when it is wrongly unescaped"),
    "lwsdisp": ({200}, "3.1.1.6: an OPTIONS"),
    "longreq": ({200}, "3.1.1.7: long values"),
    "dblreq": ({405}, "3.1.1.8: the REGISTER counts, what follows in the datagram does not"),
    "semiuri": ({200}, "3.1.1.9: an OPTIONS"),
    "transports": ({200}, "3.1.1.10: an OPTIONS; Vias of unknown transports below the top"),
    "mpart01": ({405, 501}, "3.1.1.11: a MESSAGE"),
    "unreason": ({SILENCE}, "3.1.1.12: a response to nothing"),
    "noreason": ({SILENCE}, "3.1.1.13: a response to nothing"),
    "badinv01": ({400}, "3.1.2.1"),
    "clerr": ({400}, "3.1.2.2: the body ends before its Content-Length"),
    "ncl": ({400}, "3.1.2.3"),
    "scalar02": ({400}, "3.1.2.4"),
    "scalarlg": ({SILENCE}, "3.1.2.5: a response is discarded"),
    "quotbal": ({400}, "3.1.2.6"),
    "ltgtruri": ({400, 200}, "3.1.2.7: may be tolerated"),
    "lwsruri": ({400}, "3.1.2.8"),
    "lwsstart": ({400, 200}, "3.1.2.9: may be tolerated"),
    "trws": ({400, 200}, "3.1.2.10: may be tolerated"),
    "escruri": ({400, 200}, "3.1.2.11: the escaped headers may be ignored"),
    "baddate": ({200, 400}, "3.1.2.12: we do not read Date"),
    "regbadct": ({400}, "3.1.2.13"),
    "badaspec": ({200, 400}, "3.1.2.14: may be tolerated"),
    "baddn": ({400}, "3.1.2.15: the file also lacks the empty line after its headers"),
    "badvers": ({505}, "3.1.2.16"),
    "mismatch01": ({400}, "3.1.2.17"),
    "mismatch02": ({400, 501}, "3.1.2.18"),
    "bigcode": ({SILENCE}, "3.1.2.19: a response is discarded"),
    "badbranch": ({200, 400}, "3.2.1: matched by the rules of RFC 2543"),
    "insuf": ({400}, "3.3.1"),
    "unkscm": ({416}, "3.3.2"),
    "novelsc": ({416}, "3.3.3"),
    "unksm2": ({405}, "3.3.4: a REGISTER"),
    "bext01": ({420}, "3.3.5"),
    "invut": ({415}, "3.3.6"),
    "regaut01": ({405}, "3.3.7: a REGISTER"),
    "multi01": ({400}, "3.3.8"),
    "mcl01": ({400}, "3.3.9"),
    "bcast": ({SILENCE}, "3.3.10: a response with two Vias is not ours"),
    "zeromf": ({200}, "3.3.11: for an endpoint Max-Forwards has no meaning"),
    "cparam01": ({405}, "3.3.12: a REGISTER"),
    "cparam02": ({405}, "3.3.13: a REGISTER"),
    "regescrt": ({405}, "3.3.14: a REGISTER"),
    "sdp01": ({406}, "3.3.15"),
    "inv2543": ({200}, "3.4.1: a caller of RFC 2543"),
    "test": ({SILENCE}, "in the archive, not in the RFC: a start line and nothing else"),
}

RFC_5118: dict[str, tuple[set[int], str]] = {
    "ipv6-good": ({405}, "4.1: a REGISTER"),
    "ipv6-bad": ({400}, "4.2: an address without brackets"),
    "port-ambiguous": ({405}, "4.3: a REGISTER"),
    "port-unambiguous": ({405}, "4.4: a REGISTER"),
    "via-received-param-with-delim": ({481}, "4.5: a BYE of no dialog"),
    "via-received-param-no-delim": ({200}, "4.5: an OPTIONS"),
    "ipv6-in-sdp": ({200, 488}, "4.6: the server of this test has no IPv6 to answer with"),
    "mult-ip-in-header": ({481}, "4.7: a BYE of no dialog"),
    "mult-ip-in-sdp": ({200, 488}, "4.8: the server of this test has no IPv6 to answer with"),
    "ipv4-mapped-ipv6": ({200, 488}, "4.9: the server of this test has no IPv6 to answer with"),
    "ipv6-bug-abnf-3-colons": ({200, 400}, "4.10: an OPTIONS"),
    "ipv6-correct-abnf-2-colons": ({200}, "4.10: an OPTIONS"),
}

BY_STREAM: dict[str, tuple[set[int], str]] = {
    "baddn": ({SILENCE}, "its headers never end, so the stream waits for more"),
    "clerr": ({SILENCE}, "its body is still to come"),
    "inv2543": ({400}, "no Content-Length: RFC 3261 §18.3 asks for one on a stream"),
}
"""Where a stream's framing makes a difference."""

REPLY_PORTS = {"quotbal": 5050, "mult-ip-in-header": 6050, "ipv4-mapped-ipv6": 19823}
"""Sent-by ports of the Vias, where the response goes without rport (RFC 3261 §18.2.2); 5060 where there is none."""

EXPECTED = RFC_4475 | RFC_5118
QUIET_S = 0.25
_hosts = itertools.count(1)


def octets(name: str) -> bytes:
    """As it is in the archive; RFC 5118's files have bare LF and a Content-Length that does not fit: mended."""
    if name in RFC_4475:
        return vectors("sip", "rfc4475", f"{name}.dat").read_bytes()
    text = vectors("sip", "rfc5118", name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    return re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head.rstrip()) + b"\r\n\r\n" + body


def own_host() -> str:
    """A loopback address of this test alone: the messages say to which port the responses go."""
    process = os.getpid()
    return f"127.{1 + process // 250 % 250}.{1 + process % 250}.{next(_hosts)}"


@pytest.fixture(scope="module", params=["UDP", "TCP"])
def answers_all(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    """A server whose one agent answers every number, and how to send to it."""
    vectors("sip")
    with serving(tmp_path_factory.mktemp("torture"), agents=(scripted("*"),)) as one:
        yield one, request.param


def answer_to(server: Server, transport: str, name: str) -> int:
    """The final status, or ``SILENCE``."""
    if transport == "UDP":
        return answer_by_udp(server, name)
    stream = StreamPeer(server.address)
    silent = SILENCE in BY_STREAM.get(name, EXPECTED[name])[0]
    try:
        stream.send(server.address, octets(name))
        while (status := stream.receive(within_s=QUIET_S if silent else PATIENCE_S).status) < 200:
            pass
    except (AssertionError, TimeoutError):
        return SILENCE
    finally:
        stream.close()
    return status


def answer_by_udp(server: Server, name: str) -> int:
    """An OPTIONS behind the message is answered after it; a call takes a moment more."""
    try:
        peer = Peer(own_host(), port := REPLY_PORTS.get(name, 5060))
    except OSError as error:
        pytest.skip(f"port {port} is taken on every address of this machine: {error}")
    mark = new_request(peer, server.address, "OPTIONS")
    peer.send(server.address, octets(name))
    peer.send(server.address, str(mark))
    status, marked = SILENCE, False
    while not marked or (status == SILENCE and SILENCE not in EXPECTED[name][0]):
        message = peer.receive()
        if message.all("call-id") == [mark.call_id]:
            marked = True
        elif message.status >= 200:
            status = message.status
    peer.close()
    return status


def test_every_message_of_the_archives_is_here() -> None:
    assert {path.stem for path in vectors("sip", "rfc4475").glob("*.dat")} == RFC_4475.keys()
    assert {path.name for path in vectors("sip", "rfc5118").iterdir()} == RFC_5118.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_server_answers_as_the_rfc_says_and_takes_the_next_call(
    answers_all: tuple[Server, str], peer: Peer, name: str
) -> None:
    server, transport = answers_all
    allowed, why = EXPECTED[name] if transport == "UDP" else BY_STREAM.get(name, EXPECTED[name])
    assert answer_to(server, transport, name) in allowed, why
    assert server.running
    whole_call(peer, server.address)
