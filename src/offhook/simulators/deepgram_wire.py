"""What Deepgram's websockets have in common here: admission, sending, and what goes wrong by the script."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import WSMessage, WSMsgType, web

from offhook.model.audio import L16_8K, PCMA_8K, PCMU_8K, AudioFormat, Encoding, SampleRate
from offhook.simulators.actor import Actor
from offhook.simulators.mishaps import at_the_door, carry_out
from offhook.simulators.script import Fault, FaultMoment
from offhook.simulators.stage import Journal

REQUEST_ID = "fc553ec9-5874-49ca-a47c-b670d525a4b3"

MODEL_UUID = "2187e11a-3532-4498-b076-81fa530bdd49"

L16_RATES: Mapping[int, SampleRate] = {8000: 8000, 16000: 16000, 24000: 24000, 48000: 48000}

CLIENT_TIMEOUT_S = 10.0
"""A client that says nothing for so long is given up."""


class DeepgramRefusalError(Exception):
    """What a client did that the service refuses. ``code``: in its own words."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(f"{code}: {problem}")
        self.code = code
        self.problem = problem


def format_of(encoding: str, sample_rate_hz: int) -> AudioFormat:
    """Raises ``DeepgramRefusalError`` for what cannot be heard or spoken here."""
    if encoding == "linear16" and sample_rate_hz in L16_RATES:
        return AudioFormat(encoding=Encoding.L16, sample_rate_hz=L16_RATES[sample_rate_hz])
    if sample_rate_hz == L16_8K.sample_rate_hz and encoding == "mulaw":
        return PCMU_8K
    if sample_rate_hz == L16_8K.sample_rate_hz and encoding == "alaw":
        return PCMA_8K
    raise DeepgramRefusalError("INVALID_SETTINGS", f"{encoding} at {sample_rate_hz} Hz is not simulated")


async def admit(request: web.Request, actor: Actor, journal: Journal) -> web.StreamResponse | None:
    """The answer where the handshake is refused. developers.deepgram.com/guides/fundamentals/authenticating"""
    journal.connections += 1
    journal.note(journal.connections, request.path_qs, "")
    refused = await at_the_door(actor.fault("connect"), request, refuse=_scripted)
    if refused is not None:
        return refused
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    protocol, _, subprotocol_key = request.headers.get("Sec-WebSocket-Protocol", "").partition(",")
    if (scheme.lower() in ("token", "bearer") and key) or (protocol in ("token", "bearer") and subprotocol_key):
        return None
    journal.problems.append("The request has no Authorization: Token …")
    return refusal(401, "INVALID_AUTH", "Invalid credentials.")


def _scripted(fault: Fault) -> web.Response:
    return refusal(fault.code, fault.text or "SCRIPTED", "It was scripted.")


def refusal(status: int, code: str, problem: str) -> web.Response:
    body = {"err_code": code, "err_msg": problem, "request_id": REQUEST_ID}
    return web.json_response(body, status=status, headers={"dg-error": problem[:200]})


class DeepgramSocket:
    """One websocket of the service. ``turn`` counts what is answered; a script's faults refer to it."""

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        self.actor = actor
        self.journal = journal
        self._request = request
        self._websocket = websocket
        self._number = journal.connections
        self._last = ""
        self._silent = False
        """A stall that never ends."""

    @classmethod
    def check(cls, query: Mapping[str, str]) -> None:
        """Of the handshake. Raises ``DeepgramRefusalError``."""

    async def run(self, timeout_s: float | None) -> None:
        """Until somebody closes. A client that says nothing for ``timeout_s`` is told so."""
        try:
            await self.began()
            while not self._websocket.closed:
                message = await self._websocket.receive(timeout=timeout_s)
                if not await self._take(message):
                    return
        except TimeoutError:
            await self.timed_out()
        except DeepgramRefusalError as refusal_:
            await self.refuse(refusal_)
        except ConnectionError:
            pass  # the client left between the look and the word
        finally:
            await self.ended()

    async def _take(self, message: WSMessage) -> bool:
        if message.type is WSMsgType.BINARY:
            self.journal.hear(self._number, message.data)
            await self.take_audio(message.data)
        elif message.type is WSMsgType.TEXT:
            self.journal.note(self._number, self._request.path_qs, message.data)
            await self.take_text(message.data)
        return message.type in (WSMsgType.BINARY, WSMsgType.TEXT)

    async def began(self) -> None:
        """The websocket is open."""

    async def ended(self) -> None:
        """It is closed, or will be now."""

    async def take_audio(self, audio: bytes) -> None:
        raise NotImplementedError

    async def take_text(self, text: str) -> None:
        raise NotImplementedError

    async def timed_out(self) -> None:
        await self.refuse(DeepgramRefusalError("CLIENT_MESSAGE_TIMEOUT", "We waited too long for a websocket message."))

    async def refuse(self, refusal_: DeepgramRefusalError) -> None:
        """Tell, note and close."""
        self.journal.problems.append(str(refusal_))
        await self.send_error(refusal_.code, refusal_.problem)
        await self._websocket.close(code=1000)

    async def send_error(self, code: str, description: str) -> None:
        await self.send({"type": "Error", "code": code, "description": description})

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────

    async def send(self, event: Mapping[str, Any]) -> None:
        self._last = msgspec.json.encode(event).decode()
        await self.write(self._last)

    async def write(self, text: str) -> None:
        if not self._silent and not self._websocket.closed:
            with suppress(ConnectionError):
                await self._websocket.send_str(text)

    async def send_audio(self, audio: bytes) -> None:
        if not self._silent and not self._websocket.closed:
            with suppress(ConnectionError):
                await self._websocket.send_bytes(audio)

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────

    async def misbehave(self, on: FaultMoment, turn: int = 0) -> Fault | None:
        """What only changes how audio is sent is left to who sends it."""
        fault = self.actor.fault(on, turn)
        if fault is not None:
            await self.go_wrong(fault)
        return fault

    async def go_wrong(self, fault: Fault) -> None:
        if fault.do == "stall" and not fault.ms:
            self._silent = True
        elif fault.do == "duplicate" and self._last:
            await self.write(self._last)
        else:
            await carry_out(fault, self._request, self._websocket, error=self._scripted_error, say=self.write)

    async def _scripted_error(self, fault: Fault) -> None:
        await self.send_error(fault.text or "INTERNAL_SERVER_ERROR", "It was scripted.")
        await self._websocket.close(code=1011)
