"""Log lines: what a person reads, what a machine reads, and what a line is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from offhook.observability.logs import about_call, configure_logging

LOG = logging.getLogger("offhook.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


def test_a_line_for_a_person_names_the_call_and_the_trunk(lines: io.StringIO) -> None:
    configure_logging("info", "text", lines)
    LOG.info("nothing known")
    with about_call("0f3c8a52-aaaa"):
        LOG.warning("slow", extra={"trunk_id": "pbx"})
    LOG.info("over")
    first, second, third = (line.split(" ", 1)[1] for line in lines.getvalue().splitlines())
    assert first == "INFO    offhook.test: nothing known"
    assert second == "WARNING offhook.test [0f3c8a52 trunk pbx]: slow"
    assert third == "INFO    offhook.test: over"


def test_a_line_for_a_machine_is_one_json_object(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    with about_call("0f3c8a52-aaaa"):
        LOG.warning('two\nlines and "quotes" of %s', "pbx", extra={"trunk_id": "pbx"})
    try:
        raise ValueError("broken")
    except ValueError:
        LOG.exception("failed", extra={"call_id": "other"})
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "offhook.test",
        "call_id": "0f3c8a52-aaaa",
        "trunk_id": "pbx",
        "message": 'two\nlines and "quotes" of pbx',
    }
    assert second["call_id"] == "other"
    assert "ValueError: broken" in second["exception"]


async def test_tasks_begun_for_a_call_log_about_it(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        LOG.info("%s", name)

    with about_call("one"):
        first = asyncio.create_task(work("of one"))
    with about_call("two"):
        second = asyncio.create_task(work("of two"))
    await asyncio.gather(first, second, work("of none"))
    told = {line["message"]: line.get("call_id") for line in map(json.loads, lines.getvalue().splitlines())}
    assert told == {"of one": "one", "of two": "two", "of none": None}


def test_configured_again_a_line_comes_once(lines: io.StringIO) -> None:
    configure_logging("info", "text", io.StringIO())
    configure_logging("warning", "text", lines)
    LOG.info("too low")
    LOG.warning("once")
    assert lines.getvalue().count("\n") == 1


def test_libraries_are_heard_from_warnings_on(lines: io.StringIO) -> None:
    configure_logging("info", "text", lines)
    logging.getLogger("aiohttp.access").info("GET /api/calls?token=x")
    logging.getLogger("sqlalchemy.engine").info("INSERT INTO turns VALUES ('aubergine')")
    logging.getLogger("picows.client.29").info("WS connection established")
    assert lines.getvalue() == ""
