"""Kamailio as registrar and Record-Routing proxy, with nothing that would help a client behind a translator."""

from __future__ import annotations

from pathlib import Path

from tests.interop.program import Program
from tests.interop.tools import needs

CONFIGURATION = Path(__file__).with_suffix(".cfg")

_TLS = """\
[server:default]
method = TLSv1.2+
certificate = {certificate}
private_key = {key}
[client:default]
method = TLSv1.2+
verify_certificate = no
"""


class Kamailio:
    """One running Kamailio. ``registered(user)`` waits until somebody has registered as that."""

    def __init__(self, program: Program, host: str, port: int) -> None:
        self.program = program
        self.host = host
        self.port = port
        self.tls_port = port + 1

    @classmethod
    async def start(
        cls,
        where: Path,
        *,
        host: str,
        port: int = 5060,
        namespace: str | None = None,
        password: str = "",
        algorithm: str = "MD5",
        tls: tuple[Path, Path] | None = None,
        gateway: str = "",
        min_expires: int = 0,
    ) -> Kamailio:
        """``password``: of every user; "" asks for none. ``tls``: certificate and key, served on the port above.

        ``gateway``: ``host:port;transport=…`` where calls to numbers that begin with + go.
        """
        needs("kamailio")
        defines = []
        if password:
            defines += ["#!define WITH_AUTH", f'#!substdef "!PASSWORD!{password}!g"']
            defines += [f'#!substdef "!ALGORITHM!{algorithm}!g"']
        if gateway:
            defines += ["#!define WITH_GATEWAY", f'#!substdef "!GATEWAY!{gateway}!g"']
        if tls is not None:
            (where / "tls.cfg").write_text(_TLS.format(certificate=tls[0], key=tls[1]))
            defines += ["#!define WITH_TLS", f'#!substdef "!TLS_CONFIGURATION!{where / "tls.cfg"}!g"']
        text = CONFIGURATION.read_text().replace("HOST", f"[{host}]" if ":" in host else host)
        text = (
            text.replace("TLS_PORT", str(port + 1)).replace("PORT", str(port)).replace("MIN_EXPIRES", str(min_expires))
        )
        path = where / "kamailio.cfg"
        path.write_text("\n".join(["#!KAMAILIO", *defines, text]))
        program = await Program.start(
            *("kamailio", "-f", path, "-DD", "-E", "-Y", where, "-w", where, "-m", "32", "-M", "4"),
            cwd=where,
            namespace=namespace,
        )
        async with program.stopped_on_failure():
            await program.listens("tcp", port)
        return cls(program, host, port)

    async def registered(self, user: str, *, contact: str = r"[^;>\s]+", timeout_s: float = 10.0) -> tuple[str, str]:
        """Wait until ``user`` has registered: the address that its first REGISTER came from, and the Contact.

        ``contact``: a pattern, where a first REGISTER is corrected by a second. The registrar writes down what it
        did after its answer has left, so that only waiting for the very line is safe.
        """
        first = await self.program.says(rf"registered {user} from (\S+)", timeout_s)
        at = rf"registered {user} from \S+ at <?sip:[^@\s]+@({contact})(?=[;>\s])"
        bound = await self.program.says(at, timeout_s)
        return first[1], bound[1]
