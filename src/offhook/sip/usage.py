"""An INVITE usage (RFC 5057 §2), one leg of one call, and the table of its states."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from offhook.model.errors import LocalProtocolError
from offhook.sip.dialog import Dialog
from offhook.sip.digest import DigestClient
from offhook.sip.events import Outbound, UsageEndCause
from offhook.sip.inspection import ALLOW, EXTENSIONS, METHODS, SUPPORTED
from offhook.sip.message import Request, Response
from offhook.sip.session_interval import DEFAULT_SESSION_TIMER, LEAST_MIN_SE_S, SessionTimerRules
from offhook.sip.timers import Timer
from offhook.sip.transaction_layer import ClientTransaction, ServerTransaction


class UsageState(Enum):
    INVITED = auto()  # UAS: an INVITE waits for its final response
    ANSWER_WANTED = auto()  # UAS: the 2xx waits for the PRACK of a session description (RFC 3262 §3)
    ANSWERED = auto()  # UAS: the 2xx waits for its ACK
    BYE_WANTED = auto()  # UAS: the same, and then BYE (§15: no BYE before the ACK)
    CALLING = auto()  # UAC: nothing heard yet
    PROCEEDING = auto()  # UAC: a provisional response came
    CANCEL_WANTED = auto()  # UAC: CANCEL waits for a provisional response (§9.1)
    CANCELLING = auto()  # UAC: CANCEL is sent, the INVITE's final response is awaited
    OFFERED = auto()  # UAC: a 2xx brought the offer, the application owes the ACK
    CONFIRMED = auto()  # acknowledged
    ENDING = auto()  # our BYE waits for its answer
    GONE = auto()


class UsageInput(Enum):
    """Commands of the application, what the network brought, and what time brought."""

    RING = auto()
    ANSWER = auto()
    ANSWER_LATER = auto()  # the same, while a PRACK is owed
    REJECT = auto()
    CANCEL = auto()
    SEND_ACK = auto()
    BYE = auto()
    PROVISIONAL_CAME = auto()
    CHALLENGED = auto()  # our INVITE goes out again with credentials, a transaction of its own
    ANSWER_CAME = auto()
    OFFER_CAME = auto()  # a 2xx to our INVITE without offer
    REFUSAL_CAME = auto()  # 3xx-6xx, time-out, transport failure, or whatever follows our CANCEL
    ACK_CAME = auto()
    CANCEL_CAME = auto()
    PRACK_CAME = auto()  # the one that the 2xx waited for
    PRACK_MISSING = auto()
    BYE_CAME = auto()
    BYE_DONE = auto()
    ACK_MISSING = auto()


_S, _I = UsageState, UsageInput

USAGE: Mapping[tuple[UsageState, UsageInput], UsageState] = {
    # the UAS (§13.3)
    (_S.INVITED, _I.RING): _S.INVITED,
    (_S.INVITED, _I.ANSWER): _S.ANSWERED,
    (_S.INVITED, _I.REJECT): _S.GONE,
    (_S.INVITED, _I.CANCEL_CAME): _S.GONE,
    (_S.INVITED, _I.BYE_CAME): _S.GONE,
    (_S.INVITED, _I.PRACK_MISSING): _S.GONE,
    (_S.INVITED, _I.ANSWER_LATER): _S.ANSWER_WANTED,
    (_S.ANSWER_WANTED, _I.PRACK_CAME): _S.ANSWERED,
    (_S.ANSWER_WANTED, _I.REJECT): _S.GONE,
    (_S.ANSWER_WANTED, _I.BYE): _S.GONE,  # there is no session to end yet: the INVITE is refused
    (_S.ANSWER_WANTED, _I.CANCEL_CAME): _S.GONE,
    (_S.ANSWER_WANTED, _I.BYE_CAME): _S.GONE,
    (_S.ANSWER_WANTED, _I.PRACK_MISSING): _S.GONE,
    (_S.ANSWERED, _I.ACK_CAME): _S.CONFIRMED,
    (_S.ANSWERED, _I.BYE): _S.BYE_WANTED,
    (_S.ANSWERED, _I.BYE_CAME): _S.GONE,
    (_S.ANSWERED, _I.ACK_MISSING): _S.GONE,
    (_S.BYE_WANTED, _I.ACK_CAME): _S.ENDING,
    (_S.BYE_WANTED, _I.BYE_CAME): _S.GONE,
    (_S.BYE_WANTED, _I.ACK_MISSING): _S.GONE,
    # the UAC (§13.2, §9.1)
    (_S.CALLING, _I.PROVISIONAL_CAME): _S.PROCEEDING,
    (_S.CALLING, _I.ANSWER_CAME): _S.CONFIRMED,
    (_S.CALLING, _I.OFFER_CAME): _S.OFFERED,
    (_S.CALLING, _I.CHALLENGED): _S.CALLING,
    (_S.CALLING, _I.REFUSAL_CAME): _S.GONE,
    (_S.CALLING, _I.CANCEL): _S.CANCEL_WANTED,
    (_S.PROCEEDING, _I.PROVISIONAL_CAME): _S.PROCEEDING,
    (_S.PROCEEDING, _I.ANSWER_CAME): _S.CONFIRMED,
    (_S.PROCEEDING, _I.OFFER_CAME): _S.OFFERED,
    (_S.PROCEEDING, _I.CHALLENGED): _S.CALLING,  # §9.1: no CANCEL before this one's own provisional response
    (_S.PROCEEDING, _I.REFUSAL_CAME): _S.GONE,
    (_S.PROCEEDING, _I.CANCEL): _S.CANCELLING,
    (_S.PROCEEDING, _I.BYE_CAME): _S.GONE,
    (_S.CANCEL_WANTED, _I.PROVISIONAL_CAME): _S.CANCELLING,
    (_S.CANCEL_WANTED, _I.REFUSAL_CAME): _S.GONE,
    (_S.CANCELLING, _I.PROVISIONAL_CAME): _S.CANCELLING,
    (_S.CANCELLING, _I.REFUSAL_CAME): _S.GONE,
    (_S.CANCELLING, _I.BYE_CAME): _S.GONE,
    (_S.OFFERED, _I.SEND_ACK): _S.CONFIRMED,
    (_S.OFFERED, _I.BYE): _S.ENDING,
    (_S.OFFERED, _I.BYE_CAME): _S.GONE,
    # both (§14, §15)
    (_S.CONFIRMED, _I.BYE): _S.ENDING,
    (_S.CONFIRMED, _I.BYE_CAME): _S.GONE,
    (_S.CONFIRMED, _I.ACK_MISSING): _S.GONE,  # of a re-INVITE
    (_S.ENDING, _I.BYE_CAME): _S.ENDING,  # the two BYEs crossed
    (_S.ENDING, _I.BYE_DONE): _S.GONE,
}


@dataclass(kw_only=True, slots=True)
class Acknowledged:
    """The ACK of the latest 2xx we received: repeated whenever that 2xx is (§13.2.2.4)."""

    number: int
    packet: Outbound


@dataclass(kw_only=True, slots=True)
class Unacknowledged:
    """A 2xx of ours that is repeated until its ACK comes (§13.3.1.4).

    ``carries_offer``: the ACK must bring the answer.
    """

    number: int
    packet: Outbound
    carries_offer: bool
    give_up_at: float
    interval_s: float
    timer: Timer


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """A provisional response that the application wants sent."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


@dataclass(kw_only=True, slots=True)
class Unpracked:
    """A reliable provisional response of ours that is repeated until its PRACK comes (RFC 3262 §3).

    ``number``: the INVITE's CSeq.
    """

    rseq: int
    number: int
    packet: Outbound
    carries_session: bool
    give_up_at: float
    interval_s: float
    timer: Timer


@dataclass(kw_only=True, slots=True)
class Progress:
    """What a callee of ours told reliably before its final response (RFC 3262 §3).

    ``waiting``: what is sent after the PRACK, one at a time. ``offered``: our offer went out, and a PRACK must bring
    the answer; ``settled``: offer and answer have both been told. ``answer``: sends the 2xx that waits for the PRACK.
    """

    rseq: int
    unpracked: Unpracked | None = None
    waiting: deque[Ring] = field(default_factory=deque)
    offered: bool = False
    settled: bool = False
    answer: Callable[[float], None] | None = None

    @property
    def delays_answer(self) -> bool:
        """§3: no 2xx before the PRACK of a response that carried a session description."""
        return self.unpracked is not None and self.unpracked.carries_session


@dataclass(kw_only=True, slots=True, eq=False)
class EarlyDialog:
    """One branch of our INVITE that rings (RFC 3261 §12.1.2); over with the first 2xx.

    ``rseq``: that of its latest reliable response. ``owed``: that response, where it brought an offer to which the
    application owes the answer. ``session``: the peer's session description as reliable messages brought it.
    ``pracks``: how many of ours are under way.
    """

    dialog: Dialog
    rseq: int | None = None
    owed: Response | None = None
    session: bytes = b""
    pracks: int = 0


@dataclass(kw_only=True, slots=True, eq=False)
class Update:
    """An UPDATE of ours, through all its attempts (RFC 3311 §5.1). ``is_again``: it met an offer of the peer's."""

    dialog: Dialog
    offer: bytes
    headers: tuple[tuple[str, str], ...]
    is_refresh: bool = False
    is_again: bool = False


@dataclass(kw_only=True, slots=True)
class SessionTimer:
    """A session that ends unless somebody refreshes it (RFC 4028).

    ``is_ours``: we refresh, else the peer does. ``is_agreed``: the peer knows of it. ``ends_at``: when we hang up;
    ``timer``: the next thing to do. ``failures``: of the refresh that is due.
    """

    interval_s: int
    is_ours: bool
    is_agreed: bool
    ends_at: float
    timer: Timer
    failures: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A re-INVITE of ours. ``is_refresh``: it changes nothing (RFC 4028). ``is_again``: it met the peer's already."""

    offer: bytes
    headers: tuple[tuple[str, str], ...] = ()
    is_refresh: bool = False
    is_again: bool = False


@dataclass(kw_only=True, slots=True)
class Retry:
    """Our re-INVITE that met the peer's (491): sent once more when ``timer`` fires (§14.1)."""

    wanted: Wanted
    timer: Timer


@dataclass(kw_only=True, slots=True, eq=False)
class Usage:
    """One INVITE usage. What is None is not there now.

    ``dialog``: a UAC has none before the 2xx. ``served``: the peer's INVITE or re-INVITE that waits for a final
    response. ``asked``: our INVITE or re-INVITE that does. ``offer_number``: the CSeq of that INVITE whose 2xx brought
    an offer. ``early``: the branches of our INVITE by remote tag. ``progress``: what our callee told reliably.
    ``pracked``: the peer's PRACK whose offer waits for our answer. ``updating``: our UPDATE that waits for its final
    response; ``updated``: the peer's whose offer waits for our answer. ``local_session``: our session description
    that holds now.
    ``refreshing``: our re-INVITE that only refreshes the session, and ``waiting``: what goes out after it.
    ``credentials``: with which its peer's challenges are answered; ``known_hosts``: the names and addresses of that
    peer, for nobody else shall see them. ``proofs``: the credential headers of our latest INVITE, for its ACK.
    ``timer_rules``: what we want of the session; ``min_se_s``: the least interval that the peer's side takes, and
    ``raises``: how often a 422 taught us that. ``end_cause``: why our BYE was sent, where that was our own doing.
    ``trunk_id``: by which trunk it came. ``peer_supports`` and ``peer_allows``: of our own option tags and methods,
    those that the peer named last.
    """

    usage_id: int
    state: UsageState
    sip_call_id: str
    local_tag: str
    dialog: Dialog | None = None
    served: ServerTransaction | None = None
    asked: ClientTransaction | None = None
    acknowledged: Acknowledged | None = None
    unacknowledged: Unacknowledged | None = None
    retry: Retry | None = None
    refreshing: Wanted | None = None
    waiting: Wanted | None = None
    ring_timer: Timer | None = None
    give_up_timer: Timer | None = None
    offer_number: int = 0
    early: dict[str, EarlyDialog] = field(default_factory=dict)
    progress: Progress | None = None
    pracked: ServerTransaction | None = None
    updating: Update | None = None
    updated: ServerTransaction | None = None
    update_retry: Timer | None = None
    local_session: bytes = b""
    timer_rules: SessionTimerRules = DEFAULT_SESSION_TIMER
    session_timer: SessionTimer | None = None
    min_se_s: int = LEAST_MIN_SE_S
    raises: int = 0
    end_cause: UsageEndCause | None = None
    peer_supports: frozenset[str] = frozenset()
    peer_allows: frozenset[str] = frozenset()
    bye_headers: tuple[tuple[str, str], ...] = ()
    credentials: DigestClient | None = None
    known_hosts: set[str] = field(default_factory=set)
    proofs: tuple[tuple[str, str], ...] = ()
    trunk_id: str = ""

    def can(self, given: UsageInput) -> bool:
        return (self.state, given) in USAGE

    def check(self, given: UsageInput) -> None:
        """Raises ``LocalProtocolError`` where the table has no row."""
        if not self.can(given):
            raise LocalProtocolError(f"usage {self.usage_id} is {self.state.name}: no {given.name} now")

    def advance(self, given: UsageInput) -> None:
        """Raises ``LocalProtocolError`` where the table has no row."""
        self.check(given)
        self.state = USAGE[self.state, given]

    @property
    def settled(self) -> Dialog:
        """The dialog, where there must be one. Raises ``LocalProtocolError``."""
        if self.dialog is None:
            raise LocalProtocolError(f"usage {self.usage_id} is {self.state.name}: it has no dialog yet")
        return self.dialog

    @property
    def unanswered(self) -> bool:
        """Whether the peer's first INVITE still waits for its final response."""
        return self.state in (UsageState.INVITED, UsageState.ANSWER_WANTED)

    @property
    def pending(self) -> ServerTransaction:
        """The peer's INVITE that waits for a final response. Raises ``LocalProtocolError``."""
        if self.served is None:
            raise LocalProtocolError(f"usage {self.usage_id} is {self.state.name}: no INVITE waits for an answer")
        return self.served

    def dialog_with(self, remote_tag: str) -> Dialog | None:
        """The dialog with that remote tag, an early one only as long as no 2xx came."""
        if self.dialog is not None:
            return self.dialog if self.dialog.remote_tag == remote_tag else None
        early = self.branch(remote_tag)
        return None if early is None else early.dialog

    def branch(self, remote_tag: str) -> EarlyDialog | None:
        """The branch of our INVITE with that remote tag; None: there is none, or a 2xx came."""
        return self.early.get(remote_tag) if self.dialog is None else None

    def note_peer(self, message: Request | Response) -> None:
        """Remember what the peer says that it can do, as far as it means anything to us."""
        headers = message.headers
        if "Allow" in headers:
            self.peer_allows = frozenset(headers.values("Allow")).intersection(METHODS)
        tags = {tag.lower() for name in ("Supported", "Require") for tag in headers.values(name)}
        if tags:
            self.peer_supports = frozenset(tags.intersection(EXTENSIONS))


def forming(usage: Usage, request: Request) -> list[tuple[str, str]]:
    """What a response carries that makes or changes a dialog (RFC 3261 §12.1.1, §13.3.1)."""
    recorded = [("Record-Route", value) for value in request.headers.get_all("Record-Route")]
    return [*recorded, ("Contact", usage.settled.contact), ALLOW, SUPPORTED]
