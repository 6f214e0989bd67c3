"""Starts what is measured: the real server as its users start it, or the floor; each on a core of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"
SOURCE = ROOT / "src"

START_WITHIN_S = 20.0
STOP_WITHIN_S = 15.0
POLL_S = 0.05

RTP_PORTS = (10_000, 32_000)
"""Below the kernel's ephemeral range, which the generator's sockets come from; 11,000 legs, since a port rests
for 30 s after a call."""

SCRIPT = {"greeting_tone_hz": 400, "greeting_ms": 100, "greeting_repeats": True}
"""The agent sounds without end, in parts of 100 ms, as realtime providers send their audio."""

_LISTENING = re.compile(r"listens on .*?UDP [^ ,]*:(\d+)")
_HTTP = re.compile(r"API http://[^ /]*:(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cores:
    """Where subject and generator run; None: wherever the kernel puts them."""

    subject: int | None
    generator: int | None


def choose_cores() -> Cores:
    """The first two cores this process may use; none where there is but one."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return Cores(subject=None, generator=None)
    return Cores(subject=available[0], generator=available[1])


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started inside stays on ``core``, with every thread it will have."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A running subject. ``ports``: its SIP port, or the floor's RTP ports."""

    pid: int
    ports: tuple[int, ...]
    http_port: int = 0


@contextmanager
def serving(
    folder: Path,
    *,
    core: int | None,
    source: Path = SOURCE,
    more: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Started]:
    """``offhook serve`` of the package in ``source``, with a scripted agent, recording off; ``more``: of config.json.

    ``folder`` gets its configuration, its data and ``server.log``. Raises ``RuntimeError`` when it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / "config.json", folder / "server.log"
    config.write_text(json.dumps({**_configuration(), **(more or {})}))
    options = ["--host", "127.0.0.1", "--port", "0", "--transport", "udp"]
    argv = ["-m", "offhook", "serve", *options, "--data", str(folder / "data"), "--config", str(config)]
    with log.open("wb") as output, on_core(core):
        process = subprocess.Popen(
            [sys.executable, *argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"OFFHOOK_HTTP_PORT": "0", **os.environ, "PYTHONPATH": str(source), **(environment or {})},
        )
    try:
        sip_port = _announced_port(process, log)
        http = _HTTP.search(log.read_text(errors="replace"))
        yield Started(pid=process.pid, ports=(sip_port,), http_port=int(http[1]) if http else 0)
    finally:
        stop_process(process)


@contextmanager
def floor(kind: str, calls: int, *, core: int | None) -> Iterator[Started]:
    """The floor of ``kind`` ("uvloop", "epoll") with ``calls`` ports."""
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.floor", kind, str(calls)], stdout=subprocess.PIPE, cwd=ROOT
        )
    try:
        assert process.stdout is not None
        yield Started(pid=process.pid, ports=tuple(json.loads(process.stdout.readline())))
    finally:
        stop_process(process)


def generate(job: bytes, *, core: int | None, timeout_s: float) -> bytes:
    """Run one generator to its end. Raises ``RuntimeError`` with what it said when the load failed."""
    return run_process([sys.executable, "-m", "tests.bench.generator"], job, core=core, timeout_s=timeout_s)


def run_process(command: Sequence[str], job: bytes, *, core: int | None, timeout_s: float) -> bytes:
    """What ``command`` answers to ``job``. Raises ``RuntimeError`` with what it said when it failed."""
    with on_core(core):
        done = subprocess.run(
            command,
            input=job,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            cwd=ROOT,
        )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode().strip()}")
    return done.stdout


def _configuration() -> dict[str, object]:
    agent = {"id": "bench", "provider": "scripted", "record": False, "options": {"script": json.dumps(SCRIPT)}}
    low, high = RTP_PORTS
    return {
        "agents": [agent],
        "rtp": {"port_min": low, "port_max": high},
        "log": {"level": "warning"},
        "max_calls": 10_000,
    }


def _announced_port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        found = _LISTENING.search(log.read_text(errors="replace"))
        if found:
            return int(found[1])
        time.sleep(POLL_S)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def stop_process(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def git(*argv: str, cwd: Path = ROOT) -> str:
    """What git says, stripped. Raises ``RuntimeError`` with its complaint."""
    done = subprocess.run(["git", *argv], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"git {argv[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit_of(source: Path = SOURCE) -> str:
    """Short name of the commit of ``source``, with ``+`` when it was changed since; "unknown" outside git."""
    try:
        sha = git("rev-parse", "--short", "HEAD", cwd=source)
        return sha + ("+" if git("status", "--short", ".", cwd=source) else "")
    except (RuntimeError, FileNotFoundError):
        return "unknown"
