"""Who really hears whom: frames pushed into one end and collected at the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from offhook.audio.tones import tone
from offhook.call.agent_session import AgentSession
from offhook.call.hold_audio import HoldAudio
from offhook.call.leg import Leg
from offhook.call.routing import Seating, agent_port, leg_port, tap_port
from offhook.call.wiring import Wiring
from offhook.model.audio import L16_16K, PCMU_8K, AudioFormat, Encoding

CALLER, OPERATOR, AGENT = leg_port("leg-1"), leg_port("leg-2"), agent_port("leg-1")


class Media:
    """A media session as the wiring sees it."""

    def __init__(self) -> None:
        self.sinks: list[Callable[[bytes], None]] = []
        self.taps: list[Callable[[bytes, bytes], None]] = []
        self.relayed: list[bytes] = []

    def connect(self, sink: Callable[[bytes], None]) -> None:
        self.sinks.append(sink)

    def disconnect(self, sink: Callable[[bytes], None]) -> None:
        self.sinks.remove(sink)

    connect_at_once, disconnect_at_once = connect, disconnect

    def tap(self, tap: Callable[[bytes, bytes], None]) -> None:
        self.taps.append(tap)

    def untap(self, tap: Callable[[bytes, bytes], None]) -> None:
        self.taps.remove(tap)

    def relay(self, frame: bytes) -> None:
        self.relayed.append(frame)

    def hears(self, frame: bytes) -> None:
        for sink in tuple(self.sinks):
            sink(frame)


class FakeLeg:
    def __init__(self, audio_format: AudioFormat) -> None:
        self.media = Media()
        self.format = audio_format


class FakeAgent:
    hearing = PCMU_8K

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.speaks_to: list[Any] = []

    def hear(self, frame: bytes) -> None:
        self.heard.append(frame)

    def speak_to(self, media: Any, audio_format: AudioFormat) -> Callable[[], None]:
        self.speaks_to.append(media)
        return lambda: self.speaks_to.remove(media)


class Table:
    """A call with two legs, the second of them wideband, and an agent."""

    def __init__(self) -> None:
        self.caller, self.operator, self.agent = FakeLeg(PCMU_8K), FakeLeg(L16_16K), FakeAgent()
        self.wiring = Wiring(HoldAudio(), Seating(caller=CALLER, agent=AGENT))
        self.wiring.add_leg(CALLER, cast(Leg, self.caller))
        self.wiring.add_leg(OPERATOR, cast(Leg, self.operator))
        self.wiring.add_agent(AGENT, cast(AgentSession, self.agent))


NARROW_FRAME = tone(400, 20, -10, Encoding.PCMU)
WIDE_FRAME = tone(400, 20, -10, Encoding.L16, sample_rate_hz=16000)


def test_before_the_answer_the_agent_speaks_and_hears_nothing() -> None:
    table = Table()
    table.wiring.seat()
    table.caller.media.hears(NARROW_FRAME)
    assert table.agent.speaks_to == [table.caller.media]
    assert table.agent.heard == []


def test_in_a_talk_bytes_pass_as_they_are() -> None:
    table = Table()
    table.wiring.seat(up=True)
    table.caller.media.hears(NARROW_FRAME)
    assert table.agent.heard == [NARROW_FRAME]
    assert table.agent.heard[0] is NARROW_FRAME


def test_who_waits_hears_the_player_and_the_agent_silence() -> None:
    table = Table()
    table.wiring.seat(up=True)
    table.wiring.seat(stage="waiting")
    for _ in range(3):
        table.caller.media.hears(NARROW_FRAME)
    assert len(table.caller.media.relayed) == 3
    assert set(b"".join(table.agent.heard)) == {0xFF}
    assert table.agent.speaks_to == []


def test_legs_of_different_formats_are_converted() -> None:
    table = Table()
    table.wiring.seat(up=True, operator=OPERATOR, stage="handed_over")
    table.caller.media.hears(NARROW_FRAME)
    table.operator.media.hears(WIDE_FRAME)
    assert [len(frame) for frame in table.operator.media.relayed] == [640]
    assert [len(frame) for frame in table.caller.media.relayed] == [160]


def test_an_agent_among_three_hears_the_sum_and_afterwards_one_again() -> None:
    table = Table()
    table.wiring.seat(up=True)
    table.wiring.seat(operator=OPERATOR, stage="three_way")
    for _ in range(5):
        table.caller.media.hears(NARROW_FRAME)
        table.operator.media.hears(WIDE_FRAME)
    assert len(table.agent.heard) == 5
    assert NARROW_FRAME not in table.agent.heard
    assert set(map(id, table.agent.speaks_to)) == {id(table.caller.media), id(table.operator.media)}
    table.wiring.seat(operator=None, stage="talking")
    table.caller.media.hears(NARROW_FRAME)
    assert table.agent.heard[-1] == NARROW_FRAME
    assert table.operator.media.sinks == []


def test_a_changed_codec_is_plugged_anew() -> None:
    table = Table()
    table.wiring.seat(up=True, operator=OPERATOR, stage="handed_over")
    table.caller.format = L16_16K
    table.wiring.follow(CALLER)
    table.caller.media.hears(WIDE_FRAME)
    assert table.operator.media.relayed == [WIDE_FRAME]
    assert len(table.caller.media.sinks) == 1


def test_nothing_is_left_plugged_in_the_end() -> None:
    table = Table()
    recorded: list[tuple[bytes, bytes]] = []
    table.wiring.add_tap(tap_port("recorder"), lambda heard, sent: recorded.append((heard, sent)))
    table.wiring.seat(up=True, operator=OPERATOR, stage="three_way", taps=frozenset({tap_port("recorder")}))
    assert len(table.caller.media.taps) == 1
    table.wiring.clear()
    assert (table.caller.media.sinks, table.operator.media.sinks, table.caller.media.taps) == ([], [], [])
    assert table.agent.speaks_to == []


def test_a_mixed_frame_is_the_sum_of_both() -> None:
    """Two equal tones add up; at 800 Hz the 1.25 ms of the conversion are a whole period."""
    table = Table()
    table.wiring.seat(up=True, operator=OPERATOR, stage="three_way")
    one = tone(800, 20 * 50, -20, Encoding.PCMU)
    two = tone(800, 20 * 50, -20, Encoding.L16, sample_rate_hz=16000)
    for at in range(50):
        table.caller.media.hears(one[at * 160 : (at + 1) * 160])
        table.operator.media.hears(two[at * 640 : (at + 1) * 640])
    from_pcmu = np.frombuffer(b"".join(table.agent.heard[10:]), dtype=np.uint8)
    alone = np.frombuffer(one[1600:], dtype=np.uint8)
    assert len(table.agent.heard) == 50
    assert (from_pcmu & 0x7F).min() < (alone & 0x7F).min()  # µ-law: smaller codes are louder
