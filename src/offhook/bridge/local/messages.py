"""What travels between the server and its workers: length-prefixed MessagePack, one answer to each request."""

from __future__ import annotations

import msgspec

from offhook.bridge.local.phrases import Vocabulary
from offhook.model.audio import SampleRate

LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Above four minutes of 16-bit speech at 16 kHz; a longer one means that the pipe lost its framing."""


class Recognise(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``audio``: one utterance, ``encoding`` and ``sample_rate_hz`` as in ``AudioFormat``.

    ``vocabulary``: what is listened for besides free speech; ``names``: whom the caller may ask for.
    """

    audio: bytes
    encoding: str
    sample_rate_hz: SampleRate
    vocabulary: Vocabulary = Vocabulary.COMMON
    names: tuple[str, ...] = ()


class Spot(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``audio`` as in ``Recognise``, up to some seconds: which phrases of ``answer_phrases`` are in it?"""

    audio: bytes
    encoding: str
    sample_rate_hz: SampleRate


class Synthesise(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    text: str
    encoding: str
    sample_rate_hz: SampleRate


class Recognised(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The words, in lower case; "" for speech without known words, None when it was no speech."""

    text: str | None


class Spotted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    phrases: tuple[str, ...]


class Synthesised(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``word_ms``: where each blank-separated word of the text begins in ``audio``."""

    audio: bytes
    word_ms: tuple[int, ...]


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker could not do this one and lives on."""

    problem: str


class Started(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Sent once, when everything is loaded."""


Request = Recognise | Spot | Synthesise
Answer = Recognised | Spotted | Synthesised | Failed | Started

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def pack(message: Request | Answer) -> bytes:
    """The message with its length before it, ready for the pipe."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def unpack_request(body: bytes) -> Request:
    return _requests.decode(body)


def unpack_answer(body: bytes) -> Answer:
    """Raises ``msgspec.DecodeError`` (a ``ValueError``) for what no worker of ours sends."""
    return _answers.decode(body)
