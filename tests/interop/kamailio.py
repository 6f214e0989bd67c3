"""Kamailio as registrar and proxy, with nothing that would help a client behind an address translator."""

from __future__ import annotations

import re
from pathlib import Path

from tests.interop.program import Program
from tests.interop.tools import needs

CONFIGURATION = Path(__file__).with_suffix(".cfg")


class Kamailio:
    """One running Kamailio. ``registered(user)`` waits until somebody has registered as that."""

    def __init__(self, program: Program, host: str, port: int) -> None:
        self.program = program
        self.host = host
        self.port = port

    @classmethod
    async def start(cls, where: Path, *, host: str, port: int = 5060, namespace: str | None = None) -> Kamailio:
        needs("kamailio")
        path = where / "kamailio.cfg"
        path.write_text(CONFIGURATION.read_text().replace("HOST", host).replace("PORT", str(port)))
        program = await Program.start(
            *("kamailio", "-f", path, "-DD", "-E", "-Y", where, "-w", where), cwd=where, namespace=namespace
        )
        async with program.stopped_on_failure():
            await program.listens("tcp", port)
        return cls(program, host, port)

    async def registered(self, user: str, timeout_s: float = 10.0) -> tuple[str, str]:
        """Wait until ``user`` has registered: the address that its first REGISTER came from, and the last Contact."""
        pattern = rf"registered {user} from (\S+)"
        first = await self.program.says(pattern, timeout_s)
        contact = re.findall(rf"registered {user} from \S+ at <?sip:[^@]+@([^;>\s]+)", self.program.output)[-1]
        return first[1], contact
