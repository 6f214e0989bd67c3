"""``offhook calls``, on a database that a server left: lists, the story of one call, and what happens meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.data_folders import database_in
from tests.cli.typed import typed
from tests.observability.calls import media
from tests.store.databases import write
from tests.store.stories import ANSWERED, ARRIVED, ENDED, JOINED, TURN, WHOLE, happened, kept, story

from offhook.model.call_events import CallRefused
from offhook.store import outbox
from offhook.store.outbox import NewDelivery

REFUSED = CallRefused(status=404, rule="no number matches", evidence="To: 9", fix="add the number")
DELIVERY = NewDelivery(
    delivery_id="msg_1", account_id="default", webhook_id="crm", event="call.ended", body=b"{}", created_at=1.0,
    call_id="aaaa-1", seq=4,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two calls of this account, one of another."""
    answers = replace(TURN, speaker="agent", text="noon", latency_ms=640)
    with database_in(tmp_path) as database:
        happened(database, ARRIVED, ANSWERED, JOINED, TURN, answers, media(), ENDED, call_id="aaaa-1", at=1000)
        outbound = replace(ARRIVED, direction="outbound", to_uri="sip:9@pbx.example", sip_call_id="zz")
        happened(database, outbound, REFUSED, replace(ENDED, cause="refused", sip_code=404), call_id="aabb-2", at=2000)
        happened(database, replace(ARRIVED, account_id="other"), call_id="cccc-3", at=3000)
        write(database, outbox.add, [DELIVERY])
    return tmp_path


def test_calls_are_listed_newest_first_and_filtered(folder: Path) -> None:
    lines = typed("calls", "list", "--data", str(folder)).stdout.splitlines()
    assert [("aabb-2" in line, "aaaa-1" in line) for line in lines] == [(True, False), (False, True)]
    assert "failed" in lines[0]
    assert "refused 404" in lines[0]
    told = json.loads(typed("calls", "list", "--data", str(folder), "--direction", "inbound", "--json").stdout)
    assert [(one["id"], one["status"]) for one in told["calls"]] == [("aaaa-1", "completed")]
    assert (told["total"], told["limit"]) == (1, 50)
    assert typed("calls", "list", "--data", str(folder), "--since", "1h").stdout == ""
    assert "cccc" not in typed("calls", "list", "--data", str(folder)).stdout


def test_a_call_is_told_with_facts_figures_words_and_webhooks(folder: Path) -> None:
    told = typed("calls", "show", "aaaa", "--data", str(folder)).stdout
    for part in ("sip:alice@example.com", "answered after 20 ms", "1.0 % lost here", "640 ms (median)",
                 "caller: “what time is it”", "call.ended           to crm: pending"):  # fmt: skip
        assert part in told, told
    refused = typed("calls", "show", "zz", "--data", str(folder)).stdout
    assert "refused with 404: no number matches [To: 9] → add the number" in refused


def test_a_call_as_json_has_the_api_s_shape(folder: Path) -> None:
    told = json.loads(typed("calls", "show", "aaaa-1", "--data", str(folder), "--json").stdout)
    assert (told["call"]["id"], told["call"]["transcript"][0]["speaker"]) == ("aaaa-1", "user")
    assert [event["event"] for event in told["events"]][:2] == ["call.arrived", "call.answered"]
    (delivery,) = told["deliveries"]
    assert (delivery["webhook_id"], delivery["state"], "body" in delivery) == ("crm", "pending", False)


@pytest.mark.parametrize(
    ("wanted", "says"), [("aa", "may be several calls: aabb-2, aaaa-1"), ("ff", "no call"), ("cccc", "no call")]
)
def test_a_call_that_is_not_clear_is_not_guessed(folder: Path, wanted: str, says: str) -> None:
    done = typed("calls", "show", wanted, "--data", str(folder))
    assert done.returncode == 1
    assert says in done.stderr


def test_a_folder_without_a_database_is_left_alone(tmp_path: Path) -> None:
    done = typed("calls", "list", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "there is no database in" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_calls_are_followed_from_another_process(folder: Path) -> None:
    command = [sys.executable, "-m", "offhook", "calls", "tail", "--json", "--data", str(folder)]
    now = time.time()
    following = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with database_in(folder) as database, following as process:
        assert process.stdout is not None
        assert process.stderr is not None
        happened(database, ARRIVED, call_id="early", at=now)
        assert "following" in process.stderr.readline()
        kept(database, story(ANSWERED, ENDED, call_id="early", at=now, after=1))
        first = [json.loads(process.stdout.readline()) for _ in range(2)]
        happened(database, *WHOLE, call_id="late", at=now)
        second = [json.loads(process.stdout.readline()) for _ in WHOLE]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=10)
    assert [(event["call_id"], event["seq"]) for event in first] == [("early", 2), ("early", 3)]
    assert [(event["call_id"], event["seq"]) for event in second] == [("late", seq + 1) for seq in range(len(WHOLE))]
    assert (process.returncode, rest) == (0, "")
