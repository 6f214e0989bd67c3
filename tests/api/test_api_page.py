"""docs/API.md: every command does what the page says, and its tables are those of the code."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.api.running_calls import Running
from tests.api.served import Said, Served
from tests.store.stories import ARRIVED, WHOLE, happened

from offhook.api.auth import KEY_RATE
from offhook.api.native.table import NATIVE
from offhook.api.problems import MEANINGS
from offhook.delivery.event_documents import EVENT_NAMES
from offhook.store.database import Database

PAGE = (Path(__file__).parents[2] / "docs" / "API.md").read_text()


class Curl(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    data: str | None


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def parsed(command: str, variables: dict[str, str]) -> Curl:
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    words = iter(shlex.split(command)[1:])
    method, target, headers, data = "", "", dict[str, str](), None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(words)
        elif word != "-N":
            parts = urlsplit(word)
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return Curl(method or "GET", target, headers, data)


@pytest.fixture
async def served(database: Database, tmp_path: Path) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, calls=Running("c2")) as one:
        yield one


async def test_every_command_is_done_in_the_order_of_the_page(served: Served) -> None:
    happened(served.database, *WHOLE)
    happened(served.database, ARRIVED, call_id="c2")
    (served.data_dir / "recordings").mkdir()
    (served.data_dir / "recordings" / "c1.wav").write_bytes(b"RIFF" * 100)
    variables = {"CALL": "c1", "RUNNING": "c2"}
    said: list[Said] = []
    for command in commands():
        curl = parsed(command, variables)
        answer = await served.ask(curl.method, curl.target, headers=curl.headers, data=curl.data)
        assert 200 <= answer.status < 300, (command, answer.data)
        if curl.target == "/api/keys" and "KEY" not in variables:
            variables["KEY"] = answer.json["key"]
        said.append(answer)
    assert len(said) == len(re.findall(r"^curl ", PAGE, re.M)) > 15


def test_the_tables_are_those_of_the_code() -> None:
    events = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (.*) \|$", PAGE, re.M)
    assert events == [
        (name, ", ".join(f"`{field.name}`" for field in dataclasses.fields(kind))) for kind, name in EVENT_NAMES.items()
    ]
    errors = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (.*) \|$", PAGE, re.M)
    assert errors == [(code, str(meaning.status), meaning.text) for code, meaning in MEANINGS.items()]


def test_what_the_page_says_of_rates_and_paths_is_so() -> None:
    assert f"{KEY_RATE.per_s:.0f} times a second, {KEY_RATE.burst} times at once" in PAGE
    paths = {endpoint.path for endpoint in NATIVE}
    named = set(re.findall(r"`(/(?:api|health|ready|metrics)[^`?]*)`", PAGE))
    assert named <= paths
