"""Sockets read in turns: none is forgotten, none starves the others, and a descriptor is held only while needed."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from tests.media.wire import HOST, until

from offhook.media.packet_poll import MOST_READ, PacketPoll


class Inbox:
    """A socket, what was read of it, and someone who writes to it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((HOST, 0))
        self.remote = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.remote.connect(self.socket.getsockname())
        self.read: list[bytes] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self, now: float, ahead_s: float) -> None:
        self.read.append(self.socket.recv(100))

    def close(self) -> None:
        self.socket.close()
        self.remote.close()


@contextmanager
def inboxes(poll: PacketPoll, count: int) -> Iterator[list[Inbox]]:
    made = [Inbox() for _ in range(count)]
    for inbox in made:
        poll.watch(inbox.fileno(), inbox.receive)
    try:
        yield made
    finally:
        for inbox in made:
            poll.unwatch(inbox.fileno())
            inbox.close()


@pytest.fixture
def problems() -> list[Exception]:
    return []


@pytest.fixture
async def poll(problems: list[Exception]) -> PacketPoll:
    return PacketPoll(asyncio.get_running_loop(), problems.append)


async def test_one_turn_reads_all_that_has_come_to_every_socket(poll: PacketPoll) -> None:
    with inboxes(poll, 5) as made:
        for number, inbox in enumerate(made):
            for index in range(number):
                inbox.remote.send(bytes([index]))
        poll.read()
        assert [inbox.read for inbox in made] == [[bytes([index]) for index in range(number)] for number in range(5)]
        poll.read()
        assert sum(len(inbox.read) for inbox in made) == 10


async def test_a_flood_of_one_socket_is_left_after_a_while_and_the_others_are_read(poll: PacketPoll) -> None:
    with inboxes(poll, 2) as (flooded, calm):

        def flood(now: float, ahead_s: float) -> None:
            flooded.receive(now, ahead_s)
            flooded.remote.send(b"more")

        poll.unwatch(flooded.fileno())
        poll.watch(flooded.fileno(), flood)
        flooded.remote.send(b"first")
        calm.remote.send(b"audio")
        poll.read()
        assert len(flooded.read) == MOST_READ
        assert calm.read == [b"audio"]
        poll.read()
        assert len(flooded.read) == 2 * MOST_READ


async def test_a_reader_that_raises_is_told_and_the_others_are_read(
    poll: PacketPoll, problems: list[Exception]
) -> None:
    with inboxes(poll, 2) as (broken, fine):

        def fail(now: float, ahead_s: float) -> None:
            broken.receive(now, ahead_s)
            raise RuntimeError("a listener failed")

        poll.unwatch(broken.fileno())
        poll.watch(broken.fileno(), fail)
        broken.remote.send(b"x")
        fine.remote.send(b"y")
        poll.read()
        assert [str(problem) for problem in problems] == ["a listener failed"]
        assert fine.read == [b"y"]


async def test_a_reader_may_let_go_of_every_socket(poll: PacketPoll, problems: list[Exception]) -> None:
    with inboxes(poll, 3) as made:

        def leave(now: float, ahead_s: float) -> None:
            for inbox in made:
                poll.unwatch(inbox.fileno())

        for inbox in made:
            poll.unwatch(inbox.fileno())
            poll.watch(inbox.fileno(), leave)
            inbox.remote.send(b"x")
        poll.read()
        assert problems == []
        poll.read()


async def test_a_descriptor_is_held_only_while_there_is_something_to_watch(poll: PacketPoll) -> None:
    process = psutil.Process()
    before = process.num_fds()
    with inboxes(poll, 2):
        assert process.num_fds() == before + 4 + 1
    assert process.num_fds() == before
    poll.unwatch(12345)


async def test_without_epoll_the_loop_reads(poll: PacketPoll, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    with inboxes(poll, 2) as made:
        for inbox in made:
            inbox.remote.send(b"audio")
        await until(lambda: all(inbox.read == [b"audio"] for inbox in made))
        poll.read()
        assert sum(len(inbox.read) for inbox in made) == 2
