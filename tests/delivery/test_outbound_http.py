"""What the outgoing client sends and takes, over real sockets and TLS, and how it ends with those who misbehave."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ssl
import time
import traceback
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import trustme
from aiohttp import web
from tests.delivery.receivers import (
    AUTHORITY,
    OPEN,
    RECEIVER,
    Names,
    Talk,
    certified,
    connections,
    fault,
    never_reading,
    receiver,
    repeating,
    request,
    resetting,
    saying,
    silent,
    speaker,
    trap,
    trusting,
)

from offhook.delivery.outbound_http import (
    CONNECTIONS_KEPT,
    CONNECTIONS_PER_HOST,
    REQUESTS_PER_HOST,
    Method,
    OutboundHttp,
    OutboundRequest,
    OutboundResponse,
)
from offhook.delivery.targets_allowed import TargetPolicy
from offhook.model.errors import LocalProtocolError, OutboundError

HOST = "hooks.example.com"
TLS = trusting()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[OutboundHttp]:
    async with OutboundHttp(OPEN, tls=TLS, find=Names(hooks_example_com=[[RECEIVER]])) as made:
        yield made


# What is sent, and what is taken


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_a_request_arrives_as_it_was_given(client: OutboundHttp, method: Method) -> None:
    async with receiver() as server:
        path = "/a//b/../%2e%2E/c;d=1?x=%20&y[]=1|2&&z"
        given = {"Authorization": "Bearer SECRET", "Content-Type": "application/json", "X-Twice": "ä"}
        body = b"" if method in ("GET", "HEAD") else b'{"a":1}'
        answer = await client.send(request(server.url(path, HOST), method, body=body, headers=given))
        seen = server.seen[0]
        assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else b"thanks")
        assert (seen.method, seen.raw_path, server.bodies) == (method, path, [body])
        assert seen.headers["Host"] == f"{HOST}:{server.port}"
        assert {name: seen.headers[name] for name in given} == given
        assert seen.headers["Accept-Encoding"] == "identity"
        assert seen.headers["User-Agent"].startswith("offhook/")


async def test_the_caller_may_name_itself_and_what_it_takes(client: OutboundHttp) -> None:
    async with receiver() as server:
        await client.send(request(server.url(), headers={"user-agent": "mine", "ACCEPT": "audio/wav"}))
        headers = server.seen[0].headers
        assert (headers.getall("User-Agent"), headers.getall("Accept")) == (["mine"], ["audio/wav"])


async def test_a_body_without_a_type_gets_none(client: OutboundHttp) -> None:
    async with receiver() as server:
        await client.send(request(server.url()))
        assert "Content-Type" not in server.seen[0].headers


@pytest.mark.parametrize("status", [200, 202, 204, 304, 400, 404, 410, 429, 500, 503])
async def test_any_status_is_an_answer(client: OutboundHttp, status: int) -> None:
    async def say(asked: web.Request) -> web.Response:
        return web.Response(status=status, headers=[("Retry-After", "7"), ("X-Twice", "1"), ("X-Twice", "2")])

    async with receiver() as server:
        server.answer = say
        answer = await client.send(request(server.url()))
        assert (answer.status, answer.headers["retry-after"], answer.headers["x-twice"]) == (status, "7", "1")


async def test_by_tls_the_name_is_asked_for_and_verified(client: OutboundHttp) -> None:
    async with receiver(certified(AUTHORITY.issue_cert(HOST))) as server:
        for _ in range(3):
            assert (await client.send(request(server.url("/x", HOST)))).body == b"thanks"
        assert server.server_names == [HOST]
        assert server.connections == 1


async def test_by_tls_an_address_is_verified_too(client: OutboundHttp) -> None:
    async with receiver(certified(AUTHORITY.issue_cert(RECEIVER))) as server:
        assert (await client.send(request(server.url()))).status == 200


def _old() -> trustme.LeafCert:
    return AUTHORITY.issue_cert(HOST, not_after=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))


@pytest.mark.parametrize(
    ("certificate", "word"),
    [
        (lambda: AUTHORITY.issue_cert("other.example.com"), "Hostname mismatch"),
        (lambda: trustme.CA().issue_cert(HOST), "unable to get local issuer"),
        (_old, "expired"),
    ],
    ids=["another name", "another authority", "expired"],
)
async def test_a_certificate_that_does_not_hold_is_refused(client: OutboundHttp, certificate, word: str) -> None:  # type: ignore[no-untyped-def]
    async with receiver(certified(certificate())) as server:
        error = await fault(client, request(server.url("/SECRET", HOST)))
        assert error.kind == "tls"
        assert word in str(error)
        assert server.seen == []


async def test_tls_without_a_cipher_is_refused(client: OutboundHttp) -> None:
    old = certified(AUTHORITY.issue_cert(HOST))
    old.set_ciphers("NULL-SHA256:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with receiver(old) as server:
        assert (await fault(client, request(server.url("/", HOST)))).kind == "tls"


async def test_tls_at_a_port_that_speaks_none(client: OutboundHttp) -> None:
    async with receiver() as server:
        error = await fault(client, request(server.url().replace("http:", "https:")))
        assert error.kind == "tls"


async def test_plain_http_at_a_port_that_speaks_tls(client: OutboundHttp) -> None:
    async with receiver(certified(AUTHORITY.issue_cert(RECEIVER))) as server:
        error = await fault(client, request(server.url().replace("https:", "http:")))
        assert error.kind == "broken"


async def test_the_next_address_is_tried() -> None:
    names = Names(hooks_example_com=[["127.0.0.3", RECEIVER]])
    async with receiver() as server, OutboundHttp(TargetPolicy(dev=True), tls=TLS, find=names) as client:
        assert (await client.send(request(server.url(host=HOST)))).status == 200


# Who does not answer, or not as HTTP has it


async def test_nobody_listens(client: OutboundHttp) -> None:
    with trap(RECEIVER) as made:
        port = made.port
    error = await fault(client, request(f"http://{RECEIVER}:{port}/SECRET"))
    assert (error.kind, error.status) == ("unreachable", None)
    assert "Connection refused" in str(error)


async def test_no_such_name(client: OutboundHttp) -> None:
    error = await fault(client, request("https://nobody.example.com/SECRET"))
    assert error.kind == "unresolvable"
    assert "nobody.example.com has no address" in str(error)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

WRONG: dict[str, Talk] = {
    "goes at once": saying(),
    "resets at once": resetting(b""),
    "resets in the head": resetting(OK),
    "resets in the body": resetting(OK + b"Content-Length: 100\r\n\r\nabc"),
    "leaves in the head": saying(OK + b"Content-"),
    "leaves in the body": saying(OK + b"Content-Length: 100\r\n\r\nabc"),
    "leaves in a chunk": saying(CHUNKED + b"5\r\nab"),
    "no HTTP": saying(b"220 mail.example.com ESMTP\r\n"),
    "no version": saying(b"200 OK\r\n\r\n"),
    "binary": saying(bytes(range(256)) * 4),
    "a status of words": saying(b"HTTP/1.1 OK fine\r\n\r\n"),
    "a length of words": saying(OK + b"Content-Length: many\r\n\r\n"),
    "a length below zero": saying(OK + b"Content-Length: -1\r\n\r\n"),
    "a length beyond measure": saying(OK + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "two lengths": saying(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "a chunk of words": saying(CHUNKED + b"zz\r\nab\r\n"),
    "a chunk below zero": saying(CHUNKED + b"-5\r\nab\r\n"),
    "a long line": saying(OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n"),
    "a long status line": saying(b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n"),
    "a header too many": saying(OK + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n"),
    "many headers": saying(OK + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n"),
    "endless headers": repeating(OK, b"X: aaaaaaaaaaaaaaaaaaaa\r\n" * 100),
    "another protocol": saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "gzip though not asked": saying(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
    "br though not asked": saying(OK + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc"),
}


@pytest.mark.parametrize("talk", WRONG.values(), ids=WRONG.keys())
async def test_an_answer_that_breaks_http_is_broken(client: OutboundHttp, talk: Talk) -> None:
    async with speaker(talk) as port:
        error = await fault(client, request(f"http://{RECEIVER}:{port}/SECRET?SECRET", headers={"X": "SECRET"}))
        assert error.kind == "broken"
        assert str(error).startswith(f"http://{RECEIVER}:{port} ")
        assert await connections(client, at_most=0) == 0


async def test_errors_say_nothing_secret(client: OutboundHttp) -> None:
    for talk in (*WRONG.values(), silent):
        async with speaker(talk) as port:
            asked = request(f"http://{RECEIVER}:{port}/SECRET", headers={"X": "SECRET"}, body=b"SECRET", deadline_s=0.1)
            error = await fault(client, asked)
            assert "SECRET" not in "".join(traceback.format_exception(error)) + repr(error) + repr(asked)


async def test_a_status_that_had_come_is_kept(client: OutboundHttp) -> None:
    """So a webhook that was taken is not sent again because its answer broke off."""
    for talk in (WRONG["leaves in the body"], WRONG["gzip though not asked"]):
        async with speaker(talk) as port:
            assert (await fault(client, request(f"http://{RECEIVER}:{port}/"))).status == 200


# Deadlines


STALLS: dict[str, Talk] = {
    "says nothing": silent,
    "reads nothing": never_reading,
    "a byte of the head at a time": repeating(b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.02),
    "a byte of the body at a time": repeating(OK + b"Content-Length: 100000\r\n\r\n", b"a", 0.02),
    "a chunk at a time": repeating(CHUNKED, b"1\r\na\r\n", 0.02),
    "provisional for ever": repeating(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.02),
    "a body without an end": repeating(b"HTTP/1.1 200 OK\r\n\r\n", b"a", 0.02),
}


@pytest.mark.parametrize("talk", STALLS.values(), ids=STALLS.keys())
async def test_the_deadline_covers_all_of_it(client: OutboundHttp, talk: Talk) -> None:
    async with speaker(talk) as port:
        began = time.monotonic()
        error = await fault(client, request(f"http://{RECEIVER}:{port}/", body=bytes(1 << 20), deadline_s=0.15))
        assert error.kind == "timeout"
        assert 0.1 < time.monotonic() - began < 1.0
        assert "within 0.15 s" in str(error)
        assert await connections(client, at_most=0) == 0


async def test_the_deadline_covers_a_silent_handshake(client: OutboundHttp) -> None:
    async with speaker(never_reading) as port:
        assert (await fault(client, request(f"https://{RECEIVER}:{port}/", deadline_s=0.1))).kind == "timeout"
        assert await connections(client, at_most=0) == 0


async def test_a_receiver_that_reads_nothing_holds_no_socket_by_tls(client: OutboundHttp) -> None:
    """Neither the unsent body nor the end of TLS is waited for."""
    async with speaker(never_reading, tls=certified(AUTHORITY.issue_cert(RECEIVER))) as port:
        asked = request(f"https://{RECEIVER}:{port}/", body=bytes(1 << 20), deadline_s=0.2)
        assert {error.kind for error in await asyncio.gather(*(fault(client, asked) for _ in range(5)))} == {"timeout"}
        assert await connections(client, at_most=0) == 0


async def test_a_caller_that_gives_up_leaves_nothing(client: OutboundHttp) -> None:
    async with speaker(silent) as port:
        task = asyncio.create_task(client.send(request(f"http://{RECEIVER}:{port}/")))
        assert await connections(client, at_least=1) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await connections(client, at_most=0) == 0


# Sizes


@pytest.mark.parametrize(
    "talk",
    [
        repeating(CHUNKED, b"10000\r\n" + bytes(0x10000) + b"\r\n"),
        repeating(OK + b"\r\n", bytes(0x10000)),
        saying(OK + b"Content-Length: 1048577\r\n\r\n"),
    ],
    ids=["chunks without an end", "a body without an end", "announced"],
)
async def test_an_answer_beyond_the_limit_is_left(client: OutboundHttp, talk: Talk) -> None:
    async with speaker(talk) as port:
        error = await fault(client, request(f"http://{RECEIVER}:{port}/"))
        assert (error.kind, error.status) == ("too_large", 200)
        assert await connections(client, at_most=0) == 0


@pytest.mark.parametrize(("size", "fits"), [(0, True), (999, True), (1000, True), (1001, False)])
@pytest.mark.parametrize("chunked", [True, False])
async def test_the_limit_is_exact(client: OutboundHttp, size: int, fits: bool, chunked: bool) -> None:
    async def say(asked: web.Request) -> web.Response:
        made = web.Response(body=bytes(size))
        if chunked:
            made.enable_chunked_encoding()
        return made

    async with receiver() as server:
        server.answer = say
        asked = request(server.url(), limit=1000)
        if fits:
            assert len((await client.send(asked)).body) == size
        else:
            assert (await fault(client, asked)).kind == "too_large"


async def test_a_bomb_is_not_unpacked(client: OutboundHttp) -> None:
    bomb = gzip.compress(bytes(20_000_000), 9)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with speaker(saying(head + bomb)) as port:
        began = time.monotonic()
        assert (await fault(client, request(f"http://{RECEIVER}:{port}/"))).kind == "broken"
        assert time.monotonic() - began < 0.5


async def test_the_head_of_a_large_thing_is_no_large_thing(client: OutboundHttp) -> None:
    async with speaker(saying(OK + b"Content-Length: 99999999\r\nContent-Encoding: gzip\r\n\r\n")) as port:
        answer = await client.send(request(f"http://{RECEIVER}:{port}/", "HEAD", body=b""))
        assert answer.headers["content-length"] == "99999999"


# Many at once


async def test_one_stalled_receiver_delays_no_other() -> None:
    """Fifty at once, half of them to a receiver that says nothing."""
    names = Names(stalled_example_com=[[RECEIVER]], hooks_example_com=[[RECEIVER]])
    async with speaker(silent) as stalled, receiver() as server, OutboundHttp(OPEN, tls=TLS, find=names) as client:
        slow = [request(f"http://stalled.example.com:{stalled}/", deadline_s=1.0) for _ in range(25)]
        quick = [request(server.url(host=HOST)) for _ in range(25)]
        waiting = [asyncio.create_task(fault(client, each)) for each in slow]
        began = time.monotonic()
        answers = await asyncio.gather(*(client.send(each) for each in quick))
        assert time.monotonic() - began < 0.8
        assert all(each.status == 200 for each in answers)
        assert not any(each.done() for each in waiting)
        assert client.open_connections <= 2 * CONNECTIONS_PER_HOST
        assert {error.kind for error in await asyncio.gather(*waiting)} == {"timeout"}
        assert await connections(client, at_most=CONNECTIONS_PER_HOST) <= CONNECTIONS_PER_HOST


async def test_a_stalled_receiver_gets_only_so_many() -> None:
    names = Names(stalled_example_com=[[RECEIVER]])
    async with speaker(silent) as stalled, OutboundHttp(OPEN, tls=TLS, find=names) as client:
        asked = request(f"http://stalled.example.com:{stalled}/", deadline_s=0.3)
        faults = await asyncio.gather(*(fault(client, asked) for _ in range(REQUESTS_PER_HOST + 10)))
        kinds = [error.kind for error in faults]
        assert (kinds.count("timeout"), kinds.count("busy")) == (REQUESTS_PER_HOST, 10)
        assert (await fault(client, asked)).kind == "timeout"


async def test_all_receivers_together_get_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.delivery.outbound_http.REQUESTS", 5)
    async with speaker(silent) as stalled, OutboundHttp(TargetPolicy(dev=True), tls=TLS) as client:
        asked = [request(f"http://127.0.0.{n}:{stalled}/", deadline_s=0.2) for n in range(1, 9)]
        kinds = [error.kind for error in await asyncio.gather(*(fault(client, each) for each in asked))]
        assert kinds.count("busy") == 3


async def test_connections_are_not_hoarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.delivery.outbound_http.CONNECTIONS_KEPT", 4)
    async with receiver(host="0.0.0.0") as server, OutboundHttp(TargetPolicy(dev=True), tls=TLS) as many:
        for n in range(1, 20):
            await many.send(request(server.url(host=f"127.0.1.{n}")))
        assert await connections(many, at_most=5) <= 5
    assert CONNECTIONS_KEPT > 5


async def test_close_ends_what_is_under_way() -> None:
    async with speaker(silent) as port:
        client = OutboundHttp(OPEN, tls=TLS)
        running = asyncio.create_task(fault(client, request(f"http://{RECEIVER}:{port}/")))
        assert await connections(client, at_least=1) == 1
        await client.close()
        assert (await running).kind == "broken"
        assert await connections(client, at_most=0) == 0
        with pytest.raises(LocalProtocolError):
            await client.send(request(f"http://{RECEIVER}:{port}/"))


# A forward proxy


async def test_through_a_proxy_names_are_the_proxys() -> None:
    names = Names()
    async with receiver() as proxy, OutboundHttp(OPEN, tls=TLS, find=names, proxy=proxy.url()) as client:
        answer = await client.send(request("http://inside.example.com/x?y"))
        assert answer.body == b"thanks"
        assert str(proxy.seen[0].url) == "http://inside.example.com/x?y"
        assert names.asked == []


async def test_through_a_proxy_tls_ends_at_the_target() -> None:
    asked: list[bytes] = []
    async with receiver(certified(AUTHORITY.issue_cert(HOST))) as server:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            far_reader, far_writer = await asyncio.open_connection(RECEIVER, server.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))

        async with speaker(tunnel) as port:
            proxy = f"http://{RECEIVER}:{port}"
            async with OutboundHttp(OPEN, tls=TLS, find=Names(), proxy=proxy) as client:
                assert (await client.send(request(f"https://{HOST}/"))).body == b"thanks"
    assert asked[0].startswith(f"CONNECT {HOST}:443 ".encode())
    assert server.server_names == [HOST]


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
    sink.close()


@pytest.mark.parametrize(("status", "kind"), [(403, "refused_target"), (407, "refused_target"), (502, "unreachable")])
async def test_a_proxy_that_refuses(status: int, kind: str) -> None:
    async with speaker(saying(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)) as port:
        proxy = f"http://{RECEIVER}:{port}"
        async with OutboundHttp(TargetPolicy(), tls=TLS, find=Names(), proxy=proxy) as client:
            assert (await fault(client, request("https://hooks.example.com/SECRET"))).kind == kind


async def test_a_proxy_that_is_not_there() -> None:
    with trap(RECEIVER) as made:
        proxy = f"http://{RECEIVER}:{made.port}"
    async with OutboundHttp(TargetPolicy(), tls=TLS, find=Names(), proxy=proxy) as client:
        error = await fault(client, request("https://hooks.example.com/"))
        assert error.kind == "unreachable"
        assert "proxy" in str(error)


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "http://hooks.example.com/", "https://h.example:22/"],
)
async def test_through_a_proxy_what_can_be_judged_here_is(url: str) -> None:
    async with receiver() as proxy, OutboundHttp(TargetPolicy(), tls=TLS, proxy=proxy.url()) as client:
        assert (await fault(client, request(url))).kind == "refused_target"
        assert proxy.seen == []


def test_a_request_hides_what_may_be_secret() -> None:
    assert "SECRET" not in repr(
        OutboundRequest(method="GET", url="https://h/SECRET", headers={"X": "SECRET"}, body=b"SECRET", deadline_s=1)
    )
    assert "SECRET" not in repr(OutboundResponse(status=200, headers={"x": "SECRET"}, body=b"SECRET"))
    assert issubclass(OutboundError, Exception)
