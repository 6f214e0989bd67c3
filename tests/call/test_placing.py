"""From what somebody wants to call to the command that does it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.call.phones import SILENT

from offhook.call.destination_policy import DestinationPolicy
from offhook.call.dialling import PlaceCall
from offhook.call.placing import WantedCall, plan_call
from offhook.model.errors import CannotPlaceError
from offhook.model.trunks import CallRules, GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk

PBX = RegisterTrunk(trunk_id="pbx", server="pbx.example", username="200")
CARRIER = GatewayTrunk(
    trunk_id="gw", targets=("sip:gw.example",), rules=CallRules(caller_ids=("+4930111", "+4930222"), region="DE")
)
BERLIN = RegisterTrunk(
    trunk_id="berlin", server="sip.example", username="4930333", rules=CallRules(caller_ids=("+4930444",))
)
INBOUND = GatewayTrunk(trunk_id="in", peers=("192.0.2.0/24",))
OPEN = OpenTrunk(trunk_id="open")


def planned(target: str, *trunks: Trunk, online: tuple[str, ...] = (), **wanted: Any) -> PlaceCall:
    """The command for a call to ``target``."""
    policy = wanted.pop("policy", DestinationPolicy())
    return plan_call(WantedCall(target=target, agent=SILENT, **wanted), trunks, online, policy)


def refused(target: str, *trunks: Trunk, **wanted: Any) -> CannotPlaceError:
    with pytest.raises(CannotPlaceError) as caught:
        planned(target, *trunks, **wanted)
    return caught.value


@pytest.mark.parametrize("target", ["+61400000000", "+1234567890", "+1 (234) 567-890", "tel:+61-400-000-000"])
def test_the_numbers_of_the_seed_are_dialled_assigned_or_not(target: str) -> None:
    command = planned(target, PBX)
    assert command.target.user in ("+61400000000", "+1234567890")
    assert (command.target.host, command.trunk) == ("pbx.example", PBX)


def test_a_number_goes_by_the_trunk_that_is_named() -> None:
    assert planned("+4930123", PBX, CARRIER, trunk_id="gw").trunk == CARRIER


def test_else_by_one_that_has_the_caller_id() -> None:
    assert planned("+4930123", PBX, CARRIER, online=("pbx",), caller_id="+49 30 222").trunk == CARRIER


def test_else_by_one_that_is_online() -> None:
    assert planned("+4930123", PBX, BERLIN, online=("berlin",)).trunk == BERLIN


def test_else_by_the_first_that_calls_out() -> None:
    assert planned("+4930123", OPEN, INBOUND, PBX, BERLIN).trunk == PBX


def test_a_uri_of_a_trunk_goes_by_it_and_others_by_the_open_network() -> None:
    assert planned("sip:200@pbx.example", CARRIER, PBX).trunk == PBX
    elsewhere = planned("sip:alice@example.org;transport=tcp", CARRIER, PBX)
    assert (elsewhere.trunk, str(elsewhere.target)) == (None, "sip:alice@example.org;transport=tcp")


@pytest.mark.parametrize(
    ("target", "user"),
    [("030 123456", "+4930123456"), ("0061 400 000 000", "+61400000000"), ("200", "200"), ("alice", "alice")],
)
def test_a_national_number_is_one_of_the_trunk_s_region(target: str, user: str) -> None:
    assert planned(target, CARRIER).target.user == user


def test_without_a_trunk_a_number_is_an_error_that_says_what_to_configure() -> None:
    error = refused("+4930123", OPEN, INBOUND)
    assert (error.kind, error.field) == ("invalid", "target")
    assert "SIP_USERNAME" in error.fix
    assert "trunks" in error.fix


def test_a_trunk_that_is_none_is_an_error_that_names_those_there_are() -> None:
    error = refused("+4930123", PBX, CARRIER, INBOUND, trunk_id="in")
    assert (error.kind, error.field) == ("invalid", "trunk_id")
    assert "pbx, gw" in error.fix


@pytest.mark.parametrize("target", ["", "a b", "sip:", "http://example.org", "x" * 513, "sip:a@b@c"])
def test_what_nobody_can_be_called_by_is_an_error(target: str) -> None:
    error = refused(target, PBX)
    assert (error.kind, error.field) == ("invalid", "target")


def test_the_first_caller_id_is_shown_where_none_is_asked_for() -> None:
    assert planned("+4930123", CARRIER).caller_id == "+4930111"
    assert planned("+4930123", CARRIER).from_user == "+4930111"
    assert planned("+4930123", PBX).caller_id == ""


@pytest.mark.parametrize("asked", ["+4930222", "0049 30 222", "tel:+49-30-222", "+49 (0)30 222"])
def test_a_caller_id_may_be_written_in_any_way(asked: str) -> None:
    assert planned("+4930123", CARRIER, caller_id=asked).caller_id == "+4930222"


@pytest.mark.parametrize("asked", ["200", "4930333", "+4930333"])
def test_a_register_trunk_s_own_number_may_be_shown(asked: str) -> None:
    trunk = PBX if asked == "200" else BERLIN
    assert planned("+4930123", trunk, caller_id=asked).caller_id == trunk.username


def test_any_other_caller_id_is_an_error_that_names_those_there_are() -> None:
    error = refused("+4930123", CARRIER, caller_id="+4930999")
    assert (error.kind, error.field) == ("invalid", "caller_id")
    assert "+4930111, +4930222" in error.fix


def test_by_the_open_network_a_number_that_any_trunk_verified_may_be_shown() -> None:
    assert planned("sip:alice@example.org", CARRIER, caller_id="+4930222").from_user == "+4930222"
    assert refused("sip:alice@example.org", PBX, caller_id="+4930222").field == "caller_id"


@pytest.mark.parametrize("target", ["+19005551234", "sip:+19005551234@elsewhere.example", "tel:+1-900-555-1234", "112"])
def test_what_the_policy_refuses_is_not_placed(target: str) -> None:
    error = refused(target, PBX)
    assert (error.kind, error.field) == ("forbidden", "target")
    assert "dialling.permit" in error.fix
