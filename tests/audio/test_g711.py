from __future__ import annotations

import numpy as np
import pytest
from tests.vectors.location import vectors

from offhook.audio.g711 import PCMA_TO_PCMU, PCMU_TO_PCMA, decode, encode, silence
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, Encoding

LAWS = [Encoding.PCMU, Encoding.PCMA]
ITU_NAMES = {
    Encoding.PCMU: ("sweep-r.u", "sweep-r.u-u", "sweep-r.reu"),
    Encoding.PCMA: ("sweep-r.a", "sweep-r.a-a", "sweep-r.rea"),
}
EVERY_CODE = bytes(range(256))


def itu_words(name: str) -> list[int]:
    """The 65,536 little-endian 16-bit words of one of ITU's files."""
    words = np.frombuffer(vectors("codec", "itu-g711", name).read_bytes(), dtype="<i2").tolist()
    assert len(words) == 65536
    return list(words)


def l16(*samples: int) -> bytes:
    return np.array(samples, dtype="<i2").tobytes()


@pytest.mark.parametrize("law", LAWS)
def test_encodes_every_16_bit_sample_as_itu_does(law: Encoding) -> None:
    sweep = vectors("codec", "itu-g711", "sweep.src").read_bytes()
    assert list(encode(law, sweep)) == itu_words(ITU_NAMES[law][0])


@pytest.mark.parametrize("law", LAWS)
def test_decodes_every_sample_of_the_sweep_as_itu_does(law: Encoding) -> None:
    encoded, decoded, there_and_back = ITU_NAMES[law]
    ours = np.frombuffer(decode(law, bytes(itu_words(encoded))), dtype="<i2").tolist()
    assert ours == itu_words(decoded)
    assert ours == itu_words(there_and_back)


@pytest.mark.parametrize("law", LAWS)
def test_a_decoded_code_encodes_to_itself(law: Encoding) -> None:
    again = encode(law, decode(law, EVERY_CODE))
    # µ-law has two zeros; 0 encodes as the positive one.
    assert again == (EVERY_CODE.replace(b"\x7f", b"\xff") if law is Encoding.PCMU else EVERY_CODE)


def test_known_values_of_the_recommendation() -> None:
    assert encode(Encoding.PCMU, l16(0, -1, 32767, -32768)) == b"\xff\x7f\x80\x00"
    assert encode(Encoding.PCMA, l16(0, -1, 32767, -32768)) == b"\xd5\x55\xaa\x2a"
    assert decode(Encoding.PCMU, b"\x80\x00") == l16(32124, -32124)
    assert decode(Encoding.PCMA, b"\xaa\x2a") == l16(32256, -32256)


def test_translation_between_the_laws_is_what_decoding_and_encoding_gives() -> None:
    assert EVERY_CODE.translate(PCMU_TO_PCMA) == encode(Encoding.PCMA, decode(Encoding.PCMU, EVERY_CODE))
    assert EVERY_CODE.translate(PCMA_TO_PCMU) == encode(Encoding.PCMU, decode(Encoding.PCMA, EVERY_CODE))


def test_translation_keeps_the_sign_and_the_order_of_loudness() -> None:
    rising = encode(Encoding.PCMU, l16(*range(0, 32768, 64)))
    as_pcma = np.frombuffer(decode(Encoding.PCMA, rising.translate(PCMU_TO_PCMA)), dtype="<i2")
    assert (np.diff(as_pcma) >= 0).all()
    assert as_pcma[0] == 8
    assert as_pcma[-1] == 32256


def test_l16_passes_as_it_is() -> None:
    audio = l16(1, -2, 3)
    assert decode(Encoding.L16, audio) is audio
    assert encode(Encoding.L16, audio) is audio


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer size"):
        encode(Encoding.PCMU, b"\x00\x00\x00")


def test_nothing_in_nothing_out() -> None:
    assert encode(Encoding.PCMA, b"") == decode(Encoding.PCMA, b"") == b""


def test_silence_is_one_frame_of_the_smallest_positive_value() -> None:
    assert silence(PCMU_8K) == b"\xff" * 160
    assert silence(PCMA_8K) == b"\xd5" * 160
    assert silence(L16_16K) == bytes(640)
