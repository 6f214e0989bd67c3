"""A bad line for SIP between two phones on loopback: every datagram is lost with a given chance, each way.

The relay stands in for both: the caller sees the callee at ``front``, the callee sees the caller at ``back``. Wherever
one's address stands in a message (Via, Contact, Request-URI) it becomes the relay's, so that nothing takes a short cut.
RTP is not touched.
"""

from __future__ import annotations

import asyncio
import random
import socket

from offhook.sip.events import Address

HOST = "127.0.0.1"


class LossyRelay:
    """Between ``callee`` and whoever sends to ``front`` first. Needs a running loop; ``close`` it."""

    def __init__(self, callee: Address, *, loss: float, rng: random.Random) -> None:
        self._callee = callee
        self._caller: Address | None = None
        self._loss = loss
        self._rng = rng
        self._sockets = (_bound(), _bound())
        self.front, self.back = (Address(*one.getsockname()) for one in self._sockets)
        self.carried = 0
        self.lost = 0
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sockets[0], self._from_caller)
        loop.add_reader(self._sockets[1], self._from_callee)

    def close(self) -> None:
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one)
            one.close()

    def _from_caller(self) -> None:
        data, source = self._sockets[0].recvfrom(65_535)
        self._caller = Address(*source)
        if self._survives():
            text = _renamed(data, {self._caller: self.back, self.front: self._callee})
            self._sockets[1].sendto(text, self._callee)

    def _from_callee(self) -> None:
        data = self._sockets[1].recv(65_535)
        if self._caller is not None and self._survives():
            text = _renamed(data, {self._callee: self.front, self.back: self._caller})
            self._sockets[0].sendto(text, self._caller)

    def _survives(self) -> bool:
        lost = self._rng.random() < self._loss
        self.lost += lost
        self.carried += not lost
        return not lost


def _bound() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((HOST, 0))
    one.setblocking(False)
    return one


def _renamed(data: bytes, names: dict[Address, Address]) -> bytes:
    for old, new in names.items():
        data = data.replace(f"{old.host}:{old.port}".encode(), f"{new.host}:{new.port}".encode())
    return data
