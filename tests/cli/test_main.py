"""The command itself: its two names, what it does without arguments, and colours where a person looks."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from tests.cli.typed import logging_restored, typed
from tests.probe.programs import Program

from offhook import __version__
from offhook.cli.main import COMMANDS, called_as, main, offhook
from offhook.config.reading import DEFAULT_CONFIG_FILE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "no_color", "coloured"), [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)]
)
def test_colours_are_for_terminals_and_for_who_wants_them(
    screen: io.StringIO, no_color: str, coloured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"foo": 1}')
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "argv", ["offhook", "config", "check", str(file)])
    with redirect_stdout(screen), logging_restored(), suppress(SystemExit):
        main()
    assert "is no key offhook knows" in screen.getvalue()
    assert ("\x1b[" in screen.getvalue()) == coloured


# ── two names, one command ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["offhook", "sip4ai"])
def test_the_version_goes_by_the_name_it_was_called(name: str) -> None:
    assert typed("--version", program=f"/usr/bin/{name}").stdout == f"{name} {__version__}\n"


@pytest.mark.parametrize("name", ["offhook", "sip4ai"])
def test_errors_and_usage_go_by_the_name_it_was_called(name: str) -> None:
    assert typed("--config", "/nonexistent.json", program=name).stderr.startswith(f"{name}: /nonexistent.json: ")
    assert typed("call", program=name).stderr.startswith(f"Usage: {name} call ")


def test_by_any_other_name_it_is_offhook() -> None:
    assert called_as("/a/b/__main__.py") == "offhook"
    assert called_as("C:/bin/sip4ai.exe") == "sip4ai"


def test_help_names_modes_variables_the_file_and_every_command() -> None:
    shown = typed("--help", program="sip4ai").stdout
    for word in ("inbound", "outbound", "API only", "config.json", *COMMANDS):
        assert word in shown
    variables = {"SIP_USERNAME", "SIP_PASSWORD", "SIP_DOMAIN", "SIP_SERVER", "SIP_AUTH_ID", "SIP_OUTBOUND_PROXY"}
    variables |= {"SIP_TRANSPORT", "OPENAI_API_KEY", "CONFIG_FILE", "API_PORT", "AUDIO_FILE", "DEBUG_FORCE_PORT"}
    assert variables <= set(re.findall(r"[A-Z][A-Z_]+[A-Z]", shown))
    assert len(max(shown.splitlines(), key=len)) <= 120


# ── without a command ────────────────────────────────────────────────────────────────────────────────────


def test_options_alone_are_those_of_serve() -> None:
    wrong = typed("--port", "many", program="sip4ai")
    assert (wrong.returncode, "Usage: sip4ai serve" in wrong.stderr) == (2, True)


def test_an_unknown_word_is_no_option_of_serve() -> None:
    assert "No such command 'dial'" in typed("dial").stderr


def test_a_shell_that_completes_is_shown_the_commands() -> None:
    completed = ShellComplete(offhook, {}, "offhook", "_OFFHOOK_COMPLETE").get_completions([], "")
    assert {item.value for item in completed} == set(COMMANDS)


def test_without_arguments_it_serves_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "sip": {"host": "127.0.0.1", "port": 0},
        "agents": [{"id": "demo", "provider": "scripted"}],
        "numbers": [{"user": "desk", "agent": "demo"}],
    }
    (tmp_path / DEFAULT_CONFIG_FILE).write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    program = Program()
    try:
        program.says(
            re.compile(
                r"offhook listens on UDP 127\.0\.0\.1:\d+, .* call sip:desk@\S+ for agent demo \(scripted\) · API http://"
            )
        )
        program.says(re.compile("no SIP account: .*SIP_USERNAME, SIP_PASSWORD, SIP_DOMAIN and SIP_SERVER"))
        program.interrupt()
        assert program.ends() == 0, program.output
    finally:
        if program.running:
            program.kill()
    assert (tmp_path / "offhook-data").is_dir()
