"""Servers of chat completions, each with its own ideas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from offhook.bridge.cascade.llm_chat import ChatModel, ModelSettings
from offhook.bridge.cascade.ports import LlmEvent, TextPiece
from offhook.bridge.codec import BridgeFault, ToolSpec
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.errors import BridgeError

MESSAGES = b'[{"role":"user","content":"Hi."}]'

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class Server:
    def __init__(self, answer: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self._answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(request.headers)
        body = await request.json() if request.can_read_body else {}
        self.asked.append(body)
        return await self._answer(request, body)


@asynccontextmanager
async def model_at(answer: Answer, **settings: Any) -> AsyncIterator[tuple[ChatModel, Server]]:
    server = Server(answer)
    app = web.Application()
    app.add_routes([web.route("*", "/v1/{path:.*}", server.handle)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    http = ProviderHttp()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield ChatModel(http, ModelSettings(base_url=url, model="m", **settings)), server
    finally:
        await http.close()
        await runner.cleanup()


async def all_of(model: ChatModel, tools: tuple[ToolSpec, ...] = ()) -> list[LlmEvent]:
    async with aclosing(model.stream(MESSAGES, tools)) as events:
        return [event async for event in events]


def text_of(events: list[LlmEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def sse(*data: str) -> web.Response:
    return web.Response(body="".join(f"data: {one}\n\n" for one in data), content_type="text/event-stream")


def delta(content: str, finish: str | None = None) -> str:
    return json.dumps({"choices": [{"delta": {"content": content}, "finish_reason": finish}]})


async def says_hello(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return sse(delta("Hello "), delta("you.", "stop"), "[DONE]")


async def test_the_request() -> None:
    tool = ToolSpec(name="weather", description="Tells it.", parameters='{"type":"object"}')
    async with model_at(says_hello, api_key="k", max_tokens=9, fields={"temperature": 0.1}) as (model, server):
        assert text_of(await all_of(model, (tool,))) == "Hello you."
    function = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}
    assert server.asked == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi."}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [{"type": "function", "function": function}],
            "max_tokens": 9,
            "temperature": 0.1,
        }
    ]
    assert server.headers[0]["Authorization"] == "Bearer k"


async def test_what_a_server_does_not_take_is_left_out() -> None:
    async def strict(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "stream_options" in body:
            return web.json_response({"error": "unknown field stream_options"}, status=400)
        return await says_hello(request, body)

    async def modern(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "max_tokens" in body:
            return web.json_response({"error": "use max_completion_tokens instead"}, status=400)
        return await says_hello(request, body)

    for answer in (strict, modern):
        async with model_at(answer, max_tokens=9) as (model, server):
            assert text_of(await all_of(model)) == "Hello you."
            assert text_of(await all_of(model)) == "Hello you."
            assert len(server.asked) == 3


async def test_a_server_that_does_not_stream() -> None:
    async def whole(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]})

    async with model_at(whole) as (model, _):
        assert text_of(await all_of(model)) == "Hello."


async def test_closing_stops_the_model() -> None:
    stopped = asyncio.Event()

    async def endless(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(f"data: {delta('word ')}\n\n".encode())
                await asyncio.sleep(0.001)
        except ConnectionError:
            stopped.set()
            raise

    async with model_at(endless) as (model, _):
        async with aclosing(model.stream(MESSAGES, ())) as events:
            await anext(events)
        async with asyncio.timeout(5):
            await stopped.wait()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ((delta("Hel"),), "broke off"),
        (("[DONE]",), "answered nothing"),
        ((delta("<think>Hm.</think>", "stop"), "[DONE]"), "answered nothing"),
        (('{"error": {"message": "overloaded"}}',), "overloaded"),
        (("no json",), "no JSON"),
    ],
)
async def test_what_is_no_answer(data: tuple[str, ...], problem: str) -> None:
    """Before the first word it is tried twice."""

    async def broken(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return sse(*data)

    async with model_at(broken) as (model, server):
        with pytest.raises(BridgeError, match=problem) as error:
            await all_of(model)
        assert error.value.verdict == "fall_over"
        assert len(server.asked) == (1 if data[0] == delta("Hel") else 2)


@pytest.mark.parametrize(("status", "tries"), [(401, 1), (404, 1), (400, 1), (429, 2), (503, 2)])
async def test_refusals(status: int, tries: int) -> None:
    async def refuse(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, text="Incorrect API key provided: sk-secretsecret")

    async with model_at(refuse) as (model, server):
        with pytest.raises(BridgeError, match=f"HTTP {status}") as error:
            await all_of(model)
        assert error.value.verdict == "fall_over"
        assert "secret" not in str(error.value)
        assert len(server.asked) == tries


async def test_the_second_try_is_told() -> None:
    async def once(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        answer = web.Response(status=503) if not failed else await says_hello(request, body)
        failed.append(True)
        return answer

    failed: list[bool] = []
    async with model_at(once) as (model, _):
        first, *rest = await all_of(model)
        assert isinstance(first, BridgeFault)
        assert first.verdict == "retry"
        assert text_of(rest) == "Hello you."


@pytest.mark.parametrize("headers_first", [True, False])
async def test_a_server_that_says_nothing_is_not_waited_for(headers_first: bool) -> None:
    async def silent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if headers_first:
            await response.prepare(request)
        await asyncio.sleep(30)
        return response

    async with model_at(silent, first_word_s=0.2) as (model, server):
        with pytest.raises(BridgeError, match="said nothing") as error:
            await all_of(model)
        assert error.value.verdict == "fall_over"
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "opens"),
    [(200, "{}", True), (404, "", True), (403, "", True), (200, "<html>", False), (401, "", False), (503, "", False)],
)
async def test_opening_reaches_the_server(status: int, body: str, opens: bool) -> None:
    async def models(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        assert request.path == "/v1/models"
        return web.Response(status=status, text=body)

    async with model_at(models) as (model, _):
        if opens:
            await model.open()
        else:
            with pytest.raises(BridgeError):
                await model.open()
