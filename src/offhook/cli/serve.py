"""``offhook serve``: answer calls until Ctrl-C, or make the one call of ``mode`` outbound."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from offhook.cli.event_loop import DrainSignals, on_hangup, run
from offhook.cli.live_log import LiveLog, TrunkLog
from offhook.cli.outbound import OutboundCall
from offhook.cli.running import ServerFile
from offhook.cli.secrets import master_key_advice
from offhook.cli.self_check import SelfCheck
from offhook.config import Settings, agents_of, file_of, load_settings, numbers_of, waits_for_restart
from offhook.model.errors import OffhookError
from offhook.observability import configure_logging, notify_systemd
from offhook.server.service import Server
from offhook.sip.events import Address, Transport

_log = logging.getLogger("offhook")

Say = Callable[[str], None]
"""Tells the operator something: on the terminal, or as a record of the log."""

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What to dial on this machine when every address is listened on."""

NO_TRUNK = (
    "no SIP account: this machine and private networks may call, and only sip: URIs can be called; "
    "for telephone numbers set SIP_USERNAME, SIP_PASSWORD, SIP_DOMAIN and SIP_SERVER, or trunks in config.json"
)


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
    """Answer calls until Ctrl-C; with "mode": "outbound" in config.json, make the call that it describes."""
    flags = {
        "sip.host": host,
        "sip.port": port,
        "sip.transports": list(transports) or None,
        "data_dir": str(data) if data is not None else None,
        "log.speech": show_speech,
    }
    settings = load_settings(config, flags=flags)
    configure_logging(settings.log.level, settings.log.format)
    with contextlib.closing(ServerFile(settings.data_folder)) as serving:
        read_again = partial(load_settings, config, flags=flags)
        serving.tell(config=str(file_of(config, os.environ) or ""))
        sys.exit(run(_serve(settings, serving, read_again, self_check=self_check)))


async def _serve(
    settings: Settings, serving: ServerFile, read_again: Callable[[], Settings], *, self_check: bool
) -> int:
    signals = DrainSignals()
    server = Server(settings, config_file=Path(serving.config).name)
    log_format = settings.log.format
    say = _logged if log_format == "json" else _printed
    server.bus.watch(LiveLog(show_speech=settings.log.speech, log_format=log_format), trunks=TrunkLog(log_format))
    outbound = OutboundCall(server, settings, say) if settings.mode == "outbound" else None
    ends_with_call = outbound is not None and not settings.http.enabled
    reloading = Reloading(server, serving, read_again, say)
    on_hangup(reloading.ask)
    failed = False
    try:
        listening = await server.start()
        _announce(server, serving, listening, say)
        if self_check and settings.trunks:
            say("self-check left out: trunks let in their peers only; `offhook doctor` makes a call of its own")
        elif self_check:
            failed = not await _self_check(server, listening, signals.stopping)
        if outbound is None:
            await signals.stopping.wait()
        else:
            await call_out(outbound, signals.stopping, say, serves_on=not ends_with_call)
        notify_systemd("STOPPING=1")
        if not signals.ending.is_set():
            await _drain(server, signals.ending, say)
        if outbound is not None and ends_with_call and not signals.ending.is_set():
            await outbound.delivered()
    finally:
        if server.live_calls:
            say(f"ending {_calls(server.live_calls)} …")
        await reloading.close()
        await server.close()
    if outbound is not None:
        outbound.tell_result()
        failed = failed or (ends_with_call and not outbound.completed)
    return 1 if failed else 0


def _announce(server: Server, serving: ServerFile, listening: tuple[tuple[Transport, Address], ...], say: Say) -> None:
    """Say where it serves and what is missing, to the operator and to whoever else waits for it."""
    http = http_url(server.http_addresses)
    serving.tell(http=http)
    say(announcement(server.settings, listening, http))
    if not server.trunks:
        say(NO_TRUNK)
    if server.master_key_file is not None:
        say(click.style(master_key_advice(server.master_key_file), fg="yellow"))
    notify_systemd("READY=1")
    if server.engine is not None and server.engine.missing is not None:
        say(click.style(server.engine.missing, fg="yellow"))


async def call_out(outbound: OutboundCall, stopping: asyncio.Event, say: Say, *, serves_on: bool) -> None:
    """Make the call of ``mode`` outbound; return when it is over, or with ``serves_on`` when the server is to stop.

    Raises ``OffhookError`` where there is no call; with ``serves_on`` that is said only.
    """
    calling = asyncio.create_task(outbound.run())
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({calling, stop}, return_when=asyncio.FIRST_COMPLETED)
        error = calling.exception() if calling.done() else None
        if error is not None and not serves_on:
            raise error
        if isinstance(error, OffhookError):
            say(click.style(f"no call was made: {error}", fg="red"))
        elif error is not None:
            _log.error("the call of mode outbound broke off", exc_info=error)
        if serves_on:
            outbound.tell_result()
            await stop
    finally:
        for task in (calling, stop):
            task.cancel()
        await asyncio.gather(calling, stop, return_exceptions=True)


def _printed(text: str) -> None:
    with contextlib.suppress(OSError):  # who read it is gone; calls still have to be ended, and reloads to be done
        click.echo(text)


def _logged(text: str) -> None:
    _log.info("%s", click.unstyle(text))


async def _drain(server: Server, ending: asyncio.Event, say: Say) -> None:
    """Wait until the calls are over, it takes too long, or one more signal asks for the end."""
    draining = asyncio.create_task(server.drain())
    stop = asyncio.create_task(ending.wait())
    await asyncio.sleep(0)  # it has begun: what is said is so
    if server.live_calls:
        say(f"draining: no new calls are taken, {_calls(server.live_calls)} may end; one more signal ends all now")
    await asyncio.wait({draining, stop}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, stop):
        task.cancel()
    await asyncio.gather(draining, stop, return_exceptions=True)


def _calls(number: int) -> str:
    return f"{number} call{'s' if number > 1 else ''}"


class Reloading:
    """Reads the configuration again at each SIGHUP, one after the other; what cannot be used changes nothing."""

    def __init__(self, server: Server, serving: ServerFile, read_again: Callable[[], Settings], say: Say) -> None:
        self._server = server
        self._say = say
        self._serving = serving
        self._read_again = read_again
        self._asked = asyncio.Event()
        self._task = asyncio.create_task(self._reload_on())

    def ask(self) -> None:
        self._asked.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _reload_on(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload()

    async def _reload(self) -> None:
        notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        problem, waits = "", list[str]()
        try:
            settings = await asyncio.to_thread(self._read_again)
            waits += waits_for_restart(self._server.settings, settings)
            await self._server.reload(settings)
            self._say("config.json and TLS certificates were read again")
        except OffhookError as error:
            problem = str(error)
            _log.error("nothing was changed by the reload: %s", problem)
        except Exception:
            problem = "a fault of offhook; its log says more"
            _log.exception("a reload broke off")
        notify_systemd("READY=1")
        self._serving.tell(reloads=self._serving.reloads + 1, problem=problem, waits_for_restart=tuple(waits))


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


def announcement(settings: Settings, listening: tuple[tuple[Transport, Address], ...], http: str = "") -> str:
    """Where it listens, how to call it, who answers there, where data goes: one line."""
    places = ", ".join(f"{transport} {_bracketed(address.host)}:{address.port}" for transport, address in listening)
    numbers = numbers_of(settings)
    number = next((one for one in numbers if one.user != "*"), numbers[0])
    uri = dial_uri("demo" if number.user == "*" else number.user, listening)
    providers = {agent.agent_id: agent.provider for agent in agents_of(settings)}
    answers = f" for agent {number.agent_id} ({providers[number.agent_id]})" if number.agent_id in providers else ""
    api = f" · API {http}" if http else ""
    return f"offhook listens on {places} · call {uri}{answers}{api} · data in {settings.data_dir}"


def http_url(addresses: tuple[tuple[str, int], ...]) -> str:
    """Where the API is reached from this machine; "" where it is not served."""
    if not addresses:
        return ""
    host, port = addresses[0]
    return f"http://{_bracketed(WILDCARDS.get(host, host))}:{port}"


def dial_uri(user: str, listening: tuple[tuple[Transport, Address], ...]) -> str:
    """A URI that reaches us from this machine."""
    transport, address = listening[0]
    host = _bracketed(WILDCARDS.get(address.host, address.host))
    suffix = "" if transport == "UDP" else f";transport={transport.lower()}"
    return f"sip:{user}@{host}:{address.port}{suffix}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
