"""The tables of REFER's usages, and how they are kept."""

from __future__ import annotations

from enum import Enum

import pytest
from tests.sip.network import Network, dial

from offhook.model.errors import LocalProtocolError
from offhook.sip.refer_usage import (
    ASKED,
    REFERS_A_CALL,
    SERVED,
    AskedInput,
    AskedRefer,
    AskedState,
    ReferUsages,
    ServedState,
)
from offhook.sip.usage import Usage


def usage() -> Usage:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    return alice.agent._parts.usages[call.caller]


def asked(of: Usage, refer_id: int = 7) -> AskedRefer:
    return AskedRefer(
        refer_id=refer_id,
        usage_id=of.usage_id,
        dialog=of.settled,
        trunk_id="",
        credentials=None,
        known_hosts=frozenset(),
    )


@pytest.mark.parametrize("state", AskedState)
@pytest.mark.parametrize("given", AskedInput)
def test_the_table_alone_says_what_a_refer_takes(state: AskedState, given: AskedInput) -> None:
    one = asked(usage())
    one.state = state
    if (state, given) in ASKED:
        one.advance(given)
        assert one.state is ASKED[state, given]
    else:
        with pytest.raises(LocalProtocolError, match=f"REFER 7 is {state.name}: no {given.name}"):
            one.advance(given)
        assert one.state is state


def test_every_state_leads_to_the_end_and_nothing_leads_out_of_it() -> None:
    assert AskedState.OVER not in {state for state, _ in ASKED}
    assert ServedState.OVER not in {state for state, _ in SERVED}
    steps = [(before, after) for table in (ASKED, SERVED) for (before, _), after in table.items()]
    for start in (*AskedState, *ServedState):
        reached: set[Enum] = {start}
        while new := {after for before, after in steps if before in reached} - reached:
            reached |= new
        assert reached & {AskedState.OVER, ServedState.OVER}, start


def test_room_is_counted_by_role_and_call() -> None:
    refers, one = ReferUsages(most=REFERS_A_CALL + 3), usage()
    kept = [asked(one, refers.new_id()) for _ in range(REFERS_A_CALL)]
    for refer in kept:
        assert refers.room_for(AskedRefer, one)
        refers.add(refer)
    assert not refers.room_for(AskedRefer, one)
    refers.drop(kept[0])
    assert refers.room_for(AskedRefer, one)
    dialog = one.settled
    assert refers.asked_in(dialog.sip_call_id, dialog.local_tag, dialog.remote_tag) == kept[1:]
    assert refers.asked_in(dialog.sip_call_id, dialog.local_tag, "other") == []
    for refer in kept[1:]:
        refers.drop(refer)
    assert len(refers) == 0
    assert refers.asked_in(dialog.sip_call_id, dialog.local_tag, dialog.remote_tag) == []
