"""Carries out a script's faults on a websocket, the same for every provider that answers there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from offhook.simulators.actor import Actor
from offhook.simulators.script import Fault
from offhook.simulators.stage import drop

FOR_EVER_S = 3600.0

LATE_WORDS = "This was interrupted long ago."
"""What late audio sounds like, where nothing is left of the answer that was cut."""

ODD_BYTES = 1371
"""Of audio in one message, where it trickles: no whole number of samples or frames."""


async def at_the_door(
    fault: Fault | None, request: web.Request, *, refuse: Callable[[Fault], web.Response]
) -> web.Response | None:
    """What goes wrong with a request before it is looked at. None: go on. ``refuse``: in the provider's words."""
    match fault.do if fault is not None else None:
        case "refuse" if fault is not None:
            return refuse(fault)
        case "drop" | "close":
            await drop(request)
            return web.Response()
        case "stall" if fault is not None:
            await stall(fault)
        case _:
            pass
    return None


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Runs ``work`` meanwhile."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def later(actor: Actor, do: Callable[[Fault], Awaitable[object]]) -> None:
    """What the script has go wrong some time ``after`` the beginning."""
    fault = actor.fault("after")
    if fault is not None:
        await asyncio.sleep(fault.ms / 1000)
        await do(fault)


async def stall(fault: Fault) -> None:
    await asyncio.sleep(fault.ms / 1000 if fault.ms else FOR_EVER_S)


async def carry_out(
    fault: Fault,
    request: web.Request,
    websocket: web.WebSocketResponse,
    *,
    error: Callable[[Fault], Awaitable[None]],
    say: Callable[[str], Awaitable[None]],
) -> None:
    """``error`` says it in the provider's words. What only changes how audio is sent is left to who sends it."""
    match fault.do:
        case "close":
            await websocket.close(code=fault.code, message=fault.text.encode())
        case "drop":
            await drop(request)
        case "error":
            await error(fault)
        case "garbage":
            await say('{"type": "audio", "audio_ev')
        case "unknown":
            await say('{"type": "weather_report", "weather": {"sun": true}}')
        case "stall":
            await stall(fault)
        case _:
            pass


def pieces_of(audio: bytes, fault: Fault | None, chunk_bytes: int) -> list[bytes]:
    """``audio`` as it is sent: in messages of ``chunk_bytes``, in one, or in odd ones."""
    size = piece_bytes(fault, chunk_bytes, len(audio))
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def piece_bytes(fault: Fault | None, chunk_bytes: int, whole_bytes: int) -> int:
    """How much goes into one message, at least a byte."""
    if fault is not None and fault.do == "burst":
        return max(1, whole_bytes)
    return ODD_BYTES if fault is not None and fault.do == "trickle" else chunk_bytes
