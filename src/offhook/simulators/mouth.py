"""Says a script's answers, one after the other; how one is said is the provider's affair."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from offhook.simulators.actor import Answer


class Mouth:
    """``say_one`` says a whole answer, until it is cancelled. Needs ``stop`` at the end."""

    def __init__(self, say_one: Callable[[Answer], Coroutine[Any, Any, None]]) -> None:
        self._say_one = say_one
        self._answers: deque[Answer] = deque()
        self._saying: asyncio.Task[None] | None = None

    @property
    def speaks(self) -> bool:
        """Something is being said, or about to be."""
        return self._saying is not None and not self._saying.done()

    def say(self, answer: Answer) -> None:
        self._answers.append(answer)
        if not self.speaks:
            self._saying = asyncio.create_task(self._say_all())

    async def stop(self) -> bool:
        """What is being said breaks off, what was to be said is forgotten. Whether there was anything."""
        self._answers.clear()
        if self._saying is None or self._saying.done():
            return False
        self._saying.cancel()
        await asyncio.gather(self._saying, return_exceptions=True)
        return True

    async def _say_all(self) -> None:
        with suppress(ConnectionError):  # the client left between a look and a word
            while self._answers:
                await self._say_one(self._answers.popleft())
