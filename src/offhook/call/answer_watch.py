"""Listens to who picks up a call of ours, and does what its agent wants done: the shell of ``answering_machine``.

From the first early media on each frame goes to a voice detector and a tone detector, and what is said to the
recogniser, in pieces, off the loop. What changes comes back into the call as a fact, and is acted upon there.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from offhook.audio.detect import SoundDetector
from offhook.audio.vad import VoiceActivityDetector
from offhook.bridge.codec import TextInput
from offhook.call.answering_machine import Pickup, PickupState, Step
from offhook.call.controls import CallControls
from offhook.call.inbox import PickupMoved
from offhook.call.leg import Leg
from offhook.call.ports import Spotter
from offhook.call.watched_talk import WatchedTalk
from offhook.model.audio import FRAME_MS, AudioFormat
from offhook.model.records import Agent, AnsweringMachinePlan

PIECE_MS = 1500
"""Of speech, and the recogniser is asked again."""
OVERLAP_MS = 1500
"""Of what it heard before: a phrase is not cut in two."""
PAUSE_MS = 240
"""In a pause it is asked at once: a person waits for the agent then."""
MOST_PIECES = 40
"""A minute of speech; after it words decide nothing any more."""

LEAVE_A_MESSAGE = (
    "You have reached voicemail, not a person: it records now. Leave one short message, as you would for the person "
    "you called: who calls, why, and what to do. Say nothing else, ask nothing, and then hang up at once with the tool "
    "that ends the call."
)
ANSWER_THE_SCREENER = (
    "A call screening assistant answered, not the person you called. Say now, in one sentence, who calls and why. Then "
    "wait: the person may come to the phone, and the talk begins only then."
)
PLAIN_MESSAGE = "Sorry that I missed you. I will call again. Goodbye"
PLAIN_ANSWER = "This is a call for the owner of this number"
"""What an agent without a model says."""

PERSON_CAME = "Somebody has come to the phone after the screening, probably the person you called. Begin the talk now."
PERSON_WAITS = "A person has picked up, has said hello, and waits for you to speak."

MESSAGE_LIMIT_S = 60.0
"""For a message on voicemail; who records longer records nothing but silence."""


class AnswerWatch:
    """One outbound call whose agent wants to know. Made before the INVITE leaves."""

    def __init__(self, call: CallControls, leg: Leg, agent: Agent, talk: WatchedTalk) -> None:
        self._call = call
        self._leg_id = leg.leg_id
        self._media = leg.media
        self._agent = agent
        self._talk = talk
        english = agent.language.lower()[:2] in ("", "en")
        self._spotter: Spotter | None = call.equipment.spotter() if english else None
        self._pickup = Pickup(understands=self._spotter is not None)
        self._listens = False
        self._over = False
        self._screener_answered = False
        self._evidence = ""
        self._format = leg.media.format
        self._tune()
        self._now = 0
        self._said: deque[bytes] = deque(maxlen=(PIECE_MS + OVERLAP_MS) // FRAME_MS + PIECE_MS // FRAME_MS)
        self._unasked_ms = 0
        self._asking = False
        self._pieces = 0
        talk.withhold()

    @property
    def _plan(self) -> AnsweringMachinePlan:
        return self._agent.machines

    # ── what the call tells ──────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """There is something to hear, before the answer or after."""
        if not self._listens:
            self._listens = True
            self._media.connect(self._hear)

    def answered(self) -> None:
        self.begin()
        self._pieces = 0  # many a network plays music while it rings
        self._tell(self._pickup.answered())
        if self._pickup.state in ("greeting", "recording"):  # known from what was played before
            self._act(self._pickup.state)

    def observe(self, fact: PickupMoved) -> None:
        step = fact.step
        if step.judged is not None:
            self._evidence = step.judged.evidence
            self._call.emit(step.judged, self._leg_id)
        if not step.early or step.state == "refused" or self._hangs_up_at(step.state):
            self._act(step.state)

    def party_moves(self) -> None:
        """Whoever it is is sent to somebody else, or was: the agent is in the way of neither."""
        self.stop()
        if self._talk.withholds:
            self._talk.release(())

    def party_moved(self) -> None:
        """Another one has come in his place: a person, as far as anybody knows."""
        self.stop()
        if self._talk.withholds:
            self._talk.release()

    def stop(self) -> None:
        """Listen no more; idempotent."""
        self._over = True
        if self._listens:
            self._listens = False
            self._media.disconnect(self._hear)

    # ── frames ───────────────────────────────────────────────────────────────────────────────────────────

    def _tune(self) -> None:
        self._sounds = SoundDetector(self._format)
        self._vad = VoiceActivityDetector(self._format.encoding)

    def _hear(self, frame: bytes) -> None:
        """Every 20 ms, in the media session's tick: nothing here takes longer than 0.1 ms. Who is on hold is not heard,
        and his silence says nothing."""
        if not self._talk.attends:
            return
        if self._media.format != self._format:  # the answer agreed on another codec than the early media
            self._format = self._media.format
            self._tune()
            self._said.clear()
        self._now += FRAME_MS
        sound = self._sounds.take(frame)
        self._vad.feed(frame)
        speaking = self._vad.heard and not self._sounds.sounding
        if sound is not None:
            self._tell(self._pickup.take(sound))
        self._tell(self._pickup.hear(self._now, speaking=speaking))
        if self._spotter is not None:
            self._collect(self._spotter, frame, speaking)

    def _collect(self, spotter: Spotter, frame: bytes, speaking: bool) -> None:
        """What was said lately goes to the recogniser, when it is enough or a pause comes."""
        self._said.append(frame)
        if speaking:
            self._unasked_ms += FRAME_MS
        paused = self._unasked_ms > 0 and self._vad.quiet_ms >= PAUSE_MS
        if (self._unasked_ms >= PIECE_MS or paused) and not self._asking and self._pieces < MOST_PIECES:
            self._asking = True
            self._pieces += 1
            self._unasked_ms = 0
            self._call.spawn(self._ask(spotter, b"".join(self._said), self._format))

    async def _ask(self, spotter: Spotter, audio: bytes, audio_format: AudioFormat) -> None:
        try:
            phrases = await spotter(audio, audio_format)
        finally:
            self._asking = False
        if phrases and self._listens:
            self._tell(self._pickup.understand(phrases))

    def _tell(self, step: Step | None) -> None:
        if step is not None:
            self._call.deliver(PickupMoved(step=step))

    # ── what is done about it ────────────────────────────────────────────────────────────────────────────

    def _hangs_up_at(self, state: PickupState) -> bool:
        voicemail = state in ("greeting", "recording") and self._plan.on_voicemail == "hang_up"
        return voicemail or (state in ("screened", "asked") and self._plan.on_screening == "hang_up")

    def _act(self, state: PickupState) -> None:
        if self._over:
            return
        match state:
            case "human":
                self._meet_person()
            case "greeting" | "recording":
                self._meet_voicemail(records=state == "recording")
            case "screened" | "asked":
                self._meet_screener(waits=state == "asked")
            case "refused":
                self._leave("no person picked up")
            case "settled":
                self.stop()
            case "waiting" | "listening":
                pass
            case _:
                assert_never(state)

    def _meet_person(self) -> None:
        if self._screener_answered:
            self._talk.tell(TextInput(role="system", text=PERSON_CAME))
        elif self._agent.first_speaker == "caller":
            self._talk.release((_told(PERSON_WAITS, plainly=self._agent.greeting or "Hello"),))
        else:
            self._talk.release()

    def _meet_voicemail(self, *, records: bool) -> None:
        """First its greeting is waited for, then it ``records``."""
        reaction = self._plan.on_voicemail
        if reaction == "hang_up":
            self._leave("voicemail picked up")
        elif reaction == "ignore":
            self._talk.release()
        elif not records:
            self._talk.withhold()
        elif reaction == "leave_message" and self._plan.message:
            self.stop()
            self._talk.say_and_leave(self._plan.message, "a message was left on voicemail", within_s=MESSAGE_LIMIT_S)
        else:
            self.stop()
            self._talk.release((_told(LEAVE_A_MESSAGE, plainly=PLAIN_MESSAGE),))
            self._call.arm("voicemail", MESSAGE_LIMIT_S)

    def message_is_due(self) -> None:
        """The agent had time enough for its message; unless it has sent voicemail on."""
        if self._talk.attends:
            self._leave("voicemail picked up, and the agent stayed")

    def _meet_screener(self, *, waits: bool) -> None:
        """First its question is listened to, then it ``waits`` for the answer."""
        reaction = self._plan.on_screening
        if reaction == "hang_up":
            self._leave("call screening picked up")
        elif reaction == "ignore":
            self._talk.release()
        elif not waits:
            self._talk.withhold()
        elif reaction == "answer" and self._plan.screening_answer:
            self._screener_answered = True
            self._talk.release(())
            self._talk.say_word_by_word(self._plan.screening_answer)
        else:
            self._screener_answered = True
            self._talk.release((_told(ANSWER_THE_SCREENER, plainly=PLAIN_ANSWER),))

    def _leave(self, reason: str) -> None:
        evidence = f": {self._evidence}" if self._evidence else ""
        self.stop()
        self._call.end(by="system", cause="answering_machine", reason=reason + evidence)


def _told(text: str, *, plainly: str) -> TextInput:
    return TextInput(role="system", text=text, respond=True, plainly=plainly)
