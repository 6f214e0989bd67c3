"""REGISTER, the client's side (RFC 3261 §10.2): a binding made, refreshed before it runs out, and taken back.

The core knows no names: before each attempt it asks for ways (``RegistrationDue``), best first, and tries them in turn
(RFC 3263 §4.3). When none works it waits, longer each time (RFC 5626 §4.5), and asks for ways anew: by then DNS may
name other servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip.authentication import Proof, answer_challenge
from offhook.sip.digest import DigestClient
from offhook.sip.events import Address, Flow, Hop, RegistrationChanged, RegistrationDue, RegistrationPhase
from offhook.sip.grammar import param_value, parse_number
from offhook.sip.headers import Headers, NameAddr
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.routing import MAX_FORWARDS, contact_uri
from offhook.sip.timers import Timer
from offhook.sip.transaction_layer import ClientTransaction, FailureCause
from offhook.sip.uri import SipUri

ATTEMPT_S = 10.0
"""For one server to answer. Timer F would wait 32 s: too long where a second server stands ready."""

FIRST_RETRY_S = 2.0
"""After a server that did not answer: it may be restarting."""

FIRST_RETRY_REFUSED_S = 10.0
"""After a refusal: nothing changes until somebody changes it, and PBXs lock out who knocks too often."""

LONGEST_RETRY_S = 300.0
REFRESH_FROM, REFRESH_TO = 0.7, 0.8
"""Of the time granted: late enough to be cheap, early enough for a second attempt before it is over."""

EXPIRES_MAX_S = 86_400
EXPIRES_MIN_S = 10
"""A registrar that grants less would have us do nothing else."""


class RegistrationState(Enum):
    SEEKING = auto()  # waits for the ways to the server
    ASKING = auto()  # a REGISTER waits for its final response
    ONLINE = auto()  # the binding stands
    WAITING = auto()  # refused or unreachable; tried again later
    LEAVING = auto()  # the REGISTER that takes the binding back waits for its response
    GONE = auto()


class RegistrationInput(Enum):
    WAYS = auto()
    NO_WAY = auto()
    ACCEPTED = auto()
    ASK_AGAIN = auto()  # another way, another duration, another contact
    FAILED = auto()
    DUE = auto()  # to be refreshed or tried again
    LEAVE_BOUND = auto()  # with a binding to take back
    LEAVE = auto()
    LEFT = auto()


_S, _I = RegistrationState, RegistrationInput

REGISTRATION: Mapping[tuple[RegistrationState, RegistrationInput], RegistrationState] = {
    (_S.SEEKING, _I.WAYS): _S.ASKING,
    (_S.SEEKING, _I.NO_WAY): _S.WAITING,
    (_S.SEEKING, _I.LEAVE_BOUND): _S.LEAVING,
    (_S.SEEKING, _I.LEAVE): _S.GONE,
    (_S.ASKING, _I.ACCEPTED): _S.ONLINE,
    (_S.ASKING, _I.ASK_AGAIN): _S.ASKING,
    (_S.ASKING, _I.FAILED): _S.WAITING,
    (_S.ASKING, _I.LEAVE_BOUND): _S.LEAVING,
    (_S.ASKING, _I.LEAVE): _S.GONE,
    (_S.ONLINE, _I.DUE): _S.SEEKING,
    (_S.ONLINE, _I.LEAVE_BOUND): _S.LEAVING,
    (_S.WAITING, _I.DUE): _S.SEEKING,
    (_S.WAITING, _I.LEAVE_BOUND): _S.LEAVING,
    (_S.WAITING, _I.LEAVE): _S.GONE,
    (_S.LEAVING, _I.ASK_AGAIN): _S.LEAVING,
    (_S.LEAVING, _I.LEFT): _S.GONE,
}

Ways = Sequence[tuple[Flow, Hop]]
Fire = Callable[[float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Whose binding, and where: ``registrar`` is the Request-URI (a domain), ``aor`` the address of record.

    ``outside_host``: our host as configured, where the translator forwards our ports; its connections need no
    correction of the Contact.
    """

    registrar: SipUri
    aor: NameAddr
    contact_user: str
    credentials: DigestClient | None
    expires_s: int
    outside_host: str = ""


class Registration:
    """One binding of ours; the procedures of it. Made by ``UserAgent.register``."""

    def __init__(self, parts: Parts, registration_id: int, account: Account) -> None:
        self._parts = parts
        self._id = registration_id
        self._account = account
        self._state = RegistrationState.SEEKING
        self._sip_call_id = parts.new_token()
        self._tag = parts.new_token()
        self._cseq = 0
        self._expires_s = account.expires_s
        self._ways: list[tuple[Flow, Hop]] = []
        self._way: tuple[Flow, Hop] | None = None
        self._bound: tuple[Flow, Hop] | None = None
        self._contact: SipUri | None = None
        """What is bound, or about to be."""
        self._former: SipUri | None = None
        """A contact that led nowhere: taken back with the REGISTER that gives the better one."""
        self._seen_as: Address | None = None
        self._corrected = False
        self._failures = 0
        self._asked: ClientTransaction | None = None
        self._proof: Proof | None = None
        self._timer: Timer | None = None

    @property
    def gone(self) -> bool:
        return self._state is RegistrationState.GONE

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def seek(self) -> None:
        """Ask the shell for the ways."""
        self._parts.emit(RegistrationDue(registration_id=self._id))

    def take_ways(self, ways: Ways, now: float) -> None:
        """Begin an attempt; the way that worked last comes first while it is still among them."""
        if self._state is not RegistrationState.SEEKING:
            return  # it was left meanwhile
        if not ways:
            raise LocalProtocolError("take_ways needs a way; without one call no_way")
        last = None if self._bound is None else self._bound[1]
        self._ways = sorted(ways, key=lambda way: way[1] != last)
        self._corrected = False
        self._advance(_I.WAYS)
        self._try_next(now)

    def no_way(self, problem: str, now: float) -> None:
        if self._state is RegistrationState.SEEKING:
            self._fail(_I.NO_WAY, None, problem, None, now)

    def refresh(self, now: float) -> None:
        """Do it now: our address changed, or the connection is gone."""
        if (self._state, _I.DUE) in REGISTRATION:
            self._due(now)

    def leave(self, now: float) -> None:
        """Take the binding back (§10.2.2) where there is one; ``RegistrationChanged`` stopped follows. Idempotent."""
        if self._state in (RegistrationState.LEAVING, RegistrationState.GONE):
            return
        self._stop_timer()
        self._abandon()
        if self._bound is None:
            self._advance(_I.LEAVE)
            self._change("stopped")
        else:
            self._advance(_I.LEAVE_BOUND)
            self._ways, self._way, self._expires_s = [], self._bound, 0
            self._ask(now)

    def peer_unreachable(self, remote: Address, now: float) -> None:
        """Nobody listens there any more: ask at once, and find out."""
        bound = self._bound
        if bound is not None and bound[0].remote == remote and bound[0].transport == "UDP":
            self.refresh(now)

    def connection_lost(self, connection: int, now: float) -> None:
        """The registrar reached us by it: register anew, or find out that the registrar is gone."""
        if self._bound is not None and self._bound[0].connection == connection:
            self._bound = (replace(self._bound[0], connection=0), self._bound[1])
            self.refresh(now)

    # ── attempts ─────────────────────────────────────────────────────────────────────────────────────────

    def _due(self, now: float) -> None:
        self._stop_timer()
        self._advance(_I.DUE)
        self.seek()

    def _try_next(self, now: float) -> None:
        self._way = self._ways.pop(0)
        if self._bound is None:
            self._change("registering", way=self._way)
        self._ask(now)

    def _ask(self, now: float) -> None:
        """Send a REGISTER on the present way."""
        if self._way is None:
            raise LocalProtocolError("no way to ask")
        flow, hop = self._way
        self._proof = Proof.of(self._account.credentials)
        self._asked = self._parts.transactions.request(self._request(flow), flow=flow, next_hop=hop, user=self, now=now)
        self._start_timer(now + ATTEMPT_S, self._unanswered)

    def _request(self, flow: Flow) -> Request:
        account = self._account
        self._cseq += 1
        self._contact = self._contact_by(flow)
        headers = Headers(
            [
                ("Via", self._parts.transactions.new_via(flow)),
                ("Max-Forwards", str(MAX_FORWARDS)),
                ("From", str(account.aor.with_tag(self._tag))),
                ("To", str(account.aor)),
                ("Call-ID", self._sip_call_id),
                ("CSeq", f"{self._cseq} REGISTER"),
                ("Contact", f"<{self._contact}>;expires={self._expires_s}"),
            ]
        )
        if self._former is not None and self._former != self._contact:
            headers.add("Contact", f"<{self._former}>;expires=0")
        headers.add("Expires", str(self._expires_s))
        request = Request(method="REGISTER", uri=str(account.registrar), headers=headers)
        self._parts.finish(request)
        return request

    def _contact_by(self, flow: Flow) -> SipUri:
        """Our contact: as the registrar sees us, once it has told us that an address translator is between."""
        seen = flow if self._seen_as is None else replace(flow, local=self._seen_as)
        return contact_uri(seen, self._account.contact_user)

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            return
        if flow.connection and self._way is not None:
            self._way = (flow, self._way[1])
        again = answer_challenge(self._parts, self._asked, response, flow, proof=self._proof, user=self, now=now)
        if again is not None:
            self._asked = again
            self._cseq = again.request.cseq.number
            return
        self._asked = None
        self._stop_timer()
        if self._state is RegistrationState.LEAVING:
            self._left()
        elif response.status < 300:
            self._accepted(response, now)
        else:
            self._refused(response, now)

    def failed(self, cause: FailureCause, now: float) -> None:
        problem = "" if self._asked is None else self._asked.problem
        self._asked = None
        self._stop_timer()
        self._no_answer(problem or ("no answer" if cause == "timeout" else "unreachable"), now)

    def _unanswered(self, now: float) -> None:
        self._timer = None
        self._abandon()
        self._no_answer(f"no answer in {ATTEMPT_S:.0f} s", now)

    def _no_answer(self, problem: str, now: float) -> None:
        if self._state is RegistrationState.LEAVING:
            self._left()
        else:
            self._next_or_fail(None, problem, None, now)

    # ── outcomes ─────────────────────────────────────────────────────────────────────────────────────────

    def _accepted(self, response: Response, now: float) -> None:
        way, contact = self._way, self._contact
        if way is None or contact is None:
            return
        self._bound = way
        if self._correct_contact(response, way[0], contact):
            self._advance(_I.ASK_AGAIN)
            self._ask(now)
            return
        self._former = None
        self._failures = 0
        self._advance(_I.ACCEPTED)
        granted = granted_s(response, contact, self._expires_s)
        share = REFRESH_FROM + (REFRESH_TO - REFRESH_FROM) * self._parts.new_fraction()
        self._start_timer(now + max(granted, EXPIRES_MIN_S) * share, self._timed)
        self._change("online", response, expires_s=granted, way=way)

    def _correct_contact(self, response: Response, flow: Flow, contact: SipUri) -> bool:
        """Whether we must register once more, under the address the registrar saw (RFC 3581, RFC 5626 §3.4).

        A contact without a port was made before there was a connection, and we listen nowhere: then it is that of the
        connection, by which alone we are reached.
        """
        seen = seen_as(response, flow, self._account.outside_host)
        if seen is None and contact.port is None:
            seen = flow.local
        if self._corrected or seen is None or seen == Address(contact.host, contact.port or 0):
            return False
        self._corrected = True
        self._seen_as, self._former = seen, contact
        return True

    def _refused(self, response: Response, now: float) -> None:
        """A 423 is asked again with what it wants (§10.2.8); a fault of the server is taken to the next one."""
        if response.status == 423:
            wanted_s = _min_expires(response)
            if wanted_s is not None and self._expires_s < wanted_s <= EXPIRES_MAX_S:
                self._expires_s = wanted_s
                self._advance(_I.ASK_AGAIN)
                self._ask(now)
                return
        if response.status == 408 or 500 <= response.status < 600:
            self._next_or_fail(response.status, response.reason, response, now)
        else:
            self._fail(_I.FAILED, response.status, response.reason, response, now)

    def _next_or_fail(self, status: int | None, reason: str, response: Response | None, now: float) -> None:
        if self._ways:
            self._advance(_I.ASK_AGAIN)
            self._try_next(now)
        else:
            self._fail(_I.FAILED, status, reason, response, now)

    def _fail(
        self, given: RegistrationInput, status: int | None, reason: str, response: Response | None, now: float
    ) -> None:
        way = self._way
        self._advance(given)
        self._failures += 1
        self._bound = self._seen_as = None
        retry_s = self._retry_s(status, response)
        self._start_timer(now + retry_s, self._timed)
        event = RegistrationChanged(
            registration_id=self._id,
            phase="failed",
            status=status,
            reason=reason,
            response=response,
            retry_s=retry_s,
            next_hop=None if way is None else way[1],
        )
        self._parts.emit(event)

    def _retry_s(self, status: int | None, response: Response | None) -> float:
        """RFC 5626 §4.5: twice as long each time, and at random between half and all of that; Retry-After at least."""
        refused = status is not None and status < 500 and status != 408
        first_s = FIRST_RETRY_REFUSED_S if refused else FIRST_RETRY_S
        longest_s = min(LONGEST_RETRY_S, first_s * 2.0 ** min(self._failures - 1, 10))
        asked_s = 0.0 if response is None else _seconds(response.headers.get("Retry-After"), int(LONGEST_RETRY_S))
        return max(longest_s * (0.5 + 0.5 * self._parts.new_fraction()), asked_s)

    def _left(self) -> None:
        self._advance(_I.LEFT)
        self._change("stopped")

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _change(
        self,
        phase: RegistrationPhase,
        response: Response | None = None,
        *,
        expires_s: int | None = None,
        way: tuple[Flow, Hop] | None = None,
    ) -> None:
        self._parts.emit(
            RegistrationChanged(
                registration_id=self._id,
                phase=phase,
                status=None if response is None else response.status,
                reason="" if response is None else response.reason,
                response=response,
                expires_s=expires_s,
                flow=None if way is None else way[0],
                next_hop=None if way is None else way[1],
                seen_as=self._seen_as,
            )
        )

    def _advance(self, given: RegistrationInput) -> None:
        state = REGISTRATION.get((self._state, given))
        if state is None:
            raise LocalProtocolError(f"registration {self._id} is {self._state.name}: no {given.name} now")
        self._state = state

    def _abandon(self) -> None:
        if self._asked is not None:
            self._parts.transactions.abandon(self._asked)
            self._asked = None

    def _timed(self, now: float) -> None:
        self._timer = None
        self._due(now)

    def _start_timer(self, at: float, fire: Fire) -> None:
        self._stop_timer()
        self._timer = self._parts.timers.start(at, fire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._parts.timers.cancel(self._timer)
            self._timer = None


def granted_s(response: Response, contact: SipUri, asked_s: int) -> int:
    """§10.2.4: how long our binding holds, by the Contact that is ours, else by Expires, else as asked."""
    for value in response.headers.values("Contact"):
        try:
            bound = NameAddr.parse(value)
            uri = SipUri.parse(bound.uri)
        except SipParseError:
            continue
        if (uri.user, uri.host, uri.port) == (contact.user, contact.host, contact.port):
            return _seconds(param_value(bound.params, "expires"), EXPIRES_MAX_S) or asked_s
    return _seconds(response.headers.get("Expires"), EXPIRES_MAX_S) or asked_s


def seen_as(response: Response, flow: Flow, outside_host: str = "") -> Address | None:
    """Where the server saw our request come from, if an address translator changed that; None: it did not.

    A connection of ours has a port of its own anyway; there only another host than the machine's tells of a
    translator, and than ``outside_host``, whose ports are forwarded to us.
    """
    via = response.via_top
    host = via.received or via.host
    if flow.transport != "UDP" and host in (flow.bind_host, outside_host):
        return None
    port = flow.local.port if via.rport in (None, "") else _seconds(via.rport, 65_535)
    seen = Address(host, port)
    return seen if port and via.received is not None and seen != flow.local else None


def _min_expires(response: Response) -> int | None:
    return _seconds(response.headers.get("Min-Expires"), 2**32 - 1) or None


def _seconds(text: str | None, maximum: int) -> int:
    """Delta-seconds up to ``maximum``, without what may follow them (a comment, parameters); 0 where none stand."""
    if text is None:
        return 0
    number = text.replace("(", ";").partition(";")[0].strip()
    try:
        return min(parse_number(number, "delta-seconds", 2**32 - 1), maximum)
    except SipParseError:
        return 0
