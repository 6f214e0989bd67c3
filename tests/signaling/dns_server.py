"""A nameserver on loopback for tests: zones as text, and everything a nameserver does wrong.

async with DnsServer() as server:
    server.zone("example.org. 60 IN A 192.0.2.1")
    Resolver(loop, [server.text])
"""

from __future__ import annotations

import asyncio
import textwrap
from typing import Any, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zonefile


class DnsServer:
    """Answers from ``zone``. ``rcode``: what it answers instead; ``silent``: nothing; ``truncate``: by TCP only."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.rcode = ""
        self.silent = False
        self.truncate = False
        self.rubbish = b""
        self._records: list[dns.rrset.RRset] = []
        self._udp: asyncio.DatagramTransport
        self._tcp: asyncio.Server
        self.port = 0

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve_stream, "127.0.0.1", 0)
        self.port = self._tcp.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), ("127.0.0.1", self.port))
        self._udp = transport
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    @property
    def text(self) -> str:
        """As it stands in ``nameservers``."""
        return f"127.0.0.1:{self.port}"

    def zone(self, text: str) -> None:
        """From now on these are all the records there are."""
        lines = textwrap.dedent(text).strip()
        found = dns.zonefile.read_rrsets(lines, name=None, rdclass=None, default_ttl=60)
        self._records = list(found)

    def answer(self, raw: bytes, *, by_tcp: bool) -> bytes | None:
        if self.silent:
            return None
        if self.rubbish:
            return self.rubbish
        query = dns.message.from_wire(raw)
        response = dns.message.make_response(query)
        question = query.question[0]
        self.asked.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        if self.rcode:
            response.set_rcode(dns.rcode.from_text(self.rcode))
        elif self.truncate and not by_tcp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question.name, question.rdtype)
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(8):
            here = [one for one in self._records if one.name == name]
            exact = [one for one in here if one.rdtype == kind]
            alias = next((one for one in here if one.rdtype == dns.rdatatype.CNAME), None)
            response.answer += exact
            if exact or alias is None:
                break
            response.answer.append(alias)
            name = cast(Any, alias[0]).target
        if not here:
            response.set_rcode(dns.rcode.NXDOMAIN)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = self.answer(await reader.readexactly(size), by_tcp=True)
            if answer is not None:
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        answer = self._server.answer(data, by_tcp=False)
        if answer is not None:
            self._transport.sendto(answer, addr)
