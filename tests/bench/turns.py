"""Takes turns with an agent of provider ``openai`` and measures our part of each: a process, one job, one result.

Callers and provider are both here, on one clock. A turn: the caller speaks (first packet → append at the provider), the
provider answers when he has finished (its first audio → first packet at the caller), then gives up in the middle
(its event → last packet that sounds).
"""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

import msgspec
import uvloop
from tests.bench.figures import Spread, spread
from tests.bench.openai_peer import CHUNK, Session, listen
from tests.bench.rtp_line import HEADER_BYTES, PACKET_BYTES, SAMPLES, SILENCE, VOICE
from tests.bench.sip_caller import Phase, SipCaller

FRAME_S = 0.02
SPEECH_FRAMES = 25
"""Half a second, then the caller listens."""

ANSWER_CHUNKS = 4
STOP_AFTER_S = 0.3
"""Of the answer."""

REST_S = 0.4
"""Between turns: whatever is late of one does not fall into the next."""

LOST_S = 3.0
"""A turn that is not over by then is lost."""

_MARK = struct.Struct("!H")
_NUMBERS = struct.Struct("!HI")


class TurnsJob(msgspec.Struct, frozen=True, kw_only=True):
    sip_port: int
    peer_port_file: str
    calls: int
    turns: int
    """Of each call."""


class TurnsRun(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds. ``inward``: caller's packet → provider; ``outward``: provider's audio → packet; ``stop``: from the
    provider's interruption to the last packet that sounds. ``latencies``: as seen here, for each call, turn by turn."""

    turns: int
    lost: int
    inward_ms: Spread
    outward_ms: Spread
    stop_ms: Spread
    latencies_ms: tuple[tuple[float, ...], ...]


@dataclass(slots=True)
class Measured:
    inward: list[float] = field(default_factory=list)
    outward: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    lost: int = 0


class Line:
    """One caller's RTP, and the provider's session once its audio has been recognised."""

    def __init__(self, number: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.measured = Measured()
        self.session: Session | None = None
        self.speaking = 0
        self.first_sent_at = self.last_sent_at = 0.0
        self.first_heard_at = self.last_heard_at = 0.0
        self.mark = _MARK.pack(0x8080 + number * 2)
        """The first two octets of what this caller says; never silence."""
        self.came_in = asyncio.Event()
        self.sounds = asyncio.Event()
        self._voice = self.mark + VOICE[2:]
        self._packet = bytearray(struct.pack("!BBHII", 0x80, 0, 0, 0, 0x0BE7C000 + number) + SILENCE)
        self._sequence = 0

    def connect(self, media: tuple[str, int]) -> None:
        self.socket.connect(media)
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._receive)

    def send(self) -> None:
        speaks = self.speaking > 0
        self._packet[HEADER_BYTES:] = self._voice if speaks else SILENCE
        _NUMBERS.pack_into(self._packet, 2, self._sequence & 0xFFFF, self._sequence * SAMPLES & 0xFFFFFFFF)
        self._sequence += 1
        if speaks:
            self.last_sent_at = time.monotonic()
            self.first_sent_at = self.first_sent_at or self.last_sent_at
            self.speaking -= 1
        self.socket.send(self._packet)

    def speak(self) -> None:
        self.first_sent_at = self.first_heard_at = self.last_heard_at = 0.0
        self.came_in.clear()
        self.sounds.clear()
        self.speaking = SPEECH_FRAMES

    def _receive(self) -> None:
        try:
            packet = self.socket.recv(2048)
        except OSError:
            return
        if len(packet) == PACKET_BYTES and packet[HEADER_BYTES:] != SILENCE:
            self.last_heard_at = time.monotonic()
            if not self.first_heard_at:
                self.first_heard_at = self.last_heard_at
                self.sounds.set()


async def measure(job: TurnsJob) -> TurnsRun:
    lines = {number: Line(number) for number in range(job.calls)}
    by_mark = {line.mark: line for line in lines.values()}

    def heard(session: Session, message: bytes) -> None:
        begins = message.index(b'"audio":"') + 9
        line = by_mark.get(base64.b64decode(message[begins : begins + 4])[:2])
        if line is not None and not line.came_in.is_set():
            line.session = session
            line.measured.inward.append((time.monotonic() - line.first_sent_at) * 1000)
            line.came_in.set()

    def asked(session: Session) -> None:
        session.begin_response()
        session.end_response()

    server, port = await listen(heard, asked)
    with open(job.peer_port_file, "w") as file:  # noqa: ASYNC230 -- once, before anything is measured
        file.write(str(port))
    sip_port = int(await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline))
    caller = SipCaller(sip_port)
    asyncio.get_running_loop().add_reader(caller.socket.fileno(), caller.receive)
    for number, line in lines.items():
        caller.invite(number, line.port)
        await asyncio.sleep(0.05)
    await asyncio.sleep(2.0)
    assert all(call.phase is Phase.UP for call in caller.calls.values()), "not every call was answered"
    for number, line in lines.items():
        line.connect(caller.calls[number].media)
    pacing = asyncio.create_task(_pace(list(lines.values())))
    await asyncio.sleep(0.5)
    await asyncio.gather(*(_take_turns(line, job.turns) for line in lines.values()))
    for number in lines:
        caller.bye(number)
    await asyncio.sleep(1.0)
    pacing.cancel()
    server.close()
    return _result([line.measured for line in lines.values()])


async def _pace(lines: list[Line]) -> None:
    """Each line at its own place in the 20 ms."""
    due = time.monotonic()
    while True:
        for line in lines:
            line.send()
            due += FRAME_S / len(lines)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _take_turns(line: Line, turns: int) -> None:
    for _ in range(turns):
        try:
            async with asyncio.timeout(LOST_S):
                await _take_turn(line)
        except TimeoutError:
            line.measured.lost += 1
        await asyncio.sleep(REST_S)


async def _take_turn(line: Line) -> None:
    line.speak()
    await line.came_in.wait()
    assert line.session is not None
    line.session.hear_speech()
    await asyncio.sleep(SPEECH_FRAMES * FRAME_S + 0.2)
    line.session.hear_silence()
    line.session.begin_response()
    asked_at = time.monotonic()
    for _ in range(ANSWER_CHUNKS):
        line.session.speak(CHUNK)
    await line.sounds.wait()
    line.measured.outward.append((line.first_heard_at - asked_at) * 1000)
    line.measured.latency.append((line.first_heard_at - line.last_sent_at) * 1000)
    await asyncio.sleep(STOP_AFTER_S)
    given_up_at = time.monotonic()
    line.session.hear_speech()
    await asyncio.sleep(0.25)
    line.measured.stop.append(max(0.0, line.last_heard_at - given_up_at) * 1000)
    line.session.end_response("cancelled")
    line.session.hear_silence()


def _result(measured: list[Measured]) -> TurnsRun:
    return TurnsRun(
        turns=sum(len(one.stop) for one in measured),
        lost=sum(one.lost for one in measured),
        inward_ms=spread([ms for one in measured for ms in one.inward]),
        outward_ms=spread([ms for one in measured for ms in one.outward]),
        stop_ms=spread([ms for one in measured for ms in one.stop]),
        latencies_ms=tuple(tuple(round(ms, 1) for ms in one.latency) for one in measured),
    )


def main() -> None:
    """The job is the first line of standard input, the server's SIP port the second."""
    job = msgspec.json.decode(sys.stdin.readline(), type=TurnsJob)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(measure(job))))


if __name__ == "__main__":
    main()
