"""What passes between a leg and a provider, and in which format."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from tests.audio.signals import frames_of, level_at

from offhook.audio.convert import converter
from offhook.audio.g711 import decode
from offhook.audio.level import level_of
from offhook.audio.tones import tone
from offhook.bridge.codec import (
    BridgeConnection,
    BridgeEvent,
    BridgeInput,
    BridgeProfile,
    BridgeRequest,
    Interrupted,
    ResponseStarted,
    ToolCall,
    TranscriptDelta,
)
from offhook.call.agent_session import MAX_CHARACTERS, MAX_CUT_ITEMS, MAX_ITEMS, MAX_KNOWN_ITEMS, AgentSession
from offhook.media.playout import Playout
from offhook.media.session import MediaSession
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.records import Agent, TransferDestination

L16_24K = AudioFormat(encoding=Encoding.L16, sample_rate_hz=24_000)
LEG_FORMATS = [PCMU_8K, PCMA_8K, L16_16K]


class Connection:
    """Remembers what it heard."""

    def __init__(self, profile: BridgeProfile, heard: list[bytes]) -> None:
        self.profile = profile
        self._heard = heard

    def send_audio(self, frame: bytes) -> None:
        self._heard.append(frame)

    def send(self, command: BridgeInput) -> None: ...


class Provider:
    """A registry and its one connection; remembers what it was asked for and what it heard."""

    def __init__(self, *formats: AudioFormat) -> None:
        self._profile = BridgeProfile(provider="toy", input_formats=formats, output_formats=formats, raw_line=True)
        self.judge = None
        self.heard: list[bytes] = []
        self.request: BridgeRequest | None = None

    def profile(self, name: str) -> BridgeProfile:
        return self._profile

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        self.request = request
        return cast(BridgeConnection, Connection(self._profile, self.heard))


def session(provider: Provider, leg: AudioFormat) -> AgentSession:
    agent = Agent(agent_id="a", provider="toy")
    return AgentSession(call_id="c", agent=agent, bridges=provider, leg_format=leg, report=lambda event: None)


@pytest.mark.parametrize(
    ("leg", "formats", "chosen"),
    [
        (PCMA_8K, (PCMU_8K, PCMA_8K), PCMA_8K),
        (PCMU_8K, (L16_24K, L16_16K, PCMU_8K), PCMU_8K),
        (PCMA_8K, (L16_24K, PCMU_8K), PCMU_8K),  # one table, no resampling
        (PCMA_8K, (L16_24K, L16_16K), L16_16K),
        (L16_16K, (PCMU_8K, L16_16K, L16_24K), L16_16K),
        (L16_16K, (PCMU_8K, L16_24K), L16_24K),  # nothing of the band is lost
        (L16_16K, (PCMA_8K, PCMU_8K), PCMA_8K),  # all the same: the provider's own order
        (L16_16K, (PCMU_8K, L16_8K), L16_8K),
    ],
)
def test_a_provider_is_met_in_the_format_that_loses_and_costs_least(
    leg: AudioFormat, formats: tuple[AudioFormat, ...], chosen: AudioFormat
) -> None:
    provider = Provider(*formats)
    assert session(provider, leg).hearing == chosen
    assert provider.request is not None
    assert (provider.request.input_format, provider.request.output_format) == (chosen, chosen)


@pytest.mark.parametrize("leg", LEG_FORMATS)
@pytest.mark.parametrize("theirs", [*LEG_FORMATS, L16_24K])
def test_what_the_agent_says_is_played_in_the_format_of_each_leg(leg: AudioFormat, theirs: AudioFormat) -> None:
    playout = Playout(leg)
    agent = session(Provider(theirs), leg)
    agent.speak_to(cast(MediaSession, playout), leg)
    said = tone(900, 600, -12, theirs.encoding, sample_rate_hz=theirs.sample_rate_hz)
    for chunk in frames_of(said, 3 * theirs.frame_bytes):
        agent.audio_out("item", chunk)
    assert agent.audio_ms == {"item": 600}
    assert playout.queued_ms == 600
    frames = [playout.next_frame() for _ in range(30)]
    heard = decode(leg.encoding, b"".join(frame for frame in frames[2:] if frame is not None))
    assert level_of(level_at(900, heard, leg.sample_rate_hz) / np.sqrt(2)) == pytest.approx(-12, abs=0.3)


def test_bytes_of_the_same_format_pass_untouched_both_ways() -> None:
    provider, playout = Provider(PCMU_8K), Playout(PCMU_8K)
    agent = session(provider, PCMU_8K)
    agent.speak_to(cast(MediaSession, playout), PCMU_8K)
    frame = bytes(range(160))
    agent.hear(frame)
    agent.audio_out("item", frame)
    assert provider.heard[0] is frame
    assert playout.next_frame() == frame


@pytest.mark.parametrize(("before", "after"), [(PCMU_8K, L16_16K), (L16_16K, PCMA_8K)])
def test_a_leg_that_changes_its_codec_goes_on_hearing_the_same_words(before: AudioFormat, after: AudioFormat) -> None:
    """The playout converts what waits; the agent speaks to the leg anew in its new format."""
    playout = Playout(before)
    agent = session(Provider(L16_24K), before)
    leave = agent.speak_to(cast(MediaSession, playout), before)
    said = tone(900, 300, -12, Encoding.L16, sample_rate_hz=24_000)
    agent.audio_out("item", said)
    leave()
    playout.recode(after)
    agent.speak_to(cast(MediaSession, playout), after)
    agent.audio_out("item", said)
    assert playout.queued_ms == 600
    frames = [frame for _ in range(30) if (frame := playout.next_frame()) is not None]
    assert {len(frame) for frame in frames} == {after.frame_bytes}
    for half in (frames[2:14], frames[17:]):
        heard = decode(after.encoding, b"".join(half))
        assert level_of(level_at(900, heard, after.sample_rate_hz) / np.sqrt(2)) == pytest.approx(-12, abs=0.5)


def test_an_agent_of_another_rate_hears_at_the_rate_it_asked_for() -> None:
    provider = Provider(L16_24K)
    agent = session(provider, PCMU_8K)
    convert = converter(PCMU_8K, agent.hearing)
    assert convert is not None
    for frame in frames_of(tone(900, 400, -12, Encoding.PCMU)):
        agent.hear(convert(frame))
    assert {len(frame) for frame in provider.heard} == {L16_24K.frame_bytes}
    heard = b"".join(provider.heard[2:])
    assert level_of(level_at(900, heard, 24_000) / np.sqrt(2)) == pytest.approx(-12, abs=0.3)


def test_a_provider_that_speaks_without_end_is_not_remembered_without_end() -> None:
    """Each piece of sound an utterance of its own; each given up, each with words beyond measure."""
    told: list[BridgeEvent] = []
    agent = Agent(agent_id="a", provider="toy")
    made = AgentSession(call_id="c", agent=agent, bridges=Provider(PCMU_8K), leg_format=PCMU_8K, report=told.append)
    words = "x" * (2 * MAX_CHARACTERS)
    for number in range(3 * MAX_ITEMS):
        made.audio_out(f"item {number}", bytes(160))
        made.audio_out(f"silent {number}", b"")
        made.bridge_event(Interrupted(item=f"gone {number}"))
    made.bridge_event(TranscriptDelta(speaker="caller", item="c", text=words, final=True))
    assert len(made.audio_ms) == MAX_ITEMS
    assert list(made.audio_ms)[-1] == f"item {3 * MAX_ITEMS - 1}"
    kept = vars(made)
    assert len(kept["_cut"]) == MAX_CUT_ITEMS
    assert len(kept["_known"]) == MAX_KNOWN_ITEMS
    assert [len(event.text) for event in told if isinstance(event, TranscriptDelta)] == [MAX_CHARACTERS]


@pytest.mark.parametrize(("name", "over"), [("call_owner", True), ("transfer_call", True), ("book", False)])
def test_a_model_that_transfers_by_whatever_function_has_said_all(name: str, over: bool) -> None:
    """Some providers end an answer only once they have the result; the transfer must not wait for that."""
    owner = TransferDestination(name="owner", target="+4930123456", function="call_owner")
    agent = Agent(agent_id="a", provider="toy", destinations=(owner,))
    one = AgentSession(
        call_id="c", agent=agent, bridges=Provider(PCMU_8K), leg_format=PCMU_8K, report=lambda event: None
    )
    one.emit(ResponseStarted())
    one.emit(ToolCall(tool_call_id="1", name=name, arguments="{}"))
    assert one.responding is not over
