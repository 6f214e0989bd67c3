"""Audio formats. Audio itself is plain ``bytes``; its format belongs to the stream and is agreed once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, assert_never

FRAME_MS = 20
"""One audio frame, everywhere in offhook (RFC 3551 §4.2: the default packetization interval)."""

SampleRate = Literal[8000, 16000, 22050, 24000, 44100, 48000]


class Encoding(Enum):
    """How a sample is written. The value is the SDP encoding name where there is one (RFC 3551 §6)."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    G722 = "G722"  # 16 kHz, though its RTP clock says 8000 (RFC 3551 §4.5.2); on the wire only
    OPUS = "opus"  # RFC 7587; on the wire only
    L16 = "L16"  # signed 16-bit little-endian inside offhook; RFC 3551 puts it big-endian on the wire


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFormat:
    """Encoding and sample rate of one mono stream."""

    encoding: Encoding
    sample_rate_hz: SampleRate = 8000

    @property
    def bytes_per_sample(self) -> int:
        return 2 if self.encoding is Encoding.L16 else 1

    @property
    def bytes_per_ms(self) -> int:
        """Whole bytes a millisecond; exact at every rate but 22,050 and 44,100 Hz."""
        return self.sample_rate_hz * self.bytes_per_sample // 1000

    @property
    def frame_bytes(self) -> int:
        """Bytes in one 20 ms frame: 160 for G.711."""
        return self.sample_rate_hz * self.bytes_per_sample * FRAME_MS // 1000


PCMU_8K = AudioFormat(encoding=Encoding.PCMU)
PCMA_8K = AudioFormat(encoding=Encoding.PCMA)
L16_8K = AudioFormat(encoding=Encoding.L16)
L16_16K = AudioFormat(encoding=Encoding.L16, sample_rate_hz=16000)
L16_24K = AudioFormat(encoding=Encoding.L16, sample_rate_hz=24000)


def leg_format(encoding: Encoding) -> AudioFormat:
    """What a leg with this codec on the wire gives and takes: G.711 as it is, else what the codec carries."""
    match encoding:
        case Encoding.PCMU:
            return PCMU_8K
        case Encoding.PCMA:
            return PCMA_8K
        case Encoding.G722 | Encoding.OPUS | Encoding.L16:
            return L16_16K
        case _:
            assert_never(encoding)
