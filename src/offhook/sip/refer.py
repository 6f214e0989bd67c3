"""REFER by us (RFC 3515): the peer is asked to call somebody, and its NOTIFYs tell how that goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from offhook.model.errors import LocalProtocolError, ResourceExhaustedError, SipParseError
from offhook.sip.authentication import Proof
from offhook.sip.events import Flow, ReferAnswered, ReferProgress
from offhook.sip.headers import NameAddr
from offhook.sip.in_dialog import Outcome, ask
from offhook.sip.inspection import Refusal
from offhook.sip.message import Request
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.refer_usage import REFERS_A_CALL, AskedInput, AskedRefer, AskedState
from offhook.sip.refer_values import FRAGMENT_TYPE, EventType, Fragment, SubscriptionState, wants_no_subscription
from offhook.sip.transaction import GIVE_UP_S
from offhook.sip.uri import SipUri, is_sip
from offhook.sip.usage import Usage, UsageState

FIRST_NOTIFY_S = GIVE_UP_S
"""RFC 6665 §4.1.2.4, timer N: 64*T1 from the 2xx to the first NOTIFY, or there is no subscription."""

LEAST_S = 180.0
"""After a NOTIFY we wait at least this long, whatever it says: RFC 3261 lets a call ring so long (timer C)."""

MOST_S = 3600.0
"""And at most this long: nobody rings for an hour."""

AFTERLIFE_S = 180.0
"""How long NOTIFYs are still taken once the INVITE usage is gone: a PBX says BYE first and lets the target ring on."""

CONCLUDED_S = GIVE_UP_S
"""How long NOTIFYs are taken that tell no news, from a peer that told the end and terminates nothing."""

_HEARING = (AskedState.ASKED, AskedState.FOLLOWED)
_EVENT = ("Allow-Events", "refer")
_ACCEPT = ("Accept", FRAGMENT_TYPE)


def refer(
    parts: Parts, usage: Usage, now: float, *, refer_to: str, referred_by: str = "", headers: HeaderLines = ()
) -> int:
    """Ask the peer to call ``refer_to``, a URI; returns the refer_id. ``referred_by``: ours, as URI or name-addr.

    Raises ``LocalProtocolError`` outside a settled call and for what is no URI, ``ResourceExhaustedError`` where
    too many are under way.
    """
    if usage.state is not UsageState.CONFIRMED:
        raise LocalProtocolError(f"usage {usage.usage_id} is {usage.state.name}: REFER needs a call that is up")
    if not parts.refers.room_for(AskedRefer, usage):
        raise ResourceExhaustedError(f"{REFERS_A_CALL} REFERs in a call, {parts.refers.most} in all: no room for more")
    target, referrer = _written(refer_to), _written(referred_by) if referred_by else None
    dialog = usage.settled
    request = dialog.request("REFER")
    request.headers.add("Contact", dialog.contact)
    request.headers.add("Refer-To", str(target))
    if referrer is not None:
        request.headers.add("Referred-By", str(referrer))
    parts.finish(request, headers=headers)
    one = AskedRefer(
        refer_id=parts.refers.new_id(),
        usage_id=usage.usage_id,
        dialog=dialog,
        trunk_id=usage.trunk_id,
        credentials=usage.credentials,
        known_hosts=frozenset(usage.known_hosts),
        lasts_s=FIRST_NOTIFY_S,
    )
    one.parted = partial(_shorten, parts, one)
    parts.refers.add(one)
    proof = Proof.of(one.credentials, one.known_hosts)
    one.asked = ask(parts, dialog, request, proof=proof, tell=partial(_answered, parts, one), now=now)
    return one.refer_id


def _written(text: str) -> NameAddr:
    """A name-addr, or a URI alone. Raises ``LocalProtocolError``."""
    try:
        address = NameAddr.parse(text if "<" in text else f"<{text}>")
        if is_sip(address.uri):
            SipUri.check(address.uri)
    except SipParseError as error:
        raise LocalProtocolError(f"no URI to refer to, or by: {error.problem}") from None
    return address


def _answered(parts: Parts, one: AskedRefer, outcome: Outcome, now: float) -> None:
    """§2.4.2: a 2xx says that the peer will try; 202 and 200 alike (RFC 7647 §3)."""
    unheard = outcome.response is not None and wants_no_subscription(outcome.response.headers.get("Refer-Sub"))
    if not outcome.success:
        one.advance(AskedInput.REFUSED)
    else:
        one.advance(AskedInput.ACCEPTED_UNHEARD if unheard else AskedInput.ACCEPTED)
    parts.emit(
        ReferAnswered(
            usage_id=one.usage_id,
            refer_id=one.refer_id,
            status=outcome.status,
            reason=outcome.reason,
            subscribed=outcome.success and not unheard,
        )
    )
    _settle(parts, one, now)


# ── NOTIFY ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class _News:
    """What a NOTIFY says to which REFER. ``fragment`` None: nothing that can be read."""

    refer: AskedRefer
    state: SubscriptionState
    fragment: Fragment | None


def followed_by(parts: Parts, request: Request) -> AskedRefer | None:
    """A REFER of ours in the dialog of ``request``, whether or not its INVITE usage is still there (RFC 5057)."""
    refers = parts.refers.asked_in(request.sip_call_id, request.to.tag or "", request.from_.tag or "")
    return refers[0] if refers else None


def receive_notify(parts: Parts, _: Usage | None, request: Request, flow: Flow, now: float) -> None:
    """A NOTIFY in a dialog, in order (§2.4.4)."""
    news = _read(parts, request)
    if isinstance(news, Refusal):
        parts.refuse(request, flow, news, now)
        return
    parts.respond(parts.serve(request, flow, now), 200, now)
    _take(parts, news, now)


def _read(parts: Parts, request: Request) -> _News | Refusal:
    package = request.headers.get("Event") or ""
    try:
        event = EventType.parse(package)
        if event.package != "refer":
            raise SipParseError("Event", f"we subscribe to refer alone, not to {event.package[:40]!r}")
    except SipParseError as error:
        fix = "let NOTIFY say Event: refer, with the id of our REFER"
        return Refusal(status=489, rule="Event", evidence=str(error), fix=fix, headers=(_EVENT,))
    refer = _referred_to(parts, request, event.id_)
    if refer is None:
        fix = "the subscription is over, or the id is not the CSeq number of a REFER of ours: stop notifying"
        return Refusal(status=481, rule="NOTIFY of no subscription", evidence=f"Event: {package[:80]}", fix=fix)
    try:
        state = _state_of(request)
        fragment = _fragment_of(request, state)
    except SipParseError as error:
        fix = "send Subscription-State and the status line of the new call's response as message/sipfrag"
        return Refusal(status=error.status, rule="NOTIFY", evidence=str(error), fix=fix, headers=(_ACCEPT,))
    return _News(refer=refer, state=state, fragment=fragment)


def _referred_to(parts: Parts, request: Request, event_id: str | None) -> AskedRefer | None:
    """§2.4.6: the REFER with the CSeq that ``id`` says; without one, the first that is under way."""
    refers = parts.refers.asked_in(request.sip_call_id, request.to.tag or "", request.from_.tag or "")
    if event_id is not None:
        refers = [one for one in refers if str(one.number) == event_id.lstrip("0")]
    return refers[0] if refers else None


def _state_of(request: Request) -> SubscriptionState:
    """RFC 6665 §4.1.3; phones of RFC 2543's days leave it out, and then the fragment alone tells the end."""
    value = request.headers.get("Subscription-State")
    return SubscriptionState(state="active") if value is None else SubscriptionState.parse(value)


def _fragment_of(request: Request, state: SubscriptionState) -> Fragment | None:
    """What the body says. The last NOTIFY is taken whatever it brings, and one without body says nothing new."""
    content_type = "".join((request.headers.get("Content-Type") or "").partition(";")[0].split()).lower()
    try:
        if request.body and content_type != FRAGMENT_TYPE:
            raise SipParseError("Content-Type", f"{content_type[:40]!r} is not {FRAGMENT_TYPE}", 415)
        return Fragment.parse(request.body) if request.body else None
    except SipParseError:
        if state.terminated:
            return None
        raise


def _take(parts: Parts, news: _News, now: float) -> None:
    one, fragment = news.refer, news.fragment
    heard = one.state in _HEARING
    ends = news.state.terminated or (fragment is not None and fragment.final)
    one.advance(AskedInput.TERMINATED if news.state.terminated else AskedInput.FINAL if ends else AskedInput.PROGRESS)
    one.lasts_s = min(max(float(news.state.expires_s or 0), LEAST_S), MOST_S)
    if heard and (ends or fragment is not None):
        status = None if fragment is None else fragment.status
        reason = news.state.reason if fragment is None else fragment.reason
        _tell(parts, one, status=status, reason=reason, terminated=ends)
    _settle(parts, one, now)


def _tell(parts: Parts, one: AskedRefer, *, status: int | None, reason: str, terminated: bool) -> None:
    parts.emit(
        ReferProgress(usage_id=one.usage_id, refer_id=one.refer_id, status=status, reason=reason, terminated=terminated)
    )


# ── how long ─────────────────────────────────────────────────────────────────────────────────────────────


def _settle(parts: Parts, one: AskedRefer, now: float) -> None:
    """Forget it, or wait for what comes next; the REFER itself is waited for by its transaction."""
    if one.timer is not None:
        parts.timers.cancel(one.timer)
        one.timer = None
    if one.state is AskedState.OVER:
        parts.refers.drop(one)
    elif one.state is AskedState.CONCLUDED:
        _wait(parts, one, now, CONCLUDED_S)
    elif one.state is AskedState.FOLLOWED:
        alive = one.usage_id in parts.usages
        _wait(parts, one, now, one.lasts_s if alive else min(one.lasts_s, AFTERLIFE_S))


def _wait(parts: Parts, one: AskedRefer, now: float, seconds: float) -> None:
    one.timer = parts.timers.start(now + seconds, partial(_expire, parts, one))


def _shorten(parts: Parts, one: AskedRefer, now: float) -> None:
    """The INVITE usage is gone."""
    one.lasts_s = min(one.lasts_s, AFTERLIFE_S)
    if one.timer is not None and one.timer.at > now + AFTERLIFE_S:
        parts.timers.cancel(one.timer)
        _wait(parts, one, now, AFTERLIFE_S)


def _expire(parts: Parts, one: AskedRefer, now: float) -> None:
    """Whoever asked is owed an end, even where the peer tells none."""
    heard = one.state in _HEARING
    one.timer = None
    one.advance(AskedInput.EXPIRED)
    _settle(parts, one, now)
    if heard:
        _tell(parts, one, status=None, reason="the peer told no end", terminated=True)
