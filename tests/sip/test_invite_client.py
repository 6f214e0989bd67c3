"""INVITE and CANCEL outside a dialog as client, against peers driven by hand."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, nothing_left

from offhook.model.errors import LocalProtocolError, ResourceExhaustedError
from offhook.sip.events import (
    AnswerReceived,
    InviteFailed,
    ProvisionalReceived,
)
from offhook.sip.inspection import ALLOW
from offhook.sip.parts import UserAgentLimits

# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


def calling(transport: str = "UDP") -> tuple[Network, Phone, Peer]:
    """A phone and the hand-driven peer it will call."""
    net = Network(transport="TCP" if transport == "TCP" else "UDP")
    return net, net.phone("alice"), net.peer()


def test_the_invite_is_complete() -> None:
    net, alice, peer = calling()
    alice.invite(peer, headers=[("X-Campaign", "7")])
    net.advance(0.05)
    (invite,) = peer.requests("INVITE")
    via = invite.via_top
    assert (via.transport, via.host, via.port, via.rport) == ("UDP", "10.0.0.1", 5060, "")
    assert via.branch is not None
    assert via.branch.startswith("z9hG4bK")
    assert invite.uri == "sip:demo@10.0.0.2:5060"
    assert invite.max_forwards == 70
    assert invite.from_.tag
    assert invite.to.tag is None
    assert str(invite.cseq) == "1 INVITE"
    assert invite.headers.get("Contact") == "<sip:alice@10.0.0.1:5060>"
    assert invite.headers.get("Allow") == ALLOW[1]
    assert "Supported" in invite.headers
    assert invite.headers.get("User-Agent") == "offhook-test"
    assert invite.headers.get("X-Campaign") == "7"
    assert invite.headers.get("Content-Type") == "application/sdp"
    assert invite.headers.get("Content-Length") == str(len(OFFER))
    assert invite.body == OFFER


def test_over_udp_the_invite_is_repeated_by_timer_a_until_timer_b() -> None:
    net, alice, peer = calling()
    start = net.now
    usage = alice.invite(peer)
    net.advance(40)
    assert [round(sent.at - start, 3) for sent in net.sent("INVITE")] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    failed = alice.one(InviteFailed)
    assert (failed.usage_id, failed.status, failed.cause, failed.response) == (usage, 408, "timeout", None)
    nothing_left(alice)


def test_over_tcp_the_invite_is_sent_once() -> None:
    net, alice, peer = calling("TCP")
    alice.invite(peer)
    net.advance(40)
    assert len(net.sent("INVITE")) == 1
    assert alice.one(InviteFailed).cause == "timeout"
    nothing_left(alice)


def test_a_provisional_response_ends_the_repetition() -> None:
    net, alice, peer = calling()
    alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 100, alice)
    net.advance(60)
    assert len(net.sent("INVITE")) == 1
    assert alice.events == []
    peer.respond(peer.requests("INVITE")[0], 183, alice, body=ANSWER)
    net.advance(0.05)
    event = alice.one(ProvisionalReceived)
    assert (event.status, event.remote_tag, event.response.body) == (183, "remote", ANSWER)


def test_a_refusal_gets_its_ack_in_the_transaction_as_often_as_it_comes() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer, headers=[("Route", "<sip:proxy.example.com;lr>")])
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    refusal = peer.respond(invite, 486, alice, contact=False)
    net.advance(0.05)
    peer.send(refusal, alice)
    net.advance(0.05)
    first, second = peer.requests("ACK")
    assert first.via_top == invite.via_top
    assert first.uri == invite.uri
    assert first.headers.get("Route") == "<sip:proxy.example.com;lr>"
    assert str(first.cseq) == "1 ACK"
    assert first.to.tag == "remote"
    assert first.from_ == invite.from_
    assert first.headers == second.headers
    failed = alice.one(InviteFailed)
    assert (failed.usage_id, failed.status, failed.reason, failed.cause) == (usage, 486, "Busy Here", "refused")
    net.advance(40)
    nothing_left(alice)


def test_a_redirection_is_reported_with_its_contact() -> None:
    net, alice, peer = calling()
    alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 302, alice, headers=[("Contact", "<sip:x@y>")], contact=False)
    net.advance(0.05)
    failed = alice.one(InviteFailed)
    assert failed.response is not None
    assert failed.response.headers.get("Contact") == "<sip:x@y>"


def test_a_second_fork_is_acknowledged_and_ended_and_the_call_goes_on() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    for tag in ("one", "two"):
        peer.respond(invite, 180, alice, tag=tag)
    peer.respond(invite, 200, alice, tag="one", body=ANSWER)
    net.advance(0.05)
    loser = peer.respond(invite, 200, alice, tag="two", body=ANSWER)
    peer.send(loser, alice)
    net.advance(0.05)
    assert [event.remote_tag for event in alice.of(ProvisionalReceived)] == ["one", "two"]
    assert alice.one(AnswerReceived).remote_tag == "one"
    assert [ack.to.tag for ack in peer.requests("ACK")] == ["one", "two", "two"]
    (bye,) = peer.requests("BYE")
    assert (bye.to.tag, str(bye.cseq)) == ("two", "2 BYE")
    peer.respond(bye, 200, alice, tag=None)
    net.advance(40)
    assert alice.agent.counts()["usages"] == 1
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    assert peer.requests("BYE")[-1].to.tag == "one"


def test_forks_are_bounded() -> None:
    net = Network(limits=UserAgentLimits(forks=3))
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    for number in range(10):
        peer.respond(invite, 180, alice, tag=f"t{number}")
    for number in range(10):
        peer.respond(invite, 200, alice, tag=f"t{number}", body=ANSWER)
    net.advance(0.05)
    assert len(alice.of(ProvisionalReceived)) == 3
    assert len(peer.requests("BYE")) == 3


def test_a_peer_that_gives_no_tag_is_a_dialog_too() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, tag=None, contact=False, body=ANSWER)
    net.advance(0.05)
    (ack,) = peer.requests("ACK")
    assert ack.to.tag is None
    assert alice.one(AnswerReceived).remote_tag == ""
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    assert peer.requests("BYE")[0].to.tag is None


# ── CANCEL ───────────────────────────────────────────────────────────────────────────────────────────────


def test_cancel_waits_for_a_provisional_response() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    alice.agent.cancel(usage, net.now)
    net.advance(0.3)
    assert peer.requests("CANCEL") == []
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 100, alice, tag=None)
    net.advance(0.05)
    (cancel,) = peer.requests("CANCEL")
    assert cancel.via_top == invite.via_top
    assert (cancel.uri, str(cancel.cseq), cancel.to.tag) == (invite.uri, "1 CANCEL", None)
    peer.respond(cancel, 200, alice)
    peer.respond(invite, 487, alice)
    net.advance(0.05)
    failed = alice.one(InviteFailed)
    assert (failed.status, failed.cause) == (487, "cancelled")
    assert len(peer.requests("ACK")) == 1
    net.advance(40)
    nothing_left(alice)


def test_cancel_leaves_at_once_when_it_rings_and_only_once() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 180, alice)
    net.advance(0.05)
    alice.agent.cancel(usage, net.now)
    net.advance(0.05)
    assert len(peer.requests("CANCEL")) == 1
    with pytest.raises(LocalProtocolError):
        alice.agent.cancel(usage, net.now)


def test_cancel_of_an_answered_call_raises() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    with pytest.raises(LocalProtocolError):
        alice.agent.cancel(usage, net.now)


def test_a_200_that_crosses_our_cancel_is_acknowledged_and_ended() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 180, alice)
    net.advance(0.05)
    alice.agent.cancel(usage, net.now)
    answer = peer.respond(invite, 200, alice, body=ANSWER)
    net.advance(0.05)
    peer.send(answer, alice)
    net.advance(0.05)
    assert len(peer.requests("ACK")) == 2
    assert len(peer.requests("BYE")) == 1
    assert alice.of(AnswerReceived) == []
    failed = alice.one(InviteFailed)
    assert (failed.usage_id, failed.cause) == (usage, "cancelled")
    peer.respond(peer.requests("BYE")[0], 200, alice, tag=None)
    peer.respond(peer.requests("CANCEL")[0], 200, alice)
    net.advance(40)
    nothing_left(alice)


def test_a_200_instead_of_the_provisional_that_cancel_waits_for_is_ended_too() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    alice.agent.cancel(usage, net.now)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    assert [len(peer.requests(method)) for method in ("CANCEL", "ACK", "BYE")] == [0, 1, 1]
    assert alice.one(InviteFailed).cause == "cancelled"


def test_after_cancel_without_a_final_response_the_invite_is_given_up() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 180, alice)
    net.advance(0.05)
    alice.agent.cancel(usage, net.now)
    net.advance(0.05)
    peer.respond(peer.requests("CANCEL")[0], 200, alice)
    net.advance(31.5)
    assert alice.of(InviteFailed) == []
    net.advance(1)
    failed = alice.one(InviteFailed)
    assert (failed.status, failed.cause) == (None, "cancelled")
    net.advance(40)
    nothing_left(alice)


@pytest.mark.parametrize("status", [200, 486])
def test_over_tcp_what_follows_a_response_stays_on_its_connection(status: int) -> None:
    net, alice, peer = calling("TCP")
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 180, alice)
    net.advance(0.05)
    alice.agent.cancel(usage, net.now)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], status, alice, body=ANSWER)
    net.advance(0.05)
    connection = net.connection(alice.address, peer.address)
    assert len(alice.outbound) == {200: 4, 486: 3}[status]
    for packet in alice.outbound[1:]:
        assert (packet.flow.connection, packet.next_hop) == (connection, None), packet.data


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_transport_failure_ends_the_invite() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    alice.agent.transport_failed(alice.outbound[-1].token, "no route to host", net.now)
    net.advance(0.05)
    failed = alice.one(InviteFailed)
    assert (failed.usage_id, failed.status, failed.cause) == (usage, None, "transport")
    nothing_left(alice)


def test_a_lost_connection_ends_only_what_waits_on_it_for_a_first_answer() -> None:
    net, alice, peer = calling("TCP")
    other = net.peer()
    alice.invite(peer)
    alice.invite(other)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 180, alice)
    net.advance(0.05)
    alice.agent.connection_lost(net.connection(alice.address, peer.address), net.now)
    net.advance(0.05)
    assert alice.of(InviteFailed) == []
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    assert len(alice.of(AnswerReceived)) == 1


def test_a_bye_that_overtakes_the_200_ends_the_call() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 180, alice, tag="early")
    net.advance(0.05)
    peer.request(
        "BYE", alice, call_id=invite.sip_call_id, from_tag="early", to_tag=invite.from_.tag, uri="sip:alice@10.0.0.1"
    )
    net.advance(0.05)
    assert peer.statuses("BYE") == [200]
    assert alice.kinds == ["ProvisionalReceived", "ByeReceived"]
    assert alice.events[-1].usage_id == usage  # type: ignore[union-attr]
    net.advance(40)
    nothing_left(alice)


def test_a_new_call_beyond_the_limit_raises() -> None:
    net = Network(limits=UserAgentLimits(usages=2))
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer)
    alice.invite(peer)
    with pytest.raises(ResourceExhaustedError):
        alice.invite(peer)


def test_what_cannot_be_written_raises_and_is_not_remembered() -> None:
    _, alice, peer = calling()
    with pytest.raises(LocalProtocolError):
        alice.invite(peer, headers=[("X-Note", "a\r\nb")])
    nothing_left(alice)
