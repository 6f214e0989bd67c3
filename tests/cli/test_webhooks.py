"""``offhook webhooks``, on a database that a server left, and its receiver as a process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.data_folders import database_in
from tests.cli.typed import typed
from tests.store.databases import read, write
from tests.store.world import World

from offhook.delivery.audience import call_webhook_id
from offhook.delivery.signing import sign
from offhook.delivery.sip4ai_signing import SECRET_FILE, account_secret
from offhook.store import outbox
from offhook.store.outbox import DeliveryFilter, Endpoint, NewDelivery

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two webhooks of this account, of which one is disabled, and another account's; deliveries of all kinds."""
    with database_in(tmp_path) as database:
        world = World(database)
        world.create("webhook", id="crm", url="https://crm.example/hook", secret=SECRET)
        world.create("webhook", id="log", url="https://log.example/", events=["call.ended"], enabled=False)
        world.create("webhook", id="theirs", url="https://theirs.example/", account="other")
        write(database, outbox.add, [delivery(1), delivery(2), delivery(3), delivery(1, "theirs", "other")])
        for one in write(database, outbox.take_due, 2000.0, {Endpoint("default", "crm"): 2}):
            if one.seq == 1:
                write(database, outbox.mark_delivered, one, 2000.0, status=204)
            else:
                write(database, outbox.mark_failed, one, 2000.0, problem="answered 500", status=500, next_due=None)
    return tmp_path


def delivery(seq: int, webhook_id: str = "crm", account_id: str = "default") -> NewDelivery:
    return NewDelivery(
        delivery_id=f"msg_{account_id}_{seq}",
        account_id=account_id,
        webhook_id=webhook_id,
        event="turn.spoken",
        body=b"{}",
        created_at=1000.0 + seq,
        call_id=f"c{seq}",
        seq=seq,
    )


def webhooks(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return typed("webhooks", *arguments, "--data", str(folder))


def states(folder: Path) -> dict[str, str]:
    with database_in(folder) as database:
        found, _ = read(database, outbox.list_deliveries, "default", DeliveryFilter(), limit=99)
    return {one.delivery_id.removeprefix("msg_default_"): one.state for one in found}


def test_webhooks_are_listed_with_what_waits_for_them(folder: Path) -> None:
    first, second = webhooks(folder, "list").stdout.splitlines()
    assert first.startswith("crm  enabled  https://crm.example/hook  *")
    assert first.endswith("1 pending, 1 delivered, 1 dead")
    assert second == "log  disabled https://log.example/  call.ended  nothing sent yet"
    told = json.loads(webhooks(folder, "list", "--json", "--account", "other").stdout)
    assert [one["webhook_id"] for one in told["webhooks"]] == ["theirs"]
    assert SECRET not in json.dumps(told)


def test_deliveries_are_shown_the_newest_first_and_as_the_api_shows_them(folder: Path) -> None:
    lines = webhooks(folder, "deliveries").stdout.splitlines()
    assert [re.search(r"msg_default_(\d)", line)[1] for line in lines] == ["3", "2", "1"]  # type: ignore[index]
    assert "dead      turn.spoken of c2 to crm: 1 attempt (answered 500)" in lines[1]
    told = json.loads(webhooks(folder, "deliveries", "crm", "--state", "dead", "--json").stdout)
    assert told["total"] == 1
    assert (told["deliveries"][0]["id"], told["deliveries"][0]["last_status"]) == ("msg_default_2", 500)
    assert "1 of 3" in webhooks(folder, "deliveries", "--limit", "1").stdout


@pytest.mark.parametrize(
    ("what", "said", "after"),
    [
        (("--delivery", "msg_default_1"), "1 delivery is due again", "pending"),
        (("--call", "c1"), "1 delivery is due again", "pending"),
        (("--since", "9999d"), "0 deliveries are due again", "delivered"),
        (("--dead",), "1 delivery is due again", "delivered"),
        (("--dead", "--call", "c1"), "0 deliveries are due again", "delivered"),
    ],
)
def test_what_is_chosen_is_due_again(folder: Path, what: tuple[str, ...], said: str, after: str) -> None:
    done = webhooks(folder, "replay", "crm", *what)
    assert done.stdout.strip() == said
    assert states(folder)["1"] == after


def test_what_cannot_be_replayed_is_told(folder: Path) -> None:
    assert "--delivery, --call, --since or --dead" in webhooks(folder, "replay", "crm").stderr
    assert "There is no webhook 'theirs'" in webhooks(folder, "replay", "theirs", "--dead").stderr
    disabled = webhooks(folder, "replay", "log", "--dead")
    assert "log is disabled: enable it first" in disabled.stderr


def test_what_waits_for_a_webhook_of_one_call_can_be_replayed(folder: Path) -> None:
    name = call_webhook_id("https://app.example/hook")
    with database_in(folder) as database:
        own = replace(delivery(7, name), url="https://app.example/hook")
        write(database, outbox.add, [own])
        (one,) = write(database, outbox.take_due, 2000.0, {Endpoint("default", name): 1})
        write(database, outbox.mark_failed, one, 2000.0, problem="answered 500", next_due=None)
    assert webhooks(folder, "replay", name, "--dead").stdout.strip() == "1 delivery is due again"
    assert states(folder)["7"] == "pending"


def test_the_secret_of_sip4ais_dialect_is_shown_as_the_server_has_it(tmp_path: Path) -> None:
    first, again = (webhooks(tmp_path, "secret").stdout.strip() for _ in range(2))
    assert first == again == (tmp_path / SECRET_FILE).read_text().strip()
    told = json.loads(webhooks(tmp_path, "secret", "--account", "acme", "--json").stdout)
    assert told == {"account_id": "acme", "secret": account_secret(first, "acme")}


def test_a_secret_or_an_answer_that_is_none_is_told_at_once() -> None:
    assert "this is no webhook secret" in typed("webhooks", "listen", "--secret", "hunter2").stderr
    assert "it is no JSON" in typed("webhooks", "listen", "--answer", "{").stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_receiver_of_ones_own_tells_what_comes_until_ctrl_c(as_json: bool) -> None:
    command = [sys.executable, "-u", "-m", "offhook", "webhooks", "listen", "--port", "0", "--secret", SECRET]
    command += ["--json"] if as_json else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        announced = (process.stderr if as_json else process.stdout).readline()
        url = re.search(r"http://\S+/", announced)
        assert url is not None, announced
        post(url[0])
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "1 received: 1 signed" in (errors if as_json else rest)
    if as_json:
        assert (json.loads(line)["signature"], json.loads(line)["id"]) == ("signed", "msg_1")
    else:
        assert "✓ call.ended" in line


def post(url: str) -> None:
    body = b'{"event": "call.ended", "data": {}}'
    headers = sign(message_id="msg_1", at=int(time.time()), body=body, secrets=(SECRET,))
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=10) as answer:
        assert answer.status == 204
