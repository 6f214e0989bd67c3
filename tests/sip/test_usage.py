"""The table of an INVITE usage."""

from __future__ import annotations

import pytest

from offhook.model.errors import LocalProtocolError
from offhook.sip.usage import USAGE, Usage, UsageInput, UsageState


def usage(state: UsageState) -> Usage:
    return Usage(usage_id=7, state=state, sip_call_id="c", local_tag="t")


@pytest.mark.parametrize("state", UsageState)
@pytest.mark.parametrize("given", UsageInput)
def test_the_table_alone_says_what_a_usage_takes(state: UsageState, given: UsageInput) -> None:
    one = usage(state)
    assert one.can(given) == ((state, given) in USAGE)
    if one.can(given):
        one.advance(given)
        assert one.state is USAGE[state, given]
    else:
        with pytest.raises(LocalProtocolError, match=f"usage 7 is {state.name}: no {given.name}"):
            one.advance(given)
        assert one.state is state


def test_every_state_leads_to_the_end_and_nothing_leads_out_of_it() -> None:
    assert not [key for key in USAGE if key[0] is UsageState.GONE]
    for start in UsageState:
        reached = {start}
        while new := {after for (state, _), after in USAGE.items() if state in reached} - reached:
            reached |= new
        assert UsageState.GONE in reached, start


def test_whoever_has_a_session_can_be_hung_up_on() -> None:
    with_session = {
        UsageState.ANSWERED,
        UsageState.BYE_WANTED,
        UsageState.OFFERED,
        UsageState.CONFIRMED,
        UsageState.ENDING,
    }
    for state in with_session:
        assert (state, UsageInput.BYE_CAME) in USAGE


def test_a_usage_without_dialog_says_so() -> None:
    with pytest.raises(LocalProtocolError, match="no dialog yet"):
        _ = usage(UsageState.CALLING).settled
