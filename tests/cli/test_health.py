"""``offhook health``, as a container asks: against a real server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_commands import serving
from tests.cli.typed import typed


def test_a_server_that_serves_is_healthy_and_ready(tmp_path: Path) -> None:
    with serving(tmp_path):
        healthy = typed("health", "--data", str(tmp_path), "--json")
        ready = typed("health", "--ready", "--data", str(tmp_path))
    assert (healthy.returncode, json.loads(healthy.stdout)) == (0, {"status": "ok"})
    assert ready.returncode == 0, ready.stdout
    assert ready.stdout.splitlines()[0] == "ready"
    assert "ok    sip: listens on" in ready.stdout
    gone = typed("health", "--data", str(tmp_path))
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "no server runs on" in gone.stderr
