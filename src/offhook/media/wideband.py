"""The wideband codecs on a leg: what the wire carries, and L16 at 16 kHz, which is what the engine hears and says.

Their decoders carry a state from packet to packet, so decoding comes after the jitter buffer, in the order of the
stream, and what the buffer leaves out is decoded as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from offhook.audio.convert import converter
from offhook.audio.g711 import silence
from offhook.audio.g722 import G722Decoder, G722Encoder
from offhook.audio.level import LOUDNESS, loudness_of, sketch
from offhook.audio.opus import CLOCK_HZ, CLOCK_PER_SAMPLE, OpusDecoder, OpusEncoder, packet_duration
from offhook.media.concealment import Concealer
from offhook.media.speech_level import QUIET_DBM0, SpeechLevel
from offhook.model.audio import FRAME_MS, L16_16K, PCMU_8K, Encoding, leg_format
from offhook.rtp.jitter_buffer import Gap, JitterBuffer, Stretch

_BYTES_PER_SAMPLE = 2
_OPUS_FRAME = CLOCK_HZ * FRAME_MS // 1000
_SURELY_QUIET_FRAMES = 2
"""A frame not decoded yet is taken for quiet after so many quiet ones: a word begins once in many dozens of them."""

_SILENCE = silence(L16_16K)
_LOUDNESS = LOUDNESS[Encoding.PCMU]
_QUIET_BELOW = loudness_of(QUIET_DBM0) * PCMU_8K.frame_bytes

Piece = TypeVar("Piece", bound=Stretch)


class WireEncoder(Protocol):
    def encode(self, l16: bytes) -> bytes:
        """One frame of L16 at 16 kHz as one payload."""
        ...


class WireDecoder(Protocol[Piece]):
    """One incoming stream of a codec. What arrives may be anything; nothing is raised."""

    clock_hz: int

    def piece(self, payload: bytes) -> Piece | None:
        """A payload as the jitter buffer holds it; None for one that is none of this codec."""
        ...

    def decode(self, piece: Piece) -> bytes:
        """L16 at 16 kHz, as long as the piece."""
        ...

    def conceal(self, following: Piece | None) -> bytes | None:
        """One frame in place of a lost one before ``following``; None where the codec has no way of its own."""
        ...


def wire_encoder(encoding: Encoding) -> WireEncoder | None:
    """None for G.711, whose bytes pass as they are."""
    match encoding:
        case Encoding.G722:
            return G722Encoder()
        case Encoding.OPUS:
            return OpusEncoder()
        case _:
            return None


def wideband_stream(encoding: Encoding) -> WidebandStream[Any] | None:
    """None for G.711, whose bytes pass as they are."""
    match encoding:
        case Encoding.G722:
            return WidebandStream(_G722Wire())
        case Encoding.OPUS:
            return WidebandStream(_OpusWire())
        case _:
            return None


Translator = Callable[[bytes], bytes]
"""One payload to another, as they come; never raises."""

_BYTE_PER_UNIT = (Encoding.PCMU, Encoding.PCMA, Encoding.G722)
"""Codecs whose byte takes one unit of a clock of 8000: their streams fit into each other's timelines."""


def translator(source: Encoding, target: Encoding) -> Translator | None:
    """From what one codec has on the wire to what another has; None where their clocks differ (RFC 7160 §2)."""
    if source not in _BYTE_PER_UNIT or target not in _BYTE_PER_UNIT:
        return None
    steps = [
        G722Decoder().decode if source is Encoding.G722 else None,
        converter(leg_format(source), leg_format(target)),
        G722Encoder().encode if target is Encoding.G722 else None,
    ]

    def translate(payload: bytes) -> bytes:
        for step in steps:
            payload = payload if step is None else step(payload)
        return payload

    return translate


class _G722Wire:
    """A byte is one unit of the RTP clock, as in G.711: a piece is the bytes themselves (RFC 3551 §4.5.2)."""

    clock_hz = 8000

    def __init__(self) -> None:
        self._decoder = G722Decoder()

    def piece(self, payload: bytes) -> bytes | None:
        return payload

    def decode(self, piece: bytes) -> bytes:
        return self._decoder.decode(piece)

    def conceal(self, following: bytes | None) -> bytes | None:
        return None


class _Part(NamedTuple):
    """From ``start`` to ``end`` of what a packet holds, in units of the RTP clock."""

    packet: bytes
    start: int
    end: int


class OpusStretch:
    """Parts of Opus packets in a row: a packet cannot be cut before it is decoded, so the cuts are only noted."""

    __slots__ = ("_length", "parts")

    def __init__(self, parts: tuple[_Part, ...]) -> None:
        self.parts = parts
        self._length = sum(part.end - part.start for part in parts)

    @classmethod
    def of(cls, packet: bytes) -> OpusStretch | None:
        """The whole of a packet; None for what is none."""
        duration = packet_duration(packet)
        return cls((_Part(packet, 0, duration),)) if duration else None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> OpusStretch:
        first, last, _ = part.indices(self._length)
        cut, at = [], 0
        for packet, start, end in self.parts:
            begin, stop = max(start, start + first - at), min(end, start + last - at)
            if begin < stop:
                cut.append(_Part(packet, begin, stop))
            at += end - start
        return OpusStretch(tuple(cut))

    def __add__(self, following: OpusStretch, /) -> OpusStretch:
        return OpusStretch(self.parts + following.parts)


class _OpusWire:
    clock_hz = CLOCK_HZ

    def __init__(self) -> None:
        self._decoder = OpusDecoder()
        self._packet: bytes | None = None
        self._decoded = b""  # of that packet: its next part takes it from here

    def piece(self, payload: bytes) -> OpusStretch | None:
        return OpusStretch.of(payload)

    def decode(self, piece: OpusStretch) -> bytes:
        return b"".join(self._part(*part) for part in piece.parts)

    def conceal(self, following: OpusStretch | None) -> bytes | None:
        first = following.parts[0] if following is not None else None
        self._packet = None
        if first is None or first.start:
            return self._decoder.conceal(_OPUS_FRAME)
        return self._decoder.repair(first.packet, _OPUS_FRAME)

    def _part(self, packet: bytes, start: int, end: int) -> bytes:
        if packet is not self._packet:
            self._packet, self._decoded = packet, self._decoder.decode(packet)
        return self._decoded[_sample_bytes(start) : _sample_bytes(end)]


def _sample_bytes(duration: int) -> int:
    return duration // CLOCK_PER_SAMPLE * _BYTES_PER_SAMPLE


class WidebandStream(Generic[Piece]):
    """Jitter buffer, decoder, concealment and speech level of what the remote party sends."""

    def __init__(self, wire: WireDecoder[Piece]) -> None:
        self._wire = wire
        self.jitter_buffer: JitterBuffer[Piece] = JitterBuffer(
            quiet=self._is_quiet, frame_samples=wire.clock_hz * FRAME_MS // 1000, clock_hz=wire.clock_hz
        )
        self._concealer = Concealer(L16_16K)
        self._speech = SpeechLevel(Encoding.PCMU)
        self._quiet_frames = 0
        self._concealed_by_codec = 0

    @property
    def concealed_frames(self) -> int:
        return self._concealed_by_codec + self._concealer.concealed_frames

    @property
    def last_speech_at(self) -> float:
        """Arrival of the last packet that carried speech; 0.0 before the first."""
        return self._speech.last_speech_at

    def push(self, sequence: int, timestamp: int, marker: bool, payload: bytes, arrival_s: float) -> bool:
        """Take one packet that is not a duplicate; False for what is none of this codec."""
        piece = self._wire.piece(payload)
        if piece is None:
            return False
        self.jitter_buffer.push(sequence, timestamp, marker, piece, arrival_s)
        return True

    def next_frame(self, due_s: float) -> bytes:
        """The frame of the tick that was due at ``due_s``: decoded, concealed, or silence."""
        buffer = self.jitter_buffer
        piece = buffer.pull(due_s)
        if isinstance(piece, Gap):
            return self._fill(piece)
        left_out = self._wire.decode(buffer.spliced) if buffer.spliced is not None else None
        frame = self._wire.decode(piece)
        self._weigh(frame, due_s)
        if left_out is not None:
            return self._concealer.splice(left_out, frame)
        return self._concealer.good(frame) if len(frame) == len(_SILENCE) else self._concealer.complete(frame)

    def _fill(self, gap: Gap) -> bytes:
        if gap is Gap.SILENT:
            self._quiet_frames += 1
            self._concealer.forget()
            return _SILENCE
        made = self._wire.conceal(self.jitter_buffer.following) if gap is Gap.LOST else None
        if made is None:
            return self._concealer.lost(ending=gap is Gap.STALLED)
        self._concealed_by_codec += 1
        return self._concealer.good(made)

    def _weigh(self, frame: bytes, due_s: float) -> None:
        weighed = sketch(frame)
        # When it came is known by how long it lay here.
        self._speech.take(weighed, due_s - self.jitter_buffer.delay_ms(due_s) / 1000)
        loud = sum(weighed.translate(_LOUDNESS)) >= _QUIET_BELOW
        self._quiet_frames = 0 if loud else self._quiet_frames + 1

    def _is_quiet(self, piece: Piece) -> bool:
        return self._quiet_frames >= _SURELY_QUIET_FRAMES
