"""A wideband leg in virtual time: what one leg says, as another leg hears it, by way of packets that may be lost."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.signals import decibels, frames_of, level_at, samples_of, sine
from tests.media.test_inbound import AGREEMENT, REMOTE

from offhook.audio.convert import converter
from offhook.audio.g711 import decode, silence
from offhook.audio.level import frame_level_db
from offhook.audio.opus import opus_problem
from offhook.audio.tones import tone
from offhook.media.events import DtmfReceived
from offhook.media.inbound import InboundStream
from offhook.media.outbound import OutboundStream
from offhook.media.playout import Playout
from offhook.media.wideband import OpusStretch
from offhook.model.audio import L16_8K, L16_16K, AudioFormat, Encoding, leg_format
from offhook.rtp.packet import parse_packet, timestamp_distance

PCMU, PCMA, G722, OPUS = Encoding.PCMU, Encoding.PCMA, Encoding.G722, Encoding.OPUS
AGREEMENTS = {
    PCMU: replace(AGREEMENT, dtmf_receive_payload_type=101),
    PCMA: replace(AGREEMENT, encoding=PCMA, payload_type=8, receive_payload_type=8, dtmf_receive_payload_type=101),
    G722: replace(AGREEMENT, encoding=G722, payload_type=9, receive_payload_type=9, dtmf_receive_payload_type=101),
    OPUS: replace(
        AGREEMENT,
        encoding=OPUS,
        payload_type=96,
        receive_payload_type=96,
        dtmf_payload_type=110,
        dtmf_receive_payload_type=110,
        clock_hz=48_000,
        dtmf_clock_hz=48_000,
    ),
}
needs_opus = pytest.mark.skipif(opus_problem() is not None, reason=str(opus_problem()))
WIDEBAND = [G722, pytest.param(OPUS, marks=needs_opus)]
EVERY = [PCMU, PCMA, *WIDEBAND]

JOURNEY_S = 0.004


class Line:
    """``says`` ticks the one leg, ``hears`` the other; packets take 4 ms, and get lost with ``loss``."""

    def __init__(self, codec: Encoding, *, loss: float = 0.0, jitter_s: float = 0.0, seed: int = 5) -> None:
        self.now = 100.0
        self.told: list[object] = []
        self.packets: list[bytes] = []
        self._chance = random.Random(seed)
        self._loss, self._jitter_s = loss, jitter_s
        self._underway: deque[tuple[float, bytes]] = deque()
        self.playout = Playout(leg_format(codec))
        self.mouth = OutboundStream(
            ssrc=0xAFFE,
            agreement=AGREEMENTS[codec],
            send=self._send,
            tell_sound=lambda item, at: None,
            tell_end=lambda ended: None,
            playout=self.playout,
        )
        self.mouth.aim(REMOTE)
        self.ear = InboundStream(
            agreement=AGREEMENTS[codec],
            signalling_host=REMOTE[0],
            tell=self.told.append,
            monotonic=lambda: self.now,
        )

    def _send(self, packet: bytes | bytearray, destination: tuple[str, int]) -> bool:
        self.packets.append(bytes(packet))
        if self._chance.random() >= self._loss:
            self._underway.append((self.now + JOURNEY_S + self._chance.random() * self._jitter_s, bytes(packet)))
        return True

    def tick(self) -> bytes:
        self.mouth.send_next()
        self.mouth.end_items()
        self.now += 0.02
        for arrival, packet in sorted(each for each in self._underway if each[0] <= self.now):
            self.ear.receive(packet, REMOTE, arrival)
        self._underway = deque(each for each in self._underway if each[0] > self.now)
        return self.ear.next_frame(self.now)

    def carry(self, audio: bytes, *, tail: int = 10) -> bytes:
        """What is heard from the first tick on, until ``tail`` ticks after the end."""
        self.playout.play("item", audio)
        self.playout.finish("item")
        return b"".join(self.tick() for _ in range(len(audio) // self.playout.format.frame_bytes + tail))

    def change(self, codec: Encoding) -> None:
        """Both sides agree on another codec."""
        self.playout.recode(leg_format(codec))
        self.mouth.update(AGREEMENTS[codec])
        self.ear.update(AGREEMENTS[codec])


def of_tone(hz: float, ms: int, audio_format: AudioFormat, level_db: float = -10) -> bytes:
    return tone(hz, ms, level_db, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)


def heard_db(hz: float, heard: bytes, audio_format: AudioFormat) -> float:
    """Its level in the middle of what was heard, in dB against the level of ``of_tone``."""
    reference = decode(audio_format.encoding, of_tone(hz, 200, audio_format))
    middle = heard[len(heard) // 2 :][: 10 * audio_format.frame_bytes]
    rate = audio_format.sample_rate_hz
    return decibels(level_at(hz, decode(audio_format.encoding, middle), rate) / level_at(hz, reference, rate))


def sine_to_rest_db(hz: float, heard: bytes, audio_format: AudioFormat) -> float:
    """The tone against all that is not the tone, in the steady middle."""
    middle = samples_of(decode(audio_format.encoding, heard))[len(heard) // audio_format.bytes_per_sample // 3 :]
    middle = middle[: audio_format.sample_rate_hz // 5]
    times = np.arange(middle.size) / audio_format.sample_rate_hz
    basis = np.stack([np.sin(2 * np.pi * hz * times), np.cos(2 * np.pi * hz * times)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    return decibels(float(np.std(fitted) / max(np.std(middle - fitted), 1e-9)))


def clearness_db(heard: bytes, said: bytes) -> float:
    """Signal to error where the two lie on each other best."""
    a, b = samples_of(heard), samples_of(said)
    spectrum = np.fft.rfft(a, a.size + b.size) * np.conj(np.fft.rfft(b, a.size + b.size))
    lag = int(np.argmax(np.fft.irfft(spectrum)[: a.size]))
    overlap = min(a.size - lag, b.size)
    error = a[lag : lag + overlap] - b[:overlap]
    return decibels(float(np.sqrt(np.square(b[:overlap]).sum() / np.square(error).sum())))


# ── sound ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("codec", "least_db"), [(PCMU, 35), (PCMA, 35), (G722, 35), pytest.param(OPUS, 12, marks=needs_opus)]
)
@pytest.mark.parametrize("hz", [400, 1000, 3000])
def test_a_tone_goes_through_every_codec(codec: Encoding, least_db: float, hz: int) -> None:
    audio_format = leg_format(codec)
    heard = Line(codec).carry(of_tone(hz, 1000, audio_format))
    assert abs(heard_db(hz, heard, audio_format)) < 1
    assert sine_to_rest_db(hz, heard, audio_format) > least_db


@pytest.mark.parametrize("codec", WIDEBAND)
@pytest.mark.parametrize("hz", [5000, 6500])
def test_what_a_telephone_cannot_carry_goes_through_a_wideband_leg(codec: Encoding, hz: int) -> None:
    heard = Line(codec).carry(of_tone(hz, 1000, L16_16K))
    assert abs(heard_db(hz, heard, L16_16K)) < 2


@pytest.mark.parametrize("codec", WIDEBAND)
def test_every_tick_gives_a_frame_of_the_leg(codec: Encoding) -> None:
    line = Line(codec, loss=0.2)
    assert {len(line.tick()) for _ in range(200)} == {640}
    assert line.ear.silence == line.mouth.silence == silence(L16_16K)


@pytest.mark.parametrize(
    ("codec", "step", "payload"), [(G722, 160, {160}), pytest.param(OPUS, 960, None, marks=needs_opus)]
)
def test_timestamps_count_in_the_clock_of_the_codec(codec: Encoding, step: int, payload: set[int] | None) -> None:
    line = Line(codec)
    line.carry(of_tone(700, 400, L16_16K))
    packets = [parsed for each in line.packets if (parsed := parse_packet(each)) is not None]
    assert {timestamp_distance(b.timestamp, a.timestamp) for a, b in pairwise(packets)} == {step}
    assert {packet.payload_type for packet in packets} == {AGREEMENTS[codec].payload_type}
    if payload is not None:
        assert {len(packet.payload) for packet in packets} == payload
    before = line.mouth.timestamp
    line.mouth.skip(3)
    assert timestamp_distance(line.mouth.timestamp, before) == 3 * step


# ── loss ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("codec", [PCMU, PCMA, G722])  # Opus takes speech for granted and lets pure tones sag
@pytest.mark.parametrize("hz", [440, 1000])
def test_one_frame_in_twenty_lost_leaves_no_hole_in_a_tone(codec: Encoding, hz: int) -> None:
    audio_format = leg_format(codec)
    line = Line(codec, loss=0.05)
    heard = line.carry(of_tone(hz, 4000, audio_format), tail=0)
    frames = list(frames_of(heard, audio_format.frame_bytes))[10:]
    levels = [frame_level_db(audio_format.encoding, frame) for frame in frames]
    assert min(levels) > -16
    assert max(levels) < -7
    assert 4 <= line.ear.concealed_frames <= 25


@pytest.mark.parametrize(("codec", "least_db"), [(G722, 5), pytest.param(OPUS, 12, marks=needs_opus)])
@pytest.mark.parametrize("seed", range(4))
def test_a_voice_survives_a_loss_of_5_percent(codec: Encoding, least_db: float, seed: int) -> None:
    """Against the same voice by the same codec without loss. Opus repairs from the next packet: 5 dB less without."""
    to_16k = converter(L16_8K, L16_16K)
    assert to_16k is not None
    voice = to_16k(speech())
    whole = Line(codec).carry(voice)
    line = Line(codec, loss=0.05, seed=seed)
    assert clearness_db(line.carry(voice), whole) > least_db
    assert line.ear.concealed_frames >= 2


def speech() -> bytes:
    """Two seconds of a buzz with formants that come and go, as vowels do."""
    times = np.arange(16_000) / 8000
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 1.5 * times)) / 8000
    buzz = sum(np.sin(pitch * harmonic) / harmonic for harmonic in range(1, 20))
    return (4000 * np.abs(np.sin(2 * np.pi * 1.3 * times)) * buzz).astype("<i2").tobytes()


@pytest.mark.parametrize("codec", WIDEBAND)
def test_a_long_loss_fades_and_the_voice_comes_back(codec: Encoding) -> None:
    line = Line(codec)
    line.playout.play("item", of_tone(500, 3000, L16_16K))
    for _ in range(25):
        line.tick()
    line._loss = 1.0
    gone = [frame_level_db(Encoding.L16, line.tick()) for _ in range(25)]
    assert gone[-1] < -50
    line._loss = 0.0
    back = [frame_level_db(Encoding.L16, line.tick()) for _ in range(25)]
    assert max(back) < -5
    assert back[-1] == pytest.approx(-10, abs=1.5)


@pytest.mark.parametrize("codec", WIDEBAND)
def test_jitter_is_taken_out(codec: Encoding) -> None:
    line = Line(codec, jitter_s=0.03)
    heard = line.carry(of_tone(700, 4000, L16_16K), tail=0)
    levels = [frame_level_db(Encoding.L16, frame) for frame in list(frames_of(heard, 640))[40:]]
    assert min(levels) > -14


# ── change ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("before", EVERY)
@pytest.mark.parametrize("after", EVERY)
def test_a_change_of_codec_goes_on_with_what_is_being_said(before: Encoding, after: Encoding) -> None:
    line = Line(before)
    line.playout.play("item", of_tone(800, 3000, leg_format(before)))
    for _ in range(50):
        line.tick()
    line.change(after)
    audio_format = leg_format(after)
    heard = b"".join(line.tick() for _ in range(60))
    assert len(heard) == 60 * audio_format.frame_bytes
    assert abs(heard_db(800, heard, audio_format)) < 1.5
    assert line.playout.queued_ms == 3000 - 110 * 20
    # What was under way while the codec changed costs a few frames, no more.
    levels = [frame_level_db(audio_format.encoding, frame) for frame in frames_of(heard, audio_format.frame_bytes)]
    assert min(levels[8:]) > -14


@pytest.mark.parametrize("agreed", [PCMU, PCMA, G722])
@pytest.mark.parametrize("sent", [PCMU, PCMA, G722])
def test_a_sender_may_take_up_another_codec_of_the_offer_without_a_word(agreed: Encoding, sent: Encoding) -> None:
    """RFC 3264 §8.3.2, by their static numbers."""
    line = Line(sent)
    line.ear.update(AGREEMENTS[agreed])
    heard = line.carry(of_tone(700, 1000, leg_format(sent)))
    assert abs(heard_db(700, heard, leg_format(agreed))) < 1
    assert line.ear.unexpected == 0
    assert line.ear.last_speech_at > 100.9


@needs_opus
@pytest.mark.parametrize(("agreed", "sent"), [(OPUS, PCMU), (G722, OPUS)])
def test_a_codec_of_another_clock_is_not_taken_without_a_word(agreed: Encoding, sent: Encoding) -> None:
    line = Line(sent)
    line.ear.update(AGREEMENTS[agreed])
    heard = line.carry(of_tone(700, 200, leg_format(sent)))
    assert set(heard) == {0}
    assert line.ear.unexpected >= 10


# ── beside the sound ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("codec", WIDEBAND)
def test_digits_go_by_the_clock_that_was_agreed(codec: Encoding) -> None:
    line = Line(codec)
    line.mouth.queue_digits("17#", 200)
    for _ in range(80):
        line.tick()
    assert line.told == [DtmfReceived(digit=digit, duration_ms=200) for digit in "17#"]


@pytest.mark.parametrize("codec", WIDEBAND)
def test_the_last_speech_is_dated_by_its_arrival(codec: Encoding) -> None:
    line = Line(codec)
    lead = silence(L16_16K) * 50
    line.carry(lead + of_tone(500, 1000, L16_16K, -12) + lead, tail=20)
    # The last sounding packet left at tick 99 of those from 100.0 s on. Opus rings on for a frame.
    assert line.ear.last_speech_at == pytest.approx(100.0 + 99 * 0.02 + JOURNEY_S, abs=0.045)


@pytest.mark.parametrize("codec", WIDEBAND)
@given(payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_a_peer_may_send_anything(codec: Encoding, payloads: list[bytes]) -> None:
    line = Line(codec)
    for index, payload in enumerate(payloads):
        header = bytes([0x80, AGREEMENTS[codec].payload_type]) + index.to_bytes(2, "big")
        line.ear.receive(header + (index * 960).to_bytes(4, "big") + b"SSRC" + payload, REMOTE, line.now)
        assert len(line.tick()) == 640


# ── parts of packets ─────────────────────────────────────────────────────────────────────────────────────


def stretch(*milliseconds: int) -> OpusStretch:
    """Packets of a whole frame each; the first byte says how long (RFC 6716 table 2)."""
    config = {10: 0, 20: 1, 40: 2, 60: 3}
    made = [OpusStretch.of(bytes([config[ms] << 3, index])) for index, ms in enumerate(milliseconds)]
    whole, *rest = [each for each in made if each is not None]
    for each in rest:
        whole = whole + each
    return whole


def parts(made: OpusStretch) -> list[tuple[int, float, float]]:
    """(number of the packet, from ms, to ms)"""
    return [(packet[1], start / 48, end / 48) for packet, start, end in made.parts]


def test_a_packet_is_as_long_as_it_takes() -> None:
    assert len(stretch(60)) == 2880
    assert parts(stretch(10, 20)) == [(0, 0, 10), (1, 0, 20)]
    assert OpusStretch.of(b"") is None


def test_packets_are_cut_by_note() -> None:
    whole = stretch(40, 10, 10)
    assert parts(whole[:960]) == [(0, 0, 20)]
    assert parts(whole[960:]) == [(0, 20, 40), (1, 0, 10), (2, 0, 10)]
    assert parts(whole[960:][1200:]) == [(1, 5, 10), (2, 0, 10)]
    assert len(whole[480:2400]) == 1920
    assert not whole[2880:]


@given(st.lists(st.sampled_from([10, 20, 40, 60]), min_size=1, max_size=5), st.data())
def test_cutting_and_joining_keeps_everything(milliseconds: list[int], data: st.DataObject) -> None:
    whole = stretch(*milliseconds)
    at = data.draw(st.integers(0, len(whole) // 120)) * 120
    first, second = whole[:at], whole[at:]
    assert (len(first), len(second)) == (at, len(whole) - at)
    assert sum(end - start for _, start, end in parts(first + second)) == sum(milliseconds)


@needs_opus
@pytest.mark.parametrize("packet_ms", [10, 40, 60])
def test_opus_packets_of_another_length_are_played_in_frames(packet_ms: int) -> None:
    """RFC 7587 §4.2: any duration may come, whatever ptime says."""
    line = Line(OPUS)
    audio = sine(600, 1200, 16_000)
    encoder = line.mouth._encoder
    assert encoder is not None
    frames = []
    packets = deque(encoder.encode(piece) for piece in frames_of(audio, 32 * packet_ms))
    sequence = timestamp = 0
    for tick in range(55):
        while packets and timestamp <= tick * 960:
            header = bytes([0x80, 96]) + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big") + b"SSRC"
            line.ear.receive(header + packets.popleft(), REMOTE, line.now)
            sequence, timestamp = sequence + 1, timestamp + packet_ms * 48
        line.now += 0.02
        frames.append(line.ear.next_frame(line.now))
    middle = b"".join(frames[15:])
    assert decibels(level_at(600, middle, 16_000) / level_at(600, audio, 16_000)) == pytest.approx(0, abs=1)
    assert line.ear.concealed_frames == 0
