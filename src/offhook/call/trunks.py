"""The trunks at work: registers and stays registered, looks whether gateways live, and says what became of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, assert_never

from offhook.call.ways import address_of_record, credentials_of, hop_of, registrar_of
from offhook.model.errors import OffhookError
from offhook.model.trunks import DEFAULT_RULES, GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk, TrunkChanged
from offhook.signaling.endpoint import SipEndpoint
from offhook.sip.admission import Admission
from offhook.sip.digest import DigestClient, parse_challenges
from offhook.sip.events import Address, Flow, Hop, OptionsAnswered, RegistrationChanged, RegistrationDue
from offhook.sip.headers import NameAddr
from offhook.sip.registration import Account, Ways
from offhook.sip.session_interval import SessionTimerRules
from offhook.sip.uri import SipUri

KEEP_OPEN_S = 20.0
"""Between two empty packets to a registrar by UDP: translators forget a binding after 30 s at the worst (RFC 4787)."""

LOOK_AFTER_S = 60.0
"""Between two OPTIONS to a gateway that lives, and ..."""

LOOK_AGAIN_S = 10.0
"""... to one that does not."""

TrunkEvent = RegistrationDue | RegistrationChanged | OptionsAnswered

_Phase = Literal["new", "at_work", "left", "stopped"]
"""``left``: the bindings are taken back, and the ways to the servers kept open for the calls that go on."""

_log = logging.getLogger("offhook.trunks")


@dataclass(slots=True)
class _Registered:
    trunk: RegisterTrunk
    flow: Flow | None = None


@dataclass(slots=True)
class _Looked:
    """A gateway trunk, and the target that is being asked."""

    trunk: GatewayTrunk
    asking: int = 0
    hop: Hop | None = None


class Trunks:
    """Every trunk of this node. ``on_change`` is told each ``TrunkChanged``; ``states`` holds the latest of each.

    The last that is told of a trunk which was removed is ``stopped``; then it has no state any more.
    """

    def __init__(
        self,
        trunks: Sequence[Trunk],
        *,
        endpoint: SipEndpoint,
        admission: Admission,
        on_change: Callable[[TrunkChanged], None],
    ) -> None:
        self._endpoint = endpoint
        self._admission = admission
        self._on_change = on_change
        self._registered: dict[int, _Registered] = {}
        self._looking: dict[str, _Looked] = {}
        self._asked: dict[int, _Looked] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._states: dict[str, TrunkChanged] = {}
        self._phase: _Phase = "new"
        self._none_bound = asyncio.Event()
        self._use(trunks)

    @property
    def states(self) -> Mapping[str, TrunkChanged]:
        return MappingProxyType(self._states)

    def trunk(self, trunk_id: str) -> Trunk | None:
        """As it is now; None where there is none of that id any more."""
        return self._trunks.get(trunk_id)

    def credentials(self, trunk_id: str) -> DigestClient | None:
        """What answers the challenges of that trunk's peers, in calls that came by it."""
        return self._credentials.get(trunk_id)

    def start(self) -> None:
        """Register where we are an extension; look after gateways we call."""
        self._phase = "at_work"
        for trunk_id in self._trunks:
            self._settle(trunk_id)
        self._endpoint.flush()

    def update(self, trunks: Sequence[Trunk]) -> None:
        """These are the trunks from now on; what did not change is left in peace, and calls go on as they began.

        New ones register and removed ones take their binding back. A changed one does both, and registers anew only
        when the old binding is gone: the two may have the same contact, and the end of one would end the other.
        """
        before = self._trunks
        self._use(trunks)
        if before and not trunks:
            _log.warning("no trunk is left: anyone who reaches this server may call")
        if self._phase != "at_work":
            return
        for trunk_id in {**before, **self._trunks}:
            if _kept_up(before.get(trunk_id)) != _kept_up(self._trunks.get(trunk_id)):
                self._settle(trunk_id)
        self._endpoint.flush()

    async def leave(self, grace_s: float) -> None:
        """Take every binding back, for servers to send us nothing new; wait for the answers for at most ``grace_s``.

        The ways to the servers are kept open until ``stop``: those of calls that go on have to reach us.
        """
        if self._phase != "stopped":
            self._phase = "left"
        for trunk_id in tuple(self._looking):
            self._stop_looking(trunk_id)
        for registration_id in tuple(self._registered):
            self._endpoint.user_agent.unregister(registration_id, time.monotonic())
        self._endpoint.flush()
        if not self._registered:
            return
        try:
            await asyncio.wait_for(self._none_bound.wait(), grace_s)
        except TimeoutError:
            _log.warning("not every server confirmed the end of our registration in %.0f s", grace_s)

    async def stop(self, grace_s: float) -> None:
        """``leave``, and let go of everything."""
        await self.leave(grace_s)
        self._phase = "stopped"
        for key in tuple(self._timers):
            self._cancel(key)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def address_changed(self) -> None:
        """We are known by another address: tell every registrar."""
        now = time.monotonic()
        for registration_id in self._registered:
            self._endpoint.user_agent.refresh_registration(registration_id, now)
        self._endpoint.flush()

    def on_sip(self, event: TrunkEvent) -> None:
        match event:
            case RegistrationDue(registration_id=registration_id):
                self._spawn(self._find_registrar(registration_id))
            case RegistrationChanged():
                self._registration_changed(event)
            case OptionsAnswered():
                looked = self._asked.pop(event.token, None)
                if looked is not None and self._is_current(looked):
                    self._looked(looked, event)

    def _use(self, trunks: Sequence[Trunk]) -> None:
        """What calls come and go by from now on."""
        self._trunks = {trunk.trunk_id: trunk for trunk in trunks}
        self._credentials = {trunk.trunk_id: credentials_of(trunk) for trunk in trunks}
        self._admission.use(trunks)
        agent = self._endpoint.user_agent
        timers = {trunk.trunk_id: SessionTimerRules.of(trunk.rules) for trunk in trunks}
        agent.use_session_timers({"": SessionTimerRules.of(DEFAULT_RULES)} | timers)
        agent.require_reliable(trunk.trunk_id for trunk in trunks if trunk.rules.reliable_provisional == "required")

    def _settle(self, trunk_id: str) -> None:
        """Do for a trunk what it wants now, and end what is done for what it was."""
        self._stop_looking(trunk_id)
        bound = [number for number, one in self._registered.items() if one.trunk.trunk_id == trunk_id]
        for number in bound:
            self._endpoint.user_agent.unregister(number, time.monotonic())
        if bound:
            return  # it is settled again when that is gone
        trunk = self._trunks.get(trunk_id)
        match trunk:
            case RegisterTrunk():
                self._register(trunk)
            case GatewayTrunk() if trunk.targets:
                self._look_at(trunk)
            case GatewayTrunk() | OpenTrunk() | None:
                self._forget(trunk_id)
            case _:
                assert_never(trunk)

    def _forget(self, trunk_id: str) -> None:
        """Nothing is known any more of a trunk that is gone, or that needs no upkeep now."""
        before = self._states.get(trunk_id)
        if before is not None and before.phase != "stopped":
            self._tell(TrunkChanged(trunk_id=trunk_id, phase="stopped", at=time.time()))
        self._states.pop(trunk_id, None)

    # ── registrations ────────────────────────────────────────────────────────────────────────────────────

    def _register(self, trunk: RegisterTrunk) -> None:
        aor = address_of_record(trunk)
        account = Account(
            registrar=replace(aor, user=None),
            aor=NameAddr(uri=str(aor)),
            contact_user=trunk.username,
            credentials=self._credentials[trunk.trunk_id],
            expires_s=trunk.expires_s,
            outside_host=self._endpoint.advertised.fixed,
        )
        self._tell(TrunkChanged(trunk_id=trunk.trunk_id, phase="registering", at=time.time()))
        self._registered[self._endpoint.user_agent.register(account)] = _Registered(trunk)

    async def _find_registrar(self, registration_id: int) -> None:
        one = self._registered.get(registration_id)
        if one is None:
            return
        try:
            ways = await self._endpoint.ways_to(*registrar_of(one.trunk))
        except (OSError, OffhookError) as error:
            if registration_id in self._registered:
                self._endpoint.user_agent.no_way_to_register(registration_id, str(error), time.monotonic())
        else:
            self._found_registrar(registration_id, ways)
        self._endpoint.flush()

    def _found_registrar(self, registration_id: int, ways: Ways) -> None:
        one = self._registered.get(registration_id)
        if one is None:
            return  # it was left meanwhile
        if _kept_up(self._trunks.get(one.trunk.trunk_id)) == _kept_up(one.trunk):
            self._admission.trust(one.trunk.trunk_id, {hop.host for _, hop in ways})
        self._endpoint.user_agent.register_by(registration_id, ways, time.monotonic())

    def _registration_changed(self, event: RegistrationChanged) -> None:
        one = self._registered.get(event.registration_id)
        if one is None:
            return
        trunk_id, now = one.trunk.trunk_id, time.time()
        before = self._states.get(trunk_id)
        if event.next_hop is not None and event.phase in {"online", "failed"}:
            self._endpoint.reached(event.next_hop, works=event.phase == "online" or event.status is not None)
        if event.phase == "failed":
            hop, _ = registrar_of(one.trunk)
            self._endpoint.forget_name(hop.host)
        self._keep_open(one, event)
        self._tell(
            TrunkChanged(
                trunk_id=trunk_id,
                phase=event.phase,
                at=now,
                sip_code=event.status if event.phase == "failed" else None,
                reason=event.reason if event.phase == "failed" else "",
                fix=explain_registration(event) if event.phase == "failed" else "",
                refreshed_at=now if event.phase == "online" else _refreshed_at(before),
                expires_at=None if event.expires_s is None else now + event.expires_s,
                retry_at=None if event.retry_s is None else now + event.retry_s,
                server="" if event.next_hop is None else shown(event.next_hop),
            )
        )
        if event.phase == "stopped":
            del self._registered[event.registration_id]
            self._left(trunk_id)

    def _left(self, trunk_id: str) -> None:
        """A binding is taken back: because we stop, or because the trunk is another now, or none."""
        if self._phase == "at_work":
            self._settle(trunk_id)
        elif not self._registered:
            self._none_bound.set()

    def _keep_open(self, one: _Registered, event: RegistrationChanged) -> None:
        """Learn how the server sees us, and keep its way to us open."""
        advertised = self._endpoint.advertised
        if event.phase == "online" and event.flow is not None:
            one.flow = event.flow
            if event.seen_as is not None:
                local = Address(event.flow.bind_host, self._listening_port(event.flow))
                advertised.learn(event.flow.remote.host, local, event.seen_as, event.flow.transport)
        elif event.phase == "failed" or (event.phase == "stopped" and self._phase == "at_work"):
            self._lose_way(one)
        key = f"keep {one.trunk.trunk_id}"
        if key not in self._timers and one.flow is not None:
            self._later(key, KEEP_OPEN_S, lambda: self._send_nothing(one, key))

    def _lose_way(self, one: _Registered) -> None:
        """Nobody there sends us anything any more; how the server sees us may be another trunk's business, too."""
        flow, one.flow = one.flow, None
        if flow is None:
            return
        self._cancel(f"keep {one.trunk.trunk_id}")
        way = (flow.remote.host, flow.transport)
        others = (other.flow for other in self._registered.values() if other.flow is not None)
        if all((other.remote.host, other.transport) != way for other in others):
            self._endpoint.advertised.forget(*way)

    def _send_nothing(self, one: _Registered, key: str) -> None:
        if one.flow is not None:
            if one.flow.transport == "UDP":
                self._endpoint.keep_open(one.flow)
            self._later(key, KEEP_OPEN_S, lambda: self._send_nothing(one, key))

    def _listening_port(self, flow: Flow) -> int:
        """Our own port, which a translator may have changed in ``flow``."""
        ports = [address.port for transport, address in self._endpoint.listening if transport == flow.transport]
        return flow.local.port if not flow.interface or not ports else ports[0]

    # ── gateways ─────────────────────────────────────────────────────────────────────────────────────────

    def _look_at(self, trunk: GatewayTrunk) -> None:
        looked = self._looking[trunk.trunk_id] = _Looked(trunk)
        self._spawn(self._look(looked))

    def _stop_looking(self, trunk_id: str) -> None:
        """What comes back to a question that is under way means nothing any more."""
        self._looking.pop(trunk_id, None)
        self._cancel(f"look {trunk_id}")

    def _is_current(self, looked: _Looked) -> bool:
        return self._looking.get(looked.trunk.trunk_id) is looked

    async def _look(self, looked: _Looked) -> None:
        """Ask a gateway's target for a sign of life."""
        trunk = looked.trunk
        target = SipUri.parse(trunk.targets[looked.asking])
        try:
            ((flow, hop), *_) = await self._endpoint.ways_to(*hop_of(target))
        except (OSError, OffhookError) as error:
            if self._is_current(looked):
                self._gateway_failed(looked, str(error))
            return
        if not self._is_current(looked):
            return
        looked.hop = hop
        token = self._endpoint.user_agent.options(
            target=target,
            from_=NameAddr(uri=str(SipUri(user="offhook", host=flow.local.host))),
            flow=flow,
            next_hop=hop,
            credentials=credentials_of(trunk),
            now=time.monotonic(),
        )
        self._asked[token] = looked
        self._endpoint.flush()

    def _looked(self, looked: _Looked, event: OptionsAnswered) -> None:
        """Any answer is a sign of life: many gateways answer OPTIONS with 403, 404 or 405."""
        if looked.hop is None:
            return
        alive = event.response is not None and event.response.status not in {408, 503}
        self._endpoint.reached(looked.hop, works=alive)
        if not alive:
            status = "no answer" if event.response is None else f"{event.response.status} {event.response.reason}"
            self._gateway_failed(looked, f"{shown(looked.hop)}: {status} to OPTIONS")
            return
        trunk_id, now = looked.trunk.trunk_id, time.time()
        self._tell(TrunkChanged(trunk_id=trunk_id, phase="online", at=now, refreshed_at=now, server=shown(looked.hop)))
        self._later(f"look {trunk_id}", LOOK_AFTER_S, lambda: self._look_at(looked.trunk))

    def _gateway_failed(self, looked: _Looked, problem: str) -> None:
        trunk = looked.trunk
        if looked.asking + 1 < len(trunk.targets):
            looked.asking += 1
            self._spawn(self._look(looked))
            return
        before, now = self._states.get(trunk.trunk_id), time.time()
        self._tell(
            TrunkChanged(
                trunk_id=trunk.trunk_id,
                phase="failed",
                at=now,
                reason=problem,
                fix="check the targets of this trunk, their port and transport, and the firewall between",
                refreshed_at=_refreshed_at(before),
                retry_at=now + LOOK_AGAIN_S,
            )
        )
        self._later(f"look {trunk.trunk_id}", LOOK_AGAIN_S, lambda: self._look_at(trunk))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, changed: TrunkChanged) -> None:
        self._states[changed.trunk_id] = changed
        self._on_change(changed)

    def _later(self, key: str, delay_s: float, act: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.pop(key, None)
            act()

        self._cancel(key)
        if self._phase != "stopped":
            self._timers[key] = asyncio.get_running_loop().call_later(delay_s, fire)

    def _cancel(self, key: str) -> None:
        handle = self._timers.pop(key, None)
        if handle is not None:
            handle.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _kept_up(trunk: Trunk | None) -> RegisterTrunk | GatewayTrunk | None:
    """What of a trunk its registration, or the look at its gateway, depends on; None where it has neither."""
    match trunk:
        case RegisterTrunk():
            return replace(trunk, rules=DEFAULT_RULES)
        case GatewayTrunk() if trunk.targets:
            return replace(trunk, rules=DEFAULT_RULES, peers=(), require_digest=False, digest_algorithms=())
        case GatewayTrunk() | OpenTrunk() | None:
            return None
        case _:
            assert_never(trunk)


def _refreshed_at(state: TrunkChanged | None) -> float | None:
    return None if state is None else state.refreshed_at


def shown(hop: Hop) -> str:
    host = f"[{hop.host}]" if ":" in hop.host else hop.host
    return f"{host}:{hop.port}/{hop.transport}"


def explain_registration(event: RegistrationChanged) -> str:
    """What to change, by what the registrar said."""
    if event.status is None:
        return "check server, port and transport of this trunk, DNS, and the firewall between; is the server running?"
    if event.status in {401, 407} and event.response is not None:
        header = "WWW-Authenticate" if event.status == 401 else "Proxy-Authenticate"
        if not parse_challenges(event.response.headers.get_all(header)):
            return "the server offers no digest with MD5 or SHA-256 and qop=auth: enable one of them there"
    return REGISTRATION_FIXES.get(event.status, "ask the operator of the server what this status means there")


REGISTRATION_FIXES = {
    301: "the server names another place: set server to the one in its Contact",
    302: "the server names another place: set server to the one in its Contact",
    401: "the server does not take username, auth_id and password: compare them with the extension's there",
    403: "the server forbids it: check username and password, and whether it takes registrations from our address",
    404: "the server knows no such extension: check username and domain",
    405: "this is no registrar: check server and port",
    407: "a proxy does not take username, auth_id and password: compare them with the extension's there",
    416: "the server does not take our scheme or transport: check transport",
    420: "the server wants an extension that offhook does not have: switch it off for this account",
    423: "the server wants a longer expiry than a day: it is set up wrongly",
    503: "the server is overloaded or stopping; it is tried again",
    606: "the server does not accept our contact address: set sip.advertised_address",
}
"""By status (RFC 3261 §21)."""
