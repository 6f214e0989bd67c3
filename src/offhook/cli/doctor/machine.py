"""What the machine must offer: ports that are free, a range for media, descriptors, a folder to write to."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from offhook.cli.doctor.finding import Finding, fault
from offhook.config import Settings

DESCRIPTORS_PER_CALL = 4
SAMPLED_PORTS = 400
"""Of the RTP range: enough to find that half of it is taken, in some milliseconds."""

TAKEN_SHARE = 0.2

_STREAM_STATES_LISTENING = "0A"


def examine_machine(settings: Settings, serving_pid: int | None) -> Iterator[Finding]:
    """``serving_pid``: of the server that runs on this data folder, whose ports are rightly taken."""
    yield from _sip_ports(settings, serving_pid)
    yield from _rtp_range(settings, serving_pid)
    yield _descriptors(settings)
    yield _data_folder(settings.data_folder)


def _sip_ports(settings: Settings, serving_pid: int | None) -> Iterator[Finding]:
    sip = settings.sip
    for name in sip.transports:
        port = sip.tls_port if name == "tls" else sip.port
        where = f"{name.upper()} port {port}"
        kind = socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM
        problem = _bind_problem(kind, sip.host or "0.0.0.0", port) if port else None
        if problem is None:
            yield Finding(area="ports", what=f"{where} is free")
            continue
        holder = port_holder("udp" if name == "udp" else "tcp", port)
        if holder is not None and holder[0] == serving_pid:
            yield Finding(area="ports", what=f"{where} is held by the running offhook (pid {serving_pid})")
            continue
        yield _port_fault(where, port, problem, holder)


def _port_fault(where: str, port: int, problem: OSError, holder: tuple[int, str] | None) -> Finding:
    match problem.errno:
        case errno.EADDRINUSE:
            who = "another program" if holder is None else f"{holder[1]} (pid {holder[0]})"
            return fault(
                "ports",
                f"{where} is held by {who}",
                why="offhook cannot listen there, so no call can come in",
                fix=f"stop {who}, or set sip.port (sip.tls_port for TLS) to another port than {port}",
            )
        case errno.EADDRNOTAVAIL:
            return fault(
                "ports",
                f"{where}: sip.host is no address of this machine",
                why="offhook cannot listen there, so it will not start",
                fix="set sip.host to an address of `ip addr`, or leave it empty for all; "
                "for the address outside a NAT use sip.advertised_address",
            )
        case _:
            return fault(
                "ports",
                f"{where} cannot be opened ({problem.strerror})",
                why="offhook cannot listen there, so it will not start",
                fix="choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
            )


def _rtp_range(settings: Settings, serving_pid: int | None) -> Iterator[Finding]:
    rtp = settings.rtp
    pairs = (rtp.port_max - rtp.port_min + 1) // 2
    area = "rtp"
    if pairs < settings.max_calls:
        yield fault(
            area,
            f"rtp.port_min {rtp.port_min} to rtp.port_max {rtp.port_max} has room for {pairs} calls, "
            f"max_calls is {settings.max_calls}",
            why=f"call {pairs + 1} is refused with 503",
            fix="widen the range (two ports a call), or lower max_calls",
        )
    sip_ports = {settings.sip.port, settings.sip.tls_port if "tls" in settings.sip.transports else settings.sip.port}
    inside = sorted(port for port in sip_ports if rtp.port_min <= port <= rtp.port_max)
    if inside:
        yield fault(
            area,
            f"SIP port {inside[0]} lies inside the RTP range {rtp.port_min}-{rtp.port_max}",
            why="media may be given the port of signalling, and firewall rules for one catch the other",
            fix="move rtp.port_min above it, or rtp.port_max below it",
        )
    taken = [port for port in _sample(rtp.port_min, rtp.port_max) if _taken(settings, port)]
    if serving_pid is None and len(taken) > TAKEN_SHARE * len(_sample(rtp.port_min, rtp.port_max)):
        holder = port_holder("udp", taken[0])
        who = "other programs" if holder is None else f"{holder[1]} (pid {holder[0]}) and maybe others"
        yield fault(
            area,
            f"{len(taken)} of {len(_sample(rtp.port_min, rtp.port_max))} ports of the RTP range are held by {who}",
            why="calls are refused with 503 once no free pair is found",
            fix="move rtp.port_min and rtp.port_max to a range that nobody uses",
        )
    else:
        yield Finding(area=area, what=f"ports {rtp.port_min}-{rtp.port_max} are free: room for {pairs} calls")


def _sample(low: int, high: int) -> range:
    return range(low, high + 1, max(1, (high - low + 1) // SAMPLED_PORTS))


def _taken(settings: Settings, port: int) -> bool:
    problem = _bind_problem(socket.SOCK_DGRAM, settings.sip.host or "0.0.0.0", port)
    return problem is not None and problem.errno == errno.EADDRINUSE


def _bind_problem(kind: int, host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            return error
    return None


def _descriptors(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_calls * DESCRIPTORS_PER_CALL
    if hard != resource.RLIM_INFINITY and hard < needed:
        return fault(
            "descriptors",
            f"this user may open {hard} files, max_calls {settings.max_calls} needs {needed}",
            why=f"no more than {hard // DESCRIPTORS_PER_CALL} calls are taken at once",
            fix="raise the limit (ulimit -Hn, or LimitNOFILE= of the service), or lower max_calls",
        )
    return Finding(area="descriptors", what=f"enough for max_calls {settings.max_calls}")


def _data_folder(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return fault(
            "data",
            f"data_dir {folder} cannot be written ({error.strerror})",
            why="records, recordings and traces of calls would be lost, so offhook will not start",
            fix="set data_dir to a folder this user may write to, or change its owner",
        )
    return Finding(area="data", what=f"{folder} can be written")


def port_holder(kind: str, port: int) -> tuple[int, str] | None:
    """(pid, command) of who holds a port; None where that is nobody, or not ours to see (Linux, proc(5))."""
    inodes = {inode for table in (kind, f"{kind}6") for inode in _inodes(table, port)}
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            return int(process.name), _command(process)
    return None


def _inodes(table: str, port: int) -> Iterator[str]:
    try:
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        listening = not table.startswith("tcp") or fields[3] == _STREAM_STATES_LISTENING
        if listening and int(fields[1].rpartition(":")[2], 16) == port:
            yield f"socket:[{fields[9]}]"


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(one) in inodes for one in (process / "fd").iterdir())
    except OSError:  # gone, or not ours to see
        return False


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"
