"""Loopback while nobody has a key, everywhere from then on; and no connection is dropped in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from offhook.api.listener import HttpListener, Where
from offhook.model.errors import ConfigError, ListenError


async def answer(_: web.Request) -> web.Response:
    return web.Response(text="here")


@asynccontextmanager
async def listening(where: Where, *, has_keys: bool) -> AsyncIterator[HttpListener]:
    app = web.Application()
    app.router.add_get("/", answer)
    listener = HttpListener(app, where)
    await listener.start(has_keys=has_keys)
    try:
        yield listener
    finally:
        await listener.close()


def hosts(listener: HttpListener) -> set[str]:
    return {host for host, _ in listener.addresses}


def address_of_this_machine() -> str:
    """One that is not loopback; "" where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return ""
        return str(one.getsockname()[0])


async def test_without_keys_it_listens_on_loopback_and_with_them_everywhere() -> None:
    async with listening(Where(), has_keys=False) as listener:
        port = listener.port
        assert hosts(listener) == {"127.0.0.1", "::1"}

        await listener.keys_changed(has_keys=True)

        assert hosts(listener) == {"0.0.0.0", "::"}
        assert {each for _, each in listener.addresses} == {port}
        await listener.keys_changed(has_keys=False)
        assert hosts(listener) == {"127.0.0.1", "::1"}


async def test_others_reach_it_once_there_is_a_key() -> None:
    other = address_of_this_machine()
    if not other:
        pytest.skip("this machine has loopback alone")
    async with listening(Where(), has_keys=False) as listener, aiohttp.ClientSession() as client:
        url = f"http://{other}:{listener.port}/"
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(url)
        await listener.keys_changed(has_keys=True)
        async with client.get(url) as response:
            assert await response.text() == "here"


async def test_a_connection_that_is_open_stays_so() -> None:
    async with listening(Where(), has_keys=False) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for has_keys in (True, False, True):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b"here")
            await listener.keys_changed(has_keys=has_keys)
        writer.close()
        await writer.wait_closed()


async def test_where_it_was_told_to_listen_it_stays() -> None:
    async with listening(Where(host="127.0.0.1"), has_keys=False) as listener:
        await listener.keys_changed(has_keys=True)
        assert hosts(listener) == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "office.example.com"])
def test_others_are_not_let_in_without_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="no API key exists") as caught:
        Where(host=host).hosts(has_keys=False)
    assert caught.value.key == "http.host"
    assert Where(host=host).hosts(has_keys=True) == (host,)
    assert Where(host=host, allow_anonymous=True).hosts(has_keys=False) == (host,)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_key(host: str) -> None:
    assert Where(host=host).hosts(has_keys=False) == (host,)


async def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=r"Set http\.port"):
            async with listening(Where(port=port), has_keys=False):
                pass


async def test_an_address_of_another_machine_is_told_as_well() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 port 0"):
        async with listening(Where(host="192.0.2.1"), has_keys=True):
            pass


async def test_when_everywhere_is_not_free_it_stays_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(Where(), has_keys=False) as listener:
        with socket.socket() as other:
            other.bind(("127.0.0.9", listener.port))  # no conflict with ours, but with all addresses
            other.listen()
            await listener.keys_changed(has_keys=True)

        assert hosts(listener) == {"127.0.0.1", "::1"}
        assert "stays on 127.0.0.1 and ::1" in caplog.text
