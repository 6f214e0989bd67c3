"""Which server runs on a data folder: told by a lock that dies with its process, not by a number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from offhook.cli.running import REPORT_FILE, ServerFile, running_server
from offhook.model.errors import ConfigError

HOLD = """
import sys
from pathlib import Path
from offhook.cli.running import ServerFile
held = ServerFile(Path(sys.argv[1]))
held.tell(config="config.json", http="http://127.0.0.1:8080")
print("held", flush=True)
sys.stdin.read()
held.close()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that serves on ``folder``."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_server_is_found_as_long_as_it_lives(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        found = running_server(tmp_path)
        assert found is not None
        assert (found.pid, found.config, found.http) == (process.pid, "config.json", "http://127.0.0.1:8080")
    assert running_server(tmp_path) is None
    assert not (tmp_path / REPORT_FILE).exists()


def test_a_process_with_the_number_of_a_dead_server_is_none(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        process.kill()
        process.wait()
    report = json.loads((tmp_path / REPORT_FILE).read_bytes())
    (tmp_path / REPORT_FILE).write_text(json.dumps({**report, "pid": os.getpid()}))
    assert running_server(tmp_path) is None


def test_a_second_server_on_a_folder_is_refused(tmp_path: Path) -> None:
    with held(tmp_path) as process, pytest.raises(ConfigError, match=rf"process {process.pid} already serves"):
        ServerFile(tmp_path)
    ServerFile(tmp_path).close()


def test_where_no_server_ever_ran_there_is_none(tmp_path: Path) -> None:
    assert running_server(tmp_path / "absent") is None
