from __future__ import annotations

import msgspec
import pytest

from offhook.bridge.local.messages import (
    LENGTH_BYTES,
    Answer,
    Failed,
    Recognise,
    Recognised,
    Request,
    Spot,
    Spotted,
    Started,
    Synthesise,
    Synthesised,
    pack,
    unpack_answer,
    unpack_request,
)
from offhook.bridge.local.phrases import Vocabulary

REQUESTS: list[Request] = [
    Recognise(audio=b"\x00\xff", encoding="PCMU", sample_rate_hz=8000),
    Recognise(audio=b"", encoding="PCMA", sample_rate_hz=8000, vocabulary=Vocabulary.ASKING, names=("sales", "Grüße")),
    Spot(audio=b"\x7f", encoding="L16", sample_rate_hz=16000),
    Synthesise(text="Grüße", encoding="L16", sample_rate_hz=16000),
]
ANSWERS: list[Answer] = [
    Recognised(text=None),
    Recognised(text=""),
    Spotted(phrases=()),
    Spotted(phrases=("leave a message", "after the tone")),
    Synthesised(audio=b"\x01" * 500, word_ms=(0, 120)),
    Failed(problem="x"),
    Started(),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_comes_back_whole(request_: Request) -> None:
    packed = pack(request_)
    assert int.from_bytes(packed[:LENGTH_BYTES], "big") == len(packed) - LENGTH_BYTES
    assert unpack_request(packed[LENGTH_BYTES:]) == request_


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_comes_back_whole(answer: Answer) -> None:
    assert unpack_answer(pack(answer)[LENGTH_BYTES:]) == answer


def test_a_request_is_no_answer() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack_answer(pack(REQUESTS[0])[LENGTH_BYTES:])
