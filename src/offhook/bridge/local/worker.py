"""What a worker process does: read a request, answer it, until the input ends (so it never outlives the server).

Requests come on standard input, one answer each goes to standard output (``messages``).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO

from offhook.bridge.local.messages import (
    LENGTH_BYTES,
    MAX_MESSAGE_BYTES,
    Answer,
    Failed,
    Request,
    Started,
    pack,
    unpack_request,
)

NICENESS = 5
"""Speech may wait a few milliseconds; the RTP clock of the server may not."""

Task = Callable[[Request], Answer]


def serve(load: Callable[[], Task]) -> None:
    """Call ``load`` once, report ``Started``, then answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the server ends us
    os.nice(NICENESS)
    answers = _private_output()
    task = load()
    _write(answers, Started())
    while (body := _read(sys.stdin.buffer)) is not None:
        _write(answers, _answer(task, unpack_request(body)))


def _private_output() -> BinaryIO:
    """Standard output for us alone: what a library prints goes to standard error instead."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _answer(task: Task, request: Request) -> Answer:
    try:
        return task(request)
    except Exception as error:
        return Failed(problem=f"{type(error).__name__}: {error}")


def _read(requests: BinaryIO) -> bytes | None:
    header = requests.read(LENGTH_BYTES)
    length = int.from_bytes(header, "big")
    if len(header) < LENGTH_BYTES or length > MAX_MESSAGE_BYTES:
        return None
    body = requests.read(length)
    return body if len(body) == length else None


def _write(answers: BinaryIO, answer: Answer) -> None:
    answers.write(pack(answer))
    answers.flush()
