"""Carries out a script's faults on a websocket, the same for every provider that answers there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from offhook.simulators.script import Fault
from offhook.simulators.stage import drop

FOR_EVER_S = 3600.0

ODD_BYTES = 1371
"""Of audio in one message, where it trickles: no whole number of samples or frames."""


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
            await asyncio.sleep(fault.ms / 1000 if fault.ms else FOR_EVER_S)
        case _:
            pass


def pieces_of(audio: bytes, fault: Fault | None, chunk_bytes: int) -> list[bytes]:
    """``audio`` as it is sent: in messages of ``chunk_bytes``, in one, or in odd ones."""
    size = chunk_bytes
    if fault is not None and fault.do == "burst":
        size = max(1, len(audio))
    elif fault is not None and fault.do == "trickle":
        size = ODD_BYTES
    return [audio[at : at + size] for at in range(0, len(audio), size)]
