"""A flood of calls over ``max_calls``: refused with 503, and the calls that are up keep their rhythm."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.probe.calls import answered, hung_up
from tests.probe.drafts import Dialog, new_request
from tests.probe.programs import Server, serving
from tests.probe.wire import PATIENCE_S, Message, Peer

MAX_CALLS = 3
BATCH, PAUSE_S = 10, 0.01
"""1,000 INVITEs a second: far more than any exchange lets through to one subscriber."""

FRAME_S = 0.02
LONGEST_GAP_S = 0.12
USUAL_GAP_S = 0.04
"""Of 100 packets 99 follow the one before within two frames, however busy the machine is with the flood itself."""

_SO_TIMESTAMPNS = 35  # socket(7), Linux: the kernel notes when a packet came, so that reading late is no matter
_TIMESPEC = struct.Struct("@ll")


class TimedMedia:
    """An RTP socket whose arrivals are dated by the kernel."""

    def __init__(self, media: socket.socket) -> None:
        media.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        media.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        media.setblocking(False)
        self._media = media

    def gaps_s(self) -> list[float]:
        """Between the packets that have come, in order; shortest first."""
        times = list(self._arrivals())
        return sorted(later - earlier for earlier, later in itertools.pairwise(times))

    def _arrivals(self) -> Iterator[float]:
        while True:
            try:
                _, ancillary, _, _ = self._media.recvmsg(2048, 128)
            except BlockingIOError:
                return
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    seconds, nanoseconds = _TIMESPEC.unpack(data)
                    yield seconds + nanoseconds / 1e9


def flood(server: Server, number: int) -> Counter[int]:
    """So many INVITEs from one source; counts the statuses that came back."""
    peer = Peer()
    statuses: Counter[int] = Counter()
    for _ in range(number // BATCH):
        for _ in range(BATCH):
            peer.send(server.address, str(new_request(peer, server.address)))
        statuses.update(message.status for message in peer.messages(for_s=PAUSE_S))
    peer.close()
    return statuses


def assert_survives_a_flood(folder: Path, number: int, *, alone: bool) -> None:
    """``alone``: nothing else runs on this machine, so that the rhythm of the media can be judged."""
    with serving(folder, max_calls=MAX_CALLS) as server:
        peers = [Peer() for _ in range(MAX_CALLS)]
        media = TimedMedia(peers[0].media)
        dialogs = [answered(peer, server.address) for peer in peers]
        began = time.monotonic()
        statuses = flood(server, number)
        lasted_s = time.monotonic() - began
        gaps_s = media.gaps_s()
        for peer, dialog in zip(peers, dialogs, strict=True):
            hung_up(peer, server.address, dialog)
            peer.close()
        print(
            f"{number} INVITEs in {lasted_s:.1f} s: {dict(statuses)}; RTP: {len(gaps_s)} gaps, longest {gaps_s[-1]:.3f}"
        )
        assert statuses.keys() <= {100, 503}
        assert statuses[503] > number / 2
        assert len(gaps_s) >= lasted_s / FRAME_S * (0.95 if alone else 0.5) - 2
        if alone:
            assert gaps_s[len(gaps_s) * 99 // 100] <= USUAL_GAP_S
            assert gaps_s[-1] <= LONGEST_GAP_S
        later = Peer()
        while tried(server, later).status != 200:
            assert time.monotonic() < began + lasted_s + PATIENCE_S  # the calls are being put away
            time.sleep(0.02)
        later.close()


def test_a_flood_of_calls_is_refused_and_the_running_call_goes_on(tmp_path: Path) -> None:
    assert_survives_a_flood(tmp_path, 1000, alone=False)


@pytest.mark.soak
def test_a_long_flood(tmp_path: Path) -> None:
    assert_survives_a_flood(tmp_path, 30_000, alone=True)


def test_the_refusal_says_when_to_come_back(tmp_path: Path) -> None:
    """RFC 3261 §21.5.4; never 486 (carriers go elsewhere on 503). And who comes back is taken."""
    with serving(tmp_path, max_calls=1) as server:
        peer, other = Peer(), Peer()
        dialog = answered(peer, server.address)
        refusals = [tried(server, other)]
        hung_up(peer, server.address, dialog)
        while (answer := tried(server, other)).status == 503 and len(refusals) < 100:
            refusals.append(answer)  # the first call is being put away
            time.sleep(0.02)
        peer.close()
        other.close()
    assert answer.status == 200
    assert [message.status for message in refusals] == [503] * len(refusals)
    assert refusals[0].get("retry-after").isdigit()


def tried(server: Server, peer: Peer) -> Message:
    """The final response to a new call, which is acknowledged and, where it was taken, hung up."""
    invite = new_request(peer, server.address)
    peer.send(server.address, str(invite))
    answer = peer.final()
    if answer.status == 200:
        dialog = Dialog(peer, invite, answer)
        peer.send(server.address, str(dialog.ack()))
        hung_up(peer, server.address, dialog)
    else:
        peer.send(server.address, str(invite.companion("ACK").with_(to=answer.get("to"))))
    return answer
