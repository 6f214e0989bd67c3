"""What the interop tests need of the machine: programs, ports, root. Missing: a failure in CI, else a skip."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "tools"
"""Tools that lie beside the repository; ``OFFHOOK_TOOLS`` names another folder."""

PACKAGES = {
    "sipp": "sip-tester",
    "baresip": "baresip-core",
    "linphonec": "linphone-cli",
    "kamailio": "kamailio",
    "flite": "flite",
    "sox": "sox",
    "ip": "iproute2",
    "ethtool": "ethtool",
    "nft": "nftables",
    "tshark": "tshark",
    "curl": "curl",
    "node": "nodejs",
}


def unavailable(what: str) -> NoReturn:
    """Say that something is missing: CI installs everything, so there it is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (CI=true: nothing may be missing)", pytrace=False)
    pytest.skip(what)


def needs(*programs: str) -> None:
    """Every program must be installed."""
    for program in programs:
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed: apt-get install {PACKAGES[program]}")


def needs_root() -> None:
    if os.geteuid() != 0:
        unavailable("network namespaces need root")


def beside(name: str) -> Path:
    """A tool that lies beside the repository; skips where it is absent (CI has only the repository)."""
    path = Path(os.environ.get("OFFHOOK_TOOLS", BESIDE)) / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the repository (set OFFHOOK_TOOLS to its folder)")
    return path


PORTS = range(20_500, 32_500)
"""Linux takes 32,768 to 60,999 for connections; our RTP ends at 19,999."""


def free_port(transport: str = "udp", host: str = "127.0.0.1") -> int:
    """A port nobody has now, below those that the kernel gives to whoever connects."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    while True:
        port = random.choice(PORTS)
        if _is_free(kind, host, port):
            return port


def free_sip_port(host: str = "127.0.0.1") -> int:
    """One that is free on UDP and TCP alike, with the next one free on TCP: baresip and Kamailio put TLS there."""
    while True:
        port = free_port("tcp", host)
        wanted = ((socket.SOCK_DGRAM, port), (socket.SOCK_STREAM, port), (socket.SOCK_STREAM, port + 1))
        if all(_is_free(kind, host, one) for kind, one in wanted):
            return port


def _is_free(kind: socket.SocketKind, host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):  # OverflowError: above 65535
            return False
        return True


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A folder with a short path: some clients cut long ones."""
    with tempfile.TemporaryDirectory(prefix=f"offhook-{prefix}-") as path:
        yield Path(path)
