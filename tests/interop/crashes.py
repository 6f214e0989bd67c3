"""Calls while the server and the receiver of its webhooks are killed again and again: who calls, who kills, who judges.

A caller writes down what it was told. In the end everything is let run out, and what callers, receiver and database
have must tell one story.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.interop.program import Program
from tests.interop.tools import free_port, free_sip_port
from tests.interop.webhook_receiver import ROOT, Received, WebhookReceiver
from tests.kept_calls import kept_calls
from tests.probe.drafts import Dialog, Draft, new_request, response
from tests.probe.programs import scripted
from tests.probe.wire import HOST, Message, Peer

from offhook.delivery.event_documents import EVENT_NAMES
from offhook.delivery.signing import new_secret
from offhook.sip.events import Address
from offhook.store import outbox
from offhook.store.calls import unfinished_calls
from offhook.store.database import Database

T1_S = 0.5
ANSWER_WITHIN_S = 8.0
"""A caller gives up then: the server was killed while it rang, or comes back slowly."""

SAVED_WITHIN_S = 0.5
"""After an answer its dialog is on disk: 100 ms by the specification, and what a loaded machine adds."""

BYE_WITHIN_S = 3.0
"""After a server listens again that lives for ``RECOVERY_S``: its first deed is to end what was lost."""

RECOVERY_S = 1.0

SETTLED_WITHIN_S = 60.0
END_WITHIN_S = 20.0
LOOK_S = 0.1

LIFE_S = (0.05, 2.0)
"""Of a server, from its first word on: some die while they still end the calls of the one before."""

RECEIVER_LIFE_S = (0.1, 1.5)
RECEIVER_AWAY_S = (0.0, 0.7)

AGENTS = (
    scripted("waits"),
    scripted("rings", open_after_ms=300),
    scripted("brief", hang_up_after_ms=400, greeting_text="Bye!", greeting_tone_hz=440),
)

End = Literal["", "given up", "refused", "their bye", "our bye", "silence"]


@dataclass(kw_only=True)
class Seen:
    """What a caller was told of one call. Times are of the monotonic clock."""

    sip_call_id: str
    statuses: list[int] = field(default_factory=list)
    answered_at: float = 0.0
    end: End = ""

    @property
    def acknowledged(self) -> bool:
        """Somebody heard that the call exists."""
        return any(status > 100 and status < 300 for status in self.statuses)


class Lives:
    """When the server died, and when it listened again."""

    def __init__(self) -> None:
        self.deaths: list[float] = []
        self.births: list[float] = []
        self.over = False
        """Nobody is killed any more."""

    def death_after(self, at: float) -> float | None:
        return next((death for death in self.deaths if death > at), None)

    def recovered_from(self, at: float) -> float | None:
        """When the first server listened that lived on long enough to end what was lost at ``at``."""
        for birth in self.births:
            death = self.death_after(birth) or time.monotonic()
            if birth > at and death - birth > RECOVERY_S:
                return birth
        return None


class Caller:
    """Calls over UDP, one call after the other, as RFC 3261 has it: repeats, gives up, hangs up, answers BYE."""

    def __init__(self, server: Address, lives: Lives, rng: random.Random) -> None:
        self._server = server
        self._lives = lives
        self._rng = rng

    def call(self) -> Seen:
        user = self._rng.choice([agent["id"] for agent in AGENTS])
        with closing(Peer()) as peer:
            invite = new_request(peer, self._server, user=str(user))
            seen = Seen(sip_call_id=invite.call_id)
            answer = self._invite(peer, invite, seen)
            if answer is None:
                self._cancel(peer, invite)
                seen.end = "given up"
            elif answer.status >= 300:
                peer.send(self._server, str(invite.companion("ACK").with_(to=answer.get("to"))))
                seen.end = "refused"
            else:
                seen.answered_at = time.monotonic()
                seen.end = self._talk(peer, Dialog(peer, invite, answer), seen)
            return seen

    def _invite(self, peer: Peer, invite: Draft, seen: Seen) -> Message | None:
        return self._ask(peer, invite, seen.statuses, ANSWER_WITHIN_S)

    def _ask(self, peer: Peer, request: Draft, statuses: list[int], within_s: float) -> Message | None:
        """Repeat the request until something comes (§17.1.1.2), wait for the final response."""
        began = again_at = time.monotonic()
        wait_s = T1_S
        while (now := time.monotonic()) < began + within_s:
            if now >= again_at and not statuses:
                peer.send(self._server, str(request))
                again_at, wait_s = now + wait_s, 2 * wait_s
            message = peer.hear(LOOK_S)
            if message is not None and message.status and message.method == request.method:
                statuses.append(message.status)
                if message.status >= 200:
                    return message
        return None

    def _cancel(self, peer: Peer, invite: Draft) -> None:
        self._ask(peer, invite.companion("CANCEL"), [], 2 * T1_S)

    def _talk(self, peer: Peer, dialog: Dialog, seen: Seen) -> End:
        """Until either hangs up; or in vain for the BYE of a server that came back."""
        peer.send(self._server, str(dialog.ack()))
        hangs_up_at = seen.answered_at + self._rng.choice([0.2, 1.0, 1000.0, 1000.0])
        while True:
            message = peer.hear(LOOK_S)
            if message is not None and message.method == "BYE" and not message.status:
                peer.send(self._server, response(message, 200))
                return "their bye"
            if message is not None and message.status == 200:  # its ACK was lost with the server, or is on its way
                peer.send(self._server, str(dialog.ack()))
            if time.monotonic() > hangs_up_at or self._lives.over:
                return self._hang_up(peer, dialog, seen)
            if self._is_forgotten(seen):
                return "silence"

    def _hang_up(self, peer: Peer, dialog: Dialog, seen: Seen) -> End:
        bye, answered, wait_s = dialog.next("BYE"), False, T1_S
        while not answered and wait_s < ANSWER_WITHIN_S:
            peer.send(self._server, str(bye))
            message = peer.hear(wait_s)
            wait_s *= 2
            answered = message is not None and message.method == "BYE"
            if message is not None and answered and not message.status:  # both at once
                peer.send(self._server, response(message, 200))
        return "our bye"

    def _is_forgotten(self, seen: Seen) -> bool:
        recovered = self._lives.recovered_from(seen.answered_at)
        return recovered is not None and time.monotonic() > recovered + BYE_WITHIN_S


class Victims:
    """A server and a receiver, always on the same ports and folders."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.folder = folder
        self.url = database_url
        self.lives = Lives()
        self.address = Address(HOST, free_sip_port())
        self.receiver = WebhookReceiver(free_port("tcp"), folder / "received.jsonl", new_secret())
        self.output = ""
        self.receiver_deaths = 0
        self._server: Program | None = None
        self._configure()

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def _configure(self) -> None:
        config = {
            "sip": {"host": HOST, "port": self.address.port, "transports": ["udp"]},
            "http": {"port": free_port("tcp")},
            "database": {"url": self.url},
            "agents": AGENTS,
            "numbers": [{"user": agent["id"], "agent": agent["id"]} for agent in AGENTS],
            "webhooks": [self.receiver.form],
        }
        (self.folder / "config.json").write_text(json.dumps(config))

    async def start(self) -> None:
        await asyncio.gather(self.start_server(), self.receiver.start())

    async def start_server(self) -> None:
        command = (sys.executable, "-m", "tests.interop.impatient_offhook", "serve")
        config, data = self.folder / "config.json", self.data_dir
        self._server = await Program.start(*command, "--config", config, "--data", data, cwd=ROOT)
        async with self._server.stopped_on_failure():
            await self._server.says("offhook listens on", timeout_s=30)
        self.lives.births.append(time.monotonic())

    async def kill_servers(self, rng: random.Random) -> None:
        while not self.lives.over:
            await asyncio.sleep(rng.uniform(*LIFE_S))
            assert self._server is not None
            await self._server.kill()
            self.lives.deaths.append(time.monotonic())
            self.output += self._server.output
            await self.start_server()

    async def kill_receivers(self, rng: random.Random) -> None:
        while not self.lives.over:
            await asyncio.sleep(rng.uniform(*RECEIVER_LIFE_S))
            await self.receiver.kill()
            self.receiver_deaths += 1
            await asyncio.sleep(rng.uniform(*RECEIVER_AWAY_S))
            await self.receiver.start()

    async def settle(self) -> None:
        """Every lost call is ended, everything is told; then the server stops by itself."""
        assert self._server is not None
        await asyncio.to_thread(self._wait_until_told)
        self._server.terminate()
        assert await self._server.ends(END_WITHIN_S) == 0, self._server.tail()
        self.output += self._server.output

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop()
        await self.receiver.stop()

    def _wait_until_told(self) -> None:
        node_id = (self.data_dir / "node").read_text().strip()
        with closing(Database.open(self.url, data_dir=self.data_dir)) as database:
            end = time.monotonic() + SETTLED_WITHIN_S
            while True:
                with database.read() as connection:
                    lost = unfinished_calls(connection, node_id)
                    waiting = outbox.counts(connection, time.time())
                if not lost and not waiting.pending:
                    return
                assert time.monotonic() < end, f"{len(lost)} calls have no end, {waiting.pending} webhooks wait"
                time.sleep(LOOK_S)


async def calls_among_crashes(victims: Victims, *, calls: int, lines: int, seed: int) -> list[Seen]:
    """``calls`` calls, ``lines`` at once; server and receiver are killed meanwhile. Returns what the callers saw."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    await victims.start()
    with ThreadPoolExecutor(lines) as threads:
        callers = [
            loop.run_in_executor(threads, Caller(victims.address, victims.lives, random.Random(rng.random())).call)
            for _ in range(calls)
        ]
        try:
            async with asyncio.TaskGroup() as killers:
                for kill in (victims.kill_servers, victims.kill_receivers):
                    killers.create_task(kill(random.Random(rng.random())))
                await _all_but_the_last(callers, lines)
                victims.lives.over = True
        except BaseException:
            victims.lives.over = True
            threads.shutdown(wait=False, cancel_futures=True)
            raise
        seen = await asyncio.gather(*callers)
    await victims.settle()
    return seen


async def _all_but_the_last(callers: Sequence[asyncio.Future[Seen]], lines: int) -> None:
    """The last ones run out among no more crashes."""
    waiting = set(callers)
    while len(waiting) > lines:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)


# ── the judgement ────────────────────────────────────────────────────────────────────────────────────────


def judge(victims: Victims, seen: Sequence[Seen]) -> str:
    """One story everywhere; returns a line about it."""
    records = kept_calls(victims.data_dir, victims.url)
    messages = victims.receiver.received
    _judge_records(records, seen)
    _judge_messages(records, messages)
    _judge_dialogs(victims.lives, seen)
    assert "Traceback" not in victims.output, victims.output[victims.output.index("Traceback") :][:3000]
    causes = Counter(record["cause"] for record in records)
    ends = Counter(one.end for one in seen)
    again = len(messages) - len({message.id for message in messages})
    return (
        f"{len(seen)} calls, server killed {len(victims.lives.deaths)} times, receiver {victims.receiver_deaths}: "
        f"{len(records)} records {dict(causes)}, callers saw {dict(ends)}, {len(messages)} messages, {again} repeated"
    )


def _judge_records(records: Sequence[Mapping[str, Any]], seen: Sequence[Seen]) -> None:
    by_name = Counter(record["sip_call_id"] for record in records)
    assert set(by_name.values()) <= {1}, f"more than one record: {by_name.most_common(3)}"
    lost = [one for one in seen if one.acknowledged and one.sip_call_id not in by_name]
    assert not lost, f"acknowledged, and no record: {lost}"
    for record in records:
        kinds = [event["type"] for event in record["events"]]
        assert record["phase"] == "ended", record
        assert kinds.count("CallEnded") == 1, kinds
        assert kinds[-1] == "CallEnded", kinds
        assert [event["seq"] for event in record["events"]] == list(range(1, len(kinds) + 1))


def _judge_messages(records: Sequence[Mapping[str, Any]], messages: Sequence[Received]) -> None:
    assert not [message.problem for message in messages if message.problem]
    bodies: dict[str, set[str]] = defaultdict(set)
    told: dict[str, dict[int, str]] = defaultdict(dict)
    for message in messages:
        bodies[message.id].add(message.body)
        if len(bodies[message.id]) == 1:
            told[message.document["call_id"]].setdefault(message.document["seq"], message.document["event"])
    assert {len(different) for different in bodies.values()} <= {1}, "one id, two bodies"
    names = {fact.__name__: name for fact, name in EVENT_NAMES.items()}
    kept = {r["call_id"]: {event["seq"]: names[event["type"]] for event in r["events"]} for r in records}
    for call_id, events in kept.items():
        assert told.get(call_id, {}) == events, f"call {call_id}: told {told.get(call_id)}, kept {events}"
        assert list(told[call_id]) == sorted(events), f"call {call_id} was told in the order {list(told[call_id])}"
    assert told.keys() == kept.keys()
    assert len(bodies) == sum(map(len, kept.values())), "one event, two ids"


def _judge_dialogs(lives: Lives, seen: Sequence[Seen]) -> None:
    """Who talked when the server died heard a BYE of the next one."""
    for one in seen:
        if one.end == "silence":
            death = lives.death_after(one.answered_at)
            assert death is not None
            assert death - one.answered_at < SAVED_WITHIN_S, f"no BYE, answered {death - one.answered_at:.2f} s before"
    assert [one.end for one in seen if one.end == "their bye"], "no caller ever saw a BYE"
