"""Worker processes from the server's side: a bounded queue, one request in a worker at a time, restarts.

The event loop only writes to and reads from pipes. A worker that dies or hangs fails the request it had and
is replaced; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass

from offhook.bridge.local.messages import (
    LENGTH_BYTES,
    MAX_MESSAGE_BYTES,
    Answer,
    Failed,
    Request,
    pack,
    unpack_answer,
)
from offhook.model.errors import OffhookError

MAX_WAITING = 64
"""Requests in the queue; a caller whose utterance is the 65th would wait too long for an answer anyway."""

START_DEADLINE_S = 60.0
"""Loading the model takes one second on an idle machine."""
REQUEST_DEADLINE_S = 20.0
"""Recognition takes a third of the speech's length; a worker silent for so long is stuck."""
ANSWER_DEADLINE_S = 30.0
"""From the question to the answer, the wait for a worker included."""
RESTART_DELAY_S = 0.2
"""Doubled with each start that fails, up to ``MAX_RESTART_DELAY_S``."""
MAX_RESTART_DELAY_S = 30.0

# The workers share the machine with the RTP clock: no library may start a thread per core.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

_log = logging.getLogger(__name__)


class WorkerError(OffhookError):
    """A request got no answer: the worker failed, died or hung, or too many are waiting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    request: Request
    answer: asyncio.Future[Answer]


class WorkerPool:
    """``count`` processes running the module ``name``; ``start`` before ``ask``, ``close`` at the end."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: set[Process] = set()

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(sorted(process.pid for process in self._processes))

    async def start(self) -> None:
        """Returns when every worker has loaded. Raises ``WorkerError``."""
        loop = asyncio.get_running_loop()
        loaded: list[asyncio.Future[None]] = [loop.create_future() for _ in range(self._count)]
        self._tasks = [loop.create_task(self._keep_running(first)) for first in loaded]
        try:
            await asyncio.gather(*loaded)
        except BaseException:
            await self.close()
            raise

    async def ask(self, request: Request) -> Answer:
        """The answer, never ``Failed``. Raises ``WorkerError``. A cancelled request is not begun."""
        if not self._tasks:
            raise self._closed_error()
        job = _Job(request=request, answer=asyncio.get_running_loop().create_future())
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            raise WorkerError(f"{self._name}: {MAX_WAITING} requests are waiting") from None
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                answer = await job.answer
        except TimeoutError:
            raise WorkerError(f"{self._name}: no worker had time within {ANSWER_DEADLINE_S:g} s") from None
        if isinstance(answer, Failed):
            raise WorkerError(f"{self._name}: {answer.problem}")
        return answer

    async def close(self) -> None:
        """Ends the processes and waits for them; idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._jobs.empty():
            _fail(self._jobs.get_nowait(), self._closed_error())

    def _closed_error(self) -> WorkerError:
        return WorkerError(f"{self._name} is closed")

    # ── one worker ───────────────────────────────────────────────────────────────────────────────────────

    async def _keep_running(self, first: asyncio.Future[None]) -> None:
        delay = RESTART_DELAY_S
        while True:
            try:
                async with self._process() as process:
                    if not first.done():
                        first.set_result(None)
                    delay = RESTART_DELAY_S
                    await self._work(process)
            except WorkerError as error:
                if not first.done():
                    first.set_exception(error)
                    return
                _log.warning("%s; starting another in %.1f s", error, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RESTART_DELAY_S)

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._name,
            stdin=PIPE,
            stdout=PIPE,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # Ctrl-C in the terminal is for the server alone
        )
        self._processes.add(process)
        try:
            await self._exchange(process, None, START_DEADLINE_S)
            yield process
        finally:
            try:
                await _end(process)
            finally:
                self._processes.discard(process)

    async def _work(self, process: Process) -> None:
        while True:
            job = await self._jobs.get()
            if job.answer.done():
                continue
            try:
                answer = await self._exchange(process, job.request, REQUEST_DEADLINE_S)
            except WorkerError as error:
                _fail(job, error)
                raise
            except asyncio.CancelledError:
                _fail(job, self._closed_error())
                raise
            if not job.answer.done():
                job.answer.set_result(answer)

    async def _exchange(self, process: Process, request: Request | None, deadline_s: float) -> Answer:
        """Send ``request``, if any, and read one answer. Raises ``WorkerError``."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(deadline_s):
                if request is not None:
                    if process.stdin.is_closing():  # uvloop raises RuntimeError for a write to it
                        raise WorkerError(f"{self._name} died while it was idle")
                    process.stdin.write(pack(request))
                    await process.stdin.drain()
                length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
                if length > MAX_MESSAGE_BYTES:
                    raise WorkerError(f"{self._name} wrote what is no message")
                return unpack_answer(await process.stdout.readexactly(length))
        except TimeoutError:
            raise WorkerError(f"{self._name} gave no answer within {deadline_s:g} s") from None
        except (OSError, EOFError, ValueError) as error:
            raise WorkerError(f"{self._name} died: {error}") from error


def _fail(job: _Job, error: WorkerError) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


async def _end(process: Process) -> None:
    """Kill and reap, cancelled meanwhile or not; a worker has nothing to save."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        await ended
        raise
