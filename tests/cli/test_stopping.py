"""How a server stops: SIGTERM lets calls run out, a second one ends them, Ctrl-C ends them at once."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.probe.calls import answered, hung_up
from tests.probe.drafts import Dialog, new_request, response
from tests.probe.programs import AGENTS, Server
from tests.probe.wire import Peer

CALLS = 20
BYE_WITHIN_S = 2.0

DRAINING = re.compile(rf"draining: no new calls are taken, {CALLS} calls")
ENDING = re.compile(rf"ending {CALLS} calls")


class Stopping:
    """A server with calls up, each with a peer of its own."""

    def __init__(self, server: Server, calls: list[tuple[Peer, Dialog]]) -> None:
        self.server = server
        self.calls = calls

    def signal(self, number: signal.Signals) -> float:
        """When it was sent."""
        self.server.process.send_signal(number)
        return time.monotonic()

    def status(self, method: str) -> int:
        """What a new request gets."""
        with closing(Peer()) as peer:
            peer.send(self.server.address, str(new_request(peer, self.server.address, method)))
            return peer.final(method).status

    def byes(self) -> list[str]:
        """Wait for a BYE to everybody, and answer it: the reasons they gave."""
        reasons = []
        for peer, _ in self.calls:
            bye = peer.request("BYE")
            peer.send(self.server.address, response(bye, 200))
            reasons.append(bye.get("reason"))
        return reasons


@contextmanager
def serving(folder: Path, calls: int = CALLS) -> Iterator[Stopping]:
    server = Server(folder, agents=AGENTS)
    with ExitStack() as cleanup:
        cleanup.callback(lambda: server.kill() if server.running else None)
        peers = [cleanup.enter_context(closing(Peer())) for _ in range(calls)]
        yield Stopping(server, [(peer, answered(peer, server.address)) for peer in peers])


def test_sigterm_lets_calls_run_out_and_takes_no_new_one(tmp_path: Path) -> None:
    with serving(tmp_path) as stopping:
        stopping.signal(signal.SIGTERM)
        stopping.server.says(DRAINING)
        assert [stopping.status(method) for method in ("INVITE", "OPTIONS")] == [503, 503]
        for peer, dialog in stopping.calls:
            assert stopping.server.running
            hung_up(peer, stopping.server.address, dialog)
        assert stopping.server.ends() == 0
        assert "ending" not in stopping.server.output
        assert "Traceback" not in stopping.server.output


def test_a_second_sigterm_says_bye_to_all_within_two_seconds(tmp_path: Path) -> None:
    with serving(tmp_path) as stopping:
        stopping.signal(signal.SIGTERM)
        stopping.server.says(DRAINING)
        asked = stopping.signal(signal.SIGTERM)
        assert set(stopping.byes()) == {'SIP;cause=503;text="the server stops"'}
        assert time.monotonic() - asked < BYE_WITHIN_S
        assert stopping.server.ends() == 0
        assert ENDING.search(stopping.server.output)


def test_ctrl_c_says_bye_to_all_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as stopping:
        asked = stopping.signal(signal.SIGINT)
        assert len(stopping.byes()) == CALLS
        assert time.monotonic() - asked < BYE_WITHIN_S
        assert stopping.server.ends() == 0
        assert "draining" not in stopping.server.output


def test_without_calls_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    with serving(tmp_path, calls=0) as stopping:
        stopping.signal(signal.SIGTERM)
        assert stopping.server.ends() == 0
        assert "draining: no" not in stopping.server.output
