"""One of offhook's media sessions as a program of its own, to be put behind a bad network: dials, and writes down.

    python -m tests.interop.dtmf_phone HOST REMOTE_HOST '{"seed": 1, "strings": 20, "duration_ms": 100}'

Both sides run the same. What one dialled and heard comes as one line of JSON, times by the clock both share.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Literal

from offhook.media.clock import MediaClock
from offhook.media.events import DtmfReceived, MediaEvent
from offhook.media.ports import PortPool
from offhook.media.session import MediaSession
from offhook.model.audio import Encoding
from offhook.rtp.telephone_event import DIGITS
from offhook.sdp.offer_answer import Agreement

PORT = 20_000
EVENT_TYPE = 101
STRING_DIGITS = 10
PAUSE_S = 1.0
"""Between strings: a lost end is noticed after 0.4 s, and the network may be 0.1 s slower than it was."""

RINGING_S = 3.0
"""For the other side to be there."""

Way = Literal["rfc4733", "inband"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a side dials: ``strings`` of ten digits, drawn from ``seed``, one in three with a digit pressed twice."""

    seed: int
    strings: int
    duration_ms: int
    way: Way = "rfc4733"
    silent: bool = False
    """Only listen, for as long."""

    def draw(self) -> list[str]:
        rng = random.Random(self.seed)
        drawn = []
        for number in range(self.strings):
            keys = rng.choices(DIGITS, k=STRING_DIGITS)
            if number % 3 == 0:
                twice = rng.randrange(1, STRING_DIGITS)
                keys[twice] = keys[twice - 1]
            drawn.append("".join(keys))
        return drawn


@dataclass(kw_only=True, slots=True)
class Account:
    """``dialled``: when each string began. ``heard``: when each digit was told."""

    dialled: list[tuple[float, str]] = field(default_factory=list)
    heard: list[tuple[float, str]] = field(default_factory=list)
    packets_lost: int = 0
    packets_received: int = 0


async def dial(host: str, remote_host: str, plan: Plan) -> Account:
    account = Account()

    def listen(event: MediaEvent) -> None:
        if isinstance(event, DtmfReceived):
            account.heard.append((time.monotonic(), event.digit))

    session = MediaSession(
        clock=MediaClock(),
        pool=PortPool(PORT, PORT + 1),
        local_host=host,
        ssrc=random.getrandbits(32),
        listener=listen,
    )
    session.start(agreement(remote_host, plan.way))
    await asyncio.sleep(RINGING_S)
    for string in plan.draw():
        if not plan.silent:
            account.dialled.append((time.monotonic(), string))
            session.send_dtmf(string, plan.duration_ms, way=plan.way)
        await asyncio.sleep(STRING_DIGITS * time_of(plan) + PAUSE_S)
    await asyncio.sleep(RINGING_S)
    stats = session.stats()
    assert stats is not None
    account.packets_lost, account.packets_received = stats.packets_lost, stats.packets_received
    session.close()
    return account


def time_of(plan: Plan) -> float:
    """Seconds from one digit to the next: whole frames, two more end packets, and the pause."""
    return (-(-plan.duration_ms // 20) * 20 + (120 if plan.way == "rfc4733" else 100)) / 1000


def agreement(remote_host: str, way: Way) -> Agreement:
    events = EVENT_TYPE if way == "rfc4733" else None
    return Agreement(
        encoding=Encoding.PCMU,
        payload_type=0,
        receive_payload_type=0,
        ptime_ms=20,
        dtmf_payload_type=events,
        dtmf_receive_payload_type=events,
        remote=(remote_host, PORT),
        remote_rtcp=(remote_host, PORT + 1),
        direction="sendrecv",
    )


if __name__ == "__main__":
    result = asyncio.run(dial(sys.argv[1], sys.argv[2], Plan(**json.loads(sys.argv[3]))))
    print(json.dumps(asdict(result)))
