"""Random events at random moments in calls that are transferred: whatever happens, each transfer ends once, each call
last of all, and nothing is left. A seed that failed is printed; pass it to ``crowd`` to see it again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from tests.call.exchange import (
    BRIEFER,
    CALLER,
    OPEN,
    SLOW_TARGET,
    TARGET,
    WILLING,
    Doorman,
    dying,
    transferring,
)
from tests.call.phones import NOTHING_LEFT, Facts, TestPhone, phone, scripted

from offhook.call.dialling import PlaceCall
from offhook.call.inbox import Hold
from offhook.call.leg import Leg
from offhook.call.session import CallSession
from offhook.model.audio import Encoding
from offhook.model.call_events import (
    CallEnded,
    CallEvent,
    LegDialled,
    LegEnded,
    PartyReplaced,
    TransferEnded,
    TransferStarted,
)
from offhook.model.errors import OffhookError
from offhook.model.records import Agent, TransferDestination
from offhook.model.trunks import CallRules, OpenTrunk
from offhook.sip.uri import SipUri

AT_ONCE = 5
LASTS_S = 2.5
MOST_PAUSE_S = 0.12
SETTLES_S = 25.0
"""The longest that a side's last NOTIFY, a BYE and the rest may be waited for."""

LOUD = OpenTrunk(trunk_id="loud", rules=CallRules(early_media=True))
"""Its callers hear it ring, in G.722."""

TAKING = scripted("taking", steps=[{"after_ms": 300, "do": [{"do": "use_tool", "name": "accept_transfer"}]}])
CODECS = [(Encoding.PCMU,), (Encoding.PCMA, Encoding.PCMU), (Encoding.G722, Encoding.PCMU)]


def agents(fast: TestPhone, door: Doorman) -> list[Agent]:
    """One for each way to transfer, by whose name it is called."""
    slow, nobody = "slow", "sip:nobody@127.0.0.1:9"
    ways = {
        "blind": transferring(fast, "blind"),
        "blind-only": transferring(fast, "blind", fallback=False, no_answer_s=1.0),
        "attended": transferring(fast, "attended", user=slow),
        "attended-fast": transferring(fast, "attended"),
        "bridge": transferring(fast, "bridge", user=slow),
        "busy": transferring(door, "bridge"),
        "nobody": transferring(nobody, "attended"),
        "dying": dying(transferring(fast, "bridge", user=slow)),
        "warm": transferring(fast, "warm", briefing_agent=BRIEFER),
        "warm-taking": transferring(fast, "warm", briefing_agent=TAKING),
        "three": transferring(fast, "warm", briefing_agent=TAKING, after_briefing="three_way"),
        "warm-dying": transferring(fast, "warm", briefing_agent=dying(BRIEFER)),
    }
    return [replace(agent, agent_id=name) for name, agent in ways.items()]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everybody there, and chance. ``did``: what was done, for whoever looks for the cause."""

    rng: random.Random
    caller: TestPhone
    server: TestPhone
    target: TestPhone
    destinations: tuple[TransferDestination, ...]
    did: list[str]

    def some_call(self, of: TestPhone | None = None) -> tuple[TestPhone, CallSession, Leg] | None:
        side = of or self.rng.choice([self.caller, self.server, self.target])
        calls = [call for call in side.phone.manager.calls.values() if call.leg is not None]
        if not calls:
            return None
        call = self.rng.choice(calls)
        return side, call, self.rng.choice(list(call.legs.values()))

    # ── what may happen ──────────────────────────────────────────────────────────────────────────────────

    def hang_up(self) -> None:
        if (found := self.some_call()) is not None:
            found[0].hang_up(found[1])

    def hold(self) -> None:
        if (found := self.some_call()) is not None:
            found[1].deliver(Hold(wanted=self.rng.random() < 0.5))

    def change_codec(self) -> None:
        if (found := self.some_call()) is not None:
            _, _, leg = found
            leg.negotiation._capabilities = replace(leg.negotiation.capabilities, codecs=self.rng.choice(CODECS))
            leg.reinvite()

    def update(self) -> None:
        if (found := self.some_call()) is not None:
            side, _, leg = found
            offer = leg.negotiation.offer()
            self.say(side, lambda core, now: core.update(leg.usage_id, now, offer=offer))

    def press(self) -> None:
        if (found := self.some_call()) is not None:
            found[2].send_info("application/dtmf-relay", f"Signal={self.rng.choice('12345')}\r\n".encode())

    def write(self) -> None:
        if (found := self.some_call()) is not None:
            found[2].send_text("hello")

    def transfer(self) -> None:
        if (found := self.some_call(self.server)) is not None:
            self.server.phone.manager.transfer(found[1].call_id, self.rng.choice(self.destinations))

    def refer_the_server(self) -> None:
        if (found := self.some_call(self.rng.choice([self.caller, self.target]))) is not None:
            found[2].refer(self.rng.choice(self.destinations).target, ())

    def take_a_seat(self) -> None:
        """Somebody calls the server with Replaces for one of its calls."""
        if (found := self.some_call(self.rng.choice([self.caller, self.target]))) is None:
            return
        side, _, leg = found
        replaces = side.phone.endpoint.user_agent.replaces_value(leg.usage_id)
        self.place("take-a-seat", ("Replaces", replaces))

    def hang_up_roughly(self) -> None:
        """The BYE leaves behind the call's back."""
        if (found := self.some_call(self.rng.choice([self.caller, self.target]))) is not None:
            side, _, leg = found
            self.say(side, lambda core, now: core.bye(leg.usage_id, now))

    def say(self, side: TestPhone, act: Callable[..., None]) -> None:
        act(side.phone.endpoint.user_agent, asyncio.get_running_loop().time())
        side.phone.endpoint.flush()

    def place(self, user: str, *headers: tuple[str, str]) -> CallSession:
        target = SipUri.parse(f"sip:{user}@{self.server.address.host}:{self.server.address.port}")
        trunk = self.rng.choice([WILLING, OPEN])
        return self.caller.phone.manager.place(PlaceCall(target=target, agent=CALLER, trunk=trunk, headers=headers))

    async def play(self) -> None:
        acts = [
            self.hang_up, self.hold, self.hold, self.change_codec, self.update, self.press, self.press, self.write,
            self.transfer, self.refer_the_server, self.take_a_seat, self.hang_up_roughly,
        ]  # fmt: skip
        loop = asyncio.get_running_loop()
        over_at = loop.time() + LASTS_S
        while loop.time() < over_at:
            await asyncio.sleep(self.rng.uniform(0, MOST_PAUSE_S))
            act = self.rng.choice(acts)
            self.did.append(act.__name__)
            with suppress(OffhookError):  # not now
                act()


async def crowd(seed: int, calls: int = AT_ONCE) -> None:
    rng = random.Random(seed)
    slow = replace(SLOW_TARGET, agent_id="slow")
    async with phone(TARGET, slow, trunks=(LOUD,)) as target, Doorman([486] * 100) as door:
        some = agents(target, door)
        destinations = tuple(agent.destinations[0] for agent in some)
        async with phone(*some, trunks=(WILLING,), media_timeout_s=2.0) as server, phone(trunks=(WILLING,)) as caller:
            before = asyncio.all_tasks()
            scene = Scene(rng=rng, caller=caller, server=server, target=target, destinations=destinations, did=[])
            for _ in range(calls):
                scene.place(rng.choice(some).agent_id)
            await scene.play()
            await silence(caller, target, server)
            print(f"seed {seed}: {', '.join(scene.did)}")
            for side in (caller, server, target):
                assert side.left_over == NOTHING_LEFT
                check(side.facts)
            assert {task.get_name() for task in asyncio.all_tasks() - before} == set()
            await server.phone.manager.close()


async def silence(*sides: TestPhone) -> None:
    """Everybody hangs up, until nobody is left; whoever comes back meanwhile is hung up on again."""
    async with asyncio.timeout(SETTLES_S):
        while any(side.left_over != NOTHING_LEFT for side in sides):
            for side in sides:
                for call in tuple(side.phone.manager.calls.values()):
                    side.hang_up(call)
            await asyncio.sleep(0.1)


def check(facts: Facts) -> None:
    """The invariants of one phone's calls."""
    by_call: dict[str, list[CallEvent]] = {}
    for event in facts.events:
        by_call.setdefault(event.call_id, []).append(event)
    for call_id, events in by_call.items():
        told = [type(event.fact) for event in events]
        story = f"{call_id}: {[(event.leg_id, event.fact) for event in events]}"
        assert told.count(CallEnded) == 1, story
        assert told[-1] is CallEnded, story
        assert told.count(TransferStarted) == told.count(TransferEnded), story
        check_legs(events, story)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert all(ended.cause != "internal_error" for ended in facts.of(CallEnded)), story


def check_legs(events: list[CallEvent], story: str) -> None:
    """Who was called is told of to his end, once; unless he is whom the call is with from then on."""
    ended = [event.leg_id for event in events if isinstance(event.fact, LegEnded)]
    became_party = {event.leg_id for event in events if isinstance(event.fact, PartyReplaced)}
    called = {event.leg_id for event in events if isinstance(event.fact, LegDialled)}
    assert len(set(ended)) == len(ended), story
    assert called - became_party <= set(ended), story


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_every_transfer_ends(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "offhook"):
        await crowd(seed)
    assert caplog.records == []


@pytest.mark.soak
async def test_whatever_happens_in_a_hundred_crowds(caplog: pytest.LogCaptureFixture) -> None:
    for seed in random.sample(range(2**32), 100):
        print(f"seed {seed}")
        with caplog.at_level(logging.ERROR, "offhook"):
            await crowd(seed)
        assert caplog.records == []
