from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import level_at

from offhook.audio.g711 import PCMA_TO_PCMU, PCMU_TO_PCMA, decode
from offhook.audio.level import level_of
from offhook.audio.tones import tone
from offhook.media.events import Played
from offhook.media.playout import MAX_ITEMS, MAX_QUEUED_MS, Ended, Playout
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat

FRAME = 160
SILENCE = b"\xff"


def playout() -> Playout:
    return Playout(PCMU_8K)


def frames_of(made: Playout, ticks: int) -> list[bytes | None]:
    """What each tick sends; items that end on the way are taken."""
    out: list[bytes | None] = []
    for _ in range(ticks):
        frame = made.next_frame()
        out.append(frame)
        while made.take_ended():
            pass
    return out


def test_nothing_is_said_when_nothing_waits() -> None:
    made = playout()
    assert made.next_frame() is None
    assert made.take_ended() is None
    assert (made.playing, made.queued_ms) == (None, 0)


def test_audio_of_any_length_is_cut_into_frames() -> None:
    made = playout()
    audio = bytes(index % 251 for index in range(FRAME * 4))
    for start in range(0, len(audio), 97):
        made.play("a", audio[start : start + 97])
    assert made.queued_ms == 80
    assert frames_of(made, 4) == [audio[start : start + FRAME] for start in range(0, len(audio), FRAME)]


def test_a_rest_waits_for_more_until_the_item_is_finished() -> None:
    made = playout()
    made.play("a", b"\x01" * 200)
    assert frames_of(made, 2) == [b"\x01" * FRAME, None]
    made.play("a", b"\x02" * 20)
    made.finish("a")
    assert frames_of(made, 1) == [b"\x01" * 40 + b"\x02" * 20 + SILENCE * 100]


def test_an_item_ends_with_the_ms_that_were_sent() -> None:
    made = playout()
    made.play("a", bytes(240))
    made.finish("a")
    for _ in range(2):
        assert made.take_ended() is None
        made.next_frame()
    assert made.take_ended() == Ended(item="a", played_ms=30)
    assert made.take_ended() is None


def test_an_item_finished_after_its_audio_was_sent_ends_then() -> None:
    made = playout()
    made.play("a", bytes(FRAME))
    assert frames_of(made, 1) == [bytes(FRAME)]
    assert made.playing == "a"
    assert made.take_ended() is None
    made.finish("a")
    assert made.take_ended() == Ended(item="a", played_ms=20)
    assert made.playing is None


def test_an_item_without_audio_ends_as_well() -> None:
    made = playout()
    made.finish("empty")
    assert made.playing is None
    assert made.take_ended() == Ended(item="empty", played_ms=0)


def test_items_play_one_after_another() -> None:
    made = playout()
    made.play("a", b"\x01" * FRAME)
    made.play("b", b"\x02" * FRAME)
    made.finish("a")
    made.finish("b")
    assert made.playing == "a"
    assert frames_of(made, 3) == [b"\x01" * FRAME, b"\x02" * FRAME, None]


def test_an_item_that_was_never_finished_ends_when_the_next_one_has_come() -> None:
    made = playout()
    made.play("a", b"\x01" * 100)
    made.play("b", b"\x02" * FRAME)
    assert made.next_frame() == b"\x01" * 100 + SILENCE * 60
    assert made.take_ended() == Ended(item="a", played_ms=12)
    assert made.next_frame() == b"\x02" * FRAME


def test_the_same_name_after_its_end_is_a_new_item() -> None:
    made = playout()
    made.play("a", bytes(FRAME))
    made.finish("a")
    made.play("a", bytes(FRAME))
    assert made.items == 2


def test_flush_tells_of_each_item_in_order() -> None:
    made = playout()
    made.play("a", bytes(FRAME * 10))
    made.play("b", bytes(FRAME))
    frames_of(made, 3)
    assert made.flush() == [Played(item="a", played_ms=60), Played(item="b", played_ms=0)]
    assert (made.playing, made.queued_ms, made.next_frame(), made.flush()) == (None, 0, None, [])


def test_one_item_can_be_flushed_from_among_others() -> None:
    made = playout()
    for name in "abc":
        made.play(name, name.encode() * FRAME)
    assert made.flush("b") == [Played(item="b", played_ms=0)]
    assert made.queued_ms == 40
    assert frames_of(made, 2) == [b"a" * FRAME, b"c" * FRAME]
    assert made.flush("nothing") == []


def test_a_pause_keeps_everything_where_it_is() -> None:
    made = playout()
    made.play("a", bytes(FRAME * 2))
    frames_of(made, 1)
    made.paused = True
    made.finish("a")
    assert frames_of(made, 5) == [None] * 5
    made.missed(3)
    assert made.queued_ms == 20
    made.paused = False
    assert frames_of(made, 1) == [bytes(FRAME)]


def test_frames_that_were_missed_are_gone_and_not_counted_as_played() -> None:
    made = playout()
    made.play("a", bytes(FRAME * 10))
    made.missed(4)
    assert made.queued_ms == 120
    frames_of(made, 2)
    assert made.flush() == [Played(item="a", played_ms=40)]


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    made = playout()
    made.play("a", bytes((MAX_QUEUED_MS + 1000) * 8))
    assert made.queued_ms == MAX_QUEUED_MS
    assert made.overflow_bytes == 8000
    made.play("b", bytes(FRAME))
    assert made.queued_ms == MAX_QUEUED_MS
    assert made.overflow_bytes == 8000 + FRAME


def test_silence_within_an_item_is_counted() -> None:
    made = playout()
    made.play("a", bytes(FRAME))
    frames_of(made, 4)
    assert made.starved_frames == 3


def test_a_changed_encoding_translates_what_waits_and_what_comes() -> None:
    made = playout()
    made.play("a", bytes(range(160)))
    made.recode(PCMA_8K)
    made.play("a", bytes(range(160)).translate(PCMU_TO_PCMA))
    made.play("b", b"\x2a" * FRAME)
    assert made.queued_ms == 60
    twice = bytes(range(160)).translate(PCMU_TO_PCMA)
    there_and_back = twice.translate(PCMA_TO_PCMU).translate(PCMU_TO_PCMA)
    assert frames_of(made, 3) == [twice, there_and_back, b"\x2a" * FRAME]


@pytest.mark.parametrize(("before", "after"), [(PCMU_8K, L16_16K), (L16_16K, PCMA_8K)])
def test_a_changed_rate_keeps_time_and_sound_of_what_waits(before: AudioFormat, after: AudioFormat) -> None:
    made = Playout(before)
    made.play("a", tone(700, 400, -10, before.encoding, sample_rate_hz=before.sample_rate_hz))
    frames_of(made, 5)
    made.recode(after)
    assert (made.format, made.queued_ms) == (after, 300)
    made.play("a", tone(700, 100, -10, after.encoding, sample_rate_hz=after.sample_rate_hz))
    made.finish("a")
    frames = [made.next_frame() for _ in range(20)]
    assert {len(frame) for frame in frames if frame is not None} == {after.frame_bytes}
    heard = decode(after.encoding, b"".join(frame for frame in frames[1:] if frame is not None))
    level = level_of(level_at(700, heard, after.sample_rate_hz) / np.sqrt(2))
    assert level == pytest.approx(-10, abs=0.5)
    assert made.take_ended() == Ended(item="a", played_ms=500)


def test_what_waited_for_the_agreement_is_in_the_format_agreed() -> None:
    made = playout()
    made.play("a", bytes(640))
    made.agree(L16_16K)
    assert made.queued_ms == 20
    assert made.next_frame() == bytes(640)


@pytest.mark.parametrize("sounded", [True, False])
def test_the_first_sound_is_asked_for_until_it_was_found(sounded: bool) -> None:
    made = playout()
    made.play("a", bytes(FRAME * 2))
    made.next_frame()
    assert made.sounding_item == "a"
    if sounded:
        made.mark_sounded()
    made.next_frame()
    assert made.sounding_item == (None if sounded else "a")


def test_a_thousand_items_are_not_kept() -> None:
    made = playout()
    for number in range(MAX_ITEMS + 1000):
        made.play(str(number), bytes(FRAME))
        made.finish(str(number))
        made.finish(f"unheard {number}")
    assert made.items == MAX_ITEMS
    assert made.overflow_bytes > 1000 * FRAME
