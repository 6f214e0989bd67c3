"""Where outbound calls go: targets, trunks, and the next way when one fails."""

from __future__ import annotations

import pytest
from tests.call.phones import SILENT, phone
from tests.call.registrar import Registrar

from offhook.call import dial
from offhook.call.dialling import PlaceCall
from offhook.call.ways import ANY_TRANSPORT, destinations, hop_of, registrar_of, target_of, trunk_towards
from offhook.model.call_events import CallAnswered, CallEnded, CallRefused, WayTaken
from offhook.model.errors import SipParseError, UnreachableError
from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk
from offhook.sip.events import Hop
from offhook.sip.uri import SipUri

PBX = RegisterTrunk(trunk_id="pbx", server="pbx.example", username="200")
CARRIER = GatewayTrunk(trunk_id="gw", targets=("sip:a.example;transport=tcp", "sips:b.example:5099"))


@pytest.mark.parametrize(
    ("uri", "hop", "open_choice"),
    [
        ("sip:x@example.org", Hop(transport="UDP", host="example.org", port=0), True),
        ("sip:x@example.org:5080", Hop(transport="UDP", host="example.org", port=5080), False),
        ("sip:x@example.org;transport=tcp", Hop(transport="TCP", host="example.org", port=0), False),
        ("sips:x@example.org", Hop(transport="TLS", host="example.org", port=0), False),
        ("sip:x@192.0.2.1", Hop(transport="UDP", host="192.0.2.1", port=5060), False),
        ("sip:x@[2001:db8::1];transport=tls", Hop(transport="TLS", host="2001:db8::1", port=5061), False),
        ("sip:x@example.org;maddr=192.0.2.9", Hop(transport="UDP", host="192.0.2.9", port=5060), False),
    ],
)
def test_what_a_uri_leaves_open_dns_may_choose(uri: str, hop: Hop, open_choice: bool) -> None:
    assert hop_of(SipUri.parse(uri)) == (hop, ANY_TRANSPORT if open_choice else ())


def test_a_transport_we_do_not_have_is_named() -> None:
    with pytest.raises(UnreachableError, match="use udp, tcp or tls"):
        hop_of(SipUri.parse("sip:x@y;transport=sctp"))


def test_a_register_trunk_calls_from_its_address_through_its_server() -> None:
    (one,) = destinations(SipUri.parse("sip:4711@elsewhere.example"), PBX)
    assert str(one.target) == "sip:4711@elsewhere.example"
    assert one.from_ is not None
    assert one.from_.uri == "sip:200@pbx.example"
    assert one.hop.host == "pbx.example"


@pytest.mark.parametrize(
    ("proxy", "hop"),
    [
        ("proxy.example", Hop(transport="UDP", host="proxy.example", port=0)),
        ("proxy.example:5070", Hop(transport="UDP", host="proxy.example", port=5070)),
        ("sip:proxy.example;transport=tls", Hop(transport="TLS", host="proxy.example", port=0)),
    ],
)
def test_an_outbound_proxy_is_where_everything_goes(proxy: str, hop: Hop) -> None:
    trunk = RegisterTrunk(trunk_id="pbx", server="pbx.example", username="200", outbound_proxy=proxy)
    assert registrar_of(trunk)[0] == hop


def test_gateways_are_tried_in_order_with_their_own_uris() -> None:
    first, second = destinations(SipUri.parse("sip:4711@ignored"), CARRIER)
    assert (str(first.target), first.hop.transport) == ("sip:4711@a.example;transport=tcp", "TCP")
    assert (str(second.target), second.hop.port) == ("sips:4711@b.example:5099", 5099)


def test_a_trunk_without_targets_leads_nowhere() -> None:
    with pytest.raises(UnreachableError, match="no targets"):
        destinations(SipUri.parse("sip:1@x"), GatewayTrunk(trunk_id="in", peers=("192.0.2.1",)))


def test_a_number_is_dialled_by_a_trunk_s_domain() -> None:
    assert str(target_of("+4930123", PBX)) == "sip:+4930123@pbx.example"
    assert str(target_of("+4930123", CARRIER)) == "sip:+4930123@a.example;transport=tcp"
    assert str(target_of("sip:a@b", PBX)) == "sip:a@b"
    with pytest.raises(SipParseError):
        target_of("+4930123", None)


async def test_a_dead_first_gateway_costs_no_call() -> None:
    async with phone(SILENT) as callee, phone(SILENT) as caller:
        trunk = GatewayTrunk(trunk_id="gw", targets=("sip:127.0.0.1:9", f"sip:127.0.0.1:{callee.address.port}"))
        caller.phone.manager.place(PlaceCall(target=SipUri.parse("sip:demo@x"), agent=SILENT, trunk=trunk))
        await caller.facts.until(CallAnswered)
        first, second = caller.facts.of(WayTaken)
        assert (first.server, first.problem) == ("127.0.0.1:9/UDP", "")
        assert second.server == f"127.0.0.1:{callee.address.port}/UDP"
        assert "refused" in second.problem
        assert first.sip_call_id != second.sip_call_id


async def test_a_server_at_fault_hands_over_and_a_busy_one_does_not() -> None:
    async with Registrar() as first, phone(SILENT) as callee, phone(SILENT) as caller:
        targets = (f"sip:127.0.0.1:{first.address.port}", f"sip:127.0.0.1:{callee.address.port}")
        command = PlaceCall(
            target=SipUri.parse("sip:demo@x"), agent=SILENT, trunk=GatewayTrunk(trunk_id="gw", targets=targets)
        )
        first.invite_status = 503
        caller.phone.manager.place(command)
        await caller.facts.until(CallAnswered)
        assert caller.facts.of(WayTaken)[1].problem.startswith("503")
    async with Registrar() as busy, phone(SILENT) as callee, phone(SILENT) as caller:
        targets = (f"sip:127.0.0.1:{busy.address.port}", f"sip:127.0.0.1:{callee.address.port}")
        command = PlaceCall(
            target=SipUri.parse("sip:demo@x"), agent=SILENT, trunk=GatewayTrunk(trunk_id="gw", targets=targets)
        )
        caller.phone.manager.place(command)
        ended = await caller.facts.until(CallEnded)
        assert (ended.sip_code, ended.cause) == (486, "refused")
        assert caller.facts.of(CallRefused)[0].fix
        assert len(caller.facts.of(WayTaken)) == 1


async def test_a_silent_gateway_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "NEXT_WAY_S", 0.2)
    async with Registrar() as silent, phone(SILENT) as callee, phone(SILENT) as caller:
        silent.silent = True
        targets = (f"sip:127.0.0.1:{silent.address.port}", f"sip:127.0.0.1:{callee.address.port}")
        trunk = GatewayTrunk(trunk_id="gw", targets=targets)
        caller.phone.manager.place(PlaceCall(target=SipUri.parse("sip:demo@x"), agent=SILENT, trunk=trunk))
        await caller.facts.until(CallAnswered)
        assert "no sign of life" in caller.facts.of(WayTaken)[1].problem


async def test_when_every_way_fails_the_last_problem_is_told() -> None:
    async with phone(SILENT) as caller:
        trunk = GatewayTrunk(trunk_id="gw", targets=("sip:127.0.0.1:9", "sip:127.0.0.1:10"))
        caller.phone.manager.place(PlaceCall(target=SipUri.parse("sip:demo@x"), agent=SILENT, trunk=trunk))
        ended = await caller.facts.until(CallEnded)
        assert (ended.cause, ended.reason) == ("unreachable", "Connection refused")
        assert len(caller.facts.of(WayTaken)) == 2


DESK = RegisterTrunk(trunk_id="desk", server="PBX.example", username="200")
PORTED = GatewayTrunk(trunk_id="ported", targets=("sip:192.0.2.1:5070",))
TRADE = GatewayTrunk(trunk_id="trade", targets=("sip:sbc.example;transport=tcp",))


@pytest.mark.parametrize(
    ("target", "trunk", "by_it"),
    [
        ("200", DESK, True),
        ("tel:+4930", DESK, True),
        ("sip:200@pbx.example", DESK, True),
        ("sip:200@elsewhere.example", DESK, False),
        ("+4930", TRADE, True),
        ("sip:+4930@sbc.example;transport=tcp", TRADE, True),
        ("sip:600@elsewhere.example", TRADE, False),
        ("sip:600@sbc.example:5070", TRADE, True),
        ("sip:600@192.0.2.1:5070", PORTED, True),
        ("sip:600@192.0.2.1", PORTED, True),
        ("sip:600@192.0.2.1:5080", PORTED, False),
        ("sip:200@pbx.example:5070", DESK, True),
        (
            "sip:200@pbx.example:5070",
            RegisterTrunk(trunk_id="desk", server="pbx.example", username="200", port=5080),
            False,
        ),
        ("sip:600@elsewhere.example", OpenTrunk(trunk_id="any"), True),
        ("200", None, False),
    ],
)
def test_a_second_party_is_called_by_the_trunk_that_leads_there(target: str, trunk: Trunk | None, by_it: bool) -> None:
    assert trunk_towards(target, trunk) == (trunk if by_it else None)
