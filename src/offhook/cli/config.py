"""``offhook config``: what is wrong with config.json, all of it; and its JSON Schema for editors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from offhook.call.hold_audio import HoldAudio
from offhook.config import (
    DEMO_AGENT_ID,
    Settings,
    agents_of,
    all_problems,
    config_schema,
    file_of,
    load_settings,
    misspelt,
)
from offhook.model.errors import ConfigError
from offhook.server.network import stun_hop, tls_contexts
from offhook.server.providers import provider_problems
from offhook.server.service import add_hold_audio


@click.group()
def config() -> None:
    """Check config.json, or print its JSON Schema."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def check(*, file: Path | None, as_json: bool) -> None:
    """Read FILE (config.json by default) and the environment as `serve` would, and tell everything that is wrong.

    Exit code: 0 when `serve` would take it, 1 otherwise.
    """
    problems = problems_of(file)
    warnings = misspelt(os.environ)
    if as_json:
        listed = [{"key": one.key, "problem": one.problem, "fix": one.fix} for one in problems]
        click.echo(msgspec.json.encode({"ok": not problems, "problems": listed, "warnings": warnings}).decode())
    else:
        _print(file, problems, warnings)
    sys.exit(1 if problems else 0)


@config.command()
def schema() -> None:
    """Print the JSON Schema of config.json: write it to a file, and name that as "$schema" in config.json."""
    click.echo(msgspec.json.format(msgspec.json.encode(config_schema()), indent=2).decode())


def problems_of(file: Path | None) -> list[ConfigError]:
    """Everything for which `serve` would not start with that file: its text, and the files it names."""
    if problems := all_problems(file):
        return problems
    return list(_outside_problems(load_settings(file)))


def _outside_problems(settings: Settings) -> Iterator[ConfigError]:
    """What shows only when the settings are used: files, providers, addresses."""
    yield from provider_problems(settings)
    checks: list[Callable[[], object]] = [lambda: tls_contexts(settings), lambda: add_hold_audio(HoldAudio(), settings)]
    if settings.sip.stun_server:
        checks.append(lambda: stun_hop(settings.sip.stun_server))
    for attempt in checks:
        try:
            attempt()
        except ConfigError as error:
            yield error


def _print(file: Path | None, problems: list[ConfigError], warnings: tuple[str, ...]) -> None:
    name = file_of(file, os.environ)
    for sentence in warnings:
        click.secho(f"warning: {sentence}", fg="yellow")
    for one in problems:
        click.echo(f"{click.style(one.key, fg='red', bold=True)}: {one.problem}. {one.fix}")
    if not problems:
        click.echo(f"{name} is well" if name is not None else f"there is no config.json: {_who_answers()}")
    else:
        click.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")


def _who_answers() -> str:
    """By the environment alone."""
    agent = agents_of(load_settings())[0]
    return "the demo agent answers" if agent.agent_id == DEMO_AGENT_ID else f"{agent.provider} answers"
