"""REFER by the peer (RFC 3515): we are asked to call somebody, and tell by NOTIFY how that goes.

Nothing is called by itself: the application is asked, and what it does not answer is declined.
"""

from __future__ import annotations

from functools import partial

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip.authentication import Proof
from offhook.sip.events import Flow, ReferReceived, ReferTold
from offhook.sip.in_dialog import Outcome, ask
from offhook.sip.inspection import Refusal, too_many
from offhook.sip.message import REASON_PHRASES, Request
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.refer_usage import Notice, ServedInput, ServedRefer, ServedState
from offhook.sip.refer_values import (
    FRAGMENT_TYPE,
    Fragment,
    ReferTo,
    refer_to_of,
    referred_by_of,
    wants_no_subscription,
)
from offhook.sip.usage import Usage, UsageState

ANSWER_WITHIN_S = 20.0
"""The peer gives its REFER up after 64*T1 = 32 s; before that it shall hear that nobody took it."""

EXPIRES_S = 300
"""How long our NOTIFYs go on: ringing (timer C, 180 s) and some more."""

DECLINE = 603
"""RFC 3515 §2.4.2: what a user agent answers that does not want to."""

TRYING = Fragment(status=100, reason="Trying")

_WITH_SESSION = frozenset({UsageState.ANSWERED, UsageState.CONFIRMED, UsageState.OFFERED})
_NO_SESSION = Refusal(
    status=481, rule="REFER without a session", evidence="", fix="refer once the call is answered, and before it ends"
)
_ANOTHER_WAITS = Refusal(
    status=500,
    rule="REFER while one waits",
    evidence="",
    fix="wait for the final response before the next REFER of a dialog",
    headers=(("Retry-After", str(round(ANSWER_WITHIN_S))),),
)
_UNANSWERED = Refusal(
    status=DECLINE,
    rule="REFER that nobody answered",
    evidence="",
    fix="set the trunk's refer policy, so that transfers by its peers are taken or refused at once",
)

# ── the request ──────────────────────────────────────────────────────────────────────────────────────────


def receive(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """A REFER in the usage's dialog, in order (§2.4.2)."""
    target = _hindrance(parts, usage) or _target_of(request)
    if isinstance(target, Refusal):
        parts.refuse(request, flow, target, now)
        return
    one = ServedRefer(
        refer_id=parts.refers.new_id(),
        usage_id=usage.usage_id,
        dialog=usage.settled,
        trunk_id=usage.trunk_id,
        credentials=usage.credentials,
        known_hosts=frozenset(usage.known_hosts),
        request=request,
        served=parts.serve(request, flow, now),
        unheard=wants_no_subscription(request.headers.get("Refer-Sub")),
    )
    one.parted = partial(_part, parts, one)
    one.timer = parts.timers.start(now + ANSWER_WITHIN_S, partial(_decline, parts, one, flow))
    parts.refers.add(one)
    parts.emit(
        ReferReceived(
            usage_id=usage.usage_id,
            refer_id=one.refer_id,
            request=request,
            refer_to=target.uri,
            replaces=target.replaces,
            referred_by=referred_by_of(request),
        )
    )


def _hindrance(parts: Parts, usage: Usage) -> Refusal | None:
    if usage.state not in _WITH_SESSION:
        return _NO_SESSION
    if any(one.state is ServedState.WAITING for one in parts.refers.served_in(usage)):
        return _ANOTHER_WAITS
    return None if parts.refers.room_for(ServedRefer, usage) else too_many(parts.limits.retry_after_s)


def _target_of(request: Request) -> ReferTo | Refusal:
    try:
        return refer_to_of(request)
    except SipParseError as error:
        fix = "send one Refer-To with a sip:, sips: or tel: URI, in angle brackets where it has headers"
        return Refusal(status=error.status, rule="Refer-To", evidence=str(error), fix=fix)


def _decline(parts: Parts, one: ServedRefer, flow: Flow, now: float) -> None:
    parts.explain(one.request, flow, _UNANSWERED)
    reject(parts, one, now, status=DECLINE)


def _part(parts: Parts, one: ServedRefer, now: float) -> None:
    """The call is over: RFC 3261 §15.1.2 has what waits answered with a 487. What was accepted goes on."""
    if one.state is ServedState.WAITING:
        reject(parts, one, now, status=487)


# ── the application's answer ─────────────────────────────────────────────────────────────────────────────


def waiting(parts: Parts, usage_id: int, refer_id: int) -> ServedRefer:
    """Raises ``LocalProtocolError`` for a REFER that is answered, or gone with its call."""
    one = parts.refers.served(usage_id, refer_id)
    if one is None or one.state is not ServedState.WAITING:
        raise LocalProtocolError(f"no REFER {refer_id} of usage {usage_id} waits for an answer")
    return one


def accept(parts: Parts, one: ServedRefer, now: float) -> None:
    """202, and the first NOTIFY at once (§2.4.4), unless the peer wants none (RFC 4488)."""
    one.advance(ServedInput.ACCEPT_UNHEARD if one.unheard else ServedInput.ACCEPT)
    headers = [("Contact", one.dialog.contact)]
    if one.unheard:
        headers.append(("Refer-Sub", "false"))
    parts.respond(one.served, 202, now, headers=headers)
    _stop_waiting(parts, one)
    if one.state is ServedState.OVER:
        _conclude(parts, one)
        return
    one.timer = parts.timers.start(now + EXPIRES_S, partial(_expire, parts, one))
    tell(parts, one, now, TRYING)


def reject(parts: Parts, one: ServedRefer, now: float, *, status: int, headers: HeaderLines = ()) -> None:
    """A 3xx-6xx; the REFER is over. Raises ``LocalProtocolError`` for another status."""
    if not 300 <= status <= 699:
        raise LocalProtocolError(f"{status} refuses nothing")
    one.advance(ServedInput.REJECT)
    _stop_waiting(parts, one)
    parts.respond(one.served, status, now, headers=headers)
    parts.refers.drop(one)


def _stop_waiting(parts: Parts, one: ServedRefer) -> None:
    if one.timer is not None:
        parts.timers.cancel(one.timer)
        one.timer = None


# ── NOTIFY ───────────────────────────────────────────────────────────────────────────────────────────────


def notify(parts: Parts, usage_id: int, refer_id: int, now: float, *, status: int, reason: str) -> None:
    """What the application tells. Raises ``LocalProtocolError`` before it has accepted, or for what is no status."""
    if not 100 <= status <= 699:
        raise LocalProtocolError(f"{status} is no status")
    one = parts.refers.served(usage_id, refer_id)
    if one is None:
        return
    if one.state is ServedState.WAITING:
        raise LocalProtocolError(f"REFER {refer_id} is not accepted yet")
    phrase = reason or REASON_PHRASES.get(status, "")
    tell(parts, one, now, Fragment(status=status, reason=phrase))


def tell(parts: Parts, one: ServedRefer, now: float, fragment: Fragment, *, why: str = "noresource") -> None:
    """Say by NOTIFY how the call goes that we were asked for; a final status is the last word (§2.4.5).

    ``why``: the reason of the subscription's end. Nothing is said after the end.
    """
    last = fragment.final or why != "noresource"
    given = ServedInput.TELL_LAST if last else ServedInput.TELL
    if not one.can(given):
        return
    one.advance(given)
    one.said = fragment
    left_s = EXPIRES_S if one.timer is None else max(0, round(one.timer.at - now))
    state = f"terminated;reason={why}" if last else f"active;expires={left_s}"
    if last:
        _stop_waiting(parts, one)
    one.due = Notice(fragment=fragment, state=state)
    if not one.under_way:
        _send_due(parts, one, now)


def _send_due(parts: Parts, one: ServedRefer, now: float) -> None:
    notice, one.due = one.due, None
    if notice is None:
        return
    request = one.dialog.request("NOTIFY")
    request.headers.add("Contact", one.dialog.contact)
    request.headers.add("Event", f"refer;id={one.request.cseq.number}")
    request.headers.add("Subscription-State", notice.state)
    parts.finish(request, body=bytes(notice.fragment), content_type=f"{FRAGMENT_TYPE};version=2.0")
    proof = Proof.of(one.credentials, one.known_hosts)
    one.under_way = True
    ask(parts, one.dialog, request, proof=proof, tell=partial(_notified, parts, one), now=now)


def _notified(parts: Parts, one: ServedRefer, outcome: Outcome, now: float) -> None:
    """RFC 6665 §4.2.2: a NOTIFY that fails ends the subscription."""
    one.under_way = False
    if not outcome.success:
        one.advance(ServedInput.DEAF)
    elif one.due is not None:
        _send_due(parts, one, now)
    elif one.state is ServedState.CLOSING:
        one.advance(ServedInput.TOLD)
    if one.state is ServedState.OVER:
        _stop_waiting(parts, one)
        _conclude(parts, one)


def _conclude(parts: Parts, one: ServedRefer) -> None:
    parts.refers.drop(one)
    if one.usage_id in parts.usages:
        parts.emit(ReferTold(usage_id=one.usage_id, refer_id=one.refer_id))


def _expire(parts: Parts, one: ServedRefer, now: float) -> None:
    """RFC 6665 §4.2.2: the subscription's time is over, and the peer hears what was known last."""
    one.timer = None
    tell(parts, one, now, one.said or TRYING, why="timeout")
