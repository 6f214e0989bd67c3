"""What crosses the boundary of the SIP core: addresses, packets both ways, and the events it reports.

Events are frozen facts in one closed union, ``SipEvent``. Those of a call carry ``usage_id``: one INVITE usage
(RFC 5057 §2), which is one leg of one call. "Usage gone" means that the id is never mentioned again and that
every command on it raises ``LocalProtocolError``; but what a REFER of ours led to is told even then (``ReferAnswered``,
``ReferProgress``), for that is a usage of the dialog of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from offhook.sip.message import Request, Response
from offhook.sip.replaces_value import Replaces

Transport = Literal["UDP", "TCP", "TLS"]
InviteFailureCause = Literal["refused", "timeout", "transport", "cancelled"]
RegistrationPhase = Literal["registering", "online", "failed", "stopped"]
UsageEndCause = Literal[
    "bye_answered", "bye_timeout", "ack_missing", "prack_missing", "unanswered", "session_expired", "transport"
]


class Address(NamedTuple):
    """An IP address without brackets, and a port."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """One way a message travels.

    ``local`` is our concrete address as the peer should see it: it goes into Via, Contact and SDP. Its port is 0 where
    we only dial by that transport and listen nowhere.
    ``connection`` is the shell's id of a TCP or TLS connection; 0: none yet, the shell connects or reuses one.
    ``interface``: our address on this machine, where that is another (behind 1:1 NAT); "" where it is ``local``'s.
    """

    transport: Transport
    local: Address
    remote: Address
    connection: int = 0
    interface: str = ""

    @property
    def bind_host(self) -> str:
        """Where a socket of ours can be bound for this peer."""
        return self.interface or self.local.host


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """Where a request goes next (RFC 3263): ``host`` is an IP address without brackets, or a name.

    ``port`` 0: none was given; DNS may tell it. ``server_name``: whom a certificate must be for, where that is not
    ``host`` (RFC 5922 §7.3: the name before DNS).
    """

    transport: Transport
    host: str
    port: int
    server_name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inbound:
    """A datagram, or one framed message of a stream."""

    data: bytes
    flow: Flow


@dataclass(frozen=True, kw_only=True, slots=True)
class Outbound:
    """A message to send.

    ``next_hop`` None: to ``flow.remote``, on ``flow.connection`` if there is one. Otherwise the shell resolves
    the hop and sends there. A failure is told to ``UserAgent.transport_failed(token, ...)``; ``token`` 0 means that
    nobody waits for it.
    """

    data: bytes
    flow: Flow
    next_hop: Hop | None = None
    token: int = 0


# ── a call's events: the UAS ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class InviteReceived:
    """A new call. 100 is already sent; the offer, if any, is ``request.body``.

    ``trunk_id``: by which trunk it came; "" where none are configured. ``replaces``: the usage whose place it takes
    (RFC 3891): once this one is answered, end that one, by BYE or, if it is not answered yet, by CANCEL.
    """

    usage_id: int
    request: Request
    flow: Flow
    trunk_id: str = ""
    replaces: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelReceived:
    """The caller gave up; 487 to the INVITE, and 200 to the CANCEL, are already sent; usage gone.

    ``request`` is the CANCEL; or the INVITE itself, when its Expires has run out (RFC 3261 §13.3.1).
    """

    usage_id: int
    request: Request


@dataclass(frozen=True, kw_only=True, slots=True)
class AckReceived:
    """The first ACK of our 2xx, to the first INVITE or to a re-INVITE. ``body`` is the late answer, or empty."""

    usage_id: int
    body: bytes


# ── a call's events: the UAC ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvisionalReceived:
    """A 101-199 to our INVITE. Each ``remote_tag`` is an early dialog of its own; "" where the peer gave none.

    ``reliable``: it is acknowledged by PRACK already, and comes but once (RFC 3262 §4); only where our INVITE had no
    offer and this response brings one, ``UserAgent.prack`` must answer it.
    """

    usage_id: int
    status: int
    reason: str
    remote_tag: str
    response: Response
    reliable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerReceived:
    """A 2xx to our INVITE; the ACK is sent if our INVITE carried an offer, otherwise call ``UserAgent.ack``.

    ``session``: the callee's session description. It is not the 2xx's where offer and answer were exchanged before, by
    reliable provisional responses: whatever the 2xx carries then is none (RFC 3261 §13.2.1).
    """

    usage_id: int
    remote_tag: str
    response: Response
    session: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class InviteFailed:
    """Our INVITE brought no call; usage gone.

    ``status`` is the final response's; 408 with ``response`` None for a time-out; None where nothing tells one.
    """

    usage_id: int
    status: int | None
    reason: str
    response: Response | None
    cause: InviteFailureCause


@dataclass(frozen=True, kw_only=True, slots=True)
class PrackReceived:
    """A PRACK that carries a session description (RFC 3262 §5).

    ``is_offer``: answer it by ``UserAgent.answer_prack`` or ``reject_prack``. Otherwise it is the answer to the offer
    in our provisional response; 200 is already sent.
    """

    usage_id: int
    request: Request
    is_offer: bool


# ── a call's events: both roles ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class ReinviteReceived:
    """The peer wants to change the session: ``UserAgent.answer`` or ``reject`` it. An empty body asks for an offer."""

    usage_id: int
    request: Request


@dataclass(frozen=True, kw_only=True, slots=True)
class ReinviteCancelled:
    """The peer cancelled the re-INVITE that waited for an answer; 487 is sent; the call goes on as it was."""

    usage_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReinviteAnswered:
    """A 2xx to our re-INVITE; already acknowledged.

    ``is_refresh``: the core sent it by itself, with our session description unchanged, to keep the session alive
    (RFC 4028 §7.4).
    """

    usage_id: int
    response: Response
    is_refresh: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ReinviteFailed:
    """Our re-INVITE was refused; the session stays as it was (RFC 3261 §14.1). ``status`` None: no answer."""

    usage_id: int
    status: int | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateReceived:
    """The peer offers to change the session (RFC 3311): ``UserAgent.answer_update`` or ``reject_update`` it.

    It may come before the call is answered, from each early dialog (``remote_tag``) of our INVITE.
    """

    usage_id: int
    request: Request
    remote_tag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateAnswered:
    """A 2xx to our UPDATE."""

    usage_id: int
    response: Response


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateFailed:
    """Our UPDATE was refused; the session stays as it was (RFC 3311 §5.3). ``status`` None: no answer."""

    usage_id: int
    status: int | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DialogRefreshed:
    """An UPDATE without an offer, of the peer's or of ours, kept the session alive, and may have moved the peer.

    Nothing is left to do; who keeps a ``snapshot`` takes another one.
    """

    usage_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ByeReceived:
    """The peer hung up; 200 is already sent; usage gone."""

    usage_id: int
    request: Request


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageEnded:
    """Our BYE is complete, or the core gave the call up by itself; usage gone.

    ``ack_missing``: our 2xx was never acknowledged, the core sent a BYE (RFC 3261 §13.3.1.4). ``prack_missing``: our
    reliable provisional response never was, the core refused the INVITE (RFC 3262 §3). ``unanswered``: we hung up
    while our 2xx still waited for a PRACK. ``session_expired``: nobody refreshed the session, or the refresh failed,
    and the core sent a BYE (RFC 4028 §10).
    """

    usage_id: int
    cause: UsageEndCause


@dataclass(frozen=True, kw_only=True, slots=True)
class InfoReceived:
    """An INFO with a body, mostly digits (RFC 6086 §2); 200 is already sent."""

    usage_id: int
    request: Request


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageReceived:
    """A MESSAGE in the call's dialog (RFC 3428); 200 is already sent."""

    usage_id: int
    request: Request


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestAnswered:
    """What came back on ``UserAgent.info`` or ``message``.

    ``status`` is the final response's; 408 as well for none in time; None where the transport failed.
    """

    usage_id: int
    token: int
    method: str
    status: int | None
    reason: str


# ── transfer (RFC 3515): these may come after the usage is gone ──────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferAnswered:
    """The final response to our REFER: ``status`` 2xx says that the peer will try.

    408 as well for none in time; None where the transport failed. ``subscribed``: ``ReferProgress`` will tell how it
    ends; False where it was refused, and where the peer tells nothing (RFC 4488).
    """

    usage_id: int
    refer_id: int
    status: int | None
    reason: str
    subscribed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferProgress:
    """A NOTIFY to our REFER: how the call goes that the peer makes for it. It may come before ``ReferAnswered``.

    ``terminated``: the last of this REFER, of which there is exactly one where it was accepted with a subscription.
    ``status`` None there: the peer told no end, or nothing that can be read; ``reason`` is then what it said instead.
    """

    usage_id: int
    refer_id: int
    status: int | None
    reason: str
    terminated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferReceived:
    """The peer wants us to call ``refer_to``: ``UserAgent.accept_refer`` or ``reject_refer`` it, within 20 s.

    ``refer_to`` is a sip:, sips: or tel: URI as text; what it said after a ``?`` is left out, but for ``replaces``:
    the dialog that the new call is to replace. ``referred_by`` is a URI, or "".
    """

    usage_id: int
    refer_id: int
    request: Request
    refer_to: str
    replaces: Replaces | None
    referred_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferTold:
    """The peer has answered our last NOTIFY of its REFER, or wants none: a BYE overtakes nothing any more.

    Told only while the usage is there.
    """

    usage_id: int
    refer_id: int


# ── a registration's events ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationDue:
    """Find the ways to the registrar and give them to ``UserAgent.register_by``, or say that there is none."""

    registration_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationChanged:
    """What became of a registration. ``stopped``: it is never mentioned again.

    ``status`` and ``response``: the final response, where one came; ``reason`` is its phrase, or why none came.
    ``expires_s``: how long it holds; ``retry_s``: when it is tried again. ``flow`` and ``next_hop``: the way taken.
    ``seen_as``: our address as the registrar sees it, where an address translator is between.
    """

    registration_id: int
    phase: RegistrationPhase
    status: int | None = None
    reason: str = ""
    response: Response | None = None
    expires_s: int | None = None
    retry_s: float | None = None
    flow: Flow | None = None
    next_hop: Hop | None = None
    seen_as: Address | None = None


# ── events outside calls ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionsAnswered:
    """What came back on ``UserAgent.options``; ``response`` None: nothing in 64*T1, or the transport failed."""

    token: int
    response: Response | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRejected:
    """A message refused with ``status``, or discarded (None): by which rule, what in it shows that, what to change."""

    source: Address
    status: int | None
    rule: str
    evidence: str
    fix: str


SipEvent = (
    InviteReceived
    | CancelReceived
    | AckReceived
    | PrackReceived
    | ProvisionalReceived
    | AnswerReceived
    | InviteFailed
    | ReinviteReceived
    | ReinviteCancelled
    | ReinviteAnswered
    | ReinviteFailed
    | UpdateReceived
    | UpdateAnswered
    | UpdateFailed
    | DialogRefreshed
    | ByeReceived
    | UsageEnded
    | InfoReceived
    | MessageReceived
    | RequestAnswered
    | ReferAnswered
    | ReferProgress
    | ReferReceived
    | ReferTold
    | RegistrationDue
    | RegistrationChanged
    | OptionsAnswered
    | MessageRejected
)
