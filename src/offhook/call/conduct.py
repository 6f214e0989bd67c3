"""How a call is conducted once it has a leg and an agent: who hears whom, turns, tools, digits, recording.

Carries out what the pure modules decide; the lifetime is ``CallSession``'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import assert_never

from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeFault,
    BridgeInput,
    Digits,
    Expiring,
    Interrupted,
    InterruptionJudged,
    Ready,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolCallCancelled,
    ToolResult,
    TranscriptDelta,
    UsageReported,
)
from offhook.call.agent_session import AgentSession
from offhook.call.controls import CallControls
from offhook.call.inbox import (
    AgentFact,
    AgentFailed,
    AgentReady,
    BriefingJudged,
    Hold,
    MediaFact,
    Timer,
    ToolAnswered,
    TransferCaller,
)
from offhook.call.leg import Leg
from offhook.call.mid_call import MidCall
from offhook.call.routing import agent_port, leg_port, tap_port
from offhook.call.tool_runs import ToolRuns
from offhook.call.tools import (
    AskServer,
    HangUpAfterSpeech,
    JudgeTransfer,
    ReturnResult,
    SendDigits,
    SendText,
    StartTransfer,
    run_tool,
)
from offhook.call.turn_taking import TurnTaking
from offhook.call.wiring import Wiring
from offhook.media.events import Drained, DtmfReceived, MediaEvent, MediaTimedOut, PathChanged, SpeechSent
from offhook.media.recorder import Recorder
from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    CallFact,
    DigitReceived,
    InterimTranscript,
    LiveSignal,
    MediaPathChanged,
    ProviderFailed,
    RecordingWritten,
    SpeechStateChanged,
    ToolCalled,
)
from offhook.model.errors import BridgeError
from offhook.model.records import Agent, Tool
from offhook.rtp.telephone_event import DigitPressed
from offhook.sdp.offer_answer import Agreement
from offhook.sip.events import SipEvent

GOODBYE_LIMIT_S = 20.0
"""An agent that wants to hang up may finish speaking; longer than any goodbye, shorter than a complaint."""

RECORDER = tap_port("recorder")


class Conduct:
    """One leg and one agent, from ringing to the end. ``agent_key``: how the agent's facts are told from another's."""

    def __init__(self, call: CallControls, leg: Leg, agent: Agent, wiring: Wiring, agent_key: str = "") -> None:
        """Raises ``BridgeError`` when the agent's provider does not exist or refuses its options."""
        self._call = call
        self._leg = leg
        self._key = agent_key
        self._agent = AgentSession(
            call_id=call.call_id,
            agent=agent,
            bridges=call.equipment.bridges,
            leg_format=leg.format,
            report=lambda event: call.deliver(AgentFact(event=event, leg_id=agent_key)),
        )
        self._turns = TurnTaking(
            agent=self._agent,
            media=leg.media,
            emit=self._emit,
            wake_at=lambda at: call.arm("judgement", at - time.monotonic(), agent_key),
        )
        self._wiring = wiring
        self._mid_call = MidCall(call, leg, wiring, self)
        self._tools = ToolRuns(call, agent.agent_id, agent_key)
        self._recorder: Recorder | None = None
        self._after_speech: Callable[[], None] | None = None
        self._pass_key: Callable[[DigitPressed], None] | None = None
        self._answered = False
        self._left = False
        self._fault = ""
        self.talking = False
        self._early_hold = False
        if not agent_key:
            leg.media.expect(leg.format)
        wiring.add_agent(agent_port(agent_key or leg.leg_id), self._agent)
        if not agent_key:
            wiring.play_on_hold(agent.hold_audio)
        wiring.seat()

    @property
    def agent(self) -> Agent:
        return self._agent.agent

    def _emit(self, fact: CallFact) -> None:
        self._call.emit(fact, self._leg.leg_id)

    # ── coming up ────────────────────────────────────────────────────────────────────────────────────────

    def engage(self) -> None:
        """Open the provider, in parallel with the ringing; ``AgentReady`` or ``AgentFailed`` follows."""
        self._call.spawn(self._open())

    async def _open(self) -> None:
        try:
            await self._agent.open()
        except BridgeError as error:
            self._call.deliver(AgentFailed(error=error, leg_id=self._key))
            return
        self._call.deliver(AgentReady(leg_id=self._key))

    def answered(self, agreement: Agreement | None) -> None:
        """The leg is up: times count from now, RTP flows where the agreement stands, the duration is watched."""
        self._answered = True
        self._turns.answered(time.monotonic())
        self._emit(AgentJoined(agent_id=self._agent.agent.agent_id, provider=self._agent.profile.provider))
        self._call.arm("duration_limit", self._agent.agent.max_call_s, self._key)
        if agreement is not None:
            self.start_media(agreement)

    def start_media(self, agreement: Agreement) -> None:
        self._leg.start_media(agreement)
        if self._leg.format_changed():
            self._wiring.follow(leg_port(self._leg.leg_id))
            self.format_changed()
        self._wiring.seat(up=True, rings=False)

    def begin(self) -> None:
        """Media flows both ways and the agent may be heard. What an agent tells an operator is not recorded."""
        if not self._key:
            self._record()
        self._leg.media.confirm()
        self._leg.media.resume()
        self.talking = True
        if self._early_hold:
            self._call.deliver(Hold(wanted=True))

    def hear_early(self) -> None:
        """The called side plays something before it answers: it is recorded, and no agent speaks into it."""
        self._record()

    def _record(self) -> None:
        equipment = self._call.equipment
        if equipment.recordings is None or not self._agent.agent.record or self._recorder is not None:
            return
        path = equipment.recordings_folder / f"{self._call.call_id}.wav"
        self._recorder = equipment.recordings.open(path, self._leg.media.format)
        self._wiring.add_tap(RECORDER, self._recorder.write)
        self._wiring.seat(taps=frozenset({RECORDER}))

    # ── while it is up ───────────────────────────────────────────────────────────────────────────────────

    def observe(self, fact: MediaFact | AgentFact | ToolAnswered | Hold) -> None:
        """What its own leg's media and its own agent tell, and commands; anything else is somebody else's."""
        match fact:
            case MediaFact(leg_id=self._leg.leg_id, event=media_event):
                self._on_media(media_event)
            case AgentFact(leg_id=self._key, event=bridge_event) if not self._left:
                self._on_agent(bridge_event)
            case ToolAnswered(leg_id=self._key) if self._tools.answered(fact):
                told = fact.told
                self._emit(told)
                self.tell(ToolResult(tool_call_id=told.tool_call_id, output=told.output, is_error=told.is_error))
            case Hold(wanted=wanted) if self.talking:
                self.hold(wanted)
                if not wanted and self._fault:
                    self._give_up(self._fault)
            case Hold(wanted=wanted) if not self._key:
                self._early_hold = wanted  # asked for before the talk has begun
            case _:
                pass

    def _on_media(self, event: MediaEvent) -> None:
        match event:
            case Drained():
                self._turns.drained(event)
                self._act_when_silent()
            case SpeechSent():
                self._turns.speech_sent(event)
            case DtmfReceived():
                self._mid_call.heard(event)
            case MediaTimedOut(after_s=after_s):
                self._call.end(by="system", cause="media_timeout", reason=f"no RTP for {after_s:g} s")
            case PathChanged(remote=remote):
                self._emit(MediaPathChanged(remote_address=f"{remote[0]}:{remote[1]}"))
            case _:
                assert_never(event)

    def _on_agent(self, event: BridgeEvent) -> None:
        match event:
            case SpeechStarted() | SpeechStopped() | InterruptionJudged() | TranscriptDelta() | Interrupted():
                self._signal(event)
                self._turns.observe(event)
                self._act_when_silent()
            case ToolCall():
                self._run_tool(event)
            case BridgeFault(problem=problem, verdict=verdict):
                self._on_fault(problem, verdict)
            case AudioDone() | ResponseStarted() | ResponseDone() | Ready():
                self._act_when_silent()
            case ToolCallCancelled(tool_call_id=tool_call_id):
                self._tools.cancel(tool_call_id)
            case UsageReported() | Expiring():
                pass
            case _:
                assert_never(event)

    def on_timer(self, timer: Timer) -> None:
        if timer == "digits":
            self._mid_call.keypad.on_timer()
        elif timer == "judgement":
            self._turns.deadline_passed(time.monotonic())
            self._act_when_silent()
        elif timer == "goodbye":
            self._act_now()

    def on_sip(self, event: SipEvent) -> None:
        """Something happened in the leg's dialog."""
        self._mid_call.observe(event)

    def format_changed(self) -> None:
        if self._recorder is not None:
            self._recorder.follow(self._leg.format)

    def pressed(self, key: DigitPressed) -> None:
        self._emit(DigitReceived(digit=key.digit, duration_ms=key.duration_ms))
        self._turns.digit_received()
        self.tell(Digits(digits=key.digit))
        if self._pass_key is not None:
            self._pass_key(key)

    def wrote(self, text: str) -> None:
        self.tell(TextInput(role="user", text=text, respond=True))

    def _signal(self, event: BridgeEvent) -> None:
        signal: LiveSignal
        match event:
            case TranscriptDelta(final=False, speaker=speaker, text=text):
                signal = InterimTranscript(call_id=self._call.call_id, speaker=speaker, text=text)
            case SpeechStarted() | SpeechStopped():
                speaking = isinstance(event, SpeechStarted)
                signal = SpeechStateChanged(call_id=self._call.call_id, speaker="caller", speaking=speaking)
            case _:
                return
        self._call.equipment.events.signal(signal)

    def _run_tool(self, call: ToolCall) -> None:
        self._emit(ToolCalled(tool=call.name, arguments=call.arguments, tool_call_id=call.tool_call_id))
        for command in run_tool(call, self._agent.agent):
            match command:
                case HangUpAfterSpeech(reason=reason):
                    self.after_speech(partial(self._call.end, by="agent", cause="hangup", reason=reason))
                case SendDigits(digits=digits):
                    self._send_digits(call.tool_call_id, digits)
                case SendText(text=text):
                    self._leg.send_text(text)
                case ReturnResult(result=result):
                    self._agent.send(result)
                case StartTransfer(destination=destination):
                    wanted = TransferCaller(destination=destination, tool_call_id=call.tool_call_id)
                    self._call.deliver(wanted)
                case JudgeTransfer(accept=accept):
                    self._call.deliver(BriefingJudged(accept=accept))
                case AskServer(tool=tool, arguments=arguments):
                    self._ask_server(tool, call, arguments)
                case _:
                    assert_never(command)

    def _ask_server(self, tool: Tool, call: ToolCall, arguments: str) -> None:
        problem = self._tools.begin(tool, call, arguments)
        if problem:
            self.tell(ToolResult(tool_call_id=call.tool_call_id, output=problem, is_error=True))

    def _send_digits(self, tool_call_id: str, digits: str) -> None:
        sent = self._mid_call.keypad.press(digits)
        output = f"sent {digits}" if sent else "not sent: the other side takes no digits, or too many wait already"
        self.tell(ToolResult(tool_call_id=tool_call_id, output=output, is_error=not sent))

    def _on_fault(self, problem: str, verdict: str) -> None:
        self._emit(ProviderFailed(provider=self._agent.profile.provider, problem=problem, verdict=verdict))
        if verdict != "retry":
            self._fault = problem
            if self._wiring.seating.stage == "talking":
                self._give_up(problem)

    def _give_up(self, problem: str) -> None:
        """Without its agent the call ends; but not while the caller is on his way to somebody else."""
        self.after_speech(
            partial(self._call.end, by="system", cause="provider_failed", reason=problem, provider_fault=problem)
        )

    # ── after what is being said ─────────────────────────────────────────────────────────────────────────

    def after_speech(self, act: Callable[[], None]) -> None:
        """Do this once everything queued was heard, or after ``GOODBYE_LIMIT_S``; whoever asks first is served."""
        if self._after_speech is None:
            self._after_speech = act
            self._call.arm("goodbye", GOODBYE_LIMIT_S, self._key)
        self._act_when_silent()

    def _act_when_silent(self) -> None:
        if self._after_speech is not None and not self._turns.agent_audible and not self._agent.responding:
            self._act_now()

    def _act_now(self) -> None:
        act, self._after_speech = self._after_speech, None
        self._call.disarm("goodbye", self._key)
        if act is not None:
            act()

    # ── waiting and transfers ────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, wanted: bool) -> None:
        """Let the remote party wait, hearing the hold audio, or take it back. Not in the middle of a transfer."""
        stage = self._wiring.seating.stage
        if stage == ("talking" if wanted else "waiting") and self._wiring.seating.operator is None:
            self._leg.hold(wanted)
            self._wiring.seat(stage="waiting" if wanted else "talking")

    def tell(self, command: BridgeInput) -> None:
        """Something the agent should know."""
        if not self._left:
            self._agent.send(command)

    def take_back(self, news: BridgeInput) -> None:
        """The caller is the agent's again, which learns why; an agent that is gone meanwhile cannot have him."""
        if self._fault:
            self._give_up(self._fault)
        else:
            self.tell(news)

    def cut(self) -> None:
        """Silence at once: what is queued is not said."""
        self._turns.close()

    def leave(self, reason: str) -> None:
        """The agent's part is over; the call goes on without it, and so does the recording."""
        if not self._left:
            self._left = True
            self._turns.close()
            self._tools.stop()
            self._call.disarm("goodbye", self._key)
            self._call.spawn(self._agent.close())
            self._emit(AgentLeft(agent_id=self._agent.agent.agent_id, reason=reason))

    def pass_keys(self, take: Callable[[DigitPressed], None]) -> None:
        """Keys of the remote party are somebody else's business as well, from here on."""
        self._pass_key = take

    def press(self, digits: str) -> None:
        """Send digits to the remote party."""
        self._mid_call.keypad.press(digits)

    def move_to(self, leg: Leg) -> None:
        """The agent goes on with another party, from here on."""
        self._turns.move_to(leg.media)
        self._leg = leg
        self._mid_call = MidCall(self._call, leg, self._wiring, self)
        self.format_changed()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """The call ends: the transcript closes with what was heard up to here."""
        self._turns.close()
        self._tools.stop()
        self._wiring.clear()

    async def close(self) -> None:
        """Close the provider and the recording, and report both."""
        await self._agent.close()
        if self._answered and not self._left:
            self._left = True
            self._emit(AgentLeft(agent_id=self._agent.agent.agent_id, reason="call ended"))
        if self._recorder is not None:
            duration_ms = self._recorder.close()
            await self._recorder.written()
            if self._recorder.problem is None:
                self._emit(RecordingWritten(path=str(self._recorder.path), duration_ms=duration_ms))
