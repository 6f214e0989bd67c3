"""Trunks at work, against a PBX on loopback: registered, refused, gone, back; gateways that live and die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.call.phones import Facts
from tests.call.registrar import Registrar

from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.call import trunks as module
from offhook.media.ports import PortPool
from offhook.model.trunks import CallRules, GatewayTrunk, RegisterTrunk, Trunk, TrunkChanged
from offhook.server.phone import Phone, Surroundings, build_phone
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

    async def online_again(self) -> TrunkChanged:
        """The latest state, once a binding was taken back and what came after it is online."""
        return await self.until(lambda one: one.phase == "online" and "stopped" in self.phases)

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


def extension(pbx: Registrar, **given: Any) -> RegisterTrunk:
    """``given``: fields of the trunk that shall be others than usual."""
    host, port = pbx.address
    return RegisterTrunk(
        **{"trunk_id": "pbx", "server": host, "port": port, "username": "200", "password": "secret", **given}
    )


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


# ── trunks that change while the server serves ───────────────────────────────────────────────────────────


async def test_a_new_trunk_registers_and_the_others_are_left_in_peace() -> None:
    async with Registrar({"200": "secret", "201": "other"}) as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        second = extension(pbx, trunk_id="second", username="201", password="other")
        same_but_for_its_rules = extension(pbx, rules=CallRules(srtp="required"))
        states.phone.trunks.update([same_but_for_its_rules, second])
        await states.until(lambda one: (one.trunk_id, one.phase) == ("second", "online"))
        assert pbx.bindings() == ["200", "201"]
        assert set(states.phone.trunks.states) == {"pbx", "second"}
        assert states.phone.trunks.trunk("pbx") == same_but_for_its_rules


async def test_a_removed_trunk_takes_its_binding_back_and_has_no_state_any_more() -> None:
    async with Registrar() as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        states.phone.trunks.update([])
        await states.until(lambda one: one.phase == "stopped")
        assert pbx.bindings() == ["200", "-200"]
        assert pbx.contacts == {}
        assert states.phone.trunks.states == {}
        assert states.phone.trunks.trunk("pbx") is None


@pytest.mark.parametrize(("change", "bindings"), [({"username": "201"}, "201"), ({"expires_s": 60}, "200")])
async def test_a_changed_trunk_is_bound_anew_after_the_old_binding_is_gone(
    change: dict[str, Any], bindings: str
) -> None:
    async with Registrar({"200": "secret", "201": "secret"}) as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        states.phone.trunks.update([extension(pbx, **change)])
        await states.online_again()
        assert pbx.bindings() == ["200", "-200", bindings]
        assert set(pbx.contacts) == {bindings}


async def test_the_latest_of_quick_changes_counts() -> None:
    async with Registrar(dict.fromkeys(("200", "201", "202"), "secret")) as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        states.phone.trunks.update([extension(pbx, username="201")])
        states.phone.trunks.update([])
        states.phone.trunks.update([extension(pbx, username="202")])
        await states.online_again()
        assert pbx.bindings() == ["200", "-200", "202"]


async def test_a_trunk_that_was_refused_is_tried_at_once_with_its_new_password() -> None:
    async with Registrar() as pbx, node(extension(pbx, password="wrong")) as states:
        await states.until(lambda one: one.phase == "failed")
        states.phone.trunks.update([extension(pbx)])
        await states.until(lambda one: one.phase == "online")


async def test_a_trunk_removed_while_its_name_is_looked_up_leaves_nothing() -> None:
    async with Registrar() as pbx, node(extension(pbx)) as states:
        states.phone.trunks.update([])
        await states.until(lambda one: one.phase == "stopped")
        second = gateway(pbx.address.port)
        states.phone.trunks.update([second])
        await states.until(lambda one: one.phase == "online")
        assert set(states.phone.trunks.states) == {"gw"}
        assert states.phone.endpoint.user_agent.admission.trunk_of("127.0.0.1") is None
        assert states.phone.endpoint.counts()["faults"] == 0


async def test_a_gateway_is_looked_at_anew_where_it_leads_elsewhere_and_no_more_when_it_is_gone() -> None:
    async with Registrar() as pbx, node(gateway(9)) as states:
        await states.until(lambda one: one.phase == "failed")
        moved = replace(gateway(pbx.address.port), peers=("192.0.2.1",))
        states.phone.trunks.update([moved])
        await states.until(lambda one: one.phase == "online")
        second = replace(moved, trunk_id="second")
        states.phone.trunks.update([replace(moved, peers=()), second])
        await states.until(lambda one: one.trunk_id == "second" and one.phase == "online")
        assert pbx.methods() == ["OPTIONS", "OPTIONS"]
        states.phone.trunks.update([])
        assert [(one.trunk_id, one.phase) for one in states.told[-2:]] == [("gw", "stopped"), ("second", "stopped")]
        assert states.phone.trunks.states == {}


async def test_a_trunk_that_becomes_a_gateway_is_bound_no_more() -> None:
    async with Registrar() as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        states.phone.trunks.update([replace(gateway(pbx.address.port), trunk_id="pbx")])
        await states.online_again()
        assert pbx.methods()[-1] == "OPTIONS"
        assert pbx.contacts == {}


async def test_leaving_takes_bindings_back_and_keeps_the_way_open_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_OPEN_S", 0.02)
    async with Registrar() as pbx, node(extension(pbx)) as states:
        await states.until(lambda one: one.phase == "online")
        await states.phone.trunks.leave(2.0)
        assert pbx.contacts == {}
        sent = pbx.keep_alives
        await pbx.until(lambda: pbx.keep_alives > sent + 2)
        states.phone.trunks.update([extension(pbx), gateway(pbx.address.port)])
        await states.phone.trunks.stop(2.0)
        assert pbx.bindings() == ["200", "-200"]
        assert states.phone.trunks.trunk("gw") is not None, "calls that are up may still be transferred by it"
