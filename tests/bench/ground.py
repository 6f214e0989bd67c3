"""The server with all it stands on: database, webhooks told to a receiver, and an API that is asked meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from tests.bench.figures import ApiRequest, ApiRun, GroundRun, MediaRun, SetupRun, spread
from tests.bench.jobs import ApiAnswers, ApiJob, Job, MediaJob, SetupJob
from tests.bench.subject import ROOT, Cores, Started, generate, on_core, run_process, serving, stop_process
from tests.interop.tools import free_port
from tests.interop.webhook_receiver import received

from offhook.delivery.signing import new_secret
from offhook.store.database import Database
from offhook.store.schema import calls

TOLD_WITHIN_S = 20.0
"""After the last call's end, for records and webhooks."""

GENERATOR_SPARE_S = 90.0

LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaLoad:
    """``calls`` with media; ``settle_s`` from the last one's start to the window of ``seconds``."""

    calls: int
    seconds: float
    settle_s: float


class Receiver:
    """What the webhooks of the measured server go to."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port("tcp")
        self.secret = new_secret()
        self.file = folder / "received.jsonl"

    @property
    def configuration(self) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.port}/offhook"
        return {"webhooks": [{"id": "bench", "url": url, "secret": self.secret}]}

    def ends_told(self) -> dict[str, float]:
        """Calls whose end arrived, and how long after it, in milliseconds."""
        told: dict[str, float] = {}
        for message in received(self.file):
            document = message.document
            if document["event"] == "call.ended":
                ended_at = datetime.fromisoformat(document["timestamp"]).timestamp()
                told.setdefault(document["call_id"], (message.at - ended_at) * 1000)
        return told


@contextmanager
def receiving(folder: Path, *, core: int | None) -> Iterator[Receiver]:
    folder.mkdir(parents=True, exist_ok=True)
    one = Receiver(folder)
    one.file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.interop.webhook_receiver", str(one.port), str(one.file), one.secret]
    with on_core(core), subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("the receiver of webhooks did not start")
            yield one
        finally:
            stop_process(process)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundBench:
    """``folder`` gets what server and receiver write; ``note`` hears what is being done."""

    folder: Path
    cores: Cores
    note: Callable[[str], None]

    # ── set-ups ──

    def climb(self, rates: Sequence[tuple[float, float]]) -> list[GroundRun]:
        """Set-ups at each of (rate, seconds), until one is not good; what calls leave is waited for in between."""
        done: list[GroundRun] = []
        if not rates:
            return done
        with (
            receiving(self.folder, core=self.cores.generator) as receiver,
            serving(self.folder, core=self.cores.subject, more=receiver.configuration) as subject,
        ):
            for rate, seconds in rates:
                self.note(f"offhook with webhooks, {rate:g} set-ups per second for {seconds:g} s")
                done.append(self._set_up(rate, seconds, subject, receiver))
                if not done[-1].good:
                    break
        return done

    def _set_up(self, rate: float, seconds: float, subject: Started, receiver: Receiver) -> GroundRun:
        kept_before, told_before = self._ended(), receiver.ends_told()
        job = SetupJob(server_pid=subject.pid, sip_port=subject.ports[0], rate_per_s=rate, seconds=seconds)
        run = msgspec.json.decode(self._generate(job, seconds), type=SetupRun)
        kept, told = 0, list[float]()
        end = time.monotonic() + TOLD_WITHIN_S
        while (kept < run.setups.offered or len(told) < run.setups.offered) and time.monotonic() < end:
            time.sleep(LOOK_S)
            kept = self._ended() - kept_before
            told = [late_ms for call_id, late_ms in receiver.ends_told().items() if call_id not in told_before]
        return GroundRun(
            rate_per_s=rate,
            seconds=seconds,
            setups=run.setups,
            kept=kept,
            told=len(told),
            told_ms=spread(told),
            cpu_percent=run.cpu_percent,
            ms_of_cpu_per_call=run.ms_of_cpu_per_call,
        )

    def _ended(self) -> int:
        """Records that have their end."""
        query = sa.select(sa.func.count()).select_from(calls).where(calls.c.phase == "ended")
        with closing(Database.open("", data_dir=self.folder / "data")) as database, database.read() as connection:
            return connection.scalar(query) or 0

    # ── the API beside calls ──

    def api_beside(self, load: MediaLoad, requests: Sequence[ApiRequest | None]) -> list[ApiRun]:
        """Calls with media, while somebody asks one thing as fast as it is answered; None: while nobody asks."""
        return [self._api_run(load, request) for request in requests]

    def _api_run(self, load: MediaLoad, request: ApiRequest | None) -> ApiRun:
        self.note(f"{load.calls} calls, {request or 'nobody asks'}")
        shutil.rmtree(self.folder / "data", ignore_errors=True)  # with the keys of the one before
        with serving(self.folder, core=self.cores.subject) as subject, ThreadPoolExecutor(1) as thread:
            job = MediaJob(
                subject="offhook",
                server_pid=subject.pid,
                calls=load.calls,
                seconds=load.seconds,
                settle_s=load.settle_s,
                sip_port=subject.ports[0],
            )
            carried = thread.submit(self._generate, job, load.seconds)
            up_at = time.time() + load.calls / job.setups_per_s + load.settle_s
            answers = self._ask(request, subject.http_port, up_at, load.seconds)
            media = msgspec.json.decode(carried.result(), type=MediaRun)
        return ApiRun(
            request=request,
            calls=media.calls,
            answered=answers.answered,
            failed=answers.failed,
            rate_per_s=answers.rate_per_s,
            ms=answers.ms,
            cpu_percent=media.cpu.percent,
            gap_ms=media.gap_ms,
            holes=media.holes,
        )

    def _ask(self, request: ApiRequest | None, port: int, begin_at: float, seconds: float) -> ApiAnswers:
        if request is None:
            return ApiAnswers(answered=0, failed=0, rate_per_s=0.0, ms=spread([]))
        job = ApiJob(port=port, request=request, begin_at=begin_at, seconds=seconds)
        command = [sys.executable, "-m", "tests.bench.api_client"]
        timeout_s = seconds + GENERATOR_SPARE_S
        answer = run_process(command, msgspec.json.encode(job), core=self.cores.generator, timeout_s=timeout_s)
        return msgspec.json.decode(answer, type=ApiAnswers)

    def _generate(self, job: Job, seconds: float) -> bytes:
        return generate(msgspec.json.encode(job), core=self.cores.generator, timeout_s=seconds + GENERATOR_SPARE_S)
