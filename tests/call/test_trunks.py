"""Trunks at work, against a PBX on loopback: registered, refused, gone, back; gateways that live and die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.call.phones import Facts
from tests.call.registrar import Registrar

from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.call import trunks as module
from offhook.media.ports import PortPool
from offhook.model.trunks import GatewayTrunk, RegisterTrunk, Trunk, TrunkChanged
from offhook.server import Phone, Surroundings, build_phone
from offhook.sip import registration
from offhook.store.directory import InMemoryDirectory


class States:
    """What was told of trunks, awaitable."""

    def __init__(self) -> None:
        self.told: list[TrunkChanged] = []
        self.phone: Phone
        self._changed = asyncio.Event()

    def __call__(self, changed: TrunkChanged) -> None:
        self.told.append(changed)
        self._changed.set()

    async def until(self, condition: Callable[[TrunkChanged], bool]) -> TrunkChanged:
        """The latest state, once it is so."""
        async with asyncio.timeout(15):
            while not self.told or not condition(self.told[-1]):
                self._changed.clear()
                await self._changed.wait()
        return self.told[-1]

    @property
    def phases(self) -> list[str]:
        return [one.phase for one in self.told]


@asynccontextmanager
async def node(*trunks: Trunk) -> AsyncIterator[States]:
    """A phone with trunks, at work."""
    states = States()
    states.phone = build_phone(
        bridges=BridgeRegistry({"scripted": SCRIPTED}),
        directory=InMemoryDirectory((), ()),
        events=Facts(),
        max_calls=5,
        ports=PortPool(45000, 45100),
        recordings_folder=Path(),
        media_timeout_s=60,
        surroundings=Surroundings(trunks=trunks, on_trunk=states),
    )
    await states.phone.endpoint.listen("UDP", "127.0.0.1", 0)
    states.phone.trunks.start()
    try:
        yield states
    finally:
        await states.phone.close()


def extension(pbx: Registrar, password: str = "secret", **given: object) -> RegisterTrunk:
    host, port = pbx.address
    return RegisterTrunk(trunk_id="pbx", server=host, port=port, username="200", password=password, **given)  # type: ignore[arg-type]  # keywords of the trunk


def gateway(*ports: int) -> GatewayTrunk:
    return GatewayTrunk(trunk_id="gw", targets=tuple(f"sip:127.0.0.1:{port}" for port in ports))


async def test_registers_and_takes_it_back() -> None:
    async with Registrar() as pbx:
        async with node(extension(pbx)) as states:
            online = await states.until(lambda one: one.phase == "online")
            assert online.server == f"127.0.0.1:{pbx.address.port}/UDP"
            assert online.refreshed_at is not None
            assert online.expires_at is not None
            assert "sip:200@127.0.0.1" in await pbx.registered("200")
            assert states.phone.endpoint.user_agent.admission.trunk_of("127.0.0.1") == "pbx"
        assert pbx.contacts == {}
        assert states.phases == ["registering", "registering", "online", "stopped"]


async def test_a_wrong_password_is_said_with_its_code_and_fix() -> None:
    async with Registrar() as pbx, node(extension(pbx, password="wrong")) as states:
        failed = await states.until(lambda one: one.phase == "failed")
        assert (failed.sip_code, failed.reason) == (401, "Unauthorized")
        assert "password" in failed.fix
        assert failed.retry_at is not None


@pytest.mark.parametrize(
    ("status", "says"), [(403, "forbids"), (404, "extension"), (503, "overloaded"), (499, "operator")]
)
async def test_every_refusal_has_its_fix(status: int, says: str) -> None:
    async with Registrar() as pbx:
        pbx.status = status
        async with node(extension(pbx)) as states:
            failed = await states.until(lambda one: one.phase == "failed")
            assert failed.sip_code == status
            assert says in failed.fix


async def test_a_pbx_that_stops_is_noticed_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_OPEN_S", 0.05)
    monkeypatch.setattr(registration, "FIRST_RETRY_S", 0.1)
    async with Registrar() as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        pbx.stop()
        failed = await states.until(lambda one: one.phase == "failed")
        assert failed.reason == "Connection refused"
        async with Registrar(port=pbx.address.port) as again:
            await states.until(lambda one: one.phase == "online")
            assert "200" in again.contacts


async def test_an_unknown_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = RegisterTrunk(trunk_id="pbx", server="nosuchhost.invalid", port=5060, username="200")
    async with node(trunk) as states:
        failed = await states.until(lambda one: one.phase == "failed")
        assert "nosuchhost.invalid" in failed.reason
        assert "DNS" in failed.fix


async def test_a_gateway_that_lives_is_online_whatever_it_answers() -> None:
    async with Registrar() as pbx, node(gateway(pbx.address.port)) as states:
        online = await states.until(lambda one: one.phase == "online")
        assert online.server.endswith("/UDP")


async def test_the_second_target_counts_when_the_first_is_dead() -> None:
    async with Registrar() as pbx, node(gateway(9, pbx.address.port)) as states:
        online = await states.until(lambda one: one.phase == "online")
        assert str(pbx.address.port) in online.server


async def test_a_dead_gateway_is_failed_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.1)
    async with Registrar() as pbx:
        port = pbx.address.port
    async with node(gateway(port)) as states:
        failed = await states.until(lambda one: one.phase == "failed")
        assert "OPTIONS" in failed.reason
        async with Registrar(port=port):
            await states.until(lambda one: one.phase == "online")
