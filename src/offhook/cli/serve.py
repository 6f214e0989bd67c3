"""``offhook serve``: answer calls until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from offhook.cli.event_loop import DrainSignals, on_hangup, run
from offhook.cli.live_log import LiveLog, TrunkLog
from offhook.cli.self_check import SelfCheck
from offhook.config import Settings, load_settings, numbers_of
from offhook.model.errors import ConfigError
from offhook.observability import configure_logging
from offhook.server import Server
from offhook.sip.events import Address, Transport

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What to dial on this machine when every address is listened on."""


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to read.")
@click.option("--host", help="Address to listen on for SIP; every address by default.")
@click.option("--port", type=click.IntRange(0, 65535), help="SIP port (5060); 0 takes a free one.")
@click.option(
    "--transport", "transports", multiple=True, type=click.Choice(["udp", "tcp", "tls"]), help="Default: udp, tcp."
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder for records and recordings.")
@click.option("--show-speech", is_flag=True, default=None, help="Show what is said, and digits, in the log.")
@click.option("--self-check", is_flag=True, help="Call ourselves once after the start, then go on serving.")
def serve(
    *,
    config: Path | None,
    host: str | None,
    port: int | None,
    transports: tuple[str, ...],
    data: Path | None,
    show_speech: bool | None,
    self_check: bool,
) -> None:
    """Answer calls until Ctrl-C."""
    flags = {
        "sip.host": host,
        "sip.port": port,
        "sip.transports": list(transports) or None,
        "data_dir": str(data) if data is not None else None,
        "log.speech": show_speech,
    }
    settings = load_settings(config, flags=flags)
    configure_logging(settings.log.level)
    sys.exit(run(_serve(settings, self_check=self_check)))


async def _serve(settings: Settings, *, self_check: bool) -> int:
    signals = DrainSignals()
    server = Server(settings)
    server.bus.watch(LiveLog(show_speech=settings.log.speech), trunks=TrunkLog())
    on_hangup(lambda: _reload_certificates(server))
    failed = False
    try:
        listening = await server.start()
        click.echo(announcement(settings, listening))
        if server.engine is not None and server.engine.missing is not None:
            click.secho(server.engine.missing, fg="yellow")
        if self_check and settings.trunks:
            click.echo("self-check left out: trunks let in their peers only; `offhook doctor` makes a call of its own")
        elif self_check:
            failed = not await _self_check(server, listening, signals.stopping)
        await signals.stopping.wait()
        if not signals.ending.is_set():
            await _drain(server, signals.ending)
    finally:
        if server.live_calls:
            click.echo(f"ending {_calls(server.live_calls)} …")
        await server.close()
    return 1 if failed else 0


async def _drain(server: Server, ending: asyncio.Event) -> None:
    """Wait until the calls are over, it takes too long, or one more signal asks for the end."""
    if server.live_calls:
        click.echo(
            f"draining: no new calls are taken, {_calls(server.live_calls)} may end; one more signal ends all now"
        )
    draining = asyncio.create_task(server.drain())
    stop = asyncio.create_task(ending.wait())
    await asyncio.wait({draining, stop}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, stop):
        task.cancel()
    await asyncio.gather(draining, stop, return_exceptions=True)


def _calls(number: int) -> str:
    return f"{number} call{'s' if number > 1 else ''}"


def _reload_certificates(server: Server) -> None:
    try:
        server.reload_certificates()
        click.echo("TLS certificates were read again; new connections use them")
    except ConfigError as error:
        click.secho(f"TLS certificates stay as they are: {error}", fg="red", err=True)


async def _self_check(server: Server, listening: tuple[tuple[Transport, Address], ...], stopped: asyncio.Event) -> bool:
    """One call to ourselves, watched; False when it went wrong. Ctrl-C cuts it short."""
    check = asyncio.create_task(SelfCheck(server.bus).run(dial_uri("demo", listening)))
    stop = asyncio.create_task(stopped.wait())
    await asyncio.wait({check, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not check.done():
        check.cancel()
        return True
    passed = check.result()
    verdict = click.style("passed", fg="green") if passed else click.style("FAILED", fg="red")
    click.echo(f"self-check {verdict}; serving. Call in from any softphone; Ctrl-C ends.")
    return passed


def announcement(settings: Settings, listening: tuple[tuple[Transport, Address], ...]) -> str:
    """Where it listens, how to call it, where data goes: one line."""
    places = ", ".join(f"{transport} {_bracketed(address.host)}:{address.port}" for transport, address in listening)
    users = [number.user for number in numbers_of(settings) if number.user != "*"]
    uri = dial_uri(users[0] if users else "demo", listening)
    return f"offhook listens on {places} · call {uri} · data in {settings.data_dir}"


def dial_uri(user: str, listening: tuple[tuple[Transport, Address], ...]) -> str:
    """A URI that reaches us from this machine."""
    transport, address = listening[0]
    host = _bracketed(WILDCARDS.get(address.host, address.host))
    suffix = "" if transport == "UDP" else f";transport={transport.lower()}"
    return f"sip:{user}@{host}:{address.port}{suffix}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
