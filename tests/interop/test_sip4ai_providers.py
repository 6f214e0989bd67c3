"""A whole task with each provider: its configuration as printed, ``offhook simulate`` for the provider, a telephone.

Which of S1 to S51 a test proves stands in its first line; docs/SIP4AI.md has the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.interop.program import Program
from tests.interop.seed_snippets import FULL_EXAMPLE, Seed, seed
from tests.interop.shapes import in_their_words
from tests.interop.sip4ai_line import Line
from tests.interop.sip4ai_server import OFFHOOK, Sip4ai, environment
from tests.interop.trunks import Start
from tests.interop.your_app import SECRET, Answer, YourApp
from tests.parity.columns import VOICE_ID

SCRIPT = {
    "turns": [
        {
            "hears": "Yes, that's correct.",
            "tools": [{"name": "book_appointment", "arguments": {"date": "2024-01-16", "time": "14:00"}}],
            "says": "It is booked: {book_appointment}.",
        },
        {
            "hears": "Goodbye.",
            "tools": [{"name": "complete_task", "arguments": {"outcome": "confirmed", "summary": "Tuesday, 2pm."}}],
            "says": "Goodbye.",
        },
    ]
}
TASK = "Confirm the appointment for Tuesday at 2pm"


@dataclass(frozen=True, kw_only=True)
class Way:
    """``simulators``: name → the variable that leads to it, where ``offhook simulate`` does not say it itself."""

    provider: str
    heading: str
    simulators: tuple[str, ...]
    leads: str = ""


WAYS = (
    Way(provider="openai", heading="OpenAI configuration", simulators=("openai",)),
    Way(provider="elevenlabs", heading="ElevenLabs configuration", simulators=("elevenlabs",)),
    Way(provider="gemini", heading="Gemini configuration", simulators=("gemini",)),
    Way(provider="deepgram", heading=FULL_EXAMPLE, simulators=("deepgram",)),
    Way(
        provider="cartesia",
        heading=FULL_EXAMPLE,
        simulators=("cartesia", "deepgram", "self_hosted"),
        leads="OPENAI_BASE_URL",
    ),
)
_EXPORT = re.compile(r"^\s*export (\w+)=(\S+)$", re.MULTILINE)
_URL = re.compile(r"simulated (\w+) on (http://[^;]+);")

Simulated = Callable[[str], Awaitable[tuple[Program, dict[str, str]]]]


@pytest.fixture
def simulated(tmp_path: Path, cleanup: AsyncExitStack) -> Simulated:
    """``await simulated(name)``: ``offhook simulate name``, and the variables it tells."""
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))

    async def start(name: str) -> tuple[Program, dict[str, str]]:
        program = await Program.start(
            *(OFFHOOK, "simulate", name, "--port", "0", "--script", tmp_path / "script.json"),
            cwd=tmp_path,
            env=environment(tmp_path, PYTHONUNBUFFERED="1"),
        )
        cleanup.push_async_callback(program.stop)
        found = await program.says(_URL.pattern, 20)
        if name != "self_hosted":
            await program.says("export .*_BASE_URL", 10)
        return program, dict(_EXPORT.findall(program.output)) | {"url": found[2]}

    return start


def configuration(document: Seed, way: Way) -> str:
    """As printed; the full example names another of its providers. ``your-voice-id`` is no voice that anybody has."""
    text = document.full_example(way.provider) if way.heading == FULL_EXAMPLE else document.source(way.heading)
    return text.replace("your-voice-id", VOICE_ID)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.provider)
async def test_a_task_is_done_on_the_telephone(
    *, sip4ai: Start, line: Line, your_app: YourApp, simulated: Simulated, way: Way
) -> None:
    """S14 to S18, S25 to S30, S37, S38, S45 to S48: function, transcript and outcome, in record and events."""
    variables = {"OPENAI_API_KEY": "sk-simulated"} if way.leads else {}
    programs = []
    for name in way.simulators:
        program, told = await simulated(name)
        programs.append(program)
        url = told.pop("url")
        variables |= told
        if name == "self_hosted":
            variables[way.leads] = f"{url}/v1"
    server: Sip4ai = await sip4ai(
        configuration(seed(), way), OFFHOOK_WEBHOOK_SECRET=SECRET, **line.variables, **variables
    )
    await server.program.says("trunk .*online")
    your_app.answers["book"] = Answer(body=json.dumps({"success": True}))
    function = seed().document("Function definition example")["functions"][0]
    del function["hold_audio_url"]
    call_id = await server.places(
        "+61400000000",
        task=TASK,
        instructions="Be friendly and professional",
        max_duration_seconds=60,
        event_webhook=your_app.url("/webhook"),
        functions=[{**function, "webhook": your_app.url("/api/book")}],
    )
    await your_app.told(call_id, "call.answered")
    await line.says_something()
    asked = await your_app.asked("book")
    assert not asked.problem
    arguments = {"date": "2024-01-16", "time": "14:00"}
    assert asked.document == {"call_id": call_id, "function": "book_appointment", "arguments": arguments}
    await line.says_something()
    last = await your_app.told_the_end_of(call_id, timeout_s=25)

    call = await server.over(call_id)
    assert (call["status"], call["provider"], call["target"]) == ("completed", way.provider, "+61400000000")
    _assert_talked(call["transcript"])
    assert (last["event"], last["data"]["end_reason"]) == ("call.completed", "completed")
    assert last["data"]["transcript"] == in_their_words(call["transcript"])
    booked = {"name": "book_appointment", "arguments": arguments, "result": {"success": True}}
    assert last["data"]["functions_called"] == [booked]
    assert server.record(call_id)["task"]["outcome"] == "confirmed"
    names = your_app.names_of(call_id)
    assert names == ["call.initiated", "call.ringing", "call.answered", "function.called", "call.completed"]
    assert (await your_app.told(call_id, "function.called"))["data"] == booked
    for program in programs:
        program.interrupt()
        await program.ends(10)
        assert " 0 problems" in program.output, program.output


def _assert_talked(transcript: Any) -> None:
    spoken = [(one["speaker"], one["text"]) for one in transcript]
    assert ("user", "Yes, that's correct.") in spoken, spoken
    assert any(speaker == "ai" and "booked" in text for speaker, text in spoken), spoken
    assert [one["timestamp"] for one in transcript] == sorted(one["timestamp"] for one in transcript)


async def test_a_call_may_name_another_provider(*, sip4ai: Start, line: Line, simulated: Simulated) -> None:
    """S25, S37: its own section counts; one whose key is nowhere is 400, and says which variable."""
    program, told = await simulated("gemini")
    del told["url"]
    server: Sip4ai = await sip4ai(seed().full_example("openai"), OPENAI_API_KEY="sk-1", **line.variables, **told)
    await server.program.says("trunk .*online")
    body = {"target": "+61400000000", "task": TASK}
    for provider, named in (("cartesia", "_API_KEY"), ("deepgram", "DEEPGRAM_API_KEY"), ("hal9000", "openai")):
        refused = await server.ask("POST", "/api/calls", {**body, "provider": provider})
        assert (refused.status, refused.document["field"]) == (400, "provider"), refused
        assert named in refused.document["hint"], refused
    call_id = await server.places(body["target"], task=TASK, provider="gemini", machines={"detect": False})
    await line.agent_has_spoken()
    await server.ask("DELETE", f"/api/calls/{call_id}")
    call = await server.over(call_id)
    assert (call["provider"], call["status"]) == ("gemini", "completed")
    assert call["transcript"][0]["text"] == "Hello!"
    assert len(line.callee.got("INVITE")) == 1
    program.interrupt()
    await program.ends(10)
    assert " 0 problems" in program.output, program.output
