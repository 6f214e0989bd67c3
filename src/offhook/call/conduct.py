"""How a call is conducted once it has a leg and an agent: who hears whom, turns, tools, digits, silence, goodbyes.

Carries out what the pure modules decide; the lifetime is ``CallSession``'s, the provider's is ``AgentSeat``'s.
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
from offhook.call.agent_seat import AgentSeat
from offhook.call.agent_session import AgentSession
from offhook.call.controls import CallControls
from offhook.call.inbox import (
    AgentFact,
    AgentFailed,
    AgentLost,
    AgentReady,
    Hold,
    Inject,
    MediaFact,
    SayText,
    Timer,
    ToolAnswered,
    Voiced,
)
from offhook.call.leg import Leg
from offhook.call.live_signals import live_signal
from offhook.call.mid_call import MidCall
from offhook.call.own_words import OWN_ITEM, OwnWords
from offhook.call.parting import Parting
from offhook.call.recording import Recording
from offhook.call.routing import agent_port, leg_port
from offhook.call.silence import Silence
from offhook.call.tool_desk import ToolDesk
from offhook.call.turn_taking import FloorEvent, TurnTaking
from offhook.call.watched_talk import WatchedTalk
from offhook.call.wiring import Wiring
from offhook.media.events import Drained, DtmfReceived, MediaEvent, MediaTimedOut, PathChanged, SpeechSent
from offhook.media.session import MediaSession
from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    CallFact,
    DigitReceived,
    EndCause,
    EndedBy,
    MediaPathChanged,
    TurnSpoken,
)
from offhook.model.records import Agent
from offhook.rtp.telephone_event import DigitPressed
from offhook.sdp.offer_answer import Agreement
from offhook.sip.events import SipEvent

LAST_WORDS_S = 5.0
"""For a goodbye that the call asks for: one short sentence, and the time to begin it."""

GOODBYE = TextInput(
    role="system",
    text="The call ends now. Say goodbye to the caller in one short sentence, and nothing else.",
    respond=True,
    plainly="Goodbye",
)


ConductFact = MediaFact | AgentFact | AgentReady | AgentFailed | ToolAnswered | Hold | SayText | Inject | Voiced


class Conduct:
    """One leg and one agent, from ringing to the end. ``agent_key``: how the agent's facts are told from another's."""

    def __init__(
        self, call: CallControls, leg: Leg, agent: Agent, wiring: Wiring, agent_key: str = "", *, resumed: bool = False
    ) -> None:
        """``resumed``: the talk began in another process. Raises ``BridgeError`` when the agent's provider does not
        exist or refuses its options, and no other one can take its place.
        """
        self._call = call
        self._leg = leg
        self._key = agent_key
        self._port = agent_port(agent_key or leg.leg_id)
        self.agent = agent
        self._seat = AgentSeat(call, leg, agent, agent_key, self, resumed=resumed)
        self._parting = Parting(call, agent_key, lambda: self.silent)
        self._turns = TurnTaking(
            agent=self._seat.session,
            media=leg.media,
            emit=self.record,
            wake_at=lambda at: call.arm("judgement", at - time.monotonic(), agent_key),
            protected=lambda: self._parting.pending,
        )
        self._wiring = wiring
        self._mid_call = MidCall(call, leg, wiring, self)
        self._tools = ToolDesk(call, agent_key, wiring, self)
        self._recording = Recording(call, wiring, wanted=agent.record and not agent_key)
        self._own_words = OwnWords(call, self._turns, self)
        say = partial(self._own_words.say, exact=True)
        give_up = partial(self.part, by="system", cause="silence_timeout", reason="nobody spoke any more")
        self._silence = Silence(call, agent_key, agent, say=say, give_up=give_up)
        self._pass_key: Callable[[DigitPressed], None] | None = None
        self._caller_speaks = False
        self._left = False
        self._early_hold = False
        self.is_answered = False
        self.talking = False
        self.watched = WatchedTalk(
            call, self, wiring, seat=self._seat, turns=self._turns, parting=self._parting, own_words=self._own_words
        )
        if not agent_key:
            leg.media.expect(leg.format)
        wiring.add_agent(self._port, self._seat.session)
        if not agent_key:
            wiring.play_on_hold(agent.hold_audio)
        wiring.seat()

    def record(self, fact: CallFact) -> None:
        if isinstance(fact, TurnSpoken):
            self._seat.spoken(fact)
        self._call.emit(fact, self._leg.leg_id)

    # ── coming up ────────────────────────────────────────────────────────────────────────────────────────

    def engage(self, *, begins: bool = False) -> None:
        """Open the provider, in parallel with the ringing; ``AgentReady``, ``AgentFailed`` or ``AgentLost`` follows.

        ``begins``: it may prepare its greeting at once; else with ``begin``. One that greets as soon as it is open is
        opened no sooner.
        """
        self._seat.open(begins=begins)

    def answered(self, agreement: Agreement | None) -> None:
        """The leg is up: times count from now, RTP flows where the agreement stands, the duration is watched."""
        self.is_answered = True
        self._turns.answered(time.monotonic())
        self.record(AgentJoined(agent_id=self.agent.agent_id, provider=self._seat.session.profile.provider))
        self._call.arm("duration_limit", self.agent.max_call_s, self._key)
        if agreement is not None:
            self.start_media(agreement)

    def start_media(self, agreement: Agreement) -> None:
        self._leg.start_media(agreement)
        if self._leg.format_changed():
            self._wiring.follow(leg_port(self._leg.leg_id))
            self.format_changed()
        self._wiring.seat(up=not self.watched.withholds, rings=False)

    def begin(self) -> None:
        """Media flows both ways and the agent may be heard, if it is not withheld. What an agent tells an operator is
        not recorded."""
        self._recording.begin(self._leg)
        self._leg.media.confirm()
        self.talking = True
        if self._early_hold:
            self._call.deliver(Hold(wanted=True))
        self.watched.begin()
        self._settle()

    def hear_early(self) -> None:
        """The called side plays something before it answers: it is recorded, and no agent speaks into it."""
        self._recording.begin(self._leg)

    # ── while it is up ───────────────────────────────────────────────────────────────────────────────────

    def observe(self, fact: ConductFact) -> None:
        """What its own leg's media and its own agent tell, and commands; anything else is somebody else's."""
        match fact:
            case MediaFact(leg_id=self._leg.leg_id, event=media_event):
                self._on_media(media_event)
            case AgentFact(event=bridge_event) if self._seat.is_of_now(fact):
                self._on_agent(bridge_event)
            case AgentReady(leg_id=self._key) | AgentFailed(leg_id=self._key):
                self._seat.observe(fact)
            case ToolAnswered(leg_id=self._key):
                self._tools.answered(fact)
            case Hold() if not self._key:
                self._hold_as_told(fact.wanted)
            case SayText(text=text, exact=exact) if not self._key:
                self._own_words.say(text, exact=exact)
            case Inject(text=text_input) if not self._key:
                self.tell(text_input)
            case Voiced() if not self._key:
                self._own_words.voiced(fact)
            case _:
                pass
        self._settle()

    def _on_media(self, event: MediaEvent) -> None:
        match event:
            case Drained():
                self._turns.drained(event)
            case SpeechSent():
                self._turns.speech_sent(event)
                if not event.item.startswith(OWN_ITEM):
                    self._seat.heard(event.item)
            case DtmfReceived():
                self._mid_call.heard(event)
            case MediaTimedOut(after_s=after_s):
                self._call.end(by="system", cause="media_timeout", reason=f"no RTP for {after_s:g} s")
            case PathChanged(remote=remote):
                self.record(MediaPathChanged(remote_address=f"{remote[0]}:{remote[1]}"))
            case _:
                assert_never(event)

    def _on_agent(self, event: BridgeEvent) -> None:
        self._seat.follow(event)
        match event:
            case SpeechStarted() | SpeechStopped() | InterruptionJudged() | TranscriptDelta() | Interrupted():
                self._listen(event)
            case ToolCall():
                self._tools.use(event)
            case ToolCallCancelled(tool_call_id=tool_call_id):
                self._tools.cancel(tool_call_id)
            case BridgeFault():
                self._broke(event)
            case Ready():
                self._seat.back()
            case ResponseStarted():
                self._parting.began()
                self._silence.agent_began()
            case AudioDone() | ResponseDone() | UsageReported() | Expiring():
                pass  # the session's and the seat's business
            case _:
                assert_never(event)

    def _broke(self, fault: BridgeFault) -> None:
        """What the caller is saying is lost, and who could have told that he stopped is gone."""
        if self._caller_speaks:
            self._seat.owes_words()
        self._caller_speaks = False
        self._seat.fault(fault)

    def _listen(self, event: FloorEvent) -> None:
        """Who has the floor."""
        if isinstance(event, SpeechStarted | SpeechStopped):
            self._caller_speaks = isinstance(event, SpeechStarted)
        if not isinstance(event, TranscriptDelta) or event.speaker == "caller":
            self._silence.sign_of_life()
        if isinstance(event, SpeechStopped):
            self._seat.owes_words()
        if (signal := live_signal(self._call.call_id, event)) is not None:
            self._call.equipment.events.signal(signal)
        self._turns.observe(event)

    def on_timer(self, timer: Timer) -> None:
        match timer:
            case "digits":
                self._mid_call.keypad.on_timer()
            case "judgement":
                self._turns.deadline_passed(time.monotonic())
            case "goodbye":
                self._parting.act_now()
            case "first_words":
                self._parting.words_are_due()
            case "filler":
                self._tools.fill()
            case "reassure":
                self._seat.reassurance_is_due()
            case "silence":
                self._silence.passed()
            case "duration_limit":
                self.part(by="system", cause="duration_limit", reason="the call reached its longest duration")
            case _:
                pass  # the call's, or a dial's
        self._settle()

    def on_sip(self, event: SipEvent) -> None:
        """Something happened in the leg's dialog."""
        self._mid_call.observe(event)
        self._settle()

    def _settle(self) -> None:
        """After everything that happened: what waits for silence is done, and who waits hears something."""
        self._parting.settle()
        self._tools.settle()
        self._seat.settle(silent=self._is_heard and not self._turns.audible)
        if self._silence.watches:
            self._silence.settle(quiet=self._expects_words)

    def format_changed(self) -> None:
        self._recording.follow(self._leg)

    def pressed(self, key: DigitPressed) -> None:
        self.record(DigitReceived(digit=key.digit, duration_ms=key.duration_ms))
        self._turns.digit_received()
        self._silence.sign_of_life()
        self.tell(Digits(digits=key.digit))
        if self._pass_key is not None:
            self._pass_key(key)

    def wrote(self, text: str) -> None:
        self._silence.sign_of_life()
        self.tell(TextInput(role="user", text=text, respond=True))

    # ── what the agent is told, and what is said for it ──────────────────────────────────────────────────

    def tell(self, command: BridgeInput) -> None:
        """Something the agent should know."""
        if self._left:
            return
        if isinstance(command, ToolResult) or (isinstance(command, TextInput) and command.respond):
            self._seat.owes_words()
        self._seat.session.send(command)

    @property
    def media(self) -> MediaSession:
        return self._leg.media

    @property
    def says_exactly(self) -> bool:
        return self._seat.is_open and self._seat.session.profile.exact_say

    def lasts(self, item: str, audio_ms: int) -> None:
        self._seat.session.audio_ms[item] = audio_ms

    def press(self, digits: str) -> bool:
        """Send digits to the remote party; whether it takes any."""
        return self._mid_call.keypad.press(digits)

    def write(self, text: str) -> None:
        """Write to the remote party by a SIP MESSAGE."""
        self._leg.send_text(text)

    # ── silence, and the end of what is being said ───────────────────────────────────────────────────────

    @property
    def silent(self) -> bool:
        """Nothing of the agent's is queued, and nothing of its present answer is still to come."""
        return not self._turns.audible and not self._seat.session.responding and not self._own_words.voicing

    @property
    def _is_heard(self) -> bool:
        """The caller hears the agent, when it speaks."""
        heard = self.talking and not self._left and not self.watched.withholds
        return heard and (bool(self._key) or self.watched.attends)

    @property
    def _expects_words(self) -> bool:
        """It is the caller's turn, and he says nothing."""
        nobody = self.silent and not self._caller_speaks and not self._tools.running
        at_rest = not self._parting.pending and not self._seat.vacant and not self._wiring.seating.away
        return nobody and at_rest and self._is_heard

    def after_speech(self, act: Callable[[], None]) -> None:
        """Do this once everything queued was heard, or after ``GOODBYE_LIMIT_S``; whoever asks first is served."""
        self._parting.after_speech(act)

    def hang_up_after_speech(self, reason: str, *, after_words: bool = False) -> None:
        """The agent wants it. ``after_words``: it was asked for a last word."""
        end = partial(self._call.end, by="agent", cause="hangup", reason=reason)
        self._parting.after_speech(end, after_words=after_words)

    def part(self, *, by: EndedBy, cause: EndCause, reason: str, within_s: float = LAST_WORDS_S) -> None:
        """The call ends; the agent may say goodbye where somebody hears it."""
        end = partial(self._call.end, by=by, cause=cause, reason=reason)
        if not self._is_heard or self._seat.vacant or self._parting.pending:
            end()
        else:
            self._parting.after_speech(end, within_s=within_s, after_words=True)
            self.tell(GOODBYE)

    # ── waiting and transfers ────────────────────────────────────────────────────────────────────────────

    def _hold_as_told(self, wanted: bool) -> None:
        if not self.talking:
            self._early_hold = wanted  # asked for before the talk has begun
            return
        self.hold(wanted)
        self._silence.sign_of_life()
        if not wanted:
            self._seat.fall_back()

    def hold(self, wanted: bool) -> None:
        """Let the remote party wait, hearing the hold audio, or take it back. Not in the middle of a transfer."""
        stage = self._wiring.seating.stage
        if stage == ("talking" if wanted else "waiting") and self._wiring.seating.operator is None:
            self._leg.hold(wanted)
            self._wiring.seat(stage="waiting" if wanted else "talking", up=wanted or not self.watched.withholds)

    def take_back(self, news: BridgeInput) -> None:
        """The caller is the agent's again, which learns why; where its provider is gone, another one has to do."""
        self._silence.sign_of_life()
        if self._seat.vacant:
            self._seat.fall_back()
        else:
            self.tell(news)

    def fall_back(self) -> None:
        """The caller goes nowhere else: where his agent's provider is gone, another one has to do."""
        self._seat.fall_back()

    def cut(self) -> None:
        """Silence at once: what is queued is not said."""
        self._turns.close()

    def leave(self, reason: str) -> None:
        """The agent's part is over; the call goes on without it, and so does the recording."""
        if not self._left:
            self._left = True
            self._turns.close()
            self._tools.stop()
            self._parting.drop()
            self._seat.leave()
            self.record(AgentLeft(agent_id=self.agent.agent_id, reason=reason))

    def pass_keys(self, take: Callable[[DigitPressed], None]) -> None:
        """Keys of the remote party are somebody else's business as well, from here on."""
        self._pass_key = take

    def move_to(self, leg: Leg) -> None:
        """The agent goes on with another party, from here on."""
        self._turns.move_to(leg.media)
        self._leg = leg
        self._seat.move_to(leg)
        self._mid_call = MidCall(self._call, leg, self._wiring, self)
        self.format_changed()

    # ── what the agent's seat needs ──────────────────────────────────────────────────────────────────────

    @property
    def unfinished(self) -> tuple[str, ...]:
        return self._turns.unfinished

    def seated(self, session: AgentSession) -> None:
        self._turns.go_on_with(session)
        self._wiring.replace_agent(self._port, session)

    def failed(self) -> None:
        """The provider is gone: not while the caller is on his way to somebody else, or to the end."""
        self._tools.stop()
        if self.watched.attends and not self._parting.pending:
            self._seat.fall_back()

    def reassure(self) -> None:
        self._own_words.prompt("one_moment")

    def play_recorded(self, audio: str, then: Callable[[], None]) -> None:
        self._own_words.recorded(audio)
        self._parting.after_speech(then)

    def give_up(self, problem: str, *, apologise: bool) -> None:
        """Without its agent the call ends."""
        if not self.is_answered:
            self._call.deliver(AgentLost(problem=problem, leg_id=self._key))
            return
        if apologise and not self._key:
            self._own_words.prompt("apology")
        end = partial(self._call.end, by="system", cause="provider_failed", reason=problem, provider_fault=problem)
        self._parting.after_speech(end)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """The call ends: the transcript closes with what was heard up to here."""
        self._turns.close()
        self._tools.stop()
        self._wiring.clear()

    async def close(self) -> None:
        """Close the provider and the recording, and report both."""
        await self._seat.close()
        if self.is_answered and not self._left:
            self._left = True
            self.record(AgentLeft(agent_id=self.agent.agent_id, reason="call ended"))
        if (written := await self._recording.close()) is not None:
            self.record(written)
