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

PORT_ATTEMPTS = 20
"""A port that is free by UDP need not be free by TCP."""


class DnsServer:
    """Answers from ``zone``.

    ``rcode``: what it answers instead; ``failing``: SERVFAIL to these record types, ``dropping``: nothing to these;
    ``silent``: nothing to any; ``truncate``: by TCP only.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.failing: set[str] = set()
        self.dropping: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.rcode = ""
        self.silent = False
        self.truncate = False
        self.rubbish = b""
        self.rubbish_by_tcp: bytes | None = None
        self._records: list[dns.rrset.RRset] = []
        self._authority: list[dns.rrset.RRset] = []
        self._udp: asyncio.DatagramTransport
        self._tcp: asyncio.Server
        self.port = 0

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        for _ in range(PORT_ATTEMPTS):
            transport, _protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (self._host, 0))
            self.port = transport.get_extra_info("sockname")[1]
            try:
                self._tcp = await asyncio.start_server(self._serve_stream, self._host, self.port)
            except OSError:  # another program has the same port by TCP
                transport.close()
                continue
            self._udp = transport
            return self
        raise OSError("no port is free by UDP and TCP")

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    @property
    def text(self) -> str:
        """As it stands in ``nameservers``."""
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    def zone(self, text: str) -> None:
        """From now on these are all the records there are."""
        lines = textwrap.dedent(text).strip()
        found = dns.zonefile.read_rrsets(lines, name=None, rdclass=None, default_ttl=60)
        self._records = list(found)

    def start_of_authority(self, zone: str, ttl_s: int, minimum_s: int) -> None:
        """From now on every negative answer has this SOA record."""
        text = f"ns.{zone} root.{zone} 1 2 3 4 {minimum_s}"
        self._authority = [dns.rrset.from_text(zone, ttl_s, "IN", "SOA", text)]

    def answer(self, raw: bytes, *, by_tcp: bool) -> bytes | None:
        if self.silent:
            return None
        if self.rubbish:
            return self.rubbish
        if by_tcp and self.rubbish_by_tcp is not None:
            return self.rubbish_by_tcp
        query = dns.message.from_wire(raw)
        response = dns.message.make_response(query)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((question.name.to_text(), kind))
        if kind in self.dropping:
            return None
        if self.rcode or kind in self.failing:
            response.set_rcode(dns.rcode.from_text(self.rcode or "SERVFAIL"))
        elif self.truncate and not by_tcp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question.name, question.rdtype)
        return response.to_wire(max_size=65_535)

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
        if not response.answer:
            response.authority += self._authority

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
