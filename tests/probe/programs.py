"""offhook as a process of its own: the server that is probed, and the caller that calls the probe."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.probe.wire import HOST, Peer

from offhook.sip.events import Address

START_S = 20.0
END_S = 20.0
"""Guards against hanging only."""

_LISTENING = re.compile(r"listens on \w+ (\S+):(\d+)")


def scripted(agent_id: str, **script: object) -> dict[str, object]:
    """An agent of config.json that follows a script and records nothing."""
    return {"id": agent_id, "provider": "scripted", "record": False, "options": {"script": json.dumps(script)}}


AGENTS = (
    scripted("demo"),
    scripted("slow", open_after_ms=20_000),  # rings and rings
    scripted("soon", open_after_ms=40),
    scripted("brief", hang_up_after_ms=100),
    scripted("later", hang_up_after_ms=600),
)
"""Each answers the number of its id."""


class Program:
    """``python -m offhook …`` with its output, line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "offhook", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.output = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def says(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Wait for a line that matches; each line is looked at once."""
        while line := self._next_line():
            found = pattern.search(line)
            if found is not None:
                return found
        raise AssertionError(f"never said {pattern.pattern!r}:\n{self.output}")

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def ends(self) -> int:
        """Its exit code; everything it wrote is in ``output``."""
        code = self.process.wait(END_S)
        self._reader.join(END_S)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(END_S)
        self._reader.join(END_S)

    def _next_line(self) -> str | None:
        """None when it ended, or says nothing for too long."""
        try:
            return self._lines.get(timeout=START_S)
        except queue.Empty:
            return None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            self._lines.put(line)
        self._lines.put(None)
        self.process.stdout.close()


class Server(Program):
    """``offhook serve`` on a free port."""

    def __init__(
        self, folder: Path, *, host: str = HOST, agents: tuple[dict[str, object], ...], **more: object
    ) -> None:
        numbers = [{"user": agent["id"], "agent": agent["id"]} for agent in agents]
        document = {"sip": {"host": host, "port": 0}, "agents": agents, "numbers": numbers, **more}
        config = folder / "config.json"
        config.write_text(json.dumps(document))
        super().__init__("serve", "--config", str(config), "--data", str(folder / "data"))
        found = self.says(_LISTENING)
        self.address = Address(found[1].strip("[]"), int(found[2]))


@contextmanager
def serving(
    folder: Path, *, host: str = HOST, agents: tuple[dict[str, object], ...] = AGENTS, **more: object
) -> Iterator[Server]:
    """A server until the end of the block; it must have lived until then, without a traceback in its log."""
    server = Server(folder, host=host, agents=agents, **more)
    try:
        yield server
        assert server.running, f"the server died:\n{server.output}"
        server.interrupt()
        assert server.ends() == 0, server.output
        assert "Traceback" not in server.output, server.output
    finally:
        if server.running:
            server.kill()


class Caller(Program):
    """``offhook call`` to a peer; its INVITE is in ``invite`` once ``dial`` returns."""

    def __init__(self, peer: Peer, *options: str, parameters: str = "") -> None:
        self.peer = peer
        uri = f"sip:bob@{peer.host_port}{parameters}"
        super().__init__("call", uri, "--host", peer.address.host, "--no-transcript", *options)
        try:
            self.invite = peer.request("INVITE")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.output}") from None
        top_via = self.invite.all("via")[0]
        sent_by = top_via.split()[1].partition(";")[0]
        self.address = Address(peer.address.host, int(sent_by.rpartition(":")[2]))

    def answer(self, text: str) -> None:
        self.peer.send(self.address, text)


def result(output: str) -> Mapping[str, Any]:
    """What ``offhook call --json`` printed."""
    document: Mapping[str, Any] = json.loads(output[output.index("{") :])
    return document
