"""The pump, with a codec that any server of ten lines can talk to, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from tests.bridge.line_codec import Line, LineCodec, line, tells
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.bridge import connection as pump
from offhook.bridge.codec import (
    Begin,
    BridgeFault,
    Digits,
    Expiring,
    Ready,
    ResponseDone,
    ResponseStarted,
    ToolCall,
    ToolResult,
    Utterance,
)
from offhook.bridge.connection import HELD_FRAMES, MAX_HELD_COMMANDS, ProviderConnection
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.wire import CodecOutput
from offhook.model.errors import BridgeError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY_S", (0.01, 0.02))


class Talk:
    def __init__(self, server: Line, http: ProviderHttp, *, prepare: bool, history: Sequence[Utterance]) -> None:
        self.listener = RecordingListener()
        request = replace(request_for(self.listener), history=lambda: history)
        self.connection = ProviderConnection(request, LineCodec(server.url, prepare=prepare), http)

    def faults(self) -> list[tuple[str, str]]:
        return [(fault.problem, fault.verdict) for fault in self.listener.of(BridgeFault)]


@asynccontextmanager
async def talk(server: Line, *, prepare: bool = False, history: Sequence[Utterance] = ()) -> AsyncIterator[Talk]:
    http = ProviderHttp()
    talking = Talk(server, http, prepare=prepare, history=history)
    try:
        yield talking
    finally:
        await talking.connection.close()
        await http.close()


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_opens_says_hello_and_is_ready() -> None:
    async with line(tells("ready", "say a", "done a")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: len(t.listener.events) == 2)
        assert t.listener.names() == ["Ready", "AudioDone"]
        assert [what for _, what in t.listener.times] == ["Ready", "audio a", "AudioDone"]
        await server.until(lambda: server.heard == ["0: hello "])
        assert server.keys == ["k"]


async def test_what_was_said_and_heard_before_ready_waits_in_order() -> None:
    async def scene(websocket: web.WebSocketResponse) -> None:
        await go.wait()
        await websocket.send_str("ready")

    go = asyncio.Event()
    async with line(scene) as server, talk(server) as t:
        opening = asyncio.create_task(t.connection.open())
        for number in range(HELD_FRAMES + 50):
            t.connection.send_audio(b"%d" % number)
        t.connection.send(Begin())
        t.connection.send(Digits(digits="5"))
        await server.until(lambda: server.heard == ["0: hello "])
        go.set()
        await opening
        t.connection.send_audio(b"live")
        await server.until(lambda: server.heard[-1:] == ["0: audio live"])
        assert server.heard[1:3] == ["0: command Begin", "0: command Digits"]
        assert server.heard[3:-1] == [f"0: audio {number}" for number in range(50, HELD_FRAMES + 50)]


async def test_commands_that_wait_are_bounded() -> None:
    async with line(tells("ready")) as server, talk(server) as t:
        for _ in range(MAX_HELD_COMMANDS + 10):
            t.connection.send(Begin())
        await t.connection.open()
        await server.until(lambda: len(server.heard) == 1 + MAX_HELD_COMMANDS)


async def test_a_refused_handshake_is_judged_by_the_codec_with_its_body() -> None:
    async with line(tells()) as server, talk(server) as t:
        server.refuse = [(401, '{"error": "no such key"}')]
        with pytest.raises(BridgeError, match=r'401 \{"error": "no such key"\}') as caught:
            await t.connection.open()
        assert caught.value.verdict == "fatal"
        assert server.connections == 1
        assert t.listener.events == []


async def test_a_refusal_that_may_pass_is_tried_again() -> None:
    async with line(tells("ready")) as server, talk(server) as t:
        server.refuse = [(503, "busy")]
        await t.connection.open()
        assert server.connections == 2
        assert t.listener.events == [Ready()]


async def test_tries_are_bounded_and_then_fall_over() -> None:
    async with line(tells()) as server, talk(server) as t:
        server.refuse = [(503, "busy")] * 9
        with pytest.raises(BridgeError) as caught:
            await t.connection.open()
        assert caught.value.verdict == "fall_over"
        assert server.connections == 1 + len(pump.RETRY_S)


async def test_where_nobody_listens_falls_over() -> None:
    async with line(tells()) as server:
        url = server.url
    async with talk(Line(scenes=[], url=url)) as t:
        with pytest.raises(BridgeError, match="cannot be reached") as caught:
            await t.connection.open()
        assert caught.value.verdict == "fall_over"


async def test_a_server_that_hangs_up_instead_of_shaking_hands_cannot_be_reached() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, talk(Line(scenes=[], url=f"ws://127.0.0.1:{port}")) as t:
        with pytest.raises(BridgeError, match="broke before") as caught:
            await t.connection.open()
        assert caught.value.verdict == "fall_over"


async def test_a_fault_before_ready_is_raised() -> None:
    async with line(tells("fault fatal")) as server, talk(server) as t:
        with pytest.raises(BridgeError, match="as asked") as caught:
            await t.connection.open()
        assert caught.value.verdict == "fatal"
        assert t.listener.events == []


async def test_a_close_before_ready_is_raised() -> None:
    async with line(tells(close=4001)) as server, talk(server) as t:
        with pytest.raises(BridgeError, match="4001 because"):
            await t.connection.open()


async def test_an_agent_that_hangs_up_before_it_is_ready_is_a_fault() -> None:
    async with line(tells(close=1000)) as server, talk(server) as t:
        with pytest.raises(BridgeError, match="hung up before") as caught:
            await t.connection.open()
        assert caught.value.verdict == "fall_over"


async def test_a_preparation_that_is_refused_opens_nothing() -> None:
    async with line(tells("ready")) as server, talk(server, prepare=True) as t:
        server.prepared = (402, "no money")
        with pytest.raises(BridgeError, match="no money"):
            await t.connection.open()
        assert server.connections == 0


async def test_a_preparation_comes_first() -> None:
    async with line(tells("ready")) as server, talk(server, prepare=True) as t:
        await t.connection.open()
        assert t.listener.events == [Ready()]


async def test_opening_that_is_cancelled_leaves_no_connection() -> None:
    async with line(tells()) as server, talk(server) as t:
        opening = asyncio.create_task(t.connection.open())
        await server.until(lambda: server.heard == ["0: hello "])
        opening.cancel()
        await t.connection.close()
        await server.until(lambda: "0: end" in server.heard)


async def test_closing_while_it_opens_lets_the_opener_go() -> None:
    async with line(tells()) as server, talk(server) as t:
        opening = asyncio.create_task(t.connection.open())
        await server.until(lambda: server.heard == ["0: hello "])
        await t.connection.close()
        with pytest.raises(BridgeError, match="was closed"):
            await opening
        await server.until(lambda: "0: end" in server.heard)


# ── the talk, and its end ────────────────────────────────────────────────────────────────────────────────


async def test_a_frame_for_which_nothing_is_to_be_sent() -> None:
    async with line(tells("ready")) as server, talk(server) as t:
        await t.connection.open()
        for frame in (b"skip", b"1"):
            t.connection.send_audio(frame)
        await server.until(lambda: server.heard == ["0: hello ", "0: audio 1"])


@pytest.mark.parametrize(("code", "problem"), [(1008, "1008 because"), (4001, "4001 because"), (1011, "1011 because")])
async def test_a_close_code_reaches_the_codec(code: int, problem: str) -> None:
    async with line(tells("ready", close=code)) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: bool(t.faults()))
        assert t.faults() == [(problem, "fall_over")]


async def test_a_close_that_is_the_agents_goodbye_ends_the_call() -> None:
    async with line(tells("ready", close=1000)) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: len(t.listener.events) == 2)
        assert t.listener.events[1] == ToolCall(tool_call_id="", name="end_call", arguments="{}")


async def test_nothing_comes_after_close() -> None:
    async def chatter(websocket: web.WebSocketResponse) -> None:
        await websocket.send_str("ready")
        while True:
            await websocket.send_str("say a")
            await websocket.send_str("done a")
            await asyncio.sleep(0)

    async with line(chatter) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: len(t.listener.events) > 5)
        await t.connection.close()
        await t.connection.close()
        before = len(t.listener.times)
        t.connection.send_audio(b"late")
        t.connection.send(Begin())
        await server.until(lambda: "0: end" in server.heard)
        assert len(t.listener.times) == before
        assert "0: audio late" not in server.heard


@pytest.mark.parametrize("moment", ["receive", "audio", "command", "close"])
async def test_a_codec_that_raises_costs_its_session_alone(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = tells("ready", "break") if moment == "receive" else tells("ready", close=4999 if moment == "close" else 0)

    def broken(codec: LineCodec, command: object, out: CodecOutput) -> None:
        raise ValueError(command)

    async with line(scene) as server, talk(server) as t:
        await t.connection.open()
        if moment == "audio":
            t.connection.send_audio(b"break")
        if moment == "command":
            monkeypatch.setattr(LineCodec, "command", broken)
            t.connection.send(Begin())
        await t.listener.until(lambda: bool(t.faults()))
        assert t.faults() == [("an error inside offhook; see the log", "fall_over")]


async def test_after_a_fault_that_is_final_nothing_more_comes() -> None:
    async with line(tells("ready", "fault fatal", "say a", "done a", "fault fatal")) as server, talk(server) as t:
        await t.connection.open()
        await server.until(lambda: "0: end" in server.heard)
        assert t.listener.names() == ["Ready", "BridgeFault"]
        assert t.listener.audio == {}


# ── renewal ──────────────────────────────────────────────────────────────────────────────────────────────

SAID = (Utterance(speaker="agent", text="Hello."), Utterance(speaker="caller", text="Hi."))


async def test_a_broken_session_begins_anew_with_what_was_said() -> None:
    scenes = tells("ready", "fault retry", "done old"), tells("ready", "done a")
    async with line(*scenes) as server, talk(server, history=SAID) as t:
        await t.connection.open()
        await t.listener.until(lambda: len(t.listener.events) == 4)
        assert t.listener.names() == ["Ready", "BridgeFault", "Ready", "AudioDone"]
        assert t.faults() == [("as asked", "retry")]
        await server.until(lambda: "1: hello Hello.,Hi." in server.heard and "0: end" in server.heard)


async def test_two_faults_at_once_begin_one_session() -> None:
    scenes = tells("ready", "fault retry", "fault retry", close=1011), tells("ready")
    async with line(*scenes) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: t.listener.names().count("Ready") == 2)
        assert server.connections == 2
        assert len(t.faults()) == 1


async def test_frames_wait_while_a_session_is_renewed() -> None:
    async with line(tells("ready", "fault retry"), tells("ready")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: bool(t.faults()))
        t.connection.send_audio(b"1")
        t.connection.send(Digits(digits="5"))
        t.connection.send_audio(b"2")
        await server.until(lambda: server.heard[-1:] == ["1: audio 2"])
        assert [words for words in server.heard if words.startswith("1: ")][1:] == [
            "1: command Digits", "1: audio 1", "1: audio 2",
        ]  # fmt: skip


async def test_a_session_that_breaks_again_and_again_falls_over() -> None:
    async with line(tells("ready", "fault retry")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: t.faults()[-1:] == [("as asked", "fall_over")])
        assert server.connections == 1 + len(pump.RETRY_S)
        assert len(t.faults()) == 1 + len(pump.RETRY_S)


async def test_a_session_that_lived_long_has_its_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "HEALTHY_S", -1.0)
    scenes = [tells("ready", "fault retry")] * 5
    async with line(*scenes, tells("ready")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: t.listener.names().count("Ready") == 6)


async def test_a_renewal_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RENEWED_IN_S", 0.05)
    async with line(tells("ready", "fault retry"), tells()) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: len(t.faults()) == 2)
        assert t.faults()[1] == ("no new session within 0.05 s", "fall_over")
        await server.until(lambda: server.heard.count("1: end") == 1)


async def test_a_renewal_that_is_refused_for_good_is_fatal() -> None:
    async with line(tells("ready", "fault retry")) as server, talk(server) as t:
        await t.connection.open()
        server.refuse = [(401, "expired")]
        await t.listener.until(lambda: len(t.faults()) == 2)
        assert t.faults()[1] == ("401 expired", "fatal")


async def test_closing_while_it_renews_leaves_no_connection() -> None:
    async with line(tells("ready", "fault retry"), tells()) as server, talk(server) as t:
        await t.connection.open()
        await server.until(lambda: "1: hello " in server.heard)
        await t.connection.close()
        await server.until(lambda: "1: end" in server.heard)
        assert t.listener.names() == ["Ready", "BridgeFault"]


async def test_an_expiring_session_is_renewed_when_the_agent_has_spoken() -> None:
    async def scene(websocket: web.WebSocketResponse) -> None:
        for words in ("ready", "started", "expiring 60", "say a"):
            await websocket.send_str(words)
        await go.wait()
        await websocket.send_str("finished")

    go = asyncio.Event()
    async with line(scene, tells("ready")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: "a" in t.listener.audio)
        assert server.connections == 1
        go.set()
        await t.listener.until(lambda: t.listener.names().count("Ready") == 2)
        assert t.listener.events == [Ready(), ResponseStarted(), Expiring(seconds=60), ResponseDone(), Ready()]


@pytest.mark.parametrize("busy", ["speech", "tool t1"])
async def test_an_expiring_session_waits_for_what_is_under_way(busy: str) -> None:
    async def scene(websocket: web.WebSocketResponse) -> None:
        for words in ("ready", "started", busy, "finished", "expiring 60", "done a"):
            await websocket.send_str(words)
        await go.wait()
        await websocket.send_str("started")
        await websocket.send_str("finished")

    go = asyncio.Event()
    async with line(scene, tells("ready")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: "AudioDone" in t.listener.names())
        t.connection.send(ToolResult(tool_call_id="t1", output="sunny"))
        await server.until(lambda: "0: command ToolResult" in server.heard)
        assert server.connections == 1
        go.set()
        await t.listener.until(lambda: t.listener.names().count("Ready") == 2)


async def test_an_expiring_session_is_renewed_in_time_though_the_agent_speaks() -> None:
    async with line(tells("ready", "started", "expiring 5"), tells("ready")) as server, talk(server) as t:
        await t.connection.open()
        await t.listener.until(lambda: t.listener.names().count("Ready") == 2)
        assert server.connections == 2
