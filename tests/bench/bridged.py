"""Calls bridged to a realtime provider: what one costs, and how long our part of a turn takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trustme
from tests.bench.figures import BridgedRun, MediaRun, TurnsFigures, spread
from tests.bench.jobs import MediaJob
from tests.bench.subject import ROOT, Cores, Started, generate, on_core, serving, stop_process
from tests.bench.turns import LOST_S, TurnsJob, TurnsRun
from tests.kept_calls import kept_calls

SPARE_S = 90.0
WROTE_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BridgedBench:
    """``folder`` gets what the server writes; ``note`` hears what is being done."""

    folder: Path
    cores: Cores
    note: Callable[[str], None]

    def carry(self, calls: int, seconds: float, *, tls: bool) -> BridgedRun:
        """``calls`` at once, the provider speaking in real time without end, recording off."""
        self.note(f"{calls} calls bridged to OpenAI's protocol{' over TLS' if tls else ''}")
        environment = self._certificates() if tls else {}
        with (
            self._peer(tls) as port,
            self._serving(f"{'https' if tls else 'http'}://localhost:{port}/v1", environment) as subject,
        ):
            job = MediaJob(
                subject="offhook",
                server_pid=subject.pid,
                calls=calls,
                seconds=seconds,
                settle_s=3.0,
                sip_port=subject.ports[0],
                setups_per_s=20.0,
            )
            timeout_s = seconds + calls / job.setups_per_s + SPARE_S
            answer = generate(msgspec.json.encode(job), core=self.cores.generator, timeout_s=timeout_s)
        return BridgedRun(tls=tls, media=msgspec.json.decode(answer, type=MediaRun))

    def turns(self, calls: int, turns: int) -> TurnsFigures:
        """``turns`` of each of ``calls``, one after the other."""
        self.note(f"{calls} calls take {turns} turns each")
        self.folder.mkdir(parents=True, exist_ok=True)
        port_file = self.folder / "peer.port"
        port_file.unlink(missing_ok=True)
        with on_core(self.cores.generator):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.turns"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                text=True,
            )
        try:
            job = TurnsJob(sip_port=0, peer_port_file=str(port_file), calls=calls, turns=turns)
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(job).decode() + "\n")
            process.stdin.flush()
            with self._serving(f"http://127.0.0.1:{_written(port_file)}/v1", {}) as subject:
                answer, _ = process.communicate(f"{subject.ports[0]}\n", timeout=turns * LOST_S + SPARE_S)
        finally:
            stop_process(process)
        run = msgspec.json.decode(answer, type=TurnsRun)
        return TurnsFigures(
            calls=calls,
            turns=run.turns,
            lost=run.lost,
            inward_ms=run.inward_ms,
            outward_ms=run.outward_ms,
            stop_ms=run.stop_ms,
            latency_off_ms=spread(self._latencies_off(run)),
        )

    def _latencies_off(self, run: TurnsRun) -> list[float]:
        """The record's latency against what was seen outside, turn by turn."""
        kept = [
            [turn["latency_ms"] for turn in record["transcript"] if turn["latency_ms"] is not None]
            for record in kept_calls(self.folder / "data")
        ]
        return [
            abs(inside - outside)
            for inner, outer in zip(kept, run.latencies_ms, strict=False)
            for inside, outside in zip(inner, outer, strict=False)
        ]

    @contextmanager
    def _serving(self, base_url: str, environment: Mapping[str, str]) -> Iterator[Started]:
        agent: dict[str, Any] = {
            "id": "bench",
            "provider": "openai",
            "greeting": "Hello.",
            "record": False,
            "options": {"api_key": "bench", "base_url": base_url},
        }
        with serving(
            self.folder, core=self.cores.subject, more={"agents": [agent]}, environment=environment
        ) as subject:
            yield subject

    @contextmanager
    def _peer(self, tls: bool) -> Iterator[int]:
        arguments = [str(self.folder / "peer.pem")] if tls else []
        command = [sys.executable, "-m", "tests.bench.openai_peer", *arguments]
        with on_core(self.cores.generator):
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            yield int(json.loads(process.stdout.readline()))
        finally:
            stop_process(process)

    def _certificates(self) -> Mapping[str, str]:
        """Of the peer; and what makes the server trust it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "peer.pem"))
        authority.cert_pem.write_to_path(str(self.folder / "authority.pem"))
        return {"SSL_CERT_FILE": str(self.folder / "authority.pem")}


def _written(file: Path) -> str:
    end = time.monotonic() + WROTE_WITHIN_S
    while time.monotonic() < end:
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.05)
    raise RuntimeError("the provider of the turns did not start")
