"""The SIP user agent (RFC 3261 §8), sans-IO: packets and time in, packets and events out.

The shell calls ``receive`` and ``handle_timer``, then empties ``packets_to_send`` and ``next_event`` and sleeps until
``get_timer``. The application calls the commands; one that the state does not allow raises ``LocalProtocolError``.
Nothing that arrives raises. This file only says who does what: each procedure lives in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip import acknowledge, bye, invite, options, reinvite, snapshot
from offhook.sip.admission import Admission, Admitted, Ignored
from offhook.sip.digest import DigestClient
from offhook.sip.events import Address, Flow, Hop, Inbound, Outbound, RegistrationChanged, SipEvent
from offhook.sip.headers import NameAddr
from offhook.sip.inspection import NO_SUCH_DIALOG, OUT_OF_ORDER, SDP, Refusal, inspect
from offhook.sip.message import Request, Response, SipMessage
from offhook.sip.parser import MalformedRequest, is_keep_alive, parse_message
from offhook.sip.parts import HeaderLines, Parts, UserAgentLimits, writable
from offhook.sip.registration import Account, Registration, Ways
from offhook.sip.routing import note_source
from offhook.sip.snapshot import Json
from offhook.sip.uri import SipUri
from offhook.sip.usage import Usage, UsageInput, UsageState

__all__ = ["UserAgent", "UserAgentLimits"]

_DEFAULT_LIMITS = UserAgentLimits()


class UserAgent:
    """Both roles of RFC 3261 on any number of flows.

    ``new_token`` gives text of at least 64 random bits, of token characters: tags, branches, Call-IDs. ``product``
    stands in User-Agent and Server. Times are monotonic seconds.
    """

    def __init__(
        self,
        *,
        product: str,
        new_token: Callable[[], str],
        limits: UserAgentLimits = _DEFAULT_LIMITS,
        admission: Admission | None = None,
    ) -> None:
        self.admission = admission or Admission()
        self._parts = Parts(product=product, new_token=new_token, limits=limits)
        self._registrations: dict[int, Registration] = {}
        self._registration_ids = count(1)

    # ── the shell's side ─────────────────────────────────────────────────────────────────────────────────

    def receive(self, inbound: Inbound, now: float) -> None:
        """Take a datagram, or one framed message of a stream."""
        flow = inbound.flow
        if is_keep_alive(inbound.data):
            return
        try:
            message = parse_message(inbound.data)
        except SipParseError as error:
            self.receive_malformed(error, flow, now)
        else:
            self.receive_message(message, flow, now)

    def receive_message(self, message: SipMessage, flow: Flow, now: float) -> None:
        """Take a message that is parsed already, as ``StreamParser`` gives it, and make it ours."""
        if flow.connection:
            self._parts.live_connections.add(flow.connection)
        if isinstance(message, Request):
            note_source(message, flow)
            self._receive_request(message, flow, now)
        else:
            self._receive_response(message, flow, now)

    def receive_malformed(self, error: SipParseError, flow: Flow, now: float) -> None:
        """What cannot be used: a request that can still be answered is (RFC 3261 §8.2, §21.4.1)."""
        verdict = self.admission.judge_source(flow.remote.host)
        if isinstance(verdict, Ignored):
            self._ignore(verdict, flow)
            return
        request = error.request if isinstance(error, MalformedRequest) else None
        if request is not None:
            note_source(request, flow)
            self._parts.respond_statelessly(request, flow, error.status)
        self._parts.reject(
            flow.remote,
            None if request is None else error.status,
            rule=f"malformed {error.field}",
            evidence=error.problem,
            fix=f"correct {error.field} as RFC 3261 §25.1 has it",
        )

    def handle_timer(self, now: float) -> None:
        """Do what is due at ``now``."""
        self._parts.timers.run_due(now)

    def get_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next; None: never."""
        return self._parts.timers.next_at()

    def packets_to_send(self) -> list[Outbound]:
        """What is to be sent, oldest first; each is given once."""
        packets = list(self._parts.outbox)
        self._parts.outbox.clear()
        return packets

    def next_event(self) -> SipEvent | None:
        """The oldest event not yet taken."""
        event = self._parts.events.popleft() if self._parts.events else None
        if isinstance(event, RegistrationChanged) and event.phase == "stopped":
            self._registrations.pop(event.registration_id, None)
        return event

    def transport_failed(self, token: int, problem: str, now: float) -> None:
        """An ``Outbound`` with that token could not be sent, or its host not be found."""
        self._parts.transactions.transport_failed(token, now, problem)

    def peer_unreachable(self, remote: Address, problem: str, now: float) -> None:
        """An ICMP error for what was sent to ``remote`` by UDP (RFC 3261 §18.4): what waits there waits in vain."""
        self._parts.transactions.unreachable(remote, problem, now)
        for registration in tuple(self._registrations.values()):
            registration.peer_unreachable(remote, now)

    def connection_lost(self, connection: int, now: float) -> None:
        """A TCP or TLS connection is gone; what waits for a first answer on it fails at once."""
        self._parts.live_connections.discard(connection)
        self._parts.transactions.connection_lost(connection, now)
        for registration in tuple(self._registrations.values()):
            registration.connection_lost(connection, now)

    def counts(self) -> Mapping[str, int]:
        """What is held now; all zero once every call is over and the last timer has run out."""
        parts = self._parts
        return {
            "transactions": len(parts.transactions),
            "dialogs": sum(usage.dialog is not None for usage in parts.usages.values()),
            "usages": len(parts.usages),
            "timers": len(parts.timers),
            "pending": len(parts.outbox) + len(parts.events),
        }

    @property
    def absorbed(self) -> int:
        """Messages that changed nothing: copies, and what came too late."""
        return self._parts.transactions.absorbed

    @property
    def events_dropped(self) -> int:
        """Reports and provisional responses dropped because nobody took the events."""
        return self._parts.events_dropped

    # ── the application's side ───────────────────────────────────────────────────────────────────────────

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
        now: float,
    ) -> int:
        """Call ``target``; returns the usage. Without ``offer`` the callee makes one.

        ``credentials`` answer the challenges to this INVITE and to what follows in its dialog.

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
        )
        return invite.invite(self._parts, wanted, now)

    def take_calls(self, wanted: bool) -> None:
        """Whether new calls are offered to the application; otherwise they get 503 and leave no trace (§8.2.7).

        A flood of calls that nobody has room for costs a response each, and neither memory nor repetition.
        """
        self._parts.takes_calls = wanted

    def ring(
        self, usage_id: int, now: float, *, status: int = 180, body: bytes = b"", headers: HeaderLines = ()
    ) -> None:
        """Send a provisional response, 101-199; with ``body``, early media."""
        invite.ring(self._parts, self._parts.usage(usage_id), now, status=status, body=body, headers=writable(headers))

    def answer(self, usage_id: int, now: float, *, body: bytes, headers: HeaderLines = ()) -> None:
        """200 to the INVITE or to the pending re-INVITE."""
        usage = self._parts.usage(usage_id)
        procedure = invite.answer if usage.state is UsageState.INVITED else reinvite.answer
        procedure(self._parts, usage, now, body=body, headers=writable(headers))

    def reject(
        self, usage_id: int, now: float, *, status: int, reason: str | None = None, headers: HeaderLines = ()
    ) -> None:
        """A final 3xx-6xx to the INVITE (usage gone), or to the pending re-INVITE (the call goes on as it was)."""
        usage = self._parts.usage(usage_id)
        writable([("reason", reason or "")])
        procedure = invite.reject if usage.state is UsageState.INVITED else invite.refuse_pending
        procedure(self._parts, usage, now, status=status, reason=reason, headers=writable(headers))

    def ack(self, usage_id: int, now: float, *, body: bytes = b"") -> None:
        """Acknowledge the 2xx that brought the callee's offer; ``body`` is the answer."""
        usage = self._parts.usage(usage_id)
        usage.advance(UsageInput.SEND_ACK)
        acknowledge.acknowledge(self._parts, usage, usage.settled.local_cseq, body)

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

    def authenticate(self, usage_id: int, credentials: DigestClient) -> None:
        """Answer challenges to our requests in the dialog of an inbound call: only for a peer that is known."""
        self._parts.usage(usage_id).credentials = credentials

    def options(
        self,
        *,
        target: SipUri,
        from_: NameAddr,
        flow: Flow,
        next_hop: Hop,
        credentials: DigestClient | None = None,
        now: float,
    ) -> int:
        """Ask ``target`` what it can do; returns the token of the ``OptionsAnswered`` that follows."""
        return options.options(
            self._parts,
            target=target,
            from_=from_,
            flow=flow,
            next_hop=next_hop,
            credentials=credentials,
            now=now,
        )

    def register(self, account: Account) -> int:
        """Keep a binding for ``account`` from now on: ``RegistrationDue`` follows, then ``RegistrationChanged``.

        Returns the registration_id.
        """
        registration_id = next(self._registration_ids)
        registration = self._registrations[registration_id] = Registration(self._parts, registration_id, account)
        registration.seek()
        return registration_id

    def register_by(self, registration_id: int, ways: Ways, now: float) -> None:
        """The ways to the registrar, best first: the answer to ``RegistrationDue``."""
        self._registration(registration_id).take_ways(ways, now)

    def no_way_to_register(self, registration_id: int, problem: str, now: float) -> None:
        """The other answer: the registrar's name is not found, or nothing leads there."""
        self._registration(registration_id).no_way(problem, now)

    def refresh_registration(self, registration_id: int, now: float) -> None:
        """Register again now, or try again now, where nothing is under way."""
        self._registration(registration_id).refresh(now)

    def unregister(self, registration_id: int, now: float) -> None:
        """Take the binding back and end; ``RegistrationChanged`` stopped follows."""
        registration = self._registration(registration_id)
        registration.leave(now)

    def _registration(self, registration_id: int) -> Registration:
        registration = self._registrations.get(registration_id)
        if registration is None:
            raise LocalProtocolError(f"there is no registration {registration_id}")
        return registration

    def snapshot(self, usage_id: int) -> dict[str, Json]:
        """An answered usage as plain data for JSON. Raises ``LocalProtocolError`` for one that is not answered."""
        return snapshot.snapshot(self._parts.usage(usage_id))

    def restore(self, saved: Mapping[str, Json], flow: Flow, now: float) -> int:
        """Go on with a usage that was saved; ``flow`` is how we reach its peer now. Returns its new id here.

        Raises ``LocalProtocolError`` for what is no snapshot.
        """
        return snapshot.restore(self._parts, saved, flow, now)

    # ── who gets what ────────────────────────────────────────────────────────────────────────────────────

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        parts = self._parts
        if parts.transactions.receive_request(request, flow, now):
            return
        usage = self._usage_of(request)
        if request.method == "ACK":
            if usage is not None:
                acknowledge.receive(parts, usage, request, now)
        elif request.method == "CANCEL" and (cancelled := parts.transactions.cancelled_by(request)) is not None:
            invite.receive_cancel(parts, request, cancelled, flow, now)
        elif usage is not None:
            self._receive_in_dialog(usage, request, flow, now)
        else:
            self._receive_outside(request, flow, now)

    def _receive_outside(self, request: Request, flow: Flow, now: float) -> None:
        """What belongs to nothing we know: its sender is looked at first."""
        parts = self._parts
        verdict = self.admission.judge(request, flow.remote.host, now, parts.new_token())
        if not isinstance(verdict, Admitted):
            self._turn_away(verdict, request, flow)
        elif request.to.tag is not None or request.method == "CANCEL":
            parts.refuse(request, flow, inspect(request, flow) or NO_SUCH_DIALOG, now)
        elif request.method == "INVITE":
            invite.receive(parts, request, flow, now, verdict.trunk_id)
        else:
            self._receive_alone(request, flow, now)

    def _receive_alone(self, request: Request, flow: Flow, now: float) -> None:
        refusal = inspect(request, flow)
        if refusal is None and request.method == "OPTIONS":
            options.receive(self._parts, request, flow)
        else:
            self._parts.refuse(request, flow, refusal or NO_SUCH_DIALOG, now)

    def _receive_in_dialog(self, usage: Usage, request: Request, flow: Flow, now: float) -> None:
        parts = self._parts
        if usage.dialog is not None and usage.dialog.flow.remote.host != flow.remote.host:
            host = flow.remote.host
            verdict = self.admission.judge_in_dialog(request, host, usage.trunk_id, now, parts.new_token())
            if not isinstance(verdict, Admitted):
                self._turn_away(verdict, request, flow)
                return
        refusal = inspect(request, flow) if request.method != "INVITE" else None
        if refusal is None and usage.dialog is not None and not usage.dialog.in_order(request):
            refusal = OUT_OF_ORDER
        if refusal is not None:
            parts.refuse(request, flow, refusal, now)
        elif request.method == "BYE":
            bye.receive(parts, usage, request, flow, now)
        elif request.method == "INVITE":
            reinvite.receive(parts, usage, request, flow, now)
        else:
            options.receive(parts, request, flow)

    def _turn_away(self, verdict: Ignored | Refusal, request: Request, flow: Flow) -> None:
        """Without a transaction: whoever is not let in must not cost memory."""
        if isinstance(verdict, Ignored):
            self._ignore(verdict, flow)
        else:
            self._parts.refuse_statelessly(request, flow, verdict)

    def _ignore(self, verdict: Ignored, flow: Flow) -> None:
        self._parts.reject(flow.remote, None, rule=verdict.rule, evidence=verdict.evidence, fix=verdict.fix)

    def _usage_of(self, request: Request) -> Usage | None:
        """RFC 3261 §12.2.2: the usage whose Call-ID and both tags the request names.

        A callee whose 2xx is still on its way is known by the tag of its provisional responses.
        """
        usage = self._parts.usage_of(request.sip_call_id, request.to.tag)
        if usage is None:
            return None
        remote_tag = request.from_.tag or ""
        known = usage.early_tags if usage.dialog is None else (usage.dialog.remote_tag,)
        return usage if remote_tag in known else None

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        parts = self._parts
        if len(response.headers.values("Via")) != 1:
            # RFC 3261 §8.1.3.3: "the message SHOULD be discarded"
            evidence = f"Via: {response.headers.values('Via')[-1]}"
            fix = "let the proxy remove its own Via before it passes a response on"
            parts.reject(flow.remote, None, rule="response with several Via", evidence=evidence, fix=fix)
        elif not parts.transactions.receive_response(response, flow, now) and not (
            response.status // 100 == 2
            and response.cseq.method == "INVITE"
            and acknowledge.receive_stray(parts, response)
        ):
            evidence = f"{response.status} to CSeq {response.cseq}"
            fix = "nothing: it came too late, or answers a request that was not ours"
            parts.reject(flow.remote, None, rule="response to nothing we asked", evidence=evidence, fix=fix)
