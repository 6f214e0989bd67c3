"""Requests inside a call: BYE, OPTIONS, re-INVITE in all its forms, order and glare."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.probe.calls import answered, hung_up
from tests.probe.drafts import Dialog, Draft, contact_of, new_request, response, sdp
from tests.probe.programs import Server
from tests.probe.wire import HOST, Message, Peer


@pytest.fixture
def dialog(server: Server, peer: Peer) -> Iterator[Dialog]:
    """A call that is up; it is hung up in the end."""
    one = answered(peer, server.address)
    yield one
    hung_up(peer, server.address, one)


def asked(server: Server, peer: Peer, request: Draft) -> Message:
    """The final response to an in-dialog request; a re-INVITE's is acknowledged."""
    peer.send(server.address, str(request))
    answer = peer.final(request.method)
    if request.method == "INVITE" and answer.status >= 300:
        peer.send(server.address, str(request.companion("ACK")))
    elif request.method == "INVITE":
        peer.send(server.address, str(request.with_(method="ACK", body="", via=new_request(peer, server.address).via)))
    return answer


def version_of(message: Message) -> int:
    found = re.search(r"^o=\S+ \d+ (\d+) ", message.body, re.MULTILINE)
    assert found is not None
    return int(found[1])


def direction_of(message: Message) -> str:
    found = re.findall(r"^a=(sendrecv|sendonly|recvonly|inactive)\r?$", message.body, re.MULTILINE)
    return found[0] if found else "sendrecv"


# ── BYE and others ───────────────────────────────────────────────────────────────────────────────────────


def test_a_copy_of_the_bye_gets_200_again(server: Server, peer: Peer) -> None:
    dialog = answered(peer, server.address)
    bye = dialog.next("BYE")
    peer.send(server.address, str(bye))
    first = peer.final("BYE")
    peer.send(server.address, str(bye))
    assert first.status == 200
    assert peer.final("BYE") == first


def test_a_bye_of_no_dialog_gets_481(server: Server, peer: Peer) -> None:
    bye = new_request(peer, server.address, "BYE")
    peer.send(server.address, str(bye.with_(to=f"{bye.to};tag=nobody")))
    assert peer.final("BYE").status == 481


def test_a_bye_without_any_tag_gets_481(server: Server, peer: Peer) -> None:
    peer.send(server.address, str(new_request(peer, server.address, "BYE")))
    assert peer.final("BYE").status == 481


def test_a_bye_with_the_wrong_from_tag_does_not_end_the_call(server: Server, peer: Peer, dialog: Dialog) -> None:
    assert asked(server, peer, dialog.next("BYE", from_=f"<sip:thief@{HOST}>;tag=stolen")).status == 481


def test_after_the_bye_the_dialog_is_unknown(server: Server, peer: Peer) -> None:
    dialog = answered(peer, server.address)
    hung_up(peer, server.address, dialog)
    assert asked(server, peer, dialog.next("OPTIONS")).status == 481
    assert asked(server, peer, dialog.next("BYE")).status == 481


def test_the_server_rings_off_while_the_caller_does(server: Server, peer: Peer) -> None:
    """BYEs that cross: both get 200."""
    dialog = answered(peer, server.address, user="brief")
    theirs = peer.request("BYE")
    peer.send(server.address, str(dialog.next("BYE")))
    assert peer.final("BYE").status == 200
    peer.send(server.address, response(theirs, 200))
    assert peer.messages(for_s=0.7) == []


def test_options_inside_the_call(server: Server, peer: Peer, dialog: Dialog) -> None:
    answer = asked(server, peer, dialog.next("OPTIONS"))
    assert (answer.status, answer.to_tag) == (200, dialog.answer.to_tag)
    assert "INVITE" in answer.get("allow")


@pytest.mark.parametrize("method", ["SUBSCRIBE", "PUBLISH", "REGISTER", "WINK"])
def test_what_we_do_not_serve_inside_the_call_gets_405(server: Server, peer: Peer, dialog: Dialog, method: str) -> None:
    answer = asked(server, peer, dialog.next(method))
    assert answer.status == 405
    assert {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"} <= set(answer.get("allow").split(", "))


REFER_EVENT = "Event: refer\nSubscription-State: active\n"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"method": "INFO"}, 200),
        ({"method": "INFO", "content_type": "application/dtmf-relay", "body": "Signal=5\nDuration=160\n"}, 200),
        ({"method": "INFO", "content_type": "application/dtmf", "body": "5"}, 200),
        ({"method": "INFO", "content_type": "application/media_control+xml", "body": "<x/>"}, 415),
        ({"method": "INFO", "content_type": "application/dtmf", "body": "5", "extra": "Info-Package: x\n"}, 469),
        ({"method": "MESSAGE", "content_type": "text/plain", "body": "hello"}, 200),
        ({"method": "MESSAGE", "content_type": "text/html", "body": "<b>hello</b>"}, 415),
        ({"method": "REFER"}, 400),
        ({"method": "REFER", "extra": "Refer-To: <sip:a@b>\nRefer-To: <sip:c@d>\n"}, 400),
        ({"method": "REFER", "extra": "Refer-To: <http://example.com>\n"}, 416),
        ({"method": "NOTIFY", "extra": "Event: presence\nSubscription-State: active\n"}, 489),
        (
            {"method": "NOTIFY", "extra": REFER_EVENT, "content_type": "message/sipfrag", "body": "SIP/2.0 200 OK\n"},
            481,
        ),
    ],
)
def test_what_is_said_beside_the_audio(
    server: Server, peer: Peer, dialog: Dialog, said: dict[str, str], status: int
) -> None:
    """RFC 6086, 3428, 3515, 6665; a copy of the request gets a copy of the answer."""
    request = dialog.next(**said)
    first = asked(server, peer, request)
    assert (first.status, asked(server, peer, request).status) == (status, status)
    assert bool(first.all("accept")) is (status == 415)


def test_a_number_lower_than_the_last_gets_500(server: Server, peer: Peer, dialog: Dialog) -> None:
    """RFC 3261 §12.2.2."""
    assert asked(server, peer, dialog.next("OPTIONS", number=90)).status == 200
    assert asked(server, peer, dialog.next("OPTIONS", number=89)).status == 500
    dialog.number = 90


def test_numbers_may_have_gaps(server: Server, peer: Peer, dialog: Dialog) -> None:
    dialog.number = 2**31 - 100
    assert asked(server, peer, dialog.next("OPTIONS")).status == 200


def test_an_extension_required_inside_the_call_gets_420(server: Server, peer: Peer, dialog: Dialog) -> None:
    answer = asked(server, peer, dialog.next("OPTIONS", extra="Require: x-telepathy\n"))
    assert (answer.status, answer.get("unsupported")) == (420, "x-telepathy")


# ── re-INVITE ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_offer_again(server: Server, peer: Peer, dialog: Dialog) -> None:
    answer = asked(server, peer, dialog.next("INVITE", body=dialog.invite.body))
    assert (answer.status, answer.to_tag) == (200, dialog.answer.to_tag)
    assert re.findall("m=audio .*", answer.body) == re.findall("m=audio .*", dialog.answer.body)


def test_a_new_address_takes_the_media_along(server: Server, peer: Peer, dialog: Dialog) -> None:
    peer.hears_rtp()
    elsewhere = Peer()
    offer = sdp(HOST, elsewhere.media_port, version=2)
    assert asked(server, peer, dialog.next("INVITE", body=offer)).status == 200
    source = elsewhere.hears_rtp()
    elsewhere.close()
    assert f"m=audio {source.port} " in dialog.answer.body


def test_a_new_contact_becomes_the_remote_target(server: Server, peer: Peer) -> None:
    """RFC 3261 §12.2: target refresh."""
    moved = Peer()
    # the agent hangs up 0.6 s after the 200
    dialog = answered(peer, server.address, user="later")
    answer = asked(server, peer, dialog.next("INVITE", body=dialog.invite.body, contact=contact_of(moved)))
    assert answer.status == 200
    bye = moved.request("BYE")
    moved.send(server.address, response(bye, 200))
    moved.close()
    assert bye.uri == contact_of(moved).strip("<>")


@pytest.mark.parametrize(
    ("hold", "answers"),
    [
        ({"lines": "a=sendonly\n"}, {"recvonly", "inactive"}),
        ({"lines": "a=inactive\n"}, {"inactive"}),
        ({"lines": "a=recvonly\n"}, {"sendonly"}),
        ({"c": "0.0.0.0"}, {"recvonly", "inactive", "sendrecv"}),  # RFC 2543's hold has no direction
    ],
    ids=["sendonly", "inactive", "recvonly", "c=0.0.0.0"],
)
def test_hold_and_resume(server: Server, peer: Peer, dialog: Dialog, hold: dict[str, str], answers: set[str]) -> None:
    held = asked(server, peer, dialog.next("INVITE", body=sdp(HOST, peer.media_port, version=2, **hold)))
    assert held.status == 200
    assert direction_of(held) in answers
    resumed = asked(server, peer, dialog.next("INVITE", body=sdp(HOST, peer.media_port, version=3)))
    assert (resumed.status, direction_of(resumed)) == (200, "sendrecv")
    peer.hears_rtp()


@pytest.mark.parametrize("line", ["a=sendonly\n", "a=inactive\n"])
def test_nothing_is_sent_to_a_held_caller_it_cannot_hear(server: Server, peer: Peer, dialog: Dialog, line: str) -> None:
    """RFC 3264 §8.4: who offers sendonly or inactive wants no media."""
    elsewhere = Peer()
    offer = sdp(HOST, elsewhere.media_port, lines=line, version=2)
    assert asked(server, peer, dialog.next("INVITE", body=offer)).status == 200
    with pytest.raises(AssertionError, match="no RTP"):
        elsewhere.hears_rtp(within_s=0.3)
    elsewhere.close()


def test_an_offerless_reinvite_gets_our_offer(server: Server, peer: Peer, dialog: Dialog) -> None:
    request = dialog.next("INVITE", body="")
    peer.send(server.address, str(request))
    offer = peer.final()
    assert offer.status == 200
    assert version_of(offer) >= version_of(dialog.answer)
    elsewhere = Peer()
    ack = request.with_(method="ACK", via=new_request(peer, server.address).via)
    peer.send(server.address, str(ack.with_(body=sdp(HOST, elsewhere.media_port, payloads="0 101", version=2))))
    source = elsewhere.hears_rtp()
    elsewhere.close()
    assert f"m=audio {source.port} " in offer.body


def test_a_reinvite_while_our_offer_waits_for_its_answer_gets_491(server: Server, peer: Peer, dialog: Dialog) -> None:
    first = dialog.next("INVITE", body="")
    peer.send(server.address, str(first))
    assert peer.final().status == 200
    assert asked(server, peer, dialog.next("INVITE", body=dialog.invite.body)).status == 491
    ack = first.with_(method="ACK", via=new_request(peer, server.address).via)
    peer.send(server.address, str(ack.with_(body=sdp(HOST, peer.media_port, version=2))))


def test_a_reinvite_without_a_common_codec_gets_488_and_the_call_lives(
    server: Server, peer: Peer, dialog: Dialog
) -> None:
    offer = sdp(HOST, peer.media_port, payloads="18", version=2)
    answer = asked(server, peer, dialog.next("INVITE", body=offer))
    assert answer.status == 488
    assert re.match(r'30\d \S+ ".+"', answer.get("warning"))
    assert asked(server, peer, dialog.next("OPTIONS")).status == 200
    peer.hears_rtp()


def test_a_reinvite_with_a_body_nobody_can_read_gets_415(server: Server, peer: Peer, dialog: Dialog) -> None:
    answer = asked(server, peer, dialog.next("INVITE", body="hello\n", content_type="text/plain"))
    assert (answer.status, answer.get("accept")) == (415, "application/sdp")


def test_a_change_of_codec(server: Server, peer: Peer, dialog: Dialog) -> None:
    answer = asked(server, peer, dialog.next("INVITE", body=sdp(HOST, peer.media_port, payloads="8 101", version=2)))
    assert re.findall(r"m=audio \d+ RTP/AVP 8 101", answer.body)
    assert version_of(answer) > version_of(dialog.answer)
    while peer.media.recv(2048)[1] & 0x7F != 8:
        pass


def test_a_copy_of_a_reinvite_gets_a_copy_of_its_answer(server: Server, peer: Peer, dialog: Dialog) -> None:
    request = dialog.next("INVITE", body=dialog.invite.body)
    peer.send(server.address, str(request))
    answer = peer.final()
    peer.send(server.address, str(request))
    assert peer.final() == answer
    peer.send(server.address, str(request.with_(method="ACK", body="", via=new_request(peer, server.address).via)))
