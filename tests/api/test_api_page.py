"""docs/API.md, and the API in docs/SIP4AI.md: every command does what the page says, and the tables are those of the
code.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.api.placers import Placing
from tests.api.running_calls import Running
from tests.api.served import Said, Served
from tests.store.stories import ARRIVED, WHOLE, happened

from offhook.api.auth import KEY_RATE
from offhook.api.native.table import NATIVE
from offhook.api.new_call import MAX_DURATION_S, NewCallForm
from offhook.api.problems import MEANINGS
from offhook.delivery.event_documents import EVENT_NAMES
from offhook.store.database import Database

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "API.md").read_text()
SIP4AI = (DOCS / "SIP4AI.md").read_text().partition("\n## API\n")[2]


class Curl(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    data: str | None


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
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
    async with Served(database, tmp_path, calls=Running("c2"), placer=Placing()) as one:
        yield one


async def test_every_command_is_done_in_the_order_of_the_page(served: Served) -> None:
    happened(served.database, *WHOLE)
    happened(served.database, ARRIVED, call_id="c2")
    (served.data_dir / "recordings").mkdir()
    (served.data_dir / "recordings" / "c1.wav").write_bytes(b"RIFF" * 100)
    variables = {"CALL": "c1", "RUNNING": "c2"}
    said: list[Said] = []
    for command in commands(PAGE):
        curl = parsed(command, variables)
        answer = await served.ask(curl.method, curl.target, headers=curl.headers, data=curl.data)
        assert 200 <= answer.status < 300, (command, answer.data)
        if curl.target == "/api/keys" and "KEY" not in variables:
            variables["KEY"] = answer.json["key"]
        said.append(answer)
    assert len(said) == len(re.findall(r"^curl ", PAGE, re.M)) > 15


async def test_every_command_for_users_of_sip4ai_is_done_without_a_key(served: Served) -> None:
    happened(served.database, *WHOLE)
    happened(served.database, ARRIVED, call_id="c2")
    statuses = []
    for command in commands(SIP4AI):
        curl = parsed(command, {"CALL": "c1", "RUNNING": "c2"})
        answer = await served.ask(curl.method, curl.target, headers=curl.headers, data=curl.data)
        statuses.append(answer.status)
    assert statuses == [200, 201, 200, 200, 200, 200, 200]


def test_the_endpoints_of_sip4ai_are_those_of_the_code() -> None:
    first_cells = re.findall(r"^\| (`[A-Z]+ /.*?) \|", SIP4AI, re.M)
    named = {tuple(one.split(" ")) for cell in first_cells for one in re.findall(r"`([A-Z]+ /[^`]*)`", cell)}
    assert len(named) == 9
    assert named <= {(endpoint.method, endpoint.path) for endpoint in NATIVE}


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
    named = set(re.findall(r"`(/(?:api|call|health|metrics|ready|status)[^`?]*)`", PAGE))
    assert named <= paths


def test_every_field_of_a_new_call_is_told() -> None:
    section = PAGE.partition("### Call somebody")[2].partition("###")[0]
    assert re.findall(r"^\| `([a-z_]+)` \|", section, re.M) == list(field_names(NewCallForm))
    assert f"| `max_duration_seconds` | {MAX_DURATION_S} |" in section
    defaults = NewCallForm(target="x", task="y")
    assert f"| `ring_timeout_seconds` | {defaults.ring_timeout_seconds} |" in section


def field_names(form: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(form))
