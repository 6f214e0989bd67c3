"""Two accounts on one whole server, each with records, a call, its recording, its trace, its webhook: one key sees one.

Everything of the second account has its name in it, so that a single octet of it in an answer to the first is found.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.interop.api_server import ApiServer, api_server
from tests.interop.webhook_receiver import WebhookReceiver, receiving
from tests.probe.calls import hung_up
from tests.probe.drafts import Dialog, new_request
from tests.probe.programs import scripted
from tests.probe.wire import HOST, Peer, unique

from offhook.api.endpoints import Endpoint
from offhook.api.native.table import NATIVE

OURS, THEIRS = "alpha", "beta"
SETTLED_WITHIN_S = 15.0
LOOK_S = 0.1

SECURITY = {"allowed_targets": ["127.0.0.0/8"], "allow_http": True}
SCRIPT = json.dumps({"greeting_text": "hello", "greeting_tone_hz": 440, "greeting_ms": 200})


@dataclass(kw_only=True)
class Account:
    """``ids``: of each kind that the API has under a plural name."""

    name: str
    key: str
    receiver: WebhookReceiver
    ids: dict[str, list[str]] = field(default_factory=dict)

    @property
    def call_id(self) -> str:
        return self.ids["calls"][0]


def offhook(server: ApiServer, *words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "offhook", *words, "--data", str(server.data_dir)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def open_account(server: ApiServer, name: str, receiver: WebhookReceiver) -> Account:
    """Records of every kind, made by its own key."""
    offhook(server, "accounts", "create", name)
    key = json.loads(offhook(server, "keys", "create", "--account", name, "--name", name, "--json"))["key"]
    account = Account(name=name, key=key, receiver=receiver)
    tool = {"id": f"{name}-tool", "name": f"{name}_tool", "url": f"https://{name}.example.com/"}
    desk = {"id": f"{name}-desk", "provider": "scripted", "tools": [tool["id"]], "options": {"script": SCRIPT}}
    records: dict[str, Mapping[str, Any]] = {
        "tools": tool,
        "agents": desk,
        "trunks": {"id": f"{name}-trunk", "kind": "register", "server": "127.0.0.2", "port": 9, "username": name},
        "numbers": {"user": f"{name}-1", "agent": desk["id"]},
        "squads": {"id": f"{name}-squad", "members": [{"agent": desk["id"]}]},
        "webhooks": {**receiver.form, "id": f"{name}-hook"},
    }
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while server.ask("GET", "/api/account", key=key).document.get("id") != name:  # the server sees it within a second
        assert time.monotonic() < deadline
        time.sleep(LOOK_S)
    for plural, record in records.items():
        reply = server.ask("POST", f"/api/{plural}", record, key=key)
        assert reply.status == 201, reply
        account.ids[plural] = [reply.document["id"]]
    account.ids["keys"] = [one["id"] for one in server.get("/api/keys", key=key)["keys"]]
    return account


def call(server: ApiServer, account: Account) -> None:
    with closing(Peer()) as peer:
        invite = new_request(peer, server.address, user=f"{account.name}-1")
        invite = invite.with_(from_=f"<sip:{account.name}-caller@{peer.host_port}>;tag={unique('f')}")
        peer.send(server.address, str(invite))
        answer = peer.final()
        assert answer.status == 200, answer
        dialog = Dialog(peer, invite, answer)
        peer.send(server.address, str(dialog.ack()))
        peer.hears_rtp()
        time.sleep(0.5)  # what it says is in the recording
        hung_up(peer, server.address, dialog)


def settle(server: ApiServer, account: Account) -> None:
    """Its one call is over, its recording can be had, and its webhook was told."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while not any(message.document["event"] == "call.ended" for message in account.receiver.received):
        assert time.monotonic() < deadline, server.output
        time.sleep(LOOK_S)
    account.ids["calls"] = [one["id"] for one in server.get("/api/calls", key=account.key)["calls"]]
    assert len(account.ids["calls"]) == 1
    for rest in ("", "/events", "/recording", "/trace"):
        assert server.ask("GET", f"/api/calls/{account.call_id}{rest}", key=account.key).status == 200


class Listener:
    """Reads an account's stream of all its events, in a thread, until it is closed."""

    def __init__(self, server: ApiServer, key: str) -> None:
        self.heard = b""
        self._connection = http.client.HTTPConnection(HOST, server.http_port, timeout=60)
        self._connection.request("GET", "/api/events?signals=true", headers={"Authorization": f"Bearer {key}"})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while line := self._answer.readline():
            self.heard += line

    def join(self) -> None:
        """When the server has ended the stream."""
        self._thread.join(SETTLED_WITHIN_S)
        assert not self._thread.is_alive()
        self._connection.close()


class World:
    def __init__(self, server: ApiServer, ours: Account, theirs: Account, listener: Listener) -> None:
        self.server = server
        self.ours = ours
        self.theirs = theirs
        self.listener = listener


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Both accounts have had their calls, while ours listened."""
    with ExitStack() as cleanup:
        receivers = [cleanup.enter_context(receiving(folder / f"{name}.jsonl")) for name in (OURS, THEIRS)]
        shared = {"id": "shared", "kind": "open", "calls_per_s": 1000}
        options: dict[str, Any] = {"security": SECURITY, "http": {"host": HOST, "port": 0}, "trunks": [shared]}
        server = cleanup.enter_context(api_server(folder, agents=(scripted("operator"),), **options))
        ours, theirs = (open_account(server, name, one) for name, one in zip((OURS, THEIRS), receivers, strict=True))
        listener = Listener(server, ours.key)
        for account in (theirs, ours):
            call(server, account)
        for account in (ours, theirs):
            settle(server, account)
        yield World(server, ours, theirs, listener)
    listener.join()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("accounts")) as one:
        yield one


BODIES: Mapping[str, Any] = {
    "POST inject": {"message": "hello"},
    "POST say": {"text": "hello"},
    "POST transfer": {"target": "sip:alpha@127.0.0.1"},
    "POST dtmf": {"digits": "1"},
    "POST hold": {"hold": True},
    "PUT agents": {"provider": "scripted"},
    "PUT trunks": {"kind": "register", "server": "127.0.0.3", "username": "alpha"},
    "PUT numbers": {"user": "alpha-2", "agent": "alpha-desk"},
    "PUT tools": {"name": "mine", "url": "https://alpha.example.com/"},
    "PUT squads": {"members": [{"agent": "alpha-desk"}]},
    "PUT webhooks": {"url": "https://alpha.example.com/"},
    "POST replay": {"since": "2026-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("endpoint", [one for one in NATIVE if "{id}" in one.path], ids=lambda one: one.operation)
def test_what_is_theirs_does_not_exist(two: World, endpoint: Endpoint) -> None:
    kind = endpoint.path.partition("/{id}")[0].rpartition("/")[2]
    command = endpoint.path.partition("{id}")[2].strip("/")
    body = BODIES.get(f"{endpoint.method} {command or kind}", {}) if endpoint.body else None
    for one in two.theirs.ids[kind]:
        path = endpoint.path.replace("{id}", quote(one, safe=""))
        for headers in ({}, {"Accept": "text/event-stream"}, {"If-Match": '"1"'}):
            reply = two.server.ask(endpoint.method, path, body, key=two.ours.key, headers=headers)
            assert (reply.status, reply.document["code"]) == (404, "NOT_FOUND"), (path, reply)


@pytest.mark.parametrize(
    "endpoint",
    [one for one in NATIVE if one.method == "GET" and "{id}" not in one.path and not one.stream and one.scope],
    ids=lambda one: one.operation,
)
def test_nothing_of_theirs_is_in_a_list(two: World, endpoint: Endpoint) -> None:
    for query in ("", f"?q={THEIRS}&limit=100", "?limit=100"):
        if "q" not in {parameter.name for parameter in endpoint.query} and query:
            continue
        reply = two.server.ask("GET", endpoint.path + query, key=two.ours.key)
        assert reply.status == (200 if endpoint.path != "/metrics" else 403), reply
        assert THEIRS.encode() not in reply.body, reply.body
        assert not [one for ids in two.theirs.ids.values() for one in ids if one.encode() in reply.body]


def test_filters_find_nothing_of_theirs(two: World) -> None:
    found = two.server.get(f"/api/calls?agent_id={THEIRS}-desk", key=two.ours.key)
    assert found["total"] == 0
    hook = f"/api/webhooks/{two.ours.ids['webhooks'][0]}"
    deliveries = two.server.get(f"{hook}/deliveries?call_id={two.theirs.call_id}", key=two.ours.key)
    assert deliveries["total"] == 0


def test_records_of_theirs_cannot_be_named(two: World) -> None:
    for path, body, named in (
        ("numbers", {"user": "alpha-3", "agent": f"{THEIRS}-desk"}, "agent"),
        ("numbers", {"user": "alpha-3", "agent": f"{OURS}-desk", "trunk": f"{THEIRS}-trunk"}, "trunk"),
        ("agents", {"id": "alpha-2", "provider": "scripted", "tools": [f"{THEIRS}-tool"]}, "tools[0]"),
        ("squads", {"id": "alpha-2", "members": [{"agent": f"{THEIRS}-desk"}]}, "members[0].agent"),
    ):
        reply = two.server.ask("POST", f"/api/{path}", body, key=two.ours.key)
        assert (reply.status, reply.document["field"]) == (422, named), reply
        hint = reply.document["hint"].encode()
        assert THEIRS.encode() not in hint, "what there is, is told"


def test_a_replay_sends_nothing_of_theirs(two: World) -> None:
    hook = f"/api/webhooks/{two.ours.ids['webhooks'][0]}/replay"
    theirs = two.server.get(f"/api/webhooks/{two.theirs.ids['webhooks'][0]}/deliveries", key=two.theirs.key)
    delivery_id = theirs["deliveries"][0]["id"]
    assert two.server.ask("POST", hook, {"delivery_id": delivery_id}, key=two.ours.key).status == 404
    of_call = two.server.ask("POST", hook, {"call_id": two.theirs.call_id}, key=two.ours.key)
    assert of_call.document == {"replayed": 0}
    before = len(two.ours.receiver.received)
    everything = two.server.ask("POST", hook, {"since": "2026-01-01T00:00:00Z"}, key=two.ours.key).document["replayed"]
    assert everything > 0
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while len(two.ours.receiver.received) < before + everything:
        assert time.monotonic() < deadline
        time.sleep(LOOK_S)


def test_each_receiver_was_told_of_its_own_account(two: World) -> None:
    for account, other in ((two.ours, two.theirs), (two.theirs, two.ours)):
        told = account.receiver.received
        assert {message.document["call_id"] for message in told} == {account.call_id}
        assert not [message for message in told if other.name in message.body]


def test_a_stream_has_shown_nothing_of_theirs(two: World) -> None:
    heard = two.listener.heard
    assert two.ours.call_id.encode() in heard
    assert b"call.ended" in heard
    assert THEIRS.encode() not in heard
    assert two.theirs.call_id.encode() not in heard


def test_theirs_is_as_it_was(two: World) -> None:
    """After all that was tried above."""
    for plural, ids in two.theirs.ids.items():
        found = two.server.get(f"/api/{plural}", key=two.theirs.key)[plural]
        assert {one["id"] for one in found} == set(ids), plural
        assert all(one.get("revision", 1) == 1 for one in found), found


def test_the_command_line_keeps_them_apart(two: World) -> None:
    ours = offhook(two.server, "calls", "list", "--json", "--account", OURS)
    assert [one["id"] for one in json.loads(ours)["calls"]] == [two.ours.call_id]
    assert THEIRS not in ours
