"""The unit and the container file: what can be held against the code without systemd's and a container's engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.typed import typed

from offhook.config import Settings, misspelt

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "offhook.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
ROOT = DEPLOY.parent


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.M)
    return str(value)


def test_the_unit_gives_calls_the_time_they_are_promised() -> None:
    assert float(setting("TimeoutStopSec")) > Settings().drain_timeout_s
    assert (setting("KillSignal"), setting("KillMode"), setting("Type")) == ("SIGTERM", "mixed", "notify")
    assert int(setting("LimitNOFILE")) > Settings().max_calls * 4


def test_the_container_stops_by_draining_and_runs_as_nobody() -> None:
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.M)
    stages = DOCKERFILE.split("\nFROM ")
    assert len(stages) == 3  # what stands before the first, to build, to run
    assert re.search(r"^USER offhook$", stages[-1], re.M)
    assert f"{Settings().rtp.port_min}-{Settings().rtp.port_max}/udp" in DOCKERFILE
    assert f"{Settings().http.port}/tcp" in DOCKERFILE


@pytest.mark.parametrize("text", [UNIT, DOCKERFILE])
def test_the_variables_that_are_set_exist(text: str) -> None:
    named = re.findall(r"\bOFFHOOK_[A-Z_]+(?==)", text)
    assert named
    assert misspelt(dict.fromkeys(named, "x")) == ()


@pytest.mark.parametrize("command", ["serve", "reload", "health"])
def test_the_commands_that_are_run_exist(command: str) -> None:
    assert re.search(rf'offhook"?,? "?{command}|CMD \["{command}', UNIT + DOCKERFILE)
    assert typed(command, "--help").returncode == 0


def test_the_locked_versions_are_found_for_every_dependency() -> None:
    """The container's `sed` over the lock: a dependency that it lost would be installed in any version."""
    (script,) = re.findall(r"sed -nE '([^']+)'", DOCKERFILE)
    command = ["sed", "-nE", script, str(ROOT / "requirements.lock")]
    constraints = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert not any("\\" in line or "--hash" in line for line in constraints)
    found = {line.partition("==")[0].lower() for line in constraints}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^    "([A-Za-z0-9_.-]+)[>=\[]', project.split("[project.optional-dependencies]")[0], re.M)
    assert len(wanted) > 10
    assert {name.lower() for name in wanted} <= found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "offhook.service"
    commands = re.sub(r"/opt/offhook/bin/offhook", "/bin/true", UNIT)
    unit.write_text(re.sub(r"^(User|Group)=.*$", r"\1=root", commands, flags=re.M))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    ours = [line for line in verified.stderr.splitlines() if str(unit) in line or "offhook.service" in line]
    assert ours == []
