"""The language of the transfer tests: who is there, each with a tone of its own, and who hears whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
from tests.call.phones import HOST, PATIENCE_S, Ear, RawPeer, TestPhone, phone, scripted, sdp

from offhook.audio.g711 import decode
from offhook.call.dialling import PlaceCall
from offhook.call.session import CallSession
from offhook.model.audio import AudioFormat
from offhook.model.call_events import CallAnswered, TransferEnded, TransferMode
from offhook.model.records import Agent, TransferDestination
from offhook.model.trunks import CallRules, OpenTrunk
from offhook.sip.events import Address
from offhook.sip.uri import SipUri

CALLER_HZ, AGENT_HZ, TARGET_HZ, BRIEFER_HZ, RINGING_HZ = 600, 800, 1300, 1900, 425
NAMES = {CALLER_HZ: "caller", AGENT_HZ: "agent", TARGET_HZ: "target", BRIEFER_HZ: "briefer", RINGING_HZ: "ringing"}

LOUD_DB = -35.0
"""Tones are played at -18 dBm0; what is not there lies below -60."""

FRAMES = 8
"""160 ms, after ``SETTLING_FRAMES`` that may still carry what was before."""

SETTLING_FRAMES = 2

MOST_WINDOWS = 75
"""15 s: guards against hanging only; with four test processes on two cores a call stands still for seconds."""

OPEN = OpenTrunk(trunk_id="any", calls_per_s=1000)
WILLING = replace(OPEN, rules=CallRules(refer="accept"))
"""Who is referred goes where he is sent, as a phone does."""


def humming(name: str, hz: int, *, rings_ms: int = 0) -> Agent:
    """Somebody who makes one sound for ever."""
    return scripted(name, greeting_tone_hz=hz, greeting_ms=100, greeting_repeats=True, open_after_ms=rings_ms)


USE = {"do": "use_tool", "name": "transfer_call", "arguments": {"destination": "sales"}}

CALLER = humming("caller", CALLER_HZ)
TARGET = humming("target", TARGET_HZ)
SLOW_TARGET = humming("target", TARGET_HZ, rings_ms=1000)
BRIEFER = humming("briefer", BRIEFER_HZ)


def transferring(to: TestPhone | Doorman | str, mode: TransferMode, *, user: str = "target", **how: object) -> Agent:
    """An agent that says a little, transfers its caller, and hums when it is told the outcome."""
    target = to if isinstance(to, str) else f"sip:{user}@{to.address.host}:{to.address.port}"
    destination = TransferDestination(name="sales", target=target, mode=mode)
    agent = scripted(
        "transferring",
        greeting_tone_hz=AGENT_HZ,
        greeting_ms=200,
        greeting_text="one moment",
        steps=[
            {
                "after_ms": 100,
                "do": [{"do": "use_tool", "name": "transfer_call", "arguments": {"destination": "sales"}}],
            },
            {"on": "tool_result", "do": [{"do": "speak", "tone_hz": AGENT_HZ, "ms": 100, "repeat": True}]},
        ],
    )
    return replace(agent, destinations=(replace(destination, **how),))  # type: ignore[arg-type]  # a test's own words


def at_once(agent: Agent) -> Agent:
    """The same, and it asks for the transfer as soon as its provider is there."""
    script = json.loads(agent.options["script"])
    script["steps"][0]["after_ms"] = 0
    return replace(agent, options={"script": json.dumps(script)})


def dying(agent: Agent) -> Agent:
    """The same, and its provider fails while somebody is called."""
    script = json.loads(agent.options["script"])
    script.setdefault("steps", []).append({"after_ms": 500, "do": [{"do": "fail"}]})
    return replace(agent, options={"script": json.dumps(script)})


@asynccontextmanager
async def calling(caller: TestPhone, server: TestPhone, trunk: OpenTrunk | None = None) -> AsyncIterator[CallSession]:
    """The caller's call to the server, hung up in the end, with nothing left of it on either side."""
    target = SipUri.parse(f"sip:demo@{server.address.host}:{server.address.port}")
    trunk = trunk or (WILLING if WILLING in caller.trunks else None)
    command = PlaceCall(target=target, agent=CALLER, trunk=trunk)
    call = caller.phone.manager.place(command)
    await caller.facts.until(CallAnswered)
    try:
        yield call
    finally:
        for one in tuple(caller.phone.manager.calls.values()):
            caller.hang_up(one)
        await caller.quiet()
        await server.quiet()


async def outcome(server: TestPhone) -> TransferEnded:
    return await server.facts.until(TransferEnded)


async def hears_only(call: CallSession, names: set[str]) -> None:
    """Wait until just these tones come from the party of this call's leg, for two windows on end.

    A machine under load begins late; what is wrong stays wrong.
    """
    in_a_row, heard = 0, set[str]()
    for _ in range(MOST_WINDOWS):
        heard = await hears(call)
        in_a_row = in_a_row + 1 if heard == names else 0
        if in_a_row == 2:
            return
    raise AssertionError(f"heard {heard or 'nobody'}, not {names or 'nobody'}")


async def hears_no_more(call: CallSession, name: str) -> None:
    """Wait until that tone no longer comes; what was said before is on its way through two legs for a while."""
    for _ in range(MOST_WINDOWS):
        if name not in await hears(call):
            return
    raise AssertionError(f"still heard {name}")


async def hears(call: CallSession) -> set[str]:
    """Whose tones the party of this call's leg sends us now."""
    assert call.leg is not None
    media = call.leg.media
    ear = Ear()
    media.connect(ear)
    try:
        heard = await ear.frames(SETTLING_FRAMES + FRAMES)
    finally:
        media.disconnect(ear)
    encoding = media.format.encoding
    samples = np.frombuffer(decode(encoding, heard[-FRAMES * media.format.frame_bytes :]), dtype="<i2")
    return {name for hz, name in NAMES.items() if _level_db(samples, hz, media.format.sample_rate_hz) > LOUD_DB}


def purity(heard: bytes, audio_format: AudioFormat, hz: int) -> float:
    """How much of the energy of all that was heard is that tone's: 1 for nothing but the tone."""
    samples = np.frombuffer(decode(audio_format.encoding, heard), dtype="<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    bins = np.fft.rfftfreq(len(samples), 1 / audio_format.sample_rate_hz)
    return float(spectrum[abs(bins - hz) < 40].sum() / spectrum.sum())


def _level_db(samples: np.ndarray, hz: int, rate_hz: int) -> float:
    """The level of one tone in dB of full scale."""
    wave = np.exp(-2j * np.pi * hz * np.arange(len(samples)) / rate_hz)
    amplitude = 2 * abs(np.dot(samples, wave)) / len(samples) / 32768
    return float(20 * np.log10(amplitude + 1e-9))


class Doorman(RawPeer):
    """A target that is no phone: answers each INVITE as told, rings for ever where the answers are over.

    ``received``: the methods of what came; ``messages``: all of it.
    """

    rtp_port = 40002

    def __init__(self, answers: Iterable[int] = (), *, hangs_up: bool = False) -> None:
        """``hangs_up``: in the same moment as it answered."""
        super().__init__()
        self._answers = list(answers)
        self._hangs_up = hangs_up
        self.received: list[str] = []
        self.messages: list[str] = []
        self._invite = ""
        self._responses: asyncio.Queue[str] = asyncio.Queue()
        self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            text = (await asyncio.get_running_loop().sock_recv(self._socket, 65535)).decode()
            method = text.split(" ", 1)[0]
            self.received.append(method)
            self.messages.append(text)
            if method == "INVITE":
                self._invite = text
                self._reply(text, 180)
                for status in self._answers[:1]:
                    self._reply(text, status, sdp(port=self.rtp_port) if status == 200 else "")
                    if self._hangs_up:
                        self.request("BYE")
                del self._answers[:1]
            elif method == "CANCEL":
                self._reply(text, 200)
                self._reply(self._invite, 487)
            elif method == "SIP/2.0" and text.split(" ")[1] >= "2":
                self._responses.put_nowait(text)
            elif method not in ("ACK", "SIP/2.0"):
                self._reply(text, 200)

    async def until(self, method: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while method not in self.received:  # noqa: ASYNC110 its task has no event for it
                await asyncio.sleep(0.01)

    def request(self, method: str, body: str = "", *, number: int = 9) -> None:
        """In the dialog of the INVITE that was answered last."""
        found = dict(line.split(": ", 1) for line in _head(self._invite)[1:])
        host, port = found["Via"].split(";")[0].rsplit(" ", 1)[1].rsplit(":", 1)
        here = f"{HOST}:{self.address.port}"
        length = len(body.replace("\n", "\r\n"))
        self.send(
            Address(host, int(port)),
            f"{method} {found['Contact'].split('<')[1].split('>')[0]} SIP/2.0\n"
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK-{method}-{id(self)}\nMax-Forwards: 70\n"
            f"From: {found['To']};tag=door\nTo: {found['From']}\nCall-ID: {found['Call-ID']}\nCSeq: {number} {method}\n"
            f"Contact: <sip:door@{here}>\nContent-Type: application/sdp\nContent-Length: {length}\n\n{body}",
        )

    async def response(self) -> str:
        """The next final one to a request of ours."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._responses.get()

    def _reply(self, request: str, status: int, body: str = "") -> None:
        wanted = ("Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:")
        lines = [line for line in _head(request) if line.startswith(wanted)]
        lines = [f"{line};tag=door" if line.startswith("To:") and "tag=" not in line else line for line in lines]
        here = f"Contact: <sip:door@{HOST}:{self.address.port}>"
        content = [] if not body else ["Content-Type: application/sdp"]
        body = body.replace("\n", "\r\n")
        length = f"Content-Length: {len(body)}"
        text = "\r\n".join([f"SIP/2.0 {status} As told", *lines, here, *content, length, "", body])
        via = next(line for line in lines if line.startswith("Via:")).split(";")[0]
        host, port = via.rsplit(" ", 1)[1].rsplit(":", 1)
        self._socket.sendto(text.encode(), (host, int(port)))

    async def __aenter__(self) -> Doorman:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.close()


def _head(message: str) -> list[str]:
    return message.split("\r\n\r\n", maxsplit=1)[0].split("\r\n")


@asynccontextmanager
async def target_phone(*agents: Agent) -> AsyncIterator[TestPhone]:
    async with phone(*(agents or (TARGET,))) as one:
        yield one
        await one.quiet()
