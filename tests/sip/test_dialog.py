"""Dialogs: made from either side, routed, kept in order, moved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone

from offhook.model.errors import LocalProtocolError
from offhook.sip.dialog import DIALOG, DialogInput, DialogState, dialog_of_client, dialog_of_server
from offhook.sip.events import Address, Flow, InviteReceived
from offhook.sip.message import Request

ROUTES = [("Record-Route", "<sip:p3.example.com;lr>, <sip:p2.example.com;lr>"), ("Record-Route", "<sip:p1;lr>")]


def met() -> tuple[Network, Peer, Phone, Flow]:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    return net, peer, bob, Flow(transport="UDP", local=bob.address, remote=peer.address)


def test_as_server_the_route_set_stands_as_it_came() -> None:
    _, peer, bob, flow = met()
    dialog = dialog_of_server(peer.build("INVITE", bob, cseq=9, headers=ROUTES), flow, "ourtag")
    assert dialog.route_set == ("<sip:p3.example.com;lr>", "<sip:p2.example.com;lr>", "<sip:p1;lr>")
    assert (dialog.local_tag, dialog.remote_tag) == ("ourtag", "peertag")
    assert dialog.local == f"<sip:demo@{bob.address.host}>;tag=ourtag"
    assert dialog.remote == f"<sip:peer@{peer.address.host}>;tag=peertag"
    assert dialog.remote_target == f"sip:peer@{peer.address.host}:5060"
    assert (dialog.local_cseq, dialog.remote_cseq, dialog.owns_call_id) == (0, 9, False)
    bye = dialog.request("BYE")
    assert str(bye.cseq) == "1 BYE"
    assert bye.headers.get_all("Route") == list(dialog.route_set)
    assert bye.uri == dialog.remote_target


def test_as_client_the_route_set_is_turned_round() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    response = peer.respond(invite, 200, alice, headers=ROUTES, body=ANSWER)
    dialog = dialog_of_client(invite, response, alice.flow_to(peer), "alice")
    assert dialog.route_set == ("<sip:p1;lr>", "<sip:p2.example.com;lr>", "<sip:p3.example.com;lr>")
    assert (dialog.local_cseq, dialog.remote_cseq, dialog.owns_call_id) == (1, None, True)
    assert dialog.remote_tag == "remote"
    assert dialog.contact == "<sip:alice@10.0.0.1:5060>"


def test_a_strict_router_gets_its_own_uri_and_the_target_comes_last() -> None:
    net = Network()
    peer, bob, router = net.peer(), net.phone("bob"), net.peer(host="10.7.7.7")
    peer.request("INVITE", bob, headers=[("Record-Route", "<sip:10.7.7.7>, <sip:p2;lr>")], body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag)
    net.advance(0.05)
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    (bye,) = router.requests("BYE")
    assert bye.uri == "sip:10.7.7.7"
    assert bye.headers.values("Route") == ["<sip:p2;lr>", f"<sip:peer@{peer.address.host}:5060>"]


def test_a_loose_router_gets_the_request_first() -> None:
    net = Network()
    peer, bob, router = net.peer(), net.phone("bob"), net.peer(host="10.7.7.7", port=5080)
    peer.request("INVITE", bob, headers=[("Record-Route", "<sip:10.7.7.7:5080;lr>")], body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag)
    net.advance(0.05)
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    assert [bye.uri for bye in router.requests("BYE")] == [f"sip:peer@{peer.address.host}:5060"]
    assert peer.requests("BYE") == []


def test_requests_must_not_go_back_in_order() -> None:
    _, peer, bob, flow = met()
    dialog = dialog_of_server(peer.build("INVITE", bob, cseq=5), flow, "t")
    assert [dialog.in_order(peer.build("INFO", bob, cseq=cseq)) for cseq in (4, 6, 6, 5, 9, 8)] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]


def test_a_bye_must_be_in_order_and_puts_nothing_else_out_of_it() -> None:
    _, peer, bob, flow = met()
    dialog = dialog_of_server(peer.build("INVITE", bob, cseq=5), flow, "t")
    came = [("BYE", 4), ("BYE", 7), ("NOTIFY", 6), ("NOTIFY", 5)]
    assert [dialog.in_order(peer.build(method, bob, cseq=cseq)) for method, cseq in came] == [False, True, True, False]


@pytest.mark.parametrize("state", DialogState)
@pytest.mark.parametrize("given", DialogInput)
def test_the_table_alone_says_what_a_dialog_takes(state: DialogState, given: DialogInput) -> None:
    _, peer, bob, flow = met()
    dialog = dialog_of_server(peer.build("INVITE", bob), flow, "t")
    dialog.state = state
    if (state, given) in DIALOG:
        dialog.advance(given)
        assert dialog.state is DIALOG[state, given]
    else:
        with pytest.raises(LocalProtocolError):
            dialog.advance(given)
        assert dialog.state is state


def test_without_a_contact_the_from_is_the_target() -> None:
    _, peer, bob, flow = met()
    invite = peer.build("INVITE", bob)
    invite.headers.remove("Contact")
    assert dialog_of_server(invite, flow, "t").remote_target == f"sip:peer@{peer.address.host}"


# ── behind a NAT ─────────────────────────────────────────────────────────────────────────────────────────

PRIVATE = [("Via", "SIP/2.0/UDP 192.168.1.5:5060;rport;branch=z9hG4bKn"), ("Contact", "<sip:peer@192.168.1.5>")]


def from_nat(peer: Peer, bob: Phone, *more: tuple[str, str]) -> Request:
    """An INVITE from a peer that believes to be 192.168.1.5."""
    invite = peer.build("INVITE", bob, body=OFFER)
    for name, value in PRIVATE:
        invite.headers.set(name, value)
    for name, value in more:
        invite.headers.add(name, value)
    return invite


def test_a_peer_behind_a_nat_is_called_where_it_came_from() -> None:
    net, peer, bob, _ = met()
    peer.send(from_nat(peer, bob), bob)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag)
    net.advance(0.05)
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    assert [bye.uri for bye in peer.requests("BYE")] == ["sip:peer@192.168.1.5"]


@pytest.mark.parametrize(
    "more",
    [("Via", "SIP/2.0/UDP proxied;branch=z9hG4bKp"), ("Record-Route", "<sip:10.0.0.1;lr>")],
)
def test_where_a_proxy_stands_between_the_contact_is_believed(more: tuple[str, str]) -> None:
    _, peer, bob, flow = met()
    assert dialog_of_server(from_nat(peer, bob), flow, "t").nat_source
    assert not dialog_of_server(from_nat(peer, bob, more), flow, "t").nat_source


def test_a_contact_elsewhere_than_the_via_is_meant_so() -> None:
    _, peer, bob, flow = met()
    invite = from_nat(peer, bob)
    invite.headers.set("Contact", "<sip:peer@198.51.100.9>")
    assert not dialog_of_server(invite, flow, "t").nat_source


def test_a_connection_is_used_again_only_for_its_own_host() -> None:
    _, peer, bob, flow = met()
    stream = replace(flow, transport="TCP", connection=4)
    dialog = dialog_of_server(peer.build("INVITE", bob), stream, "t")
    assert dialog.way({4}) == (stream, None)
    way, hop = dialog.way(set())
    assert (way.connection, hop is not None) == (0, True)
    dialog.remote_target = "sip:elsewhere.example.com;transport=tcp"
    way, hop = dialog.way({4})
    assert hop is not None
    assert (way.connection, hop.host) == (0, "elsewhere.example.com")
    assert dialog.flow.remote == Address(peer.address.host, peer.address.port)
