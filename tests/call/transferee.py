"""A caller's PBX that is no phone of ours: it takes our REFER with the manners that PBXs have.

    async with Pbx(Accept(), Tell(100), Bye(), Tell(200, last=True)) as pbx:
        await pbx.call(server.address)          # INVITE, 200, ACK; what comes of REFER runs by itself

Only signalling: where the audio goes is for tests between whole phones.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from tests.call.phones import PATIENCE_S, RawPeer, sdp

from offhook.sip.events import Address


@dataclass(frozen=True, kw_only=True)
class Accept:
    """The response to REFER; ``extra``: more header lines, each ended, as ``Refer-Sub: false``."""

    status: int = 202
    extra: str = ""


@dataclass(frozen=True)
class Tell:
    """A NOTIFY with that status; ``state`` None: ``last`` says whether it terminates the subscription."""

    status: int
    last: bool = False
    state: str | None = None


@dataclass(frozen=True)
class Bye:
    """The leg with us ends, as many a PBX does as soon as it has taken the REFER."""


@dataclass(frozen=True)
class Pause:
    seconds: float


FRAGMENT = "message/sipfrag;version=2.0"

Step = Accept | Tell | Bye | Pause


class Pbx(RawPeer):
    """Calls, and follows its steps at the first REFER. Everything else it is asked is answered 200."""

    def __init__(self, *steps: Step, again: Iterable[Step] = ()) -> None:
        """``again``: the steps at each later REFER."""
        super().__init__()
        self.asked: list[str] = []
        """Methods of the requests that came; a copy counts again."""
        self.answered: list[tuple[str, int]] = []
        """(method, status) of the final responses to what it asked itself, its INVITE's among them."""
        self.refer = ""
        """The last one that came."""
        self._refers: list[str] = []
        self.told: list[int] = []
        """The status in each NOTIFY that we answered."""
        self.mute = ""
        """Requests of this method are not answered."""
        self._steps = steps
        self._again = tuple(again)
        self._number = 1
        self._to = ""
        self._target = Address("", 0)
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Pbx:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.close()

    async def call(self, target: Address, extra: str = "") -> None:
        """Have a call up with ``target``; ``extra``: more lines of the INVITE, each ended."""
        self._target = target
        self.send(target, self.invite(target, sdp=sdp(), extra=extra))
        answer = await self.final_response()
        assert answer.startswith("SIP/2.0 200 "), answer
        self._to = _line(answer, "To")
        self.send(target, self.ack(answer, target))
        self._tasks.append(asyncio.create_task(self._serve()))

    async def until(self, method: str, times: int = 1, *, answered: bool = False) -> None:
        """Returns once that many requests of that method came; ``answered``: once ours of it were answered."""
        async with asyncio.timeout(PATIENCE_S):
            while ([one for one, _ in self.answered] if answered else self.asked).count(method) < times:
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self) -> None:
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._socket, 65535)
            self._take(data.decode())
            self._changed.set()

    def _take(self, text: str) -> None:
        method = _line(text, "CSeq").split()[-1]
        if text.startswith("SIP/2.0 "):
            if (status := int(text.split(" ")[1])) >= 200:
                self.answered.append((method, status))
            return
        self.asked.append(method)
        if method not in ("REFER", self.mute):
            self._respond(text, 200)
            if method == "NOTIFY":
                self.told.append(int(text.rpartition("SIP/2.0 ")[2].split(" ")[0]))
        elif method == "REFER" and _line(text, "CSeq") not in self._refers:
            steps = self._again if self._refers else self._steps
            self._refers.append(_line(text, "CSeq"))
            self.refer = text
            self._tasks.append(asyncio.create_task(self._follow(text, steps)))

    async def _follow(self, refer: str, steps: tuple[Step, ...]) -> None:
        for step in steps:
            match step:
                case Accept():
                    self._respond(refer, step.status, step.extra)
                case Tell():
                    self.request("NOTIFY", _told(step), f"SIP/2.0 {step.status} As told\n")
                    await asyncio.sleep(0)  # in order, and yet without waiting for its answer
                case Bye():
                    self.request("BYE")
                case Pause():
                    await asyncio.sleep(step.seconds)
                case _:
                    assert_never(step)

    @property
    def dialog(self) -> tuple[str, str, str]:
        """Call-ID, their tag, our tag."""
        return f"raw-{id(self)}@{self.address.host}:{self.address.port}", self._to.partition("tag=")[2], "raw"

    def request(self, method: str, extra: str = "", body: str = "", content_type: str = FRAGMENT) -> None:
        """In the dialog."""
        self._number += 1
        here = f"{self.address.host}:{self.address.port}"
        content = f"Content-Type: {content_type}\n" if body else ""
        self.send(
            self._target,
            f"{method} sip:{self._target.host}:{self._target.port} SIP/2.0\n"
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK-{id(self)}-{self._number}\n"
            f"Max-Forwards: 70\nFrom: <sip:raw@{here}>;tag=raw\nTo: {self._to}\n"
            f"Call-ID: raw-{id(self)}@{here}\nCSeq: {self._number} {method}\nContact: <sip:raw@{here}>\n"
            f"{extra}{content}Content-Length: {len(body.replace(chr(10), chr(13) + chr(10)))}\n\n{body}",
        )

    def _respond(self, request: str, status: int, extra: str = "") -> None:
        copied = "".join(f"{name}: {_line(request, name)}\n" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
        contact = f"Contact: <sip:raw@{self.address.host}:{self.address.port}>\n"
        self.send(self._target, f"SIP/2.0 {status} As told\n{copied}{contact}{extra}Content-Length: 0\n\n")


def _told(step: Tell) -> str:
    state = step.state or ("terminated;reason=noresource" if step.last else "active;expires=60")
    return f"Event: refer\nSubscription-State: {state}\n"


def _line(message: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.*?)\r?$", message, re.MULTILINE | re.IGNORECASE)
    assert found is not None, (name, message)
    return found[1]
