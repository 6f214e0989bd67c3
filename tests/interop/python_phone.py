"""baresip-python as a peer, in a process of its own: ``python -m tests.interop.python_phone '{"dial": "sip:…"}'``.

Prints one JSON object a line: ``ready`` with its URI, ``established``, ``closed`` with how loud the far end was.
It speaks a tone of 1 kHz and presses the digits it is given.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import sys
from typing import Any

import baresip

RATE_HZ = 8000
FRAME_MS = 20


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def tone_frame(number: int) -> bytes:
    samples = RATE_HZ * FRAME_MS // 1000
    at = number * samples
    return struct.pack(
        f"<{samples}h", *(round(9000 * math.sin(2 * math.pi * 1000 * (at + n) / RATE_HZ)) for n in range(samples))
    )


def listen(call: baresip.Call) -> bytes:
    try:
        return bytes(call.audio.read(RATE_HZ * 2))
    except (baresip.AudioRestarted, baresip.AudioNotActive):  # the ACK came: what was decoded before is lost
        return b""


async def talk(call: baresip.Call, seconds: float, digits: str, *, speaks: bool) -> float:
    """Speak and listen; the loudest frame heard, in dB of full scale."""
    while True:
        try:
            call.audio.info()
            break
        except baresip.AudioNotActive:
            await asyncio.sleep(0.01)
    loudest = 0.0
    frames = round(seconds * 1000 / FRAME_MS)
    for number in range(frames):
        if speaks:
            call.audio.write(tone_frame(number))
        heard = listen(call)
        if heard:
            samples = struct.unpack(f"<{len(heard) // 2}h", heard[: len(heard) // 2 * 2])
            loudest = max(loudest, math.sqrt(sum(one * one for one in samples) / len(samples)))
        if digits and number == frames // 2:
            await call.send_dtmf(digits)
        await asyncio.sleep(FRAME_MS / 1000)
    return 20 * math.log10(loudest / 32768 + 1e-9)


async def main(wanted: dict[str, Any]) -> None:
    config = baresip.Config(
        net_interface=wanted.get("host", "127.0.0.1"),
        extra_config_text=wanted.get("config", ""),
    )
    runtime = baresip.Runtime()
    await runtime.start(config)
    try:
        await make_call(runtime, wanted)
    finally:
        await runtime.close()


async def make_call(runtime: baresip.Runtime, wanted: dict[str, Any]) -> None:
    account = baresip.Account(
        user="python",
        domain=wanted["domain"],
        password=wanted.get("password", ""),
        auth_user="trunk" if wanted.get("password") else None,
        transport=wanted.get("transport", "udp"),
        reg_interval=0,
    )
    agent = await baresip.UserAgent.create(runtime, account)
    coming: asyncio.Queue[baresip.Call] = asyncio.Queue()
    agent.on_incoming(coming.put_nowait)
    say(event="ready")
    if wanted.get("dial"):
        call = await agent.dial(wanted["dial"])
        await call.wait_established()
    else:
        call = await coming.get()
        await call.answer()
    say(event="established")
    loudest_db = await talk(
        call, wanted.get("seconds", 2.0), wanted.get("digits", ""), speaks=wanted.get("speaks", True)
    )
    await call.hangup()
    say(event="closed", loudest_db=round(loudest_db, 1))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
