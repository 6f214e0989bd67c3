"""What streams are shown of a talk while it goes on."""

from __future__ import annotations

from offhook.bridge.codec import BridgeEvent, SpeechStarted, SpeechStopped, TranscriptDelta
from offhook.model.call_events import InterimTranscript, LiveSignal, SpeechStateChanged


def live_signal(call_id: str, event: BridgeEvent) -> LiveSignal | None:
    """None where it is nothing to show."""
    match event:
        case TranscriptDelta(final=False, speaker=speaker, text=text):
            return InterimTranscript(call_id=call_id, speaker=speaker, text=text)
        case SpeechStarted() | SpeechStopped():
            speaking = isinstance(event, SpeechStarted)
            return SpeechStateChanged(call_id=call_id, speaker="caller", speaking=speaking)
        case _:
            return None
