from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.audio.signals import frames_of, level_at, sine

from offhook.audio.g711 import decode
from offhook.audio.level import level_of
from offhook.audio.tones import tone
from offhook.audio.wav import read_wav
from offhook.media import recorder as recorder_module
from offhook.media.recorder import MAX_WAITING_BATCHES, RecordingWriter, wav_header
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat

HEARD, SENT = b"\x11" * 160, b"\x22" * 160

RECORD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from offhook.media.recorder import RecordingWriter
from offhook.model.audio import PCMU_8K
recorder = RecordingWriter().open(Path(sys.argv[1]), PCMU_8K)
for second in range(10_000):
    for _ in range(50):
        recorder.write(bytes([0x11]) * 160, bytes([0x22]) * 160)
    time.sleep(0.005)
    print(second, flush=True)
"""


@pytest.fixture
def writer() -> Iterator[RecordingWriter]:
    made = RecordingWriter()
    yield made
    made.close()


async def test_left_is_what_was_heard_and_right_what_was_sent(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "new" / "call.wav", PCMU_8K)
    for _ in range(125):
        recorder.write(HEARD, SENT)
    assert recorder.close() == 2500
    await recorder.written()
    data = recorder.path.read_bytes()
    audio_format, left = read_wav(data)
    assert audio_format == PCMU_8K
    assert left == HEARD * 125
    assert data == wav_header(PCMU_8K, 20_000) + b"\x11\x22" * 20_000
    assert recorder.problem is None


async def test_a_wideband_leg_is_recorded_in_its_band(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "call.wav", L16_16K)
    heard, sent = sine(5000, 1500, 16_000), sine(6000, 1500, 16_000)
    for left, right in zip(frames_of(heard, 640), frames_of(sent, 640), strict=True):
        recorder.write(left, right)
    assert recorder.close() == 1500
    await recorder.written()
    data = recorder.path.read_bytes()
    assert read_wav(data) == (L16_16K, heard)
    header = wav_header(L16_16K, 24_000)
    assert data[: len(header)] == header
    both = np.frombuffer(data[len(header) :], dtype="<i2")
    assert both[1::2].tobytes() == sent


@pytest.mark.parametrize(("file", "later"), [(PCMU_8K, L16_16K), (L16_16K, PCMA_8K)])
async def test_a_changed_rate_keeps_the_time_of_the_file(
    writer: RecordingWriter, tmp_path: Path, file: AudioFormat, later: AudioFormat
) -> None:
    recorder = writer.open(tmp_path / "call.wav", file)
    for audio_format in (file, later, file):
        recorder.follow(audio_format)
        audio = tone(1000, 1000, -10, audio_format.encoding, sample_rate_hz=audio_format.sample_rate_hz)
        for frame in frames_of(audio, audio_format.frame_bytes):
            recorder.write(frame, frame)
    assert recorder.close() == 3000
    await recorder.written()
    audio_format, left = read_wav(recorder.path.read_bytes())
    assert (audio_format, len(left)) == (file, 150 * file.frame_bytes)
    for second in range(3):
        heard = decode(file.encoding, left[second * 50 * file.frame_bytes :][: 50 * file.frame_bytes])
        level = level_of(level_at(1000, heard, file.sample_rate_hz) / np.sqrt(2))
        assert level == pytest.approx(-10, abs=0.3)


async def test_closing_twice_is_closing_once(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "call.wav", PCMA_8K)
    recorder.write(HEARD, SENT)
    assert (recorder.close(), recorder.close()) == (20, 20)
    await recorder.written()
    assert len(read_wav(recorder.path.read_bytes())[1]) == 160


async def test_a_call_without_audio_leaves_a_valid_empty_file(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "call.wav", PCMA_8K)
    recorder.close()
    await recorder.written()
    audio_format, samples = read_wav(recorder.path.read_bytes())
    assert (audio_format, samples) == (PCMA_8K, b"")


async def test_a_changed_codec_is_translated_into_that_of_the_file(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "call.wav", PCMU_8K)
    recorder.write(b"\xff" * 160, b"\xff" * 160)
    recorder.follow(PCMA_8K)
    recorder.write(b"\xd5" * 160, b"\xd5" * 160)
    recorder.follow(PCMU_8K)
    recorder.write(b"\xff" * 160, b"\xff" * 160)
    recorder.close()
    await recorder.written()
    nearest = b"\xfe"  # both laws have +8; only µ-law has 0
    assert read_wav(recorder.path.read_bytes())[1] == b"\xff" * 160 + nearest * 160 + b"\xff" * 160


@pytest.mark.parametrize("attempt", range(3))
def test_a_killed_process_leaves_a_valid_file(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "call.wav"
    with subprocess.Popen(
        [sys.executable, "-c", RECORD_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(20 + attempt * 7):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    data = path.read_bytes()
    left = read_wav(data)[1]
    assert len(left) >= 10 * 8000
    assert len(left) % 8000 == 0
    assert set(left) == {0x11}
    assert int.from_bytes(data[54:58], "little") == 2 * len(left)


@pytest.mark.skipif(shutil.which("soxi") is None, reason="sox is not installed")
async def test_sox_reads_it(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "call.wav", PCMA_8K)
    for _ in range(150):
        recorder.write(HEARD, SENT)
    recorder.close()
    await recorder.written()
    told = [await asyncio.to_thread(soxi, flag, recorder.path) for flag in ("-s", "-c", "-r", "-e")]
    assert told == ["24000", "2", "8000", "A-law"]


def soxi(flag: str, path: Path) -> str:
    return subprocess.run(["soxi", flag, path], capture_output=True, text=True, check=True).stdout.strip()


async def test_a_disk_that_refuses_is_told_and_harms_no_other(tmp_path: Path) -> None:
    problems: list[tuple[Path, str]] = []
    writer = RecordingWriter(on_problem=lambda path, problem: problems.append((path, problem)))
    (tmp_path / "file").write_text("no folder")
    refused = writer.open(tmp_path / "file" / "call.wav", PCMU_8K)
    fine = writer.open(tmp_path / "call.wav", PCMU_8K)
    for _ in range(100):
        refused.write(HEARD, SENT)
        fine.write(HEARD, SENT)
    refused.close()
    fine.close()
    await refused.written()
    await fine.written()
    assert [path for path, _ in problems] == [refused.path]
    assert refused.problem is not None
    assert len(read_wav(fine.path.read_bytes())[1]) == 16_000
    writer.close()


async def test_a_disk_that_hangs_costs_audio_and_not_memory(
    writer: RecordingWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, released = threading.Event(), threading.Event()
    really = recorder_module._write_all

    def hang(file: int, data: bytes | bytearray, offset: int) -> None:
        hanging.set()
        released.wait()
        really(file, data, offset)

    monkeypatch.setattr(recorder_module, "_write_all", hang)
    recorder = writer.open(tmp_path / "call.wav", PCMU_8K)
    try:
        for _ in range(50):
            recorder.write(HEARD, SENT)
        await asyncio.to_thread(hanging.wait)
        for _ in range(50 * (MAX_WAITING_BATCHES + 4)):
            recorder.write(HEARD, SENT)
    finally:
        released.set()
    assert recorder.dropped_ms == 5000
    recorder.close()
    await recorder.written()
    assert len(read_wav(recorder.path.read_bytes())[1]) == MAX_WAITING_BATCHES * 8000


async def test_descriptors_are_given_back(writer: RecordingWriter, tmp_path: Path) -> None:
    process = psutil.Process()
    before = process.num_fds()
    for index in range(20):
        recorder = writer.open(tmp_path / f"{index}.wav", PCMU_8K)
        recorder.write(HEARD, SENT)
        recorder.close()
        await recorder.written()
    assert process.num_fds() == before
