"""Three clients behind one face: what a person with a softphone does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

from tests.interop.baresip import Baresip
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import Samples, read_wav

Client = Literal["sipp", "baresip", "linphone"]
Transport = Literal["udp", "tcp"]


class Caller(Protocol):
    """One client, one call. Times are ``time.time()``."""

    async def dial(self, server: OffhookServer, user: str) -> None:
        """Call and begin to speak when it is answered."""
        ...

    async def ringing(self) -> None: ...

    async def established(self) -> None: ...

    async def send_digits(self, digits: str) -> None: ...

    async def hang_up(self) -> float:
        """Stay as long as it was told at its start, then hang up, or cancel; returns when."""
        ...

    async def closed(self, timeout_s: float = 10.0) -> float:
        """Wait until the client has ended the call; returns when."""
        ...

    def heard(self) -> Samples: ...


class BaresipCaller:
    def __init__(self, client: Baresip, transport: Transport, stay_s: float) -> None:
        self._client = client
        self._transport = transport
        self._stay_s = stay_s

    async def dial(self, server: OffhookServer, user: str) -> None:
        await self._client.dial(server.uri(user, self._transport))

    async def ringing(self) -> None:
        await self._client.event("CALL_RINGING")

    async def established(self) -> None:
        await self._client.event("CALL_ESTABLISHED")

    async def send_digits(self, digits: str) -> None:
        await self._client.send_digits(digits)

    async def hang_up(self) -> float:
        await asyncio.sleep(self._stay_s)
        await self._client.hang_up()
        return time.time()

    async def closed(self, timeout_s: float = 10.0) -> float:
        await self._client.event("CALL_CLOSED", timeout_s)
        return time.time()

    def heard(self) -> Samples:
        return self._client.heard()


class LinphoneCaller:
    def __init__(self, client: Linphone, transport: Transport, stay_s: float) -> None:
        self._client = client
        self._transport = transport
        self._stay_s = stay_s

    async def dial(self, server: OffhookServer, user: str) -> None:
        await self._client.dial(server.uri(user, self._transport))

    async def ringing(self) -> None:
        await self._client.ringing()

    async def established(self) -> None:
        await self._client.established()

    async def send_digits(self, digits: str) -> None:
        await self._client.send_digits(digits)

    async def hang_up(self) -> float:
        await asyncio.sleep(self._stay_s)
        await self._client.hang_up()
        return time.time()

    async def closed(self, timeout_s: float = 10.0) -> float:
        await self._client.closed(timeout_s)
        return time.time()

    def heard(self) -> Samples:
        return self._client.heard()


class SippCaller:
    """SIPp signals, an ``RtpPhone`` speaks. ``scenario`` says beforehand who will hang up, and how."""

    def __init__(
        self,
        start: Callable[..., Awaitable[SippRun]],
        phone: RtpPhone,
        transport: Transport,
        *,
        speaks: Path | None,
        scenario: str,
        stay_s: float,
    ) -> None:
        self._start = start
        self._phone = phone
        self._transport = transport
        self._speaks = speaks
        self._scenario = scenario
        self._stay_s = stay_s
        self._run: SippRun | None = None

    @property
    def run(self) -> SippRun:
        assert self._run is not None, "dial first"
        return self._run

    async def dial(self, server: OffhookServer, user: str) -> None:
        self._run = await self._start(
            self._scenario,
            to=(server.host, server.port),
            user=user,
            transport=self._transport,
            audio_port=self._phone.port,
            stay_ms=round(1000 * self._stay_s),
            host=server.host,
        )
        if self._speaks is not None:
            self._phone.begin_to_say(read_wav(self._speaks))

    async def ringing(self) -> None:
        await self.run.message("SIP/2.0 180", sent=False)

    async def established(self) -> None:
        await self.run.message("ACK", sent=True)

    async def send_digits(self, digits: str) -> None:
        await self._phone.dial(digits)

    async def hang_up(self) -> float:
        """The scenario does it by itself: wait for that."""
        start = "CANCEL" if self._scenario == "uac_cancel" else "BYE"
        return (await self.run.message(start, sent=True, timeout_s=self._stay_s + 10)).at

    async def closed(self, timeout_s: float = 10.0) -> float:
        result = await self.run.result(timeout_s)
        result.assert_all_went_well()
        return result.messages[-1].at

    def heard(self) -> Samples:
        return self._phone.heard()
