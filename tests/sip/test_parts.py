"""What every procedure shares."""

from __future__ import annotations

from itertools import count

import pytest
from tests.sip.network import Network

from offhook.model.errors import LocalProtocolError
from offhook.sip.parts import Parts, UserAgentLimits, writable
from offhook.sip.usage import UsageState


def parts() -> Parts:
    tokens = count()
    return Parts(product="p", new_token=lambda: f"token{next(tokens)}", limits=UserAgentLimits())


def test_random_fractions_spread_over_the_unit_interval() -> None:
    mine = parts()
    drawn = [mine.new_fraction() for _ in range(2000)]
    assert all(0 <= number < 1 for number in drawn)
    tenths = [sum(int(number * 10) == tenth for number in drawn) for tenth in range(10)]
    assert min(tenths) > 120


def test_a_stateless_tag_is_the_same_for_copies_and_for_nothing_else() -> None:
    net, mine, other = Network(), parts(), Parts(product="p", new_token=lambda: "else", limits=UserAgentLimits())
    peer, bob = net.peer(), net.phone("bob")
    one = peer.build("OPTIONS", bob, branch="z9hG4bKa")
    same = peer.build("OPTIONS", bob, branch="z9hG4bKa")
    next_one = peer.build("OPTIONS", bob, branch="z9hG4bKb")
    assert mine.stateless_tag(one) == mine.stateless_tag(same)
    assert len({mine.stateless_tag(one), mine.stateless_tag(next_one), other.stateless_tag(one)}) == 3
    assert len(mine.stateless_tag(one)) == 16


@pytest.mark.parametrize("line", [("X\r\nY", "v"), ("X", "a\nb"), ("X", "a\rb"), ("", "v"), ("X Y", "v"), ("X:", "v")])
def test_a_header_that_would_break_the_message_is_refused(line: tuple[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        writable([("Fine", "ok"), line])


def test_a_usage_is_found_by_its_tag_until_it_is_dropped() -> None:
    mine = parts()
    usage = mine.add_usage(UsageState.CALLING, "call", "tag")
    assert mine.usage_of("call", "tag") is usage
    assert mine.usage_of("call", "other") is None
    assert mine.usage_of("call", None) is None
    assert mine.usage(usage.usage_id) is usage
    mine.drop_usage(usage, 0.0)
    assert mine.usage_of("call", "tag") is None
    with pytest.raises(LocalProtocolError):
        mine.usage(usage.usage_id)
