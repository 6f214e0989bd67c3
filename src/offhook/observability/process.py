"""The machine's limits and the memory of this process, settled once at start."""

from __future__ import annotations

import gc
import os
import resource
import socket
import sys


def raise_descriptor_limit() -> int:
    """RLIMIT_NOFILE to its hard limit; returns the descriptors this process may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS caps below its "unlimited" hard limit
        hard = soft
    return hard if hard != resource.RLIM_INFINITY else 1_048_576


def settle_memory() -> None:
    """After start: what lives until the end is taken out of every later garbage collection (`gc.freeze`)."""
    gc.collect()
    gc.freeze()


SWITCH_S = 0.0005
"""A thread that writes to the database or waits for it gives the interpreter back so soon: with Python's 5 ms the event
loop, which sends 50 frames a second for each call, was up to 50 ms late beside one."""


def share_interpreter() -> None:
    """Let the event loop in sooner where a thread works."""
    sys.setswitchinterval(SWITCH_S)


def notify_systemd(state: str) -> bool:
    """Tell systemd ``READY=1``, ``RELOADING=1`` or ``STOPPING=1`` (sd_notify(3)); False where it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
        try:
            told.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:
            return False
    return True
