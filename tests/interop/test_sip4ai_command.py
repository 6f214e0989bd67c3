"""The command that SIP4AI's users type, with the configurations and command lines that the document prints.

Which of S1 to S51 a test proves stands in its first line; docs/SIP4AI.md has the table.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.interop.program import Program
from tests.interop.rtp_phone import RtpPhone
from tests.interop.seed_snippets import KEYS, OTHER_NAMES, Seed, run_snippet, seed
from tests.interop.sip4ai_line import PASSWORD, USER, Line
from tests.interop.sip4ai_server import COMMAND, Sip4ai, environment
from tests.interop.sippers import SippRun
from tests.interop.speech import assert_heard_in_full, tone, write_wav
from tests.interop.tools import free_port, free_sip_port
from tests.interop.trunks import GREETING_HZ, Start
from tests.interop.your_app import SECRET, YourApp

# ── the configurations ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", ["openai", "elevenlabs", "gemini", "deepgram", "cartesia"])
async def test_the_full_configuration_starts_with_each_provider(sip4ai: Start, provider: str) -> None:
    """S5, S6, S14 to S19, S22 to S32: comments, all keys at once; API_PORT over api_port."""
    server: Sip4ai = await sip4ai(seed().full_example(provider), **KEYS)
    assert (await server.get("/health")) == {"status": "ok"}
    status = await server.get("/status")
    assert (status["sip_registered"], status["active_calls"]) == (False, 0)
    await server.interrupted()


@pytest.mark.parametrize(
    "heading",
    ["OpenAI configuration", "ElevenLabs configuration", "Gemini configuration", "Function definition example"],
)
async def test_each_other_configuration_starts(sip4ai: Start, heading: str) -> None:
    """S16, S18, S26 to S28, S32; keys by their other names."""
    keys = {OTHER_NAMES.get(name, name): value for name, value in KEYS.items()}
    server: Sip4ai = await sip4ai(seed().source(heading), **keys)
    assert (await server.get("/health")) == {"status": "ok"}
    await server.interrupted()


async def test_without_a_key_one_sentence_says_which(tmp_path: Path) -> None:
    """S18: what is missing, and where it goes."""
    program = await typed(tmp_path, "./sip4ai", seed().source("OpenAI configuration"))
    assert await program.ends(20) != 0
    assert "OPENAI_API_KEY" in program.output
    assert "Traceback" not in program.output


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────


async def typed(where: Path, command: str, configuration: str, **variables: str) -> Program:
    """Typed in a folder with ``sip4ai`` and its configuration, in each file that the document names.

    ``exec env`` makes the shell the program itself, which can be interrupted.
    """
    (where / "sip4ai").symlink_to(COMMAND)
    for name in ("config.json", "my_config.json", "outbound_config.json"):
        (where / name).write_text(configuration if name in command or name == "config.json" else "{}")
    if "CONFIG_FILE" in command:
        (where / "config.json").write_text('{"provider": "nobody"}')
    ports = {"OFFHOOK_SIP_PORT": str(free_sip_port())}
    env = environment(where, **ports, **variables)
    return await Program.start("bash", "-c", "exec env " + command.replace("\\\n", " "), cwd=where, env=env)


@pytest.mark.parametrize(
    "heading", ["Run in API-only mode (no SIP)", "Run with SIP and OpenAI", "Run with custom config file"]
)
async def test_the_printed_commands_serve(tmp_path: Path, cleanup: AsyncExitStack, heading: str) -> None:
    """S4, S6 to S10, S14, S19, S22: as they are printed. The PBX is nowhere: it serves all the same."""
    document = seed()
    port = free_port("tcp")
    keys = {} if "OpenAI" in heading else KEYS
    program = await typed(
        tmp_path, document.command(heading), document.source("OpenAI configuration"), API_PORT=str(port), **keys
    )
    cleanup.push_async_callback(program.stop)
    await program.says("offhook listens on", 30)
    told = [json.loads(await run_snippet("curl", f"curl -s localhost:{port}/{path}")) for path in ("health", "status")]
    assert told[0] == {"status": "ok"}
    assert told[1]["sip_registered"] is False
    program.interrupt()
    assert await program.ends(15) == 0
    assert "Traceback" not in program.output


async def test_without_any_configuration_it_serves(tmp_path: Path, cleanup: AsyncExitStack) -> None:
    """S4, S6, S49: an empty folder; and who has no key is served on this machine only."""
    port = free_port("tcp")
    env = environment(tmp_path, API_PORT=str(port), OFFHOOK_SIP_PORT=str(free_sip_port()))
    program = await Program.start(COMMAND, cwd=tmp_path, env=env)
    cleanup.push_async_callback(program.stop)
    await program.says("offhook listens on", 30)
    assert json.loads(await run_snippet("curl", f"curl -s localhost:{port}/health")) == {"status": "ok"}
    assert _listens(program, port) <= {"127.0.0.1", "::1"}
    created = await run_snippet(
        "curl", f"curl -s localhost:{port}/api/keys -H 'Content-Type: application/json' -d '{{\"name\": \"one\"}}'"
    )
    assert json.loads(created)["key"]
    for _ in range(100):
        if not _listens(program, port) <= {"127.0.0.1", "::1"}:
            break
        await asyncio.sleep(0.05)
    assert _listens(program, port) & {"0.0.0.0", "::"}
    refused = json.loads(await run_snippet("curl", f"curl -s localhost:{port}/status"))
    assert refused["code"] == "UNAUTHORIZED"


def _listens(program: Program, port: int) -> set[str]:
    """The addresses where it takes connections to ``port``."""
    connections = psutil.Process(program.pid).net_connections("tcp")
    return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN and one.laddr.port == port}


async def test_the_command_tells_of_itself(tmp_path: Path) -> None:
    """S2, S3: ``--version`` and ``--help``."""
    told: Mapping[str, str] = {"--version": "0.", "--help": "serve"}
    for flag, expected in told.items():
        program = await Program.start(COMMAND, flag, cwd=tmp_path, env=environment(tmp_path))
        async with program.stopped_on_failure():
            assert await program.ends(20) == 0
        assert expected in program.output


# ── the line, and what speaks in place of an AI ──────────────────────────────────────────────────────────


async def test_every_variable_of_the_line_counts(
    *, sip4ai: Start, sipp: Start, line: Line, rtp_phone: Callable[..., RtpPhone], tmp_path: Path
) -> None:
    """S11 to S13, S20, S21: another name, a proxy, TCP; a call that comes by it hears a file, from the port forced."""
    spoken = np.concatenate([tone(hz, 100) for hz in GREETING_HZ])
    forced = free_port()
    forced -= forced % 2
    variables = {
        **line.variables,
        "SIP_SERVER": "pbx.invalid",
        "SIP_AUTH_ID": "the-account",
        "SIP_OUTBOUND_PROXY": f"127.0.0.1:{line.pbx.port}",
        "SIP_TRANSPORT": "tcp",
        "AUDIO_FILE": str(write_wav(tmp_path / "announcement.wav", spoken)),
        "DEBUG_FORCE_PORT": str(forced),
    }
    server: Sip4ai = await sip4ai(seed().source("OpenAI configuration"), OPENAI_API_KEY="sk-1", **variables)
    await server.program.says("trunk .*online")
    await line.pbx.program.says(f"registered {USER} from .* as the-account by tcp")
    assert (await server.get("/status"))["sip_registered"] is True
    phone = rtp_phone()
    run: SippRun = await sipp("uac_waits_for_bye", to=("127.0.0.1", line.pbx.port), user=USER, audio_port=phone.port)
    result = await run.result()
    result.assert_all_went_well()
    assert f"m=audio {forced} " in result.first("SIP/2.0 200", sent=False).text
    assert phone.sources == {("127.0.0.1", forced)}
    assert_heard_in_full(spoken, phone.heard(), drift_ms=1.0)


# ── outbound ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Dialled:
    """One run of the printed command: whom it calls, and how the process ends."""

    number: str
    exit_code: int
    says: str
    event: str


DIALLED = (
    Dialled(number="+1234567890", exit_code=0, says="confirmed", event="call.completed"),
    Dialled(number="+49301100486", exit_code=1, says="busy", event="call.failed"),
    Dialled(number="+49301100404", exit_code=1, says="404", event="call.failed"),
)
SCRIPT = [
    {
        "hears": "Yes.",
        "tools": [{"name": "complete_task", "arguments": {"outcome": "confirmed", "summary": "It stands."}}],
        "says": "Goodbye.",
    }
]


def outbound_configuration(document: Seed, dialled: Dialled, app: YourApp, api_port: int = 0) -> str:
    """The full example in mode outbound, with another number, result webhook and port for its API."""
    text = document.full_example(mode="outbound")
    exchanged = {
        '"+1234567890"': f'"{dialled.number}"',
        '"https://example.com/webhook"': f'"{app.url("/result")}"',
        '"api_port": 8080': f'"api_port": {api_port}',
    }
    for printed, ours in exchanged.items():
        assert text.count(printed) == 1, printed
        text = text.replace(printed, ours)
    return text


def printed_command(document: Seed, line: Line) -> str:
    """With the account of our own PBX."""
    command = document.command("Outbound call mode")
    account = {
        "SIP_USERNAME=user": f"SIP_USERNAME={USER}",
        "SIP_PASSWORD=pass": f"SIP_PASSWORD={PASSWORD}",
        "SIP_DOMAIN=pbx.example.com": "SIP_DOMAIN=127.0.0.1",
        "SIP_SERVER=pbx.example.com": f"SIP_SERVER=127.0.0.1:{line.pbx.port}",
    }
    for printed, ours in account.items():
        assert command.count(printed) == 1, printed
        command = command.replace(printed, ours)
    return command


@pytest.mark.parametrize("dialled", DIALLED, ids=lambda dialled: dialled.says)
async def test_outbound_mode_ends_with_its_call(
    *, line: Line, openai: Start, your_app: YourApp, tmp_path: Path, cleanup: AsyncExitStack, dialled: Dialled
) -> None:
    """S5, S7 to S10, S19, S24, S31, S47: the printed command; its exit code, and the result at ``result_webhook``."""
    document = seed()
    _, variables = await openai(turns=SCRIPT)
    program = await typed(
        tmp_path,
        printed_command(document, line),
        outbound_configuration(document, dialled, your_app),
        OPENAI_BASE_URL=variables["OPENAI_BASE_URL"],
        OFFHOOK_WEBHOOK_SECRET=SECRET,
    )
    cleanup.push_async_callback(program.stop)
    invite = await line.callee.gets("INVITE", dialled.number, timeout_s=15)
    assert invite.start_line.startswith(f"INVITE sip:{dialled.number}@")
    if dialled.exit_code == 0:
        await line.says_something()
    assert await program.ends(25) == dialled.exit_code, program.tail()
    assert dialled.says in program.output, program.tail()
    assert "Traceback" not in program.output
    assert not [one.problem for one in your_app.results if one.problem]
    told = [one.document["event"] for one in your_app.results if one.document["event"] != "transcript.update"]
    assert (told[0], told[-1]) == ("call.initiated", dialled.event), told


async def test_outbound_mode_with_an_api_goes_on_serving(
    *, line: Line, openai: Start, your_app: YourApp, tmp_path: Path, cleanup: AsyncExitStack
) -> None:
    """S5, S24: the call is one of those that the API tells of."""
    document = seed()
    _, variables = await openai(turns=SCRIPT)
    port = free_port("tcp")
    program = await typed(
        tmp_path,
        printed_command(document, line),
        outbound_configuration(document, DIALLED[1], your_app, api_port=port),
        OPENAI_BASE_URL=variables["OPENAI_BASE_URL"],
        OFFHOOK_WEBHOOK_SECRET=SECRET,
    )
    cleanup.push_async_callback(program.stop)
    await line.callee.gets("INVITE", timeout_s=15)
    for _ in range(100):
        listed = json.loads(await run_snippet("curl", f"curl -s localhost:{port}/api/calls"))
        if listed["calls"] and listed["calls"][0]["status"] == "failed":
            break
        await asyncio.sleep(0.05)
    assert [(one["target"], one["status"]) for one in listed["calls"]] == [(DIALLED[1].number, "failed")]
    assert program.running
    program.interrupt()
    await program.ends(15)


async def test_outbound_mode_that_cannot_call_says_why(tmp_path: Path, line: Line, your_app: YourApp) -> None:
    """S5, S8: the password is wrong; nobody is called, and the exit code says so."""
    document = seed()
    command = printed_command(document, line).replace(f"SIP_PASSWORD={PASSWORD}", "SIP_PASSWORD=wrong")
    program = await typed(tmp_path, command, outbound_configuration(document, DIALLED[0], your_app))
    assert await program.ends(40) not in {0, None}
    assert "Traceback" not in program.output
    assert "40" in program.output, program.output
    assert not line.callee.got("INVITE")
