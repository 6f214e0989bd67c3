"""An address translator between a private network and the outside, each host in a network namespace of its own.

    inside 10.88.0.2   ─┐                                ┌─ outside  198.51.100.2
    neighbour 10.88.0.3 ┴─ 10.88.0.1 [translator] 198.51.100.1 ┴─ stranger 198.51.100.66

Nobody outside has a route to 10.88.0.0/24.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from tests.interop.network import add_namespace, run, socket_in
from tests.interop.rtp_phone import FRAME, RtpPhone
from tests.interop.speech import Samples
from tests.interop.tools import needs, needs_root

from offhook.audio import g711
from offhook.model.audio import Encoding

INSIDE, NEIGHBOUR = "10.88.0.2", "10.88.0.3"
PUBLIC = "198.51.100.1"
OUTSIDE, STRANGER = "198.51.100.2", "198.51.100.66"

Kind = Literal["port_remapping", "one_to_one"]

_RULES: dict[Kind, str] = {
    # every new flow gets a port at random, and only whom it was sent to can answer it
    "port_remapping": """
        chain after { type nat hook postrouting priority 100;
            ip saddr 10.88.0.0/24 oifname "outer" masquerade random; }
    """,
    # as a cloud or `docker run --publish` does it
    "one_to_one": """
        chain before { type nat hook prerouting priority -100;
            iifname "outer" ip daddr 198.51.100.1 dnat to 10.88.0.2; }
        chain after { type nat hook postrouting priority 100;
            ip saddr 10.88.0.2 oifname "outer" snat to 198.51.100.1; }
    """,
}
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """The namespaces' names, for ``Program.start(namespace=...)``."""

    inside: str
    neighbour: str
    outside: str
    stranger: str
    translator: str


@asynccontextmanager
async def translated_network(kind: Kind) -> AsyncIterator[Translated]:
    needs("ip", "nft")
    needs_root()
    stem = f"on{os.getpid()}x{next(_numbers)}"
    names = Translated(
        inside=f"{stem}i", neighbour=f"{stem}n", outside=f"{stem}o", stranger=f"{stem}s", translator=f"{stem}t"
    )
    middle = names.translator
    async with contextlib.AsyncExitStack() as cleanup:
        for name in (names.translator, names.inside, names.neighbour, names.outside, names.stranger):
            await add_namespace(name)
            cleanup.push_async_callback(run, "ip", "netns", "del", name)
        for bridge, address in (("inner", "10.88.0.1"), ("outer", PUBLIC)):
            await run("ip", "-n", middle, "link", "add", bridge, "type", "bridge")
            await run("ip", "-n", middle, "addr", "add", f"{address}/24", "dev", bridge)
            await run("ip", "-n", middle, "link", "set", bridge, "up")
        await _plug(names.inside, middle, "inner", INSIDE)
        await _plug(names.neighbour, middle, "inner", NEIGHBOUR)
        await _plug(names.outside, middle, "outer", OUTSIDE)
        await _plug(names.stranger, middle, "outer", STRANGER)
        for host in (names.inside, names.neighbour):
            await run("ip", "-n", host, "route", "add", "default", "via", "10.88.0.1")
        await run("ip", "netns", "exec", middle, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        await run("ip", "netns", "exec", middle, "nft", f"table ip translator {{ {_RULES[kind]} }}")
        yield names


async def forget_after(network: Translated, idle_s: int) -> None:
    """Let the translator forget what nothing was sent through for so long, as cheap ones do."""
    names = ("udp_timeout", "udp_timeout_stream", "tcp_timeout_established")
    script = "; ".join(f"echo {idle_s} > /proc/sys/net/netfilter/nf_conntrack_{name}" for name in names)
    await run("ip", "netns", "exec", network.translator, "sh", "-c", script)


async def _plug(host: str, middle: str, bridge: str, address: str) -> None:
    """A cable from ``host``, which gets ``address``, to a bridge in ``middle``."""
    port = f"p{address.rpartition('.')[2]}{bridge}"
    await run("ip", "-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", middle)
    await run("ip", "-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
    await run("ip", "-n", host, "link", "set", "eth0", "up")
    await run("ip", "-n", middle, "link", "set", port, "master", bridge, "up")


def phone_in(namespace: str, host: str) -> RtpPhone:
    bound = socket_in(namespace, socket.SOCK_DGRAM)
    bound.bind((host, 0))
    return RtpPhone(bound)


class Intruder:
    """Sends good RTP of ``sound`` to every port of a range, without pause, and notes whatever comes back."""

    def __init__(self, namespace: str, host: str, target: str, ports: range, sound: Samples) -> None:
        self._socket = socket_in(namespace, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self._target = target
        self._ports = ports
        self._sound = g711.encode(Encoding.PCMU, sound.astype("<i2").tobytes())
        self.sent = 0
        self.received = 0
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._readable)
        self._sending = loop.create_task(self._send())

    async def close(self) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def _send(self) -> None:
        for number in itertools.count():
            start = number * FRAME % (len(self._sound) - FRAME)
            header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * FRAME & 0xFFFFFFFF, 0xBAD)
            for port in self._ports:
                with contextlib.suppress(OSError):
                    self._socket.sendto(header + self._sound[start : start + FRAME], (self._target, port))
                    self.sent += 1
            await asyncio.sleep(0.01)

    def _readable(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.recv(2048)
            self.received += 1
