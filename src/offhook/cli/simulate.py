"""``offhook simulate``: a provider to practise with, on this machine, that needs no key and says what a script says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from offhook.cli.event_loop import run, stop_signals
from offhook.cli.passing_certificate import passing_certificate
from offhook.config.reading import VENDOR_VARIABLES
from offhook.model.errors import ConfigError
from offhook.simulators.catalogue import BASE_PATHS, SIMULATORS
from offhook.simulators.script import Script, parse_script
from offhook.simulators.stage import Journal, Stage

PORT = 8770

LOOK_S = 0.2
"""What clients did wrong is shown so soon."""

DUMMY_KEY = "simulated"


@click.command()
@click.argument("provider", metavar="PROVIDER", type=click.Choice(sorted(SIMULATORS)))
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--script", default="", metavar="FILE|JSON", help="What it says and does; see docs/HOW_TO_PROVIDERS.md.")
@click.option("--tls", is_flag=True, help="Serve by TLS, with a certificate made for this run.")
def simulate(*, provider: str, port: int, host: str, script: str, tls: bool) -> None:
    """Be a simulated PROVIDER until Ctrl-C, and tell what its clients do wrong.

    Prints the environment variables that make offhook, and the vendor's own tools, talk to it.
    """
    run(_simulate(provider, script_of(script), host, port, tls=tls))


def script_of(text: str) -> Script:
    """JSON as it is, or the path of a file of it. Raises ``ConfigError``."""
    if not text or text.lstrip().startswith("{"):
        return parse_script(text)
    try:
        return parse_script(Path(text).read_bytes())
    except OSError as error:
        raise ConfigError("--script", f"{text} cannot be read ({error.strerror})", "Give a file, or JSON") from None


def variables_of(provider: str, url: str) -> Iterator[tuple[str, str]]:
    """What the environment has to say for a client to come here: of two names for one thing, the first counts."""
    values = {"api_key": DUMMY_KEY, "base_url": url + BASE_PATHS.get(provider, "")}
    for name, (vendor, key) in VENDOR_VARIABLES.items():
        if vendor == provider and key in values:
            yield name, values.pop(key)


async def _simulate(provider: str, script: Script, host: str, port: int, *, tls: bool) -> None:
    stopped = stop_signals()
    simulator = SIMULATORS[provider](script)
    with tempfile.TemporaryDirectory(prefix="offhook-simulate-") as folder:
        context, authority = passing_certificate(Path(folder), host) if tls else (None, None)
        async with Stage(simulator, host=host, port=port, tls=context) as stage:
            click.echo(f"simulated {provider} on {stage.url}; Ctrl-C ends. For its clients:")
            for name, value in variables_of(provider, stage.url):
                click.echo(f"  export {name}={value}")
            if authority is not None:
                click.echo(f"  export SSL_CERT_FILE={authority}")
            await _show_problems(simulator.journal, stopped)
    journal = simulator.journal
    click.echo(f"{journal.connections} connections, {len(journal.problems)} problems")


async def _show_problems(journal: Journal, stopped: asyncio.Event) -> None:
    shown = 0
    while not stopped.is_set():
        for problem in journal.problems[shown:]:
            click.echo(f"{click.style('✗', fg='red')} {problem}")
        shown = len(journal.problems)
        try:
            await asyncio.wait_for(stopped.wait(), LOOK_S)
        except TimeoutError:
            continue
