"""The receiving half of a leg: datagram to frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from offhook.audio.dtmf import ToneDetector
from offhook.audio.g711 import silence
from offhook.audio.level import LOUDNESS, loudness_of
from offhook.media.arrivals import Arrivals
from offhook.media.concealment import Concealer
from offhook.media.events import DtmfReceived, PathChanged
from offhook.media.speech_level import QUIET_DBM0, SpeechLevel
from offhook.media.wideband import Translator, WidebandStream, translator, wideband_stream
from offhook.model.audio import PCMU_8K, Encoding, leg_format
from offhook.rtp.jitter_buffer import Gap, JitterBuffer
from offhook.rtp.latching import Address, Latch, Verdict, canonical
from offhook.rtp.packet import COMFORT_NOISE, HEADER, HEADER_BYTES, MARKER, PLAIN_FIRST_BYTE, payload_bounds
from offhook.rtp.reception import Admission, Reception
from offhook.rtp.telephone_event import DigitPressed, DtmfReceiver
from offhook.sdp.offer_answer import Agreement

ECHO_S = 1.0
"""Our own tones may come back for so long: 0.3 s here, the rest in the network and in a slow gateway."""

RENUMBERED_S = 1.0
"""No network doubles a packet after so long a silence: a player of recordings (SIPp) plays one again."""

_STATIC_TYPES = {0: Encoding.PCMU, 8: Encoding.PCMA, 9: Encoding.G722}
"""RFC 3551 §6. A sender may take up another codec of an offer without a word (RFC 3264 §8.3.2)."""

_unpack_header = HEADER.unpack_from


class InboundStream:
    """Latch, reception, jitter buffer, concealment, digits and speech level of what the remote party sends.

    ``receive`` is called for each datagram, ``next_frame`` each tick. G.711 is handled here as the bytes it is; of a
    wideband codec all from the jitter buffer on is its ``WidebandStream``'s. Only where the remote party agreed to no
    telephone-events are keys looked for in the audio; ``tones`` is None otherwise, and costs nothing.
    """

    def __init__(
        self,
        *,
        agreement: Agreement,
        signalling_host: str | None,
        tell: Callable[[DtmfReceived | PathChanged], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        now = monotonic()
        self._tell = tell
        self._monotonic = monotonic
        self._signalling_host = signalling_host
        self.latch = Latch(declared=agreement.remote, signalling_ip=signalling_host, now=now)
        self._locked: Address | None = None
        self.reception = Reception()
        self.last_packet_at = now
        self.malformed = 0
        self.unexpected = 0
        self._concealed_before = 0  # under another codec, as the next
        self._spoke_before = 0.0
        self.tones: ToneDetector | None = None
        self._tones_from = 0.0
        self._concealed_heard = 0
        self._at_once: tuple[Callable[[bytes], None], ...] = ()
        self._digits = DtmfReceiver()  # one for all agreements: a key may be held while one follows another
        self._agree(agreement)

    def update(self, agreement: Agreement) -> None:
        """A re-INVITE agreed on something else; where the address stays, the lock stays (rule 5).

        Where there is none yet, learning begins again.
        """
        now = self._monotonic()
        self.last_packet_at = now
        if canonical(agreement.remote) != self.latch.declared:
            self.latch.renew(declared=agreement.remote, signalling_ip=self._signalling_host, now=now)
            self._locked = None
        else:
            self.latch.confirm(now)
        if agreement.encoding is self._encoding:
            self._take_types(agreement)
        else:
            self._concealed_before, self._spoke_before = self.concealed_frames, self.last_speech_at
            self._agree(agreement)

    def confirm(self) -> None:
        """The peer has our address: it can be learned from now on."""
        self.latch.confirm(self._monotonic())

    @property
    def last_speech_at(self) -> float:
        """Arrival of the last packet that carried speech; 0.0 before the first."""
        spoke = self._speech.last_speech_at if self._wideband is None else self._wideband.last_speech_at
        return max(self._spoke_before, spoke)

    @property
    def concealed_frames(self) -> int:
        concealed = self._concealer.concealed_frames if self._wideband is None else self._wideband.concealed_frames
        return self._concealed_before + concealed

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take what arrived at ``now``. Whatever it is, nothing is raised."""
        start, end = HEADER_BYTES, len(datagram)
        if end < HEADER_BYTES or datagram[0] != PLAIN_FIRST_BYTE:
            bounds = payload_bounds(datagram, end)
            if bounds is None:
                self.malformed += 1
                return
            start, end = bounds
        _, second, sequence, timestamp, ssrc = _unpack_header(datagram)
        if source != self._locked and not self._is_taken(source, ssrc, sequence, second & 0x7F, now):
            return
        admission = self.reception.admit(ssrc, sequence)
        if admission is not Admission.FRESH:
            if admission is Admission.DUPLICATE and now - self.last_packet_at > RENUMBERED_S:
                self.reception.renumber(sequence)
            elif admission is not Admission.RESTART:
                return
            self._restart()
        self.last_packet_at = now
        payload = datagram[start:end]
        if second & 0x7F != self._audio_type:
            self._receive_other(second, sequence, timestamp, payload, now)
            return
        if self._wideband is None:  # as ``_push``, which would be one call more for each packet
            self.jitter_buffer.push(sequence, timestamp, second >= MARKER, payload, now)
            self._speech.take(payload, now)
            if self._at_once:
                self._tell_at_once(self._arrivals.push(sequence, timestamp, payload))
        else:
            self._push(sequence, timestamp, second >= MARKER, payload, now)

    def next_frame(self, due_s: float) -> bytes:
        """The frame of the tick that was due at ``due_s``: as received, concealed, or silence."""
        if self._wideband is not None:
            return self._wideband.next_frame(due_s)
        buffer = self.jitter_buffer
        frame = buffer.pull(due_s)
        if isinstance(frame, bytes):
            if buffer.spliced is not None:
                return self._concealer.splice(buffer.spliced, frame)
            if len(frame) == self._frame_bytes:
                return self._concealer.good(frame)
            return self._concealer.complete(frame)
        if frame is Gap.SILENT:
            self._concealer.forget()
            return self.silence
        return self._concealer.lost(ending=frame is Gap.STALLED)

    def hear_at_once(self, sinks: tuple[Callable[[bytes], None], ...]) -> None:
        """These hear each frame as it arrives, and need not wait for the jitter buffer; from the next one on."""
        if not self._at_once:
            self._arrivals.reset()
        self._at_once = sinks

    def tick_at_once(self, heard: bytes) -> None:
        """Who hears at once gets what is heard in place of what did not come; of a wideband codec ``heard``."""
        if self._wideband is not None:
            self._tell_at_once((heard,))
        else:
            self._tell_at_once(self._arrivals.tick())

    def listen(self, frame: bytes, now: float) -> None:
        """Look for keys in the frame just given; to be called each tick while there are ``tones``."""
        assert self.tones is not None
        concealed = self.concealed_frames
        told = self.tones.take(frame) if concealed == self._concealed_heard else self.tones.miss()
        self._concealed_heard = concealed
        if now >= self._tones_from:
            for digit, duration_ms in told:
                self._tell(DtmfReceived(digit=digit, duration_ms=duration_ms, source="inband"))

    def ignore_tones(self, now: float) -> None:
        """Tones of ours are on the line: what is heard soon after may be their echo."""
        self._tones_from = now + ECHO_S

    def skip(self, frames: int) -> None:
        """Ticks that will never be played."""
        self.jitter_buffer.skip(frames)
        if self._at_once and self._wideband is None:
            self._tell_at_once(self._arrivals.tick(frames))

    def expire(self, now: float) -> None:
        """Digits whose end was lost."""
        if self._digits.pending:
            self._tell_digits(self._digits.expire(now))

    def _agree(self, agreement: Agreement) -> None:
        self._encoding = agreement.encoding
        self._translators: dict[Encoding, Translator | None] = {}
        self.silence = silence(leg_format(agreement.encoding))
        self._arrivals = Arrivals(leg_format(agreement.encoding))
        self._wideband: WidebandStream[Any] | None = wideband_stream(agreement.encoding)
        if self._wideband is not None:
            self.jitter_buffer: JitterBuffer[Any] = self._wideband.jitter_buffer
        else:
            self._agree_on_g711(agreement.encoding)
        self._take_types(agreement)

    def _agree_on_g711(self, encoding: Encoding) -> None:
        self._frame_bytes = PCMU_8K.frame_bytes
        self._loudness = LOUDNESS[encoding]
        self._quiet_below = loudness_of(QUIET_DBM0) * self._frame_bytes
        self._concealer = Concealer(leg_format(encoding))
        self._speech = SpeechLevel(encoding)
        self.jitter_buffer = JitterBuffer(quiet=self._is_quiet, frame_samples=self._frame_bytes)

    def _take_types(self, agreement: Agreement) -> None:
        self._audio_type = agreement.receive_payload_type
        self._event_type = agreement.dtmf_receive_payload_type
        self._digits.clock_hz = agreement.dtmf_clock_hz
        if agreement.dtmf_payload_type is not None:
            self.tones = None
        elif self.tones is None or self.tones.format != leg_format(agreement.encoding):
            self.tones = ToneDetector(leg_format(agreement.encoding))
        self._negotiated = {self._audio_type, self._event_type, COMFORT_NOISE}

    def _is_quiet(self, frame: bytes) -> bool:
        return sum(frame.translate(self._loudness)) < self._quiet_below

    def _is_taken(self, source: Address, ssrc: int, sequence: int, payload_type: int, now: float) -> bool:
        latch = self.latch
        before = latch.destination
        if self._locked is not None and self.reception.ssrc is not None:
            latch.heard(self.reception.ssrc, self.reception.extended_highest & 0xFFFF, self.last_packet_at)
        verdict = latch.judge(source, ssrc, sequence, payload_type in self._negotiated, now)
        if verdict is Verdict.LOCK:
            self._locked = source
            if source != before:
                self._tell(PathChanged(remote=source))
        return verdict is not Verdict.DROP

    def _restart(self) -> None:
        self.jitter_buffer.reset()
        self._arrivals.reset()
        self._digits.restart()

    def _receive_other(self, second: int, sequence: int, timestamp: int, payload: bytes, now: float) -> None:
        payload_type = second & 0x7F
        if payload_type == self._event_type:
            self._interlude(sequence)
            self._tell_digits(self._digits.receive(sequence, timestamp, payload, now))
        elif payload_type == COMFORT_NOISE:
            self._interlude(sequence)
        elif (translate := self._translator_of(payload_type)) is not None:
            self._push(sequence, timestamp, second >= MARKER, translate(payload), now)
        else:
            self.unexpected += 1

    def _interlude(self, sequence: int) -> None:
        self.jitter_buffer.interlude(sequence)
        self._arrivals.interlude(sequence)

    def _tell_at_once(self, frames: tuple[bytes, ...]) -> None:
        for frame in frames:
            for sink in self._at_once:
                sink(frame)

    def _push(self, sequence: int, timestamp: int, marker: bool, payload: bytes, now: float) -> None:
        if self._wideband is None:
            self.jitter_buffer.push(sequence, timestamp, marker, payload, now)
            self._speech.take(payload, now)
            if self._at_once:
                self._tell_at_once(self._arrivals.push(sequence, timestamp, payload))
        elif not self._wideband.push(sequence, timestamp, marker, payload, now):
            self.malformed += 1

    def _translator_of(self, payload_type: int) -> Translator | None:
        """Its state lasts as long as the agreement on a codec; made when the first such packet comes."""
        source = _STATIC_TYPES.get(payload_type)
        if source is None or source is self._encoding:
            return None
        if source not in self._translators:
            self._translators[source] = translator(source, self._encoding)
        return self._translators[source]

    def _tell_digits(self, pressed: list[DigitPressed]) -> None:
        for digit in pressed:
            self._tell(DtmfReceived(digit=digit.digit, duration_ms=digit.duration_ms))
