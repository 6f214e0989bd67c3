"""A web server that is told by webhooks, as a process of its own: what it has, it has on disk before it answers.

``python -m tests.interop.webhook_receiver PORT FILE SECRET``. One line of JSON in FILE for each message. The signature
is judged by the reference library of Standard Webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import standardwebhooks
from aiohttp import web
from tests.interop.program import Program
from tests.interop.tools import free_port

from offhook.delivery.signing import new_secret

ROOT = Path(__file__).parents[2]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One message, as often as it came. ``at``: Unix seconds. ``problem``: what is wrong with its signature."""

    id: str
    at: float
    body: str
    problem: str = ""

    @property
    def document(self) -> Mapping[str, Any]:
        document: Mapping[str, Any] = msgspec.json.decode(self.body)
        return document


def received(file: Path) -> list[Received]:
    """Everything in ``file``, in the order in which it came."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    found = []
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):  # it was killed in the middle of this, so it never answered
            found.append(msgspec.json.decode(line, type=Received))
    return found


@contextmanager
def receiving(file: Path) -> Iterator[WebhookReceiver]:
    """One that lives until the end of the block."""
    one = WebhookReceiver(free_port("tcp"), file, new_secret())
    with subprocess.Popen(one.command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the receiver did not start"
            yield one
        finally:
            process.kill()


class WebhookReceiver:
    """Started by a test; ``kill`` and ``start`` as often as it likes, always on one port and one file."""

    def __init__(self, port: int, file: Path, secret: str) -> None:
        self.port = port
        self.file = file
        self.secret = secret
        self.program: Program | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/offhook"

    @property
    def form(self) -> dict[str, str]:
        """The webhook, as config.json and the API have it."""
        return {"id": "crm", "url": self.url, "secret": self.secret}

    @property
    def received(self) -> list[Received]:
        return received(self.file)

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-m", __name__, str(self.port), str(self.file), self.secret)

    async def start(self) -> None:
        self.program = await Program.start(*self.command, cwd=ROOT)
        async with self.program.stopped_on_failure():
            await self.program.says("receives", timeout_s=30)

    async def kill(self) -> None:
        if self.program is not None:
            await self.program.kill()

    async def stop(self) -> None:
        if self.program is not None:
            await self.program.stop()


class _Notebook:
    def __init__(self, file: Path, secret: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if os.lseek(self._file, 0, os.SEEK_END):
            os.write(self._file, b"\n")  # an earlier one may have been killed in the middle of a line
        self._webhook = standardwebhooks.Webhook(secret)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            self._webhook.verify(body, headers)
            problem = ""
        except standardwebhooks.WebhookVerificationError as error:
            problem = str(error)
        one = Received(id=headers.get("webhook-id", ""), at=time.time(), body=body.decode(), problem=problem)
        os.write(self._file, msgspec.json.encode(one) + b"\n")
        return web.Response(status=204)


async def main(port: str, file: str, secret: str) -> None:
    app = web.Application()
    app.router.add_post("/offhook", _Notebook(Path(file), secret).take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port)).start()
    print("receives", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
