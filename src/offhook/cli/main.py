"""The command ``offhook``, also called ``sip4ai``, and its errors: one clear sentence and what to do."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from offhook import __version__
from offhook.model.errors import OffhookError

COMMANDS = {
    "serve": "offhook.cli.serve",
    "call": "offhook.cli.call",
    "calls": "offhook.cli.calls",
    "trunks": "offhook.cli.trunks",
    "trace": "offhook.cli.trace",
    "doctor": "offhook.cli.doctor.command",
    "config": "offhook.cli.config",
    "reload": "offhook.cli.reload",
    "health": "offhook.cli.health",
    "keys": "offhook.cli.keys",
    "accounts": "offhook.cli.accounts",
    "secrets": "offhook.cli.secrets",
    "webhooks": "offhook.cli.webhooks",
    "simulate": "offhook.cli.simulate",
    "elevenlabs": "offhook.cli.elevenlabs",
}
"""Where each is; its function has its name. Only the one that runs is imported: the whole house takes a second."""

NAMES = ("offhook", "sip4ai")
"""The names it is installed under: one command."""

DEFAULT_COMMAND = "serve"
"""What is meant where no command is named: options alone are its options."""

OWN_OPTIONS = frozenset({"-h", "--help", "--version"})

EXIT_FAILED = 1


class Commands(click.Group):
    """Those of ``COMMANDS``, imported when they are asked for; the default one where none is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names_none = not args or (args[0].startswith("-") and args[0] not in OWN_OPTIONS)
        if names_none and not ctx.resilient_parsing:  # a shell that completes is shown the commands
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"{ctx.info_name} {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def offhook() -> None:
    """AI voice agents on the phone, over SIP, in one process.

    Without a command it serves what config.json and the environment say; the options of `serve` may follow.

    \b
    Modes:
      inbound   answer calls (the default)
      outbound  "mode": "outbound" in config.json: call outbound.target_number, do outbound.task_description;
                with "api_port": 0 exit after the call: 0 completed, 1 failed
      API only  without SIP_* and trunks: the API on http://localhost:8080, and calls from this network

    \b
    Environment:
      SIP_USERNAME SIP_PASSWORD SIP_DOMAIN SIP_SERVER      the SIP account
      SIP_AUTH_ID SIP_OUTBOUND_PROXY SIP_TRANSPORT         where it needs them
      OPENAI_API_KEY GEMINI_API_KEY DEEPGRAM_API_KEY       of the AI provider you use
      ELEVEN_LABS_API_KEY CARTESIA_API_KEY ULTRAVOX_API_KEY
      CONFIG_FILE   the file to read (config.json)         API_PORT   of the HTTP API (8080; 0: none)
      AUDIO_FILE    play this WAV file instead of an AI    DEBUG_FORCE_PORT   the one RTP port to use
      OFFHOOK_…     any other key of config.json: OFFHOOK_SIP_PORT=5070

    `config check` says what is wrong with config.json, `config schema` what may stand in it.
    """


def main() -> None:
    """Run a command; what the operator can mend is one sentence on stderr, not a traceback."""
    name = called_as(sys.argv[0])
    colour = False if os.environ.get("NO_COLOR") else None  # https://no-color.org; None: where a terminal is
    try:
        offhook(prog_name=name, color=colour)
    except OffhookError as error:
        click.secho(f"{name}: {error}", fg="red", err=True, color=colour)
        sys.exit(EXIT_FAILED)


def called_as(program: str) -> str:
    """Which of its names the command was called by; its first one for ``python -m offhook``."""
    stem = Path(program).stem
    return stem if stem in NAMES else NAMES[0]
