"""How a call is conducted once it has a leg and an agent: who hears whom, turns, tools, digits, recording.

Carries out what the pure modules decide; the lifetime is ``CallSession``'s.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Protocol, assert_never

from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeFault,
    Digits,
    Expiring,
    Interrupted,
    InterruptionJudged,
    Ready,
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolCallCancelled,
    TranscriptDelta,
    UsageReported,
)
from offhook.call.agent_session import AgentSession
from offhook.call.equipment import Equipment
from offhook.call.inbox import AgentFact, AgentFailed, AgentReady, InboxFact, Timer
from offhook.call.leg import Leg
from offhook.call.negotiation import Unacceptable
from offhook.call.routing import Port, RoutedLeg, agent_port, leg_port, route, tap_port
from offhook.call.tools import HangUpAfterSpeech, ReturnResult, SendDigits, run_tool
from offhook.call.turn_taking import TurnTaking
from offhook.call.wiring import Wiring
from offhook.media.events import Drained, DtmfReceived, MediaEvent, MediaTimedOut, PathChanged, SpeechSent
from offhook.media.recorder import Recorder
from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    CallFact,
    CallRefused,
    DigitReceived,
    EndCause,
    EndedBy,
    InterimTranscript,
    LiveSignal,
    MediaPathChanged,
    ProviderFailed,
    RecordingWritten,
    SpeechStateChanged,
    ToolCalled,
)
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.sdp.offer_answer import Agreement
from offhook.sip.events import ReinviteAnswered, ReinviteReceived

GOODBYE_LIMIT_S = 20.0
"""An agent that wants to hang up may finish speaking; longer than any goodbye, shorter than a complaint."""

RECORDER = tap_port("recorder")


class CallControls(Protocol):
    """What a conduct may do to its call; ``CallSession`` implements it."""

    call_id: str
    equipment: Equipment

    def emit(self, fact: CallFact) -> None: ...

    def deliver(self, fact: InboxFact) -> None: ...

    def spawn(self, work: Coroutine[None, None, None]) -> None: ...

    def arm(self, timer: Timer, delay_s: float) -> None: ...

    def end(self, *, by: EndedBy, cause: EndCause, reason: str = "", provider_fault: str | None = None) -> None: ...


class Conduct:
    """One leg and one agent, from ringing to the end."""

    def __init__(self, call: CallControls, leg: Leg, agent: Agent) -> None:
        """Raises ``BridgeError`` when the agent's provider does not exist or refuses its options."""
        self._call = call
        self._leg = leg
        self._agent = AgentSession(
            call_id=call.call_id,
            agent=agent,
            bridges=call.equipment.bridges,
            leg_format=leg.format,
            report=lambda event: call.deliver(AgentFact(event=event)),
        )
        self._turns = TurnTaking(
            agent=self._agent,
            media=leg.media,
            emit=call.emit,
            wake_at=lambda at: call.arm("judgement", at - time.monotonic()),
        )
        self._wiring = Wiring()
        self._wiring.add_leg(leg_port(leg.leg_id), leg)
        self._wiring.add_agent(agent_port(agent.agent_id), self._agent)
        self._recorder: Recorder | None = None
        self._saying_goodbye: str | None = None
        self._goodbye_end: tuple[EndedBy, EndCause, str | None] = ("agent", "hangup", None)
        self._answered = False
        self.talking = False
        self._reroute()

    @property
    def agent(self) -> Agent:
        return self._agent.agent

    # ── coming up ────────────────────────────────────────────────────────────────────────────────────────

    def engage(self) -> None:
        """Open the provider, in parallel with the ringing; ``AgentReady`` or ``AgentFailed`` follows."""
        self._call.spawn(self._open())

    async def _open(self) -> None:
        try:
            await self._agent.open()
        except BridgeError as error:
            self._call.deliver(AgentFailed(error=error))
            return
        self._call.deliver(AgentReady())

    def answered(self, agreement: Agreement | None) -> None:
        """The leg is up: times count from now, RTP flows where the agreement stands, the duration is watched."""
        self._answered = True
        self._turns.answered(time.monotonic())
        self._call.emit(AgentJoined(agent_id=self._agent.agent.agent_id, provider=self._agent.profile.provider))
        self._call.arm("duration_limit", self._agent.agent.max_call_s)
        if agreement is not None:
            self.start_media(agreement)

    def start_media(self, agreement: Agreement) -> None:
        self._leg.start_media(agreement)
        self._agent.follow(self._leg.format)

    def begin(self) -> None:
        """Media flows both ways and the agent may be heard."""
        self._start_recorder()
        self._leg.media.confirm()
        self._leg.media.resume()
        self.talking = True

    def _start_recorder(self) -> None:
        equipment = self._call.equipment
        if equipment.recordings is None or not self._agent.agent.record or self._recorder is not None:
            return
        path = equipment.recordings_folder / f"{self._call.call_id}.wav"
        self._recorder = equipment.recordings.open(path, self._leg.format.encoding)
        self._wiring.add_tap(RECORDER, self._recorder.write)
        self._reroute()

    def _reroute(self) -> None:
        legs = (RoutedLeg(port=leg_port(self._leg.leg_id)),)
        taps: tuple[Port, ...] = (RECORDER,) if self._recorder is not None else ()
        self._wiring.apply(route(legs, (agent_port(self._agent.agent.agent_id),), taps))

    # ── while it is up ───────────────────────────────────────────────────────────────────────────────────

    def on_media(self, event: MediaEvent) -> None:
        match event:
            case Drained():
                self._turns.drained(event)
                self._hang_up_when_silent()
            case SpeechSent():
                self._turns.speech_sent(event)
            case DtmfReceived(digit=digit, duration_ms=duration_ms):
                self._call.emit(DigitReceived(digit=digit, duration_ms=duration_ms))
                self._turns.digit_received()
                self._agent.send(Digits(digits=digit))
            case MediaTimedOut(after_s=after_s):
                self._call.end(by="system", cause="media_timeout", reason=f"no RTP for {after_s:g} s")
            case PathChanged(remote=remote):
                self._call.emit(MediaPathChanged(remote_address=f"{remote[0]}:{remote[1]}"))
            case _:
                assert_never(event)

    def on_agent(self, event: BridgeEvent) -> None:
        match event:
            case SpeechStarted() | SpeechStopped() | InterruptionJudged() | TranscriptDelta() | Interrupted():
                self._signal(event)
                self._turns.observe(event)
                self._hang_up_when_silent()
            case ToolCall():
                self._run_tool(event)
            case BridgeFault(problem=problem, verdict=verdict):
                self._on_fault(problem, verdict)
            case AudioDone() | ResponseStarted() | ResponseDone() | Ready():
                self._hang_up_when_silent()
            case ToolCallCancelled() | UsageReported() | Expiring():
                pass
            case _:
                assert_never(event)

    def on_timer(self, timer: Timer) -> None:
        if timer == "judgement":
            self._turns.deadline_passed(time.monotonic())
            self._hang_up_when_silent()
        elif timer == "goodbye":
            self._hang_up_now()

    def on_reinvite(self, event: ReinviteReceived | ReinviteAnswered) -> None:
        if isinstance(event, ReinviteReceived):
            refused = self._leg.answer_reinvite(event.request.body)
            if refused is not None:
                self._explain(refused)
                return
        else:
            self.accept_offer_answer(event.response.body)
        self._follow_codec()

    def _follow_codec(self) -> None:
        """A re-INVITE may have changed the leg's codec; agent and recording go on in theirs."""
        self._agent.follow(self._leg.format)
        if self._recorder is not None:
            self._recorder.follow(self._leg.format.encoding)

    def accept_offer_answer(self, body: bytes) -> Unacceptable | None:
        """The peer's answer to our re-offer; the session stays as it was when it cannot be used."""
        accepted = self._leg.negotiation.accept(body)
        if isinstance(accepted, Unacceptable):
            self._explain(accepted)
            return accepted
        self._leg.apply_agreement()
        return None

    def _explain(self, refused: Unacceptable) -> None:
        fix = "offer PCMU or PCMA at 8000 Hz over RTP/AVP"
        self._call.emit(CallRefused(status=refused.status, rule="RFC 3264", evidence=refused.why, fix=fix))

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
        self._call.emit(ToolCalled(tool=call.name, arguments=call.arguments))
        for command in run_tool(call):
            match command:
                case HangUpAfterSpeech(reason=reason):
                    self._say_goodbye(reason)
                case SendDigits(digits=digits):
                    self._leg.media.send_dtmf(digits)
                case ReturnResult(result=result):
                    self._agent.send(result)
                case _:
                    assert_never(command)

    def _on_fault(self, problem: str, verdict: str) -> None:
        self._call.emit(ProviderFailed(provider=self._agent.profile.provider, problem=problem, verdict=verdict))
        if verdict != "retry":
            self._goodbye_end = ("system", "provider_failed", problem)
            self._say_goodbye(problem)

    def _say_goodbye(self, reason: str) -> None:
        """Hang up once everything queued was heard, or after the limit."""
        if self._saying_goodbye is None:
            self._saying_goodbye = reason
            self._call.arm("goodbye", GOODBYE_LIMIT_S)
        self._hang_up_when_silent()

    def _hang_up_when_silent(self) -> None:
        if self._saying_goodbye is not None and not self._turns.agent_audible and not self._agent.responding:
            self._hang_up_now()

    def _hang_up_now(self) -> None:
        by, cause, fault = self._goodbye_end
        self._call.end(by=by, cause=cause, reason=self._saying_goodbye or "", provider_fault=fault)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """The call ends: the transcript closes with what was heard up to here."""
        self._turns.close()
        self._wiring.apply(frozenset())

    async def close(self) -> None:
        """Close the provider and the recording, and report both."""
        await self._agent.close()
        if self._answered:
            self._call.emit(AgentLeft(agent_id=self._agent.agent.agent_id, reason="call ended"))
        if self._recorder is not None:
            duration_ms = self._recorder.close()
            await self._recorder.written()
            if self._recorder.problem is None:
                self._call.emit(RecordingWritten(path=str(self._recorder.path), duration_ms=duration_ms))
