from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from offhook.audio.dtmf import (
    COLUMNS_HZ,
    KEYPAD,
    LEVEL_DBM0,
    MAX_QUEUED_TONES,
    MOST_MISSED_FRAMES,
    ROWS_HZ,
    TONE_GAP_MS,
    ToneDetector,
    ToneHeard,
    ToneSender,
    key_tone,
)
from offhook.audio.g711 import decode, encode
from offhook.audio.level import frame_level_db, rms_of
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat

Wave = NDArray[np.float64]
FORMATS = pytest.mark.parametrize(
    "form", [PCMU_8K, PCMA_8K, L16_8K, L16_16K], ids=["PCMU", "PCMA", "L16/8k", "L16/16k"]
)


def quiet(ms: float, hz: int = 8000) -> Wave:
    return np.zeros(round(ms * hz / 1000))


def sine(hz: float, ms: float, level_dbm0: float, *, rate_hz: int = 8000, phase: float = 0.0) -> Wave:
    times = np.arange(round(ms * rate_hz / 1000)) / rate_hz
    return np.asarray(np.sqrt(2) * rms_of(level_dbm0) * np.sin(2 * np.pi * hz * times + phase))


def key(
    digit: str, ms: float = 100, *, level: float = -10.0, twist_db: float = 0.0, off: float = 0.0, rate_hz: int = 8000
) -> Wave:
    """Both tones of a key; ``twist_db``: the column's level above the row's; ``off``: share of their frequency."""
    row, column = divmod(KEYPAD.index(digit), 4)
    return sine(ROWS_HZ[row] * (1 + off), ms, level, rate_hz=rate_hz) + sine(
        COLUMNS_HZ[column] * (1 + off), ms, level + twist_db, rate_hz=rate_hz, phase=1.0
    )


def keys(
    digits: str, ms: float = 100, gap_ms: float = 100, *, rate_hz: int = 8000, late_ms: float = 0, **how: float
) -> Wave:
    parts = [quiet(40 + late_ms, rate_hz)]
    for digit in digits:
        parts += [key(digit, ms, rate_hz=rate_hz, **how), quiet(gap_ms, rate_hz)]
    return np.concatenate([*parts, quiet(100, rate_hz)])


def frames(wave: Wave, form: AudioFormat = PCMU_8K) -> list[bytes]:
    audio = encode(form.encoding, np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes())
    whole = len(audio) - len(audio) % form.frame_bytes
    return [audio[at : at + form.frame_bytes] for at in range(0, whole, form.frame_bytes)]


def hear(wave: Wave, form: AudioFormat = PCMU_8K, *, lost: frozenset[int] = frozenset()) -> list[ToneHeard]:
    detector = ToneDetector(form)
    told: list[ToneHeard] = []
    for number, frame in enumerate(frames(wave, form)):
        told += detector.miss() if number in lost else detector.take(frame)
    return told


def digits(told: list[ToneHeard]) -> str:
    return "".join(heard.digit for heard in told)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────


@FORMATS
@pytest.mark.parametrize("late_ms", [0, 3, 7, 11, 19])
def test_every_key_is_heard_once_with_its_duration(form: AudioFormat, late_ms: int) -> None:
    told = hear(keys(KEYPAD + "11", rate_hz=form.sample_rate_hz, late_ms=late_ms), form)
    assert digits(told) == KEYPAD + "11"
    assert all(100 <= heard.duration_ms <= 125 for heard in told)


@FORMATS
@pytest.mark.parametrize(
    ("ms", "gap_ms", "how"),
    [
        (40, 40, {}),
        (50, 50, {"off": 0.015}),
        (50, 50, {"off": -0.015}),
        (50, 50, {"twist_db": 4.0}),
        (50, 50, {"twist_db": -8.0}),
        (50, 50, {"level": -27.0}),
        (50, 50, {"level": -3.0}),
        (2000, 40, {}),
    ],
)
def test_what_q24_asks_to_be_taken(form: AudioFormat, ms: int, gap_ms: int, how: dict[str, float]) -> None:
    for late_ms in (0, 6, 13):
        wave = keys(KEYPAD, ms, gap_ms, rate_hz=form.sample_rate_hz, late_ms=late_ms, **how)
        assert digits(hear(wave, form)) == KEYPAD


@FORMATS
@pytest.mark.parametrize(
    ("ms", "how"),
    [
        (23, {}),
        (100, {"off": 0.035}),
        (100, {"off": -0.035}),
        (100, {"twist_db": 9.0}),
        (100, {"twist_db": -14.0}),
        (100, {"level": -40.0}),
    ],
)
def test_what_q24_asks_to_be_left(form: AudioFormat, ms: int, how: dict[str, float]) -> None:
    for late_ms in (0, 6, 13):
        assert hear(keys(KEYPAD, ms, 100, rate_hz=form.sample_rate_hz, late_ms=late_ms, **how), form) == []


@pytest.mark.parametrize("late_ms", [0, 4, 9, 14])
def test_an_interruption_of_10_ms_is_none(late_ms: int) -> None:
    wave = np.concatenate([quiet(40 + late_ms), key("5", 80), quiet(10), key("5", 80), quiet(100)])
    assert digits(hear(wave)) == "5"


def test_another_key_without_a_pause_is_another() -> None:
    assert digits(hear(np.concatenate([quiet(40), key("1"), key("2"), key("1"), quiet(100)]))) == "121"


def test_a_key_under_noise() -> None:
    noise = np.random.default_rng(1).normal(0, rms_of(-25.0), keys(KEYPAD).size)
    assert digits(hear(keys(KEYPAD) + noise)) == KEYPAD


def test_a_key_is_told_when_it_is_over() -> None:
    detector = ToneDetector(PCMU_8K)
    sounding = frames(np.concatenate([key("7", 200), quiet(60)]))
    told = [detector.take(frame) for frame in sounding]
    assert [place for place, heard in enumerate(told) if heard] == [11]


# ── lost frames ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", range(2, 10))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_frames_lost_within_a_key_do_not_double_it(first: int, count: int) -> None:
    wave = keys("4", 200)
    told = hear(wave, lost=frozenset(range(first, first + count)))
    assert digits(told) == "4"


def test_a_key_of_100_ms_survives_any_lost_frame() -> None:
    for late_ms in (0, 5, 10, 15):
        for lost in range(12):
            assert digits(hear(keys("4", 100, late_ms=late_ms), lost=frozenset({lost}))) == "4"


def test_a_stream_that_stops_ends_the_key() -> None:
    detector = ToneDetector(PCMU_8K)
    for frame in frames(key("4", 200)):
        assert detector.take(frame) == []
    told = [detector.miss() for _ in range(MOST_MISSED_FRAMES + 2)]
    assert [digits(heard) for heard in told] == [""] * (MOST_MISSED_FRAMES - 1) + ["4"] + [""] * 2


def test_a_frame_of_another_length_is_none() -> None:
    detector = ToneDetector(PCMU_8K)
    assert detector.take(b"") == []
    assert detector.take(b"\x00" * 161) == []


# ── what is no key ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hz", [350, 425, 440, 480, 620, 697, 941, 1209, 1336, 1633, 2100])
def test_one_tone_is_no_key(hz: int) -> None:
    assert hear(sine(hz, 1000, -8.0)) == []


@pytest.mark.parametrize("pair", [(350, 440), (440, 480), (480, 620), (697, 770), (1336, 1477), (1400, 2060)])
def test_tones_of_the_network_are_no_keys(pair: tuple[int, int]) -> None:
    assert hear(sine(pair[0], 1000, -10.0) + sine(pair[1], 1000, -10.0)) == []


@pytest.mark.parametrize("level", [-30.0, -20.0, -10.0, -3.0])
def test_noise_is_no_key(level: float) -> None:
    assert hear(np.random.default_rng(2).normal(0, rms_of(level), 8000 * 30)) == []


def voiced(pitch_hz: Wave, formants_hz: tuple[float, ...], rate_hz: int = 8000) -> Wave:
    """A vowel: harmonics of a gliding pitch, strong near the formants, each with a resonance 90 Hz wide."""
    turns = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    wave = np.zeros(pitch_hz.size)
    for number in range(1, 48):
        hz = number * pitch_hz
        gain = np.full(hz.size, 0.3 if number == 1 else 0.0)
        for formant in formants_hz:
            gain += 1 / np.sqrt(1 + ((hz - formant) / 45) ** 2)
        wave += gain * (hz < 3800) * np.sin(number * turns)
    return np.asarray(wave / np.sqrt(np.mean(wave**2)) * rms_of(-15.0))


@pytest.mark.parametrize("glide_s", [1.0, 1.25, 1.5])
@pytest.mark.parametrize("falls", [False, True])
def test_vowels_with_formants_at_a_keys_tones_are_no_keys(glide_s: float, falls: bool) -> None:
    """The worst of talk-off: harmonics pass the frequencies of each key, and the formants lift just those."""
    rising = np.geomspace(80, 420, round(8000 * glide_s))
    for row in ROWS_HZ:
        for column in COLUMNS_HZ:
            assert hear(voiced(rising[::-1] if falls else rising, (row, column))) == []


def test_chords_are_no_keys() -> None:
    rng = np.random.default_rng(4)
    notes = 220 * 2 ** (np.arange(36) / 12)
    for _ in range(300):
        times = np.arange(8000 // 2) / 8000
        wave = quiet(500)
        for hz in rng.choice(notes, rng.integers(2, 5), replace=False):
            for number, share in ((1, 1.0), (2, 0.5), (3, 0.3), (4, 0.2)):
                if number * hz < 3900:
                    wave = wave + share * np.sin(2 * np.pi * number * hz * times + rng.uniform(0, 6))
        wave *= np.exp(-times * rng.uniform(0, 6)) * rms_of(-12.0)
        assert hear(np.concatenate([quiet(30), wave, quiet(100)])) == []


def test_speech_over_a_key_hides_it_rather_than_making_another() -> None:
    pitch = np.full(keys(KEYPAD).size, 190.0)
    told = digits(hear(keys(KEYPAD) + voiced(pitch, (500.0, 1500.0))))
    rest = iter(KEYPAD)
    assert all(digit in rest for digit in told)


# ── sent ─────────────────────────────────────────────────────────────────────────────────────────────────


def spoken(sender: ToneSender) -> bytes:
    out = b""
    while (frame := sender.next_frame()) is not None:
        out += frame
    return out


@FORMATS
def test_what_is_sent_is_what_is_heard(form: AudioFormat) -> None:
    sender = ToneSender(form)
    sender.queue(KEYPAD.lower(), 60)
    assert not sender.idle
    audio = spoken(sender)
    assert sender.idle
    assert len(audio) == len(KEYPAD) * (60 + TONE_GAP_MS) * form.bytes_per_ms
    wave = np.frombuffer(decode(form.encoding, audio), "<i2").astype(np.float64)
    assert digits(hear(wave, form)) == KEYPAD


def test_a_keys_levels() -> None:
    level = frame_level_db(PCMU_8K.encoding, key_tone("5", 500, PCMU_8K))
    assert level == pytest.approx(10 * np.log10(sum(10 ** (each / 10) for each in LEVEL_DBM0)), abs=0.2)


@pytest.mark.parametrize(("asked_ms", "frames_sent"), [(0, 2), (40, 2), (50, 3), (100, 5), (99_999, 300)])
def test_durations_are_whole_frames_within_bounds(asked_ms: int, frames_sent: int) -> None:
    sender = ToneSender(PCMU_8K)
    sender.queue("1", asked_ms)
    assert len(spoken(sender)) == 160 * (frames_sent + TONE_GAP_MS // 20)


def test_another_format_from_the_next_key_on() -> None:
    sender = ToneSender(PCMU_8K)
    sender.queue("12")
    assert len(sender.next_frame() or b"") == PCMU_8K.frame_bytes
    sender.retune(L16_16K)
    assert len(spoken(sender)) == L16_16K.frame_bytes * (100 + TONE_GAP_MS) // 20


@pytest.mark.parametrize("wrong", ["x", "1 2", "1" * (MAX_QUEUED_TONES + 1)])
def test_no_digit_is_refused_and_nothing_of_it_sent(wrong: str) -> None:
    sender = ToneSender(PCMU_8K)
    with pytest.raises(ValueError, match=r"."):
        sender.queue(wrong)
    assert sender.idle
