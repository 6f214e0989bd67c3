"""Real clients for the tests of this folder; whatever a fixture starts ends with its test."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop import cells
from tests.interop.baresip import Baresip
from tests.interop.callees import Callee
from tests.interop.kamailio import Kamailio
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sip4ai_line import PASSWORD, Line
from tests.interop.sip4ai_server import Sip4ai
from tests.interop.sippers import SippRun
from tests.interop.tools import folder, free_sip_port
from tests.interop.your_app import YourApp

from offhook.simulators.catalogue import SIMULATORS
from offhook.simulators.script import parse_script
from offhook.simulators.stage import Simulator, Stage

HERE = Path(__file__).parent

pytest_configure = cells.pytest_configure
pytest_runtest_setup = cells.pytest_runtest_setup


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test below this folder is an interop test."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> cells.Cell:
    """``cell.fills(peer, feature)``, ``cell.note("TCP", "IPv6")``: see ``cells``."""
    return cells.Cell(request)


@pytest.fixture
def new_folder() -> Iterator[Callable[[str], Path]]:
    """``new_folder(name) -> Path``, emptied at the end."""
    with contextlib.ExitStack() as cleanup:
        yield lambda name: cleanup.enter_context(folder(name))


@pytest.fixture
async def cleanup() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def sipp(new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack) -> Callable[..., Awaitable[SippRun]]:
    """``await sipp(scenario, to=...)``: see ``SippRun.start``."""

    async def start(scenario: str, **options: Any) -> SippRun:
        run = await SippRun.start(new_folder("sipp"), scenario, **options)
        cleanup.push_async_callback(run.program.stop)
        return run

    return start


@pytest.fixture
def baresip(new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack) -> Callable[..., Awaitable[Baresip]]:
    """``await baresip(speaks=...)``: see ``Baresip.start``."""

    async def start(**options: Any) -> Baresip:
        one = await Baresip.start(new_folder("baresip"), **options)
        cleanup.push_async_callback(one.close)
        return one

    return start


@pytest.fixture
def linphone(
    new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack
) -> Callable[..., Awaitable[Linphone]]:
    """``await linphone(speaks=...)``: see ``Linphone.start``."""

    async def start(**options: Any) -> Linphone:
        one = await Linphone.start(new_folder("linphone"), **options)
        cleanup.push_async_callback(one.close)
        return one

    return start


@pytest.fixture
def offhook(
    new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack
) -> Callable[..., Awaitable[OffhookServer]]:
    """``await offhook(agents=[...])``: see ``OffhookServer.start``."""

    async def start(**options: Any) -> OffhookServer:
        server = await OffhookServer.start(new_folder("server"), **options)
        cleanup.push_async_callback(server.program.stop)
        return server

    return start


@pytest.fixture
def kamailio(
    new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack
) -> Callable[..., Awaitable[Kamailio]]:
    """``await kamailio(host=...)``: see ``Kamailio.start``."""

    async def start(**options: Any) -> Kamailio:
        one = await Kamailio.start(new_folder("kamailio"), **options)
        cleanup.push_async_callback(one.program.stop)
        return one

    return start


@pytest.fixture
def rtp_phone(cleanup: contextlib.AsyncExitStack) -> Callable[..., RtpPhone]:
    """``rtp_phone(host)``: see ``RtpPhone.open``."""

    def open_one(host: str = "127.0.0.1") -> RtpPhone:
        one = RtpPhone.open(host)
        cleanup.push_async_callback(one.close)
        return one

    return open_one


@pytest.fixture
def sip4ai(new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack) -> Callable[..., Awaitable[Sip4ai]]:
    """``await sip4ai(config, NAME="value")``: see ``Sip4ai.start``."""

    async def start(config: Any, **variables: str) -> Sip4ai:
        one = await Sip4ai.start(new_folder("sip4ai"), config, **variables)
        cleanup.push_async_callback(one.close)
        return one

    return start


@pytest.fixture
def callee(new_folder: Callable[[str], Path], cleanup: contextlib.AsyncExitStack) -> Callable[..., Awaitable[Callee]]:
    """``await callee(audio_port=...)``: see ``Callee.start``."""

    async def start(**options: Any) -> Callee:
        one = await Callee.start(new_folder("callee"), **options)
        cleanup.push_async_callback(one.close)
        return one

    return start


@pytest.fixture
async def your_app(cleanup: contextlib.AsyncExitStack) -> YourApp:
    """One that listens."""
    one = await YourApp().start()
    cleanup.push_async_callback(one.close)
    return one


@pytest.fixture
async def line(
    callee: Callable[..., Awaitable[Callee]],
    kamailio: Callable[..., Awaitable[Kamailio]],
    rtp_phone: Callable[..., RtpPhone],
) -> Line:
    """A registrar, and a telephone behind it."""
    phone = rtp_phone()
    answering = await callee(audio_port=phone.port)
    gateway = f"127.0.0.1:{answering.port}"
    pbx = await kamailio(host="127.0.0.1", port=free_sip_port(), password=PASSWORD, gateway=gateway)
    return Line(pbx=pbx, callee=answering, phone=phone)


@pytest.fixture
def openai(cleanup: contextlib.AsyncExitStack) -> Callable[..., Awaitable[tuple[Simulator, dict[str, str]]]]:
    """``await openai(turns=[...])``: a simulated OpenAI that plays this script, and the variables that lead to it."""

    async def start(**script: Any) -> tuple[Simulator, dict[str, str]]:
        simulator = SIMULATORS["openai"](parse_script(json.dumps(script)))
        stage = await cleanup.enter_async_context(Stage(simulator))
        return simulator, {"OPENAI_API_KEY": "sk-simulated", "OPENAI_BASE_URL": f"{stage.url}/v1"}

    return start
