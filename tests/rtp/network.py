"""A telephone network in virtual time: ``stream`` sends, ``impair`` harms, ``play`` listens.

Each packet carries its own number in its samples, so that what comes out tells what went in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from offhook.rtp.jitter_buffer import Gap, JitterBuffer
from offhook.rtp.reception import Admission, Reception

FRAME = 160
TICK_S = 0.02
QUIET = 0xFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One packet with the time it arrives at; ``None`` as payload is comfort noise or an event."""

    at: float
    sequence: int
    timestamp: int
    payload: bytes | None
    marker: bool = False
    ssrc: int = 0xABCD


def stream(
    packets: int,
    *,
    start: float = 100.0,
    ptime_ms: int = 20,
    sequence: int = 65_500,
    timestamp: int = 0xFFFF_F000,
    ppm: float = 0.0,
    ssrc: int = 0xABCD,
    payload: Callable[[int], bytes] | None = None,
) -> list[Sent]:
    """Packets of running samples (sequence and timestamp wrap early on); ``ppm``: the sender's clock is fast."""
    samples = 8 * ptime_ms
    make = payload or (lambda index: audio(index * samples, samples))
    pace = ptime_ms / 1000 / (1 + ppm / 1e6)
    return [
        Sent(
            at=start + index * pace,
            sequence=(sequence + index) & 0xFFFF,
            timestamp=(timestamp + index * samples) & 0xFFFFFFFF,
            payload=make(index),
            marker=index == 0,
            ssrc=ssrc,
        )
        for index in range(packets)
    ]


def audio(start: int, samples: int) -> bytes:
    """Samples ``start`` … of the endless test signal: 32-bit big-endian counters of the groups of four."""
    first, last = start // 4, (start + samples + 3) // 4
    signal = b"".join((0x10000000 + group).to_bytes(4, "big") for group in range(first, last))
    return signal[start % 4 : start % 4 + samples]


def position(frame: bytes) -> int:
    """The sample a frame of the test signal begins with; it must begin at a group of four."""
    return (int.from_bytes(frame[:4], "big") - 0x10000000) * 4


def impair(
    packets: Iterable[Sent],
    *,
    loss: float = 0,
    delay: float = 0,
    jitter: float = 0,
    dup: float = 0,
    burst: float = 1,
    seed: int = 1,
) -> list[Sent]:
    """Percent of loss (in bursts) and doubling, milliseconds of delay ± jitter, as shared/tools/impair.py does."""
    rng = random.Random(seed)
    bad = False
    out: list[Sent] = []
    into_loss = loss / 100 / (1 - loss / 100) / burst if loss else 0.0
    for packet in packets:
        bad = rng.random() >= 1 / burst if bad else rng.random() < into_loss
        if bad:
            continue
        for _ in range(2 if rng.random() * 100 < dup else 1):
            out.append(replace(packet, at=packet.at + (delay + rng.uniform(-jitter, jitter)) / 1000))
    return sorted(out, key=lambda packet: packet.at)


@dataclass(slots=True)
class Heard:
    """What the ticks got: ``frames`` in order, with the tick's time."""

    frames: list[tuple[float, bytes | Gap]] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)
    most_pieces: int = 0

    @property
    def audio(self) -> list[bytes]:
        return [frame for _, frame in self.frames if isinstance(frame, bytes)]

    @property
    def positions(self) -> list[int]:
        return [position(frame) for frame in self.audio]

    def count(self, gap: Gap) -> int:
        return sum(frame is gap for _, frame in self.frames)

    def running(self) -> Sequence[bytes | Gap]:
        """From the first sound to the last."""
        frames = [frame for _, frame in self.frames]
        sounding = [index for index, frame in enumerate(frames) if isinstance(frame, bytes)]
        return frames[sounding[0] : sounding[-1] + 1] if sounding else []


def play(
    packets: Sequence[Sent],
    *,
    buffer: JitterBuffer[bytes] | None = None,
    phase: float = 0.007,
    tail_s: float = 0.5,
    heard: Heard | None = None,
) -> Heard:
    """Feed the packets at their times, tick every 20 ms from just before the first to ``tail_s`` after the last."""
    buffer = buffer or listener()
    reception = Reception()
    heard = heard or Heard()
    queue = list(packets)
    tick = queue[0].at - TICK_S + phase
    while tick < packets[-1].at + tail_s:
        while queue and queue[0].at <= tick:
            deliver(buffer, reception, queue.pop(0))
        heard.frames.append((tick, buffer.pull(tick)))
        heard.delays_ms.append(buffer.delay_ms(tick))
        heard.most_pieces = max(heard.most_pieces, buffer.held_pieces)
        tick += TICK_S
    return heard


def listener() -> JitterBuffer[bytes]:
    return JitterBuffer(quiet=lambda frame: frame[0] == QUIET)


def deliver(buffer: JitterBuffer[bytes], reception: Reception, packet: Sent) -> None:
    """As the media session does it."""
    admission = reception.admit(packet.ssrc, packet.sequence)
    if admission is Admission.RESTART:
        buffer.reset()
    elif admission is not Admission.FRESH:
        return
    if packet.payload is None:
        buffer.interlude(packet.sequence)
    else:
        buffer.push(packet.sequence, packet.timestamp, packet.marker, packet.payload, packet.at)
