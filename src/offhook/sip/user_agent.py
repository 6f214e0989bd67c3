"""The SIP user agent (RFC 3261 §8), sans-IO: packets and time in, packets and events out.

The shell calls ``receive`` and ``handle_timer``, then empties ``packets_to_send`` and ``next_event`` and sleeps until
``get_timer``. The application calls the commands; one that the state does not allow raises ``LocalProtocolError``.
Nothing that arrives raises. This file only says who does what: each procedure lives in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip import (
    acknowledge,
    bye,
    info_message,
    invite,
    options,
    prack,
    refer,
    referred,
    reinvite,
    session_refresh,
    update,
)
from offhook.sip.admission import Admission, Admitted, Ignored
from offhook.sip.call_commands import CallCommands
from offhook.sip.dialog import Dialog
from offhook.sip.digest import DigestClient
from offhook.sip.events import Address, Flow, Hop, Inbound, Outbound, RegistrationChanged, SipEvent
from offhook.sip.headers import NameAddr
from offhook.sip.inspection import (
    NO_SUCH_DIALOG,
    NOTHING_TO_CANCEL,
    ONLY_IN_A_CALL,
    OUT_OF_ORDER,
    Refusal,
    inspect,
    too_many,
)
from offhook.sip.message import Request, Response, SipMessage
from offhook.sip.parser import MalformedRequest, is_keep_alive, parse_message
from offhook.sip.parts import Parts, UserAgentLimits
from offhook.sip.refer_usage import AskedRefer
from offhook.sip.registration import Account, Registration, Ways
from offhook.sip.routing import note_source
from offhook.sip.uri import SipUri
from offhook.sip.usage import Usage

__all__ = ["UserAgent", "UserAgentLimits"]

_DEFAULT_LIMITS = UserAgentLimits()

_IN_DIALOG: Mapping[str, Callable[[Parts, Usage, Request, Flow, float], None]] = {
    "BYE": bye.receive,
    "INVITE": reinvite.receive,
    "OPTIONS": options.receive_in_dialog,
    "PRACK": prack.receive,
    "INFO": info_message.receive,
    "MESSAGE": info_message.receive,
    "REFER": referred.receive,
    "NOTIFY": refer.receive_notify,
    "UPDATE": update.receive,
}
"""Who takes a request in a dialog, once it is trusted, in order and of a method that ``inspect`` lets pass."""

_COME_OFTEN = frozenset({"INFO", "MESSAGE", "REFER", "NOTIFY"})
"""What one peer may send without end in one call: refused while transactions are at their limit."""


class UserAgent(CallCommands):
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
        super().__init__(Parts(product=product, new_token=new_token, limits=limits))
        self._parts.refresh_session = partial(session_refresh.refresh, self._parts)
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
            "refers": len(parts.refers),
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

    def take_calls(self, wanted: bool) -> None:
        """Whether new calls are offered to the application; otherwise they get 503 and leave no trace (§8.2.7).

        So does OPTIONS outside a call. An INVITE that replaces a call is no new one.
        A flood of calls that nobody has room for costs a response each, and neither memory nor repetition.
        """
        self._parts.takes_calls = wanted

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
        elif request.method == "NOTIFY" and (asked := refer.followed_by(parts, request)) is not None:
            self._receive_late_notify(asked, request, flow, now)
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
            alone = NO_SUCH_DIALOG if request.method == "BYE" else ONLY_IN_A_CALL
            self._parts.refuse(request, flow, refusal or alone, now)

    def _receive_in_dialog(self, usage: Usage, request: Request, flow: Flow, now: float) -> None:
        parts = self._parts
        dialog = usage.dialog_with(request.from_.tag or "")
        if dialog is None or not self._trusts(dialog, usage.trunk_id, request, flow, now):
            return
        refusal = self._hindrance(dialog, request, flow)
        if refusal is not None:
            parts.refuse(request, flow, refusal, now)
        else:
            _IN_DIALOG[request.method](parts, usage, request, flow, now)

    def _receive_late_notify(self, asked: AskedRefer, request: Request, flow: Flow, now: float) -> None:
        """RFC 5057 §3.1: the dialog lives on for the NOTIFYs of a REFER of ours, though its INVITE usage is gone."""
        if not self._trusts(asked.dialog, asked.trunk_id, request, flow, now):
            return
        refusal = self._hindrance(asked.dialog, request, flow)
        if refusal is not None:
            self._parts.refuse(request, flow, refusal, now)
        else:
            refer.receive_notify(self._parts, None, request, flow, now)

    def _hindrance(self, dialog: Dialog, request: Request, flow: Flow) -> Refusal | None:
        """What speaks against a request in that dialog, whatever it asks for. The CSeq it brings is noted."""
        if request.method == "CANCEL":
            return NOTHING_TO_CANCEL
        refusal = inspect(request, flow) if request.method != "INVITE" else None
        if refusal is not None:
            return refusal
        if request.method in _COME_OFTEN and self._parts.crowded:
            return too_many(self._parts.limits.retry_after_s)
        return None if dialog.in_order(request) else OUT_OF_ORDER

    def _trusts(self, dialog: Dialog, trunk_id: str, request: Request, flow: Flow, now: float) -> bool:
        """Whether the sender may speak in that dialog, come from the host it was made with or from another.

        False: it is turned away.
        """
        host = flow.remote.host
        if host == dialog.flow.remote.host:
            return True
        verdict = self.admission.judge_in_dialog(request, host, trunk_id, now, self._parts.new_token())
        if isinstance(verdict, Admitted):
            return True
        self._turn_away(verdict, request, flow)
        return False

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
        return None if usage.dialog_with(request.from_.tag or "") is None else usage

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
