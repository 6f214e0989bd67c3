"""Replaces: an INVITE that takes a call's place, and the words by which others find a call of ours."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Call, Network, Peer, Phone, dial, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.model.trunks import GatewayTrunk, Trunk
from offhook.sip.admission import Admission
from offhook.sip.events import Hop, InviteReceived, MessageRejected
from offhook.sip.message import Response
from offhook.sip.refer_values import ReferTo
from offhook.sip.uri import SipUri

PBX: tuple[Trunk, ...] = (
    GatewayTrunk(trunk_id="pbx", peers=("10.0.0.0/24",)),
    GatewayTrunk(trunk_id="carrier", peers=("192.0.2.0/24",)),
)


def talking() -> tuple[Network, Phone, Peer, int, str]:
    """A peer has called bob; bob's usage and his tag. The peer's tag is ``peertag``, the Call-ID ``peercall``."""
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    assert tag is not None
    peer.request("ACK", bob, to_tag=tag)
    net.advance(0.05)
    return net, bob, peer, usage, tag


def replace(net: Network, bob: Phone, value: str, *more: str, host: str = "") -> Response | InviteReceived:
    """A new caller asks to replace a call; the refusal, or what bob's application hears."""
    caller = net.peer(host=host)
    before = len(bob.of(InviteReceived))
    headers = [("Replaces", one) for one in (value, *more)]
    caller.request("INVITE", bob, call_id=f"other{len(net.wire)}", headers=headers, body=OFFER)
    net.advance(0.05)
    if len(bob.of(InviteReceived)) > before:
        assert caller.statuses() == [100]
        return bob.of(InviteReceived)[-1]
    return caller.responses()[-1]


def test_a_call_is_replaced_by_who_names_it() -> None:
    net, bob, peer, usage, tag = talking()
    event = replace(net, bob, f"peercall;to-tag={tag};from-tag=peertag")
    assert isinstance(event, InviteReceived)
    assert event.replaces == usage
    assert event.usage_id != usage
    bob.agent.answer(event.usage_id, net.now, body=ANSWER)
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    assert len(peer.requests("BYE")) == 1
    assert "replaces" in (peer.responses()[-1].headers.get("Supported") or "")


def test_a_call_is_replaced_while_no_new_one_is_taken() -> None:
    net, bob, _, usage, tag = talking()
    bob.agent.take_calls(False)
    refused = replace(net, bob, f"peercall;to-tag={tag};from-tag=nobody")
    assert isinstance(refused, Response)
    assert refused.status == 481
    event = replace(net, bob, f"peercall;to-tag={tag};from-tag=peertag")
    assert isinstance(event, InviteReceived)
    assert event.replaces == usage


def test_who_names_none_replaces_none() -> None:
    net, bob, _, _, _ = talking()
    net.peer().request("INVITE", bob, call_id="other", body=OFFER)
    net.advance(0.05)
    assert bob.of(InviteReceived)[-1].replaces is None


@pytest.mark.parametrize(
    "value",
    [
        "{call};to-tag={them};from-tag={us}",
        "{call};to-tag={us};from-tag=x",
        "{call};to-tag=x;from-tag={them}",
        "{call}x;to-tag={us};from-tag={them}",
        "{call};to-tag={us};from-tag=0",
        "{call};to-tag=0;from-tag={them}",
    ],
)
def test_who_names_another_call_gets_481(value: str) -> None:
    net, bob, _, _, tag = talking()
    refused = replace(net, bob, value.format(call="peercall", us=tag, them="peertag"))
    assert isinstance(refused, Response)
    assert refused.status == 481
    said = bob.of(MessageRejected)[-1]
    assert (said.rule, said.status) == ("Replaces", 481)
    assert "matches no call" in said.evidence


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("peercall", ()),
        ("peercall;to-tag={tag}", ()),
        ("peercall;to-tag={tag};to-tag={tag};from-tag=peertag", ()),
        ("", ()),
        (";;;", ()),
        ("peercall;to-tag={tag};from-tag=peertag", ("peercall;to-tag={tag};from-tag=peertag",)),
        ("peercall;to-tag={tag};from-tag=peertag, peercall;to-tag={tag};from-tag=peertag", ()),
    ],
)
def test_what_names_no_call_or_two_gets_400(value: str, more: tuple[str, ...]) -> None:
    net, bob, _, usage, tag = talking()
    refused = replace(net, bob, value.format(tag=tag), *(one.format(tag=tag) for one in more))
    assert isinstance(refused, Response)
    assert refused.status == 400
    assert bob.of(MessageRejected)[-1].evidence.startswith("Replaces: ")
    assert bob.agent.counts()["usages"] == 1
    bob.agent.bye(usage, net.now)


def test_join_contradicts_replaces() -> None:
    net, bob, _, _, tag = talking()
    caller = net.peer()
    headers = [("Replaces", f"peercall;to-tag={tag};from-tag=peertag"), ("Join", "x;to-tag=1;from-tag=2")]
    caller.request("INVITE", bob, call_id="other", headers=headers, body=OFFER)
    net.advance(0.05)
    assert caller.statuses() == [400]


def test_an_answered_call_is_not_replaced_early_only() -> None:
    net, bob, _, _, tag = talking()
    refused = replace(net, bob, f"peercall;to-tag={tag};from-tag=peertag;early-only")
    assert isinstance(refused, Response)
    assert refused.status == 486


def test_a_call_that_is_being_ended_is_not_replaced() -> None:
    net, bob, _, usage, tag = talking()
    bob.agent.bye(usage, net.now)
    refused = replace(net, bob, f"peercall;to-tag={tag};from-tag=peertag")
    assert isinstance(refused, Response)
    assert refused.status == 603


def test_a_call_that_rings_here_is_not_replaced() -> None:
    """§3: we did not initiate it."""
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.ring(bob.one(InviteReceived).usage_id, net.now)
    net.advance(0.05)
    refused = replace(net, bob, f"peercall;to-tag={peer.responses()[-1].to.tag};from-tag=peertag")
    assert isinstance(refused, Response)
    assert refused.status == 481


@pytest.mark.parametrize("early_only", ["", ";early-only"])
def test_a_call_that_rings_there_is_replaced(early_only: str) -> None:
    """§3: a pick-up. The application answers the new one and cancels the old."""
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 180, alice)
    net.advance(0.05)
    event = replace(net, alice, f"{invite.sip_call_id};to-tag={invite.from_.tag};from-tag=remote{early_only}")
    assert isinstance(event, InviteReceived)
    assert event.replaces == usage
    alice.agent.cancel(usage, net.now)
    refused = replace(net, alice, f"{invite.sip_call_id};to-tag={invite.from_.tag};from-tag=remote{early_only}")
    assert isinstance(refused, Response)
    assert refused.status == 603


def test_a_peer_without_tag_is_named_0() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 200, alice, tag=None, body=ANSWER)
    net.advance(0.05)
    assert alice.agent.replaces_value(usage) == f"{invite.sip_call_id};to-tag=0;from-tag={invite.from_.tag}"
    event = replace(net, alice, f"{invite.sip_call_id};to-tag={invite.from_.tag};from-tag=0")
    assert isinstance(event, InviteReceived)
    assert event.replaces == usage


@pytest.mark.parametrize(("host", "status"), [("10.0.0.200", None), ("192.0.2.1", 403)])
def test_only_who_comes_by_the_same_trunk_replaces(host: str, status: int | None) -> None:
    net, bob, _, usage, tag = talking()
    bob.agent.admission = Admission(PBX)
    bob.agent._parts.usages[usage].trunk_id = "pbx"
    given = replace(net, bob, f"peercall;to-tag={tag};from-tag=peertag", host=host)
    if status is None:
        assert isinstance(given, InviteReceived)
        assert (given.replaces, given.trunk_id) == (usage, "pbx")
    else:
        assert isinstance(given, Response)
        assert given.status == status
        assert "'pbx'" in bob.of(MessageRejected)[-1].evidence


def test_a_call_of_ours_is_one_of_the_trunk_it_went_by() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    alice.agent.admission = Admission(PBX)
    usage = alice.agent.invite(
        target=SipUri(user="op", host=peer.address.host),
        from_=alice.identity,
        flow=alice.flow_to(peer),
        next_hop=Hop(transport="UDP", host=peer.address.host, port=5060),
        offer=OFFER,
        trunk_id="pbx",
        now=net.now,
    )
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 200, alice, body=ANSWER)
    net.advance(0.05)
    event = replace(net, alice, f"{invite.sip_call_id};to-tag={invite.from_.tag};from-tag=remote")
    assert isinstance(event, InviteReceived)
    assert event.replaces == usage


def test_in_anything_but_an_invite_it_is_refused() -> None:
    net, bob, peer, _, tag = talking()
    peer.request("BYE", bob, cseq=2, to_tag=tag, headers=[("Replaces", f"peercall;to-tag={tag};from-tag=peertag")])
    net.advance(0.05)
    assert peer.statuses("BYE") == [400]


# ── our words ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_attended_transfer_finds_the_consultation_call() -> None:
    """Alice talks to bob and to carol, and has bob call carol in her place."""
    net = Network()
    alice, bob, carol = net.phone("alice"), net.phone("bob"), net.phone("carol")
    first, second = dial(alice, bob), dial(alice, carol)
    alice.agent.refer(first.caller, net.now, refer_to=alice.agent.replacing_uri(second.caller))
    net.advance(0.05)
    asked = bob.events[-1]
    replaces = getattr(asked, "replaces", None)
    assert replaces is not None, asked
    assert getattr(asked, "refer_to", "") == "sip:demo@10.0.0.3:5060"
    bob.agent.invite(
        target=SipUri.parse(getattr(asked, "refer_to", "")),
        from_=bob.identity,
        flow=bob.flow_to(carol),
        next_hop=Hop(transport="UDP", host="10.0.0.3", port=5060),
        offer=OFFER,
        headers=[("Replaces", str(replaces)), ("Require", "replaces")],
        now=net.now,
    )
    net.advance(0.05)
    event = carol.of(InviteReceived)[-1]
    assert event.replaces == second.callee
    carol.agent.answer(event.usage_id, net.now, body=ANSWER)
    carol.agent.bye(second.callee, net.now)
    net.advance(0.05)
    assert alice.kinds[-1] == "ByeReceived"
    hang_up(net, (alice, first), bob, carol)


def hang_up(net: Network, with_call: tuple[Phone, Call], bob: Phone, carol: Phone) -> None:
    alice, call = with_call
    alice.agent.bye(call.caller, net.now)
    bob.agent.bye(max(bob.agent._parts.usages), net.now)
    net.advance(400)
    nothing_left(alice, bob, carol)


def test_both_sides_of_a_call_say_the_same_of_it_from_their_ends() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    for phone, usage, other in ((alice, call.caller, bob), (bob, call.callee, alice)):
        value = phone.agent.replaces_value(usage)
        event = replace(net, other, value)
        assert isinstance(event, InviteReceived)
        assert event.replaces == (call.callee if other is bob else call.caller)


def test_the_uri_goes_to_the_device_or_to_the_address() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    contact = [("Contact", '"Op" <sip:op%40desk@10.0.0.9:5999;transport=tcp;ob>')]
    peer.respond(peer.requests("INVITE")[0], 200, alice, headers=contact, contact=False, body=ANSWER)
    net.advance(0.05)
    value = alice.agent.replaces_value(usage)
    escaped = value.replace(";", "%3B").replace("=", "%3D")
    assert alice.agent.replacing_uri(usage) == f"sip:op%40desk@10.0.0.9:5999;transport=tcp;ob?Replaces={escaped}"
    by_address = alice.agent.replacing_uri(usage, goes_to="address")
    assert by_address == f"sip:demo@10.0.0.2?Replaces={escaped}"
    assert str(ReferTo.parse(f"<{by_address}>").replaces) == value


def test_before_there_is_a_dialog_there_are_no_words_for_it() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    for ask in (alice.agent.replaces_value, alice.agent.replacing_uri):
        with pytest.raises(LocalProtocolError, match="no dialog yet"):
            ask(usage)


def test_a_peer_without_sip_uri_cannot_be_called_in_our_place() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, headers=[("Contact", "<tel:+1>")], contact=False, body=ANSWER)
    net.advance(0.05)
    with pytest.raises(LocalProtocolError, match=r"tel:\+1"):
        alice.agent.replacing_uri(usage)
