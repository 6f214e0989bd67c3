"""An agent's live presence in a call: one BridgeConnection and the Agent it speaks as.

Audio goes straight between leg and provider, converted only where their formats differ; everything else the
provider says is reported as a fact. Late audio of an item that was cut is dropped by its name.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from offhook.audio.convert import Converter, converter
from offhook.bridge.codec import (
    AudioDone,
    BridgeConnection,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
)
from offhook.media.session import MediaSession
from offhook.model.audio import AudioFormat
from offhook.model.errors import BridgeError
from offhook.model.records import Agent

READY_DEADLINE_S = 10.0
"""A provider that is not ready by then has failed: a caller hangs up after about three rings."""

MAX_CUT_ITEMS = 64
"""Names of cut items remembered; late audio comes within seconds, not dozens of utterances later."""

EventReport = Callable[[BridgeEvent], None]


class Bridges(Protocol):
    """The providers, by name; ``bridge.registry`` implements it. Both raise ``BridgeError``."""

    def profile(self, name: str) -> BridgeProfile: ...

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection: ...


class _Output(NamedTuple):
    """A media session that plays what the agent says, and how it gets its format."""

    media: MediaSession
    convert: Converter | None


class AgentSession:
    """Implements ``BridgeListener``. ``hearing``: the format that ``hear`` takes, which is the provider's."""

    def __init__(
        self,
        *,
        call_id: str,
        agent: Agent,
        bridges: Bridges,
        leg_format: AudioFormat,
        report: EventReport,
    ) -> None:
        """Raises ``BridgeError`` when the provider cannot work with the agent's options."""
        self.agent = agent
        profile = bridges.profile(agent.provider)
        self.hearing = _preferred(profile.input_formats, leg_format)
        self._output_format = _preferred(profile.output_formats, leg_format)
        self._outputs: list[_Output] = []
        self._report = report
        self._ready = asyncio.Event()
        self._fault: BridgeFault | None = None
        self._responding = False
        self._cut: OrderedDict[str, None] = OrderedDict()
        self._connection: BridgeConnection = bridges.open_bridge(
            BridgeRequest(
                call_id=call_id,
                agent=agent,
                input_format=self.hearing,
                output_format=self._output_format,
                listener=self,
            )
        )
        self.audio_ms: dict[str, int] = {}

    @property
    def profile(self) -> BridgeProfile:
        """What this very connection can do; an agent's options may narrow the provider's profile."""
        return self._connection.profile

    async def open(self) -> None:
        """Returns when the provider is ready. Raises ``BridgeError``."""
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                await self._connection.open()
                await self._ready.wait()
        except TimeoutError:
            problem = f"was not ready within {READY_DEADLINE_S:g} s"
            raise BridgeError(self.profile.provider, problem, "fall_over") from None
        if self._fault is not None:
            raise BridgeError(self.profile.provider, self._fault.problem, self._fault.verdict)

    def speak_to(self, media: MediaSession, audio_format: AudioFormat) -> Callable[[], None]:
        """Let ``media`` play what the agent says from now on, in its format; returns what ends that."""
        output = _Output(media, converter(self._output_format, audio_format))
        self._outputs.append(output)
        return lambda: self._outputs.remove(output)

    def hear(self, frame: bytes) -> None:
        """One frame, 20 ms in ``hearing``."""
        self._connection.send_audio(frame)

    def send(self, command: BridgeInput) -> None:
        self._connection.send(command)

    def forget(self, item: str) -> None:
        """``item`` was cut: whatever still comes of it is not played."""
        self._cut[item] = None
        self.audio_ms.pop(item, None)
        for output in self._outputs:
            output.media.flush(item)
        while len(self._cut) > MAX_CUT_ITEMS:
            self._cut.popitem(last=False)

    @property
    def responding(self) -> bool:
        """Between the provider's ``ResponseStarted`` and ``ResponseDone``: more audio may come."""
        return self._responding

    async def close(self) -> None:
        await self._connection.close()

    # ── BridgeListener ───────────────────────────────────────────────────────────────────────────────────

    def audio_out(self, item: str, audio: bytes) -> None:
        if item in self._cut:
            return
        self.audio_ms[item] = self.audio_ms.get(item, 0) + len(audio) // self._output_format.bytes_per_ms
        for output in self._outputs:
            output.media.play(item, output.convert(audio) if output.convert is not None else audio)

    def bridge_event(self, event: BridgeEvent) -> None:
        match event:
            case Ready():
                self._ready.set()
            case BridgeFault() if not self._ready.is_set():
                self._fault = event
                self._ready.set()
            case AudioDone(item=item) if item not in self._cut:
                for output in self._outputs:
                    output.media.finish(item)
            case Interrupted(item=item):
                self._cut[item] = None
            case ResponseStarted():
                self._responding = True
            case ResponseDone():
                self._responding = False
            case ToolCall(name="end_call" | "transfer_call"):
                self._responding = False
            case BridgeFault(verdict=verdict) if verdict != "retry":
                self._responding = False  # nothing more will come
            case _:
                pass
        self._report(event)


def _preferred(formats: tuple[AudioFormat, ...], leg_format: AudioFormat) -> AudioFormat:
    """The leg's own format where the provider takes it (untouched bytes), else what it is converted to with the least
    loss and work: nothing of its band cut off, the nearest rate, its own encoding, the provider's best.
    """

    def cost(candidate: AudioFormat) -> tuple[bool, int, bool]:
        beyond_hz = candidate.sample_rate_hz - leg_format.sample_rate_hz
        return beyond_hz < 0, abs(beyond_hz), candidate.encoding is not leg_format.encoding

    return min(formats, key=cost)
