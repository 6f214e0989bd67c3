"""What the server refuses, with which status, and what it says about it."""

from __future__ import annotations

import re
import time

import pytest
from tests.probe.calls import whole_call
from tests.probe.drafts import Draft, new_request, new_via, sdp
from tests.probe.programs import Server
from tests.probe.wire import HOST, Message, Peer


def refused(server: Server, peer: Peer, request: Draft) -> Message:
    """The final response; a refused INVITE is acknowledged."""
    peer.send(server.address, str(request))
    answer = peer.final(request.method)
    if request.method == "INVITE":
        peer.send(server.address, str(request.companion("ACK").with_(to=answer.get("to"))))
    return answer


def test_an_unknown_extension_required_gets_420(server: Server, peer: Peer) -> None:
    """RFC 3261 §8.2.2.3: Unsupported lists what is not understood."""
    invite = new_request(peer, server.address).with_(extra="Require: 100rel, x-telepathy\nRequire: x-smell\n")
    answer = refused(server, peer, invite)
    assert answer.status == 420
    assert set(answer.get("unsupported").split(", ")) == {"x-telepathy", "x-smell"}


def test_proxy_require_is_not_for_us(server: Server, peer: Peer) -> None:
    options = new_request(peer, server.address, "OPTIONS").with_(extra="Proxy-Require: x-telepathy\n")
    assert refused(server, peer, options).status == 200


@pytest.mark.parametrize(
    "method", ["MESSAGE", "REGISTER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "REFER", "WINK", "invite"]
)
def test_methods_we_do_not_serve_get_405_with_allow(server: Server, peer: Peer, method: str) -> None:
    answer = refused(server, peer, new_request(peer, server.address, method))
    assert answer.status == 405
    assert set(answer.get("allow").split(", ")) >= {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"}


def test_options_tells_what_we_can_do(server: Server, peer: Peer) -> None:
    """RFC 3261 §11.2."""
    answer = refused(server, peer, new_request(peer, server.address, "OPTIONS"))
    assert answer.status == 200
    assert set(answer.get("allow").split(", ")) >= {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "REFER"}
    assert answer.get("accept") == "application/sdp"
    assert answer.all("supported") != []


def test_a_copy_of_a_request_gets_a_copy_of_the_response(server: Server, peer: Peer) -> None:
    options = new_request(peer, server.address, "OPTIONS")
    assert refused(server, peer, options) == refused(server, peer, options)


def test_a_body_nobody_can_read_gets_415_with_accept(server: Server, peer: Peer) -> None:
    invite = new_request(peer, server.address).with_(content_type="text/plain", body="hello\n")
    answer = refused(server, peer, invite)
    assert (answer.status, answer.get("accept")) == (415, "application/sdp")


def test_an_encoded_body_gets_415_with_accept_encoding(server: Server, peer: Peer) -> None:
    answer = refused(server, peer, new_request(peer, server.address).with_(extra="Content-Encoding: gzip\n"))
    assert (answer.status, answer.get("accept-encoding")) == (415, "identity")


def test_a_caller_that_takes_no_sdp_gets_406(server: Server, peer: Peer) -> None:
    assert refused(server, peer, new_request(peer, server.address).with_(extra="Accept: text/plain\n")).status == 406


@pytest.mark.parametrize("uri", ["tel:+12025550123", "sips:demo@127.0.0.1", "soap.beep://192.0.2.1", "name:John_Smith"])
def test_other_schemes_get_416(server: Server, peer: Peer, uri: str) -> None:
    assert refused(server, peer, new_request(peer, server.address).with_(uri=uri)).status == 416


def test_a_number_nobody_answers_gets_404(server: Server, peer: Peer) -> None:
    assert refused(server, peer, new_request(peer, server.address, user="nobody")).status == 404


def test_no_common_codec_gets_488_and_a_warning_that_says_why(server: Server, peer: Peer) -> None:
    answer = refused(server, peer, new_request(peer, server.address).with_(body=sdp(HOST, 9, payloads="18 3")))
    assert answer.status == 488
    found = re.match(r'(\d{3}) \S+ "(.+)"', answer.get("warning"))
    assert found is not None
    assert found[1] in {"304", "305"}
    assert "PCMU" in found[2]


def test_a_session_description_nobody_can_read_gets_488_and_a_warning(server: Server, peer: Peer) -> None:
    answer = refused(server, peer, new_request(peer, server.address).with_(body="v=0\nm=nonsense\n"))
    assert answer.status == 488
    assert answer.get("warning").startswith("399 ")


def test_a_request_that_came_by_two_ways_gets_482(server: Server, peer: Peer) -> None:
    """RFC 3261 §8.2.2.2: same From tag, Call-ID and CSeq, another branch."""
    invite = new_request(peer, server.address, user="slow")
    peer.send(server.address, str(invite))
    while peer.response("INVITE").status != 180:
        pass
    other_way = invite.with_(via=(new_via(peer),))
    assert refused(server, peer, other_way).status == 482
    peer.send(server.address, str(invite.companion("CANCEL")))
    assert peer.final("CANCEL").status == 200
    peer.send(server.address, str(invite.companion("ACK").with_(to=peer.final().get("to"))))


def test_a_refusal_is_repeated_until_its_ack(server: Server, peer: Peer) -> None:
    invite = new_request(peer, server.address, user="nobody")
    peer.send(server.address, str(invite))
    refusal = peer.final()
    began = time.monotonic()
    assert peer.receive() == refusal
    assert 0.4 < time.monotonic() - began < 1.4
    peer.send(server.address, str(invite.companion("ACK").with_(to=refusal.get("to"))))
    assert peer.messages(for_s=1.2) == []


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("CSeq: 1 ", "CSeq: 1x ", 400),
        ("CSeq: 1 INVITE", "CSeq: 1 BYE", 400),
        ("CSeq: 1 ", "CSeq: 4294967296 ", 400),
        ("Content-Length: ", "Content-Length: 9", 400),
        ("Content-Length: ", "Content-Length: -", 400),
        ("\nTo: <", '\nTo: "open <', 400),
        ("Max-Forwards: 70", "Max-Forwards: many", 400),
        (" SIP/2.0\n", " SIP/3.0\n", 505),
        ("\nCall-ID: ", "\nCall-ID: twice\nCall-ID: ", 400),
    ],
)
def test_a_malformed_request_is_told_so(server: Server, peer: Peer, old: str, new: str, status: int) -> None:
    text = str(new_request(peer, server.address))
    assert old in text
    peer.send(server.address, text.replace(old, new, 1))
    answer = peer.receive()
    assert (answer.status, answer.all("contact")) == (status, [])


def test_nobody_answers_an_ack(server: Server, peer: Peer) -> None:
    ack = new_request(peer, server.address, "ACK")
    peer.send(server.address, str(ack))
    peer.send(server.address, str(ack.with_(to=f"{ack.to};tag=nobody", extra="Require: x-telepathy\n")))
    assert peer.messages(for_s=0.3) == []


def test_responses_to_nothing_are_not_answered(server: Server, peer: Peer) -> None:
    for status in (100, 200, 404):
        text = str(new_request(peer, server.address, "OPTIONS")).partition("\n")[2]
        peer.send(server.address, f"SIP/2.0 {status} Surprise\n{text}")
    assert peer.messages(for_s=0.3) == []
    whole_call(peer, server.address)
