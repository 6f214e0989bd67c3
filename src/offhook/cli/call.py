"""``offhook call``: a real caller. Dials, speaks, listens, prints what happens, then figures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from offhook.audio.convert import converted
from offhook.audio.wav import read_wav
from offhook.bridge.local.engine import LocalEngine
from offhook.call.clearance import Clearance
from offhook.call.dialling import PlaceCall
from offhook.call.inbox import HangUp
from offhook.call.session import CallSession
from offhook.call.ways import target_of
from offhook.cli.call_report import CallReport
from offhook.cli.caller import CallerBridges, Line, PressedDigits, SpokenLine
from offhook.cli.event_loop import run, stop_signals
from offhook.config import Settings, load_settings, trunks_of
from offhook.delivery.bus import Bus
from offhook.media.ports import PortPool
from offhook.model.audio import PCMU_8K
from offhook.model.errors import OffhookError, SipParseError
from offhook.model.records import Agent
from offhook.model.trunks import Trunk
from offhook.observability import configure_logging
from offhook.server.dial_rules import dial_rules
from offhook.server.network import listen_everywhere, tls_contexts
from offhook.server.phone import Surroundings, build_phone
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.sip.custom_headers import is_custom_header
from offhook.sip.uri import SipUri
from offhook.store.directory import InMemoryDirectory

EXIT_INTERRUPTED = 130
GOODBYE_S = 16.0
"""The process ends with its only call: it stays until the BYE is answered, or was sent seven times."""

CALLER_PORTS = (20000, 29999)
"""RTP ports of the caller: another range than the server's default, so that both fit on one machine."""


class _OrderedLines(click.Option):
    """``--say``, ``--play`` and ``--dtmf`` may be mixed; they are done in the order they are written."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        option = parser._long_opt[self.opts[0]]
        process = option.process

        def remember(value: str, state: Any) -> None:
            ctx.meta.setdefault("lines", []).append((self.name, value))
            process(value, state)

        option.process = remember


@click.command()
@click.argument("sip_uri")
@click.option("--say", multiple=True, cls=_OrderedLines, metavar="TEXT", help="Speak TEXT with the offline voice.")
@click.option("--play", multiple=True, cls=_OrderedLines, metavar="WAV", help="Play a WAV file.")
@click.option("--dtmf", multiple=True, cls=_OrderedLines, metavar="DIGITS", help="Press DIGITS (RFC 4733).")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Record: far end left, we right.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead of lines.")
@click.option("--transcript/--no-transcript", default=True, help="Print what is recognised of the far end.")
@click.option("--max-duration", type=click.IntRange(1, 86400), default=120, help="Hang up after so many seconds.")
@click.option("--ring-timeout", type=click.IntRange(1, 180), default=60, help="Give up ringing after so many seconds.")
@click.option("--from", "from_user", default="offhook", help="Our user part in From.")
@click.option("--trunk", "trunk_id", default="", help="Call by this trunk of config.json; then a number will do.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send a header with the INVITE.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json with trunks, TLS, names.")
@click.option("--host", default="", help="Address to call from; any by default.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="SIP port to call from; a free one by default.")
@click.pass_context
def call(context: click.Context, /, sip_uri: str, **options: Any) -> None:
    """Call SIP_URI, say the lines in turn, print transcript and figures.

    Exit code: 0 answered and heard, 1 not answered, 3 answered but no audio came, 130 interrupted.
    """
    configure_logging("warning")
    own = {"sip.host": options.pop("host"), "sip.port": options.pop("port"), "sip.transports": ["udp", "tcp"]}
    settings = load_settings(options.pop("config"), flags=own)
    trunk = _trunk(settings, options.pop("trunk_id"))
    lines: list[tuple[str, str]] = context.meta.get("lines", [])
    for name in ("say", "play", "dtmf"):
        del options[name]
    options["headers"] = tuple(_header(text) for text in options["headers"])
    _check_user(options["from_user"])
    _check_writable(options["save"])
    sys.exit(run(_call(_dialled(sip_uri, trunk), lines, settings=settings, trunk=trunk, **options)))


def _trunk(settings: Settings, trunk_id: str) -> Trunk | None:
    """Raises ``click.BadParameter`` naming those there are."""
    if not trunk_id:
        return None
    trunks = {trunk.trunk_id: trunk for trunk in trunks_of(settings)}
    if trunk_id not in trunks:
        known = ", ".join(trunks) or "none: add it to trunks in config.json, or name the file with --config"
        raise click.BadParameter(f"there is no trunk {trunk_id!r}; there are: {known}", param_hint="--trunk")
    return trunks[trunk_id]


def _dialled(text: str, trunk: Trunk | None) -> SipUri:
    """The URI to dial. Raises ``click.BadParameter`` naming the fix."""
    try:
        return target_of(text, trunk)
    except SipParseError as error:
        hint = "write it as sip:user@host or sip:user@host:port;transport=tcp, or name a --trunk for a number"
        raise click.BadParameter(f"{error.problem}; {hint}", param_hint="SIP_URI") from None


def _header(text: str) -> tuple[str, str]:
    """Raises ``click.BadParameter`` for what cannot be sent, or is the SIP stack's own business."""
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not is_custom_header(name, value):
        raise click.BadParameter(f"{text!r}; write it as 'X-Ticket: 7'", param_hint="--header")
    return name, value


def _check_user(user: str) -> None:
    """Raises ``click.BadParameter`` for what cannot stand before the @ of a SIP URI (RFC 3261 §25.1)."""
    try:
        SipUri.parse(f"sip:{user}@localhost")
    except SipParseError:
        problem = f"{user!r} is no user part of a SIP URI; write letters, digits and -_.+ only"
        raise click.BadParameter(problem, param_hint="--from") from None


def _check_writable(target: Path | None) -> None:
    """Before the call, not after it. Raises ``click.BadParameter``."""
    if target is not None and not os.access(target.parent, os.W_OK):
        raise click.BadParameter(f"{target.parent} is no folder you may write to", param_hint="--save")


async def _call(
    target: SipUri,
    lines: Sequence[tuple[str, str]],
    *,
    save: Path | None,
    as_json: bool,
    transcript: bool,
    max_duration: int,
    ring_timeout: int,
    from_user: str,
    headers: tuple[tuple[str, str], ...],
    settings: Settings,
    trunk: Trunk | None,
) -> int:
    stopped = stop_signals()
    agent = Agent(
        agent_id="caller", provider="caller", record=save is not None, interruptible=False, max_call_s=max_duration
    )
    command = PlaceCall(
        target=target, agent=agent, trunk=trunk, from_user=from_user, no_answer_s=ring_timeout, headers=headers
    )
    async with contextlib.AsyncExitStack() as cleanup:
        engine = await _engine(cleanup, lines, wanted=transcript)
        spoken = [await _line(kind, value, engine) for kind, value in lines]
        recognise = engine.recognise if engine is not None and transcript else None
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="offhook-call-")))
        report = CallReport(quiet=as_json)
        bus = Bus(report)
        phone = build_phone(
            bridges=CallerBridges(spoken, recognise),
            directory=InMemoryDirectory((), ()),
            events=bus,
            max_calls=1,
            ports=PortPool(*CALLER_PORTS),
            recordings_folder=folder,
            media_timeout_s=float(max_duration),
            teardown_s=GOODBYE_S,
            surroundings=Surroundings(
                tls=tls_contexts(settings),
                nameservers=settings.sip.nameservers,
                advertised=AdvertisedAddresses(settings.sip.advertised_address, settings.sip.local_networks),
                clearance=Clearance(dial_rules(settings.dialling)),
            ),
        )
        cleanup.push_async_callback(phone.close)
        await listen_everywhere(phone.endpoint, settings.sip)
        if stopped.is_set():
            return EXIT_INTERRUPTED
        session = phone.manager.place(command)
        report.watch(session)
        interrupted = await _until_over(phone.manager.wait(session), stopped, session)
        await phone.close()
        _save(folder / f"{session.call_id}.wav", save)
    report.print_figures()
    return EXIT_INTERRUPTED if interrupted else report.exit_code


async def _engine(
    cleanup: contextlib.AsyncExitStack, lines: Sequence[tuple[str, str]], *, wanted: bool
) -> LocalEngine | None:
    """The offline voice and recogniser, started only when something needs them."""
    speaks = any(kind == "say" for kind, _ in lines)
    if not (wanted or speaks):
        return None
    engine = LocalEngine(recognisers=1)
    await engine.start()
    cleanup.push_async_callback(engine.close)
    if engine.missing is not None:
        if speaks:
            raise click.ClickException(f"--say needs the offline voice: {engine.missing}")
        return None
    return engine


async def _line(kind: str, value: str, engine: LocalEngine | None) -> Line:
    """One option as something to say. Raises ``click.BadParameter``."""
    if kind == "dtmf":
        if not value or not set(value.upper()) <= set("0123456789*#ABCD"):
            raise click.BadParameter(f"{value!r} is not made of 0-9, *, #, A-D", param_hint="--dtmf")
        return PressedDigits(digits=value.upper())
    if kind == "say" and engine is not None:
        return SpokenLine(text=value, audio=await engine.speak(value, PCMU_8K))
    return SpokenLine(text=f"[{Path(value).name}]", audio=await asyncio.to_thread(_read_audio, Path(value)))


def _read_audio(path: Path) -> bytes:
    """A WAV file as PCMU. Raises ``click.BadParameter``."""
    try:
        found, audio = read_wav(path.read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--play") from None
    except OffhookError as error:
        raise click.BadParameter(f"{path}: {error}; give a mono WAV file", param_hint="--play") from None
    return converted(audio, found, PCMU_8K)


async def _until_over(over: Any, stopped: asyncio.Event, session: CallSession) -> bool:
    """Wait for the end of the call; Ctrl-C hangs up first. True when it was interrupted."""
    waiting = asyncio.ensure_future(over)
    stop = asyncio.create_task(stopped.wait())
    await asyncio.wait({waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
    interrupted = not waiting.done()
    if interrupted:
        session.deliver(HangUp(by="agent", cause="hangup", reason="interrupted"))
        await waiting
    stop.cancel()
    return interrupted


def _save(recording: Path, target: Path | None) -> None:
    if target is None:
        return
    if not recording.exists():
        click.secho(f"nothing was recorded: {target} is not written", fg="yellow", err=True)
        return
    try:
        shutil.move(recording, target)
    except OSError as error:  # the call was made: its figures are told all the same
        click.secho(f"the recording is lost: {target} cannot be written ({error.strerror})", fg="red", err=True)
