from __future__ import annotations

import random
import socket

import psutil
import pytest
from tests.media.wire import HOST, free_ports

from offhook.media.ports import ONLY_PORT_RESTS_S, QUARANTINE_S, PortPool
from offhook.model.errors import ResourceExhaustedError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pool(low: int, high: int, clock: Clock | None = None) -> PortPool:
    return PortPool(low, high, rng=random.Random(1), monotonic=clock or Clock())


def test_rtp_is_even_and_rtcp_one_above() -> None:
    low = free_ports(10)
    made = pool(low, low + 9)
    pair = made.open(HOST)
    assert pair.port % 2 == 0
    assert pair.rtp.getsockname() == (HOST, pair.port)
    assert pair.rtcp.getsockname() == (HOST, pair.port + 1)
    assert not pair.rtp.getblocking()
    made.release(pair)


@pytest.mark.parametrize(("first", "last", "pairs"), [(0, 9, 5), (1, 9, 4), (0, 8, 4)])
def test_the_range_is_kept_to(first: int, last: int, pairs: int) -> None:
    base = free_ports(10)
    low, high = base + first, base + last
    made = pool(low, high)
    assert made.capacity == pairs
    opened = [made.open(HOST) for _ in range(pairs)]
    assert {pair.port for pair in opened} == set(range(low + low % 2, high, 2))
    with pytest.raises(ResourceExhaustedError, match=rf"from {low} to {high}.*in use or resting"):
        made.open(HOST)
    for pair in opened:
        made.release(pair)


def test_ports_are_drawn_at_random() -> None:
    low = free_ports(10)
    drawn = set()
    for seed in range(40):
        pair = PortPool(low, low + 9, rng=random.Random(seed)).open(HOST)
        drawn.add(pair.port)
        pair.close()
    assert drawn == {low, low + 2, low + 4, low + 6, low + 8}


def test_a_port_rests_after_use() -> None:
    clock = Clock()
    low = free_ports(4)
    made = pool(low, low + 3, clock)
    other = made.open(HOST)
    used = made.open(HOST)
    made.release(used)
    clock.now = QUARANTINE_S - 0.1
    with pytest.raises(ResourceExhaustedError):
        made.open(HOST)
    clock.now = QUARANTINE_S
    pair = made.open(HOST)
    assert pair.port == used.port
    made.release(pair)
    made.release(other)


def test_the_only_port_rests_shortly() -> None:
    clock = Clock()
    low = free_ports(2)
    made = pool(low, low + 1, clock)
    made.release(made.open(HOST))
    with pytest.raises(ResourceExhaustedError):
        made.open(HOST)
    clock.now = ONLY_PORT_RESTS_S
    made.release(made.open(HOST))


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_that_another_program_holds_is_passed_over(offset: int) -> None:
    low = free_ports(4)
    made = pool(low, low + 3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, low + offset))
        pair = made.open(HOST)
        assert pair.port == low + 2
        with pytest.raises(ResourceExhaustedError, match="the last bind failed"):
            made.open(HOST)
        made.release(pair)
    pair = made.open(HOST)
    assert pair.port == low  # free again, and tried again
    made.release(pair)


def test_an_address_that_is_not_ours_is_said_so() -> None:
    with pytest.raises(ResourceExhaustedError, match=r"198\.51\.100\.1"):
        pool(16_000, 16_009).open("198.51.100.1")


def test_descriptors_are_given_back() -> None:
    process = psutil.Process()
    before = process.num_fds()
    low = free_ports(10)
    made = pool(low, low + 9)
    for _ in range(5):
        made.release(made.open(HOST))
    with pytest.raises(ResourceExhaustedError):
        made.open(HOST)
    assert process.num_fds() == before
    assert made.in_use == 0
