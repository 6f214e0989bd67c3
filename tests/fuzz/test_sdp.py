"""One invariant: whatever bytes arrive, ``parse`` returns a description that serialises and parses back to
itself, or raises ``SdpError``; and whatever it returns, ``negotiate`` answers or refuses, and never in clear where
SRTP is required."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.sdp.offers import CLIENTS, RFC_EXAMPLES

from offhook.model.errors import SdpError
from offhook.sdp.crypto import SrtpTerms
from offhook.sdp.description import parse, serialize
from offhook.sdp.offer_answer import Capabilities, NoCommonCodec, accept_answer, negotiate, offer

OURS = Capabilities(address="192.0.2.1", port=4000, session_id=1, version=1)
ENCRYPTED = replace(OURS, srtp=SrtpTerms(policy="required", seed=bytes(32)))
SEEDS = [*CLIENTS.values(), *RFC_EXAMPLES.values()]
LINES = sorted({line for seed in SEEDS for line in seed.split(b"\r\n") if line})

_fragments = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"=",
        b":",
        b"/",
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xe2\x80\xa8",
        b"-1",
        b"65536",
        b"9" * 30,
        b"m=",
        b"a=",
        b"inline:",
        b"|1:4",
        b"SAVP",
    ]
)
_lines = st.lists(st.sampled_from(LINES), max_size=40).map(lambda lines: b"v=0\r\n" + b"\r\n".join(lines))


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS) | _lines)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 12))
        data = data[:at] + draw(_fragments | st.binary(max_size=4)) + data[at + removed :]
    return data


def holds(data: bytes) -> None:
    try:
        description = parse(data)
    except SdpError:
        return
    assert parse(serialize(description)) == description
    result = negotiate(description, OURS)
    if not isinstance(result, NoCommonCodec):
        answer, _ = result
        assert len(answer.media) == len(description.media)
        assert parse(serialize(answer)) == answer
    accept_answer(offer(OURS), description, OURS)
    secured = negotiate(description, ENCRYPTED)
    assert isinstance(secured, NoCommonCodec) or secured[1].crypto is not None
    answered = accept_answer(offer(ENCRYPTED), description, ENCRYPTED)
    assert isinstance(answered, NoCommonCodec) or answered.crypto is not None


@given(data=st.binary(max_size=400) | _lines | _mutated())
@example(data=b"")
@example(data=b"v=0\no=- 1 1 IN IP4 \xff\nm=\xff 1 \xc3 \xa9")
@settings(max_examples=600, deadline=None)
def test_whatever_arrives_is_read_or_refused(data: bytes) -> None:
    holds(data)


@pytest.mark.soak
@given(data=st.binary(max_size=4000) | _lines | _mutated())
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_arrives_is_read_or_refused_for_minutes(data: bytes) -> None:
    holds(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_beginning_of_a_description_is_read_or_refused(seed: bytes) -> None:
    for end in range(len(seed)):
        holds(seed[:end])
