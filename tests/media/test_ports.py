from __future__ import annotations

import random
import socket

import psutil
import pytest

from offhook.media.ports import QUARANTINE_S, PortPool
from offhook.model.errors import ResourceExhaustedError

HOST = "127.0.0.1"
LOW, HIGH = 45_000, 45_009  # five pairs


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pool(clock: Clock | None = None, low: int = LOW, high: int = HIGH) -> PortPool:
    return PortPool(low, high, rng=random.Random(1), monotonic=clock or Clock())


def test_rtp_is_even_and_rtcp_one_above() -> None:
    made = pool()
    pair = made.open(HOST)
    assert pair.port % 2 == 0
    assert pair.rtp.getsockname() == (HOST, pair.port)
    assert pair.rtcp.getsockname() == (HOST, pair.port + 1)
    assert not pair.rtp.getblocking()
    made.release(pair)


@pytest.mark.parametrize(("low", "high", "pairs"), [(45_000, 45_009, 5), (45_001, 45_009, 4), (45_000, 45_008, 4)])
def test_the_range_is_kept_to(low: int, high: int, pairs: int) -> None:
    made = pool(low=low, high=high)
    assert made.capacity == pairs
    opened = [made.open(HOST) for _ in range(pairs)]
    assert {pair.port for pair in opened} == set(range(low + low % 2, high, 2))
    with pytest.raises(ResourceExhaustedError, match=rf"from {low} to {high}.*in use or resting"):
        made.open(HOST)
    for pair in opened:
        made.release(pair)


def test_ports_are_drawn_at_random() -> None:
    orders = set()
    for seed in range(20):
        made = PortPool(LOW, HIGH, rng=random.Random(seed))
        pair = made.open(HOST)
        orders.add(pair.port)
        pair.close()
    assert len(orders) == 5


def test_a_port_rests_after_use() -> None:
    clock = Clock()
    made = pool(clock, LOW, LOW + 1)
    made.release(made.open(HOST))
    clock.now = QUARANTINE_S - 0.1
    with pytest.raises(ResourceExhaustedError):
        made.open(HOST)
    clock.now = QUARANTINE_S
    pair = made.open(HOST)
    assert pair.port == LOW
    made.release(pair)


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_that_another_program_holds_is_passed_over(offset: int) -> None:
    made = pool(low=LOW, high=LOW + 3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, LOW + offset))
        pair = made.open(HOST)
        assert pair.port == LOW + 2
        with pytest.raises(ResourceExhaustedError, match="the last bind failed"):
            made.open(HOST)
        made.release(pair)
    assert made.open(HOST).port == LOW  # free again, and tried again


def test_an_address_that_is_not_ours_is_said_so() -> None:
    with pytest.raises(ResourceExhaustedError, match=r"198\.51\.100\.1"):
        pool().open("198.51.100.1")


def test_descriptors_are_given_back() -> None:
    process = psutil.Process()
    before = process.num_fds()
    made = pool()
    for _ in range(5):
        made.release(made.open(HOST))
    with pytest.raises(ResourceExhaustedError):
        made.open(HOST)
    assert process.num_fds() == before
    assert made.in_use == 0
