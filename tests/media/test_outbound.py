"""The sending half without sockets: what each tick puts on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from tests.media.test_inbound import AGREEMENT, REMOTE

from offhook.audio.dtmf import TONE_GAP_MS, key_tone
from offhook.audio.g711 import silence
from offhook.audio.mix import mix
from offhook.audio.tones import tone
from offhook.media.events import Drained
from offhook.media.outbound import RELAYED_FRAMES, OutboundStream, is_sendable
from offhook.media.playout import Playout
from offhook.model.audio import PCMA_8K, PCMU_8K, Encoding
from offhook.rtp.packet import RtpPacket, parse_packet, sequence_distance, timestamp_distance

FRAME = 160
LOUD = bytes([0x10, 0x90]) * 80
SILENCE = silence(PCMU_8K)


@dataclass(slots=True)
class Mouth:
    sent: list[RtpPacket] = field(default_factory=list)
    sounded: list[tuple[str, float]] = field(default_factory=list)
    ended: list[Drained] = field(default_factory=list)
    reachable: bool = True
    playout: Playout = field(default_factory=lambda: Playout(PCMU_8K))
    stream: OutboundStream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = OutboundStream(
            ssrc=0xAFFE,
            agreement=AGREEMENT,
            send=self._send,
            tell_sound=lambda item, at: self.sounded.append((item, at)),
            tell_end=self.ended.append,
            playout=self.playout,
            monotonic=lambda: float(len(self.sent)),
        )
        self.stream.aim(REMOTE)

    def _send(self, packet: bytes | bytearray, destination: tuple[str, int]) -> bool:
        assert destination == REMOTE
        parsed = parse_packet(bytes(packet))
        assert parsed is not None
        self.sent.append(parsed)
        return self.reachable

    def tick(self, times: int = 1) -> list[bytes]:
        frames = []
        for _ in range(times):
            frames.append(self.stream.send_next())
            self.stream.end_items()
        return frames


def test_a_packet_goes_out_each_tick_whatever_there_is_to_say() -> None:
    mouth = Mouth()
    mouth.playout.play("a", LOUD * 3)
    frames = mouth.tick(10)
    assert frames == [LOUD] * 3 + [SILENCE] * 7
    assert [packet.payload for packet in mouth.sent] == frames
    for earlier, later in zip(mouth.sent, mouth.sent[1:], strict=False):
        assert sequence_distance(later.sequence, earlier.sequence) == 1
        assert timestamp_distance(later.timestamp, earlier.timestamp) == FRAME
    assert (mouth.stream.packets, mouth.stream.octets) == (10, 1600)


def test_the_first_sound_and_the_end_are_told_once() -> None:
    mouth = Mouth()
    mouth.playout.play("a", SILENCE * 2 + LOUD * 3)
    mouth.playout.finish("a")
    mouth.tick(10)
    assert mouth.sounded == [("a", 3.0)]
    assert mouth.ended == [Drained(item="a", played_ms=100)]


def test_a_network_that_refuses_changes_nothing() -> None:
    mouth = Mouth(reachable=False)
    mouth.playout.play("a", LOUD * 3)
    mouth.playout.finish("a")
    mouth.tick(5)
    assert len(mouth.sent) == 5
    assert mouth.ended == [Drained(item="a", played_ms=60)]


def test_digits_take_the_place_of_audio_and_speech_waits() -> None:
    mouth = Mouth()
    mouth.playout.play("a", LOUD * 4)
    mouth.tick(2)
    mouth.stream.queue_digits("1", 60)
    frames = mouth.tick(7)
    assert frames == [SILENCE] * 5 + [LOUD] * 2
    assert [packet.payload_type for packet in mouth.sent] == [0, 0, 101, 101, 101, 101, 101, 0, 0]
    assert [packet.payload for packet in mouth.sent[-2:]] == [LOUD, LOUD]
    # The audio's timeline ran on beneath the event.
    assert timestamp_distance(mouth.sent[7].timestamp, mouth.sent[1].timestamp) == 6 * FRAME
    assert {packet.timestamp for packet in mouth.sent[2:7]} == {(mouth.sent[1].timestamp + FRAME) & 0xFFFFFFFF}


def test_digits_as_tones_take_the_place_of_all_other_audio_and_speech_waits() -> None:
    mouth = Mouth()
    mouth.playout.play("a", SILENCE + LOUD * 4)
    mouth.tick()
    mouth.stream.queue_tones("5", 60)
    assert mouth.stream.sounds_tones
    mouth.stream.relay(LOUD)
    frames = mouth.tick(12)
    pause = TONE_GAP_MS // 20
    assert b"".join(frames[:3]) == key_tone("5", 60, PCMU_8K)
    assert frames[3:] == [SILENCE] * pause + [LOUD] * 4
    assert {packet.payload_type for packet in mouth.sent} == {0}
    assert mouth.sounded == [("a", 4.0 + pause + 1)]  # a tone is no speech
    assert not mouth.stream.sounds_tones


def test_tones_follow_the_format_of_the_leg() -> None:
    mouth = Mouth()
    mouth.stream.queue_tones("56", 60)
    mouth.tick()
    mouth.stream.update(replace(AGREEMENT, encoding=Encoding.PCMA, payload_type=8))
    assert b"".join(mouth.tick(3)) == key_tone("6", 60, PCMA_8K)


def test_digits_that_wait_are_forgotten_when_the_remote_takes_no_events_any_more() -> None:
    mouth = Mouth()
    mouth.stream.queue_digits("123", 60)
    mouth.tick(2)
    mouth.stream.update(replace(AGREEMENT, dtmf_payload_type=None))
    mouth.tick(20)
    assert [packet.payload_type for packet in mouth.sent] == [101] * 2 + [0] * 20


def test_a_remote_without_events_is_sent_none() -> None:
    mouth = Mouth()
    mouth.stream.update(replace(AGREEMENT, dtmf_payload_type=None))
    assert not mouth.stream.queue_digits("123", 60)
    mouth.tick(20)
    assert {packet.payload_type for packet in mouth.sent} == {0}


@pytest.mark.parametrize("direction", ["recvonly", "inactive"])
def test_on_hold_nothing_is_sent_and_what_waits_is_kept(direction: str) -> None:
    mouth = Mouth()
    mouth.tick(2)
    mouth.playout.play("a", LOUD * 2)
    mouth.stream.update(replace(AGREEMENT, direction=direction))  # type: ignore[arg-type]
    assert mouth.tick(50) == [SILENCE] * 50
    assert len(mouth.sent) == 2
    mouth.stream.update(AGREEMENT)
    mouth.tick(2)
    assert [(packet.payload, packet.marker) for packet in mouth.sent[2:]] == [(LOUD, True), (LOUD, False)]
    assert sequence_distance(mouth.sent[2].sequence, mouth.sent[1].sequence) == 1
    assert timestamp_distance(mouth.sent[2].timestamp, mouth.sent[1].timestamp) == 51 * FRAME


def test_skipped_ticks_move_the_timestamp_and_not_the_numbering() -> None:
    mouth = Mouth()
    mouth.playout.play("a", LOUD * 10)
    mouth.tick(2)
    mouth.stream.skip(5)
    mouth.tick(1)
    assert sequence_distance(mouth.sent[2].sequence, mouth.sent[1].sequence) == 1
    assert timestamp_distance(mouth.sent[2].timestamp, mouth.sent[1].timestamp) == 6 * FRAME
    assert mouth.playout.queued_ms == 40
    assert mouth.stream.skipped_ticks == 5


def test_a_relayed_leg_is_sent_alone_or_with_what_the_agent_says() -> None:
    mouth = Mouth()
    mouth.playout.play("a", LOUD + LOUD)
    other = tone(700, 20, -20, Encoding.PCMU)
    mouth.tick()
    mouth.stream.relay(other)
    assert mouth.tick() == [mix(Encoding.PCMU, [LOUD, other])]
    mouth.stream.relay(other)
    assert mouth.tick(2) == [other, SILENCE]


def test_what_is_relayed_while_nothing_may_be_sent_is_not_sent_late() -> None:
    mouth = Mouth()
    mouth.stream.queue_digits("5", 40)
    mouth.stream.relay(LOUD)
    assert mouth.tick(2) == [SILENCE, SILENCE]
    assert not any(packet.payload == LOUD for packet in mouth.sent)


def test_a_relayed_voice_is_not_taken_for_the_sound_of_the_item() -> None:
    mouth = Mouth()
    mouth.playout.play("a", SILENCE + LOUD)
    mouth.stream.relay(LOUD)
    mouth.tick()
    assert mouth.sounded == []
    mouth.tick()
    assert [item for item, _ in mouth.sounded] == ["a"]


def test_a_relayed_leg_that_runs_ahead_loses_its_oldest_frames() -> None:
    mouth = Mouth()
    for index in range(RELAYED_FRAMES + 3):
        mouth.stream.relay(bytes([index]) * FRAME)
    mouth.stream.relay(b"short")
    assert mouth.tick(5) == [bytes([index]) * FRAME for index in range(3, 3 + RELAYED_FRAMES)] + [SILENCE]
    assert mouth.stream.dropped_relayed == 3


def test_another_codec_takes_over_at_the_next_packet() -> None:
    mouth = Mouth()
    mouth.tick(1)
    mouth.stream.update(replace(AGREEMENT, encoding=Encoding.PCMA, payload_type=8))
    mouth.tick(1)
    assert [(packet.payload_type, packet.payload) for packet in mouth.sent] == [(0, SILENCE), (8, b"\xd5" * FRAME)]


@pytest.mark.parametrize(
    ("address", "sendable"),
    [
        (("10.0.0.1", 4000), True),
        (("2001:db8::1", 4000), True),
        (("0.0.0.0", 4000), False),
        (("::", 4000), False),
        (("10.0.0.1", 0), False),
        (("10.0.0.1", 70_000), False),
        (("example.com", 4000), False),
        (("", 4000), False),
    ],
)
def test_only_numeric_addresses_are_sent_to(address: tuple[str, int], sendable: bool) -> None:
    assert is_sendable(address) is sendable
