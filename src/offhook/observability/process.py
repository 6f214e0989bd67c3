"""The machine's limits and the memory of this process, settled once at start."""

from __future__ import annotations

import gc
import os
import resource
import socket


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
