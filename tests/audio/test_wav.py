from __future__ import annotations

import io
import struct
import wave
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.signals import l16, sine

from offhook.audio import wav
from offhook.audio.wav import WavError, read_wav, write_wav
from offhook.model.audio import L16_8K, PCMA_8K, PCMU_8K, AudioFormat, Encoding, SampleRate

FORMATS = [
    AudioFormat(encoding=encoding, sample_rate_hz=rate)
    for encoding, rate in product((Encoding.PCMU, Encoding.PCMA, Encoding.L16), get_args(SampleRate))
]


def riff(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4 if size is None else size) + b"WAVE" + body


def layout(
    *, tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, extension: bytes = b""
) -> tuple[bytes, bytes]:
    block = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extension


@pytest.mark.parametrize("audio_format", FORMATS)
def test_what_is_written_is_read_back(audio_format: AudioFormat) -> None:
    audio = bytes(range(240)) * audio_format.bytes_per_sample
    assert read_wav(write_wav(audio_format, audio)) == (audio_format, audio)


def test_an_odd_number_of_bytes_is_padded_and_read_back() -> None:
    data = write_wav(PCMU_8K, b"abc")
    assert len(data) % 2 == 0
    assert read_wav(data) == (PCMU_8K, b"abc")


def test_the_standard_library_reads_what_we_write() -> None:
    audio = sine(440, 100, 8000)
    with wave.open(io.BytesIO(write_wav(L16_8K, audio))) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (1, 2, 8000)
        assert reader.readframes(reader.getnframes()) == audio


def test_we_read_what_the_standard_library_writes() -> None:
    file, left, right = io.BytesIO(), [1, -2, 32767], [100, 200, 300]
    with wave.open(file, "wb") as writer:
        writer.setparams((2, 2, 24000, 0, "NONE", ""))
        writer.writeframes(l16([sample for pair in zip(left, right, strict=True) for sample in pair]))
    audio_format, audio = read_wav(file.getvalue())
    assert audio_format == AudioFormat(encoding=Encoding.L16, sample_rate_hz=24000)
    assert audio == l16(left)


def test_g711_carries_the_extension_and_the_fact_chunk() -> None:
    assert write_wav(PCMA_8K, b"\xd5\xd5") == riff(
        layout(tag=6, bits=8, extension=b"\0\0"), (b"fact", struct.pack("<I", 2)), (b"data", b"\xd5\xd5")
    )


def test_8_bit_samples_are_unsigned() -> None:
    assert read_wav(riff(layout(bits=8), (b"data", b"\x00\x80\xff"))) == (L16_8K, l16([-32768, 0, 32512]))


def test_an_extensible_format_names_its_kind_in_its_extension() -> None:
    guid = b"\x07\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    extension = struct.pack("<HHI", 22, 8, 4) + guid
    file = riff(layout(tag=0xFFFE, bits=8, extension=extension), (b"data", b"\xff\x7f"))
    assert read_wav(file) == (PCMU_8K, b"\xff\x7f")


def test_other_chunks_are_passed_over() -> None:
    file = riff((b"LIST", b"abc"), layout(), (b"bext", bytes(7)), (b"data", l16([1, 2])), (b"junk", b"zz"))
    assert read_wav(file) == (L16_8K, l16([1, 2]))


@pytest.mark.parametrize("riff_size", [0, 36])
def test_sizes_that_were_never_filled_in_mean_up_to_the_end(riff_size: int) -> None:
    header = riff(layout(), size=riff_size)
    assert read_wav(header + b"data" + bytes(4) + l16([1, 2, 3])) == (L16_8K, l16([1, 2, 3]))


def test_a_size_beyond_the_end_means_up_to_the_end() -> None:
    header = riff(layout(), size=0xFFFFFFFF)
    assert read_wav(header + b"data\xff\xff\xff\xff" + l16([1, 2]) + b"\x01") == (L16_8K, l16([1, 2]))


def test_an_empty_data_chunk_is_no_samples() -> None:
    assert read_wav(riff(layout(), (b"data", b""), (b"LIST", b"text"))) == (L16_8K, b"")


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "not a WAV file"),
        (b"ID3\x04" + bytes(40), "not a WAV file"),
        (b"RIFF\0\0\0\0AVI ", "not a WAV file"),
        (riff(), "no samples in it"),
        (riff(layout()), "no samples in it"),
        (riff((b"data", b"xx")), "samples come before their format"),
        (riff((b"fmt ", b"short")), "its format is cut off"),
        (riff(layout(tag=3, bits=32)), "32-bit samples of kind 0x0003"),
        (riff(layout(bits=24)), "24-bit samples of kind 0x0001"),
        (riff(layout(tag=0xFFFE)), "16-bit samples of kind 0xfffe"),
        (riff(layout(channels=0)), "0 channels"),
        (riff(layout(channels=9)), "9 channels"),
        (riff(layout(rate=11025), (b"data", b"xx")), "sample rate 11025 Hz; 8000, 16000, 22050, 24000, 44100, 48000"),
        (riff(*[(b"junk", b"")] * 256), "more than 256 chunks"),
    ],
)
def test_a_refusal_says_what_was_found(file: bytes, problem: str) -> None:
    with pytest.raises(WavError, match=problem):
        read_wav(file)


def test_too_large_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "MAX_WAV_BYTES", 100)
    with pytest.raises(WavError, match="larger than 100 bytes"):
        read_wav(write_wav(PCMU_8K, bytes(100)))


@given(data=st.binary(max_size=60), at=st.integers(0, 100), cut=st.integers(0, 20))
def test_whatever_is_read_is_samples_or_refused(data: bytes, at: int, cut: int) -> None:
    file = riff(layout(channels=2), (b"LIST", b"abc"), (b"data", bytes(40)))
    for broken in (data, b"RIFF\0\0\0\0WAVE" + data, file[:at] + data + file[at + cut :]):
        try:
            audio_format, audio = read_wav(broken)
        except WavError:
            continue
        assert len(audio) % audio_format.bytes_per_sample == 0


def test_a_real_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
        writer.writeframes(sine(440, 50, 16000))
    audio_format, audio = read_wav(path.read_bytes())
    assert audio_format.sample_rate_hz == 16000
    assert audio == sine(440, 50, 16000)
