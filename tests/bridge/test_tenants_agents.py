"""Agents of tenants: where their options may lead, and which keys go there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from tests.bridge.recording_listener import RecordingListener

from offhook.bridge.cascade.options import CartesiaOptions, CascadeOptions, cartesia_options, pipeline_options, plan_of
from offhook.bridge.codec import BridgeConnection, BridgeRequest
from offhook.bridge.deepgram_settings import DeepgramOptions
from offhook.bridge.elevenlabs_agent import ElevenlabsOptions
from offhook.bridge.gemini_live.options import GeminiOptions
from offhook.bridge.guard import RefusedTargetError
from offhook.bridge.openai_realtime.options import OpenAiOptions
from offhook.bridge.options import ProviderAccess, ProviderOptions
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.ultravox import UltravoxOptions
from offhook.bridge.websocket import HandshakeRefusedError, Websocket, dial
from offhook.bridge.wire import HttpRequest, WebsocketTarget
from offhook.config import Settings, agents_of
from offhook.delivery.connect_guard import ConnectGuard
from offhook.delivery.targets_allowed import TargetPolicy
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent, ProviderFallback
from offhook.server.providers import HOSTED, Providers
from offhook.store.forms import AgentForm, Catalogue, agent_record
from offhook.store.rights import Rights

OPERATORS_KEY = "operators-own-key-0123456789"

OPTIONS: Mapping[str, type[ProviderOptions]] = {
    "cartesia": CartesiaOptions,
    "deepgram": DeepgramOptions,
    "elevenlabs": ElevenlabsOptions,
    "gemini": GeminiOptions,
    "openai": OpenAiOptions,
    "pipeline": CascadeOptions,
    "ultravox": UltravoxOptions,
}

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "cartesia": {"voice_id": "a0e99841-438c-4a64-b679-ae501e7d6091"},
    "elevenlabs": {"agent_id": "agent_1"},
    "pipeline": {
        "stt_provider": "deepgram",
        "llm_provider": "openai",
        "tts_provider": "cartesia",
        "tts_voice": "a0e99841-438c-4a64-b679-ae501e7d6091",
    },
}

OWN_KEYS = {
    "cartesia": ("api_key", "stt_api_key", "llm_api_key"),
    "pipeline": ("stt_api_key", "llm_api_key", "tts_api_key"),
}
URLS = {
    "cartesia": ("base_url", "stt_base_url", "llm_base_url"),
    "pipeline": ("stt_base_url", "llm_base_url", "tts_base_url"),
}


class Place:
    """Somebody's server: keeps all that reaches it, and answers each connection with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.port = 0
        self.connections = 0
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.heard += await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"


@asynccontextmanager
async def place(answer: bytes = REFUSAL) -> AsyncIterator[Place]:
    made = Place(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def guarded(addresses: Sequence[str], policy: TargetPolicy) -> AsyncIterator[ProviderHttp]:
    """Every name leads to ``addresses``."""
    guard = ConnectGuard(lambda: policy, find=lambda name: addresses)
    http = ProviderHttp(guard=guard)
    yield http
    await http.close()
    guard.close()


def strict(port: int) -> TargetPolicy:
    """Nothing but that port is let through: by its address alone it is to be refused."""
    return TargetPolicy(allow_http=True, allowed_ports=frozenset({port}))


def open_to_loopback(port: int) -> TargetPolicy:
    return TargetPolicy(allow_http=True, allowed_ports=frozenset({port}), allowed_targets=(ip_network("127.0.0.1"),))


def request_of(agent: Agent) -> BridgeRequest:
    profile = HOSTED[agent.provider](Outside(http=ProviderHttp())).profile
    return BridgeRequest(
        call_id="c",
        agent=agent,
        input_format=profile.input_formats[0],
        output_format=profile.output_formats[0],
        listener=RecordingListener(),
    )


def led_to(name: str, url: str, *, by_operator: bool = False) -> Agent:
    """With keys of its own."""
    keys = dict.fromkeys(OWN_KEYS.get(name, ("api_key",)), "own")
    urls = dict.fromkeys(URLS.get(name, ("base_url",)), url)
    options = {**NEEDED.get(name, {}), **keys, **urls}
    return Agent(agent_id="a", provider=name, options=options, by_operator=by_operator)


async def failure(connection: BridgeConnection) -> BridgeError:
    try:
        with pytest.raises(BridgeError) as failed:
            await connection.open()
        return failed.value
    finally:
        await connection.close()


class Nobody:
    def opened(self, websocket: Websocket) -> None: ...

    def received(self, message: bytes, *, is_text: bool) -> None: ...

    def closed(self, code: int, reason: str) -> None: ...


# ── where they lead ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", HOSTED)
@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
async def test_a_tenants_name_that_leads_inside_is_refused_in_words(name: str, address: str) -> None:
    async with place() as inside, guarded([address], strict(inside.port)) as http:
        outside = Outside(http=ProviderHttp(), guarded=http)
        agent = led_to(name, f"http://tenant.example:{inside.port}")
        error = await failure(HOSTED[name](outside).factory(request_of(agent)))
    assert error.verdict == "fall_over"
    assert f"leads to {address}, which is " in error.problem
    assert inside.connections == 0


@pytest.mark.parametrize("name", HOSTED)
async def test_a_name_that_may_be_reached_is(name: str) -> None:
    async with place() as there, guarded(["127.0.0.1"], open_to_loopback(there.port)) as http:
        outside = Outside(http=ProviderHttp(), guarded=http)
        await failure(HOSTED[name](outside).factory(request_of(led_to(name, f"http://tenant.example:{there.port}"))))
    assert there.connections > 0
    assert f"Host: tenant.example:{there.port}".encode() in there.heard


@pytest.mark.parametrize("name", HOSTED)
async def test_the_operators_agents_reach_loopback_unasked(name: str) -> None:
    async with place() as there, guarded(["10.0.0.1"], TargetPolicy()) as http:
        plain = ProviderHttp()
        agent = led_to(name, f"http://127.0.0.1:{there.port}", by_operator=True)
        await failure(HOSTED[name](Outside(http=plain, guarded=http)).factory(request_of(agent)))
        await plain.close()
    assert there.connections > 0


@pytest.mark.parametrize("name", sorted(set(HOSTED) - {"pipeline", "cartesia"}))
async def test_a_tenants_agent_reaches_where_the_operator_leads_its_provider(name: str) -> None:
    async with place() as there, guarded(["10.0.0.1"], TargetPolicy()) as http:
        plain = ProviderHttp()
        access = ProviderAccess(api_key=OPERATORS_KEY, base_url=f"http://127.0.0.1:{there.port}")
        agent = Agent(agent_id="a", provider=name, options=NEEDED.get(name, {}))
        outside = Outside(http=plain, guarded=http, accesses={name: access})
        await failure(HOSTED[name](outside).factory(request_of(agent)))
        await plain.close()
    assert OPERATORS_KEY.encode() in there.heard


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "0x7f.1", "2130706433", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "127.1", "0", "localhost"],
)
async def test_no_spelling_of_an_address_leads_inside(host: str) -> None:
    async with place() as inside, guarded(["127.0.0.1"], strict(inside.port)) as http:
        with pytest.raises(RefusedTargetError):
            await http.ask(HttpRequest(method="GET", url=f"http://{host}:{inside.port}/"), 5)
        with pytest.raises(RefusedTargetError):
            await dial(WebsocketTarget(url=f"ws://{host}:{inside.port}/"), Nobody(), guard=http.guard)
    assert inside.connections == 0


async def test_a_name_that_changes_its_mind_is_judged_each_time() -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    async with place() as there:
        policy = open_to_loopback(there.port)
        guard = ConnectGuard(lambda: policy, find=lambda name: next(answers))
        http = ProviderHttp(guard=guard)
        request = HttpRequest(method="GET", url=f"http://tenant.example:{there.port}/")
        assert (await http.ask(request, 5)).status == 403
        with pytest.raises(RefusedTargetError, match="private"):
            await http.ask(request, 5)
        await http.close()
        guard.close()


async def test_redirects_are_not_followed() -> None:
    async with place() as inside:
        moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % inside.port
        async with place(moved) as there, guarded(["127.0.0.1"], open_to_loopback(there.port)) as http:
            url = f"://tenant.example:{there.port}/"
            assert (await http.ask(HttpRequest(method="GET", url=f"http{url}"), 5)).status == 302
            with pytest.raises(HandshakeRefusedError, match="302"):
                await dial(WebsocketTarget(url=f"ws{url}"), Nobody(), guard=http.guard)
    assert inside.connections == 0


async def test_the_next_address_is_tried_where_the_first_is_silent() -> None:
    async with place() as there:
        policy = TargetPolicy(
            allow_http=True, allowed_ports=frozenset({there.port}), allowed_targets=(ip_network("127.0.0.0/8"),)
        )
        async with guarded(["127.0.0.9", "127.0.0.1"], policy) as http:
            with pytest.raises(HandshakeRefusedError):
                await dial(WebsocketTarget(url=f"ws://tenant.example:{there.port}/"), Nobody(), guard=http.guard)


async def test_a_server_hands_its_guard_to_tenants_agents_alone() -> None:
    async with place() as there:
        guard = ConnectGuard(lambda: strict(there.port), find=lambda name: ["127.0.0.1"])
        providers = Providers(Settings(), guard=guard)
        url = f"http://localhost:{there.port}"
        refused = await failure(providers.open_bridge(request_of(led_to("openai", url))))
        assert "is a loopback address" in refused.problem
        assert there.connections == 0
        await failure(providers.open_bridge(request_of(led_to("openai", url, by_operator=True))))
        assert there.connections > 0
        await providers.close()
        guard.close()


def test_agents_of_config_json_are_the_operators() -> None:
    agent = AgentForm(id="a", provider="openai", options={"base_url": "http://127.0.0.1:8000/v1"})
    assert [one.by_operator for one in agents_of(Settings(agents=(agent,)))] == [True]
    assert not agent_record(agent, Catalogue()).by_operator


# ── and with which keys ──────────────────────────────────────────────────────────────────────────────────


PLACES = [
    (name, option)
    for name, options in OPTIONS.items()
    for option in options.__struct_fields__
    if option.endswith(("url", "headers"))
]
"""Every option of every provider that is a URL or headers."""


def led_by(name: str, option: str, url: str) -> dict[str, Any]:
    value: Any = {"X-Mine": "1"} if option.endswith("headers") else url
    return {**NEEDED.get(name, {}), option: value}


def test_every_provider_is_asked_for_its_options() -> None:
    assert set(OPTIONS) == set(HOSTED)
    assert {("openai", "base_url"), ("deepgram", "think_endpoint_url"), ("pipeline", "tts_base_url")} < set(PLACES)


@pytest.mark.parametrize(("name", "option"), PLACES)
def test_who_leads_elsewhere_without_a_key_of_its_own_is_refused_when_written(name: str, option: str) -> None:
    form = AgentForm(id="a", provider=name, options=led_by(name, option, "https://tenant.example"))
    with pytest.raises(ConfigError, match="would get the key of this server") as refused:
        Rights(providers=HOSTED).check("default", form)
    assert refused.value.key == f"options.{option}"


@pytest.mark.parametrize(("name", "option"), [each for each in PLACES if each[0] not in ("pipeline", "cartesia")])
async def test_the_operators_key_never_goes_where_a_tenant_leads(name: str, option: str) -> None:
    """``headers`` may lead elsewhere too (``Host``), so the operator's own place stands for it."""
    async with place() as tenants, place() as vendors:
        http = ProviderHttp()
        given = tenants if option == "headers" else vendors
        access = ProviderAccess(api_key=OPERATORS_KEY, base_url=f"http://127.0.0.1:{given.port}")
        provider = HOSTED[name](Outside(http=http, accesses={name: access}))
        agent = Agent(agent_id="a", provider=name, options=led_by(name, option, f"http://127.0.0.1:{tenants.port}"))
        with contextlib.suppress(ConfigError):  # a key is missing
            await failure(provider.factory(request_of(agent)))
        await http.close()
    assert OPERATORS_KEY.encode() not in tenants.heard


PARTS = [
    *(("stt", vendor) for vendor in ("custom", "deepgram", "cartesia", "openai")),
    *(("llm", vendor) for vendor in ("custom", "openai", "anthropic", "groq")),
    *(("tts", vendor) for vendor in ("custom", "openai", "cartesia", "elevenlabs", "deepgram")),
]


@pytest.mark.parametrize("name", ["pipeline", "cartesia"])
@pytest.mark.parametrize("option", ["base_url", "headers", "stt_base_url", "llm_base_url", "tts_base_url"])
@pytest.mark.parametrize(("part", "vendor"), PARTS)
def test_no_part_of_a_cascade_gets_the_operators_key_where_a_tenant_leads(
    name: str, option: str, part: str, vendor: str
) -> None:
    there = "https://tenant.example"
    read = cartesia_options if name == "cartesia" else pipeline_options
    models = {"stt_model": "m", "llm_model": "m", "tts_model": "m", "tts_voice": "v"}
    options = {**led_by(name, option, there), **models, f"{part}_provider": vendor}
    access = ProviderAccess(api_key=OPERATORS_KEY, base_url="https://operators.example")
    vendors = ("pipeline", "deepgram", "cartesia", "openai", "anthropic", "groq", "elevenlabs")
    outside = Outside(http=ProviderHttp(), accesses=dict.fromkeys(vendors, access))
    agent = Agent(agent_id="a", provider=name, options=options)
    try:
        plan = plan_of(agent, read(agent), outside)
    except ConfigError:
        return
    for settings in (plan.stt, plan.llm, plan.tts):
        led = settings.base_url == there or bool(settings.headers)
        assert settings.judged == (settings.base_url == there)
        assert not (led and settings.api_key == OPERATORS_KEY)


def test_keys_and_urls_are_in_no_repr() -> None:
    url = f"https://there.example/?key={OPERATORS_KEY}"
    agent = led_to("pipeline", url, by_operator=True)
    access = ProviderAccess(api_key=OPERATORS_KEY, base_url=url)
    plan = plan_of(agent, pipeline_options(agent), Outside(http=ProviderHttp()))
    shown = (access, plan, HttpRequest(method="GET", url=url), WebsocketTarget(url=url))
    assert OPERATORS_KEY not in repr(shown)
    for options in OPTIONS.values():
        own = msgspec.convert({"api_key": OPERATORS_KEY, "base_url": url}, options)
        assert OPERATORS_KEY not in repr(own)
    fallback = ProviderFallback(provider="openai", options={"api_key": OPERATORS_KEY})
    assert OPERATORS_KEY not in repr(fallback)
    assert OPERATORS_KEY not in repr(Agent(agent_id="a", provider="openai", options={"api_key": OPERATORS_KEY}))
