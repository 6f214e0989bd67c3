"""Nobody gets inside: every trick with real sockets that listen on loopback and must never be connected to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from aiohttp import web
from tests.delivery.receivers import (
    INSIDE,
    OPEN,
    RECEIVER,
    Names,
    Trap,
    at_any_port,
    connections,
    fault,
    receiver,
    request,
    saying,
    speaker,
    trap,
    trusting,
)
from tests.delivery.ssrf_tricks import ANSWERS, HOSTS, URLS

import offhook.delivery.lookup
from offhook.delivery.outbound_http import OutboundHttp
from offhook.delivery.targets_allowed import TargetPolicy

TLS = trusting()


@pytest.fixture(scope="module")
def inside() -> Iterator[Trap]:
    with trap() as made:
        yield made


@pytest_asyncio.fixture
async def guarded(inside: Trap) -> AsyncIterator[OutboundHttp]:
    """As open as an operator can make it without opening a network: http, and the port where the trap listens."""
    async with OutboundHttp(at_any_port(TargetPolicy(allow_http=True), inside.port), tls=TLS) as client:
        yield client


async def test_the_trap_is_one(inside: Trap) -> None:
    """Without the guard each of these connects, so the tests below can fail."""
    everything = TargetPolicy(dev=True)
    async with OutboundHttp(everything, tls=TLS) as client:
        for host in ("127.0.0.1", "localhost", "[::1]", "127.255.255.254", "[::ffff:127.0.0.1]"):
            await fault(client, request(f"http://{host}:{inside.port}/", deadline_s=0.05))
            assert inside.victims() >= 1, host


@pytest.mark.parametrize("host", HOSTS)
async def test_no_host_leads_inside(host: str, guarded: OutboundHttp, inside: Trap) -> None:
    """By this machine's own resolver: if the grammar let a number through, it would connect."""
    for scheme in ("http", "https"):
        error = await fault(guarded, request(f"{scheme}://{host}:{inside.port}/", deadline_s=5))
        assert error.kind in ("bad_url", "refused_target", "unresolvable")
    assert inside.victims() == 0
    assert guarded.open_connections == 0


@pytest.mark.parametrize("url", URLS)
async def test_no_url_leads_inside(url: str, guarded: OutboundHttp, inside: Trap) -> None:
    error = await fault(guarded, request(url.replace("{port}", str(inside.port)), deadline_s=5))
    assert error.kind == "bad_url"
    assert inside.victims() == 0


@pytest.mark.parametrize("answers", ANSWERS)
async def test_no_answer_of_dns_leads_inside(answers: list[str], inside: Trap) -> None:
    names = Names(hooks_example_com=[answers])
    async with OutboundHttp(at_any_port(TargetPolicy(allow_http=True), inside.port), find=names, tls=TLS) as client:
        error = await fault(client, request(f"http://hooks.example.com:{inside.port}/"))
        assert error.kind == "refused_target"
        assert names.asked == ["hooks.example.com"]
        assert await connections(client, at_most=0) == 0
    assert inside.victims() == 0


@pytest.mark.parametrize("answers", [[INSIDE], [RECEIVER, INSIDE], [INSIDE, "::1"], ["::ffff:127.0.0.1"]])
async def test_the_maker_of_sockets_judges_once_more(
    answers: list[str], inside: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever should ever go wrong before, no socket is made for an address that is not allowed."""
    monkeypatch.setattr(offhook.delivery.lookup, "judge_answers", lambda *given: None)
    names = Names(hooks_example_com=[answers])
    rules = at_any_port(TargetPolicy(allow_http=True), inside.port)
    async with OutboundHttp(rules, find=names, tls=TLS) as client:
        error = await fault(client, request(f"http://hooks.example.com:{inside.port}/"))
        assert error.kind == "unreachable"
        assert "security.allowed_targets" in str(error)
        assert await connections(client, at_most=0) == 0
    assert inside.victims() == 0


async def test_a_name_that_changes_its_mind_is_judged_anew_at_each_connection() -> None:
    """DNS rebinding: public when it is judged first, inside afterwards; the trap listens at the same port."""
    names = Names(hooks_example_com=[[RECEIVER], [INSIDE]])
    goodbye = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    async with speaker(goodbye) as port, OutboundHttp(at_any_port(OPEN, port), find=names, tls=TLS) as client:
        with trap(INSIDE, port) as inside:
            url = f"http://hooks.example.com:{port}/"
            assert (await client.send(request(url))).status == 200
            assert (await fault(client, request(url))).kind == "refused_target"
            assert inside.victims() == 0
    assert names.asked == ["hooks.example.com"] * 2


async def test_what_is_judged_is_what_is_connected_to() -> None:
    """Rebinding between judgement and connect: the name is asked for once, so there is no second answer to use."""
    names = Names(hooks_example_com=[[RECEIVER], [INSIDE]])
    async with receiver() as server, OutboundHttp(OPEN, find=names, tls=TLS) as client:
        with trap(INSIDE, server.port) as inside:
            assert (await client.send(request(server.url(host="hooks.example.com")))).status == 200
            assert inside.victims() == 0
        assert names.asked == ["hooks.example.com"]
        assert server.seen[0].headers["Host"] == f"hooks.example.com:{server.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers_and_not_followed(status: int) -> None:
    with trap(INSIDE) as inside:
        where = f"http://{INSIDE}:{inside.port}/latest/meta-data/"

        async def lead_inside(asked: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": where, "Refresh": f"0; url={where}"})

        async with receiver() as server, OutboundHttp(OPEN, tls=TLS) as client:
            server.answer = lead_inside
            answer = await client.send(request(server.url()))
        assert (answer.status, answer.headers["location"]) == (status, where)
        assert inside.victims() == 0


async def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with trap(INSIDE) as inside:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{INSIDE}:{inside.port}")
        async with receiver() as server, OutboundHttp(OPEN, tls=TLS) as client:
            assert (await client.send(request(server.url()))).status == 200
        assert inside.victims() == 0


async def test_no_cookie_is_kept() -> None:
    async def bake(asked: web.Request) -> web.Response:
        return web.Response(headers={"Set-Cookie": "session=SECRET; Path=/"})

    names = Names(hooks_example_com=[[RECEIVER]])
    async with receiver() as server, OutboundHttp(OPEN, find=names, tls=TLS) as client:
        server.answer = bake
        for _ in range(2):
            await client.send(request(server.url(host="hooks.example.com")))
        assert all("Cookie" not in each.headers for each in server.seen)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "inside.example"},
        {"hOsT": "inside.example"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "X-Api-Key"},
        {"Upgrade": "websocket"},
        {"Expect": "100-continue"},
        {"Proxy-Authorization": "Basic eA=="},
        {"Accept-Encoding": "gzip"},
        {"TE": "trailers"},
        {"X": "a\r\nY: b"},
        {"X": "a\nY: b"},
        {"X": "a\rY: b"},
        {"X": "a\x00b"},
        {"X": "grün\u2028"},
        {"X\r\nY": "b"},
        {"X Y": "b"},
        {"X:": "b"},
        {"": "b"},
        {"ä": "b"},
        {"X": "a" * 8191},
        {f"X-{n}": "" for n in range(101)},
    ],
)
async def test_headers_that_would_reframe_a_request_are_refused(
    headers: dict[str, str], guarded: OutboundHttp, inside: Trap
) -> None:
    error = await fault(guarded, request("https://8.8.8.8/", headers=headers))
    assert error.kind == "bad_request"


async def test_bodies_and_methods_are_checked_too(guarded: OutboundHttp) -> None:
    assert (await fault(guarded, request("https://8.8.8.8/", body=bytes((1 << 20) + 1)))).kind == "bad_request"
    for method in ("CONNECT", "TRACE", "GET /inside HTTP/1.1\r\nX:", "get"):
        assert (await fault(guarded, request("https://8.8.8.8/", method))).kind == "bad_request"  # type: ignore[arg-type]


async def test_after_a_change_of_policy_no_old_connection_is_used() -> None:
    names = Names(hooks_example_com=[[RECEIVER]])
    async with receiver() as server, OutboundHttp(OPEN, find=names, tls=TLS) as client:
        url = server.url(host="hooks.example.com")
        await client.send(request(url))
        await client.send(request(url))
        assert (server.connections, client.open_connections) == (1, 1)
        client.policy = TargetPolicy(allow_http=True, allowed_ports=frozenset({server.port}))
        assert (await fault(client, request(url))).kind == "refused_target"
        assert await connections(client, at_most=0) == 0
        client.policy = OPEN
        await client.send(request(url))
        assert server.connections == 2


async def test_a_request_under_way_ends_under_the_policy_it_began_with() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(asked: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(text="late")

    async with receiver() as server, OutboundHttp(OPEN, tls=TLS) as client:
        server.answer = wait
        running = asyncio.create_task(client.send(request(server.url())))
        await begun.wait()
        client.policy = TargetPolicy()
        assert client.policy == TargetPolicy()
        assert (await fault(client, request(server.url()))).kind == "refused_target"
        go_on.set()
        assert (await running).body == b"late"
        assert await connections(client, at_most=0) == 0


async def test_an_equal_policy_keeps_its_connections() -> None:
    async with receiver() as server, OutboundHttp(OPEN, tls=TLS) as client:
        await client.send(request(server.url()))
        client.policy = at_any_port(OPEN)
        await client.send(request(server.url()))
        assert server.connections == 1
