"""What one received and sent RTP packet costs: MediaSession against a bare UDP echo, in the same run.

Run: python tests/bench/media_microbench.py [--sessions 100] [--seconds 5] [--codec PCMU|PCMA|G722|opus]

A child process plays the remote parties (its CPU does not count); the figures are this process's CPU time
(user + system) per packet pair, one received and one sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection

import uvloop

from offhook.media.clock import PHASE_GROUPS, MediaClock
from offhook.media.ports import PortPool
from offhook.media.session import MediaSession
from offhook.media.wideband import wire_encoder
from offhook.model.audio import FRAME_MS, Encoding, leg_format
from offhook.rtp.packet import RtpPacket
from offhook.sdp.offer_answer import Agreement
from offhook.sdp.rtp_formats import CODEC_FORMATS

HOST = "127.0.0.1"
Address = tuple[str, int]


def open_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((HOST, 0))
    return made


def speech_payload(codec: Encoding) -> bytes:
    """20 ms of sound, as it is on the wire."""
    sound = bytes(range(20, 100)) * (leg_format(codec).frame_bytes // 80)
    encoder = wire_encoder(codec)
    return sound if encoder is None else encoder.encode(sound)


def remote_parties(pipe: Connection, count: int, codec: Encoding) -> None:
    """Send 50 packets a second from each socket until told to stop; what comes back is thrown away."""
    sockets = [open_socket() for _ in range(count)]
    pipe.send([one.getsockname() for one in sockets])
    targets: list[Address] = pipe.recv()
    speech = speech_payload(codec)
    step = CODEC_FORMATS[codec].clock_hz * FRAME_MS // 1000
    sequence, due = 0, time.monotonic()
    pause = 0.02 / count
    while not pipe.poll():
        for index, one in enumerate(sockets):
            packet = RtpPacket(
                payload_type=0, sequence=sequence & 0xFFFF, timestamp=sequence * step, ssrc=index + 1, payload=speech
            )
            one.sendto(bytes(packet), targets[index])
            due += pause
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
        drain(sockets)
        sequence += 1


def drain(sockets: list[socket.socket]) -> None:
    for one in sockets:
        try:
            while one.recv(2048):
                pass
        except BlockingIOError:
            continue


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(seconds: float, pairs: Callable[[], int]) -> float:
    """Microseconds of CPU per pair."""
    await asyncio.sleep(1.0)
    cpu, done = cpu_s(), pairs()
    await asyncio.sleep(seconds)
    return (cpu_s() - cpu) / max(1, pairs() - done) * 1e6


async def bare_echo(remotes: list[Address], pipe: Connection, seconds: float, codec: Encoding) -> float:
    """The floor: read a datagram, send it back."""
    loop = asyncio.get_running_loop()
    buffer = bytearray(2048)
    count = 0

    def echo(one: socket.socket) -> None:
        nonlocal count
        length, source = one.recvfrom_into(buffer)
        one.sendto(memoryview(buffer)[:length], source)
        count += 1

    sockets = [open_socket() for _ in remotes]
    for one in sockets:
        loop.add_reader(one, echo, one)
    pipe.send([one.getsockname() for one in sockets])
    result = await measure(seconds, lambda: count)
    for one in sockets:
        loop.remove_reader(one)
        one.close()
    return result


async def media_sessions(remotes: list[Address], pipe: Connection, seconds: float, codec: Encoding) -> float:
    """The real thing: latch, reception, jitter buffer, sink, playout, paced sending."""
    clock, pool = MediaClock(), PortPool(20_000, 30_000)
    sessions: list[MediaSession] = []

    def pairs() -> int:
        figures = [stats for session in sessions if (stats := session.stats())]
        return sum(min(one.packets_received, one.packets_sent) for one in figures)

    for index, remote in enumerate(remotes):
        session = MediaSession(
            clock=clock,
            pool=pool,
            local_host=HOST,
            ssrc=index + 1,
            phase_group=index % PHASE_GROUPS,
            listener=lambda event: None,
        )
        session.start(
            Agreement(
                encoding=codec,
                payload_type=0,
                receive_payload_type=0,
                ptime_ms=20,
                dtmf_payload_type=101,
                dtmf_receive_payload_type=101,
                remote=remote,
                remote_rtcp=(HOST, 9),
                direction="sendrecv",
                clock_hz=CODEC_FORMATS[codec].clock_hz,
            )
        )
        session.connect(lambda frame: None)
        session.play("speech", bytes(range(20, 100)) * (leg_format(codec).frame_bytes // 80) * 50 * int(seconds + 3))
        sessions.append(session)
    pipe.send([(HOST, session.local_port) for session in sessions])
    result = await measure(seconds, pairs)
    for session in sessions:
        session.close()
    return result


Case = Callable[[list[Address], Connection, float, Encoding], Coroutine[None, None, float]]


def run(case: Case, sessions: int, seconds: float, codec: Encoding) -> float:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.Process(target=remote_parties, args=(theirs, sessions, codec), daemon=True)
    child.start()
    try:
        return uvloop.run(case(ours.recv(), ours, seconds, codec))
    finally:
        ours.send("stop")
        child.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--codec", type=Encoding, default=Encoding.PCMU)
    options = parser.parse_args()
    floor = run(bare_echo, options.sessions, options.seconds, options.codec)
    session = run(media_sessions, options.sessions, options.seconds, options.codec)
    figures = {
        "codec": options.codec.value,
        "sessions": options.sessions,
        "echo_us_per_pair": round(floor, 1),
        "media_us_per_pair": round(session, 1),
        "ratio": round(session / floor, 2),
        "percent_of_core_per_call": round(session * 50 / 1e4, 3),
    }
    json.dump(figures, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
