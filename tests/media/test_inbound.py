"""The receiving half in virtual time: datagrams in, frames out, as the recorder would hear them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from tests.rtp.captures import udp_payloads
from tests.rtp.network import Sent, impair, stream
from tests.vectors.location import vectors

from offhook.audio.dtmf import ToneSender
from offhook.audio.g711 import PCMU_TO_PCMA, decode, silence
from offhook.audio.level import frame_level_db
from offhook.audio.tones import tone
from offhook.media.events import DtmfReceived, PathChanged
from offhook.media.inbound import InboundStream
from offhook.media.wideband import wire_encoder
from offhook.model.audio import L16_16K, PCMU_8K, Encoding
from offhook.rtp.packet import RtpPacket
from offhook.sdp.offer_answer import Agreement

REMOTE = ("10.0.0.5", 4000)
FRAME = 160
SILENCE = silence(PCMU_8K)
AGREEMENT = Agreement(
    encoding=Encoding.PCMU,
    payload_type=0,
    receive_payload_type=0,
    ptime_ms=20,
    dtmf_payload_type=101,
    dtmf_receive_payload_type=96,
    remote=REMOTE,
    remote_rtcp=("10.0.0.5", 4001),
    direction="sendrecv",
)


@dataclass(slots=True)
class Ear:
    """An inbound stream on a virtual clock, and what it told and gave."""

    now: float = 100.0
    told: list[DtmfReceived | PathChanged] = field(default_factory=list)
    stream: InboundStream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = InboundStream(
            agreement=AGREEMENT,
            signalling_host=REMOTE[0],
            tell=self.told.append,
            monotonic=lambda: self.now,
        )

    def receive(self, datagram: bytes, source: tuple[str, int] = REMOTE) -> None:
        self.stream.receive(datagram, source, self.now)

    def listen(self, packets: Sequence[Sent], *, tail_s: float = 0.5, payload_type: int = 0) -> list[bytes]:
        """Frames of every tick from the first packet to ``tail_s`` after the last."""
        queue, frames = list(packets), []
        tick = packets[0].at + 0.007
        while tick < packets[-1].at + tail_s:
            while queue and queue[0].at <= tick:
                sent = queue.pop(0)
                self.now = sent.at
                self.receive(wire(sent, payload_type))
            self.now = tick
            frames.append(self.stream.next_frame(tick))
            tick += 0.02
        return frames


def wire(sent: Sent, payload_type: int = 0) -> bytes:
    return bytes(
        RtpPacket(
            payload_type=payload_type,
            sequence=sent.sequence,
            timestamp=sent.timestamp,
            ssrc=sent.ssrc,
            payload=sent.payload or b"",
            marker=sent.marker,
        )
    )


def tone_stream(seconds: float, *, hz: float = 1000, quiet_s: float = 0.0, **options: Any) -> list[Sent]:
    """A tone between two stretches of silence, as a softphone sends it."""
    lead = SILENCE * round(quiet_s * 50)
    audio = lead + tone(hz, round(seconds * 1000), -10, Encoding.PCMU) + lead
    return stream(len(audio) // FRAME, payload=lambda index: audio[index * FRAME : (index + 1) * FRAME], **options)


def sounding_ms(frames: list[bytes]) -> int:
    """From the first loud sample to the last."""
    loud = np.flatnonzero(np.abs(np.frombuffer(decode(Encoding.PCMU, b"".join(frames)), dtype="<i2")) > 1000)
    return int(loud[-1] - loud[0]) // 8


def sounding(frames: list[bytes]) -> list[bytes]:
    """From the first frame of strong sound to the last."""
    loud = [index for index, frame in enumerate(frames) if frame_level_db(Encoding.PCMU, frame) > -20]
    return frames[loud[0] : loud[-1] + 1]


def longest_digital_silence_ms(frames: list[bytes]) -> float:
    audio = b"".join(frames)
    return max((sum(1 for _ in run) for code, run in groupby(audio) if code == 0xFF), default=0) / 8


@pytest.mark.parametrize("seed", range(12))
def test_a_tone_through_a_bad_network_keeps_its_length_and_is_never_cut(seed: int) -> None:
    arrived = impair(tone_stream(10, quiet_s=1), loss=3, delay=40, jitter=30, seed=seed)
    frames = Ear().listen(arrived)
    assert sounding_ms(frames) == pytest.approx(10_000, abs=40)
    assert longest_digital_silence_ms(sounding(frames)) <= 40


@pytest.mark.parametrize("seed", range(4))
def test_bursts_of_loss_leave_no_digital_silence_either(seed: int) -> None:
    frames = Ear().listen(impair(tone_stream(20), loss=3, delay=40, jitter=30, burst=3, seed=seed))
    assert longest_digital_silence_ms(sounding(frames)) <= 40


def test_the_delay_is_below_80_ms_five_seconds_after_the_jitter_ended() -> None:
    packets = tone_stream(20)
    rough = impair(packets[:500], delay=40, jitter=30, loss=3)
    calm = [replace(packet, at=packet.at + 0.04) for packet in packets[500:]]
    ear = Ear()
    # Positions are found by the tone's start: it sounds for the whole stream, so its end tells the delay.
    ear.listen(sorted([*rough, *calm[:250]], key=lambda packet: packet.at), tail_s=0.0)
    assert ear.stream.jitter_buffer.delay_ms(ear.now) < 80


def test_loss_is_measured_as_it_was_injected() -> None:
    rng = random.Random(5)
    packets = [packet for packet in tone_stream(40) if rng.random() > 0.03]
    ear = Ear()
    ear.listen(packets)
    reception = ear.stream.reception
    assert 100 * reception.lost / reception.expected == pytest.approx(3.0, abs=1.0)


def test_when_the_remote_party_stops_sending_there_is_silence_and_no_concealment() -> None:
    ear = Ear()
    frames = ear.listen(tone_stream(1), tail_s=3.0)
    concealed = ear.stream.concealed_frames
    assert concealed == 1
    assert frames[-100:] == [SILENCE] * 100


def test_the_other_law_is_understood_without_a_word() -> None:
    packets = tone_stream(1)
    coded = [replace(packet, payload=(packet.payload or b"").translate(PCMU_TO_PCMA)) for packet in packets]
    frames = Ear().listen(coded, payload_type=8)
    assert sounding_ms(frames) == pytest.approx(1000, abs=20)


def test_a_type_that_was_not_agreed_is_dropped_and_counted() -> None:
    ear = Ear()
    frames = ear.listen(tone_stream(1), payload_type=111)
    assert set(frames) == {SILENCE}
    assert ear.stream.unexpected == 50


def test_comfort_noise_is_silence() -> None:
    ear = Ear()
    assert set(ear.listen(tone_stream(0.5), payload_type=13)) == {SILENCE}
    assert ear.stream.unexpected == 0


def test_a_new_source_of_the_same_party_is_heard_at_once() -> None:
    before = tone_stream(1)
    after = tone_stream(1, start=101.0, ssrc=9, sequence=5, timestamp=77)
    ear = Ear()
    frames = ear.listen([*before, *after])
    assert sounding_ms(frames) == pytest.approx(2000, abs=60)
    assert ear.stream.reception.restarts == 1


def test_speech_is_timed_by_its_arrival() -> None:
    ear = Ear()
    assert ear.stream.last_speech_at == 0.0
    ear.listen(tone_stream(1, quiet_s=0.5))
    assert ear.stream.last_speech_at == pytest.approx(100 + 1.48, abs=0.001)


def test_a_stall_of_our_own_does_not_look_like_jitter() -> None:
    ear = Ear()
    packets = tone_stream(4)
    frames = ear.listen(packets[:100], tail_s=0.0)
    target = ear.stream.jitter_buffer.target_delay_ms
    ear.stream.skip(12)
    for packet in packets[100:112]:
        ear.now = packet.at  # the kernel noted it, although it is read later
        ear.receive(wire(packet))
    frames += ear.listen(packets[112:])
    assert ear.stream.jitter_buffer.target_delay_ms == pytest.approx(target, abs=1)


@pytest.mark.parametrize("again", ["confirm", "reinvite"])
def test_a_peer_that_was_not_learned_in_time_gets_another_chance(again: str) -> None:
    """By the ACK, or by a re-INVITE that changes nothing; nobody else does."""
    ear, remapped, stranger = Ear(), (REMOTE[0], 61_000), ("10.0.0.66", 4000)
    ear.now += 4.0
    packets = [
        bytes(RtpPacket(payload_type=0, sequence=n, timestamp=n * FRAME, ssrc=7, payload=SILENCE)) for n in range(20)
    ]
    for packet in packets[:5]:
        ear.receive(packet, remapped)
    assert ear.stream.reception.received == 0
    if again == "confirm":
        ear.stream.confirm()
    else:
        ear.stream.update(replace(AGREEMENT, direction="recvonly"))
    for packet in packets[5:10]:
        ear.receive(packet, stranger)
        ear.receive(packet, remapped)
    assert ear.stream.reception.received == 2  # the fourth and the fifth
    assert ear.told == [PathChanged(remote=remapped)]


def test_the_lock_stays_where_a_reinvite_keeps_the_address() -> None:
    ear = Ear()
    nat = (REMOTE[0], 9999)
    for packet in tone_stream(0.2):
        ear.receive(wire(packet), nat)
    assert ear.told == [PathChanged(remote=nat)]
    ear.stream.update(replace(AGREEMENT, direction="recvonly"))
    assert ear.stream.latch.destination == nat
    ear.stream.update(replace(AGREEMENT, remote=("10.0.0.6", 4000)))
    assert ear.stream.latch.destination == ("10.0.0.6", 4000)


def test_concealed_frames_are_counted_over_a_change_of_the_codec() -> None:
    ear = Ear()
    packets = tone_stream(1)
    del packets[25]
    ear.listen(packets, tail_s=0.0)
    assert ear.stream.concealed_frames == 1
    ear.stream.update(replace(AGREEMENT, encoding=Encoding.PCMA, payload_type=8, receive_payload_type=8))
    assert ear.stream.concealed_frames == 1
    assert ear.stream.next_frame(ear.now) == b"\xd5" * FRAME


# ── who hears at once ────────────────────────────────────────────────────────────────────────────────────


def test_who_begins_to_hear_at_once_hears_nothing_of_before() -> None:
    """An agent whose caller was on hold: what was missed meanwhile is no gap to be filled."""
    ear, heard = Ear(), list[bytes]()
    packets = tone_stream(2)
    ear.stream.hear_at_once((heard.append,))
    ear.listen(packets[:20], tail_s=0.02)
    ear.stream.hear_at_once(())
    ear.listen(packets[20:60], tail_s=0.02)
    heard.clear()
    ear.stream.hear_at_once((heard.append,))
    ear.listen(packets[60:70], tail_s=0.02)
    assert heard == [sent.payload for sent in packets[60:70]]


def test_who_hears_at_once_is_not_ahead_of_time_after_our_own_stalls() -> None:
    """Ticks that never ran are time that has gone: all that comes later is heard."""
    ear, heard = Ear(), list[bytes]()
    ear.stream.hear_at_once((heard.append,))
    packets = tone_stream(4)
    for first in range(0, 180, 3):
        for sent in packets[first : first + 3]:
            ear.now = sent.at
            ear.receive(wire(sent))
        ear.stream.skip(3)
    assert heard == [sent.payload for sent in packets[:180]]


def test_digits_between_the_audio_are_told() -> None:
    ear = Ear()
    packets = tone_stream(0.5)
    ear.listen(packets, tail_s=0.02)
    last = packets[-1]
    for step in range(4):
        payload = bytes([7, 0x0A, 0, 160])
        sent = replace(
            last, sequence=(last.sequence + 1 + step) & 0xFFFF, timestamp=last.timestamp + 160, payload=payload
        )
        ear.receive(wire(sent, payload_type=96))
    assert ear.told == []
    ear.stream.expire(ear.now + 0.1)
    assert ear.told == []
    ear.stream.expire(ear.now + 1)
    assert ear.told == [DtmfReceived(digit="7", duration_ms=20)]
    assert ear.stream.reception.lost == 0


def test_a_key_held_over_a_change_of_codec_is_told_once() -> None:
    ear = Ear()
    ear.listen(tone_stream(0.1), tail_s=0.02)
    for step in range(8):
        if step in {3, 6}:
            encoding = Encoding.PCMA if step == 3 else Encoding.PCMU
            ear.stream.update(replace(AGREEMENT, encoding=encoding))
        sent = Sent(at=0, sequence=500 + step, timestamp=9000, payload=bytes([7, 0x8A if step > 4 else 10, 0, 160]))
        ear.receive(wire(sent, payload_type=96))
    ear.stream.expire(ear.now + 1)
    assert ear.told == [DtmfReceived(digit="7", duration_ms=20)]


def keyed_stream(keys: str) -> list[Sent]:
    """A second of tone, then keys in the audio itself, then silence."""
    sender = ToneSender(PCMU_8K)
    sender.queue(keys)
    audio = tone(440, 1000, -10, Encoding.PCMU)
    while (frame := sender.next_frame()) is not None:
        audio += frame
    audio += SILENCE * 10
    return stream(len(audio) // FRAME, payload=lambda index: audio[index * FRAME : (index + 1) * FRAME])


def keys_heard(ear: Ear, packets: list[Sent], *, payload_type: int = 0) -> str:
    queue, tick = list(packets), packets[0].at + 0.007
    while tick < packets[-1].at + 0.5:
        while queue and queue[0].at <= tick:
            sent = queue.pop(0)
            ear.now = sent.at
            ear.receive(wire(sent, payload_type))
        frame = ear.stream.next_frame(tick)
        if ear.stream.tones is not None:
            ear.stream.listen(frame, tick)
        tick += 0.02
    return "".join(told.digit for told in ear.told if isinstance(told, DtmfReceived) and told.source == "inband")


def test_keys_in_the_audio_are_told_where_no_events_were_agreed() -> None:
    ear = Ear()
    ear.stream.update(replace(AGREEMENT, dtmf_payload_type=None))
    assert keys_heard(ear, keyed_stream("1559#")) == "1559#"


def test_keys_in_the_audio_are_not_looked_for_beside_events() -> None:
    ear = Ear()
    assert ear.stream.tones is None
    assert keys_heard(ear, keyed_stream("159")) == ""
    ear.stream.update(replace(AGREEMENT, dtmf_payload_type=None))
    assert ear.stream.tones is not None
    ear.stream.update(AGREEMENT)
    assert ear.stream.tones is None


@pytest.mark.parametrize("seed", range(5))
def test_keys_in_the_audio_survive_loss_and_jitter_and_are_never_doubled(seed: int) -> None:
    rng = random.Random(seed)
    ear = Ear()
    ear.stream.update(replace(AGREEMENT, dtmf_payload_type=None))
    packets = [replace(sent, at=sent.at + rng.uniform(0.01, 0.07)) for sent in keyed_stream("1122334455")]
    kept = sorted((sent for sent in packets if rng.random() > 0.02), key=lambda sent: sent.at)
    heard = keys_heard(ear, kept)
    assert len(heard) >= 9
    rest = iter("1122334455")
    assert all(digit in rest for digit in heard)


@pytest.mark.parametrize(("encoding", "clock_hz"), [(Encoding.G722, 8000), (Encoding.OPUS, 48_000)])
def test_keys_in_wideband_audio_are_told_with_frames_lost(encoding: Encoding, clock_hz: int) -> None:
    encoder = wire_encoder(encoding)
    assert encoder is not None
    sender = ToneSender(L16_16K)
    sender.queue("159#0011")
    frames = [silence(L16_16K)] * 20
    while (frame := sender.next_frame()) is not None:
        frames.append(frame)
    frames += [silence(L16_16K)] * 20
    wideband: dict[str, Any] = {
        "encoding": encoding,
        "payload_type": 111,
        "receive_payload_type": 111,
        "clock_hz": clock_hz,
    }
    ear = Ear()
    ear.stream.update(replace(AGREEMENT, dtmf_payload_type=None, **wideband))
    packets = [
        replace(sent, timestamp=number * clock_hz // 50, payload=encoder.encode(frames[number]))
        for number, sent in enumerate(stream(len(frames)))
        if number % 33 != 5
    ]
    assert keys_heard(ear, packets, payload_type=111) == "159#0011"


def test_echoes_of_our_own_keys_are_not_the_remote_partys() -> None:
    ear = Ear()
    ear.stream.update(replace(AGREEMENT, dtmf_payload_type=None))
    packets = keyed_stream("1")
    ear.stream.ignore_tones(packets[-1].at)
    assert keys_heard(ear, packets) == ""


@pytest.mark.parametrize("keys", ["0123456789*#", "#*9876543210", "1", "1122", "121", "3223", "00##**"])
def test_the_captures_sipp_plays_one_after_another(keys: str) -> None:
    ear = Ear()
    ear.stream.update(replace(AGREEMENT, dtmf_receive_payload_type=101))
    names = {"*": "star", "#": "pound"}
    for key in keys:
        capture = vectors("pcap", "sipp", f"dtmf_2833_{names.get(key, key)}.pcap").read_bytes()
        for datagram in udp_payloads(capture):
            ear.now += 0.02
            ear.receive(datagram)
        ear.now += 1.5
        ear.stream.expire(ear.now)
    assert "".join(told.digit for told in ear.told if isinstance(told, DtmfReceived)) == keys
