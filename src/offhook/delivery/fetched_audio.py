"""Fetches the sounds that tools of other people name by URL, before a call needs them; see ``call.hold_audio``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from offhook.audio.wav import WavError
from offhook.call.hold_audio import HoldAudio, fetched_frames
from offhook.delivery.outbound_http import OutboundHttp, OutboundRequest
from offhook.model.errors import OutboundError

MAX_BYTES = 5 * 1024 * 1024
"""Half a minute of stereo at 44.1 kHz, or ten minutes of G.711."""

DEADLINE_S = 10.0
"""A call rings about as long, and what comes later is there for the next tool."""

FRESH_S = 3600.0
"""Then a call fetches it again; what is there is played meanwhile."""

AGAIN_S = 60.0
"""After a failure: a server that is down is not asked by each call."""

MOST_AT_ONCE = 8
"""Each holds a connection and up to 5 MB."""

MOST_KNOWN = 256
"""URLs of which it is remembered when they were asked."""

_log = logging.getLogger("offhook.hold_audio")


@dataclass(slots=True)
class _Asked:
    """``at``: when it was asked last. ``failed``: it came to nothing, and that was logged."""

    at: float
    failed: bool = False


class FetchedAudio:
    """``want`` is the ``on_wanted`` of a ``HoldAudio``; needs ``close``."""

    def __init__(self, http: OutboundHttp, audio: HoldAudio, *, now: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._audio = audio
        self._now = now
        self._asked: dict[str, _Asked] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, url: str) -> None:
        """Fetch it, unless it is there and fresh, or was asked for a moment ago."""
        if url in self._tasks or len(self._tasks) >= MOST_AT_ONCE or not self._is_due(url):
            return
        task = asyncio.create_task(self._fetch(url), name="hold audio")
        self._tasks[url] = task
        task.add_done_callback(lambda _: self._tasks.pop(url, None))

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def _is_due(self, url: str) -> bool:
        asked = self._asked.get(url)
        if asked is None or (not asked.failed and not self._audio.has(url)):  # it had to make room for another one
            return True
        return self._now() >= asked.at + (AGAIN_S if asked.failed else FRESH_S)

    async def _fetch(self, url: str) -> None:
        problem = ""
        try:
            content = await self._content(url)
            frames = await asyncio.to_thread(fetched_frames, content)
            self._audio.keep(url, frames)
        except OutboundError as error:
            problem = error.problem
        except WavError as error:
            problem = str(error)
        except Exception:  # the boundary: a sound is worth no call
            _log.exception("a hold audio could not be read")
            problem = "an error inside offhook"
        self._note(url, problem)

    async def _content(self, url: str) -> bytes:
        """Raises ``OutboundError``, and ``WavError`` for an answer that has none."""
        response = await self._http.send(
            OutboundRequest(method="GET", url=url, deadline_s=DEADLINE_S, max_response_bytes=MAX_BYTES)
        )
        if response.status != 200:
            raise WavError(f"the server answered {response.status} instead of 200")
        return response.body

    def _note(self, url: str, problem: str) -> None:
        """A failure is logged once, until it worked again."""
        before = self._asked.pop(url, None)
        self._asked[url] = _Asked(at=self._now(), failed=bool(problem))
        if len(self._asked) > MOST_KNOWN:
            del self._asked[next(iter(self._asked))]
        if problem and (before is None or not before.failed):
            shown = url.partition("?")[0][:200]  # a query may hold what is secret
            _log.warning("hold audio %r is not played: %s", shown, problem)

    async def close(self) -> None:
        for task in tuple(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
