"""A PBX of a few lines on loopback: takes REGISTER with digest, answers OPTIONS, does with INVITE what it is told.

async with Registrar(users={"200": "secret"}) as pbx:
    ...
    await pbx.registered("200")
"""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import Any

from offhook.model.errors import SipParseError
from offhook.sip.challenges import Accepted, Authenticator, NonceMint
from offhook.sip.events import Address, Flow
from offhook.sip.message import Request, response_to, serialize
from offhook.sip.parser import parse_message
from offhook.sip.routing import note_source

PATIENCE_S = 10


class Registrar(asyncio.DatagramProtocol):
    """``users``: name -> password. ``status``: what every REGISTER is refused with, while it is not 0."""

    def __init__(self, users: dict[str, str] | None = None, *, port: int = 0) -> None:
        self.users = {"200": "secret"} if users is None else users
        self.status = 0
        self.invite_status = 486
        self.invite_headers: list[tuple[str, str]] = []
        self.silent = False
        self.keep_alives = 0
        self.contacts: dict[str, str] = {}
        self.requests: list[Request] = []
        self.address = Address("127.0.0.1", port)
        self._authenticator = Authenticator(NonceMint(b"pbx", "pbx"), "pbx.example")
        self._salts = count()
        self._changed = asyncio.Event()
        self._transport: Any = None

    async def __aenter__(self) -> Registrar:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, (self.address.host, self.address.port))
        self.address = Address(*self._transport.get_extra_info("sockname")[:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Like kill -9: its port is closed."""
        self._transport.close()

    async def registered(self, user: str) -> str:
        """Its contact, as soon as it has one."""
        await self.until(lambda: user in self.contacts)
        return self.contacts[user]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def bindings(self) -> list[str]:
        """What each REGISTER with a proof asked for, in order: ``200`` to be bound, ``-200`` to be bound no more."""
        asked = [one for one in self.requests if one.method == "REGISTER" and one.headers.get("Authorization")]
        users = [one.from_.sip_uri().user for one in asked]
        return [
            f"-{user}" if one.headers.get("Expires") == "0" else f"{user}"
            for one, user in zip(asked, users, strict=True)
        ]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if not data.strip():
            self.keep_alives += 1
            self._changed.set()
            return
        if self.silent:
            return
        try:
            request = parse_message(data)
        except SipParseError:
            return
        if not isinstance(request, Request):
            return
        note_source(request, Flow(transport="UDP", local=self.address, remote=Address(*addr[:2])))
        self.requests.append(request)
        status, headers = self._judge(request, addr[0])
        if status:
            self._transport.sendto(serialize(response_to(request, status, to_tag="pbx", headers=headers)), addr)
        self._changed.set()

    def _judge(self, request: Request, host: str) -> tuple[int, list[tuple[str, str]]]:
        match request.method:
            case "REGISTER":
                return (self.status, []) if self.status else self._register(request, host)
            case "INVITE":
                return self.invite_status, self.invite_headers
            case "ACK":
                return 0, []
            case _:
                return 200, []

    def _register(self, request: Request, host: str) -> tuple[int, list[tuple[str, str]]]:
        now = time.monotonic()
        verdict = self._authenticator.verify(
            request.headers.get("Authorization") or "",
            method="REGISTER",
            uri=request.uri,
            source_host=host,
            now=now,
            password_of=self.users.get,
        )
        if not isinstance(verdict, Accepted):
            values = self._authenticator.challenges(host, now, f"s{next(self._salts)}", stale=verdict.stale)
            return 401, [("WWW-Authenticate", value) for value in values]
        for value in reversed(request.headers.values("Contact")):
            if value.endswith("expires=0"):
                self.contacts.pop(verdict.username, None)
            else:
                self.contacts[verdict.username] = value
        return 200, [("Contact", value) for value in request.headers.values("Contact")]
