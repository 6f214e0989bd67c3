"""What is paid by the minute, where the provider tells nothing of it. Pure; the caller's frames are the clock."""

from __future__ import annotations

from offhook.bridge.codec import UsageReported
from offhook.bridge.wire import CodecOutput
from offhook.model.audio import FRAME_MS

SECOND_FRAMES = 1000 // FRAME_MS
_SECOND = UsageReported(units="seconds", amount=1.0)


class PaidSeconds:
    """Of one connection."""

    def __init__(self) -> None:
        self._frames = 0

    def pass_frame(self, out: CodecOutput) -> None:
        """20 ms went by."""
        self._frames += 1
        if self._frames == SECOND_FRAMES:
            self._frames = 0
            out.bridge_event(_SECOND)
