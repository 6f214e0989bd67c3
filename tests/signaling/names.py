"""Names and hops, and the worlds they are looked up in: a system that answers as told, a clock that is set."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from offhook.sip.events import Hop, Transport

ANY: tuple[Transport, ...] = ("UDP", "TCP", "TLS")

TWO_WAYS = """
    _sip._udp.example.org. 60 IN SRV 1 1 5070 a.example.org.
    _sip._tcp.example.org. 60 IN SRV 1 1 5071 b.example.org.
    a.example.org.         60 IN A 192.0.2.1
    b.example.org.         60 IN A 192.0.2.2
    """


class FakeDns:
    """Stands in for the loop's getaddrinfo: counts questions, answers from a table, can be held back."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def getaddrinfo(self, host: str, port: object, **_: object) -> list[Any]:
        self.asked.append(host)
        await self.may_answer.wait()
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.answers[host]]


class Clock:
    """``time.monotonic`` as the resolver reads it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def hop(host: str) -> Hop:
    return Hop(transport="UDP", host=host, port=5070)


def name(host: str, transport: Transport = "UDP", port: int = 0) -> Hop:
    return Hop(transport=transport, host=host, port=port)


def texts(hops: tuple[Hop, ...]) -> list[str]:
    return [f"{one.transport} {one.host}:{one.port}" for one in hops]
