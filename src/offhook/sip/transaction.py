"""The four transaction machines of RFC 3261 §17 as amended by RFC 6026, as tables.

A row reads: in this state, given this input, go to that state and do these things, in order. A timer runs
exactly while the transaction is in a state that lists it. An input with no row is absorbed. Nothing here does
anything: ``transaction_layer`` turns the crank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

T1_S = 0.5
"""RFC 3261 §17.1.1.1: the estimated round trip."""
T2_S = 4.0
"""§17.1.2.2: the longest interval between two copies of a non-INVITE request or of an INVITE response."""
T4_S = 5.0
"""§17.1.2.2: how long a message may stay in the network."""
GIVE_UP_S = 64 * T1_S
"""How long a side tries before it takes the other for gone: timers B, F, H, J, L, M."""


class State(Enum):
    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    ACCEPTED = auto()  # RFC 6026: a 2xx was seen; copies and forks are still expected
    TERMINATED = auto()


class TimerName(Enum):
    """RFC 3261 Table 4, and L and M of RFC 6026."""

    A = auto()
    B = auto()
    D = auto()
    E = auto()
    F = auto()
    G = auto()
    H = auto()
    I = auto()  # noqa: E741  the RFC's own name
    J = auto()
    K = auto()
    L = auto()
    M = auto()


class Input(Enum):
    """What can happen to a transaction. A timer's firing is its ``TimerName``."""

    REQUEST = auto()  # the same request again
    ACK = auto()
    PROVISIONAL = auto()  # 1xx: received by a client, sent by a server
    SUCCESS = auto()  # 2xx
    FAILURE = auto()  # 3xx-6xx
    TRANSPORT_ERROR = auto()


class Action(Enum):
    SEND = auto()  # the request, or the latest response
    ACK = auto()  # acknowledge this non-2xx response (§17.1.1.3)
    TELL = auto()  # hand the message to the transaction user
    AGAIN = auto()  # restart the retransmission timer at twice its interval
    AGAIN_AT_T2 = auto()  # restart the retransmission timer at T2
    TIMED_OUT = auto()  # tell the transaction user
    UNREACHABLE = auto()  # tell the transaction user


class Row(NamedTuple):
    state: State
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One transaction machine. ``timers``: what runs in which state; a state not listed has none.

    ``retransmits`` is the timer that ``Action.AGAIN`` restarts.
    """

    initial: State
    retransmits: TimerName | None
    rows: Mapping[tuple[State, Input | TimerName], Row]
    timers: Mapping[State, frozenset[TimerName]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimerRule:
    """Seconds over an unreliable and over a reliable transport; None: the timer is not started there.

    ``ceiling_s`` bounds the doubling of a retransmission timer.
    """

    unreliable_s: float
    reliable_s: float | None
    ceiling_s: float = GIVE_UP_S


TIMER_RULES: Mapping[TimerName, TimerRule] = {
    TimerName.A: TimerRule(unreliable_s=T1_S, reliable_s=None),
    TimerName.B: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=GIVE_UP_S),
    TimerName.D: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=0.0),
    TimerName.E: TimerRule(unreliable_s=T1_S, reliable_s=None, ceiling_s=T2_S),
    TimerName.F: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=GIVE_UP_S),
    TimerName.G: TimerRule(unreliable_s=T1_S, reliable_s=None, ceiling_s=T2_S),
    TimerName.H: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=GIVE_UP_S),
    TimerName.I: TimerRule(unreliable_s=T4_S, reliable_s=0.0),
    TimerName.J: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=0.0),
    TimerName.K: TimerRule(unreliable_s=T4_S, reliable_s=0.0),
    TimerName.L: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=GIVE_UP_S),
    TimerName.M: TimerRule(unreliable_s=GIVE_UP_S, reliable_s=GIVE_UP_S),
}

_S, _I, _T, _A = State, Input, TimerName, Action

INVITE_CLIENT = Machine(  # RFC 3261 §17.1.1, RFC 6026 §7.2
    initial=_S.CALLING,
    retransmits=_T.A,
    rows={
        (_S.CALLING, _T.A): Row(_S.CALLING, (_A.SEND, _A.AGAIN)),
        (_S.CALLING, _T.B): Row(_S.TERMINATED, (_A.TIMED_OUT,)),
        (_S.CALLING, _I.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.UNREACHABLE,)),
        (_S.CALLING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.TELL,)),
        (_S.CALLING, _I.SUCCESS): Row(_S.ACCEPTED, (_A.TELL,)),
        (_S.CALLING, _I.FAILURE): Row(_S.COMPLETED, (_A.ACK, _A.TELL)),
        (_S.PROCEEDING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.TELL,)),
        (_S.PROCEEDING, _I.SUCCESS): Row(_S.ACCEPTED, (_A.TELL,)),
        (_S.PROCEEDING, _I.FAILURE): Row(_S.COMPLETED, (_A.ACK, _A.TELL)),
        (_S.COMPLETED, _I.FAILURE): Row(_S.COMPLETED, (_A.ACK,)),
        (_S.COMPLETED, _T.D): Row(_S.TERMINATED),
        (_S.ACCEPTED, _I.SUCCESS): Row(_S.ACCEPTED, (_A.TELL,)),
        (_S.ACCEPTED, _T.M): Row(_S.TERMINATED),
    },
    timers={
        _S.CALLING: frozenset({_T.A, _T.B}),
        _S.COMPLETED: frozenset({_T.D}),
        _S.ACCEPTED: frozenset({_T.M}),
    },
)

NON_INVITE_CLIENT = Machine(  # RFC 3261 §17.1.2
    initial=_S.TRYING,
    retransmits=_T.E,
    rows={
        (_S.TRYING, _T.E): Row(_S.TRYING, (_A.SEND, _A.AGAIN)),
        (_S.TRYING, _T.F): Row(_S.TERMINATED, (_A.TIMED_OUT,)),
        (_S.TRYING, _I.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.UNREACHABLE,)),
        (_S.TRYING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.TELL,)),
        (_S.TRYING, _I.SUCCESS): Row(_S.COMPLETED, (_A.TELL,)),
        (_S.TRYING, _I.FAILURE): Row(_S.COMPLETED, (_A.TELL,)),
        (_S.PROCEEDING, _T.E): Row(_S.PROCEEDING, (_A.SEND, _A.AGAIN_AT_T2)),
        (_S.PROCEEDING, _T.F): Row(_S.TERMINATED, (_A.TIMED_OUT,)),
        (_S.PROCEEDING, _I.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.UNREACHABLE,)),
        (_S.PROCEEDING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.TELL,)),
        (_S.PROCEEDING, _I.SUCCESS): Row(_S.COMPLETED, (_A.TELL,)),
        (_S.PROCEEDING, _I.FAILURE): Row(_S.COMPLETED, (_A.TELL,)),
        (_S.COMPLETED, _T.K): Row(_S.TERMINATED),
    },
    timers={
        _S.TRYING: frozenset({_T.E, _T.F}),
        _S.PROCEEDING: frozenset({_T.E, _T.F}),
        _S.COMPLETED: frozenset({_T.K}),
    },
)

INVITE_SERVER = Machine(  # RFC 3261 §17.2.1, RFC 6026 §7.1: a transport error leaves the state alone
    initial=_S.PROCEEDING,
    retransmits=_T.G,
    rows={
        (_S.PROCEEDING, _I.REQUEST): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.PROCEEDING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.PROCEEDING, _I.SUCCESS): Row(_S.ACCEPTED, (_A.SEND,)),
        (_S.PROCEEDING, _I.FAILURE): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.COMPLETED, _I.REQUEST): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.COMPLETED, _T.G): Row(_S.COMPLETED, (_A.SEND, _A.AGAIN)),
        (_S.COMPLETED, _T.H): Row(_S.TERMINATED),
        (_S.COMPLETED, _I.ACK): Row(_S.CONFIRMED),
        (_S.CONFIRMED, _T.I): Row(_S.TERMINATED),
        # RFC 6026 absorbs the copy of an INVITE here and leaves the 2xx to its own rhythm. A copy tells that the
        # 2xx got lost: answering at once costs one packet and saves the caller up to T2.
        (_S.ACCEPTED, _I.REQUEST): Row(_S.ACCEPTED, (_A.SEND,)),
        (_S.ACCEPTED, _I.SUCCESS): Row(_S.ACCEPTED, (_A.SEND,)),
        (_S.ACCEPTED, _I.ACK): Row(_S.ACCEPTED, (_A.TELL,)),
        (_S.ACCEPTED, _T.L): Row(_S.TERMINATED),
    },
    timers={
        _S.COMPLETED: frozenset({_T.G, _T.H}),
        _S.CONFIRMED: frozenset({_T.I}),
        _S.ACCEPTED: frozenset({_T.L}),
    },
)

NON_INVITE_SERVER = Machine(  # RFC 3261 §17.2.2
    initial=_S.TRYING,
    retransmits=None,
    rows={
        (_S.TRYING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.TRYING, _I.SUCCESS): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.TRYING, _I.FAILURE): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.PROCEEDING, _I.REQUEST): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.PROCEEDING, _I.PROVISIONAL): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.PROCEEDING, _I.SUCCESS): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.PROCEEDING, _I.FAILURE): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.COMPLETED, _I.REQUEST): Row(_S.COMPLETED, (_A.SEND,)),
        (_S.COMPLETED, _T.J): Row(_S.TERMINATED),
    },
    timers={_S.COMPLETED: frozenset({_T.J})},
)


def input_of(status: int) -> Input:
    """Which input a response of this status is."""
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE
