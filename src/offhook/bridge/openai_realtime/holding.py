"""An answer that may not be wanted: kept back until it is known whether the caller took the turn. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from offhook.bridge.codec import BridgeEvent
from offhook.bridge.wire import CodecOutput

MAX_HELD_BYTES = 4 << 20
"""Of sound: minutes; an answer is shorter."""

MAX_HELD_EVENTS = 4096


@dataclass(slots=True)
class Held:
    """Implements ``CodecOutput`` for one response: what it says waits, what we say goes out."""

    response_id: str
    until_ms: int
    out: CodecOutput
    item_ids: list[str] = field(default_factory=list)
    """Of all items of the response, calls included."""
    call_ids: list[str] = field(default_factory=list)
    _kept: list[BridgeEvent | tuple[str, bytes]] = field(default_factory=list)
    _bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self._bytes > MAX_HELD_BYTES or len(self._kept) > MAX_HELD_EVENTS

    def audio_out(self, item: str, audio: bytes) -> None:
        self._bytes += len(audio)
        self._kept.append((item, audio))

    def bridge_event(self, event: BridgeEvent) -> None:
        self._kept.append(event)

    def send(self, message: bytes) -> None:
        self.out.send(message)

    def release(self, out: CodecOutput) -> int:
        """Let it be heard. Returns the bytes of sound."""
        for kept in self._kept:
            if isinstance(kept, tuple):
                out.audio_out(*kept)
            else:
                out.bridge_event(kept)
        return self._bytes
