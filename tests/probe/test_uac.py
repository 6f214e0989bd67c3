"""``offhook call`` against a callee made of bare bytes: what it sends, repeats, acknowledges, and how it ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from tests.probe.drafts import Draft, new_via, response, sdp
from tests.probe.programs import Caller, result
from tests.probe.wire import HOST, Message, Peer, unique

Dial = Callable[..., Caller]

ANSWERED, NOT_ANSWERED, SILENT, INTERRUPTED = 0, 1, 3, 130
"""The exit codes of ``offhook call``."""


@pytest.fixture
def dial(peer: Peer) -> Iterator[Dial]:
    """``dial(*options)``: a caller whose INVITE has arrived at ``peer``."""
    started: list[Caller] = []

    def start(*options: str, parameters: str = "") -> Caller:
        started.append(Caller(peer, *options, parameters=parameters))
        return started[-1]

    yield start
    for caller in started:
        if caller.running:
            caller.kill()
        assert "Traceback" not in caller.output, caller.output


def ok(caller: Caller, *, contact: str = "", tag: str = "callee", extra: str = "") -> str:
    """200 with an answer at the peer's RTP port."""
    peer = caller.peer
    return response(
        caller.invite,
        200,
        to_tag=tag,
        contact=contact or f"sip:bob@{peer.host_port}",
        extra=extra,
        body=sdp(HOST, peer.media_port, payloads="0 101"),
    )


def in_dialog(caller: Caller, method: str, *, number: int = 1, body: str = "", tag: str = "callee") -> Draft:
    """A request of the callee in the call."""
    invite, peer = caller.invite, caller.peer
    return Draft(
        method=method,
        uri=invite.get("contact").strip("<>"),
        via=(new_via(peer),),
        from_=f"{invite.get('to')};tag={tag}",
        to=invite.get("from"),
        call_id=invite.get("call-id"),
        contact=f"<sip:bob@{peer.host_port}>",
        number=number,
        body=body,
    )


def ring_off(caller: Caller) -> int:
    """The callee hangs up; returns the caller's exit code."""
    caller.answer(str(in_dialog(caller, "BYE")))
    assert caller.peer.final("BYE").status == 200
    return caller.ends()


# ── the INVITE and its ACK ───────────────────────────────────────────────────────────────────────────────


def test_the_invite_is_complete(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §8.1.1, §13.2.1."""
    caller = dial("--from", "alice")
    invite = caller.invite
    assert invite.start == f"INVITE sip:bob@{peer.host_port} SIP/2.0"
    assert re.match(r"SIP/2\.0/UDP \S+;.*branch=z9hG4bK\S{8,}", invite.get("via"))
    assert "rport" in invite.get("via")
    assert invite.get("max-forwards") == "70"
    assert invite.get("from").startswith("<sip:alice@")
    assert len(invite.from_tag) >= 8
    assert invite.to_tag == ""
    assert "INVITE" in invite.get("allow")
    assert invite.get("contact").startswith(f"<sip:alice@{HOST}:{caller.address.port}")
    assert re.search(r"m=audio [1-9]\d+ RTP/AVP 9 0 8 \d+", invite.body)
    caller.answer(response(invite, 603, to_tag="callee"))
    assert peer.request("ACK").to_tag == "callee"
    assert caller.ends() == NOT_ANSWERED


def test_the_invite_is_repeated_by_timer_a_until_something_comes(peer: Peer, dial: Dial) -> None:
    caller = dial()
    began = time.monotonic()
    assert peer.request("INVITE") == caller.invite
    assert 0.3 < time.monotonic() - began < 1.2
    caller.answer(response(caller.invite, 100))
    assert peer.messages(for_s=1.3) == []
    caller.interrupt()
    assert peer.request("CANCEL").number == caller.invite.number


@pytest.mark.soak
def test_without_any_answer_the_call_is_given_up_after_64_t1(peer: Peer, dial: Dial) -> None:
    caller = dial("--json")
    began = time.monotonic()
    copies = [message for message in peer.messages(for_s=31.0) if message.method == "INVITE"]
    assert len(copies) == 5  # at 0.5, 1.5, 3.5, 7.5, 15.5 s; the one at 31.5 s is for the next test
    assert caller.ends() == NOT_ANSWERED
    assert 31.5 < time.monotonic() - began < 36
    end = result(caller.output)["end"]
    assert (end["cause"], end["sip_code"]) == ("unreachable", 408)


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "no such number"), (486, "busy"), (503, "overloaded"), (407, "credentials"), (606, "Probed")],
)
def test_a_refusal_is_acknowledged_and_explained(peer: Peer, dial: Dial, status: int, words: str) -> None:
    """RFC 3261 §17.1.1.3: the ACK has the INVITE's branch, number, Request-URI and the response's To tag."""
    caller = dial()
    caller.answer(response(caller.invite, 100))
    caller.answer(response(caller.invite, status, to_tag="refuser"))
    ack = peer.request("ACK")
    assert ack.all("via") == caller.invite.all("via")
    assert (ack.uri, ack.to_tag, ack.number) == (caller.invite.uri, "refuser", caller.invite.number)
    assert caller.ends() == NOT_ANSWERED
    assert str(status) in caller.output
    assert words in caller.output


def test_a_copy_of_a_refusal_is_acknowledged_again(peer: Peer, dial: Dial) -> None:
    """As long as the process lives; it ends soon after."""
    caller = dial()
    refusal = response(caller.invite, 486, to_tag="busy")
    caller.answer(refusal)
    caller.answer(refusal)
    assert peer.request("ACK") == peer.request("ACK")


def test_the_ack_of_a_200_goes_to_the_contact(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §13.2.2.4: a request of its own, in the dialog."""
    caller = dial()
    desk = Peer()
    caller.answer(response(caller.invite, 180, to_tag="callee"))
    caller.answer(ok(caller, contact=f"sip:desk@{desk.host_port};x=y"))
    ack = desk.request("ACK")
    desk.close()
    assert ack.uri == f"sip:desk@{HOST}:{desk.address.port};x=y"
    assert ack.all("via") != caller.invite.all("via")
    assert (ack.to_tag, ack.number, ack.all("route"), ack.body) == ("callee", caller.invite.number, [], "")
    assert ring_off(caller) in {ANSWERED, SILENT}


def test_the_ack_follows_a_loose_route(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §12.1.2: the caller takes Record-Route in reverse order."""
    caller = dial()
    caller.answer(
        ok(
            caller,
            contact="sip:desk@192.0.2.7",
            extra=f"Record-Route: <sip:far.example.com;lr>, <sip:{peer.host_port};lr>\n",
        )
    )
    ack = peer.request("ACK")
    assert ack.uri == "sip:desk@192.0.2.7"
    route = [value for line in ack.all("route") for value in line.split(", ")]
    assert route == [f"<sip:{peer.host_port};lr>", "<sip:far.example.com;lr>"]
    assert ring_off(caller) in {ANSWERED, SILENT}


def test_the_ack_follows_a_strict_route(peer: Peer, dial: Dial) -> None:
    caller = dial()
    caller.answer(ok(caller, contact="sip:desk@192.0.2.7", extra=f"Record-Route: <sip:{peer.host_port}>\n"))
    ack = peer.request("ACK")
    assert ack.uri == f"sip:{peer.host_port}"
    assert ack.all("route") == ["<sip:desk@192.0.2.7>"]
    assert ring_off(caller) in {ANSWERED, SILENT}


def test_a_copy_of_the_200_is_acknowledged_again(peer: Peer, dial: Dial) -> None:
    """What baresip forgets."""
    caller = dial()
    caller.answer(ok(caller))
    first = peer.request("ACK")
    caller.answer(ok(caller))
    assert peer.request("ACK") == first
    assert ring_off(caller) in {ANSWERED, SILENT}


def test_a_second_forks_200_is_acknowledged_and_ended(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §13.2.2.4."""
    caller = dial()
    caller.answer(ok(caller))
    assert peer.request("ACK").to_tag == "callee"
    caller.answer(ok(caller, tag="second"))
    extra = [peer.receive(), peer.receive()]
    assert [(message.method, message.to_tag) for message in extra] == [("ACK", "second"), ("BYE", "second")]
    caller.answer(response(extra[1], 200))
    assert ring_off(caller) in {ANSWERED, SILENT}


def test_a_callee_of_rfc_2543_without_to_tag(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §12.1.2: "a missing tag is considered to be null"."""
    caller = dial()
    caller.answer(ok(caller, tag=""))
    assert peer.request("ACK").to_tag == ""
    bye = in_dialog(caller, "BYE")
    caller.answer(str(bye.with_(from_=bye.from_.replace(";tag=callee", ""))))
    assert peer.final("BYE").status == 200
    assert caller.ends() in {ANSWERED, SILENT}


# ── CANCEL ───────────────────────────────────────────────────────────────────────────────────────────────


def test_cancel_waits_for_a_provisional_response(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §9.1: "If no provisional response has been received, the CANCEL request MUST NOT be sent"."""
    caller = dial()
    caller.interrupt()
    assert all(message.method == "INVITE" for message in peer.messages(for_s=0.8))
    caller.answer(response(caller.invite, 100))
    cancel = peer.request("CANCEL")
    assert cancel.all("via") == caller.invite.all("via")
    assert (cancel.uri, cancel.number, cancel.to_tag) == (caller.invite.uri, caller.invite.number, "")
    assert (cancel.from_tag, cancel.get("call-id")) == (caller.invite.from_tag, caller.invite.get("call-id"))
    caller.answer(response(cancel, 200, to_tag="callee"))
    caller.answer(response(caller.invite, 487, to_tag="callee"))
    ack = peer.request("ACK")
    assert ack.all("via") == caller.invite.all("via")
    assert caller.ends() == INTERRUPTED


def test_nobody_answers_within_the_ring_time(peer: Peer, dial: Dial) -> None:
    caller = dial("--ring-timeout", "1", "--json")
    caller.answer(response(caller.invite, 180, to_tag="callee"))
    cancel = peer.request("CANCEL")
    caller.answer(response(cancel, 200, to_tag="callee"))
    caller.answer(response(caller.invite, 487, to_tag="callee"))
    assert peer.request("ACK").to_tag == "callee"
    assert caller.ends() == NOT_ANSWERED
    assert result(caller.output)["end"]["cause"] == "no_answer"


def test_a_200_that_crosses_the_cancel_is_acknowledged_and_ended(peer: Peer, dial: Dial) -> None:
    """RFC 3261 §9.1: the caller hangs up the call that came too late."""
    caller = dial()
    caller.answer(response(caller.invite, 180, to_tag="callee"))
    caller.interrupt()
    cancel = peer.request("CANCEL")
    caller.answer(ok(caller))
    caller.answer(response(cancel, 200, to_tag="callee"))
    ended = [peer.receive(), peer.receive()]
    assert [message.method for message in ended] == ["ACK", "BYE"]
    caller.answer(response(ended[1], 200))
    assert caller.ends() == INTERRUPTED


# ── in the call ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_callers_bye_is_repeated_until_it_is_answered(peer: Peer, dial: Dial) -> None:
    caller = dial()
    caller.answer(ok(caller))
    assert peer.request("ACK").to_tag == "callee"
    caller.interrupt()
    bye = peer.request("BYE")
    began = time.monotonic()
    assert peer.request("BYE") == bye
    assert 0.3 < time.monotonic() - began < 1.2
    assert (bye.number, bye.uri) == (caller.invite.number + 1, f"sip:bob@{peer.host_port}")
    caller.answer(response(bye, 200))
    assert caller.ends() == INTERRUPTED


def test_a_bye_of_the_callee_is_answered_and_so_is_its_copy(peer: Peer, dial: Dial) -> None:
    caller = dial("--json")
    caller.answer(ok(caller))
    assert peer.request("ACK").to_tag == "callee"
    bye = str(in_dialog(caller, "BYE"))
    caller.answer(bye)
    caller.answer(bye)
    assert peer.final("BYE") == peer.final("BYE")
    assert caller.ends() == SILENT
    end = result(caller.output)["end"]
    assert (end["by"], end["cause"], end["phase"]) == ("caller", "hangup", "up")


def test_the_exit_code_tells_that_audio_came(peer: Peer, dial: Dial) -> None:
    caller = dial()
    caller.answer(ok(caller))
    assert peer.request("ACK").to_tag == "callee"
    port = re.search(r"m=audio (\d+)", caller.invite.body)
    assert port is not None
    for number in range(10):
        peer.media.sendto(
            bytes([0x80, 0, 0, number, 0, 0, number * 160 >> 8, number * 160 & 255, 0, 0, 0, 9]) + b"\xff" * 160,
            (HOST, int(port[1])),
        )
        time.sleep(0.02)  # a telephone's pace: there is no event to wait for
    assert ring_off(caller) == ANSWERED


def test_a_reinvite_of_the_callee_moves_the_media(peer: Peer, dial: Dial) -> None:
    caller = dial()
    caller.answer(ok(caller))
    assert peer.request("ACK").to_tag == "callee"
    elsewhere = Peer()
    request = in_dialog(caller, "INVITE", body=sdp(HOST, elsewhere.media_port, payloads="0", version=2))
    caller.answer(str(request))
    answer = peer.final()
    assert answer.status == 200
    caller.answer(str(request.with_(method="ACK", body="", via=(new_via(peer),))))
    elsewhere.hears_rtp()
    elsewhere.close()
    caller.answer(str(in_dialog(caller, "BYE", number=2)))
    assert peer.final("BYE").status == 200


def test_an_answer_without_a_common_codec_ends_the_call_politely(peer: Peer, dial: Dial) -> None:
    """The 2xx stands, so it is acknowledged, and then ended with BYE."""
    caller = dial()
    caller.answer(
        response(
            caller.invite, 200, to_tag="callee", contact=f"sip:bob@{peer.host_port}", body=sdp(HOST, 9, payloads="18")
        )
    )
    requests = [peer.receive(), peer.receive()]
    assert [message.method for message in requests] == ["ACK", "BYE"]
    caller.answer(response(requests[1], 200))
    assert caller.ends() == NOT_ANSWERED
    assert "codec" in caller.output


def test_an_offer_meets_a_stranger_at_the_callers_port(peer: Peer, dial: Dial) -> None:
    """A caller is no server: whoever rings at its port is refused, and its own call goes on."""
    caller = dial()
    caller.answer(ok(caller))
    assert peer.request("ACK").to_tag == "callee"
    stranger = in_dialog(caller, "INVITE", body=sdp(HOST, 9)).with_(
        to=f"<sip:offhook@{HOST}>", call_id=unique("stranger"), from_=f"<sip:s@{HOST}>;tag=s"
    )
    caller.answer(str(stranger))
    refusal = peer.final()
    caller.answer(str(stranger.companion("ACK").with_(to=refusal.get("to"))))
    assert refusal.status in {404, 480, 486, 503}
    assert ring_off(caller) in {ANSWERED, SILENT}


def test_messages_of_nobody_change_nothing(peer: Peer, dial: Dial) -> None:
    caller = dial()
    caller.answer(response(caller.invite, 180, to_tag="callee"))
    forged = response(caller.invite, 200, to_tag="thief", body=sdp(HOST, 9))
    branch = re.search(r"branch=([^;\s]+)", caller.invite.get("via"))
    assert branch is not None
    caller.answer(forged.replace(branch[1], "z9hG4bKguessed"))
    caller.answer("SIP/2.0 200 OK\n\n")
    assert peer.messages(for_s=0.3) == []
    caller.answer(ok(caller))
    ack: Message = peer.request("ACK")
    assert ack.to_tag == "callee"
    assert ring_off(caller) in {ANSWERED, SILENT}
