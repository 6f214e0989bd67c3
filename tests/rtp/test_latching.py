"""The latching rules, one by one; numbers as in ``rtp.latching``."""

from __future__ import annotations

from itertools import product

import pytest

from offhook.rtp.latching import (
    LATCH,
    LEARNING_S,
    MAX_CANDIDATES,
    PACKETS_TO_LOCK,
    SILENCE_BEFORE_MOVE_S,
    Address,
    ControlLatch,
    Evidence,
    Latch,
    LatchState,
    Verdict,
)

DECLARED: Address = ("10.0.0.5", 4000)
NAT: Address = ("203.0.113.9", 61_000)
STRANGER: Address = ("198.51.100.66", 4000)
PUBLIC: Address = ("8.8.8.8", 4000)
TAKE, DROP, LOCK = Verdict.TAKE, Verdict.DROP, Verdict.LOCK


def latch(declared: Address = DECLARED, signalling_ip: str | None = NAT[0]) -> Latch:
    return Latch(declared=declared, signalling_ip=signalling_ip, now=0.0)


def send(
    latch: Latch,
    source: Address,
    packets: int,
    *,
    at: float = 0.1,
    ssrc: int = 7,
    sequence: int = 100,
    step: int = 1,
    negotiated: bool = True,
) -> list[Verdict]:
    return [
        latch.judge(source, ssrc, (sequence + index * step) & 0xFFFF, negotiated, at + index * 0.02)
        for index in range(packets)
    ]


def locked() -> Latch:
    made = latch()
    assert send(made, NAT, 4)[-1] is LOCK
    return made


def test_the_table_has_a_row_for_everything() -> None:
    assert set(LATCH) == set(product(LatchState, Evidence))


# ── rule 1 ───────────────────────────────────────────────────────────────────────────────────────────────


def test_rule_1_a_public_peer_is_taken_from_its_declared_address_alone() -> None:
    made = latch(declared=PUBLIC, signalling_ip=PUBLIC[0])
    assert made.state is LatchState.DECLARED
    assert send(made, (PUBLIC[0], 5000), 10) == [DROP] * 10
    assert send(made, PUBLIC, 5) == [TAKE, TAKE, TAKE, LOCK, TAKE]
    assert made.destination == PUBLIC
    assert made.dropped == 10


def test_rule_1_is_not_for_private_addresses() -> None:
    made = latch(declared=DECLARED, signalling_ip=DECLARED[0])
    assert send(made, (DECLARED[0], 5000), 4) == [DROP, DROP, DROP, LOCK]


# ── rule 2 ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", [NAT, (DECLARED[0], 9999)])
def test_rule_2_the_fourth_packet_in_sequence_locks(source: Address) -> None:
    made = latch()
    assert send(made, source, PACKETS_TO_LOCK) == [DROP, DROP, DROP, LOCK]
    assert made.destination == source
    assert made.state is LatchState.LOCKED


def test_rule_2_the_declared_address_is_heard_from_the_first_packet() -> None:
    assert send(latch(), DECLARED, 5) == [TAKE, TAKE, TAKE, LOCK, TAKE]


def test_rule_2_never_from_anyone() -> None:
    made = latch()
    assert send(made, STRANGER, 50) == [DROP] * 50
    assert made.destination == DECLARED


def test_rule_2_only_in_sequence() -> None:
    made = latch()
    assert send(made, NAT, 20, step=2) == [DROP] * 20


def test_rule_2_only_from_one_ssrc() -> None:
    made = latch()
    for index in range(20):
        assert made.judge(NAT, index % 2, 100 + index, True, 0.1) is DROP


def test_rule_2_only_with_a_negotiated_type() -> None:
    made = latch()
    assert send(made, NAT, 20, negotiated=False) == [DROP] * 20


def test_rule_2_only_for_three_seconds() -> None:
    made = latch()
    assert send(made, NAT, 3, at=LEARNING_S - 0.08) == [DROP] * 3
    assert send(made, NAT, 20, at=LEARNING_S, sequence=103) == [DROP] * 20
    assert made.state is LatchState.DECLARED
    assert send(made, DECLARED, 4, at=9.0) == [TAKE, TAKE, TAKE, LOCK]


def test_rule_2_the_three_seconds_begin_when_the_peer_has_our_answer() -> None:
    """Our 200 was lost and repeated: the peer could not send before."""
    made = latch()
    assert send(made, NAT, 10, at=LEARNING_S) == [DROP] * 10
    made.confirm(5.0)
    assert send(made, STRANGER, 50, at=5.0) == [DROP] * 50
    assert send(made, NAT, 4, at=5.1) == [DROP, DROP, DROP, LOCK]
    made.confirm(6.0)
    assert (made.state, made.destination) == (LatchState.LOCKED, NAT)
    assert send(made, (NAT[0], 5), 10, at=6.1) == [DROP] * 10


def test_rule_2_a_confirmation_ends_as_well() -> None:
    made = latch()
    made.confirm(5.0)
    assert send(made, NAT, 10, at=5.0 + LEARNING_S) == [DROP] * 10


def test_rule_1_holds_when_the_answer_is_confirmed() -> None:
    made = latch(declared=PUBLIC, signalling_ip=PUBLIC[0])
    made.confirm(1.0)
    assert made.state is LatchState.DECLARED
    assert send(made, (PUBLIC[0], 5000), 10, at=1.0) == [DROP] * 10


def test_rule_2_sequence_numbers_wrap() -> None:
    assert send(latch(), NAT, 4, sequence=65_534)[-1] is LOCK


def test_rule_2_a_flood_of_ports_neither_grows_memory_nor_keeps_the_declared_address_out() -> None:
    made = latch()
    for port in range(1000, 6000):
        assert made.judge((NAT[0], port), 1, 1, True, 0.1) is DROP
    assert len(made._runs) <= MAX_CANDIDATES
    assert send(made, DECLARED, 1) == [TAKE]


def test_without_a_signalling_address_only_the_declared_one_counts() -> None:
    made = latch(signalling_ip=None)
    assert send(made, NAT, 10) == [DROP] * 10
    assert send(made, (DECLARED[0], 7), 4)[-1] is LOCK


# ── rules 3 and 4 ────────────────────────────────────────────────────────────────────────────────────────


def test_rule_3_media_goes_to_the_declared_address_until_locked() -> None:
    made = latch()
    for index in range(3):
        made.judge(NAT, 7, index, True, 0.1)
        assert made.destination == DECLARED
    made.judge(NAT, 7, 3, True, 0.1)
    assert made.destination == NAT


def test_rule_4_locked_is_strict_and_counts() -> None:
    made = locked()
    before = made.dropped
    for source in (DECLARED, STRANGER, (NAT[0], NAT[1] + 1)):
        assert send(made, source, 20, at=0.3, sequence=200) == [DROP] * 20
    assert made.dropped == before + 60
    assert send(made, NAT, 2, at=0.5, ssrc=99, sequence=9) == [TAKE, TAKE]  # rule 9 is not ours


# ── rule 5 ───────────────────────────────────────────────────────────────────────────────────────────────

MOVED: Address = (NAT[0], 62_000)


def test_rule_5_the_same_stream_from_another_port_after_silence() -> None:
    made = locked()
    at = 0.16 + SILENCE_BEFORE_MOVE_S
    assert send(made, MOVED, 4, at=at, sequence=204) == [DROP, DROP, DROP, LOCK]
    assert made.destination == MOVED


@pytest.mark.parametrize(
    ("source", "ssrc", "sequence", "at"),
    [
        (MOVED, 7, 204, 0.2),  # no silence
        (MOVED, 8, 204, 9.0),  # another SSRC
        (MOVED, 7, 50, 9.0),  # a sequence that does not go on
        (MOVED, 7, 30_000, 9.0),
        (STRANGER, 7, 204, 9.0),  # another IP address
        (DECLARED, 7, 204, 9.0),
    ],
)
def test_rule_5_nothing_less(source: Address, ssrc: int, sequence: int, at: float) -> None:
    made = locked()
    assert send(made, source, 10, at=at, ssrc=ssrc, sequence=sequence) == [DROP] * 10
    assert made.destination == NAT


def test_rule_5_a_reinvite_begins_anew() -> None:
    made = locked()
    elsewhere = ("10.0.0.6", 5000)
    made.renew(declared=elsewhere, signalling_ip=NAT[0], now=50.0)
    assert made.destination == elsewhere
    assert send(made, NAT, 4, at=50.1) == [DROP, DROP, DROP, LOCK]
    assert made.destination == NAT


@pytest.mark.parametrize("moment", [0.05, 2.9, 3.5, 60.0])
@pytest.mark.parametrize("state", ["learning", "locked", "public"])
def test_a_stranger_is_never_taken_and_never_served(state: str, moment: float) -> None:
    """From a third address: before, during and after learning, with the very stream of the peer, at any port."""
    made = latch(declared=PUBLIC, signalling_ip=PUBLIC[0]) if state == "public" else latch()
    if state == "locked":
        send(made, NAT, 4)
    before = made.destination
    for port in (1, 4000, NAT[1], 65_535):
        assert send(made, (STRANGER[0], port), 200, at=moment, sequence=104) == [DROP] * 200
    assert made.destination == before
    assert made.dropped >= 800


# ── rule 7 ───────────────────────────────────────────────────────────────────────────────────────────────


def control(rtp: Latch) -> ControlLatch:
    return ControlLatch(declared=(DECLARED[0], 4001), rtp=rtp)


def test_rule_7_before_the_lock_only_the_declared_address() -> None:
    made = control(latch())
    assert made.judge((DECLARED[0], 4001), 7, 7) is TAKE
    assert made.judge((NAT[0], 4001), 7, 7) is DROP
    assert made.dropped == 1


def test_rule_7_after_the_lock_the_locked_address_with_the_streams_ssrc() -> None:
    made = control(locked())
    assert made.judge((STRANGER[0], 61_001), 7, 7) is DROP
    assert made.judge((NAT[0], 61_001), 8, 7) is DROP
    assert made.judge((NAT[0], 61_001), 7, 7) is LOCK
    assert made.destination == (NAT[0], 61_001)
    assert made.judge((NAT[0], 61_001), 7, 7) is TAKE
    assert made.judge((NAT[0], 61_002), 7, 7) is DROP


def test_ipv6_has_many_spellings() -> None:
    made = latch(declared=("2001:DB8:0:0::0:5", 4000), signalling_ip=None)
    assert send(made, ("2001:db8::5", 4000), 4)[-1] is LOCK


@pytest.mark.parametrize("host", ["media.example.com", "", "fe80::1%eth0"])
def test_a_declared_host_that_is_no_public_address_is_no_harm(host: str) -> None:
    made = latch(declared=(host, 4000), signalling_ip=host)
    assert made.state is LatchState.LEARNING
