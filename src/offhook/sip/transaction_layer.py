"""The transaction layer (RFC 3261 §17): matches messages to transactions and turns the crank of their tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Literal, Protocol, assert_never

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip.events import Address, Flow, Hop, Outbound
from offhook.sip.headers import Headers, Via
from offhook.sip.message import Request, Response, serialize
from offhook.sip.routing import MAX_FORWARDS, reply_flow, via_for
from offhook.sip.timers import Timer, TimerHeap
from offhook.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    T2_S,
    TIMER_RULES,
    Action,
    Input,
    Machine,
    State,
    TimerName,
    input_of,
)

BRANCH_COOKIE = "z9hG4bK"
"""RFC 3261 §8.1.1.7: a branch that begins so is unique; any other needs RFC 2543 matching."""

LARGEST_DATAGRAM_BYTES = 1300
"""§18.1.1: "If a request is within 200 bytes of the path MTU, or if it is larger than 1300 bytes and the path MTU is
unknown, the request MUST be sent using an RFC 2914 congestion controlled transport protocol, such as TCP." """

_NO_TIMERS: frozenset[TimerName] = frozenset()

FailureCause = Literal["timeout", "transport"]


class ClientUser(Protocol):
    """Who sent a request: told of every response the machine does not absorb and how it came; and of failure, once."""

    def responded(self, response: Response, flow: Flow, now: float) -> None: ...

    def failed(self, cause: FailureCause, now: float) -> None: ...


@dataclass(kw_only=True, slots=True, eq=False)
class Transaction:
    """What both sides have. ``latest`` is what a retransmission sends."""

    machine: Machine
    key: tuple[str, ...]
    token: int
    flow: Flow
    next_hop: Hop | None = None
    latest: bytes = b""
    state: State = State.TERMINATED
    timers: dict[TimerName, Timer] = field(default_factory=dict)
    interval_s: float = 0.0

    @property
    def reliable(self) -> bool:
        return (self.next_hop or self.flow).transport != "UDP"


@dataclass(kw_only=True, slots=True, eq=False)
class ClientTransaction(Transaction):
    """``problem`` is why the transport failed, where it did.

    ``by_udp``: the way it would have taken, were it not too large; it is taken after all when TCP fails.
    """

    request: Request
    user: ClientUser
    problem: str = ""
    by_udp: tuple[Flow, Hop | None] | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class ServerTransaction(Transaction):
    """``to_tag`` is our tag in every response. ``merge_key`` knows the request when it comes by another path too.

    ``unanswered`` is the request until its final response; what is repeated for 64*T1 after that is ``latest``, and
    the request would be two thirds of what a call leaves behind.
    """

    unanswered: Request | None
    to_tag: str
    merge_key: tuple[str, ...] | None

    @property
    def request(self) -> Request:
        """Raises ``LocalProtocolError`` after the final response."""
        if self.unanswered is None:
            raise LocalProtocolError("no response after a final one")
        return self.unanswered


class TransactionLayer:
    """Every transaction of one user agent. ``send`` puts a message on the wire; ``new_token`` is for branches."""

    def __init__(self, *, timers: TimerHeap, send: Callable[[Outbound], None], new_token: Callable[[], str]) -> None:
        self._timers = timers
        self._send = send
        self._new_token = new_token
        self._tokens = count(1)
        self._clients: dict[tuple[str, ...], ClientTransaction] = {}
        self._servers: dict[tuple[str, ...], ServerTransaction] = {}
        self._by_token: dict[int, Transaction] = {}
        self._merge_keys: dict[tuple[str, ...], ServerTransaction] = {}
        self.absorbed = 0
        """Messages that had no row in their machine: copies, and answers come too late."""

    def __len__(self) -> int:
        return len(self._by_token)

    # ── client side ──────────────────────────────────────────────────────────────────────────────────────

    def new_via(self, flow: Flow) -> str:
        """The Via of a new transaction."""
        return via_for(flow, BRANCH_COOKIE + self._new_token())

    def request(
        self, request: Request, *, flow: Flow, next_hop: Hop | None, user: ClientUser, now: float
    ) -> ClientTransaction:
        """Send a request that already has its Via, and answer for it until it is done.

        One that is too large for UDP goes by TCP to the same port (§18.1.1).
        """
        by_udp, data = None, serialize(request)
        if len(data) > LARGEST_DATAGRAM_BYTES and (next_hop or flow).transport == "UDP":
            by_udp = (flow, next_hop)
            flow, next_hop = _by_tcp(flow, next_hop)
            _change_via(request, flow)
            data = serialize(request)
        transaction = ClientTransaction(
            machine=INVITE_CLIENT if request.method == "INVITE" else NON_INVITE_CLIENT,
            key=_client_key(request),
            token=next(self._tokens),
            request=request,
            flow=flow,
            next_hop=next_hop,
            latest=data,
            user=user,
            by_udp=by_udp,
        )
        self._clients[transaction.key] = transaction
        self._by_token[transaction.token] = transaction
        self._enter(transaction, transaction.machine.initial, now)
        self._transmit(transaction)
        return transaction

    def receive_response(self, response: Response, flow: Flow, now: float) -> bool:
        """False: no transaction asked for it."""
        transaction = self._clients.get(_client_key(response))
        if transaction is None:
            return False
        if flow.connection:  # what follows this response (ACK, CANCEL) stays on its connection
            transaction.flow, transaction.next_hop = flow, None
        self._step(transaction, input_of(response.status), now, (response, flow))
        return True

    def asked_by(self, via: str) -> bool:
        """Whether a Via is that of an INVITE of ours that is not over."""
        try:
            branch = Via.parse(via).branch or ""
        except SipParseError:
            return False
        return (branch, "INVITE") in self._clients

    def abandon(self, transaction: Transaction) -> None:
        """Forget it without a word to anyone (RFC 3261 §9.1: an INVITE whose CANCEL brought nothing)."""
        self._terminate(transaction)

    # ── server side ──────────────────────────────────────────────────────────────────────────────────────

    def receive_request(self, request: Request, flow: Flow, now: float) -> bool:
        """Offer a request to the transaction it belongs to.

        False: it belongs to none and is the user's business, as is the ACK of a 2xx (RFC 6026 §7.1).
        """
        transaction = self._servers.get(server_key(request))
        if transaction is None:
            return False
        if flow.connection:  # RFC 3261 §18.2.2: the answer leaves on the connection that is open now
            transaction.flow = flow
        given = Input.ACK if request.method == "ACK" else Input.REQUEST
        row = transaction.machine.rows.get((transaction.state, given))
        self._step(transaction, given, now)
        return row is None or Action.TELL not in row.actions

    def serve(self, request: Request, flow: Flow, to_tag: str, now: float) -> ServerTransaction:
        """Begin to answer for a new request. ``to_tag`` is for a To that has none."""
        transaction = ServerTransaction(
            machine=INVITE_SERVER if request.method == "INVITE" else NON_INVITE_SERVER,
            key=server_key(request),
            token=next(self._tokens),
            unanswered=request,
            flow=reply_flow(request, flow),
            to_tag=request.to.tag or to_tag,
            merge_key=_merge_key(request),
        )
        self._servers[transaction.key] = transaction
        self._by_token[transaction.token] = transaction
        if transaction.merge_key is not None:
            self._merge_keys.setdefault(transaction.merge_key, transaction)
        self._enter(transaction, transaction.machine.initial, now)
        return transaction

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        """Send a response. Raises ``LocalProtocolError`` after a final one (a 2xx may be repeated)."""
        given = input_of(response.status)
        if (transaction.state, given) not in transaction.machine.rows:
            raise LocalProtocolError(f"no {response.status} after a final response ({transaction.state.name})")
        transaction.latest = serialize(response)
        if response.status >= 200:
            transaction.unanswered = None
        self._step(transaction, given, now)

    def repeat(self, transaction: ServerTransaction) -> None:
        """Send the latest response once more."""
        self._transmit(transaction)

    def is_merged(self, request: Request) -> bool:
        """RFC 3261 §8.2.2.2: the same request is being answered already, having come by another path."""
        key = _merge_key(request)
        return key is not None and key in self._merge_keys

    def cancelled_by(self, cancel: Request) -> ServerTransaction | None:
        """The transaction a CANCEL names (RFC 3261 §9.2): the same branch and sent-by, whatever its method."""
        for method in ("INVITE", "BYE", "OPTIONS"):
            transaction = self._servers.get(server_key(cancel, method))
            if transaction is not None:
                return transaction
        return None

    def transport_failed(self, token: int, now: float, problem: str = "") -> None:
        """A message with this token could not be sent, and why."""
        transaction = self._by_token.get(token)
        if isinstance(transaction, ClientTransaction):
            transaction.problem = problem
            if self._falls_back(transaction, now):
                return
        if transaction is not None:
            self._step(transaction, Input.TRANSPORT_ERROR, now)

    def _falls_back(self, transaction: ClientTransaction, now: float) -> bool:
        """§18.1.1: "if the attempt to establish the connection generates either an ICMP Protocol Not Supported, or
        results in a TCP reset, the element SHOULD retry the request, using UDP"."""
        if transaction.by_udp is None or transaction.state not in (State.CALLING, State.TRYING):
            return False
        transaction.flow, transaction.next_hop = transaction.by_udp
        transaction.by_udp = None
        _change_via(transaction.request, transaction.flow)
        transaction.latest = serialize(transaction.request)
        for name in transaction.machine.timers.get(transaction.state, _NO_TIMERS):
            if name not in transaction.timers:
                self._start(transaction, name, now)
        self._transmit(transaction)
        return True

    def connection_lost(self, connection: int, now: float) -> None:
        """Whoever still waits for a first answer on this connection waits in vain."""
        for transaction in list(self._clients.values()):
            if transaction.flow.connection == connection and transaction.state in (State.CALLING, State.TRYING):
                transaction.problem = "the connection was lost"
                self._step(transaction, Input.TRANSPORT_ERROR, now)

    def unreachable(self, remote: Address, problem: str, now: float) -> None:
        """What waits for a first answer from there by UDP waits in vain."""
        for transaction in list(self._clients.values()):
            if transaction.state not in (State.CALLING, State.TRYING) or transaction.reliable:
                continue
            hop = transaction.next_hop
            goes_to = transaction.flow.remote if hop is None else Address(hop.host, hop.port)
            if goes_to == remote:
                transaction.problem = problem
                self._step(transaction, Input.TRANSPORT_ERROR, now)

    # ── the crank ────────────────────────────────────────────────────────────────────────────────────────

    def _step(
        self, transaction: Transaction, given: Input | TimerName, now: float, came: tuple[Response, Flow] | None = None
    ) -> None:
        row = transaction.machine.rows.get((transaction.state, given))
        if row is None:
            self.absorbed += 1
            return
        self._enter(transaction, row.state, now)
        for action in row.actions:
            self._act(transaction, action, now, came)

    def _act(self, transaction: Transaction, action: Action, now: float, came: tuple[Response, Flow] | None) -> None:
        match action:
            case Action.SEND:
                self._transmit(transaction)
            case Action.AGAIN:
                self._repeat(transaction, 2 * transaction.interval_s, now)
            case Action.AGAIN_AT_T2:
                self._repeat(transaction, T2_S, now)
            case Action.ACK | Action.TELL | Action.TIMED_OUT | Action.UNREACHABLE:
                if isinstance(transaction, ClientTransaction):
                    self._act_as_client(transaction, action, now, came)
            case _:
                assert_never(action)

    def _act_as_client(
        self, transaction: ClientTransaction, action: Action, now: float, came: tuple[Response, Flow] | None
    ) -> None:
        if action is Action.TIMED_OUT:
            transaction.user.failed("timeout", now)
        elif action is Action.UNREACHABLE:
            transaction.user.failed("transport", now)
        elif came is not None and action is Action.ACK:
            ack = companion(transaction.request, "ACK", to=came[0].headers.get("To"))
            self._send(Outbound(data=serialize(ack), flow=transaction.flow, next_hop=transaction.next_hop))
        elif came is not None:
            transaction.user.responded(*came, now)

    def _transmit(self, transaction: Transaction) -> None:
        if transaction.latest:
            self._send(
                Outbound(
                    data=transaction.latest,
                    flow=transaction.flow,
                    next_hop=transaction.next_hop,
                    token=transaction.token,
                )
            )

    def _enter(self, transaction: Transaction, state: State, now: float) -> None:
        """Change state: the timers of the old one stop, those of the new one start, common ones run on."""
        if state is State.TERMINATED:
            self._terminate(transaction)
            return
        of_state = transaction.machine.timers
        running, wanted = of_state.get(transaction.state, _NO_TIMERS), of_state.get(state, _NO_TIMERS)
        transaction.state = state
        for name in running - wanted:
            self._stop(transaction, name)
        for name in wanted - running:
            self._start(transaction, name, now)

    def _start(self, transaction: Transaction, name: TimerName, now: float) -> None:
        rule = TIMER_RULES[name]
        after_s = rule.reliable_s if transaction.reliable else rule.unreliable_s
        if after_s is None:
            return
        if after_s == 0.0:
            self._step(transaction, name, now)
            return
        if name is transaction.machine.retransmits:
            transaction.interval_s = after_s
        transaction.timers[name] = self._timers.start(now + after_s, partial(self._fired, transaction, name))

    def _fired(self, transaction: Transaction, name: TimerName, now: float) -> None:
        transaction.timers.pop(name, None)
        self._step(transaction, name, now)

    def _repeat(self, transaction: Transaction, interval_s: float, now: float) -> None:
        name = transaction.machine.retransmits
        if name is not None:
            transaction.interval_s = min(interval_s, TIMER_RULES[name].ceiling_s)
            fire = partial(self._fired, transaction, name)
            transaction.timers[name] = self._timers.start(now + transaction.interval_s, fire)

    def _stop(self, transaction: Transaction, name: TimerName) -> None:
        timer = transaction.timers.pop(name, None)
        if timer is not None:
            self._timers.cancel(timer)

    def _terminate(self, transaction: Transaction) -> None:
        transaction.state = State.TERMINATED
        for name in list(transaction.timers):
            self._stop(transaction, name)
        if self._by_token.pop(transaction.token, None) is None:
            return
        if isinstance(transaction, ServerTransaction):
            del self._servers[transaction.key]
            if transaction.merge_key is not None and self._merge_keys.get(transaction.merge_key) is transaction:
                del self._merge_keys[transaction.merge_key]
        else:
            del self._clients[transaction.key]


def _by_tcp(flow: Flow, hop: Hop | None) -> tuple[Flow, Hop]:
    hop = hop or Hop(transport="UDP", host=flow.remote.host, port=flow.remote.port)
    return replace(flow, transport="TCP", connection=0), replace(hop, transport="TCP")


def _change_via(request: Request, flow: Flow) -> None:
    """The top Via says how the request travels; its branch stays."""
    branch = request.via_top.branch or ""
    request.headers.remove("Via")
    request.headers.prepend("Via", via_for(flow, branch))


def companion(request: Request, method: Literal["ACK", "CANCEL"], *, to: str | None = None) -> Request:
    """The request that travels the path of another: the ACK of a non-2xx (RFC 3261 §17.1.1.3) or a CANCEL (§9.1).

    Same Request-URI, Call-ID, From, CSeq number and Route, and the top Via alone. ``to``: the response's, for an ACK.
    """
    headers = Headers()
    headers.add("Via", request.headers.values("Via")[0])
    headers.add("Max-Forwards", str(MAX_FORWARDS))
    for name in ("Route", "From", "To", "Call-ID"):
        for value in request.headers.get_all(name):
            headers.add(name, value)
    if to is not None:
        headers.set("To", to)
    headers.add("CSeq", f"{request.cseq.number} {method}")
    for value in request.headers.get_all("User-Agent"):
        headers.add("User-Agent", value)
    return Request(method=method, uri=request.uri, headers=headers)


def server_key(request: Request, method: str | None = None) -> tuple[str, ...]:
    """What a request has in common with its copies, its ACK (of a non-2xx) and its CANCEL (RFC 3261 §17.2.3)."""
    via = request.via_top
    method = method or ("INVITE" if request.method == "ACK" else request.method)
    sent_by = (via.host, str(via.port or ""))
    if via.branch is not None and via.branch.lower().startswith(BRANCH_COOKIE.lower()):
        return (via.branch, *sent_by, method)
    # RFC 2543 peers: the branch says nothing, so everything that a copy repeats must match.
    tag = request.from_.tag or ""
    identity = (request.uri, tag, request.sip_call_id, str(request.cseq.number))
    return ("", *identity, *sent_by, via.branch or "", method)


def _client_key(message: Request | Response) -> tuple[str, ...]:
    """RFC 3261 §17.1.3: the branch we made and the method of the CSeq."""
    return (message.via_top.branch or "", message.cseq.method)


def _merge_key(request: Request) -> tuple[str, ...] | None:
    if request.to.tag:
        return None
    return (request.sip_call_id, request.from_.tag or "", str(request.cseq.number), request.method)
