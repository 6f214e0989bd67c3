"""A telephone line as SIP4AI's users have one: a registrar with digest, and somebody behind it who answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np
from tests.interop.callees import Callee
from tests.interop.kamailio import Kamailio
from tests.interop.program import POLL_S
from tests.interop.rtp_phone import RtpPhone
from tests.interop.speech import Samples, read_wav
from tests.parity.world import SPEECH

USER, PASSWORD = "200", "secret"
LOUD = 300
"""Of 32,768: comfort noise and G.711's own stay below."""

QUIET_S = 0.5


@dataclass(kw_only=True)
class Line:
    """``phone`` is the callee's; ``spoke_at``: when somebody last spoke there, in monotonic seconds."""

    pbx: Kamailio
    callee: Callee
    phone: RtpPhone
    spoke_at: float = 0.0

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment."""
        return {
            "SIP_USERNAME": USER,
            "SIP_PASSWORD": PASSWORD,
            "SIP_DOMAIN": "127.0.0.1",
            "SIP_SERVER": f"127.0.0.1:{self.pbx.port}",
        }

    async def says_something(self) -> None:
        """A sentence, once the agent has said what it has to say."""
        await self.agent_has_spoken()
        await self.phone.say(read_wav(SPEECH))
        self.spoke_at = time.monotonic()

    async def agent_has_spoken(self, timeout_s: float = 10.0) -> None:
        """Wait until something was heard since then, and after it nothing for half a second."""
        for _ in range(round(timeout_s / POLL_S)):
            now = time.monotonic()
            if _loud(self.phone.heard_between(self.spoke_at, now)) and not _loud(
                self.phone.heard_between(now - QUIET_S, now)
            ):
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"the agent did not speak and end in {timeout_s:g} s")


def _loud(heard: Samples) -> bool:
    return bool(np.max(np.abs(heard), initial=0.0) > LOUD)
