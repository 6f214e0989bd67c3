"""A leg: one remote party of a call. Its INVITE usage, its media, and its place in the LEG table."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.call.states import LegState, leg_machine
from offhook.media.session import MediaSession
from offhook.model.audio import AudioFormat, Encoding, leg_format
from offhook.model.call_events import Direction
from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.model.trunks import DEFAULT_RULES, CallRules
from offhook.sdp.crypto import SEED_BYTES, SrtpTerms
from offhook.sdp.offer_answer import Agreement, Capabilities
from offhook.signaling.endpoint import SipEndpoint
from offhook.sip.digest import DigestClient
from offhook.sip.events import (
    AnswerReceived,
    Flow,
    Hop,
    InviteReceived,
    PrackReceived,
    ProvisionalReceived,
    ReferReceived,
    ReinviteReceived,
    SipEvent,
    UpdateReceived,
)
from offhook.sip.headers import NameAddr
from offhook.sip.session_interval import SessionTimerRules
from offhook.sip.snapshot import Json
from offhook.sip.uri import SipUri, without_password
from offhook.sip.user_agent import UserAgent

TEMPORARILY_UNAVAILABLE = 480

MOST_EARLY = 16
"""Early dialogs that are listened to; no carrier forks to more."""

_log = logging.getLogger("offhook.call")


@dataclass(frozen=True, kw_only=True, slots=True)
class DialPlan:
    """Whom to call and by which way."""

    target: SipUri
    from_: NameAddr
    flow: Flow
    next_hop: Hop
    credentials: DigestClient | None = None
    headers: tuple[tuple[str, str], ...] = ()
    trunk_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Abilities:
    """What a party said that it does: ``refer`` by its Allow (None: it did not say), ``replaces`` by its Supported."""

    refer: bool | None
    replaces: bool


class Leg:
    """Commands go to the SIP core and are flushed at once; what comes back is reported by ``CallSession``."""

    def __init__(
        self,
        *,
        leg_id: str,
        endpoint: SipEndpoint,
        media: MediaSession,
        negotiation: Negotiation,
        direction: Direction,
        flow: Flow,
        usage_id: int,
        state: LegState,
        rules: CallRules = DEFAULT_RULES,
        trunk_id: str = "",
        answered_at: float | None = None,
        local_user: str = "",
        remote_uri: str = "",
    ) -> None:
        """``local_user``: our user part towards this party. ``remote_uri``: its address of record.

        ``answered_at``, of a leg that is up already, and ``over_at``, once it is: Unix seconds.
        """
        self.leg_id = leg_id
        self.rules = rules
        self.trunk_id = trunk_id
        self.answered_at = answered_at
        self.over_at: float | None = None
        self.local_user = local_user
        self.remote_uri = remote_uri
        self.media = media
        self.negotiation = negotiation
        self.direction = direction
        self.usage_id = usage_id
        self._endpoint = endpoint
        self.flow = flow
        self._machine = leg_machine(state)
        self._early: dict[str, Agreement] = {}
        self._media_flows = False
        self._format_known = self.format
        self._offer_waits = False
        self.late_commands = 0

    @classmethod
    def outgoing(cls, leg_id: str, endpoint: SipEndpoint, media: MediaSession, plan: DialPlan, rules: CallRules) -> Leg:
        """A leg that ``dial`` will call."""
        return cls(
            leg_id=leg_id,
            endpoint=endpoint,
            media=media,
            negotiation=Negotiation(new_capabilities(plan.flow, media.local_port, rules)),
            direction="outbound",
            flow=plan.flow,
            usage_id=0,
            state="dialing",
            rules=rules,
            trunk_id=plan.trunk_id,
            local_user=plan.from_.sip_uri().user or "",
            remote_uri=str(replace(plan.target, params=(), headers="")),
        )

    @classmethod
    def incoming(
        cls, leg_id: str, endpoint: SipEndpoint, media: MediaSession, invite: InviteReceived, rules: CallRules
    ) -> Leg:
        """A leg that was called, and waits for our answer."""
        return cls(
            leg_id=leg_id,
            endpoint=endpoint,
            media=media,
            negotiation=Negotiation(new_capabilities(invite.flow, media.local_port, rules)),
            direction="inbound",
            flow=invite.flow,
            usage_id=invite.usage_id,
            state="incoming",
            rules=rules,
            trunk_id=invite.trunk_id,
            local_user=dialled_user(invite.request.uri),
            remote_uri=without_password(invite.request.from_.uri),
        )

    @property
    def state(self) -> LegState:
        return self._machine.state

    @property
    def is_up(self) -> bool:
        """Answered, and not ending."""
        return self.state in {"up", "held"}

    def is_told_of(self, event: SipEvent) -> bool:
        """Whether the event is of this leg's dialog."""
        return getattr(event, "usage_id", None) == self.usage_id

    @property
    def absorbed(self) -> int:
        """Network inputs that had no row in the LEG table."""
        return self._machine.absorbed

    @property
    def codec(self) -> Encoding:
        """What goes over the wire, at first in the early dialog that is heard; PCMU until something was agreed."""
        agreement = self.negotiation.agreement or next(reversed(self._early.values()), None)
        return agreement.encoding if agreement else Encoding.PCMU

    @property
    def format(self) -> AudioFormat:
        """What the leg's audio is on our side: G.711 as it is, else L16 at 16 kHz."""
        return leg_format(self.codec)

    @property
    def srtp(self) -> str:
        """The suite the leg's media is encrypted with; "" in clear."""
        agreement = self.negotiation.agreement
        return agreement.crypto.suite.value if agreement is not None and agreement.crypto is not None else ""

    def format_changed(self) -> bool:
        """Whether the leg's audio is of another format than when this was asked last."""
        before, self._format_known = self._format_known, self.format
        return self._format_known != before

    # ── the callee's side ────────────────────────────────────────────────────────────────────────────────

    def ring(self, answer: bytes = b"") -> None:
        """180; or 183 with our ``answer``, and the caller hears what we play before we pick up."""
        self._machine.command("provisional")
        status = 183 if answer else 180

        def ring(core: UserAgent, now: float) -> None:
            core.ring(self.usage_id, now, status=status, body=answer, reliable=self._rings_reliably(core))

        self._command(ring)

    def _rings_reliably(self, core: UserAgent) -> bool:
        """Where the trunk wants it and the party knows of it; but not where the first offer is ours to make, for a
        reliable response would have to make it (RFC 3261 §13.2.1)."""
        if self.rules.reliable_provisional == "off" or self.negotiation.agreement is None:
            return False
        return core.peer_supports(self.usage_id, "100rel")

    def answer(self, body: bytes) -> None:
        """200 with our answer, or with our offer where the INVITE had none."""
        self._machine.command("answer")
        self.answered_at = time.time()
        self._command(lambda core, now: core.answer(self.usage_id, now, body=body))

    def refuse(self, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._machine.command("gone")
        self.media.close()
        self._command(lambda core, now: core.reject(self.usage_id, now, status=status, headers=headers))

    # ── the caller's side ────────────────────────────────────────────────────────────────────────────────

    def dial(self, plan: DialPlan, own_usage: Callable[[int], None]) -> None:
        """Make the INVITE with our offer; ``own_usage`` is told its usage. ``flush`` sends it."""
        self.usage_id = self._endpoint.user_agent.invite(
            target=plan.target,
            from_=plan.from_,
            flow=plan.flow,
            next_hop=plan.next_hop,
            offer=self.negotiation.offer(),
            headers=plan.headers,
            credentials=plan.credentials,
            trunk_id=plan.trunk_id,
            session_timer=SessionTimerRules.of(self.rules),
            reliable=self.rules.reliable_provisional,
            now=time.monotonic(),
        )
        own_usage(self.usage_id)

    def flush(self) -> None:
        """Send what was commanded."""
        self._endpoint.flush()

    def redial(self, plan: DialPlan, own_usage: Callable[[int], None]) -> None:
        """The same by another way: what goes on by the old one is given up, and nothing of it means anything more."""
        self._command(lambda core, now: core.cancel(self.usage_id, now))
        self.flow = plan.flow
        self.negotiation = Negotiation(new_capabilities(plan.flow, self.media.local_port, self.rules))
        self._early.clear()
        self.dial(plan, own_usage)

    def hears_progress(self, provisional: ProvisionalReceived) -> bool:
        """A 1xx came; what it plays is heard from now on, silence is sent. False where it means nothing any more.

        Of several early dialogs (forks) the one that answered last is heard.
        """
        body = provisional.response.body
        if not self._machine.observe("early_media" if body else "provisional"):
            return False
        agreement = self.negotiation.preview(body) if body else None
        if agreement is not None and (provisional.remote_tag in self._early or len(self._early) < MOST_EARLY):
            self._early.pop(provisional.remote_tag, None)  # the last one is heard
            self._early[provisional.remote_tag] = agreement
            self.media.pause()
            self.start_media(agreement)
        return True

    @property
    def plays_early(self) -> bool:
        """The called side plays something before it answers."""
        return bool(self._early)

    @property
    def sip_call_id(self) -> str:
        """Of its INVITE; only while that goes on."""
        return self._endpoint.user_agent.sip_call_id(self.usage_id)

    @property
    def heard(self) -> bool:
        """Whether our INVITE brought any answer yet, a 100 at least."""
        try:
            return self._endpoint.user_agent.heard(self.usage_id)
        except LocalProtocolError:  # it is over: its end is on its way to us
            return True

    def accept(self, answer: AnswerReceived) -> Agreement | Unacceptable:
        """The callee's 2xx; what its answer agrees on. Where its 183 brought the answer, the 2xx may bring none."""
        self._machine.observe("answer")
        self.answered_at = time.time()
        early = self._early.get(answer.remote_tag)
        if early is not None and (not answer.response.body or answer.session != answer.response.body):
            return self.negotiation.adopt(early)
        return self.negotiation.accept(answer.response.body)

    def end_late_answer(self, usage_id: int) -> None:
        """We wanted to cancel, but the 2xx was there first, and acknowledged: its call is ended (RFC 3261 §9.1)."""
        self._command(lambda core, now: core.bye(usage_id, now))

    def answer_to(self, body: bytes) -> bytes | Unacceptable:
        """What goes into our 200: the answer to the party's offer, or an offer of ours where there is none."""
        return self.negotiation.answer(body) if body else self.negotiation.hindrance or self.negotiation.offer()

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────

    def start_media(self, agreement: Agreement) -> None:
        """Let media flow as agreed; again, where another early dialog, or the answer, agreed on something else."""
        if self._media_flows:
            self.media.update(agreement)
        else:
            self._media_flows = True
            self.media.start(agreement, self.flow.remote.host)

    def answer_offer(self, event: ReinviteReceived | UpdateReceived | PrackReceived) -> Unacceptable | None:
        """Answer what the party offers by re-INVITE, UPDATE or PRACK, before the call is up or after.

        Where a re-INVITE asks for an offer, ours is made. None when it went well.
        """
        accept, reject = _ANSWERS[type(event)]
        body = event.request.body
        answer = self.answer_to(body)
        if isinstance(answer, Unacceptable):
            status, header = answer.status, answer.warning_header(self.negotiation.capabilities.address)
            self._command(lambda core, now: reject(core, self.usage_id, now, status=status, headers=(header,)))
            return answer
        self._command(lambda core, now: accept(core, self.usage_id, now, body=answer))
        if body:
            self._follow_offer(event.request.from_.tag or "")
        return None

    def _follow_offer(self, remote_tag: str) -> None:
        """An offer of the party was answered: media follow, in an early dialog what is heard of it."""
        agreement = self.negotiation.agreement
        if self.is_up:
            self.apply_agreement()
        elif self.state == "early" and remote_tag in self._early and agreement is not None:
            self._early[remote_tag] = agreement
            self.start_media(agreement)

    def apply_agreement(self) -> None:
        """Let the media follow what was agreed last; hold and resume are read off the direction."""
        agreement = self.negotiation.agreement
        if agreement is None or not self.is_up:
            return
        self._machine.observe("resume" if agreement.direction in {"sendrecv", "sendonly"} else "hold")
        self.media.update(agreement)

    def reinvite(self) -> None:
        """Offer our session anew (after a restore, with our new address); later, where another offer is under way."""
        self._offer_waits = not self._command(
            lambda core, now: core.reinvite(self.usage_id, now, offer=self.negotiation.offer())
        )

    def reoffer(self) -> None:
        """Something in the dialog came to its end: make the offer that had to wait."""
        if self._offer_waits and self.is_up:
            self.reinvite()

    def hold(self, wanted: bool) -> None:
        """Ask the party to send nothing and hear what we play, or to talk again (RFC 3264 §8.4)."""
        self.negotiation.send_only(wanted)
        self.reinvite()

    # ── text and digits by SIP ───────────────────────────────────────────────────────────────────────────

    def allows(self, method: str) -> bool | None:
        """Whether the party's Allow names ``method``; None: it never sent one."""
        try:
            return self._endpoint.user_agent.peer_allows(self.usage_id, method)
        except LocalProtocolError:  # it is over: its end is on its way to us
            return False

    def send_info(self, content_type: str, body: bytes) -> int:
        """Returns the token of the ``RequestAnswered`` that follows. Raises ``OffhookError`` where it cannot be."""
        core = self._endpoint.user_agent
        token = core.info(self.usage_id, time.monotonic(), content_type=content_type, body=body)
        self._endpoint.flush()
        return token

    def send_text(self, text: str) -> None:
        """A MESSAGE to the party (RFC 3428); whether it was taken, only the trace tells."""

        def write(core: UserAgent, now: float) -> None:
            core.message(self.usage_id, now, body=text.encode())

        self._command(write)

    # ── transfers (RFC 3515, RFC 3891) ───────────────────────────────────────────────────────────────────

    @property
    def abilities(self) -> Abilities:
        """What the party said that it does."""
        try:
            replaces = self._endpoint.user_agent.peer_supports(self.usage_id, "replaces")
        except LocalProtocolError:  # it is over: its end is on its way to us
            replaces = False
        return Abilities(refer=self.allows("REFER"), replaces=replaces)

    def refer(self, refer_to: str, headers: Iterable[tuple[str, str]]) -> int:
        """Ask the party to call ``refer_to``; returns the refer_id. Raises ``OffhookError`` where it cannot be."""
        refer_id = self._endpoint.user_agent.refer(
            self.usage_id,
            time.monotonic(),
            refer_to=refer_to,
            referred_by=f"<{SipUri(user=self.local_user or None, host=self.flow.local.host)}>",
            headers=headers,
        )
        self._endpoint.flush()
        return refer_id

    def replacing_uri(self) -> str:
        """Where somebody has to be referred to, to take our place with this party."""
        return self._endpoint.user_agent.replacing_uri(self.usage_id)

    def accept_refer(self, event: ReferReceived) -> None:
        self._command(lambda core, now: core.accept_refer(event.usage_id, event.refer_id, now))

    def reject_refer(self, event: ReferReceived, status: int) -> None:
        self._command(lambda core, now: core.reject_refer(event.usage_id, event.refer_id, now, status=status))

    def notify_refer(self, event: ReferReceived, status: int) -> None:
        self._command(lambda core, now: core.notify_refer(event.usage_id, event.refer_id, now, status=status))

    def hang_up(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """End it the way its state asks for: 480, CANCEL or BYE, which carries ``headers``.

        Does nothing when it is ending already.
        """
        before = self.state
        if before in {"ending", "ended"}:
            return
        self.over_at = time.time()
        self.media.close()
        if before in {"up", "held"}:
            self._machine.command("hang_up")
            self._command(lambda core, now: core.bye(self.usage_id, now, headers=headers))
        elif self.direction == "outbound":
            self._machine.command("hang_up")
            self._command(lambda core, now: core.cancel(self.usage_id, now))
        else:
            self._machine.command("gone")
            self._command(lambda core, now: core.reject(self.usage_id, now, status=TEMPORARILY_UNAVAILABLE))

    def dialog_snapshot(self, *, bodies: bool) -> dict[str, Json]:
        """``UserAgent.snapshot`` of its dialog, and its raises; with ``bodies`` only those that hold no keys."""
        return self._endpoint.user_agent.snapshot(self.usage_id, bodies=bodies and not self.negotiation.secure)

    def _command(self, act: Callable[[UserAgent, float], None]) -> bool:
        """Tell the core and send; False where it cannot be done. It may have dropped the usage already: then the fact
        that says so is on its way.
        """
        try:
            act(self._endpoint.user_agent, time.monotonic())
        except LocalProtocolError as error:
            self.late_commands += 1
            _log.debug("leg %s: %s", self.leg_id, error)
            return False
        finally:
            self._endpoint.flush()
        return True

    def gone(self) -> None:
        """The core said that the usage is gone."""
        self._machine.observe("gone")
        self.over_at = self.over_at or time.time()
        self.media.close()


_ANSWERS: Mapping[type[object], tuple[Callable[..., None], Callable[..., None]]] = {
    ReinviteReceived: (UserAgent.answer, UserAgent.reject),
    UpdateReceived: (UserAgent.answer_update, UserAgent.reject_update),
    PrackReceived: (UserAgent.answer_prack, UserAgent.reject_prack),
}
"""How an offer is answered, and refused, by what brought it."""


def refuse_invite(endpoint: SipEndpoint, usage_id: int, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
    """An INVITE that gets no leg. It may be cancelled already: then the fact that says so is on its way."""
    with suppress(LocalProtocolError):
        endpoint.user_agent.reject(usage_id, time.monotonic(), status=status, headers=headers)
    endpoint.flush()


def srtp_terms(flow: Flow, rules: CallRules) -> SrtpTerms:
    """Whether a new leg is encrypted, with a seed of its own for its keys, which travel by ``flow``."""
    exposed = flow.transport != "TLS" and not rules.srtp_without_tls
    return SrtpTerms(policy=rules.srtp, seed=secrets.token_bytes(SEED_BYTES), exposed=exposed)


def new_capabilities(flow: Flow, media_port: int, rules: CallRules = DEFAULT_RULES) -> Capabilities:
    """What a new leg offers: its trunk's codecs and telephone-event, with a session id of its own (RFC 8866 §5.2)."""
    return Capabilities(
        codecs=rules.codecs,
        address=flow.local.host,
        port=media_port,
        srtp=srtp_terms(flow, rules),
        session_id=secrets.randbits(62),
        version=1,
        peer_address=flow.remote.host,
    )


def dialled_user(request_uri: str) -> str:
    """The user part of a Request-URI without its parameters (RFC 3261 §19.1.1); empty where there is none."""
    try:
        user = SipUri.parse(request_uri).user or ""
    except SipParseError:
        return ""
    return user.split(";", 1)[0]
