from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import level_at, samples_of

from offhook.audio.g711 import decode
from offhook.audio.level import frame_level_db, rms_of
from offhook.audio.tones import tone
from offhook.model.audio import Encoding


@pytest.mark.parametrize("hz", [440, 1000, 2600])
def test_a_tone_has_its_frequency_and_no_other(hz: int) -> None:
    audio = tone(hz, 500, -10, Encoding.L16)
    assert level_at(hz, audio, 8000) == pytest.approx(rms_of(-10) * np.sqrt(2), rel=0.001)
    assert level_at(hz * 1.25, audio, 8000) < 5


@pytest.mark.parametrize(("encoding", "size"), [(Encoding.PCMU, 240), (Encoding.PCMA, 240), (Encoding.L16, 480)])
def test_a_tone_lasts_as_long_as_asked(encoding: Encoding, size: int) -> None:
    assert len(tone(440, 30, -10, encoding)) == size
    assert len(tone(440, 30, -10, encoding, sample_rate_hz=24000)) == 3 * size
    assert tone(440, 0, -10, encoding) == b""


def test_a_tone_begins_at_phase_0() -> None:
    samples = samples_of(tone(100, 20, 0, Encoding.L16))
    assert samples[0] == 0
    assert (np.diff(samples[:20]) > 0).all()


def test_too_loud_a_tone_is_clipped() -> None:
    samples = samples_of(decode(Encoding.PCMU, tone(440, 100, 20, Encoding.PCMU)))
    assert (samples.max(), samples.min()) == (32124, -32124)
    assert frame_level_db(Encoding.L16, tone(440, 100, 20, Encoding.L16)) < 6.2
