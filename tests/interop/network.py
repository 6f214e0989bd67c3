"""A small internet of our own: client — impairment — server, each in a network namespace that always goes away."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.interop.program import Program
from tests.interop.tools import beside, needs, needs_root, unavailable

CLIENT_HOST = "10.77.0.1"
SERVER_HOST = "10.77.0.2"
_CLONE_NEWNET = 0x40000000  # setns(2)
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Names of the two namespaces, for ``Program.start(namespace=...)``, and the addresses in them."""

    client: str
    server: str
    client_host: str = CLIENT_HOST
    server_host: str = SERVER_HOST


@asynccontextmanager
async def impaired_network(
    *,
    delay_ms: float = 0,
    jitter_ms: float = 0,
    loss_percent: float = 0,
    loss_burst: float = 1,
    duplicate_percent: float = 0,
    reorder_percent: float = 0,
    seed: int = 1,
) -> AsyncIterator[Network]:
    """Two hosts with ``impair.py`` between them; the same impairment in both directions."""
    needs("ip", "ethtool")
    needs_root()
    impair = beside("impair.py")
    stem = f"oh{os.getpid()}x{next(_numbers)}"
    client, middle, server = (f"{stem}{part}" for part in ("c", "m", "s"))
    async with contextlib.AsyncExitStack() as cleanup:
        for namespace in (client, middle, server):
            await add_namespace(namespace)
            cleanup.push_async_callback(_ip, "netns", "del", namespace)
        await _cable(client, middle, "wire0", CLIENT_HOST)
        await _cable(server, middle, "wire1", SERVER_HOST)
        options = {
            "delay": delay_ms,
            "jitter": jitter_ms,
            "loss": loss_percent,
            "burst": loss_burst,
            "dup": duplicate_percent,
            "reorder": reorder_percent,
            "seed": seed,
        }
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        between = await Program.start(sys.executable, impair, "wire0", "wire1", *flags, namespace=middle)
        cleanup.push_async_callback(between.stop)
        await _until_connected(client)
        yield Network(client=client, server=server)


def socket_in(namespace: str, kind: socket.SocketKind) -> socket.socket:
    """A socket of this process that lives in ``namespace``: made by a thread that goes there and ends."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/run/netns/{namespace}", "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
                return
        made.append(socket.socket(socket.AF_INET, kind))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, f"cannot enter {namespace}"
    return made[0]


async def add_namespace(name: str) -> None:
    try:
        await _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        unavailable(f"no network namespaces here: {error.output.decode(errors='replace').strip()}")
    await _ip("-n", name, "link", "set", "lo", "up")


async def _cable(host: str, middle: str, port: str, address: str) -> None:
    """A veth pair: ``eth0`` with ``address`` in ``host``, ``port`` in ``middle``."""
    await _ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", middle)
    await _ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
    for namespace, link in ((host, "eth0"), (middle, port)):
        await _ip("-n", namespace, "link", "set", link, "up")
        # the bridge in user space sees frames before any hardware would have filled in their checksums
        await run("ip", "netns", "exec", namespace, "ethtool", "-K", link, "tx", "off")


async def _until_connected(client: str) -> None:
    """ARP resolves through the bridge: a ping would need another package, a refused TCP connection does not."""
    for _ in range(50):
        probe = socket_in(client, socket.SOCK_STREAM)
        probe.setblocking(False)
        try:
            async with asyncio.timeout(1):
                await asyncio.get_running_loop().sock_connect(probe, (SERVER_HOST, 9))
        except ConnectionRefusedError:
            return
        except (TimeoutError, OSError):
            continue
        finally:
            probe.close()
    raise AssertionError("the impaired network never came up")


async def _ip(*arguments: str) -> None:
    await run("ip", *arguments)


async def run(*argv: str) -> None:
    """Raises ``CalledProcessError`` with the output."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode or 1, argv, output)
