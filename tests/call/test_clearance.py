"""Whether a call of ours may be made: at what hour, how many at once, and that no path passes by the policy."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.call.exchange import OPEN, WILLING, Doorman, calling, outcome, target_phone, transferring
from tests.call.phones import SILENT, phone
from tests.call.registrar import Registrar

import offhook
from offhook.call.clearance import CallingHours, Clearance, DialRules
from offhook.call.destination_policy import DestinationPolicy, RangeKind
from offhook.call.dialling import PlaceCall
from offhook.model.call_events import (
    CallArrived,
    CallEnded,
    CallRefused,
    LegDialled,
    PartyReplaced,
    TransferMode,
    WayTaken,
)
from offhook.model.errors import CannotPlaceError
from offhook.model.trunks import CallRules, GatewayTrunk, RegisterTrunk, Trunk
from offhook.sip.uri import SipUri

PREMIUM = "+19005551234"
ALL: frozenset[RangeKind] = frozenset({"premium", "shared_cost", "satellite", "emergency"})
BERLIN = ZoneInfo("Europe/Berlin")


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def cleared(**rules: object) -> Clearance:
    return Clearance(DialRules(**rules))  # type: ignore[arg-type]  # a test's own words


# ── hours ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hours", "at", "wait_s"),
    [
        ("08:00-20:30", "2026-11-21 08:00", 0),
        ("08:00-20:30", "2026-11-21 20:29", 0),
        ("08:00-20:30", "2026-11-21 20:30", 11.5 * 3600),
        ("08:00-20:30", "2026-11-21 07:59", 60),
        ("22:00-06:00", "2026-11-21 23:00", 0),
        ("22:00-06:00", "2026-11-21 05:59", 0),
        ("22:00-06:00", "2026-11-21 06:00", 16 * 3600),
    ],
)
def test_hours_are_those_of_the_zone(hours: str, at: str, wait_s: float) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=BERLIN).timestamp()
    assert CallingHours.parse(hours, "Europe/Berlin").opens_in(now) == wait_s


@pytest.mark.parametrize(
    ("at", "wait_s"),
    [
        ("2026-10-25 00:10 +0000", 20 * 60),  # 02:10 in summer
        ("2026-10-25 01:10 +0000", 20 * 60),  # 02:10 again, in winter
        ("2026-10-25 00:40 +0000", 0),
        ("2026-10-25 03:10 +0000", 22 * 3600 + 20 * 60),
    ],
)
def test_an_hour_that_comes_twice_opens_twice(at: str, wait_s: float) -> None:
    now = datetime.strptime(at, "%Y-%m-%d %H:%M %z").timestamp()
    assert CallingHours.parse("02:30-04:00", "Europe/Berlin").opens_in(now) == wait_s


def test_outside_of_the_hours_nothing_is_placed_and_transfers_go_on() -> None:
    night = datetime(2026, 11, 21, 3, 0, tzinfo=BERLIN).timestamp()
    hours = CallingHours.parse("08:00-20:00", "Europe/Berlin")
    clearance = Clearance(DialRules(hours=hours), wall_clock=Clock(night))
    with pytest.raises(CannotPlaceError, match="08:00-20:00 Europe/Berlin") as caught:
        clearance.place("default", None)
    assert (caught.value.kind, caught.value.wait_s) == ("unavailable", 5 * 3600)
    clearance.take("default", None)


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────────


def test_each_account_has_its_own_number_of_calls() -> None:
    clearance = cleared(max_calls=2)
    first = clearance.take("acme", None)
    clearance.take("acme", None)
    clearance.take("other", None)
    with pytest.raises(CannotPlaceError, match="max_calls") as caught:
        clearance.take("acme", None)
    assert caught.value.kind == "too_many"
    first.is_held = lambda: False
    clearance.take("acme", None)
    assert clearance.up == 3


def test_a_trunk_takes_no_more_calls_than_it_may() -> None:
    clearance = cleared()
    small = GatewayTrunk(trunk_id="small", targets=("sip:gw.example",), rules=CallRules(max_calls=1))
    clearance.take("acme", small)
    with pytest.raises(CannotPlaceError, match="trunk small"):
        clearance.take("other", small)
    clearance.take("acme", replace(small, trunk_id="other"))


def test_within_a_minute_no_more_calls_are_made_than_may() -> None:
    clock = Clock()
    clearance = Clearance(DialRules(calls_per_min=2), clock=clock)
    for _ in range(2):
        clearance.take("acme", None).is_held = lambda: False
        clock.now += 10
    with pytest.raises(CannotPlaceError, match="calls_per_min") as caught:
        clearance.take("acme", None)
    assert (caught.value.kind, caught.value.wait_s) == ("too_many", 40)
    clearance.take("other", None)
    clock.now += 40
    clearance.take("acme", None)


async def test_of_twenty_calls_at_once_no_more_are_placed_than_may() -> None:
    async with Doorman() as door, phone(SILENT, clearance=cleared(max_calls=3), teardown_s=0.3) as caller:
        placed, refused = [], []
        for _ in range(20):
            try:
                placed.append(caller.call(door.address))
            except CannotPlaceError as error:
                refused.append(error.kind)
        assert (len(placed), refused) == (3, ["too_many"] * 17)
        for call in placed:
            caller.hang_up(call)
            await caller.over(call)
        again = caller.call(door.address)
        caller.hang_up(again)
        await caller.over(again)
    assert door.received.count("INVITE") <= 4


async def test_a_call_takes_no_longer_than_calls_of_ours_may() -> None:
    async with target_phone() as target, phone(SILENT, clearance=cleared(max_call_s=1)) as caller:
        caller.call(target)
        assert (await caller.ended()).cause == "duration_limit"


async def test_a_transfer_over_the_limit_fails_and_says_so() -> None:
    clearance = cleared(max_calls=1)
    clearance.take("default", None)
    async with (
        Doorman() as door,
        phone(transferring(door, "bridge"), trunks=(OPEN,), clearance=clearance) as server,
        phone(trunks=(OPEN,)) as caller,
        calling(caller, server),
    ):
        ended = await outcome(server)
        assert (ended.outcome, ended.sip_code) == ("refused", 480)
        assert "dialling.max_calls" in ended.reason
        assert server.facts.of(CallRefused)[0].rule == "a limit of calls of ours"
    assert "INVITE" not in door.received


# ── whom ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_to_a_premium_number_is_never_sent_whoever_commands_it() -> None:
    async with Doorman() as door, phone(SILENT) as caller:
        call = caller.call(door.address, user=PREMIUM)
        refused = await caller.facts.until(CallRefused)
        assert refused.status == 403
        assert "premium" in refused.rule
        await caller.over(call)
        (ended,) = caller.facts.of(CallEnded)
        assert (ended.cause, ended.by, ended.sip_code) == ("refused", "system", 403)
        assert not caller.facts.of(WayTaken)
        await caller.quiet()
    assert door.received == []


@pytest.mark.parametrize("target", [f"sip:{PREMIUM}@127.0.0.1:PORT", "sip:%2B190%305551234@127.0.0.1:PORT", "１１２"])
@pytest.mark.parametrize("mode", ["blind", "bridge"])
async def test_no_transfer_reaches_a_premium_number_by_us_nor_by_the_caller_s_side(
    mode: TransferMode, target: str
) -> None:
    async with (
        Doorman() as door,
        phone(transferring(target.replace("PORT", str(door.address.port)), mode), trunks=(OPEN,)) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server),
    ):
        ended = await outcome(server)
        assert (ended.outcome, ended.sip_code) == ("refused", 403)
        assert "destination policy" in ended.reason
        assert server.facts.of(CallRefused)[0].fix
        assert not server.facts.of(LegDialled)
        assert server.phone.manager.calls, "the caller goes on with the agent"
    assert not caller.facts.of(PartyReplaced)
    assert door.received == []


async def test_a_refer_from_outside_to_a_premium_number_is_refused_with_403() -> None:
    reckless = cleared(policy=DestinationPolicy(permit=ALL))
    async with (
        Doorman() as door,
        phone(
            transferring(f"sip:{PREMIUM}@127.0.0.1:{door.address.port}", "blind", fallback=False),
            trunks=(OPEN,),
            clearance=reckless,
        ) as server,
        phone(trunks=(WILLING,)) as caller,
        calling(caller, server),
    ):
        ended = await outcome(server)
        assert (ended.outcome, ended.sip_code) == ("refused", 403)
        (refused,) = caller.facts.of(CallRefused)
        assert (refused.status, "premium" in refused.rule) == (403, True)
        assert not caller.facts.of(LegDialled)
    assert door.received == []


CARRIER = GatewayTrunk(trunk_id="carrier", peers=("127.0.0.0/8",))
THEIR_OWN = "their own"


@pytest.mark.parametrize(
    ("account_id", "by"), [("tenant", None), ("tenant", "127.0.0.1"), ("owner", None), ("owner", "127.0.0.1")]
)
async def test_a_tenant_does_not_call_by_a_gateway_of_another(account_id: str, by: str | None) -> None:
    """Neither by its address, nor by a trunk of his own that leads there: it knows us by our address alone."""
    trunks_for = {"owner": {"carrier"}, "tenant": {THEIR_OWN}}.__getitem__
    async with phone(SILENT) as carrier, phone(trunks=(CARRIER,), trunks_for=trunks_for) as ours:
        port = carrier.address.port
        trunk = None if by is None else GatewayTrunk(trunk_id=THEIR_OWN, targets=(f"sip:{by}:{port}",))
        target = SipUri.parse(f"sip:200@127.0.0.1:{port}")
        command = PlaceCall(target=target, agent=SILENT, trunk=trunk, account_id=account_id)
        call = ours.phone.manager.place(command)
        if account_id == "owner":
            await carrier.facts.until(CallArrived)
            ours.hang_up(call)
        await ours.over(call)
        ended = await ours.ended()
        assert (ended.sip_code == 403, carrier.facts.events == []) == (account_id == "tenant",) * 2


def test_no_path_passes_by() -> None:
    """INVITEs for new calls leave by a dial, REFERs by a transfer, and both ask first."""
    folder = Path(offhook.__file__).parent
    sources = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}

    def having(pattern: str) -> set[str]:
        return {name for name, text in sources.items() if re.search(pattern, text)}

    assert having(r"(user_agent|core)\.invite\(") == {"call/leg.py"}
    assert having(r"(user_agent|core)\.refer\(") == {"call/leg.py"}
    assert having(r"\bleg\.(dial|redial)\(") == {"call/dial.py"}
    assert having(r"_caller\.refer\(|leg\.refer\(") == {"call/transferring.py"}
    asking = {f"call/{name}.py" for name in ("dial", "manager", "redirection", "transferring")}
    assert having(r"clearance\.judge\(") == asking


# ── who calls ────────────────────────────────────────────────────────────────────────────────────────────


async def sent_by(trunk: Trunk, pbx: Registrar, **command: str) -> dict[str, str | None]:
    """What the INVITE of a call by this trunk says of who calls."""
    async with phone(SILENT) as caller:
        target = SipUri.parse(f"sip:200@127.0.0.1:{pbx.address.port}")
        call = caller.phone.manager.place(PlaceCall(target=target, agent=SILENT, trunk=trunk, **command))  # type: ignore[arg-type]  # a test's own words
        await caller.over(call)
    invite = next(one for one in pbx.requests if one.method == "INVITE")
    names = ("P-Preferred-Identity", "P-Asserted-Identity")
    return {"From": invite.from_.sip_uri().user} | {name: invite.headers.get(name) for name in names}


@pytest.mark.parametrize(("caller_id", "shown"), [("", "+4930111"), ("+4930222", "+4930222"), ("+4930999", "+4930111")])
async def test_a_gateway_is_shown_a_verified_number_in_from(caller_id: str, shown: str) -> None:
    async with Registrar() as pbx:
        targets = (f"sip:127.0.0.1:{pbx.address.port}",)
        rules = CallRules(caller_ids=("+4930111", "+4930222"))
        said = await sent_by(GatewayTrunk(trunk_id="gw", targets=targets, rules=rules), pbx, caller_id=caller_id)
    assert said == {"From": shown, "P-Preferred-Identity": None, "P-Asserted-Identity": None}


@pytest.mark.parametrize(("caller_id", "shown"), [("", "+4930111"), ("+4930222", "+4930222"), ("200", None)])
async def test_a_registrar_knows_us_by_from_and_is_asked_to_show_a_number(caller_id: str, shown: str | None) -> None:
    async with Registrar() as pbx:
        trunk = RegisterTrunk(
            trunk_id="pbx",
            server="127.0.0.1",
            port=pbx.address.port,
            username="200",
            domain="pbx.example",
            rules=CallRules(caller_ids=("+4930111", "+4930222")),
        )
        said = await sent_by(trunk, pbx, caller_id=caller_id)
    identity = None if shown is None else f"<sip:{shown}@pbx.example>"
    assert said == {"From": "200", "P-Preferred-Identity": identity, "P-Asserted-Identity": identity}


async def test_a_trunk_without_caller_ids_shows_what_the_call_names() -> None:
    async with Registrar() as pbx:
        trunk = GatewayTrunk(trunk_id="gw", targets=(f"sip:127.0.0.1:{pbx.address.port}",))
        assert (await sent_by(trunk, pbx, from_user="desk"))["From"] == "desk"
