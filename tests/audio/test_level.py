from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
from tests.audio.signals import samples_of, white_noise

from offhook.audio.g711 import SILENCE, decode
from offhook.audio.level import (
    LOUDNESS,
    QUIETEST_DBM0,
    attenuate,
    frame_level_db,
    level_of,
    loudness_of,
    rms_of,
)
from offhook.audio.tones import tone
from offhook.model.audio import Encoding

LAWS = [Encoding.PCMU, Encoding.PCMA]
EVERY_CODE = bytes(range(256))


def test_a_full_scale_sine_is_3_14_dbm0() -> None:
    assert level_of(32768 / math.sqrt(2)) == pytest.approx(3.14)
    assert rms_of(3.14) == pytest.approx(32768 / math.sqrt(2))


@pytest.mark.parametrize("law", [*LAWS, Encoding.L16])
@pytest.mark.parametrize("level_dbm0", [3, 0, -10, -20, -40])
def test_a_tone_has_the_level_it_was_made_with(law: Encoding, level_dbm0: float) -> None:
    assert frame_level_db(law, tone(440, 200, level_dbm0, law)) == pytest.approx(level_dbm0, abs=0.2)


@pytest.mark.parametrize("law", LAWS)
def test_silence_is_the_quietest(law: Encoding) -> None:
    assert frame_level_db(law, b"") == QUIETEST_DBM0
    assert frame_level_db(law, SILENCE[law] * 160) < -60
    assert sum((SILENCE[law] * 160).translate(LOUDNESS[law])) == 0


@pytest.mark.parametrize("law", LAWS)
def test_loudness_grows_with_the_amplitude_of_a_code(law: Encoding) -> None:
    order = np.argsort(np.abs(samples_of(decode(law, EVERY_CODE))), kind="stable")
    loudness = [LOUDNESS[law][code] for code in order]
    assert loudness == sorted(loudness)
    assert (loudness[0], loudness[-1]) == (0, 255)
    assert len(set(loudness)) > 70


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("level_dbm0", [-40, -30, -20, -10])
def test_loudness_of_noise_is_what_is_foretold(law: Encoding, level_dbm0: float) -> None:
    measured = fmean(white_noise(level_dbm0, 2000, law).translate(LOUDNESS[law]))
    assert measured == pytest.approx(loudness_of(level_dbm0), rel=0.06)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("db", [3, 6, 12, 21, 30])
def test_attenuation_lowers_the_level_by_as_much(law: Encoding, db: int) -> None:
    loud = tone(440, 200, 0, law)
    assert frame_level_db(law, attenuate(law, loud, db)) == pytest.approx(-db, abs=0.4)


@pytest.mark.parametrize("law", LAWS)
def test_attenuation_is_rounded_to_steps_and_ends_in_silence(law: Encoding) -> None:
    frame = tone(440, 20, -10, law)
    assert attenuate(law, frame, 0) is frame
    assert attenuate(law, frame, -6) is frame
    assert attenuate(law, frame, 1.4) is frame
    assert attenuate(law, frame, 4.4) == attenuate(law, frame, 3) != frame
    assert attenuate(law, frame, 1000) == attenuate(law, frame, 60)
    assert frame_level_db(law, attenuate(law, frame, 60)) < -60
    assert max(attenuate(law, EVERY_CODE, 90).translate(LOUDNESS[law])) < 10


@pytest.mark.parametrize("law", LAWS)
def test_attenuation_of_silence_is_silence(law: Encoding) -> None:
    silent = SILENCE[law] * 160
    assert samples_of(decode(law, attenuate(law, silent, 9))).max() <= 8
    assert sum(attenuate(law, silent, 9).translate(LOUDNESS[law])) == 0
