"""REFER's own usages of a dialog (RFC 5057 §2), one table a role: they outlive the INVITE usage they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Protocol

from offhook.model.errors import LocalProtocolError
from offhook.sip.dialog import Dialog
from offhook.sip.digest import DigestClient
from offhook.sip.message import Request
from offhook.sip.refer_values import Fragment
from offhook.sip.timers import Timer
from offhook.sip.transaction_layer import ServerTransaction
from offhook.sip.usage import Usage

REFERS_A_CALL = 8
"""Of each role in one dialog at a time. One transfer is the rule, a second try after a failure is common."""

# ── we ask ───────────────────────────────────────────────────────────────────────────────────────────────


class AskedState(Enum):
    ASKED = auto()  # our REFER waits for its response
    TOLD = auto()  # the same, and a NOTIFY has told the end already
    FOLLOWED = auto()  # accepted: NOTIFYs tell how it goes
    CONCLUDED = auto()  # the end is told, and the peer has not terminated the subscription
    OVER = auto()


class AskedInput(Enum):
    ACCEPTED = auto()
    ACCEPTED_UNHEARD = auto()  # 2xx with Refer-Sub: false: no NOTIFY will come (RFC 4488)
    REFUSED = auto()  # or unanswered
    PROGRESS = auto()  # a NOTIFY, and more will come
    FINAL = auto()  # a NOTIFY with a final status, and yet not terminated
    TERMINATED = auto()  # the last NOTIFY
    EXPIRED = auto()  # nothing came in time


_S, _I = AskedState, AskedInput

ASKED: Mapping[tuple[AskedState, AskedInput], AskedState] = {  # RFC 3515 §2.4.4, RFC 6665 §4.1.2
    (_S.ASKED, _I.ACCEPTED): _S.FOLLOWED,
    (_S.ASKED, _I.ACCEPTED_UNHEARD): _S.OVER,
    (_S.ASKED, _I.REFUSED): _S.OVER,
    (_S.ASKED, _I.PROGRESS): _S.ASKED,
    (_S.ASKED, _I.FINAL): _S.TOLD,
    (_S.ASKED, _I.TERMINATED): _S.TOLD,
    (_S.TOLD, _I.ACCEPTED): _S.CONCLUDED,
    (_S.TOLD, _I.ACCEPTED_UNHEARD): _S.OVER,
    (_S.TOLD, _I.REFUSED): _S.OVER,
    (_S.TOLD, _I.PROGRESS): _S.TOLD,
    (_S.TOLD, _I.FINAL): _S.TOLD,
    (_S.TOLD, _I.TERMINATED): _S.TOLD,
    (_S.FOLLOWED, _I.PROGRESS): _S.FOLLOWED,
    (_S.FOLLOWED, _I.FINAL): _S.CONCLUDED,
    (_S.FOLLOWED, _I.TERMINATED): _S.OVER,
    (_S.FOLLOWED, _I.EXPIRED): _S.OVER,
    (_S.CONCLUDED, _I.PROGRESS): _S.CONCLUDED,
    (_S.CONCLUDED, _I.FINAL): _S.CONCLUDED,
    (_S.CONCLUDED, _I.TERMINATED): _S.OVER,
    (_S.CONCLUDED, _I.EXPIRED): _S.OVER,
}

# ── we are asked ─────────────────────────────────────────────────────────────────────────────────────────


class ServedState(Enum):
    WAITING = auto()  # the application is to accept or reject
    NOTIFYING = auto()  # accepted: our NOTIFYs tell how it goes
    CLOSING = auto()  # the last NOTIFY is on its way, or waits for the one before
    OVER = auto()


class ServedInput(Enum):
    ACCEPT = auto()
    ACCEPT_UNHEARD = auto()  # the peer wants no NOTIFYs
    REJECT = auto()  # or nobody answered, or the call is over
    TELL = auto()
    TELL_LAST = auto()
    TOLD = auto()  # the last NOTIFY is answered
    DEAF = auto()  # a NOTIFY was refused or not answered: nobody wants to hear (RFC 6665 §4.2.2)


_T, _J = ServedState, ServedInput

SERVED: Mapping[tuple[ServedState, ServedInput], ServedState] = {  # RFC 3515 §2.4.2, RFC 6665 §4.2
    (_T.WAITING, _J.ACCEPT): _T.NOTIFYING,
    (_T.WAITING, _J.ACCEPT_UNHEARD): _T.OVER,
    (_T.WAITING, _J.REJECT): _T.OVER,
    (_T.NOTIFYING, _J.TELL): _T.NOTIFYING,
    (_T.NOTIFYING, _J.TELL_LAST): _T.CLOSING,
    (_T.NOTIFYING, _J.DEAF): _T.OVER,
    (_T.CLOSING, _J.TOLD): _T.OVER,
    (_T.CLOSING, _J.DEAF): _T.OVER,
}


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(kw_only=True, slots=True, eq=False)
class ReferUsage:
    """What both roles have. ``parted`` is called when the INVITE usage goes; ``usage_id`` names it even then."""

    refer_id: int
    usage_id: int
    dialog: Dialog
    trunk_id: str
    credentials: DigestClient | None
    known_hosts: frozenset[str]
    timer: Timer | None = None
    parted: Callable[[float], None] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.dialog.sip_call_id, self.dialog.local_tag


class Numbered(Protocol):
    """A request of ours, whose CSeq changes when it goes out again with credentials."""

    number: int


@dataclass(kw_only=True, slots=True, eq=False)
class AskedRefer(ReferUsage):
    """A REFER of ours. ``lasts_s``: how long the next NOTIFY may let us wait."""

    state: AskedState = AskedState.ASKED
    asked: Numbered | None = None
    lasts_s: float = 0.0

    @property
    def number(self) -> int:
        """RFC 3515 §2.4.6: the CSeq of the REFER is the id of its subscription."""
        return 0 if self.asked is None else self.asked.number

    def advance(self, given: AskedInput) -> None:
        """Raises ``LocalProtocolError`` where the table has no row."""
        state = ASKED.get((self.state, given))
        if state is None:
            raise LocalProtocolError(f"REFER {self.refer_id} is {self.state.name}: no {given.name} now")
        self.state = state


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One NOTIFY to come: ``state`` is the value of its Subscription-State."""

    fragment: Fragment
    state: str


@dataclass(kw_only=True, slots=True, eq=False)
class ServedRefer(ReferUsage):
    """A REFER of the peer's.

    One NOTIFY is under way at a time, or a late copy would overtake the end: ``due`` waits for its answer. ``said`` is
    what was told last.
    """

    request: Request
    served: ServerTransaction
    unheard: bool
    state: ServedState = ServedState.WAITING
    said: Fragment | None = None
    due: Notice | None = None
    under_way: bool = False

    def can(self, given: ServedInput) -> bool:
        return (self.state, given) in SERVED

    def advance(self, given: ServedInput) -> None:
        """Raises ``LocalProtocolError`` where the table has no row."""
        if not self.can(given):
            raise LocalProtocolError(f"REFER {self.refer_id} is {self.state.name}: no {given.name} now")
        self.state = SERVED[self.state, given]


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(kw_only=True, slots=True, eq=False)
class ReferUsages:
    """Every REFER of one user agent, of both roles. ``most`` are kept; whoever adds looks at ``room_for`` first."""

    most: int
    _ids: count[int] = field(default_factory=lambda: count(1))
    _by_id: dict[int, AskedRefer | ServedRefer] = field(default_factory=dict)
    _by_key: dict[tuple[str, str], list[AskedRefer | ServedRefer]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_id)

    def new_id(self) -> int:
        return next(self._ids)

    def room_for(self, kind: type[AskedRefer | ServedRefer], usage: Usage) -> bool:
        """Whether one more of that role may begin in the dialog of ``usage``."""
        alike = [one for one in self._of(usage.sip_call_id, usage.local_tag) if isinstance(one, kind)]
        return len(self) < self.most and len(alike) < REFERS_A_CALL

    def add(self, refer: AskedRefer | ServedRefer) -> None:
        self._by_id[refer.refer_id] = refer
        self._by_key.setdefault(refer.key, []).append(refer)

    def drop(self, refer: AskedRefer | ServedRefer) -> None:
        del self._by_id[refer.refer_id]
        alike = self._by_key[refer.key]
        alike.remove(refer)
        if not alike:
            del self._by_key[refer.key]

    def asked_in(self, sip_call_id: str, local_tag: str, remote_tag: str) -> list[AskedRefer]:
        """Ours in one dialog, the oldest first."""
        alike = self._of(sip_call_id, local_tag)
        return [one for one in alike if isinstance(one, AskedRefer) and one.dialog.remote_tag == remote_tag]

    def served_in(self, usage: Usage) -> list[ServedRefer]:
        """The peer's in the dialog of ``usage``, the oldest first."""
        return [one for one in self._of(usage.sip_call_id, usage.local_tag) if isinstance(one, ServedRefer)]

    def served(self, usage_id: int, refer_id: int) -> ServedRefer | None:
        """A REFER of the peer's; None: it is over, or there never was one."""
        refer = self._by_id.get(refer_id)
        return refer if isinstance(refer, ServedRefer) and refer.usage_id == usage_id else None

    def usage_gone(self, sip_call_id: str, local_tag: str, now: float) -> None:
        """The INVITE usage of that dialog is gone: whoever lives on, lives on for a bounded time."""
        for refer in tuple(self._of(sip_call_id, local_tag)):
            if refer.parted is not None:
                refer.parted(now)

    def _of(self, sip_call_id: str, local_tag: str) -> list[AskedRefer | ServedRefer]:
        return self._by_key.get((sip_call_id, local_tag), [])
