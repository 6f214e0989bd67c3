"""G.722 at 64 kbit/s: 16 kHz L16 to and from one byte for two samples, by libg722 (the ``G722`` package).

Sub-band ADPCM carries a state from byte to byte, so each direction of each stream has a coder of its own, fed in
the order of the wire. Measured: 15 µs to encode 20 ms, 11 µs to decode; the interpreter lock is held meanwhile.
"""

from __future__ import annotations

import numpy as np
from G722 import G722

_SAMPLE_RATE_HZ = 16_000
_BIT_RATE = 64_000  # RFC 3551 §4.5.2: the only mode on RTP


class G722Encoder:
    """One outgoing stream."""

    def __init__(self) -> None:
        self._codec = G722(_SAMPLE_RATE_HZ, _BIT_RATE, use_numpy=False)

    def encode(self, l16: bytes) -> bytes:
        """A quarter as many bytes. ``l16`` holds whole pairs of samples; raises ``ValueError`` for half a sample."""
        return bytes(self._codec.encode(np.frombuffer(l16, dtype="<i2")))


class G722Decoder:
    """One incoming stream."""

    def __init__(self) -> None:
        self._codec = G722(_SAMPLE_RATE_HZ, _BIT_RATE, use_numpy=False)

    def decode(self, coded: bytes) -> bytes:
        """Four times as many bytes; any byte is valid."""
        return np.asarray(self._codec.decode(coded), dtype="<i2").tobytes()
