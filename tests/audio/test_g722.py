"""libg722 against ITU-T G.722 Appendix II, as it is linked into the package we use.

The sequences drive the two sub-band coders with the filter bank between them and the audio left out. At a sample
rate of 8 kHz the package does just that with the lower band. For both bands at once libg722 has a switch,
``itu_test_mode``, the first word of its state, which the package does not pass on: it is set in place here.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from G722 import G722
from numpy.typing import NDArray
from tests.audio.signals import decibels, frames_of, level_at, sine
from tests.vectors.location import vectors

from offhook.audio.g722 import G722Decoder, G722Encoder

MODES = {1: 64_000, 2: 56_000, 3: 48_000}
_RESET = 16  # words at either end of a sequence that only reset the coder (bit 0)
Words = NDArray[np.int16]


def sequence(name: str) -> Words:
    words = np.fromfile(vectors("codec", "g722-appendix2", name), dtype=">u2")
    resets = words & 1
    assert resets.tolist() == [1] * _RESET + [0] * (len(words) - 2 * _RESET) + [1] * _RESET
    return words[_RESET:-_RESET].astype(np.uint16).view(np.int16)


def octets(name: str) -> bytes:
    """A code word holds the RTP octet in its upper half: IH in bits 15 and 14, IL in 13 to 8."""
    return (sequence(name).view(np.uint16) >> 8).astype(np.uint8).tobytes()


def in_test_mode(codec: G722) -> G722:
    """Both bands, samples beside the filter bank: ``itu_test_mode, packed, eight_k, bits_per_sample`` come first."""
    decoder, encoder = (ctypes.c_size_t * 2).from_address(id(codec) + object.__basicsize__)
    for address in (decoder, encoder):
        words = (ctypes.c_int * 4).from_address(address)
        assert list(words) in ([0, 0, narrow, bits] for narrow in (0, 1) for bits in (6, 7, 8)), "another layout"
        words[0], words[2] = 1, 0
    return codec


@pytest.mark.parametrize(("samples", "codes"), [("bt1c1.xmt", "bt2r1.cod"), ("bt1c2.xmt", "bt2r2.cod")])
def test_both_bands_encode_to_the_itu_codes(samples: str, codes: str) -> None:
    codec = in_test_mode(G722(8000, 64_000, use_numpy=False))
    assert codec.encode(sequence(samples)) == octets(codes)


@pytest.mark.parametrize(("samples", "codes"), [("bt1c1.xmt", "bt2r1.cod"), ("bt1c2.xmt", "bt2r2.cod")])
def test_the_lower_band_encodes_to_the_itu_codes_by_the_package_alone(samples: str, codes: str) -> None:
    coded = G722(8000, 64_000, use_numpy=False).encode(sequence(samples))
    assert bytes(octet & 0x3F for octet in coded) == bytes(octet & 0x3F for octet in octets(codes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("codes", "number"), [("bt2r1.cod", 1), ("bt2r2.cod", 2), ("bt1d3.cod", 3)])
def test_codes_decode_to_the_itu_samples(codes: str, number: int, mode: int) -> None:
    """In modes 2 and 3 the lowest one and two bits of an octet are not the lower band's."""
    shortened = bytes(octet >> (mode - 1) for octet in octets(codes))
    codec = in_test_mode(G722(16_000, MODES[mode], use_numpy=False))
    decoded = np.asarray(codec.decode(shortened))
    np.testing.assert_array_equal(decoded[0::2], sequence(f"bt3l{number}.rc{mode}"))
    np.testing.assert_array_equal(decoded[1::2], sequence(f"bt3h{number}.rc0"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("codes", "number"), [("bt2r1.cod", 1), ("bt2r2.cod", 2), ("bt1d3.cod", 3)])
def test_the_lower_band_decodes_to_the_itu_samples_by_the_package_alone(codes: str, number: int, mode: int) -> None:
    shortened = bytes(octet >> (mode - 1) for octet in octets(codes))
    decoded = np.asarray(G722(8000, MODES[mode], use_numpy=False).decode(shortened))
    np.testing.assert_array_equal(decoded, sequence(f"bt3l{number}.rc{mode}"))


def coded_and_back(audio: bytes) -> bytes:
    encoder, decoder = G722Encoder(), G722Decoder()
    return b"".join(decoder.decode(encoder.encode(frame)) for frame in frames_of(audio, 640))


def test_20_ms_are_160_octets_and_20_ms_again() -> None:
    coded = G722Encoder().encode(sine(1000, 20, 16_000))
    assert len(coded) == 160
    assert len(G722Decoder().decode(coded)) == 640


@pytest.mark.parametrize("hz", [300, 1000, 3000, 5000, 6500])
def test_a_tone_comes_back_at_its_level(hz: int) -> None:
    audio = sine(hz, 500, 16_000)
    heard = coded_and_back(audio)
    assert decibels(level_at(hz, heard[6400:], 16_000) / level_at(hz, audio[6400:], 16_000)) == pytest.approx(0, abs=1)


def test_a_frame_coded_alone_is_the_same_as_one_coded_in_pieces() -> None:
    audio = sine(700, 100, 16_000)
    encoder = G722Encoder()
    assert b"".join(encoder.encode(frame) for frame in frames_of(audio, 320)) == G722Encoder().encode(audio)


def test_what_is_no_sound_is_decoded_as_well() -> None:
    assert len(G722Decoder().decode(bytes(range(256)))) == 1024
    assert G722Decoder().decode(b"") == b""
