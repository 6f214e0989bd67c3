"""Calls in a row against one server process, some given up at random moments: it stays as big as it was."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.kept_calls import kept_calls
from tests.probe.drafts import Dialog, new_request
from tests.probe.programs import Server, scripted, serving
from tests.probe.wire import PATIENCE_S, Message, Peer

from offhook.store.database import READ_THREADS

AGENTS = (scripted("demo"), scripted("soon", open_after_ms=60))
LONGEST_RING_S = 0.12
"""A call to ``soon`` is answered after 60 ms: about half of what is given up is given up too late."""

TRANSACTIONS_RUN_OUT_S = 34.0
"""RFC 3261: timers H, J and L are 64*T1, 32 s; the RTP ports rest for 30."""

MAY_GROW_BYTES = 3_000_000
CALL_S = 0.08
"""A call takes at least this long: what it leaves behind for 32 s is 6 kB, so the pace decides the high-water mark."""

CALLS, GIVEN_UP, WARM_AFTER = 1000, 200, 100

POOL_THREADS = READ_THREADS + 1 + min(32, (os.cpu_count() or 1) + 4)
"""The database's readers and its writer, and asyncio's: each pool takes on another thread when all of its are at work,
up to its bound, and keeps them. Fewer than the calls of any test, so that a thread of each call is seen."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds. ``descriptors``: but for the database's files, which a bounded pool opens as it needs."""

    rss_bytes: int
    descriptors: int
    threads: int
    sockets: int

    @classmethod
    def of(cls, server: Server) -> Size:
        process = psutil.Process(server.process.pid)
        return cls(
            rss_bytes=process.memory_info().rss,
            descriptors=process.num_fds() - sum(".db" in Path(file.path).name for file in process.open_files()),
            threads=process.num_threads(),
            sockets=len(process.net_connections("all")),
        )

    def is_as_before(self, before: Size) -> bool:
        """In everything but memory."""
        same = (self.descriptors, self.sockets) == (before.descriptors, before.sockets)
        return same and self.threads - before.threads <= POOL_THREADS


class OneAfterTheOther:
    """A caller that tells how each call went."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self._server = server
        self._rng = rng
        self._peer = Peer()
        self.outcomes: Counter[str] = Counter()

    def close(self) -> None:
        self._peer.close()

    def call(self) -> None:
        """Answered, a little talk, hung up."""
        peer = self._peer
        invite = new_request(peer, self._server.address)
        peer.send(self._server.address, str(invite))
        answer = peer.final()
        assert answer.status == 200, answer
        self._talk_and_hang_up(Dialog(peer, invite, answer))
        self.outcomes["answered"] += 1

    def give_up(self) -> None:
        """CANCEL at a random moment; when the 200 was faster, ACK and BYE."""
        peer = self._peer
        invite = new_request(peer, self._server.address, user="soon")
        peer.send(self._server.address, str(invite))
        assert peer.response("INVITE").status == 100  # §9.1: not before a provisional response
        final = self._final_within(self._rng.random() * LONGEST_RING_S)
        peer.send(self._server.address, str(invite.companion("CANCEL")))
        cancelled = False
        while final is None or not cancelled:
            message = peer.receive()
            cancelled = cancelled or message.method == "CANCEL"
            final = message if message.method == "INVITE" and message.status >= 200 else final
        if final.status == 200:
            self._talk_and_hang_up(Dialog(peer, invite, final))
            self.outcomes["answered before the CANCEL"] += 1
        else:
            assert final.status == 487, final
            peer.send(self._server.address, str(invite.companion("ACK").with_(to=final.get("to"))))
            self.outcomes["cancelled"] += 1

    def _final_within(self, seconds: float) -> Message | None:
        """Of the responses that come until then, the final one."""
        finals = [message for message in self._peer.messages(for_s=seconds) if message.status >= 200]
        return finals[0] if finals else None

    def _talk_and_hang_up(self, dialog: Dialog) -> None:
        """Until the first RTP packet, which says that the media plane was at work."""
        peer = self._peer
        peer.send(self._server.address, str(dialog.ack()))
        peer.hears_rtp()
        peer.send(self._server.address, str(dialog.next("BYE")))
        while (message := peer.receive()).method != "BYE":
            assert message.method == "INVITE", message  # a copy of the 200
        assert message.status == 200
        peer.forget_rtp()


def lets_go(server: Server, before: Size) -> None:
    """Wait until it holds what it held before: a call's sockets are closed a moment after its BYE is answered."""
    end = time.monotonic() + PATIENCE_S
    while not (now := Size.of(server)).is_as_before(before):
        assert time.monotonic() < end, f"before: {before}, now: {now}"
        time.sleep(0.02)


def make_calls(server: Server, seed: int, *, number: int, given_up: int, pace_s: float = 0.0) -> dict[int, Size]:
    """``number`` calls, ``given_up`` of them by CANCEL; sizes after the first ones and after the last, settled."""
    rng = random.Random(seed)
    kinds = ["call"] * (number - given_up) + ["give_up"] * given_up
    rng.shuffle(kinds)
    caller = OneAfterTheOther(server, rng)
    sizes: dict[int, Size] = {}
    for count, kind in enumerate(kinds, start=1):
        began = time.monotonic()
        getattr(caller, kind)()
        time.sleep(max(0.0, pace_s - (time.monotonic() - began)))
        if count % WARM_AFTER == 0:
            if count in {WARM_AFTER, number}:
                time.sleep(TRANSACTIONS_RUN_OUT_S)
            sizes[count] = Size.of(server)
            print(f"after {count} calls: {sizes[count]}")
    caller.close()
    print(f"seed {seed}: {dict(caller.outcomes)}")
    assert sum(caller.outcomes.values()) == number
    assert caller.outcomes["cancelled"] > given_up / 5
    return sizes


def test_sixty_calls_leave_no_descriptor(tmp_path: Path) -> None:
    seed = 7
    with serving(tmp_path, agents=AGENTS) as server:
        before = Size.of(server)
        make_calls(server, seed, number=60, given_up=15)
        lets_go(server, before)
    assert len(kept_calls(tmp_path / "data")) == 60


@pytest.mark.soak
def test_a_thousand_calls_leave_nothing(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    with serving(tmp_path, agents=AGENTS) as server:
        before = Size.of(server)
        print(f"before: {before}")
        sizes = make_calls(server, seed, number=CALLS, given_up=GIVEN_UP, pace_s=CALL_S)
        lets_go(server, before)
        assert sizes[CALLS].rss_bytes - sizes[WARM_AFTER].rss_bytes <= MAY_GROW_BYTES
