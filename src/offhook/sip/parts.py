"""What every procedure of one user agent works with: timers, transactions, usages, and the two queues outward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import count

from offhook.model.errors import LocalProtocolError
from offhook.sip.dialog import Dialog
from offhook.sip.events import (
    Address,
    Flow,
    InfoReceived,
    MessageReceived,
    MessageRejected,
    Outbound,
    ProvisionalReceived,
    ReferProgress,
    SipEvent,
)
from offhook.sip.grammar import is_token
from offhook.sip.inspection import ALLOW, SDP, SUPPORTED, Refusal
from offhook.sip.message import Request, Response, response_to, serialize
from offhook.sip.refer_usage import ReferUsages
from offhook.sip.routing import reply_flow
from offhook.sip.session_interval import SessionTimerRules
from offhook.sip.timers import TimerHeap
from offhook.sip.transaction import GIVE_UP_S, State
from offhook.sip.transaction_layer import (
    ClientTransaction,
    ClientUser,
    FailureCause,
    ServerTransaction,
    TransactionLayer,
)
from offhook.sip.usage import Usage, UsageState


@dataclass(frozen=True, kw_only=True, slots=True)
class UserAgentLimits:
    """What one user agent may hold. Beyond, new requests get 503 with Retry-After and leave no trace."""

    transactions: int = 20_000
    """A call leaves about 3 behind it for 32 s: room for 200 calls a second."""
    usages: int = 2_000
    """Far above what the media plane carries on one core; the application refuses long before."""
    forks: int = 16
    """Remote tags one INVITE of ours may bring; a carrier forks to a handful, a 17th is a fault or an attack."""
    refers: int = 1_000
    """Transfers that go on, of both roles: one in two calls, where calls are as many as they may be."""
    events: int = 10_000
    """Reports of refused messages, provisional responses, progress of transfers, INFO and MESSAGE are dropped and
    counted beyond this: they come as fast as a peer likes. What a call is never is."""
    retry_after_s: int = 5
    """Short: a caller that waits longer hangs up. RFC 3261 §21.5.4."""


HeaderLines = Iterable[tuple[str, str]]


def _leave(usage: Usage, now: float) -> None:
    pass


def writable(headers: HeaderLines) -> tuple[tuple[str, str], ...]:
    """The application's headers. Raises ``LocalProtocolError`` for one that would break the message apart."""
    lines = tuple(headers)
    for name, value in lines:
        if not is_token(name) or "\r" in value or "\n" in value:
            raise LocalProtocolError(f"not a header: {name!r}: {value!r}")
    return lines


class Unattended:
    """The user of a request whose outcome interests nobody."""

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        pass

    def failed(self, cause: FailureCause, now: float) -> None:
        pass


class Parts:
    """The shared state of one user agent. Every procedure is given it; none keeps a state of its own elsewhere."""

    def __init__(self, *, product: str, new_token: Callable[[], str], limits: UserAgentLimits) -> None:
        self.product = product
        self.new_token = new_token
        self.limits = limits
        self.timers = TimerHeap()
        self.outbox: deque[Outbound] = deque()
        self.transactions = TransactionLayer(timers=self.timers, send=self.outbox.append, new_token=new_token)
        self.events: deque[SipEvent] = deque()
        self.events_dropped = 0
        self.live_connections: set[int] = set()
        self.takes_calls = True
        self.session_timers: Mapping[str, SessionTimerRules] = {}
        self.reliable_trunks: frozenset[str] = frozenset()
        self.refresh_session: Callable[[Usage, float], None] = _leave
        """What a session timer does when it is due: the user agent gives it, for it stands above all procedures."""
        self.usages: dict[int, Usage] = {}
        self.refers = ReferUsages(most=limits.refers)
        self._by_tag: dict[tuple[str, str], Usage] = {}
        self._usage_ids = count(1)
        self._request_tokens = count(1)
        self._secret = new_token().encode()

    # ── usages ───────────────────────────────────────────────────────────────────────────────────────────

    def add_usage(self, state: UsageState, sip_call_id: str, local_tag: str, dialog: Dialog | None = None) -> Usage:
        usage = Usage(
            usage_id=next(self._usage_ids), state=state, sip_call_id=sip_call_id, local_tag=local_tag, dialog=dialog
        )
        self.usages[usage.usage_id] = usage
        self._by_tag[sip_call_id, local_tag] = usage
        return usage

    def usage(self, usage_id: int) -> Usage:
        """Raises ``LocalProtocolError`` for a usage that is gone."""
        usage = self.usages.get(usage_id)
        if usage is None:
            raise LocalProtocolError(f"usage {usage_id} is gone")
        return usage

    def usage_of(self, sip_call_id: str, local_tag: str | None) -> Usage | None:
        """Our tag is random, so it and the Call-ID name one usage; the remote tag is the caller's to compare."""
        return self._by_tag.get((sip_call_id, local_tag or ""))

    def drop_usage(self, usage: Usage, now: float) -> None:
        """Forget it, and stop whatever it had running; its transactions run out by themselves."""
        usage.state = UsageState.GONE
        self.usages.pop(usage.usage_id, None)
        self._by_tag.pop((usage.sip_call_id, usage.local_tag), None)
        self.cancel_repetition(usage)
        self.cancel_retry(usage)
        self.cancel_timers(usage)
        self.cancel_session_timer(usage)
        for waiting in (usage.pracked, usage.updated):
            if waiting is not None:  # RFC 3261 §15.1.2: "The UAS MUST still respond to any pending requests"
                self.respond(waiting, 487, now)
        if usage.asked is not None and usage.asked.state in (State.CALLING, State.PROCEEDING):
            # No timer of RFC 3261 ends an INVITE that is answered 100 and no more; its dialog's end must.
            self.timers.start(now + GIVE_UP_S, partial(self._abandon, usage.asked))
        usage.served = usage.asked = usage.pracked = usage.updated = usage.updating = None
        self.refers.usage_gone(usage.sip_call_id, usage.local_tag, now)

    def _abandon(self, transaction: ClientTransaction, now: float) -> None:
        self.transactions.abandon(transaction)

    def cancel_repetition(self, usage: Usage) -> None:
        if usage.unacknowledged is not None:
            self.timers.cancel(usage.unacknowledged.timer)
            usage.unacknowledged = None

    def cancel_retry(self, usage: Usage) -> None:
        if usage.retry is not None:
            self.timers.cancel(usage.retry.timer)
        if usage.update_retry is not None:
            self.timers.cancel(usage.update_retry)
        usage.retry = usage.update_retry = None

    def cancel_session_timer(self, usage: Usage) -> None:
        if usage.session_timer is not None:
            self.timers.cancel(usage.session_timer.timer)
            usage.session_timer = None

    def cancel_timers(self, usage: Usage) -> None:
        """Those of an INVITE that is not answered yet."""
        for timer in (usage.ring_timer, usage.give_up_timer):
            if timer is not None:
                self.timers.cancel(timer)
        usage.ring_timer = usage.give_up_timer = None
        if usage.progress is not None and usage.progress.unpracked is not None:
            # RFC 3262 §3: after a final response it "SHOULD NOT continue to retransmit", but still take the PRACK
            self.timers.cancel(usage.progress.unpracked.timer)

    # ── outward ──────────────────────────────────────────────────────────────────────────────────────────

    def emit(self, event: SipEvent) -> None:
        droppable = isinstance(event, MessageRejected | ProvisionalReceived | InfoReceived | MessageReceived) or (
            isinstance(event, ReferProgress) and not event.terminated
        )
        if droppable and len(self.events) >= self.limits.events:
            self.events_dropped += 1
        else:
            self.events.append(event)

    def reject(self, source: Address, status: int | None, *, rule: str, evidence: str, fix: str) -> None:
        """Report a refusal or a discard; what was sent, if anything, is the caller's doing."""
        self.emit(MessageRejected(source=source, status=status, rule=rule, evidence=evidence, fix=fix))

    def new_request_token(self) -> int:
        """For what is told of a request of ours later."""
        return next(self._request_tokens)

    def new_fraction(self) -> float:
        """A random number in [0, 1)."""
        return int.from_bytes(blake2b(self.new_token().encode(), digest_size=4).digest(), "big") / 2**32

    def send_in_dialog(self, dialog: Dialog, request: Request, user: ClientUser, now: float) -> ClientTransaction:
        flow, hop = dialog.way(self.live_connections)
        request.headers.prepend("Via", self.transactions.new_via(flow))
        return self.transactions.request(request, flow=flow, next_hop=hop, user=user, now=now)

    def ack_packet(self, usage: Usage, dialog: Dialog, number: int, body: bytes) -> Outbound:
        """The ACK of a 2xx (RFC 3261 §13.2.2.4): a transaction of its own, never repeated by itself.

        "The ACK MUST contain the same credentials as the INVITE": unless it takes another way than the INVITE did, to
        a callee who has no use for them but to guess the password.
        """
        ack = dialog.request("ACK", number=number)
        flow, hop = dialog.way(self.live_connections)
        known = (hop or flow.remote).host in usage.known_hosts
        self.finish(ack, headers=usage.proofs if known else (), body=body)
        ack.headers.prepend("Via", self.transactions.new_via(flow))
        return Outbound(data=serialize(ack), flow=flow, next_hop=hop)

    def finish(
        self,
        request: Request,
        *,
        headers: HeaderLines = (),
        body: bytes = b"",
        content_type: str = SDP,
    ) -> None:
        """What follows the headers of the dialog: who we are, what we allow, the application's headers, the body."""
        if request.method not in ("ACK", "CANCEL"):  # RFC 3261 §20, table 2: neither has a place in those
            request.headers.add(*ALLOW)
            request.headers.add(*SUPPORTED)
        request.headers.add("User-Agent", self.product)
        for name, value in headers:
            request.headers.add(name, value)
        if body:
            request.headers.add("Content-Type", content_type)
        request.body = body

    # ── responses ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def full(self) -> bool:
        """Whether a new request must be refused without leaving a trace."""
        return self.crowded or len(self.usages) >= self.limits.usages

    @property
    def crowded(self) -> bool:
        """Whether there is no room for one more transaction, but for those that end a call."""
        return len(self.transactions) >= self.limits.transactions

    def serve(self, request: Request, flow: Flow, now: float) -> ServerTransaction:
        return self.transactions.serve(request, flow, self.stateless_tag(request), now)

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: HeaderLines = (),
        body: bytes = b"",
    ) -> Response:
        response = response_to(
            transaction.request,
            status,
            reason,
            to_tag=transaction.to_tag,
            headers=[*headers, ("Server", self.product)],
            body=body,
            content_type=SDP if body else None,
        )
        self.transactions.respond(transaction, response, now)
        return response

    def refuse(self, request: Request, flow: Flow, refusal: Refusal, now: float) -> None:
        """Answer with a failure: an INVITE's is repeated until its ACK, as long as there is room for that."""
        if request.method == "INVITE" and not self.crowded:
            self.respond(self.serve(request, flow, now), refusal.status, now, headers=refusal.headers)
        else:
            self.respond_statelessly(request, flow, refusal.status, refusal.headers)
        self.explain(request, flow, refusal)

    def refuse_statelessly(self, request: Request, flow: Flow, refusal: Refusal) -> None:
        """The same without a transaction: each copy of the request gets a copy of the answer, and none is repeated."""
        self.respond_statelessly(request, flow, refusal.status, refusal.headers)
        self.explain(request, flow, refusal)

    def explain(self, request: Request, flow: Flow, refusal: Refusal) -> None:
        evidence = refusal.evidence or f"{request.method} {request.uri}, Call-ID {request.sip_call_id}"
        self.reject(flow.remote, refusal.status, rule=refusal.rule, evidence=evidence, fix=refusal.fix)

    def respond_statelessly(
        self,
        request: Request,
        flow: Flow,
        status: int,
        headers: HeaderLines = (),
        to_tag: str | None = None,
    ) -> None:
        """RFC 3261 §8.2.7: a copy of the request gets a copy of the response, tag and all, and nothing is kept."""
        response = response_to(
            request,
            status,
            to_tag=to_tag or self.stateless_tag(request),
            headers=[*headers, ("Server", self.product)],
        )
        self.outbox.append(Outbound(data=serialize(response), flow=reply_flow(request, flow)))

    def stateless_tag(self, request: Request) -> str:
        """The same for every copy of a request, and no one else's guess."""
        seed = [request.headers.get(name) for name in ("Via", "Call-ID", "CSeq")]
        return blake2b(repr(seed).encode("utf-8", "surrogateescape"), digest_size=8, key=self._secret[:64]).hexdigest()
