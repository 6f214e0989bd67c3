"""Whom calls of ours reach, with a voice of his own: a SIP UAS for many calls at once, each with an RTP phone.

The user part of the Request-URI is the number of an ``Answer``. What it plays before the 200 goes out with a 183.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from tests.answers import Answer, on_the_line
from tests.interop.rtp_phone import RtpPhone

HOST = "127.0.0.1"
RINGS_S = 0.2


@dataclass(kw_only=True)
class AnsweredCall:
    """``decided_at``: when the end of the sound that decides left (Unix seconds). ``over``: a BYE or CANCEL came."""

    answer: Answer
    phone: RtpPhone
    invite: str
    source: tuple[str, int]
    decided_at: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    last: str = ""


class AnsweringParty(asyncio.DatagramProtocol):
    """``async with AnsweringParty.open(answers) as party``. ``calls``: by Call-ID."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls: dict[str, AnsweredCall] = {}
        self.port = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, answers: Sequence[Answer]) -> AsyncIterator[AnsweringParty]:
        loop = asyncio.get_running_loop()
        transport, party = await loop.create_datagram_endpoint(lambda: cls(answers), local_addr=(HOST, 0))
        party.port = transport.get_extra_info("sockname")[1]
        try:
            yield party
        finally:
            for task in party._tasks:
                task.cancel()
            await asyncio.gather(*party._tasks, return_exceptions=True)
            for call in party.calls.values():
                await call.phone.close()
            transport.close()

    def uri(self, number: int) -> str:
        return f"sip:{number}@{HOST}:{self.port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by name

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        request = data.decode()
        method, call_id = request.split(" ", 1)[0], _header(request, "Call-ID")
        call = self.calls.get(call_id)
        if method == "INVITE" and call is None:
            self._invited(request, call_id, source)
        elif method == "INVITE" and call is not None:
            self._transport.sendto(call.last.encode(), source)
        elif method in ("BYE", "CANCEL"):
            self._transport.sendto(_response(request, "200 OK").encode(), source)
            if call is not None:
                if method == "CANCEL":
                    self._answer(call, "487 Request Terminated")
                call.over.set()

    def _invited(self, request: str, call_id: str, source: tuple[str, int]) -> None:
        number = re.match(r"INVITE sip:(\d+)@", request)
        offered = re.search(r"^m=audio (\d+) ", request, re.MULTILINE)
        assert number is not None
        assert offered is not None
        phone = RtpPhone.open()
        phone.remote = (HOST, int(offered[1]))
        call = AnsweredCall(answer=self._answers[int(number[1])], phone=phone, invite=request, source=source)
        self.calls[call_id] = call
        task = asyncio.get_running_loop().create_task(self._serve(call, int(number[1])))
        self._tasks.add(task)

    async def _serve(self, call: AnsweredCall, seed: int) -> None:
        answer = call.answer
        self._answer(call, "180 Ringing")
        await asyncio.sleep(RINGS_S)
        if answer.early is not None:
            self._answer(call, "183 Session Progress", plays=True)
            began = time.time()
            call.decided_at = began + answer.decided_ms / 1000
            await call.phone.say(on_the_line(answer.early, seed))
            if not answer.answered.size:
                await call.over.wait()
                return
        self._answer(call, "200 OK", plays=True)
        call.decided_at = max(call.decided_at, time.time() + (answer.decided_ms - answer.early_ms) / 1000)
        await call.phone.say(on_the_line(answer.answered, seed))

    def _answer(self, call: AnsweredCall, status: str, *, plays: bool = False) -> None:
        body = _sdp(call.phone.port) if plays else ""
        call.last = _response(call.invite, status, body, contact=f"sip:{HOST}:{self.port}")
        self._transport.sendto(call.last.encode(), call.source)


def _header(message: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*?)\s*$", message, re.MULTILINE | re.IGNORECASE)
    assert found is not None, message
    return found[1]


def _response(request: str, status: str, body: str = "", *, contact: str = "") -> str:
    vias = re.findall(r"^Via:.*?$", request, re.MULTILINE)
    to = _header(request, "To")
    tagged = to if ";tag=" in to else f"{to};tag=party"
    lines = [
        f"SIP/2.0 {status}",
        *(via.strip() for via in vias),
        f"From: {_header(request, 'From')}",
        f"To: {tagged}",
        f"Call-ID: {_header(request, 'Call-ID')}",
        f"CSeq: {_header(request, 'CSeq')}",
        *([f"Contact: <{contact}>"] if contact else []),
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", body])


def _sdp(port: int) -> str:
    lines = ("v=0", f"o=- 1 1 IN IP4 {HOST}", "s=-", f"c=IN IP4 {HOST}", "t=0 0", f"m=audio {port} RTP/AVP 0")
    return "".join(f"{line}\r\n" for line in (*lines, "a=rtpmap:0 PCMU/8000", "a=ptime:20"))
