"""OPTIONS, both roles."""

from __future__ import annotations

import pytest
from tests.sip.network import OFFER, Network, Peer, Phone, dial, nothing_left

from offhook.sip.events import Hop, MessageRejected, OptionsAnswered
from offhook.sip.inspection import ALLOW
from offhook.sip.uri import SipUri


def test_options_tells_what_we_can_do_and_leaves_nothing() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    request = peer.request("OPTIONS", bob)
    peer.send(request, bob)
    net.advance(0.05)
    first, second = peer.responses("OPTIONS")
    assert first.status == 200
    assert first.headers.get("Allow") == ALLOW[1]
    assert first.headers.get("Accept") == "application/sdp"
    assert first.headers.get("Contact") == "<sip:demo@10.0.0.2:5060>"
    assert "Supported" in first.headers
    assert first.to.tag
    assert first.headers == second.headers
    assert bob.events == []
    nothing_left(bob)


def test_options_in_a_dialog_is_answered_and_counts_as_its_request() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    dialog = alice.agent._parts.usages[call.caller].settled
    for method, status in (("OPTIONS", 200), ("SUBSCRIBE", 405)):
        request = dialog.request(method)
        request.headers.prepend("Via", f"SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK{method}")
        peer_sends(net, alice, bob, request)
        assert net.wire[-1].is_a(status)
    bob.agent.bye(call.callee, net.now)
    net.advance(0.05)
    assert net.wire[-1].is_a(200)


def peer_sends(net: Network, source: Phone, to: Phone, request: object) -> None:
    """Put a request on the wire past the sender's user agent."""
    Peer(net, source.address).send(request, to)  # type: ignore[arg-type]
    net.advance(0.05)


def asked(net: Network) -> tuple[Phone, Peer, int]:
    alice, peer = net.phone("alice"), net.peer()
    token = alice.agent.options(
        target=SipUri(host=peer.address.host, port=5060),
        from_=alice.identity,
        flow=alice.flow_to(peer),
        next_hop=Hop(transport=net.transport, host=peer.address.host, port=5060),
        now=net.now,
    )
    net.advance(0.05)
    return alice, peer, token


@pytest.mark.parametrize("status", [200, 404])
def test_we_ask_and_tell_whatever_comes_back(status: int) -> None:
    net = Network()
    alice, peer, token = asked(net)
    (request,) = peer.requests("OPTIONS")
    assert (request.uri, request.max_forwards, str(request.cseq)) == ("sip:10.0.0.2:5060", 70, "1 OPTIONS")
    assert request.headers.get("Accept") == "application/sdp"
    peer.respond(request, 100, alice)
    peer.respond(request, status, alice)
    net.advance(0.05)
    answered = alice.one(OptionsAnswered)
    assert answered.token == token
    assert answered.response is not None
    assert answered.response.status == status
    net.advance(6)
    nothing_left(alice)


def test_nothing_comes_back() -> None:
    net = Network()
    alice, _, token = asked(net)
    start = net.now - 0.05
    net.advance(33)
    moments = [round(sent.at - start, 3) for sent in net.sent("OPTIONS")]
    assert moments == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert alice.one(OptionsAnswered) == OptionsAnswered(token=token, response=None)
    nothing_left(alice)


def test_a_provisional_response_slows_the_repetition_to_t2() -> None:
    net = Network()
    alice, peer, _ = asked(net)
    start = net.now - 0.05
    peer.respond(peer.requests("OPTIONS")[0], 100, alice)
    net.advance(10)
    assert [round(sent.at - start, 3) for sent in net.sent("OPTIONS")] == [0, 0.5, 4.5, 8.5]


def test_an_unreadable_target_of_options_is_refused() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("OPTIONS", bob, uri="http://example.com", body=OFFER)
    net.advance(0.05)
    assert peer.statuses("OPTIONS") == [416]
    assert bob.one(MessageRejected).rule == "Request-URI scheme"


def test_options_is_answered_as_an_invite_would_be() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    bob.agent.take_calls(False)
    peer.request("OPTIONS", bob)
    peer.request("INVITE", bob, call_id="new", body=OFFER)
    net.advance(0.05)
    answers = [*peer.responses("OPTIONS"), *peer.responses("INVITE")]
    assert [(answer.status, answer.headers.get("Retry-After")) for answer in answers] == [(503, "5"), (503, "5")]
    assert bob.kinds == ["MessageRejected", "MessageRejected"]
    nothing_left(bob)
    bob.agent.take_calls(True)
    peer.request("OPTIONS", bob, call_id="later")
    net.advance(0.05)
    assert peer.statuses("OPTIONS") == [503, 200]


def test_options_in_a_call_is_answered_while_no_new_call_is_taken() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    bob.agent.take_calls(False)
    request = alice.agent._parts.usages[call.caller].settled.request("OPTIONS")
    request.headers.prepend("Via", "SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bKasked")
    peer_sends(net, alice, bob, request)
    assert net.wire[-1].is_a(200)
