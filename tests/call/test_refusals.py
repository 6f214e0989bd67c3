"""Thirty refusals and more, both ways: each is explained with the rule, what shows it, and what to change."""

from __future__ import annotations

import pytest
from tests.call.phones import SILENT, RawPeer, TestPhone, phone
from tests.call.registrar import Registrar

from offhook.call.dialling import PlaceCall
from offhook.model.call_events import CallArrived, CallEnded, CallRefused
from offhook.sip import transaction
from offhook.sip.events import MessageRejected
from offhook.sip.uri import SipUri

SDP = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP {formats}\n"

# ── they refuse us ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "header", "evidence", "fix"),
    [
        (302, ("Contact", "<sip:else@192.0.2.9>"), "Contact: <sip:else", "Contact"),
        (400, ("Warning", '399 pbx "bad SDP line 4"'), "bad SDP line 4", "trace"),
        (401, ("WWW-Authenticate", 'Digest realm="r", nonce="n"'), "WWW-Authenticate: Digest", "trunk"),
        (403, None, "status line: 403", "caller id"),
        (404, None, "status line: 404", "user part"),
        (405, ("Allow", "OPTIONS"), "Allow: OPTIONS", "URI"),
        (407, ("Proxy-Authenticate", 'Digest realm="r", nonce="n"'), "Proxy-Authenticate", "trunk"),
        (408, None, "status line: 408", "in time"),
        (410, None, "status line: 410", "gone"),
        (415, ("Accept", "text/plain"), "Accept: text/plain", "SDP"),
        (420, ("Unsupported", "timer"), "Unsupported: timer", "extension"),
        (421, ("Require", "100rel"), "Require: 100rel", "requires"),
        (480, ("Reason", "Q.850;cause=20"), "Q.850;cause=20", "reachable"),
        (483, None, "status line: 483", "routes"),
        (484, None, "status line: 484", "digits"),
        (486, None, "status line: 486", "busy"),
        (488, ("Warning", '305 pbx "no common codec"'), "no common codec", "PCMU"),
        (499, None, "status line: 499", "malformed"),
        (500, None, "status line: 500", "error inside"),
        (503, ("Retry-After", "30"), "Retry-After: 30", "overloaded"),
        (603, None, "status line: 603", "declined"),
        (699, None, "status line: 699", "busy"),
    ],
)
async def test_what_they_say_is_told_with_a_fix(
    status: int, header: tuple[str, str] | None, evidence: str, fix: str
) -> None:
    async with Registrar() as pbx, phone(SILENT) as caller:
        pbx.invite_status, pbx.invite_headers = status, [] if header is None else [header]
        caller.call(pbx.address)
        ended = await caller.facts.until(CallEnded)
        (refused,) = caller.facts.of(CallRefused)
        assert (refused.status, ended.sip_code) == (status, status)
        assert evidence in refused.evidence
        assert fix in refused.fix
        assert refused.rule == "refused by the called side"


async def test_nobody_there_is_told_as_rfc_3261_counts_it() -> None:
    async with phone(SILENT) as caller:
        caller.phone.manager.place(PlaceCall(target=SipUri.parse("sip:a@127.0.0.1:9"), agent=SILENT))
        await caller.facts.until(CallEnded)
        (refused,) = caller.facts.of(CallRefused)
        assert (refused.status, refused.evidence) == (503, "127.0.0.1:9/UDP: Connection refused")
        assert "doctor" in refused.fix


async def test_a_name_that_does_not_exist_is_told() -> None:
    async with phone(SILENT) as caller:
        caller.phone.manager.place(PlaceCall(target=SipUri.parse("sip:a@nosuch.invalid:5060"), agent=SILENT))
        await caller.facts.until(CallEnded)
        (refused,) = caller.facts.of(CallRefused)
        assert refused.status == 503
        assert "nosuch.invalid" in refused.evidence


async def test_silence_is_told_with_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = dict(transaction.TIMER_RULES)
    timer_b = transaction.TimerName.B
    rules[timer_b] = type(rules[timer_b])(unreliable_s=0.2, reliable_s=0.2)
    monkeypatch.setattr("offhook.sip.transaction_layer.TIMER_RULES", rules)
    async with Registrar() as pbx, phone(SILENT) as caller:
        pbx.silent = True
        caller.call(pbx.address)
        await caller.facts.until(CallEnded)
        (refused,) = caller.facts.of(CallRefused)
        assert (refused.status, "timer B" in refused.rule) == (408, True)


# ── we refuse them ───────────────────────────────────────────────────────────────────────────────────────


async def rejection(callee: TestPhone, old: str, new: str) -> MessageRejected:
    """Send an INVITE with one thing changed and wait for its answer; what was told of it."""
    peer = RawPeer()
    text = peer.invite(callee.address, sdp=SDP.format(formats="0"))
    assert old in text, text
    peer.send(callee.address, text.replace(old, new))
    await peer.final_response()
    peer.close()
    return callee.phone.manager.rejections.latest[-1]


@pytest.mark.parametrize(
    ("old", "new", "status", "rule", "evidence"),
    [
        ("Max-Forwards: 70", "Max-Forwards: 70\nRequire: precondition", 420, "Require", "Require: precondition"),
        ("Content-Type: application/sdp", "Content-Type: text/plain", 415, "Content-Type", "Content-Type: text/plain"),
        ("Max-Forwards: 70", "Content-Encoding: gzip", 415, "Content-Encoding", "gzip"),
        ("Max-Forwards: 70", "Accept: text/plain", 406, "Accept", "Accept: text/plain"),
        ("INVITE sip:", "INVITE tel:+1;x=", 416, "Request-URI scheme", "tel:"),
        ("INVITE sip:", "INVITE sips:", 416, "Request-URI scheme", "sips:"),
        ("CSeq: 1 INVITE", "CSeq: 1 REGISTER", 400, "malformed CSeq", "REGISTER"),
        ("Max-Forwards: 70", "Max-Forwards: many", 400, "malformed Max-Forwards", "many"),
        ("From: <sip", "From: <<sip", 400, "malformed From", "<<sip"),
        ("SIP/2.0\n", "SIP/7.0\n", 505, "malformed start-line", "7.0"),
        ("tag=raw\nTo: <sip:demo@", "tag=raw\nTo: <sip:demo@x>;tag=none\nX: <sip:", 481, "no such dialog", "Call-ID"),
    ],
)
async def test_what_is_wrong_with_a_request_is_told(old: str, new: str, status: int, rule: str, evidence: str) -> None:
    async with phone(SILENT) as callee:
        told = await rejection(callee, old, new)
        assert (told.status, told.rule) == (status, rule)
        assert evidence in told.evidence
        assert told.fix


@pytest.mark.parametrize("method", ["REGISTER", "PUBLISH", "SUBSCRIBE"])
async def test_a_method_we_do_not_serve_is_told(method: str) -> None:
    async with phone(SILENT) as callee:
        told = await rejection(callee, "INVITE", method)
        assert (told.status, told.evidence) == (405, f"method {method}")
        assert "registrar" in told.fix if method == "REGISTER" else "INVITE" in told.fix


@pytest.mark.parametrize(
    ("text", "status", "rule"),
    [
        (SDP.format(formats="18"), 488, "RFC 3264 offer/answer"),
        (SDP.format(formats="0").replace("RTP/AVP", "RTP/SAVP"), 488, "RFC 3264 offer/answer"),
        ("v=0\no=broken\n", 488, "RFC 3264 offer/answer"),
    ],
)
async def test_an_offer_we_cannot_take_is_kept_with_the_call(text: str, status: int, rule: str) -> None:
    async with phone(SILENT) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=text))
        assert (await peer.final_response()).startswith(f"SIP/2.0 {status}")
        (refused,) = callee.facts.of(CallRefused)
        assert (refused.status, refused.rule) == (status, rule)
        assert refused.evidence
        assert refused.fix
        peer.close()


async def test_no_room_is_told_with_retry_after() -> None:
    async with phone(SILENT, max_calls=1) as callee, phone(SILENT) as caller:
        caller.call(callee)
        await callee.facts.until(CallArrived)
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=SDP.format(formats="0")))
        answer = await peer.final_response()
        assert answer.startswith("SIP/2.0 503")
        assert "Retry-After" in answer
        told = callee.phone.manager.rejections.latest[-1]
        assert (told.rule, "max_calls" in told.fix) == ("no room", True)
        peer.close()
