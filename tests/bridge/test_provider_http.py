"""HTTP to providers, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from offhook.bridge import provider_http
from offhook.bridge.provider_http import MAX_ANSWER_BYTES, ProviderHttp
from offhook.bridge.wire import HttpRequest


@asynccontextmanager
async def served(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(status=201, body=request.headers.get("X-Key", "").encode() + b":" + await request.read())

    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for size in map(int, request.query["sizes"].split(",")):
            await response.write(b"x" * size)
            await asyncio.sleep(0.01)
        if "breaks" in request.query:
            assert request.transport is not None
            request.transport.abort()
        if "stalls" in request.query:
            await asyncio.sleep(60)
        return response

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/echo")

    app = web.Application()
    app.add_routes([web.route("*", "/echo", echo), web.get("/pieces", pieces), web.get("/elsewhere", elsewhere)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https://localhost' if tls else 'http://127.0.0.1'}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[ProviderHttp]:
    client = ProviderHttp()
    yield client
    await client.close()


async def test_asks_and_is_answered(http: ProviderHttp) -> None:
    async with served() as url:
        answer = await http.ask(
            HttpRequest(method="POST", url=f"{url}/echo", headers=(("X-Key", "k"),), body=b"hello"), 5.0
        )
        assert (answer.status, answer.body) == (201, b"k:hello")


async def test_an_answer_in_pieces_is_read_whole(http: ProviderHttp) -> None:
    async with served() as url:
        answer = await http.ask(HttpRequest(method="GET", url=f"{url}/pieces?sizes=10,70000,5"), 5.0)
        assert len(answer.body) == 70_015


async def test_an_answer_that_is_too_large_is_none(http: ProviderHttp) -> None:
    async with served() as url:
        with pytest.raises(OSError, match="larger than"):
            await http.ask(HttpRequest(method="GET", url=f"{url}/pieces?sizes={MAX_ANSWER_BYTES + 1}"), 5.0)


async def test_pieces_are_streamed_as_they_come(http: ProviderHttp) -> None:
    async with served() as url, http.stream(HttpRequest(method="GET", url=f"{url}/pieces?sizes=1,2,3")) as stream:
        assert stream.status == 200
        assert sum([len(chunk) async for chunk in stream.chunks()]) == 6


async def test_a_stream_that_breaks_is_an_os_error(http: ProviderHttp) -> None:
    async with served() as url:
        with pytest.raises(OSError, match="broke off"):
            await http.ask(HttpRequest(method="GET", url=f"{url}/pieces?sizes=10&breaks=1"), 5.0)


async def test_a_stream_that_stalls_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_http, "STALL_S", 0.1)
    http = ProviderHttp()
    try:
        async with served() as url, http.stream(HttpRequest(method="GET", url=f"{url}/pieces?sizes=9&stalls=1")) as it:
            with pytest.raises(OSError, match="broke off"):
                await it.read()
    finally:
        await http.close()


async def test_a_deadline_is_kept(http: ProviderHttp) -> None:
    async with served() as url:
        with pytest.raises(TimeoutError):
            await http.ask(HttpRequest(method="GET", url=f"{url}/pieces?sizes=9&stalls=1"), 0.1)


async def test_where_nobody_listens_is_an_os_error(http: ProviderHttp) -> None:
    async with served() as url:
        pass
    with pytest.raises(OSError, match="connect"):
        await http.ask(HttpRequest(method="GET", url=url), 5.0)


async def test_no_redirect_is_followed_and_no_proxy_taken_from_the_environment(
    http: ProviderHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with served() as url:
        assert (await http.ask(HttpRequest(method="GET", url=f"{url}/elsewhere"), 5.0)).status == 302


async def test_over_tls_only_whom_it_trusts() -> None:
    authority = trustme.CA()
    server_side, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(trusting)
    async with served(tls=server_side) as url:
        for tls, answers in ((trusting, True), (None, False)):
            http = ProviderHttp(tls=tls)
            try:
                answer = await http.ask(HttpRequest(method="GET", url=f"{url}/echo"), 5.0)
                assert answers
                assert answer.status == 201
            except OSError:
                assert not answers
            finally:
                await http.close()


async def test_it_may_be_closed_unused_and_twice() -> None:
    http = ProviderHttp()
    await http.close()
    await http.close()


async def test_an_answer_that_trickles_is_given_up_in_time(http: ProviderHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_http, "WHOLE_S", 0.1)
    async with served() as url, asyncio.timeout(5):
        request = HttpRequest(method="GET", url=f"{url}/pieces?sizes={','.join(['1'] * 100)}")
        async with http.stream(request) as stream:
            with pytest.raises(TimeoutError):
                await stream.read()


async def test_a_stream_that_never_ends_is_ended(http: ProviderHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_http, "STREAM_S", 0.1)
    async with served() as url, asyncio.timeout(5):
        request = HttpRequest(method="GET", url=f"{url}/pieces?sizes={','.join(['1'] * 100)}")
        async with http.stream(request) as stream:
            with pytest.raises(OSError, match="goes on after"):
                await stream.read()
