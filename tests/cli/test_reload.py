"""``offhook reload`` and the JSON log, against one real server: a start costs a second."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.cli.test_commands import CONFIG, offhook
from tests.cli.typed import typed

TRUNK = {"id": "door", "kind": "open"}
GATEWAY = {"id": "carrier", "kind": "gateway", "peers": ["192.0.2.0/24"]}


@contextmanager
def serving(config: Path) -> Iterator[subprocess.Popen[str]]:
    """Its log comes from ``stderr``."""
    command = [sys.executable, "-m", "offhook", "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def told(process: subprocess.Popen[str], wanted: str) -> dict[str, Any]:
    """The next record of the log whose message has ``wanted``."""
    assert process.stderr is not None
    for line in process.stderr:
        record: dict[str, Any] = json.loads(line)
        if wanted in record["message"]:
            return record
    raise AssertionError(f"the log ended before {wanted!r}")


def write(config: Path, **changes: Any) -> None:
    sip = {"host": "127.0.0.1", "port": 0}
    document = {**CONFIG, "sip": sip, "data_dir": str(config.parent), "trunks": [TRUNK], "log": {"format": "json"}}
    config.write_text(json.dumps(document | changes))


def test_a_server_reads_its_file_again_and_keeps_what_it_has_when_that_is_broken(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    write(config)
    with serving(config) as process:
        announced = told(process, "offhook listens")["message"]
        uri, api = (announced.split(word)[1].split(" ")[0] for word in ("call ", "API "))

        write(config, trunks=[TRUNK, GATEWAY], max_calls=7)
        done = typed("reload", "--data", str(tmp_path), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "ok": True,
            "pid": process.pid,
            "problem": "",
            "waits_for_restart": ["max_calls"],
        }

        config.write_text('{"max_calls": "many"}')
        done = typed("reload", "--data", str(tmp_path))
        assert (done.returncode, done.stdout) == (1, "")
        assert "max_calls: expected `int`" in done.stderr
        assert "nothing was changed" in told(process, "nothing was changed")["message"]

        called = offhook("call", uri, "--dtmf", "42#", "--no-transcript", "--json", "--max-duration", "3")
        assert json.loads(called.stdout)["answered"] is True
        with urlopen(f"{api}/metrics", timeout=10) as response:
            figures = response.read().decode()
        process.send_signal(signal.SIGINT)
        out, log = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    records = [json.loads(line) for line in log.splitlines()]
    events = {record["event"]: record for record in records if "event" in record}
    assert {"call.arrived", "call.answered", "turn.spoken", "digit.received", "call.ended"} <= set(events)
    assert len({record["call_id"] for record in events.values()}) == 1
    assert re.search(r'^offhook_calls_total{.*direction="inbound".*} 1.0$', figures, re.M)
    assert re.search(r"^offhook_journal_batch_seconds_count [1-9]", figures, re.M)
    assert re.search(r"^offhook_http_requests_total", figures, re.M) is None, "the first request is this one"
    assert "hello" not in log, "speech is private by default"
    assert "42#" not in log
    assert not any(f"pressed {digit}" in log for digit in "42#")


def test_without_a_server_reload_says_so(tmp_path: Path) -> None:
    done = typed("reload", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "no server runs on" in done.stderr
