"""Functions that came with a call: asked by webhook, signed, with music meanwhile; what came of them; a transfer.

Which of S1 to S51 a test proves stands in its first line; docs/SIP4AI.md has the table.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.interop.callees import Callee
from tests.interop.offhook_server import events, scripted
from tests.interop.rtp_phone import RtpPhone
from tests.interop.seed_snippets import seed
from tests.interop.sip4ai_server import Sip4ai
from tests.interop.speech import RATE_HZ, Samples, tone, tone_db, write_wav
from tests.interop.transfers import CALLER_HZ, HEARD_DB, TARGET_HZ, loudest_db
from tests.interop.trunks import Start
from tests.interop.your_app import SECRET, Answer, YourApp

HOLD_HZ, DONE_HZ = 1300, 600
SLOW_S = 1.5
LOOPBACK = {"allowed_targets": ["127.0.0.0/8"], "allow_http": True}
ARGUMENTS = {"date": "2024-01-16", "time": "14:00"}


def calls(name: str, **arguments: str) -> dict[str, Any]:
    """An agent that uses a function once, says if that went well, and then has done its task."""
    finish = {"do": "use_tool", "name": "complete_task", "arguments": {"outcome": "tried", "summary": ""}}
    steps = [
        {"on": "ready", "after_ms": 300, "do": [{"do": "use_tool", "name": name, "arguments": arguments}]},
        {"on": "tool_result", "output": "success", "do": [{"do": "speak", "tone_hz": DONE_HZ, "ms": 400}]},
        {"on": "ready", "after_ms": 3500, "do": [finish]},
    ]
    return scripted(name, steps=steps)


def config(line: Callee, *agents: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "agents": list(agents),
        "trunks": [line.gateway()],
        "security": LOOPBACK,
        "webhook_secret": SECRET,
        **more,
    }


def spans_ms(heard: Samples, hz: float) -> list[tuple[float, float]]:
    """From when to when a tone was heard, in steps of 20 ms; gaps below 100 ms are none."""
    size = RATE_HZ // 50
    spans: list[tuple[float, float]] = []
    for number in range(len(heard) // size):
        if tone_db(heard[number * size : (number + 1) * size], hz) < HEARD_DB:
            continue
        at = 20.0 * number
        if spans and at - spans[-1][1] <= 100:
            spans[-1] = (spans[-1][0], at + 20)
        else:
            spans.append((at, at + 20))
    return spans


async def test_music_plays_while_a_function_runs(
    *, sip4ai: Start, callee: Start, rtp_phone: Callable[..., RtpPhone], your_app: YourApp, tmp_path: Path
) -> None:
    """S32, S45, S46: the function printed in the document, but for its URLs; heard by the callee, seen in the end."""
    phone = rtp_phone()
    line: Callee = await callee(audio_port=phone.port)
    printed = seed().document("Function definition example")["functions"]
    your_app.hold_audio = write_wav(tmp_path / "hold.wav", tone(HOLD_HZ, 4000))
    your_app.answers["book"] = Answer(body=json.dumps({"success": True}), after_s=SLOW_S)
    function = {
        **printed[0],
        "webhook": your_app.url("/api/book"),
        "hold_audio_url": your_app.url("/audio/hold.wav"),
    }
    server: Sip4ai = await sip4ai(config(line, calls("book_appointment", **ARGUMENTS)))
    call_id = await server.places(
        "+4930100200",
        agent_id="book_appointment",
        functions=[function, printed[1]],
        event_webhook=your_app.url("/webhook"),
    )
    last = await your_app.told_the_end_of(call_id)
    (asked,) = your_app.functions["book"]
    assert not asked.problem
    assert (asked.method, asked.document) == (
        "POST",
        {"call_id": call_id, "function": "book_appointment", "arguments": ARGUMENTS},
    )
    assert your_app.hold_audio_fetched >= 1
    [(begins, ends)] = spans_ms(phone.heard(), HOLD_HZ)
    assert 0.4 * 1000 * SLOW_S < ends - begins < 1000 * SLOW_S + 300, (begins, ends)
    [(says, _)] = spans_ms(phone.heard(), DONE_HZ)
    assert -40 <= says - ends < 500, "the agent speaks when the music ends"
    called = {"name": "book_appointment", "arguments": ARGUMENTS, "result": {"success": True}}
    assert last["data"]["functions_called"] == [called]
    assert (await your_app.told(call_id, "function.called"))["data"] == called
    await server.interrupted()


async def test_functions_that_fail_are_seen_by_the_model_and_on_record(
    sip4ai: Start, callee: Start, your_app: YourApp
) -> None:
    """S45, S46: HTTP 500, no answer in time, nobody there, and a GET that succeeds."""
    line: Callee = await callee()
    your_app.answers["breaks"] = Answer(status=500, body='{"what is wrong": "all"}')
    your_app.answers["sleeps"] = Answer(after_s=4.0)
    your_app.answers["reads"] = Answer(body='{"success": true}')
    names = ("breaks", "sleeps", "reads", "nowhere")
    server: Sip4ai = await sip4ai(config(line, *(calls(name, city="Ulm") for name in names)))
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    functions: dict[str, dict[str, Any]] = {
        name: {"name": name, "description": name, "webhook": your_app.url(f"/api/{name}"), "parameters": schema}
        for name in names
    }
    functions["sleeps"]["timeout_s"] = 1
    functions["reads"]["method"] = "GET"
    functions["nowhere"]["webhook"] = "http://127.0.0.1:9/api/nowhere"
    placed = {
        name: await server.places(
            "+4930200200", agent_id=name, functions=[functions[name]], event_webhook=your_app.url("/webhook")
        )
        for name in names
    }
    ends = await asyncio.gather(*(your_app.told_the_end_of(call_id) for call_id in placed.values()))
    called = {name: last["data"]["functions_called"][0] for name, last in zip(placed, ends, strict=True)}
    for name, one in called.items():
        assert (one["name"], one["arguments"]) == (name, {"city": "Ulm"}), one
        (returned,) = events(server.record(placed[name]), "ToolReturned")[:1]
        assert returned["is_error"] == (name != "reads"), returned
    assert called["reads"]["result"] == {"success": True}
    assert "500" in str(called["breaks"]["result"]), called["breaks"]
    assert called["sleeps"]["result"], called["sleeps"]
    assert called["nowhere"]["result"], called["nowhere"]
    (read,) = your_app.functions["reads"]
    assert (read.method, read.query, read.body, read.problem) == ("GET", {"city": "Ulm"}, b"", "")
    assert all(not asked.problem for asked in your_app.functions["breaks"] + your_app.functions["sleeps"])
    for last in ends:
        assert (last["event"], last["data"]["end_reason"]) == ("call.completed", "completed"), last


async def test_functions_as_they_are_printed_are_taken(sip4ai: Start, callee: Start, your_app: YourApp) -> None:
    """S37, S45: their server is nowhere, which the model is told; a URL that is none is 400."""
    line: Callee = await callee()
    printed = seed().document("Function definition example")["functions"]
    server: Sip4ai = await sip4ai(config(line, calls("book_appointment", **ARGUMENTS)))
    call_id = await server.places(
        "+4930300200", agent_id="book_appointment", functions=printed, event_webhook=your_app.url("/webhook")
    )
    last = await your_app.told_the_end_of(call_id, timeout_s=30)
    (called,) = last["data"]["functions_called"]
    assert (called["name"], called["arguments"]) == ("book_appointment", ARGUMENTS)
    assert "error" in called["result"], called
    for wrong in ("your-app.com/api", "ftp://your-app.com/", "https://", 7):
        reply = await server.ask(
            "POST",
            "/api/calls",
            {"target": "+4930300200", "task": "Ask.", "functions": [{**printed[0], "webhook": wrong}]},
        )
        assert (reply.status, reply.document["code"]) == (400, "BAD_REQUEST"), (wrong, reply)
        assert "functions[0].webhook" in reply.document["field"], reply


async def test_a_function_may_be_a_transfer(
    *, sip4ai: Start, callee: Start, rtp_phone: Callable[..., RtpPhone], your_app: YourApp
) -> None:
    """S45: the one printed in the document; the two hear each other."""
    here, there = rtp_phone(), rtp_phone()
    line: Callee = await callee(audio_port=here.port, number="sip:[^@]*([0-9]{3})@")
    desk: Callee = await callee(audio_port=there.port)
    printed = seed().document("Function definition example")["functions"][1]
    target = f"sip:desk200@127.0.0.1:{desk.port}"
    steps = [{"on": "ready", "after_ms": 400, "do": [{"do": "use_tool", "name": printed["name"]}]}]
    agent = scripted("forwards", greeting_tone_hz=500, greeting_ms=300, steps=steps)
    server: Sip4ai = await sip4ai(config(line, agent))
    there.begin_to_say(tone(TARGET_HZ, 30_000))
    here.begin_to_say(tone(CALLER_HZ, 30_000))
    call_id = await server.places(
        "+4930300200",
        agent_id="forwards",
        functions=[{**printed, "target": target}],
        event_webhook=your_app.url("/webhook"),
    )
    invite = await desk.gets("INVITE")
    assert "sip:desk200@" in invite.start_line
    await here.hears_ms(3500)
    now = asyncio.get_running_loop().time()
    assert loudest_db(here.heard_between(now - 1.0, now), TARGET_HZ) > HEARD_DB
    assert loudest_db(there.heard(), CALLER_HZ) > HEARD_DB
    await server.ask("DELETE", f"/api/calls/{call_id}")
    last = await your_app.told_the_end_of(call_id)
    (ended,) = events(server.record(call_id), "TransferEnded")
    assert ended["outcome"] == "connected"
    assert [one["name"] for one in last["data"]["functions_called"]] == [printed["name"]]
    assert np.max(np.abs(there.heard())) > 0


async def test_functions_of_the_configuration_serve_callers_too(
    sip4ai: Start, callee: Start, sipp: Start, your_app: YourApp
) -> None:
    """S32, S47: ``functions`` and ``event_webhook`` of config.json, for a call that comes in."""
    line: Callee = await callee()
    your_app.answers["customer"] = Answer(body='{"success": true}')
    function = {"name": "get_customer_info", "webhook": your_app.url("/api/customer"), "method": "POST"}
    script = json.dumps(
        {
            "steps": [
                {"on": "ready", "after_ms": 100, "do": [{"do": "use_tool", "name": "get_customer_info"}]},
                {"on": "tool_result", "do": [{"do": "end_call"}]},
            ]
        }
    )
    server: Sip4ai = await sip4ai(
        {
            "provider": "scripted",
            "scripted": {"script": script},
            "functions": [function],
            "event_webhook": your_app.url("/webhook"),
            "trunks": [line.gateway(peers=["127.0.0.0/8"])],
            "security": LOOPBACK,
            "webhook_secret": SECRET,
        }
    )
    run = await sipp("uac_waits_for_bye", to=("127.0.0.1", server.sip_port), user="anybody")
    (await run.result()).assert_all_went_well()
    (record,) = server.records()
    call_id = record["call_id"]
    last = await your_app.told_the_end_of(call_id)
    asked = await your_app.asked("customer")
    assert asked.document == {"call_id": call_id, "function": "get_customer_info", "arguments": {}}
    assert not asked.problem
    assert last["data"]["functions_called"][0]["result"] == {"success": True}
    assert your_app.names_of(call_id)[-3:] == ["call.answered", "function.called", "call.completed"]
    assert your_app.names_of(call_id)[0] == "call.initiated"
    call = await server.call(call_id)
    assert (call["direction"], call["status"], call["target"]) == ("inbound", "completed", "sipp")


INSIDE = (
    "http://127.0.0.1:APP/api/x",
    "http://localhost:APP/api/x",
    "http://169.254.169.254/latest/meta-data",
    "https://[::1]:APP/api/x",
    "https://2130706433/api/x",
    "file:///etc/passwd",
)


async def test_whoever_has_a_key_reaches_nothing_inside(sip4ai: Start, callee: Start, your_app: YourApp) -> None:
    """Where the operator allowed no private network: each URL of a call is refused, and nobody is asked."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line, scripted("desk"), security={}))
    await server.with_key()
    asked = {"target": "+4930600200", "task": "Ask.", "agent_id": "desk"}
    for template in INSIDE:
        url = template.replace("APP", str(your_app.port))
        function = {"name": "x", "webhook": url}
        music = {"name": "x", "webhook": "https://your-app.com/x", "hold_audio_url": url}
        for field, more in (
            ("event_webhook", {"event_webhook": url}),
            ("result_webhook", {"result_webhook": url}),
            ("functions[0].webhook", {"functions": [function]}),
            ("functions[0].hold_audio_url", {"functions": [music]}),
        ):
            refused = await server.ask("POST", "/api/calls", {**asked, **more})
            assert (refused.status, refused.document["field"]) == (400, field), (url, refused)
    assert not line.got("INVITE")
    assert not your_app.events
    assert not your_app.functions


async def test_another_account_has_its_own_signature_and_limit(sip4ai: Start, callee: Start, your_app: YourApp) -> None:
    """S46: what one account's receiver knows forges nothing for another's; nor does one use up the other's lines."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line, scripted("desk"), dialling={"max_calls": 1, "calls_per_min": 0}))
    first = await server.with_key()
    ours = await server.places("+4930700200", agent_id="desk", event_webhook=your_app.url("/webhook"))
    await server.offhook("accounts", "create", "beta")
    second = json.loads(await server.offhook("keys", "create", "--account", "beta", "--name", "beta", "--json"))["key"]
    secret = (await server.offhook("webhooks", "secret", "--account", "beta")).split()[-1]
    assert secret == hmac.new(SECRET.encode(), b"beta", hashlib.sha256).hexdigest()
    server.key = second
    for _ in range(100):  # the server sees the account within a second
        if (await server.ask("GET", "/api/account")).status == 200:
            break
        await asyncio.sleep(0.05)
    desk = {"id": "theirs", "provider": "scripted", "options": {"script": "{}"}}
    assert (await server.ask("POST", "/api/agents", desk)).status == 201
    assert (await server.ask("GET", f"/api/calls/{ours}")).status == 404
    assert (await server.ask("DELETE", f"/api/calls/{ours}")).status == 404
    theirs_app = await YourApp(secret=secret).start()
    try:
        theirs = await server.places("+4930800200", agent_id="theirs", event_webhook=theirs_app.url("/webhook"))
        refused = await server.ask(
            "POST", "/api/calls", {"target": "+4930800200", "task": "Ask.", "agent_id": "theirs"}
        )
        assert refused.status == 429
        await theirs_app.told(theirs, "call.answered")
        await server.ask("DELETE", f"/api/calls/{theirs}")
        assert (await theirs_app.told_the_end_of(theirs))["event"] == "call.completed"
    finally:
        await theirs_app.close()
    assert [one["id"] for one in (await server.get("/api/calls"))["calls"]] == [theirs]
    server.key = first
    await server.ask("DELETE", f"/api/calls/{ours}")
    assert (await your_app.told_the_end_of(ours))["event"] == "call.completed"
