"""Who judges where a tenant's URL leads: at the moment of connecting, by the very address that is connected to.

Agents made by the API name hosts that the operator did not choose; a name that was harmless when the agent was written
may lead into the operator's network by the time of a call. What is judged, and by which policy, ``delivery`` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RefusedTargetError(OSError):
    """It may not be reached, however often it is tried; the text says why."""


class Guard(Protocol):
    def check(self, url: str) -> None:
        """Of http(s) or ws(s): all that can be said before a name is looked up. Raises ``RefusedTargetError``."""
        ...

    async def addresses(self, host: str, port: int, *, secure: bool) -> Sequence[str]:
        """Of a name or an address, at least one; each may be connected to. ``secure``: by TLS.

        Raises ``RefusedTargetError``; ``OSError`` where the name has no address.
        """
        ...
