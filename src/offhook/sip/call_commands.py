"""The application's side of the user agent: what it may do with a call. One that the state does not allow raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from offhook.model.trunks import ReliableProvisional
from offhook.sip import (
    acknowledge,
    bye,
    info_message,
    invite,
    prack,
    refer,
    referred,
    reinvite,
    replaces,
    snapshot,
    update,
)
from offhook.sip.digest import DigestClient
from offhook.sip.events import Flow, Hop
from offhook.sip.headers import NameAddr
from offhook.sip.inspection import SDP
from offhook.sip.parts import HeaderLines, Parts, writable
from offhook.sip.replaces import ReplacingUri
from offhook.sip.session_interval import DEFAULT_SESSION_TIMER, SessionTimerRules
from offhook.sip.snapshot import Json
from offhook.sip.uri import SipUri
from offhook.sip.usage import UsageInput, UsageState


class CallCommands:
    """Commands on one INVITE usage, ``usage_id``; each raises ``LocalProtocolError`` where it comes too late."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def invite(
        self,
        *,
        target: SipUri,
        from_: NameAddr,
        to: NameAddr | None = None,
        flow: Flow,
        next_hop: Hop,
        offer: bytes = b"",
        content_type: str = SDP,
        headers: HeaderLines = (),
        credentials: DigestClient | None = None,
        trunk_id: str = "",
        session_timer: SessionTimerRules = DEFAULT_SESSION_TIMER,
        reliable: ReliableProvisional = "supported",
        now: float,
    ) -> int:
        """Call ``target``; returns the usage. Without ``offer`` the callee makes one.

        ``credentials`` answer the challenges to this INVITE and to what follows in its dialog. ``trunk_id``: by which
        trunk it goes, which is the one that an INVITE must come by to replace it (RFC 3891). ``session_timer``: how
        long the session may last without refresh (RFC 4028); the core refreshes it where that falls to us.
        ``reliable``: whether provisional responses may, must or must not ask for PRACK (RFC 3262).

        Raises ``ResourceExhaustedError`` where there is no room for one more usage.
        """
        wanted = invite.Invitation(
            target=target,
            from_=from_,
            to=to,
            flow=flow,
            next_hop=next_hop,
            offer=offer,
            content_type=content_type,
            headers=writable(headers),
            credentials=credentials,
            trunk_id=trunk_id,
            session_timer=session_timer,
            reliable=reliable,
        )
        return invite.invite(self._parts, wanted, now)

    def ring(
        self,
        usage_id: int,
        now: float,
        *,
        status: int = 180,
        body: bytes = b"",
        headers: HeaderLines = (),
        reliable: bool = False,
    ) -> None:
        """Send a provisional response, 101-199; with ``body``, early media.

        ``reliable``: repeated until the caller acknowledges it (RFC 3262), where ``peer_supports`` 100rel; with
        ``body`` it is the answer (or the offer, where the INVITE had none), and what ``answer`` carries is not sent.
        One that comes before the last one's PRACK is sent after it. An INVITE that requires 100rel makes all reliable.
        """
        usage, lines = self._parts.usage(usage_id), writable(headers)
        invite.ring(self._parts, usage, now, status=status, body=body, headers=lines, reliable=reliable)

    def answer_prack(self, usage_id: int, now: float, *, body: bytes, headers: HeaderLines = ()) -> None:
        """200 to the PRACK that brought an offer, with the answer."""
        prack.answer(self._parts, self._parts.usage(usage_id), now, body=body, headers=writable(headers))

    def reject_prack(self, usage_id: int, now: float, *, status: int = 488, headers: HeaderLines = ()) -> None:
        """A final 4xx-6xx to the PRACK that brought an offer: the session stays as it was."""
        prack.reject(self._parts, self._parts.usage(usage_id), now, status=status, headers=writable(headers))

    def prack(self, usage_id: int, now: float, *, remote_tag: str, body: bytes, headers: HeaderLines = ()) -> None:
        """Answer the offer that a reliable provisional response brought in the early dialog ``remote_tag``."""
        usage, lines = self._parts.usage(usage_id), writable(headers)
        prack.prack(self._parts, usage, now, remote_tag=remote_tag, body=body, headers=lines)

    def peer_supports(self, usage_id: int, option: str) -> bool:
        """Whether the peer named an option tag of ours in Supported or Require, as ``100rel`` or ``timer``."""
        return option.lower() in self._parts.usage(usage_id).peer_supports

    def peer_allows(self, usage_id: int, method: str) -> bool | None:
        """Whether the peer's latest Allow named a method of ours, as ``INFO``, ``REFER`` or ``UPDATE``.

        None: it never sent one, and only a try can tell.
        """
        allowed = self._parts.usage(usage_id).peer_allows
        return method in allowed if allowed else None

    def answer(
        self,
        usage_id: int,
        now: float,
        *,
        body: bytes,
        headers: HeaderLines = (),
        session_timer: SessionTimerRules | None = None,
    ) -> None:
        """200 to the INVITE or to the pending re-INVITE. It waits for the PRACK of a session description.

        ``session_timer`` instead of what ``use_session_timers`` has for the usage's trunk.
        """
        usage = self._parts.usage(usage_id)
        usage.timer_rules = session_timer or usage.timer_rules
        procedure = invite.answer if usage.unanswered else reinvite.answer
        procedure(self._parts, usage, now, body=body, headers=writable(headers))

    def reject(
        self, usage_id: int, now: float, *, status: int, reason: str | None = None, headers: HeaderLines = ()
    ) -> None:
        """A final 3xx-6xx to the INVITE (usage gone), or to the pending re-INVITE (the call goes on as it was)."""
        usage = self._parts.usage(usage_id)
        writable([("reason", reason or "")])
        procedure = invite.reject if usage.unanswered else invite.refuse_pending
        procedure(self._parts, usage, now, status=status, reason=reason, headers=writable(headers))

    def ack(self, usage_id: int, now: float, *, body: bytes = b"") -> None:
        """Acknowledge the 2xx that brought the callee's offer; ``body`` is the answer."""
        usage = self._parts.usage(usage_id)
        usage.advance(UsageInput.SEND_ACK)
        usage.local_session = body or usage.local_session
        acknowledge.acknowledge(self._parts, usage, usage.offer_number, body)

    def cancel(self, usage_id: int, now: float) -> None:
        """Give our INVITE up: ``InviteFailed`` follows. CANCEL waits for a provisional response (RFC 3261 §9.1)."""
        invite.cancel(self._parts, self._parts.usage(usage_id), now)

    def sip_call_id(self, usage_id: int) -> str:
        """Its Call-ID."""
        return self._parts.usage(usage_id).sip_call_id

    def heard(self, usage_id: int) -> bool:
        """Whether anything came back to our INVITE yet, a 100 at least."""
        return self._parts.usage(usage_id).state not in (UsageState.CALLING, UsageState.CANCEL_WANTED)

    def bye(self, usage_id: int, now: float, *, headers: HeaderLines = ()) -> None:
        """Hang up: ``UsageEnded`` follows. As callee before the ACK, the BYE waits for that (§15)."""
        bye.hang_up(self._parts, self._parts.usage(usage_id), now, writable(headers))

    def reinvite(self, usage_id: int, now: float, *, offer: bytes, headers: HeaderLines = ()) -> None:
        """Offer to change the session: ``ReinviteAnswered`` or ``ReinviteFailed`` follows."""
        reinvite.reinvite(self._parts, self._parts.usage(usage_id), now, offer=offer, headers=writable(headers))

    def info(self, usage_id: int, now: float, *, content_type: str, body: bytes, headers: HeaderLines = ()) -> int:
        """Send an INFO in the call; returns the token of the ``RequestAnswered`` that follows, unless the call ends."""
        return self._send(usage_id, now, "INFO", content_type=content_type, body=body, headers=headers)

    def message(
        self, usage_id: int, now: float, *, content_type: str = "text/plain", body: bytes, headers: HeaderLines = ()
    ) -> int:
        """Send a MESSAGE in the call; returns the token of the ``RequestAnswered`` that follows, as ``info`` does."""
        return self._send(usage_id, now, "MESSAGE", content_type=content_type, body=body, headers=headers)

    def _send(
        self, usage_id: int, now: float, method: str, *, content_type: str, body: bytes, headers: HeaderLines
    ) -> int:
        lines = writable([("Content-Type", content_type), *headers])[1:]
        usage = self._parts.usage(usage_id)
        return info_message.send(self._parts, usage, now, method, content_type=content_type, body=body, headers=lines)

    def refer(
        self, usage_id: int, now: float, *, refer_to: str, referred_by: str = "", headers: HeaderLines = ()
    ) -> int:
        """Ask the peer to call ``refer_to``, a URI (or name-addr), of any scheme; returns the refer_id.

        ``ReferAnswered`` follows, and where that is ``subscribed``, ``ReferProgress`` up to a last one; even when the
        call has ended meanwhile. Raises ``LocalProtocolError`` where the call is not up (and acknowledged), or for
        what is no URI; ``ResourceExhaustedError`` where too many are under way.
        """
        usage, lines = self._parts.usage(usage_id), writable([("Refer-To", refer_to), *headers])[1:]
        return refer.refer(self._parts, usage, now, refer_to=refer_to, referred_by=referred_by, headers=lines)

    def accept_refer(self, usage_id: int, refer_id: int, now: float) -> None:
        """202 to the peer's REFER, and a NOTIFY of 100 at once; ``notify_refer`` tells the rest."""
        referred.accept(self._parts, referred.waiting(self._parts, usage_id, refer_id), now)

    def reject_refer(
        self, usage_id: int, refer_id: int, now: float, *, status: int = referred.DECLINE, headers: HeaderLines = ()
    ) -> None:
        """A final 3xx-6xx to the peer's REFER; the call goes on."""
        one = referred.waiting(self._parts, usage_id, refer_id)
        referred.reject(self._parts, one, now, status=status, headers=writable(headers))

    def notify_refer(self, usage_id: int, refer_id: int, now: float, *, status: int, reason: str = "") -> None:
        """Tell the peer how the call goes that it asked for; a final ``status`` is the last word.

        It may come after the usage is gone, and where nobody listens (any more) it says nothing. Raises
        ``LocalProtocolError`` before ``accept_refer``, or for what is no status.
        """
        writable([("reason", reason)])
        referred.notify(self._parts, usage_id, refer_id, now, status=status, reason=reason)

    def replaces_value(self, usage_id: int) -> str:
        """The value of a Replaces that its receiver, the peer of this usage, finds this call by (RFC 3891)."""
        return str(replaces.replaces_value(self._parts.usage(usage_id)))

    def replacing_uri(self, usage_id: int, *, goes_to: ReplacingUri = "contact") -> str:
        """The ``refer_to`` of an attended transfer to the peer of this usage: its URI with that Replaces.

        ``contact``: the peer's very device. ``address``: the address it was reached by, where its Contact leads
        nowhere from outside (RFC 5589 §7.3).
        """
        return replaces.replacing_uri(self._parts.usage(usage_id), goes_to)

    def update(
        self,
        usage_id: int,
        now: float,
        *,
        offer: bytes = b"",
        headers: HeaderLines = (),
        remote_tag: str | None = None,
    ) -> None:
        """Send an UPDATE (RFC 3311): ``UpdateAnswered`` or ``UpdateFailed`` follows. Without ``offer`` nothing changes.

        ``remote_tag``: in which early dialog, where our INVITE has several. For peers that ``peer_allows`` it.
        """
        usage, lines = self._parts.usage(usage_id), writable(headers)
        update.update(self._parts, usage, now, offer=offer, headers=lines, remote_tag=remote_tag)

    def answer_update(self, usage_id: int, now: float, *, body: bytes, headers: HeaderLines = ()) -> None:
        """200 to the peer's UPDATE, with the answer to its offer."""
        update.answer(self._parts, self._parts.usage(usage_id), now, body=body, headers=writable(headers))

    def reject_update(self, usage_id: int, now: float, *, status: int = 488, headers: HeaderLines = ()) -> None:
        """A final 4xx-6xx to the peer's UPDATE: the session stays as it was."""
        update.reject(self._parts, self._parts.usage(usage_id), now, status=status, headers=writable(headers))

    def use_session_timers(self, by_trunk: Mapping[str, SessionTimerRules]) -> None:
        """What the calls that come by each trunk want of session timers (RFC 4028): too short ones get 422.

        By trunks that are not named, the peer's own wish is kept, from 90 s on.
        """
        self._parts.session_timers = dict(by_trunk)

    def require_reliable(self, trunk_ids: Iterable[str]) -> None:
        """Callers that come by these trunks and do not support 100rel get 421 (RFC 3262, RFC 3261 §21.4.15)."""
        self._parts.reliable_trunks = frozenset(trunk_ids)

    def authenticate(self, usage_id: int, credentials: DigestClient) -> None:
        """Answer challenges to our requests in the dialog of an inbound call: only for a peer that is known."""
        self._parts.usage(usage_id).credentials = credentials

    def snapshot(self, usage_id: int, *, bodies: bool = True) -> dict[str, Json]:
        """An answered usage as plain data for JSON. ``bodies``: with the session descriptions, and what keys they hold.

        Raises ``LocalProtocolError`` for one that is not answered.
        """
        return snapshot.snapshot(self._parts.usage(usage_id), bodies=bodies)

    def restore(self, saved: Mapping[str, Json], flow: Flow, now: float) -> int:
        """Go on with a usage that was saved; ``flow`` is how we reach its peer now. Returns its new id here.

        Raises ``LocalProtocolError`` for what is no snapshot.
        """
        return snapshot.restore(self._parts, saved, flow, now)
