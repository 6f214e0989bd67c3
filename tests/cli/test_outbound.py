"""``mode`` outbound: the call is made once its trunk is registered; the process ends with it and says how it went."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.cli.typed import typed
from tests.kept_calls import kept_calls
from tests.probe.drafts import response, sdp
from tests.probe.programs import Program
from tests.probe.wire import HOST, Message, Peer
from tests.store.stories import ARRIVED, story

from offhook.cli import outbound
from offhook.cli.outbound import OutboundCall
from offhook.cli.serve import call_out
from offhook.config import Settings
from offhook.config.sip4ai_keys import OutboundSettings
from offhook.delivery.bus import Bus
from offhook.model.call_events import CallAnswered, CallEnded, CallEvent, CallFact, EndCause, TaskCompleted
from offhook.model.errors import CannotPlaceError
from offhook.model.trunks import RegisterTrunk, Trunk, TrunkChanged, TrunkPhase
from offhook.server.service import Server

DOES_ITS_TASK = {
    "steps": [
        {"do": [{"do": "speak", "text": "Will you come on Tuesday?", "ms": 200}]},
        {
            "after_ms": 300,
            "do": [
                {"do": "use_tool", "name": "complete_task", "arguments": {"outcome": "yes", "summary": "He comes."}}
            ],
        },
    ]
}
CALLER_ID = "+1987654321"


@dataclass(slots=True)
class Pbx:
    """Answers what a server sends to it, until that ends. ``methods``: of the requests, copies left out."""

    peer: Peer
    registers: int = 200
    answers: int = 200
    ignored: int = 0
    """So many REGISTERs at first."""
    methods: list[str] = field(default_factory=list)
    invite: Message | None = None
    terminates_at_ack: Program | None = None
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def serve(self, program: Program) -> int:
        """The program's exit code."""
        self._serve_while(lambda: program.running)
        return program.ends()

    def calls_in(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """What the command does, run in this process: its start costs seconds in one of its own."""
        over = threading.Event()
        beside = threading.Thread(target=self._serve_while, args=(lambda: not over.is_set(),))
        beside.start()
        try:
            return typed(*arguments)
        finally:
            over.set()
            beside.join()

    def _serve_while(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            if (message := self.peer.hear(0.02)) is not None and not message.status:
                self._answer(message)

    def _answer(self, request: Message) -> None:
        key = (request.get("call-id"), request.get("cseq"))
        if key not in self._seen:
            self.methods.append(request.method)
        self._seen.add(key)
        answered = self._response(request)
        if answered:
            sent_by = request.all("via")[0].split()[1].partition(";")[0]
            self.peer.send(type(self.peer.address)(HOST, int(sent_by.rpartition(":")[2])), answered)

    def _response(self, request: Message) -> str:
        match request.method:
            case "REGISTER" if self.ignored:
                self.ignored -= 1
                return ""
            case "REGISTER":
                extra = f"Contact: {request.get('contact')}\nExpires: 60\n" if self.registers == 200 else ""
                return response(request, self.registers, to_tag="pbx", extra=extra)
            case "INVITE":
                self.invite = request
                body = sdp(HOST, self.peer.media_port, payloads="0 101") if self.answers == 200 else ""
                contact = f"sip:pbx@{self.peer.host_port}"
                return response(request, self.answers, to_tag="callee", contact=contact, body=body)
            case "ACK":
                if self.terminates_at_ack is not None:
                    self.terminates_at_ack.process.terminate()
                    self.terminates_at_ack = None
                return ""
            case _:
                return response(request, 200)


@contextmanager
def pbx(*, registers: int = 200, answers: int = 200, ignored: int = 0) -> Iterator[Pbx]:
    with closing(Peer()) as peer:
        yield Pbx(peer, registers, answers, ignored)


@contextmanager
def told_slowly() -> Iterator[tuple[str, list[str]]]:
    """A webhook's URL, and the names of the events that it has answered; each takes a while."""
    names: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(0.05)
            self.send_response(204)
            self.end_headers()
            names.append(event.get("type") or event["event"])

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer((HOST, 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{HOST}:{server.server_port}/hook", names
        server.shutdown()
        thread.join()


def configured(folder: Path, there: Pbx | None, **more: Any) -> tuple[str, ...]:
    """The command's arguments; there is no ``serve`` among them."""
    trunk = {
        "id": "pbx",
        "kind": "register",
        "server": HOST,
        "port": 0 if there is None else there.peer.address.port,
        "transport": "udp",
        "username": "200",
        "caller_ids": [CALLER_ID],
    }
    document = {
        "mode": "outbound",
        "api_port": 0,
        "sip": {"host": HOST, "port": 0},
        "trunks": [] if there is None else [trunk],
        "provider": "scripted",
        "scripted": {"script": json.dumps(DOES_ITS_TASK)},
        "outbound": {"target_number": "+1234567890", "task_description": "Ask."},
        "data_dir": str(folder / "data"),
        **more,
    }
    file = folder / "config.json"
    file.write_text(json.dumps(document))
    return ("--config", str(file))


@pytest.fixture(autouse=True)
def _no_port_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """config.json says whether there is an API."""
    monkeypatch.delenv("OFFHOOK_HTTP_PORT", raising=False)


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_process_registers_calls_does_the_task_tells_its_webhooks_and_ends(tmp_path: Path) -> None:
    with pbx(ignored=1) as there, told_slowly() as (url, names):
        said = {"target_number": "+1 (234) 567-890", "caller_id": CALLER_ID, "task_description": "Ask."}
        told = {"outbound": {**said, "result_webhook": url}, "webhooks": [{"id": "crm", "url": url}]}
        program = Program(*configured(tmp_path, there, **told))
        assert there.serve(program) == 0, program.output
        assert {"call.initiated", "call.completed", "call.ended"} <= set(names), "told before the process ended"
    assert there.methods == ["REGISTER", "INVITE", "ACK", "BYE", "REGISTER"]
    assert there.invite is not None
    assert there.invite.uri.startswith("sip:+1234567890@")
    assert program.output.splitlines()[-1].startswith("call completed after ")
    assert program.output.splitlines()[-1].endswith("s: hangup, task: yes")
    [record] = kept_calls(tmp_path / "data")
    assert (record["task"]["outcome"], record["direction"]) == ("yes", "outbound")


def test_when_it_is_told_to_stop_the_call_runs_out_and_its_webhooks_are_told(tmp_path: Path) -> None:
    with pbx() as there, told_slowly() as (url, names):
        program = Program(*configured(tmp_path, there, webhooks=[{"id": "crm", "url": url}]))
        there.terminates_at_ack = program
        assert there.serve(program) == 0, program.output
        assert names[-1] == "call.ended"
    assert "draining: no new calls are taken, 1 call may end" in program.output
    assert "call completed after " in program.output


def test_a_call_that_nobody_takes_ends_the_process_with_1(tmp_path: Path) -> None:
    with pbx(answers=486) as there, told_slowly() as (url, names):
        failed = there.calls_in(configured(tmp_path, there, webhooks=[{"id": "crm", "url": url}]))
        assert failed.returncode == 1, failed.stdout
        assert names[-1] == "call.ended"
    assert "call failed after 0.0 s: busy (486" in failed.stdout.splitlines()[-1]


def test_a_trunk_that_refuses_us_is_told_at_once(tmp_path: Path) -> None:
    with pbx(registers=403) as there:
        failed = there.calls_in(configured(tmp_path, there))
    assert failed.returncode == 1
    assert "INVITE" not in there.methods
    assert "trunk 'pbx': its registration failed: 403" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr


# ── what is missing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"task_description": "Ask."}, "outbound.target_number"),
        ({"target_number": "+1234567890"}, "outbound.task_description"),
    ],
)
def test_whom_to_call_and_what_for_must_be_said(tmp_path: Path, said: Mapping[str, Any], key: str) -> None:
    failed = typed(*configured(tmp_path, None, outbound=said))
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"offhook: {key}: is missing")
    checked = typed("config", "check", str(tmp_path / "config.json"))
    assert (checked.returncode, f"{key}: is missing" in checked.stdout) == (1, True)


# ── waiting for the trunk, and the result ────────────────────────────────────────────────────────────────


class Memory:
    """Where facts are kept."""

    def append(self, event: CallEvent) -> None:
        """Nobody asks for it later."""

    async def kept(self, event: CallEvent) -> None:
        """It is."""

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        """Nobody asks for it later."""


class Rehearsal:
    """A server without a phone: trunks as the test says, and calls that have the facts it gives them."""

    def __init__(self, *trunks: str, facts: tuple[CallFact, ...] = ()) -> None:
        self.bus = Bus(Memory())
        self.trunks = tuple(RegisterTrunk(trunk_id=name, server="pbx", username="200") for name in trunks)
        self.trunk_states: dict[str, TrunkChanged] = {}
        self.placed: list[str] = []
        self.said: list[str] = []
        self.spoke = asyncio.Event()
        self.left = 0
        self._facts = facts
        self.placer = SimpleNamespace(plan=self._plan, place_now=self._place)
        settings = Settings(outbound=OutboundSettings(target_number="+1234567890", task_description="Ask."))
        self.call = OutboundCall(cast(Server, self), settings, self.say)

    def say(self, text: str) -> None:
        self.said.append(text)
        self.spoke.set()

    def becomes(self, trunk_id: str, phase: TrunkPhase, **more: Any) -> None:
        self.trunk_states[trunk_id] = TrunkChanged(trunk_id=trunk_id, phase=phase, at=1.0, **more)
        self.bus.tell(self.trunk_states[trunk_id])

    async def undelivered(self, last: CallEvent, account_id: str, *, within_s: float) -> int:
        assert isinstance(last.fact, CallEnded)
        return self.left

    def _plan(self, account_id: str, wanted: object) -> SimpleNamespace:
        """By one that is online, else by the first: as ``plan_call`` does."""
        online = [name for name, state in self.trunk_states.items() if state.phase == "online"]
        by: list[Trunk] = [trunk for trunk in self.trunks if trunk.trunk_id in online] or list(self.trunks)
        return SimpleNamespace(trunk=by[0] if by else None)

    async def _place(self, account_id: str, wanted: object, *, call_id: str) -> None:
        self.placed.append(call_id)
        for event in story(ARRIVED, ended("internal_error"), call_id="another"):
            self.bus.append(event)
        for event in story(ARRIVED, *self._facts, call_id=call_id):
            self.bus.append(event)


def ended(cause: EndCause, **more: Any) -> CallEnded:
    return CallEnded(by="caller", phase="up", cause=cause, duration_ms=12_340, **more)


ANSWERED = CallAnswered(codec="PCMU", setup_ms=10)
DONE = TaskCompleted(outcome="yes", summary="He comes.")


@pytest.mark.parametrize(
    ("facts", "completed", "line"),
    [
        ((ANSWERED, DONE, ended("hangup")), True, "call completed after 12.3 s: hangup, task: yes"),
        ((ANSWERED, ended("duration_limit")), True, "call completed after 12.3 s: duration_limit"),
        (
            (ANSWERED, ended("provider_failed", reason="no key")),
            False,
            "call failed after 12.3 s: error (no key)",
        ),
        ((ended("no_answer"),), False, "call failed after 12.3 s: no_answer (no_answer)"),
        ((ended("refused", sip_code=486, reason="Busy"),), False, "call failed after 12.3 s: busy (486 Busy)"),
    ],
)
async def test_the_result_is_one_line(facts: tuple[CallFact, ...], completed: bool, line: str) -> None:
    rehearsal = Rehearsal(facts=facts)
    await rehearsal.call.run()
    rehearsal.call.tell_result()
    assert rehearsal.said == [line]
    assert rehearsal.call.completed == completed


@pytest.mark.parametrize(
    ("phase", "says"), [("online", "call completed after"), ("failed", "no call was made: target: trunk")]
)
async def test_with_the_api_it_serves_on_whatever_became_of_the_call(phase: TrunkPhase, says: str) -> None:
    rehearsal, stopping = Rehearsal("pbx", facts=(ANSWERED, ended("hangup"))), asyncio.Event()
    rehearsal.becomes("pbx", phase)
    serving = asyncio.create_task(call_out(rehearsal.call, stopping, rehearsal.say, serves_on=True))
    async with asyncio.timeout(5):
        await rehearsal.spoke.wait()
    assert says in rehearsal.said[0]
    await asyncio.sleep(0)
    assert not serving.done()
    stopping.set()
    await serving
    assert len(rehearsal.said) == 1


async def test_what_could_not_be_delivered_is_told() -> None:
    rehearsal = Rehearsal(facts=(ANSWERED, ended("hangup")))
    rehearsal.left = 2
    await rehearsal.call.run()
    await rehearsal.call.delivered()
    assert "2 events of the call could not be delivered yet" in rehearsal.said[0]
    assert rehearsal.call.completed


async def test_without_a_call_there_is_no_result_but_a_failure() -> None:
    rehearsal = Rehearsal()
    await rehearsal.call.delivered()
    rehearsal.call.tell_result()
    assert (rehearsal.said, rehearsal.call.completed) == ([], False)


async def test_the_call_waits_until_its_trunk_is_registered() -> None:
    rehearsal = Rehearsal("pbx", facts=(ANSWERED, ended("hangup")))
    running = asyncio.create_task(rehearsal.call.run())
    for phase in ("registering", "registering", "online"):
        await asyncio.sleep(0)
        assert rehearsal.placed == []
        rehearsal.becomes("pbx", phase)
    await running
    assert len(rehearsal.placed) == 1


async def test_another_trunk_that_comes_up_will_do() -> None:
    rehearsal = Rehearsal("pbx", "other", facts=(ANSWERED, ended("hangup")))
    running = asyncio.create_task(rehearsal.call.run())
    await asyncio.sleep(0)
    rehearsal.becomes("pbx", "failed", sip_code=503, reason="Busy", fix="Wait")
    await asyncio.sleep(0)
    rehearsal.becomes("other", "online")
    await running
    assert len(rehearsal.placed) == 1


async def test_a_trunk_that_nobody_answers_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "REGISTERED_WITHIN_S", 0.05)
    rehearsal = Rehearsal("pbx")
    with pytest.raises(CannotPlaceError, match=r"trunk 'pbx': no answer to its registration within 0\.05 s"):
        await rehearsal.call.run()
    assert rehearsal.placed == []


async def test_when_every_trunk_failed_it_is_told_why() -> None:
    rehearsal = Rehearsal("pbx", "other")
    for name in ("pbx", "other"):
        rehearsal.becomes(name, "failed", sip_code=403, reason="Forbidden", fix="Correct the password")
    with pytest.raises(CannotPlaceError, match="its registration failed: 403 Forbidden"):
        await rehearsal.call.run()
