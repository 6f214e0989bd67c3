"""Keys are in nothing that is read, logged or kept, though providers say them back."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from tests.bridge.provider_samples import SAMPLES
from tests.bridge.recording_listener import RecordingListener
from tests.bridge.test_codecs_take_anything import WELCOMES
from tests.bridge.test_tenants_agents import NEEDED

from offhook.bridge import connection as pump
from offhook.bridge.codec import BridgeFault, BridgeRequest, ToolCall
from offhook.bridge.hiding import hidden, secrets_in, secrets_of
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.wire import HttpRequest, WebsocketTarget
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.observability.logs import LIBRARIES
from offhook.server.providers import HOSTED

KEY = "planted-Key.0123456789-abcdef"
SIGNED = "planted-signature-9876543210"
OWN = "planted-header-5555555555"

WAYS = ("refused", "unprepared", "closed", "garbage", "error")

VENDORS = (*HOSTED, "anthropic", "groq")


def parrot_of(name: str, way: str) -> web.Application:
    """A provider that fails, and says all keys it was told."""
    known: dict[str, None] = {}

    async def serve(request: web.Request) -> web.StreamResponse:
        heard = f"{request.raw_path} {dict(request.headers)}"
        known.update(dict.fromkeys(secret for secret in (KEY, SIGNED, OWN) if secret in heard))
        upgrades = request.headers.get("Upgrade", "").lower() == "websocket"
        if way == ("refused" if upgrades else "unprepared"):
            return web.json_response({"error": {"message": heard}, "detail": heard}, status=401)
        if not upgrades:
            url = f"ws://{request.host}/there?conversation_signature={SIGNED}"
            created = name == "ultravox"
            return web.json_response({"signed_url": url, "joinUrl": url, "callId": "c"}, status=201 if created else 200)
        return await converse(request)

    async def converse(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        keys = " ".join(known)
        assert keys
        for message in SAMPLES.get(name, ())[: WELCOMES.get(name, 1)]:
            await websocket.send_bytes(msgspec.json.encode(message)) if name == "gemini" else await websocket.send_str(
                msgspec.json.encode(message).decode()
            )
        match way:
            case "garbage":
                await websocket.send_str('{"type": ' + keys)
            case "error":
                await websocket.send_bytes(
                    error_of(name, keys).encode()
                ) if name == "gemini" else await websocket.send_str(error_of(name, keys))
                await websocket.close(code=1008)
            case _:
                await websocket.close(code=1008, message=keys.encode())
        async for received in websocket:
            if received.type is WSMsgType.ERROR:
                break
        return websocket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    return app


def error_of(name: str, keys: str) -> str:
    samples = [one for one in SAMPLES.get(name, ()) if str(one.get("type", "")).lower() == "error"]
    text = msgspec.json.encode(samples[0] if samples else {"type": "error", "error": {"message": "TEXT"}}).decode()
    return text.replace("TEXT", keys).replace("CODE", keys)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def as_a_server_logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All of ours, and of libraries what a server writes down when it is told to write all."""
    monkeypatch.setattr(pump, "RETRY_S", (0.0, 0.0))
    caplog.set_level(logging.DEBUG)
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def request_of(name: str, url: str, listener: RecordingListener) -> BridgeRequest:
    own: dict[str, Any] = {"headers": {"X-Mine": OWN}}
    agent = Agent(agent_id="a", provider=name, options={**NEEDED.get(name, {}), **own}, by_operator=True)
    profile = HOSTED[name](Outside(http=ProviderHttp())).profile
    return BridgeRequest(
        call_id="c",
        agent=agent,
        input_format=profile.input_formats[0],
        output_format=profile.output_formats[0],
        listener=listener,
    )


async def fail(name: str, url: str) -> str:
    """All that is told of a conversation that fails."""
    listener, http = RecordingListener(), ProviderHttp()
    access = ProviderAccess(api_key=KEY, base_url=url)
    outside = Outside(http=http, accesses=dict.fromkeys(VENDORS, access))
    connection = HOSTED[name](outside).factory(request_of(name, url, listener))
    told = [repr(connection), repr(outside)]
    try:
        await connection.open()
        await listener.until(lambda: bool(listener.of(BridgeFault) or listener.of(ToolCall)))
    except BridgeError as error:
        told += [repr(error), "".join(traceback.format_exception(error))]
    finally:
        await connection.close()
        await http.close()
    return "\n".join([*told, *map(repr, listener.events)])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HOSTED)
async def test_a_provider_that_says_keys_back_is_heard_without_them(
    name: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(parrot_of(name, way)) as url, asyncio.timeout(20):
        told = await fail(name, url)
    assert "Fault" in told or "BridgeError" in told or "end_call" in told
    for secret in (KEY, SIGNED, OWN):
        shown = [line for line in f"{told}\n{caplog.text}".splitlines() if secret in line]
        assert shown == []


@pytest.mark.parametrize("name", HOSTED)
async def test_a_url_with_a_key_is_told_to_nobody(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is there; and a URL that is none."""
    for url in (f"http://127.0.0.1:9/?key={KEY}", f"http://127.0.0.1:9/{KEY}#{KEY}", f"http://[::1/{KEY}"):
        try:
            told = await fail(name, url)
        except Exception as error:  # of whatever kind: it is looked at
            told = "".join(traceback.format_exception(error))
        assert KEY not in told + caplog.text


# ── what is looked for ───────────────────────────────────────────────────────────────────────────────────


def test_what_was_sent_as_a_key_is_hidden() -> None:
    url = f"wss://there.example/v1?model=gpt-realtime-2.1&key={KEY}"
    headers = (("Authorization", f"Bearer {SIGNED}"), ("Content-Type", "application/json"))
    secrets = secrets_of(HttpRequest(method="GET", url=url, headers=headers))
    words = f"no {url}, no {KEY}, no {SIGNED}, but application/json and gpt-realtime-2.1".encode()
    assert hidden(words, secrets) == b"no ***, no ***, no ***, but application/json and gpt-realtime-2.1"


def test_an_agents_own_keys_are_known_wherever_they_stand() -> None:
    options = {
        "api_key": "own-key-1",
        "think_key": "own-key-2",
        "cartesia": {"api_key": "own-key-3"},
        "headers": {"X-Mine": "own-value-4"},
        "model": "gpt-realtime-2.1",
        "keywords": ("own-word-5",),
    }
    assert set(secrets_in(options)) == {b"own-key-1", b"own-key-2", b"own-key-3", b"own-value-4"}


def test_short_ones_are_no_keys() -> None:
    assert secrets_of(WebsocketTarget(url="ws://x", headers=(("api-key", "k"),))) == ()
