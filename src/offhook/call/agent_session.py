"""An agent's live presence in a call: one BridgeConnection and the Agent it speaks as.

Audio goes straight between leg and provider, converted only where their formats differ; everything else the
provider says is reported as a fact. Late audio of an item that was cut is dropped by its name.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
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
    Interrupt,
    Interrupted,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
    ToolSpec,
    TranscriptDelta,
    UsageReported,
    Utterance,
)
from offhook.call.caller_ear import CallerEar, Floor, NobodySpeaks
from offhook.call.tools import ends_answer
from offhook.media.session import MediaSession
from offhook.model.audio import AudioFormat
from offhook.model.call_events import ProviderUsage, UsageAmount
from offhook.model.errors import BridgeError
from offhook.model.records import Agent

READY_DEADLINE_S = 10.0
"""A provider that is not ready by then has failed: a caller hangs up after about three rings."""

MAX_CUT_ITEMS = 64
"""Names of cut items remembered; late audio comes within seconds, not dozens of utterances later."""

MAX_KNOWN_ITEMS = 64
"""Names of items that a provider may be told of: those that wait to be played are a few."""

MAX_ITEMS = 1024
"""Whose length is remembered; more than wait to be played."""

MAX_CHARACTERS = 20_000
"""Of a transcript: twenty minutes of speech."""

MAX_UNITS = 32
"""Kinds of usage that are counted; a provider has about six."""

EventReport = Callable[[BridgeEvent], None]


Judge = Callable[[bytes, AudioFormat, int], Awaitable[bool | None]]
"""(what the caller said over the agent, its format, its length in ms): was it a turn? None: that is not known."""


class Bridges(Protocol):
    """The providers, by name; ``bridge.registry`` implements it. Both raise ``BridgeError``.

    ``judge``: an offline recogniser, where one runs; it understands English.
    """

    @property
    def judge(self) -> Judge | None: ...

    def profile(self, name: str) -> BridgeProfile: ...

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection: ...


class _Output(NamedTuple):
    """A media session that plays what the agent says, and how it gets its format."""

    media: MediaSession
    convert: Converter | None


class AgentSession:
    """Implements ``BridgeListener``. ``hearing``: the format that ``hear`` takes, which is the provider's.

    ``prefix``: begins the names of its items, so that they are told from those of the provider before it.
    """

    def __init__(
        self,
        *,
        call_id: str,
        agent: Agent,
        bridges: Bridges,
        leg_format: AudioFormat,
        report: EventReport,
        tools: tuple[ToolSpec, ...] = (),
        history: Callable[[], Sequence[Utterance]] = tuple,
        greets: bool = True,
        prefix: str = "",
    ) -> None:
        """Raises ``BridgeError`` when the provider cannot work with the agent's options."""
        self.agent = agent
        self.greets = greets
        self._prefix = prefix
        profile = bridges.profile(agent.provider)
        self.hearing = _preferred(profile.input_formats, leg_format)
        self._output_format = _preferred(profile.output_formats, leg_format)
        self._outputs: list[_Output] = []
        self._report = report
        self._ready = asyncio.Event()
        self._fault: BridgeFault | None = None
        self._responding = False
        self._cut: OrderedDict[str, None] = OrderedDict()
        self._known: OrderedDict[str, int] = OrderedDict()
        self.broken: frozenset[str] = frozenset()
        """What was still being played when the provider was lost: words from before that."""
        self.responses = 0
        """Answers that the provider began."""
        self._used: dict[str, float] = {}
        self._connection: BridgeConnection = bridges.open_bridge(
            BridgeRequest(
                call_id=call_id,
                agent=agent,
                input_format=self.hearing,
                output_format=self._output_format,
                listener=self,
                tools=tools,
                history=history,
                greets=greets,
            )
        )
        self.audio_ms: dict[str, int] = {}
        self.floor: Floor = NobodySpeaks()
        self._judging: set[asyncio.Task[None]] = set()
        self._judge: Judge | None = None
        self._ear = None if self.profile.raw_line else self._make_ear(bridges)

    @property
    def profile(self) -> BridgeProfile:
        """What this very connection can do; an agent's options may narrow the provider's profile."""
        return self._connection.profile

    @property
    def usage(self) -> ProviderUsage | None:
        """What the provider said so far that was used; None where it says nothing of it."""
        if not self._used:
            return None
        amounts = tuple(UsageAmount(units=units, amount=amount) for units, amount in self._used.items())
        return ProviderUsage(provider=self.profile.provider, amounts=amounts)

    async def open(self, deadline_s: float = READY_DEADLINE_S) -> None:
        """Returns when the provider is ready. Raises ``BridgeError``."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._connection.open()
                await self._ready.wait()
        except TimeoutError:
            problem = f"was not ready within {deadline_s:g} s"
            raise BridgeError(self.profile.provider, problem, "fall_over") from None
        if self._fault is not None:
            raise BridgeError(self.profile.provider, self._fault.problem, self._fault.verdict)

    def speak_to(self, media: MediaSession, audio_format: AudioFormat) -> Callable[[], None]:
        """Let ``media`` play what the agent says from now on, in its format; returns what ends that."""
        output = _Output(media, converter(self._output_format, audio_format))
        self._outputs.append(output)
        unplug = self._hear_ourselves(media, audio_format) if len(self._outputs) == 1 else _nothing

        def end() -> None:
            self._outputs.remove(output)
            unplug()

        return end

    def _hear_ourselves(self, media: MediaSession, audio_format: AudioFormat) -> Callable[[], None]:
        """What the first of its listeners is sent may come back as an echo."""
        ear = self._ear
        if ear is None:
            return _nothing

        def tap(heard: bytes, sent: bytes) -> None:
            ear.sent(sent)

        ear.sends_in(audio_format)
        media.tap(tap)
        return lambda: media.untap(tap)

    def hear(self, frame: bytes) -> None:
        """One frame, 20 ms in ``hearing``."""
        self._connection.send_audio(frame if self._ear is None else self._ear.hear(frame))

    def send(self, command: BridgeInput) -> None:
        """What concerns an item that is not its own is not the provider's business."""
        if isinstance(command, Interrupt):
            if command.item not in self._known:
                return
            command = replace(command, item=command.item.removeprefix(self._prefix))
        self._connection.send(command)

    def forget(self, item: str) -> None:
        """``item`` was cut: whatever still comes of it is not played."""
        self._remember_cut(item)
        self.audio_ms.pop(item, None)
        for output in self._outputs:
            output.media.flush(item)

    def _remember_cut(self, item: str) -> None:
        self._cut[item] = None
        while len(self._cut) > MAX_CUT_ITEMS:
            self._cut.popitem(last=False)

    @property
    def judges_interruption(self) -> bool:
        """An ``InterruptionJudged`` follows when the caller is heard over the agent."""
        return self._ear is not None or self.profile.judges_interruption

    def items_since(self, responses: int) -> frozenset[str]:
        """Those of answers that began when there had been so many."""
        return frozenset(item for item, number in self._known.items() if number > responses)

    @property
    def responding(self) -> bool:
        """Between the provider's ``ResponseStarted`` and ``ResponseDone``: more audio may come."""
        return self._responding

    async def close(self) -> None:
        for task in self._judging:
            task.cancel()
        await self._connection.close()

    def _make_ear(self, bridges: Bridges) -> CallerEar:
        english = self.agent.language.lower()[:2] in ("", "en")
        if english and not self.profile.judges_interruption:
            self._judge = bridges.judge
        return CallerEar(self.profile, self.hearing, self, None if self._judge is None else self._ask)

    def _ask(self, audio: bytes, speech_ms: int, tell: Callable[[bool | None], None]) -> None:
        """Let the recogniser judge what the caller said over the agent."""
        task = asyncio.get_running_loop().create_task(self._ask_judge(audio, speech_ms, tell))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _ask_judge(self, audio: bytes, speech_ms: int, tell: Callable[[bool | None], None]) -> None:
        assert self._judge is not None
        tell(await self._judge(audio, self.hearing, speech_ms))

    # ── BridgeListener ───────────────────────────────────────────────────────────────────────────────────

    def audio_out(self, item: str, audio: bytes) -> None:
        item = self._prefix + item
        if item in self._cut:
            return
        if not audio:
            return
        if item not in self.audio_ms:
            self._know(item)
            while len(self.audio_ms) >= MAX_ITEMS:
                del self.audio_ms[next(iter(self.audio_ms))]
        self.audio_ms[item] = self.audio_ms.get(item, 0) + len(audio) // self._output_format.bytes_per_ms
        for output in self._outputs:
            output.media.play(item, output.convert(audio) if output.convert is not None else audio)

    def _know(self, item: str) -> None:
        self._known[item] = self.responses
        while len(self._known) > MAX_KNOWN_ITEMS:
            self._known.popitem(last=False)

    def bridge_event(self, event: BridgeEvent) -> None:
        if isinstance(event, TranscriptDelta) and len(event.text) > MAX_CHARACTERS:
            event = replace(event, text=event.text[:MAX_CHARACTERS])
        if self._prefix and isinstance(event, TranscriptDelta | AudioDone | Interrupted):
            event = replace(event, item=self._prefix + event.item)
        if self._ear is None:
            self.emit(event)
        else:
            self._ear.observe(event)

    def emit(self, event: BridgeEvent) -> None:
        """What the call is to know."""
        self._follow(event)
        self._report(event)

    def _follow(self, event: BridgeEvent) -> None:
        match event:
            case Ready():
                self._ready.set()
            case BridgeFault() if not self._ready.is_set():
                self._fault = event
                self._ready.set()
            case AudioDone(item=item) if item not in self._cut:
                self._finish(item)
            case Interrupted(item=item):
                self._remember_cut(item)
            case ResponseStarted():
                self._responding = True
                self.responses += 1
            case ResponseDone():
                self._responding = False
            case ToolCall(name=name) if ends_answer(name, self.agent):
                self._responding = False
            case BridgeFault():
                self._break_off()
            case UsageReported(units=units, amount=amount) if units in self._used or len(self._used) < MAX_UNITS:
                self._used[units] = self._used.get(units, 0.0) + amount
            case _:
                pass

    def _break_off(self) -> None:
        """Nothing more will come of what it was saying."""
        self._responding = False
        self.broken = frozenset(self.audio_ms)
        for item in self.audio_ms:
            self._finish(item)

    def _finish(self, item: str) -> None:
        for output in self._outputs:
            output.media.finish(item)


def _nothing() -> None:
    """There is nothing to unplug."""


def _preferred(formats: tuple[AudioFormat, ...], leg_format: AudioFormat) -> AudioFormat:
    """The leg's own format where the provider takes it (untouched bytes), else what it is converted to with the least
    loss and work: nothing of its band cut off, the nearest rate, its own encoding, the provider's best.
    """

    def cost(candidate: AudioFormat) -> tuple[bool, int, bool]:
        beyond_hz = candidate.sample_rate_hz - leg_format.sample_rate_hz
        return beyond_hz < 0, abs(beyond_hz), candidate.encoding is not leg_format.encoding

    return min(formats, key=cost)
