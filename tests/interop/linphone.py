"""linphone 5.1's console without a sound card: driven on its standard input, it plays and records WAV files.

It has a HOME of its own with a null ALSA device. (``linphonecsh`` would share one socket among all tests.)
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.interop.program import Program
from tests.interop.speech import Samples, read_wav
from tests.interop.tools import free_sip_port, needs

_ASOUNDRC = "pcm.!default { type null }\nctl.!default { type null }\n"
_RC = """\
[sip]
sip_port={udp_port}
sip_tcp_port={tcp_port}
sip_tls_port={tls_port}
{root_ca}
{security}
use_ipv6={ipv6}
use_info=0
use_rfc2833=1
ipv6_migration_done=1
contact="linphone" <sip:linphone@{host}:{port};transport={transport}>
[rtp]
audio_rtp_port={rtp_port}
{bind_address}
[sound]
echocancellation=0
[video]
enabled=0
capture=0
display=0
"""

_AUTHENTICATION = """\
[auth_info_0]
username=linphone
userid=trunk
passwd={password}
realm=offhook
"""

_CODEC = """\
[audio_codec_0]
mime={codec}
rate={rate_hz}
channels={channels}
enabled=1
"""
WIDEBAND = {"G722": (8000, 1), "opus": (48_000, 2)}
"""Rate and channels of each, as SDP has them."""


class Linphone:
    """One running console."""

    def __init__(self, program: Program, where: Path, uri: str) -> None:
        self.program = program
        self.uri = uri
        self._where = where

    @classmethod
    async def start(
        cls,
        where: Path,
        *,
        speaks: Path,
        transport: str = "udp",
        answers: bool = True,
        host: str = "127.0.0.1",
        ipv6: bool = False,
        password: str = "",
        authorities: Path | None = None,
        encrypts: bool = False,
        loopback: bool = False,
        codec: str = "",
    ) -> Linphone:
        """``speaks``: 8 kHz mono WAV. ``ipv6``: as installed, linphone writes an IPv6 address into its SDP.

        ``codec``: one of ``WIDEBAND``, which it prefers then; ``speaks`` may have 16 kHz.
        ``password``: what it answers challenges with, as ``trunk``. ``authorities``: PEM file to trust, for TLS.
        ``encrypts``: it offers and takes SRTP alone. ``loopback``: its SDP names ``host``, not the machine's address.
        """
        needs("linphonec")
        port, rtp_port = free_sip_port(host), free_sip_port(host)
        (where / ".local" / "share" / "linphone").mkdir(parents=True)
        (where / ".asoundrc").write_text(_ASOUNDRC)
        (where / "rc").write_text(
            _RC.format(
                udp_port=port if transport == "udp" else 0,
                tcp_port=port if transport == "tcp" else 0,
                ipv6=int(ipv6),
                host=host,
                port=port,
                transport=transport,
                rtp_port=rtp_port,
                root_ca="" if authorities is None else f"root_ca={authorities}",
                bind_address=f"bind_address={host}" if loopback else "",
                security="media_encryption=srtp\nmedia_encryption_mandatory=1" if encrypts else "",
                tls_port=port if transport == "tls" else 0,
            )
            + (_AUTHENTICATION.format(password=password) if password else "")
            + (_CODEC.format(codec=codec, rate_hz=WIDEBAND[codec][0], channels=WIDEBAND[codec][1]) if codec else "")
        )
        flags = ["-a"] if answers else []
        program = await Program.start(
            *("linphonec", "-c", str(where / "rc"), "-d", "6", "-l", str(where / "log"), *flags),
            cwd=where,
            env={**os.environ, "HOME": str(where)},
        )
        one = cls(program, where, f"sip:linphone@{host}:{port};transport={transport}")
        async with program.stopped_on_failure():
            await program.says("video is disabled")
            if transport == "udp":
                # without this command it opens no listening point for UDP and every call fails
                await one._command(f"ports sip {port}", "Setting sip port")
            await one._command("soundcard use files", "Using wav files")
            await one._command(f"play {speaks}", "play")
            await one._command(f"record {where / 'out.wav'}", "record")
        return one

    async def dial(self, uri: str) -> None:
        await self._command(f"call {uri}", "Establishing call|in progress")

    async def ringing(self, timeout_s: float = 10.0) -> None:
        await self.program.says("ringing", timeout_s)

    async def established(self, timeout_s: float = 10.0, number: int = 1) -> None:
        """Wait for media in its first (second…) call."""
        await self.program.says(f"Media streams established .* call {number} ", timeout_s)

    async def closed(self, timeout_s: float = 10.0, number: int | None = None) -> None:
        """Wait for the end of a call: of any, or of its first (second…) one."""
        await self.program.says(rf"Call {number or '[0-9]+'} with .* (ended|terminated|error)", timeout_s)

    async def send_digits(self, digits: str) -> None:
        await self.program.type(digits)

    async def called(self, timeout_s: float = 10.0) -> None:
        await self.program.says("Receiving new incoming call", timeout_s)

    async def hold(self) -> None:
        await self._command("pause", "is now paused")

    async def resume(self) -> None:
        await self._command("resume", "Media streams established")

    async def hang_up(self) -> None:
        await self.program.type("terminate")

    async def transfer(self, uri: str) -> None:
        """Ask the other side to call ``uri`` (REFER); it does so itself when it is asked."""
        await self.program.type(f"transfer {uri}")

    async def transfer_to_second_call(self) -> None:
        """Ask the other side of the first call to take the second one over (REFER with Replaces)."""
        await self._command("transfer 1 --to-call 2", "Performing attended transfer")

    async def record(self, name: str) -> None:
        """Put what is heard from now on into another file: two streams into one leave nothing of the second."""
        await self._command(f"record {self._where / name}", "record")

    def heard(self, name: str = "out.wav") -> Samples:
        """What it recorded; complete once the call is closed."""
        return read_wav(self.recording(name))

    def recording(self, name: str = "out.wav") -> Path:
        """The WAV file of that, at the rate of the call's codec."""
        return self._where / name

    async def close(self) -> None:
        if self.program.running:
            await self.program.type("quit")
        await self.program.stop()

    async def _command(self, line: str, answer: str) -> None:
        since = len(self.program.lines)
        await self.program.type(line)
        await self.program.says(answer, since=since)
