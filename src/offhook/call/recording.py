"""The recording of a call, from when there is something to be heard."""

from __future__ import annotations

from offhook.call.controls import CallControls
from offhook.call.leg import Leg
from offhook.call.routing import tap_port
from offhook.call.wiring import Wiring
from offhook.media.recorder import Recorder
from offhook.model.call_events import RecordingWritten

RECORDER = tap_port("recorder")


class Recording:
    """``wanted``: whether the agent's calls are recorded at all."""

    def __init__(self, call: CallControls, wiring: Wiring, *, wanted: bool) -> None:
        self._call = call
        self._wiring = wiring
        self._wanted = wanted
        self._recorder: Recorder | None = None

    def begin(self, leg: Leg) -> None:
        """Once; where there is a place for recordings."""
        equipment = self._call.equipment
        if equipment.recordings is None or not self._wanted or self._recorder is not None:
            return
        path = equipment.recordings_folder / f"{self._call.call_id}.wav"
        self._recorder = equipment.recordings.open(path, leg.media.format)
        self._wiring.add_tap(RECORDER, self._recorder.write)
        self._wiring.seat(taps=frozenset({RECORDER}))

    def follow(self, leg: Leg) -> None:
        """The leg has another format."""
        if self._recorder is not None:
            self._recorder.follow(leg.format)

    async def close(self) -> RecordingWritten | None:
        """None where there is none, or the disk refused it."""
        if self._recorder is None:
            return None
        duration_ms = self._recorder.close()
        await self._recorder.written()
        if self._recorder.problem is not None:
            return None
        return RecordingWritten(path=str(self._recorder.path), duration_ms=duration_ms)
