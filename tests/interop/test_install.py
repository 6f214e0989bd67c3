"""``install.sh`` where nothing is: a folder, a fresh HOME, and this machine's way to packages; then the first call."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.interop.tools import folder, free_sip_port, unavailable
from tests.kept_calls import kept_calls
from tests.probe.programs import START_S

ROOT = Path(__file__).parents[2]
INSTALL_S = 300.0
"""A guard against hanging: it takes 25 s here, and longer where packages come from far away."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

KEPT = ("PIP_", "XDG_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy", "LANG", "LC_", "TMPDIR")
"""Beginnings of variables that say how packages are fetched: without these nothing can be installed here at all."""

MACHINE = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}


def python_folder() -> str:
    """Where the Python lies that runs this test, or that its environment was made of."""
    return str(Path(sys.executable).resolve().parent)


class House:
    """An empty folder with a HOME in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home of mine"
        self.home.mkdir()
        self.bin = self.home / ".local" / "bin"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()

    def environment(self, **more: str) -> Mapping[str, str]:
        path = f"{SYSTEM_PATH}:{python_folder()}"
        return {**MACHINE, "HOME": str(self.home), "PATH": path, **more}

    def run(self, *command: str | Path, feed: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Somewhere else, with an environment of its own; ``feed``: the file on its stdin."""
        with (feed or Path(os.devnull)).open("rb") as stdin:
            return subprocess.run(
                [str(part) for part in command],
                cwd=self.elsewhere,
                env=self.environment(**more),
                stdin=stdin,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
                check=False,
            )

    @property
    def installed(self) -> list[Path]:
        return sorted((self.home / ".offhook" / "venvs").iterdir())


@pytest.fixture
def house() -> Iterator[House]:
    with folder("install") as where:
        yield House(where)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has of this tree, or would have, as the files are now."""
    target = tmp_path_factory.mktemp("checkout") / "offhook"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        unavailable("this is no checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def repository_of(checkout: Path, folder: Path) -> str:
    """Its URL: the same files, committed."""
    target = folder / "repository"
    shutil.copytree(checkout, target)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All"]):
        subprocess.run([*git, *words], cwd=target, check=True)
    return target.as_uri()


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_installed_from_a_pipe_answers_the_first_call_and_is_gone_again(house: House, checkout: Path) -> None:
    url = repository_of(checkout, house.folder)
    done = house.run("bash", feed=checkout / "install.sh", OFFHOOK_SOURCE=url)
    assert done.returncode == 0, done.stderr
    assert f'export PATH="{house.bin}:$PATH"' in done.stdout
    version = re.search(r'__version__ = "(.*)"', (checkout / "src" / "offhook" / "__init__.py").read_text())
    assert version is not None
    for name in ("offhook", "sip4ai"):
        assert house.run(house.bin / name, "--version").stdout == f"{name} {version[1]}\n"
    first_call(house)
    assert house.run("bash", "-s", "--", "--uninstall", feed=checkout / "install.sh").returncode == 0
    assert (list(house.bin.iterdir()), (house.home / ".offhook").exists()) == ([], False)
    assert (house.elsewhere / "offhook-data").is_dir()


def first_call(house: House) -> None:
    """As README.md has it: the demo agent is served, and asked what time it is."""
    port = free_sip_port()
    sip = {"host": "127.0.0.1", "port": port}
    (house.elsewhere / "config.json").write_text(json.dumps({"sip": sip, "http": {"port": 0}}))
    with serving(house) as server:
        uri = f"sip:demo@127.0.0.1:{port}"
        lines = ("--say", "what time is it", "--say", "goodbye")
        called = house.run(house.bin / "offhook", "call", uri, *lines)
        server.terminate()
        assert server.wait(START_S) == 0
    assert called.returncode == 0, called.stdout + called.stderr
    [record] = kept_calls(house.elsewhere / "offhook-data")
    speakers = [turn["speaker"] for turn in record["transcript"]]
    assert speakers[0] == "agent", "it greeted"
    assert "agent" in speakers[speakers.index("caller") :], "it heard somebody, and answered"


class Serving(subprocess.Popen[str]):
    """``sip4ai`` without arguments."""


def serving(house: House) -> Serving:
    one = Serving(
        [str(house.bin / "sip4ai")],
        cwd=house.elsewhere,
        env=house.environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert one.stdout is not None
    assert "offhook listens on" in one.stdout.readline()
    return one


def test_run_again_it_upgrades_and_what_runs_keeps_its_files(house: House, checkout: Path) -> None:
    """Without the offline voice, to be quicker; those before it are laid there by hand."""
    old, before = house.home / ".offhook" / "venvs" / "1", house.home / ".offhook" / "venvs" / "2"
    for one in (old, before):
        (one / "bin").mkdir(parents=True)
    (house.home / ".offhook" / "current").symlink_to(before)
    done = house.run("sh", checkout / "install.sh", OFFHOOK_EXTRAS="")
    assert done.returncode == 0, done.stderr
    now = house.home / ".offhook" / "venvs" / "3"
    assert house.installed == [before, now]
    assert (house.home / ".offhook" / "current").resolve() == now
    packages = house.run(now / "bin" / "python", "-m", "pip", "list", "--format=json").stdout
    names = {one["name"].lower() for one in json.loads(packages)}
    assert {"offhook", "aiohttp", "numpy", "uvloop"} <= names
    assert not {"pocketsphinx", "pytest", "mypy", "opentelemetry-sdk"} & names, "what nobody asked for is not there"


# ── what is missing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def few_programs(house: House) -> Path:
    """A PATH without any Python."""
    folder = house.folder / "few"
    folder.mkdir()
    for name in ("sh", "uname", "dirname", "date", "mkdir", "rm", "ln", "readlink", "cat", "env"):
        found = shutil.which(name, path=SYSTEM_PATH)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def pretend(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


NO_PYTHON = "Python 3.11 or newer is needed, and there is none on the PATH"
OLD = 'case "$1" in -V) echo "Python 3.9.2";; *) exit 1;; esac'
NO_VENV = 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac'


@pytest.mark.parametrize(
    ("pythons", "says"),
    [
        ({}, NO_PYTHON),
        ({"python3": OLD}, "python3 is Python 3.9.2"),
        ({"python3": OLD, "python3.12": NO_VENV}, "apt install python3.12-venv"),
    ],
)
def test_a_python_that_will_not_do_is_told_and_what_to_do(
    house: House, checkout: Path, few_programs: Path, pythons: Mapping[str, str], says: str
) -> None:
    for name, script in pythons.items():
        pretend(few_programs, name, script)
    done = house.run("/bin/sh", checkout / "install.sh", PATH=str(few_programs))
    assert done.returncode == 1
    assert done.stderr.startswith("install.sh: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not house.bin.exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "there is no released package yet"),
        ({"OFFHOOK_SOURCE": "/nonexistent.git"}, "/nonexistent.git cannot be fetched"),
        ({"OFFHOOK_PYTHON": "/nonexistent/python"}, NO_PYTHON),
        ({"HOME": ""}, "HOME is not set"),
    ],
)
def test_from_a_pipe_it_says_what_it_needs_and_leaves_nothing(
    house: House, checkout: Path, more: Mapping[str, str], says: str
) -> None:
    done = house.run("bash", feed=checkout / "install.sh", **more)
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]
    assert list(house.home.rglob("venvs/*")) == []


def test_somebody_else_s_command_is_not_overwritten(house: House, checkout: Path) -> None:
    house.bin.mkdir(parents=True)
    (house.bin / "sip4ai").write_text("another one")
    done = house.run("sh", checkout / "install.sh")
    assert done.returncode == 1
    assert "sip4ai is there and not from here" in done.stderr
    assert house.run("sh", checkout / "install.sh", "--uninstall").returncode == 0
    assert (house.bin / "sip4ai").read_text() == "another one"


def test_a_download_that_breaks_off_does_nothing(house: House, checkout: Path) -> None:
    whole = (checkout / "install.sh").read_text()
    part = house.folder / "part.sh"
    for share in (0.3, 0.6, 0.95):
        part.write_text(whole[: int(len(whole) * share)])
        house.run("bash", feed=part)
        assert list(house.home.iterdir()) == []


def test_unknown_words_are_told(house: House, checkout: Path) -> None:
    assert house.run("sh", checkout / "install.sh", "--upgrade").returncode == 2
    assert "OFFHOOK_HOME" in house.run("sh", checkout / "install.sh", "--help").stdout


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    for shell in ("sh", "bash"):
        done = subprocess.run(
            ["shellcheck", "-s", shell, ROOT / "install.sh"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
