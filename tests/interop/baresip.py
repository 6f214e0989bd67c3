"""baresip 1.0 without a sound card: it speaks a WAV file and keeps what it decodes (module ``sndfile``)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from tests.interop.program import Program
from tests.interop.speech import Samples, read_wav
from tests.interop.tools import free_port, free_sip_port, needs

_CONFIG = """\
sip_listen {literal}:{port}
net_interface {host}
audio_source aufile,{speaks}
ausrc_srate {rate_hz}
auplay_srate {rate_hz}
ausrc_channels 1
auplay_channels 1
rtp_ports {rtp_port}-{rtp_end}
jitter_buffer_delay 2-5
module_path {modules}
{codec_modules}
module aufile.so
module sndfile.so
module srtp.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
snd_path {folder}
ctrl_tcp_listen 127.0.0.1:{control_port}
"""
_MODULES = "/usr/lib/baresip/modules"
WIDEBAND = {"G722": ("g722.so", "g722/16000/1"), "opus": ("opus.so", "opus/48000/2")}
"""Module and name of each."""


class Baresip:
    """One running baresip, commanded by its module ``ctrl_tcp``: netstrings of JSON both ways.

    Events are those of its documentation: CALL_RINGING, CALL_ESTABLISHED, CALL_CLOSED…
    """

    def __init__(
        self, program: Program, where: Path, uri: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.program = program
        self.uri = uri
        self.events: list[dict[str, object]] = []
        self._where = where
        self._reader = reader
        self._writer = writer
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        where: Path,
        *,
        speaks: Path,
        transport: str = "udp",
        answers: bool = True,
        host: str = "127.0.0.1",
        password: str = "",
        authorities: Path | None = None,
        mediaenc: str = "",
        codec: str = "",
    ) -> Baresip:
        """``speaks``: 8 kHz mono WAV; the call ends with it, so end it with silence.

        ``codec``: one of ``WIDEBAND``, which is all it has then, beside a WAV of 16 kHz; G.711 by default.
        ``password``: what it answers challenges with, as ``trunk``. ``authorities``: PEM file to trust, for TLS.
        ``mediaenc``: "srtp" (RTP/AVP with keys), "srtp-mand" (RTP/SAVP) or "srtp-mandf" (RTP/SAVPF).
        """
        needs("baresip")
        port, control_port, rtp_port = free_sip_port(host), free_port("tcp"), free_port("udp", host)
        rtp_port -= rtp_port % 2
        (where / "config").write_text(
            _CONFIG.format(
                host=host,
                literal=f"[{host}]" if ":" in host else host,
                port=port,
                speaks=speaks,
                rtp_port=rtp_port,
                rtp_end=rtp_port + 20,
                modules=_MODULES,
                folder=where,
                control_port=control_port,
                rate_hz=16_000 if codec else 8000,
                codec_modules=f"module {WIDEBAND[codec][0] if codec else 'g711.so'}",
            )
        )
        if authorities is not None:
            with (where / "config").open("a") as config:
                config.write(f"sip_cafile {authorities}\n")
        literal = f"[{host}]" if ":" in host else host
        uri = f"sip:alice@{literal}:{port};transport={transport}"
        mode = "auto" if answers else "manual"
        proof = f";auth_user=trunk;auth_pass={password}" if password else ""
        security = f";mediaenc={mediaenc}" if mediaenc else ""
        codecs = f";audio_codecs={WIDEBAND[codec][1]}" if codec else ""
        (where / "accounts").write_text(f"<{uri}>;regint=0;answermode={mode}{proof}{security}{codecs}\n")
        for empty in ("contacts", "uuid"):
            (where / empty).touch()
        program = await Program.start("baresip", "-f", where, "-v", cwd=where)
        async with program.stopped_on_failure():
            await program.says("baresip is ready")
            reader, writer = await asyncio.open_connection("127.0.0.1", control_port)
        return cls(program, where, uri, reader, writer)

    async def dial(self, uri: str) -> None:
        await self._command("dial", uri)

    async def send_digits(self, digits: str) -> None:
        await self._command("sndcode", digits)

    async def hold(self) -> None:
        await self._command("hold")

    async def resume(self) -> None:
        await self._command("resume")

    async def hang_up(self) -> None:
        await self._command("hangup")

    async def transfer(self, uri: str) -> None:
        """Ask the other side to call ``uri`` (REFER); it does so itself when it is asked."""
        await self._command("transfer", uri)

    async def event(self, kind: str, timeout_s: float = 10.0, number: int = 1) -> dict[str, object]:
        """Wait for the first (second…) event of that type."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while True:
                    found = [one for one in self.events if one.get("type") == kind]
                    if len(found) >= number:
                        return found[number - 1]
                    await self._changed.wait()
        except TimeoutError:
            seen = [one.get("type") for one in self.events]
            raise AssertionError(f"baresip: no {kind} in {timeout_s:g} s, only {seen}\n{self.program.tail()}") from None

    def heard(self, number: int = 1) -> Samples:
        """What it decoded in its first (second…) call of G.711; complete once that is closed."""
        return read_wav(self.recording(number))

    def recording(self, number: int = 1) -> Path:
        """The WAV file of that, at the rate its codec has."""
        return sorted(self._where.glob("dump-*-dec.wav"))[number - 1]

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._command("quit")
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()
        await self.program.stop()

    async def _command(self, name: str, parameters: str = "") -> None:
        command = json.dumps({"command": name, "params": parameters, "token": name}).encode()
        self._writer.write(b"%d:%s," % (len(command), command))
        await self._writer.drain()

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                event = json.loads((await self._reader.readexactly(length + 1))[:-1])
                async with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()
