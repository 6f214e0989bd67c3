"""TLS handshakes of those who connect: when they begin, and when they have to wait."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from pathlib import Path

import pytest
from tests.signaling.certificates import Authority
from tests.signaling.wire import Telnet

from offhook.signaling import handshakes
from offhook.signaling.budget import WorkBudget
from offhook.signaling.handshakes import Handshakes
from offhook.sip.events import Address


class Gate:
    """An owner that lets ``room`` handshakes begin, and notes what it is asked and told."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.asked: list[tuple[str, int, int]] = []
        self.failed = 0
        self.secured = 0
        self._changed = asyncio.Event()

    def may_begin(self, host: str, waiting: int, waiting_there: int) -> bool:
        self.asked.append((host, waiting, waiting_there))
        self._changed.set()
        return len(self.asked) <= self.room

    def new_connection(self) -> asyncio.BufferedProtocol:
        self.secured += 1
        return asyncio.BufferedProtocol()

    def peer_of(self, host: str) -> str:
        return host

    def handshake_failed(self) -> None:
        self.failed += 1
        self._changed.set()

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(5):
            while len(self.asked) < times:
                self._changed.clear()
                await self._changed.wait()


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left the first ``failures`` times."""

    failures = 3
    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.tries <= self.failures:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def bound(kind: type[socket.socket] = socket.socket) -> tuple[socket.socket, Address]:
    listening = kind(socket.AF_INET, socket.SOCK_STREAM)
    listening.setblocking(False)
    listening.bind(("127.0.0.1", 0))
    listening.listen(2)
    return listening, Address(*listening.getsockname())


def opened(gate: Gate, authority: Authority) -> Handshakes:
    loop = asyncio.get_running_loop()
    return Handshakes(gate, loop, WorkBudget(loop), authority.contexts("127.0.0.1"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_each_is_counted_from_its_beginning_to_its_end(authority: Authority) -> None:
    gate = Gate(room=3)
    shaking = opened(gate, authority)
    listening, address = bound()
    shaking.listen(listening)
    clients = [await Telnet.to(address) for _ in range(4)]
    await gate.until_asked(4)
    assert gate.asked == [("127.0.0.1", number, number) for number in range(4)]
    assert await clients[3].closed_by_peer()
    for client in clients:
        await client.close()
    async with asyncio.timeout(5):
        while gate.failed < 3:
            await gate._changed.wait()
            gate._changed.clear()
    await Telnet.to(address)
    await gate.until_asked(5)
    assert gate.asked[-1] == ("127.0.0.1", 0, 0)
    await shaking.close()


async def test_without_a_descriptor_it_waits_and_does_not_spin(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "ACCEPT_AGAIN_S", 0.05)
    gate = Gate()
    shaking = opened(gate, authority)
    listening, address = bound(Exhausted)
    assert isinstance(listening, Exhausted)
    shaking.listen(listening)
    started = time.monotonic()
    client = await Telnet.to(address)
    await gate.until_asked(1)
    assert time.monotonic() - started >= 3 * 0.05 - 0.01
    assert listening.tries == 4
    await client.close()
    await shaking.close()


async def test_a_crowd_waits_in_the_backlog_and_spends_the_budget_of_sip(authority: Authority) -> None:
    gate = Gate()
    loop = asyncio.get_running_loop()
    work = WorkBudget(loop)
    shaking = Handshakes(gate, loop, work, authority.contexts("127.0.0.1"))
    listening, address = bound()
    shaking.listen(listening)
    # Without a turn of the loop in between: a queue too short would not take the next one's SYN.
    clients = [socket.create_connection(address, timeout=0.5) for _ in range(20)]
    await gate.until_asked(20)
    # 2 ms of each 4 ms window, 1 ms for each handshake: at most two or three begin in one.
    assert work.exhaustions >= 20 // 3
    for client in clients:
        client.close()
    await shaking.close()


async def test_closing_ends_those_that_go_on(authority: Authority) -> None:
    gate = Gate()
    shaking = opened(gate, authority)
    listening, address = bound()
    shaking.listen(listening)
    client = await Telnet.to(address)
    await gate.until_asked(1)
    await shaking.close()
    assert await client.closed_by_peer()
    assert (gate.failed, listening.fileno()) == (0, -1)
    await client.close()
