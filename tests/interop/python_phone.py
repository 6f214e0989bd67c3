"""baresip-python as a peer, in a process of its own: ``python -m tests.interop.python_phone '{"dial": "sip:…"}'``.

Prints one JSON object a line: ``ready`` with its URI, ``established``, ``closed`` with how loud the far end was.
It speaks a tone (1 kHz, or ``tone_hz``) and presses the digits it is given. ``plan`` is what else it does with its
only call: ``talk`` (then hang up), ``hold`` (for a second, in between), ``listen`` (until the other side hangs up),
``give_up`` (while it rings), ``be_refused``; ``be_transferred`` (do as a REFER says, and talk there until the end),
``transfer`` (to ``target``, by REFER), ``transfer_attended`` (the same, with Replaces, after a call to it),
``be_target`` (answer, and whoever replaces that call). ``heard``: a WAV file for what it hears.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
import sys
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import baresip
from baresip import Event

RATE_HZ = 8000
FRAME_MS = 20


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def tone_frame(number: int, hz: float) -> bytes:
    samples = RATE_HZ * FRAME_MS // 1000
    at = number * samples
    return struct.pack(
        f"<{samples}h", *(round(9000 * math.sin(2 * math.pi * hz * (at + n) / RATE_HZ)) for n in range(samples))
    )


def listen(call: baresip.Call) -> bytes:
    try:
        return bytes(call.audio.read(RATE_HZ * 2))
    except (baresip.AudioRestarted, baresip.AudioNotActive):  # the ACK came: what was decoded before is lost
        return b""


async def talk(call: baresip.Call, wanted: dict[str, Any]) -> float:
    """Speak and listen until it is time or the call has ended; the loudest frame heard, in dB of full scale."""
    while not audible(call) and call.state is not baresip.CallState.CLOSED:  # noqa: ASYNC110 it tells nothing of this
        await asyncio.sleep(0.01)
    loudest = 0.0
    frames = round(wanted.get("seconds", 2.0) * 1000 / FRAME_MS)
    heard = bytearray()
    for number in range(frames):
        if call.state is baresip.CallState.CLOSED:
            break
        if wanted.get("speaks", True):
            speak(call, number, wanted.get("tone_hz", 1000))
        frame = listen(call)
        heard += frame
        loudest = max(loudest, loudness(frame))
        if wanted.get("digits") and number == frames // 2:
            await call.send_dtmf(wanted["digits"])
        await asyncio.sleep(FRAME_MS / 1000)
    if wanted.get("heard"):
        keep(bytes(heard), wanted["heard"])
    return 20 * math.log10(loudest / 32768 + 1e-9)


def keep(heard: bytes, path: str) -> None:
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(heard)


def audible(call: baresip.Call) -> bool:
    try:
        call.audio.info()
    except baresip.AudioNotActive:
        return False
    return True


def speak(call: baresip.Call, number: int, hz: float) -> None:
    with contextlib.suppress(baresip.AudioRestarted, baresip.AudioNotActive):
        call.audio.write(tone_frame(number, hz))


def loudness(heard: bytes) -> float:
    samples = struct.unpack(f"<{len(heard) // 2}h", heard[: len(heard) // 2 * 2])
    return math.sqrt(sum(one * one for one in samples) / len(samples)) if samples else 0.0


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


class Happened:
    """What the runtime reports, from before the call is dialled.

    A ``Call`` of 0.5.2a3 subscribes only when ``dial`` returns: of a call that is answered, or refused, within a few
    milliseconds it never hears, and its ``wait_established`` waits in vain.
    """

    def __init__(self, runtime: baresip.Runtime) -> None:
        self._events: list[baresip.StackEvent] = []
        self._more = asyncio.Event()
        runtime.subscribe(self._note)

    async def first(self, call: baresip.Call, *kinds: baresip.Event) -> baresip.StackEvent:
        while True:
            for event in self._events:
                if event.call == call.handle and event.event in kinds:
                    return event
            self._more.clear()
            await self._more.wait()

    def _note(self, event: baresip.StackEvent) -> None:
        self._events.append(event)
        self._more.set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Phone:
    """What a plan works with. ``coming``: the calls that come in, oldest first."""

    agent: baresip.UserAgent
    happened: Happened
    coming: asyncio.Queue[baresip.Call]
    wanted: dict[str, Any]


async def make_call(runtime: baresip.Runtime, wanted: dict[str, Any]) -> None:
    account = baresip.Account(
        user="python",
        domain=wanted["domain"],
        password=wanted.get("password", ""),
        auth_user="trunk" if wanted.get("password") else None,
        transport=wanted.get("transport", "udp"),
        reg_interval=0,
        extra_params=tuple(wanted.get("account", ())),
    )
    agent = await baresip.UserAgent.create(runtime, account)
    phone = Phone(agent=agent, happened=Happened(runtime), coming=asyncio.Queue(), wanted=wanted)
    agent.on_incoming(phone.coming.put_nowait)
    say(event="ready")
    call = await agent.dial(wanted["dial"]) if wanted.get("dial") else await phone.coming.get()
    told = await PLANS[wanted.get("plan", "talk")](call, phone)
    say(event="closed", **told)


async def connect(call: baresip.Call, phone: Phone) -> None:
    if call.state is baresip.CallState.INCOMING:
        await call.answer()
    outcome = await phone.happened.first(call, Event.CALL_ESTABLISHED, Event.CALL_CLOSED)
    assert outcome.event is Event.CALL_ESTABLISHED, outcome.text
    if call.state is not baresip.CallState.ESTABLISHED:  # it subscribed too late; see Happened
        call._on_stack_event(outcome)
    say(event="established")


async def talk_and_hang_up(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    await connect(call, phone)
    loudest_db = await talk(call, phone.wanted)
    await call.hangup()
    return {"loudest_db": round(loudest_db, 1)}


async def hold_and_resume(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    await connect(call, phone)
    await talk(call, {"seconds": 1})
    await call.hold()
    await asyncio.sleep(1)
    await call.resume()
    loudest_db = await talk(call, {**phone.wanted, "seconds": 1})
    await call.hangup()
    return {"loudest_db": round(loudest_db, 1)}


async def listen_to_the_end(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    await connect(call, phone)
    loudest_db = await talk(call, {**phone.wanted, "seconds": 15})
    return {"loudest_db": round(loudest_db, 1), "hung_up_on": call.state is baresip.CallState.CLOSED}


async def give_up(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    await phone.happened.first(call, Event.CALL_RINGING)
    await call.hangup()
    return {}


async def be_refused(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    return {"reason": (await phone.happened.first(call, Event.CALL_CLOSED)).text}


async def be_transferred(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    """What a person does who is asked to call somebody else."""
    await connect(call, phone)
    await phone.happened.first(call, Event.CALL_TRANSFER)
    there = await call.accept_transfer()
    told = await listen_to_the_end(there, phone)
    return {**told, "left": call.state is baresip.CallState.CLOSED}


async def transfer(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    await connect(call, phone)
    await talk(call, {"seconds": 1})
    return await _outcome(call, call.transfer(phone.wanted["target"], timeout=10))


async def transfer_attended(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    await connect(call, phone)
    consultation = await phone.agent.dial(phone.wanted["target"])
    await connect(consultation, phone)
    await talk(consultation, {"seconds": 1})
    await call.hold()
    await consultation.hold()
    await asyncio.sleep(0.5)  # else REFER meets the end of the re-INVITE, and linphone answers it 491
    return await _outcome(call, call.attended_transfer(consultation, timeout=10))


async def _outcome(call: baresip.Call, transferring: Awaitable[None]) -> dict[str, Any]:
    """``problem``: "" when it went well."""
    try:
        await transferring
    except baresip.TransferFailed as failed:
        await call.hangup()
        return {"problem": str(failed)}
    return {"problem": ""}


async def be_target(call: baresip.Call, phone: Phone) -> dict[str, Any]:
    """Somebody consults us, then whom he consulted us for takes his place (RFC 3891)."""
    await connect(call, phone)
    instead = asyncio.create_task(phone.coming.get())
    while not instead.done():
        await talk(call, {**phone.wanted, "seconds": 0.1, "heard": None})
        await asyncio.wait({instead}, timeout=0.01)  # where our caller has left already, nothing else waits
    return await listen_to_the_end(instead.result(), phone)


PLANS: dict[str, Callable[[baresip.Call, Phone], Awaitable[dict[str, Any]]]] = {
    "talk": talk_and_hang_up,
    "hold": hold_and_resume,
    "listen": listen_to_the_end,
    "give_up": give_up,
    "be_refused": be_refused,
    "be_transferred": be_transferred,
    "transfer": transfer,
    "transfer_attended": transfer_attended,
    "be_target": be_target,
}


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
