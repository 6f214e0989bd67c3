"""What a caller sees of the server when it calls: responses, their repetition, headers, routes, odd spellings."""

from __future__ import annotations

import re
import time

import pytest
from tests.probe.calls import answered, hung_up, whole_call
from tests.probe.drafts import Dialog, new_request, response, sdp
from tests.probe.programs import Server
from tests.probe.wire import HOST, Peer


def test_100_then_180_then_200(server: Server, peer: Peer) -> None:
    peer.send(server.address, str(invite := new_request(peer, server.address)))
    responses = [peer.response("INVITE") for _ in range(3)]
    assert [message.status for message in responses] == [100, 180, 200]
    assert len({message.to_tag for message in responses[1:]}) == 1
    assert len(responses[2].to_tag) >= 8
    for message in responses:
        assert (message.get("call-id"), message.get("from")) == (invite.call_id, invite.from_)
    assert responses[2].get("contact").startswith("<sip:")
    assert "m=audio" in responses[2].body
    dialog = Dialog(peer, invite, responses[2])
    peer.send(server.address, str(dialog.ack()))
    hung_up(peer, server.address, dialog)


def test_copies_of_an_invite_get_copies_of_the_response_and_one_tag(server: Server, peer: Peer) -> None:
    invite = new_request(peer, server.address, user="slow")
    peer.send(server.address, str(invite))
    first = [peer.response("INVITE") for _ in range(2)]
    for _ in range(3):
        peer.send(server.address, str(invite))
    copies = [peer.response("INVITE") for _ in range(3)]
    assert [message.status for message in first] == [100, 180]
    assert copies == [first[1]] * 3
    peer.send(server.address, str(invite.companion("CANCEL")))
    assert peer.final("CANCEL").status == 200
    refusal = peer.final()
    peer.send(server.address, str(invite.companion("ACK").with_(to=refusal.get("to"))))


def test_a_copy_of_an_answered_invite_makes_no_second_call(server: Server, peer: Peer) -> None:
    """It draws the same 200 at once, sooner than RFC 6026 §7.1 asks for; never another tag."""
    invite = new_request(peer, server.address)
    peer.send(server.address, str(invite))
    answer = peer.final()
    for _ in range(2):
        peer.send(server.address, str(invite))
        assert peer.receive() == answer
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack()))
    hung_up(peer, server.address, dialog)


def test_the_200_is_repeated_until_its_ack_and_then_no_more(server: Server, peer: Peer) -> None:
    """RFC 3261 §13.3.1.4: T1, doubling."""
    invite = new_request(peer, server.address)
    peer.send(server.address, str(invite))
    answer = peer.final()
    sent_at = time.monotonic()
    assert peer.receive() == answer
    assert 0.4 < time.monotonic() - sent_at < 1.4
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack()))
    assert peer.messages(for_s=1.3) == []
    hung_up(peer, server.address, dialog)


@pytest.mark.soak
def test_without_an_ack_the_server_says_bye_after_64_t1(server: Server, peer: Peer) -> None:
    invite = new_request(peer, server.address)
    peer.send(server.address, str(invite))
    answered_at = time.monotonic()
    copies = 0
    while (message := peer.receive(within_s=40)).status:
        copies += message.status == 200
    assert message.method == "BYE"
    assert copies == 11
    assert 31.5 <= time.monotonic() - answered_at <= 33.5
    peer.send(server.address, response(message, 200))


def test_via_headers_come_back_in_order_with_received_and_rport(server: Server, peer: Peer) -> None:
    """RFC 3261 §18.2.1 and RFC 3581 §4: only the topmost is touched."""
    invite = new_request(peer, server.address)
    below = ("SIP/2.0/TCP proxy.example.com;branch=z9hG4bKp1", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKp2")
    top = f"SIP/2.0/UDP unknown.invalid:9;rport;branch={invite.via[0].partition('branch=')[2].partition(';')[0]}"
    peer.send(server.address, str(invite.with_(via=(top, *below))))
    answer = peer.final()
    vias = [value for line in answer.all("via") for value in line.split(", ")]
    assert tuple(vias[1:]) == below
    assert f"rport={peer.address.port}" in vias[0]
    assert f"received={HOST}" in vias[0]
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack()))
    hung_up(peer, server.address, dialog)


def test_without_rport_the_response_goes_to_the_port_of_the_via(server: Server, peer: Peer) -> None:
    """RFC 3261 §18.2.2: received address, sent-by port."""
    listener = Peer()
    options = new_request(peer, server.address, "OPTIONS")
    via = f"SIP/2.0/UDP {HOST}:{listener.address.port};branch=z9hG4bK{options.call_id}"
    peer.send(server.address, str(options.with_(via=(via,))))
    answer = listener.receive()
    listener.close()
    assert answer.status == 200
    assert "rport" not in answer.get("via")


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_record_route_is_echoed_in_180_and_200_as_it_came(server: Server, peer: Peer) -> None:
    lines = (
        f"Record-Route: <sip:{peer.host_port};lr>, <sip:p2.example.com;lr;x=y>\nRecord-Route: <sip:p3.example.com;lr>\n"
    )
    peer.send(server.address, str(invite := new_request(peer, server.address).with_(extra=lines)))
    ringing, answer = [message for message in (peer.response("INVITE") for _ in range(3)) if message.status > 100]
    expected = [f"<sip:{peer.host_port};lr>", "<sip:p2.example.com;lr;x=y>", "<sip:p3.example.com;lr>"]
    for message in (ringing, answer):
        assert [value for line in message.all("record-route") for value in line.split(", ")] == expected
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack()))
    hung_up(peer, server.address, dialog)


def brief_call(server: Server, peer: Peer, *, contact: str, extra: str = "") -> None:
    """A call that the server ends 0.1 s after the ACK."""
    invite = new_request(peer, server.address, user="brief").with_(contact=contact, extra=extra)
    answered(peer, server.address, invite)


def test_the_servers_bye_goes_to_the_contact(server: Server, peer: Peer) -> None:
    desk = Peer()
    brief_call(server, peer, contact=f"<sip:me@{desk.host_port};x=1>;expires=60")
    bye = desk.request("BYE")
    desk.send(server.address, response(bye, 200))
    desk.close()
    assert bye.uri == f"sip:me@{HOST}:{desk.address.port};x=1"
    assert bye.all("route") == []
    assert (bye.number, bool(bye.from_tag), bool(bye.to_tag)) == (bye.number, True, True)


def test_the_servers_bye_follows_a_loose_route(server: Server, peer: Peer) -> None:
    """RFC 3261 §12.2.1.1: Request-URI is the remote target, the route set stands in Route, in order."""
    proxy = Peer()
    routes = f"Record-Route: <sip:{proxy.host_port};lr>, <sip:second.example.com;lr>\n"
    brief_call(server, peer, contact="<sip:me@192.0.2.9>", extra=routes)
    bye = proxy.request("BYE")
    proxy.send(server.address, response(bye, 200))
    proxy.close()
    assert bye.uri == "sip:me@192.0.2.9"
    route = [value for line in bye.all("route") for value in line.split(", ")]
    assert route == [f"<sip:{HOST}:{proxy.address.port};lr>", "<sip:second.example.com;lr>"]


def test_the_servers_bye_follows_a_strict_route(server: Server, peer: Peer) -> None:
    """RFC 3261 §12.2.1.1: without lr the route's URI becomes the Request-URI, the target goes last."""
    proxy = Peer()
    brief_call(server, peer, contact="<sip:me@192.0.2.9>", extra=f"Record-Route: <sip:{proxy.host_port}>\n")
    bye = proxy.request("BYE")
    proxy.send(server.address, response(bye, 200))
    proxy.close()
    assert bye.uri == f"sip:{HOST}:{proxy.address.port}"
    assert bye.all("route") == ["<sip:me@192.0.2.9>"]


def test_an_unanswered_bye_of_the_server_is_repeated(server: Server, peer: Peer) -> None:
    brief_call(server, peer, contact=f"<sip:probe@{peer.host_port}>")
    first = peer.request("BYE")
    began = time.monotonic()
    second = peer.request("BYE")
    peer.send(server.address, response(second, 200))
    assert second == first
    assert 0.4 < time.monotonic() - began < 1.4
    assert peer.messages(for_s=1.3) == []


# ── spellings ────────────────────────────────────────────────────────────────────────────────────────────


def test_compact_forms_and_folded_headers(server: Server, peer: Peer) -> None:
    invite = new_request(peer, server.address)
    text = str(invite)
    for name, compact in (("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("Contact", "m")):
        text = text.replace(f"\n{name}: ", f"\n{compact} :\n  \t")
    text = text.replace("Content-Type: ", "c:").replace("Content-Length: ", "l:\n ")
    peer.send(server.address, text)
    answer = peer.final()
    assert answer.status == 200
    assert answer.get("call-id") == invite.call_id
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack()))
    hung_up(peer, server.address, dialog)


def test_a_latin_1_byte_in_from_comes_back_as_it_was(server: Server, peer: Peer) -> None:
    """Neither UTF-8 nor legal, and common: older telephones send it."""
    invite = new_request(peer, server.address)
    named = invite.with_(from_=f'"José Müller" {invite.from_}')
    peer.send(server.address, str(named))
    answer = peer.final()
    assert answer.get("from") == named.from_
    dialog = Dialog(peer, named, answer)
    peer.send(server.address, str(dialog.ack()))
    assert hung_up(peer, server.address, dialog).get("from") == named.from_


def test_an_rfc_2543_caller_without_branch_and_tag(server: Server, peer: Peer) -> None:
    """RFC 3261 §8.1.1.7, §17.2.3, §12.1.1: matched by the old rules, a missing From tag is a null tag."""
    invite = new_request(peer, server.address)
    old = invite.with_(via=(f"SIP/2.0/UDP {peer.host_port}",), from_=f"<sip:old@{peer.host_port}>")
    peer.send(server.address, str(old))
    answer = peer.final()
    peer.send(server.address, str(old))
    assert peer.receive() == answer
    dialog = Dialog(peer, old, answer)
    via = old.via
    peer.send(server.address, str(dialog.ack().with_(via=via)))
    peer.send(server.address, str(bye := dialog.next("BYE").with_(via=via)))
    assert peer.final("BYE").status == 200
    peer.send(server.address, str(bye))
    assert peer.final("BYE").status == 200


def test_max_forwards_0_reaches_an_endpoint(server: Server, peer: Peer) -> None:
    answered_call = answered(peer, server.address, new_request(peer, server.address).with_(max_forwards=0))
    hung_up(peer, server.address, answered_call)


def test_an_offerless_invite_gets_our_offer_and_its_ack_brings_the_answer(server: Server, peer: Peer) -> None:
    invite = new_request(peer, server.address).with_(body="")
    peer.send(server.address, str(invite))
    answer = peer.final()
    formats = re.search(r"m=audio \d+ RTP/AVP ([\d ]+)", answer.body)
    assert formats is not None
    assert {"0", "8"} <= set(formats[1].split())
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack(sdp(HOST, peer.media_port, payloads="8 101"))))
    source = peer.hears_rtp()
    hung_up(peer, server.address, dialog)
    assert f"m=audio {source.port} " in answer.body


def test_rtp_flows_where_the_offer_says(server: Server, peer: Peer) -> None:
    dialog = answered(peer, server.address)
    source = peer.hears_rtp()
    hung_up(peer, server.address, dialog)
    assert source.host == HOST
    assert f"m=audio {source.port} " in dialog.answer.body


def test_an_early_offer_with_unknown_media_keeps_its_lines(server: Server, peer: Peer) -> None:
    """RFC 3264 §6: as many m-lines as offered, in order; what is refused has port 0."""
    offer = sdp(HOST, peer.media_port) + "m=video 9 RTP/AVP 99\nm=audio 11 RTP/SAVP 0\nm=image 12 udptl t38\n"
    dialog = answered(peer, server.address, new_request(peer, server.address).with_(body=offer))
    hung_up(peer, server.address, dialog)
    lines = re.findall(r"^m=(\S+) (\d+) (\S+)", dialog.answer.body, re.MULTILINE)
    assert [(kind, port == "0", profile) for kind, port, profile in lines] == [
        ("audio", False, "RTP/AVP"),
        ("video", True, "RTP/AVP"),
        ("audio", True, "RTP/SAVP"),
        ("image", True, "udptl"),
    ]


def test_two_calls_of_one_caller_at_once_have_two_tags(server: Server, peer: Peer) -> None:
    dialogs = [answered(peer, server.address) for _ in range(2)]
    assert len({dialog.answer.to_tag for dialog in dialogs}) == 2
    for dialog in dialogs:
        hung_up(peer, server.address, dialog)


def test_garbage_in_between_changes_nothing(server: Server, peer: Peer) -> None:
    dialog = answered(peer, server.address)
    for garbage in (b"", b"\r\n\r\n", b"\0" * 500, b"INVITE", bytes(range(256)) * 40, b"SIP/2.0 200 OK\r\n\r\n"):
        peer.send(server.address, garbage)
    hung_up(peer, server.address, dialog)
    whole_call(peer, server.address)
