"""Wideband sessions on loopback: real sockets, the real clock, real codecs at the far end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.audio.signals import frames_of, level_at
from tests.media.wire import Desk, RemoteParty, until

from offhook.audio.convert import converter
from offhook.audio.g711 import decode
from offhook.audio.g722 import G722Decoder, G722Encoder
from offhook.audio.level import level_of
from offhook.audio.tones import tone
from offhook.audio.wav import read_wav
from offhook.media.events import Drained
from offhook.media.recorder import RecordingWriter
from offhook.media.session import MediaSession
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.rtp.packet import timestamp_distance
from offhook.sdp.offer_answer import Agreement


def wide(remote: RemoteParty) -> Agreement:
    return remote.agreement(encoding=Encoding.G722, payload_type=9, receive_payload_type=9)


def of_tone(hz: float, ms: int, audio_format: AudioFormat = L16_16K) -> bytes:
    return tone(hz, ms, -12, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)


def tone_dbm0(hz: float, audio: bytes, rate_hz: int = 16_000) -> float:
    return level_of(level_at(hz, audio, rate_hz) / np.sqrt(2))


def loudest_dbm0(hz: float, l16: bytes, rate_hz: int = 16_000) -> float:
    """In the best tenth of a second: where a machine under load made the audio wait, the rest has gaps."""
    frame = 2 * rate_hz // 50
    return max(tone_dbm0(hz, l16[at : at + 5 * frame], rate_hz) for at in range(0, len(l16) - 5 * frame + 1, frame))


@asynccontextmanager
async def parties(count: int = 1) -> AsyncIterator[list[tuple[Desk, RemoteParty]]]:
    made = [(Desk(), RemoteParty()) for _ in range(count)]
    try:
        yield made
    finally:
        for desk, remote in made:
            desk.session.close()
            remote.close()


async def speak(remote: RemoteParty, to: tuple[str, int], audio: bytes) -> None:
    """The remote party talks G.722 in real time."""
    encoder = G722Encoder()
    due = time.monotonic()
    for frame in frames_of(audio, 640):
        remote.send(encoder.encode(frame), to, payload_type=9)
        due += 0.02
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def relay(source: MediaSession, target: MediaSession) -> None:
    convert = converter(source.format, target.format)
    assert convert is not None
    source.connect(lambda frame: target.relay(convert(frame)))


async def test_what_is_played_is_g722_on_the_wire_at_a_clock_of_8000() -> None:
    async with parties() as [(desk, remote)]:
        desk.session.start(wide(remote))
        assert desk.session.format == L16_16K
        desk.session.play("item", of_tone(5000, 600))
        desk.session.finish("item")
        await until(lambda: desk.told(Drained))
        assert desk.told(Drained) == [Drained(item="item", played_ms=600)]
        packets = [packet for _, packet in remote.packets]
        assert {(packet.payload_type, len(packet.payload)) for packet in packets} == {(9, 160)}
        assert {timestamp_distance(b.timestamp, a.timestamp) for a, b in pairwise(packets)} == {160}
        assert loudest_dbm0(5000, G722Decoder().decode(remote.audio)) == pytest.approx(-12, abs=0.5)


async def test_the_remote_party_is_heard_and_recorded_in_its_band(tmp_path: Path) -> None:
    writer = RecordingWriter()
    recorder = writer.open(tmp_path / "call.wav", L16_16K)
    async with parties() as [(desk, remote)]:
        heard: list[bytes] = []
        desk.session.connect(heard.append)
        desk.session.tap(recorder.write)
        desk.session.start(wide(remote))
        await speak(remote, desk.address, of_tone(5000, 800))
        assert {len(frame) for frame in heard} == {640}
        assert loudest_dbm0(5000, b"".join(heard)) == pytest.approx(-12, abs=0.5)
        assert 0 < time.monotonic() - desk.session.last_speech_at < 0.5
    recorder.close()
    await recorder.written()
    writer.close()
    audio_format, left = read_wav(recorder.path.read_bytes())
    assert audio_format == L16_16K
    assert left == b"".join(heard)


@pytest.mark.parametrize("narrow", [PCMU_8K, PCMA_8K])
async def test_a_wideband_leg_and_a_telephone_talk(narrow: AudioFormat) -> None:
    number = 0 if narrow is PCMU_8K else 8
    async with parties(2) as [(desk, phone), (other, telephone)]:
        desk.session.start(wide(phone))
        other.session.start(
            telephone.agreement(encoding=narrow.encoding, payload_type=number, receive_payload_type=number)
        )
        relay(desk.session, other.session)
        relay(other.session, desk.session)
        said = list(frames_of(of_tone(1200, 800, narrow), 160))

        async def answer() -> None:
            for frame in said:
                telephone.send(frame, other.address, payload_type=number)
                await asyncio.sleep(0.02)

        await asyncio.gather(speak(phone, desk.address, of_tone(700, 800)), answer())
        at_telephone = b"".join(packet.payload for _, packet in telephone.packets)
        assert loudest_dbm0(700, decode(narrow.encoding, at_telephone), 8000) == pytest.approx(-12, abs=0.5)
        assert loudest_dbm0(1200, G722Decoder().decode(phone.audio)) == pytest.approx(-12, abs=0.7)


async def test_a_re_invite_from_a_telephone_to_wideband_goes_on_with_the_item() -> None:
    async with parties() as [(desk, remote)]:
        heard: list[bytes] = []
        desk.session.connect(heard.append)
        desk.session.start(remote.agreement())
        desk.session.play("item", of_tone(900, 1000, PCMU_8K))
        await until(lambda: len(remote.packets) >= 20)
        left_ms = desk.session.queued_ms
        desk.session.update(wide(remote))
        assert desk.session.format == L16_16K
        assert desk.session.queued_ms == left_ms > 0
        await speak(remote, desk.address, of_tone(5000, 400))
        coded = b"".join(packet.payload for _, packet in remote.packets if packet.payload_type == 9)
        assert loudest_dbm0(900, G722Decoder().decode(coded)) == pytest.approx(-12, abs=0.7)
        sizes = [len(frame) for frame in heard]
        assert set(sizes) == {160, 640}
        assert sizes == sorted(sizes)
        assert loudest_dbm0(5000, b"".join(frame for frame in heard if len(frame) == 640)) == pytest.approx(-12, abs=1)
