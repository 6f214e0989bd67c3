"""A caller of bare SIP over UDP with the RTP phone of the interop tests: one codec, one call."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from tests.call.phones import RawPeer
from tests.interop.rtp_phone import RtpPhone
from tests.interop.speech import RATE_HZ, Samples

from offhook.audio import g711
from offhook.model.audio import FRAME_MS, Encoding
from offhook.sip.events import Address

HEARD_MS = 200
"""A tone that sounds so long was heard, not imagined."""

NEAR_HZ = 6.0
"""Tones are 10 Hz apart."""

QUIET_RMS = 40.0
"""Below it nothing is said: the line's own noise, in linear samples."""

POLL_S = 0.05

_PAYLOAD_TYPES = {Encoding.PCMU: 0, Encoding.PCMA: 8}


class Caller:
    """``await Caller.dial(...)`` returns when the call is up; media flows both ways from then on."""

    def __init__(self, target: Address, user: str, encoding: Encoding) -> None:
        self._target = target
        self._peer = RawPeer()
        self._encoding = encoding
        self._user = user
        self._answer = ""
        self._listening: asyncio.Task[None] | None = None
        self.phone = RtpPhone.open()
        self.phone.encoding = encoding
        self.answered_at = 0.0
        self.hung_up = asyncio.Event()
        """By the other side."""

    @classmethod
    async def dial(
        cls, target: Address, user: str, encoding: Encoding = Encoding.PCMU, *, first_words: Samples | None = None
    ) -> Caller:
        """``first_words`` begin with the first packet."""
        caller = cls(target, user, encoding)
        if first_words is not None:
            caller.phone.begin_to_say(first_words)
        try:
            await caller._dial()
        except BaseException:
            await caller.close()
            raise
        return caller

    async def hang_up(self) -> None:
        if not self.hung_up.is_set():
            self._peer.send(self._target, self._request("BYE", 2))
            await self.hung_up.wait()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self.phone.close()
        self._peer.close()

    # ── what is heard ────────────────────────────────────────────────────────────────────────────────────

    async def hears_tone(self, hz: float, within_s: float = 10.0) -> None:
        await until(lambda: self._sounds(hz), within_s, f"no tone of {hz:g} Hz")

    async def hears_anything(self, within_s: float) -> None:
        await until(lambda: is_sound(self._last(60)), within_s, "nothing heard")

    async def hears_silence(self, lasting_ms: int, within_s: float = 10.0) -> None:
        await until(lambda: self._is_silent(lasting_ms), within_s, f"not silent for {lasting_ms} ms")

    def _is_silent(self, ms: int) -> bool:
        """Frame by frame: a voice begins softly."""
        since = time.monotonic() - ms / 1000
        came = sum(at >= since for at in self.phone.arrivals[-2 * ms // FRAME_MS :])
        return came >= ms // FRAME_MS // 2 and not self._sounding(since)

    def longest_silence(self, start: float, end: float) -> float:
        """In seconds, of what came between these moments (monotonic)."""
        sounding = [at for at in self._sounding(start) if at < end]
        return max(after - before for before, after in pairwise([start, *sounding, end]))

    def heard_sound_ms(self) -> int:
        """Of all frames so far that were not silent."""
        return len(self._sounding()) * FRAME_MS

    def _sounding(self, since: float = 0.0) -> list[float]:
        """When those frames came."""
        first = bisect_left(self.phone.arrivals, since)
        came = zip(self.phone.arrivals[first:], self.phone.payloads[first:], strict=True)
        return [at for at, payload in came if self._is_sound(payload)]

    def _is_sound(self, payload: bytes) -> bool:
        return is_sound(np.frombuffer(g711.decode(self._encoding, payload), "<i2").astype(np.float64))

    def _sounds(self, hz: float) -> bool:
        pitch = _pitch(self._last(HEARD_MS))
        return pitch is not None and abs(pitch - hz) <= NEAR_HZ

    def _last(self, ms: int) -> Samples:
        now = time.monotonic()
        return self.phone.heard_between(now - ms / 1000, now)

    # ── SIP ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _dial(self) -> None:
        payload_type = _PAYLOAD_TYPES[self._encoding]
        sdp = (
            f"v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
            f"m=audio {self.phone.port} RTP/AVP {payload_type} 101\n"
            f"a=rtpmap:{payload_type} {self._encoding.value}/8000\na=rtpmap:101 telephone-event/8000\n"
        )
        self._peer.send(self._target, self._peer.invite(self._target, sdp=sdp, user=self._user))
        self._answer = await self._peer.final_response()
        assert self._answer.startswith("SIP/2.0 200"), self._answer.splitlines()[0]
        port = next(line for line in self._answer.splitlines() if line.startswith("m=audio ")).split()[1]
        self.phone.remote = ("127.0.0.1", int(port))
        self._peer.send(self._target, self._peer.ack(self._answer, self._target))
        self.answered_at = time.monotonic()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._peer.receive()
            except TimeoutError:
                continue
            if message.startswith("BYE "):
                self._peer.send(self._target, self._peer.ok(message))
                self.hung_up.set()
            elif "CSeq: 2 BYE" in message:
                self.hung_up.set()
            elif message.startswith("SIP/2.0 200") and "INVITE" in message:
                self._peer.send(self._target, self._peer.ack(self._answer, self._target))

    def _request(self, method: str, number: int) -> str:
        ack = self._peer.ack(self._answer, self._target)
        return (
            ack.replace("ACK ", f"{method} ", 1)
            .replace("CSeq: 1 ACK", f"CSeq: {number} {method}")
            .replace("z9hG4bK-ack", f"z9hG4bK-{method}")
        )


async def until(condition: Callable[[], bool], within_s: float, problem: str) -> None:
    """Wait for it; the problem is what is said when it does not come true in time."""
    for _ in range(round(within_s / POLL_S)):
        if condition():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"{problem} within {within_s:g} s")


def is_sound(samples: Samples) -> bool:
    return len(samples) > 0 and float(np.sqrt(np.mean(samples**2))) > QUIET_RMS


def _pitch(samples: Samples) -> float | None:
    """The frequency that stands out; None where none does."""
    if len(samples) < HEARD_MS * RATE_HZ // 1000 * 0.7 or not is_sound(samples):
        return None
    size = 8192
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    peak = int(np.argmax(spectrum))
    total = float(np.sum(spectrum**2))
    around = float(np.sum(spectrum[max(0, peak - 16) : peak + 17] ** 2))
    return peak * RATE_HZ / size if around > 0.8 * total else None
