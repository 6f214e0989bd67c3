"""A program that runs beside the test: its output is kept, and it always ends with the test."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

POLL_S = 0.02
TAIL_LINES = 40
STOP_S = 5.0
"""From SIGTERM to SIGKILL."""


class Program:
    """Made by ``Program.start``. ``lines`` is what it wrote to stdout and stderr so far, with times."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.lines: list[tuple[float, str]] = []
        self._process = process
        self._changed = asyncio.Condition()
        self._ended = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        *argv: str | Path,
        namespace: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Program:
        """Start ``argv``, in a network namespace when one is given."""
        command = [str(part) for part in argv]
        if namespace is not None:
            command = ["ip", "netns", "exec", namespace, *command]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(Path(str(argv[0])).name, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "\n".join(line for _, line in self.lines)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def says(self, pattern: str, timeout_s: float = 10.0, since: int = 0) -> re.Match[str]:
        """Wait for a line that ``pattern`` is found in, at or after line number ``since``."""
        wanted = re.compile(pattern)
        looked_at = since
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while True:
                    for _, line in self.lines[looked_at:]:
                        found = wanted.search(line)
                        if found is not None:
                            return found
                    looked_at = len(self.lines)
                    if self._ended:
                        raise AssertionError(f"{self.name} ended without saying {pattern!r}:\n{self.tail()}")
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} did not say {pattern!r} in {timeout_s:g} s:\n{self.tail()}") from None

    async def listens(self, transport: str, port: int, timeout_s: float = 10.0) -> None:
        """Wait until ``port`` is open, for a program that does not say so: the kernel knows."""
        local = re.compile(rf"^\s*\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 ", re.MULTILINE)
        for _ in range(round(timeout_s / POLL_S)):
            tables = (Path(f"/proc/{self.pid}/net/{transport}{family}") for family in ("", "6"))
            if any(local.search(table.read_text()) for table in tables if table.exists()):
                return
            assert self.running, f"{self.name} ended:\n{self.tail()}"
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"{self.name} did not open port {port} in {timeout_s:g} s:\n{self.tail()}")

    async def type(self, line: str) -> None:
        """Type a line on its console."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def ends(self, timeout_s: float) -> int:
        """Wait for its end; returns its exit code."""
        try:
            code = await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            raise AssertionError(f"{self.name} still runs after {timeout_s:g} s:\n{self.tail()}") from None
        await self._reader
        return code

    @contextlib.asynccontextmanager
    async def stopped_on_failure(self) -> AsyncIterator[None]:
        """For what remains of its start: whoever fails there leaves no program behind."""
        try:
            yield
        except BaseException:
            await self.stop()
            raise

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """What a service manager does."""
        self._process.terminate()

    async def kill(self) -> None:
        """kill -9."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.stop()

    async def stop(self) -> None:
        """End it, by force if need be. Idempotent."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reader
        if self._process.stdin is not None:
            self._process.stdin.close()

    def tail(self) -> str:
        return "\n".join(line for _, line in self.lines[-TAIL_LINES:])

    async def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while read := await self._process.stdout.read(65_536):
            # baresip draws its meter with carriage returns, linphone's prompt has no line end of its own
            *whole, rest = re.split(rb"[\r\n]+", rest + read)
            await self._note(whole)
        await self._note([rest], ended=True)

    async def _note(self, raw: list[bytes], *, ended: bool = False) -> None:
        now = time.monotonic()
        async with self._changed:
            self.lines.extend((now, one.decode("utf-8", "replace")) for one in raw if one.strip())
            self._ended = ended
            self._changed.notify_all()
