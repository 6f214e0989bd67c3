"""SIP over TLS: messages both ways, names verified, failures said in words, limits before the handshake."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from tests.signaling.certificates import Authority
from tests.signaling.wire import Noted, Telnet, request

from offhook.model.errors import ConfigError, ListenError
from offhook.signaling import budget, handshakes, streams
from offhook.signaling.tls import TLS_LOST_UNHEARD, TlsContexts, TlsSettings
from offhook.signaling.transports import Transports
from offhook.sip.events import Address, Flow, Hop, Outbound


class Side:
    """One end: transports with TLS, and what they brought."""

    def __init__(self, tls: TlsContexts | None) -> None:
        self.noted = Noted()
        self.transports = Transports(self.noted, asyncio.get_running_loop(), tls=tls)
        self.address = Address("", 0)

    def send(self, data: bytes, to: Address, *, name: str = "", token: int = 7) -> None:
        flow = Flow(transport="TLS", local=self.address, remote=to)
        hop = Hop(transport="TLS", host=to.host, port=to.port, server_name=name)
        self.transports.send(Outbound(data=data, flow=flow, next_hop=hop, token=token))

    async def failure(self) -> str:
        await self.noted.until(lambda: bool(self.noted.failures))
        return self.noted.failures[0][1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def sides(server: TlsContexts, client: TlsContexts, host: str = "127.0.0.1") -> AsyncIterator[tuple[Side, Side]]:
    """(server, client), both listening, so that each can call the other."""
    one, other = Side(server), Side(client)
    try:
        one.address = await one.transports.listen("TLS", host, 0)
        other.address = Address(host, 0)
        yield one, other
    finally:
        await other.transports.close()
        await one.transports.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_messages_pass_both_ways_on_one_connection(authority: Authority, host: str) -> None:
    async with sides(authority.contexts(host), authority.contexts(), host) as (server, client):
        client.send(request("INVITE", call_id="a", transport="TLS", body=b"x" * 3000), server.address)
        client.send(request(call_id="b", transport="TLS"), server.address)
        await server.noted.until(lambda: len(server.noted.items) == 2)
        flow = server.noted.items[0][1]
        assert (flow.transport, flow.local) == ("TLS", server.address)
        server.transports.send(Outbound(data=request(call_id="back", transport="TLS"), flow=flow, token=1))
        await client.noted.until(lambda: client.noted.call_ids == ["back"])
        client.send(request(call_id="c", transport="TLS"), server.address)
        await server.noted.until(lambda: server.noted.call_ids == ["a", "b", "c"])
        assert (server.transports.stream_counts.accepted, client.transports.stream_counts.dialled) == (1, 1)


async def test_the_name_before_dns_is_what_the_certificate_is_for(authority: Authority) -> None:
    async with sides(authority.contexts("pbx.example"), authority.contexts()) as (server, client):
        client.send(request(transport="TLS"), server.address, name="pbx.example")
        await server.noted.until(lambda: bool(server.noted.items))
        client.send(request(transport="TLS"), server.address, name="other.example")
        assert "other.example" in await client.failure()
        assert "use the name that it is for" in await client.failure()
        assert client.transports.stream_counts.dialled == 1


async def test_an_expired_certificate_is_called_so(authority: Authority) -> None:
    async with sides(authority.contexts("127.0.0.1", expired=True), authority.contexts()) as (server, client):
        client.send(request(transport="TLS"), server.address)
        assert "has expired" in await client.failure()
        await server.noted.until(lambda: True)


async def test_an_unknown_authority_is_called_so(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with sides(stranger.contexts("127.0.0.1"), authority.contexts()) as (server, client):
        client.send(request(transport="TLS"), server.address)
        assert "add that authority to tls.ca_file" in await client.failure()


async def test_a_required_client_certificate_is_given_or_the_connection_ends(authority: Authority) -> None:
    strict = authority.contexts("127.0.0.1", client_certificate="required")
    async with sides(strict, authority.contexts("client.example")) as (server, client):
        client.send(request(transport="TLS"), server.address)
        await server.noted.until(lambda: bool(server.noted.items))
    async with sides(strict, authority.contexts()) as (server, client):
        client.send(request(transport="TLS"), server.address)
        await client.noted.until(lambda: bool(client.noted.failures) or bool(client.noted.lost))
        async with asyncio.timeout(5):
            while server.transports.stream_counts.handshakes_failed == 0:  # noqa: ASYNC110 nobody is told of it
                await asyncio.sleep(0.01)
        assert server.noted.items == []


async def test_who_speaks_tcp_to_the_tls_port_is_cut_off_and_counted(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with sides(authority.contexts("127.0.0.1"), authority.contexts()) as (server, _):
        for _ in range(3):
            telnet = await Telnet.to(server.address)
            await telnet.send(request())
            assert await telnet.closed_by_peer()
            await telnet.close()
        assert server.transports.stream_counts.handshakes_failed == 3
        assert len(server.transports.streams) == 0
        told = [record for record in caplog.records if "TLS from 127.0.0.1" in record.getMessage()]
        assert len(told) == 1


async def test_who_speaks_tls_to_a_tcp_port_is_told_so(authority: Authority) -> None:
    side = Side(authority.contexts())
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    side.address = Address("127.0.0.1", 0)
    side.send(request(transport="TLS"), Address(*server.sockets[0].getsockname()[:2]))
    assert "TLS handshake" in await side.failure()
    server.close()
    await side.transports.close()


async def test_limits_hold_before_the_handshake(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.3)
    async with sides(authority.contexts("127.0.0.1"), authority.contexts()) as (server, _):
        silent = [await Telnet.to(server.address) for _ in range(streams.CONNECTIONS_PER_PEER + 5)]
        for one in silent:
            assert await one.closed_by_peer()
            await one.close()
        counts = server.transports.stream_counts
        assert (counts.refused, counts.handshakes_failed) == (5, streams.CONNECTIONS_PER_PEER)
        assert len(server.transports.streams) == 0


async def test_a_renewed_certificate_is_used_from_the_next_connection_on(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("old.example", into="server")
    contexts = TlsContexts(TlsSettings(certificate=certificate, private_key=key))
    async with sides(contexts, authority.contexts()) as (server, client):
        client.send(request(call_id="1", transport="TLS"), server.address, name="old.example")
        await server.noted.until(lambda: len(server.noted.items) == 1)
        authority.issue("new.example", into="server")
        contexts.reload()
        client.send(request(call_id="2", transport="TLS"), server.address, name="old.example")  # the open connection
        client.send(request(call_id="3", transport="TLS"), server.address, name="new.example")
        await server.noted.until(lambda: len(server.noted.items) == 3)
        certificate.write_text("rubbish")
        with pytest.raises(ConfigError):
            contexts.reload()
        client.send(request(call_id="4", transport="TLS"), server.address, name="new.example")
        await server.noted.until(lambda: len(server.noted.items) == 4)


async def test_tls_1_1_is_refused(authority: Authority) -> None:
    async with sides(authority.contexts("127.0.0.1"), authority.contexts()) as (server, _):
        old = ssl.create_default_context(cafile=str(authority.file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(server.address.host, server.address.port, ssl=old)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (TlsSettings(certificate=Path("/nowhere/cert.pem"), private_key=Path("/nowhere/key.pem")), "tls.certificate"),
        (TlsSettings(ca_file=Path("/nowhere/ca.pem")), "tls.ca_file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(settings: TlsSettings, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TlsContexts(settings)
    assert caught.value.key == key


def test_a_key_that_is_not_the_certificate_s_is_said_to_be_none(authority: Authority) -> None:
    certificate, _ = authority.issue("a.example")
    _, key = authority.issue("b.example")
    with pytest.raises(ConfigError, match="not a pair"):
        TlsContexts(TlsSettings(certificate=certificate, private_key=key))


async def test_listening_without_a_certificate_says_what_is_missing(authority: Authority) -> None:
    side = Side(authority.contexts())
    with pytest.raises(ListenError, match=r"tls\.certificate"):
        await side.transports.listen("TLS", "127.0.0.1", 0)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(authority: Authority) -> None:
    certificate, key = authority.issue("a.example")
    contexts = TlsContexts(TlsSettings(certificate=certificate, private_key=key))
    before = contexts.server
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="is encrypted") as caught:
        contexts.reload()
    assert caught.value.key == "tls.private_key"
    assert contexts.server is before


async def test_who_is_refused_after_his_side_of_the_handshake_is_told_so(authority: Authority) -> None:
    """TLS 1.3: the client is done before the server looks for its certificate; no timer has to run out."""
    strict = authority.contexts("127.0.0.1", client_certificate="required")
    async with sides(strict, authority.contexts()) as (server, client):
        client.send(request(transport="TLS"), server.address, token=11)
        await client.noted.until(lambda: bool(client.noted.failures))
        assert client.noted.failures == [(11, TLS_LOST_UNHEARD)]
        await client.noted.until(lambda: bool(client.noted.lost))


async def test_a_name_is_reached_by_a_connection_verified_for_it_alone(authority: Authority) -> None:
    """RFC 5923 §9: whoever connected to us from that address has not shown that the name is his."""
    async with sides(authority.contexts("127.0.0.1"), authority.contexts()) as (server, client):
        client.send(request(call_id="in", transport="TLS"), server.address)
        await server.noted.until(lambda: server.noted.call_ids == ["in"])
        caller = server.noted.items[0][1].remote
        server.send(request(call_id="to-address", transport="TLS"), caller)
        await client.noted.until(lambda: client.noted.call_ids == ["to-address"])
        server.send(request(call_id="to-name", transport="TLS"), caller, name="pbx.example", token=5)
        await server.noted.until(lambda: bool(server.noted.failures))
        assert [token for token, _ in server.noted.failures] == [5]
        assert client.noted.call_ids == ["to-address"]


async def test_a_peer_that_reads_nothing_is_cut_off(authority: Authority) -> None:
    """The bound holds for what TLS has encrypted but not sent, too."""
    async with sides(authority.contexts("127.0.0.1"), authority.contexts()) as (server, _):
        trusting = ssl.create_default_context(cafile=str(authority.file))
        reader, writer = await asyncio.open_connection(*server.address, ssl=trusting, limit=1024)
        writer.write(request(transport="TLS"))
        await server.noted.until(lambda: len(server.noted.items) == 1)
        flow = server.noted.items[0][1]
        sent = 0
        while not server.noted.failures and sent < 50_000_000:
            server.transports.send(Outbound(data=b"x" * 60_000, flow=flow, token=1))
            sent += 60_000
            await asyncio.sleep(0)
        assert "unread" in server.noted.failures[0][1]
        assert server.transports.stream_counts.choked == 1
        writer.transport.abort()
        del reader


async def test_messages_wait_in_order_while_the_loop_has_no_time_for_sip(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "SHARE_S", 0.000001)  # every read spends it
    async with sides(authority.contexts("127.0.0.1"), authority.contexts()) as (server, client):
        for number in range(60):
            client.send(request(call_id=str(number), transport="TLS", body=bytes(500)), server.address)
        await server.noted.until(lambda: len(server.noted.items) == 60)
        assert server.noted.call_ids == [str(number) for number in range(60)]
        assert server.transports.budget.exhaustions > 0
