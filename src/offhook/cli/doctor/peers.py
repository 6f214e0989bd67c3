"""Whom the trunks lead to: DNS, the address they see us by, REGISTER and OPTIONS with the answer explained."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import AsyncIterator, Mapping

from offhook.call.trunks import Trunks, shown
from offhook.call.ways import address_of_record, credentials_of, hop_of, registrar_of
from offhook.cli.doctor.finding import Finding, fault
from offhook.config import Settings, trunks_of
from offhook.model.errors import OffhookError, UnreachableError
from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk, TrunkChanged
from offhook.server.network import stun_hop, tls_contexts
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.endpoint import SipEndpoint
from offhook.sip.admission import Admission
from offhook.sip.events import (
    Flow,
    Hop,
    OptionsAnswered,
    RegistrationChanged,
    RegistrationDue,
    SipEvent,
    Transport,
)
from offhook.sip.headers import NameAddr
from offhook.sip.message import Response
from offhook.sip.registration import seen_as
from offhook.sip.uri import SipUri
from offhook.sip.user_agent import UserAgent

PATIENCE_S = 12.0
"""For one peer: a REGISTER attempt lasts ten seconds."""

OPTIONS_S = 4.0


class Patient:
    """A SIP endpoint of its own that asks the trunks' servers what the running server would ask them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._answers: dict[int, asyncio.Future[Response | None]] = {}
        sip = settings.sip
        self.endpoint = SipEndpoint(
            user_agent=UserAgent(product="offhook", new_token=lambda: secrets.token_hex(10)),
            listener=self._on_sip,
            tls=tls_contexts(settings),
            nameservers=sip.nameservers,
            advertised=AdvertisedAddresses(sip.advertised_address, sip.local_networks),
        )
        self._trunks: Trunks | None = None

    async def listen(self) -> None:
        """On the configured port where it is free, so that firewalls and translators treat us as the server."""
        sip = self._settings.sip
        transports: tuple[Transport, ...] = ("UDP", "TCP")
        for transport in transports:
            try:
                await self.endpoint.listen(transport, sip.host, sip.port)
            except OffhookError:
                await self.endpoint.listen(transport, sip.host, 0)

    async def register(self, trunk: RegisterTrunk) -> TrunkChanged:
        """Register, look what comes of it, and take it back."""
        outcome: asyncio.Future[TrunkChanged] = asyncio.get_running_loop().create_future()

        def note(changed: TrunkChanged) -> None:
            if changed.phase != "registering" and not outcome.done():
                outcome.set_result(changed)

        trunks = self._trunks = Trunks([trunk], endpoint=self.endpoint, admission=Admission([trunk]), on_change=note)
        trunks.start()
        try:
            return await asyncio.wait_for(outcome, PATIENCE_S)
        except TimeoutError:
            return TrunkChanged(trunk_id=trunk.trunk_id, phase="failed", at=time.time(), reason="no answer in time")
        finally:
            await trunks.stop(2.0)
            self._trunks = None

    async def options(self, target: SipUri, flow: Flow, hop: Hop, trunk: Trunk) -> Response | None:
        """What ``target`` answers to OPTIONS; None: nothing."""
        token = self.endpoint.user_agent.options(
            target=target,
            from_=NameAddr(uri=str(SipUri(user="offhook", host=flow.local.host))),
            flow=flow,
            next_hop=hop,
            credentials=credentials_of(trunk),
            now=time.monotonic(),
        )
        answer = self._answers[token] = asyncio.get_running_loop().create_future()
        self.endpoint.flush()
        try:
            return await asyncio.wait_for(answer, OPTIONS_S)
        except TimeoutError:
            return None

    def _on_sip(self, event: SipEvent) -> None:
        if isinstance(event, OptionsAnswered) and event.token in self._answers:
            answer = self._answers.pop(event.token)
            if not answer.done():
                answer.set_result(event.response)
        elif self._trunks is not None and isinstance(event, RegistrationDue | RegistrationChanged):
            self._trunks.on_sip(event)


async def examine_peers(settings: Settings, serving: Mapping[str, TrunkChanged] | None) -> AsyncIterator[Finding]:
    """``serving``: the states of the running server's trunks; None: none runs, and we register ourselves."""
    patient = Patient(settings)
    try:
        await patient.listen()
        async for finding in _address(settings, patient.endpoint):
            yield finding
        for trunk in trunks_of(settings):
            async for finding in _examine_trunk(settings, patient, trunk, serving):
                yield finding
    finally:
        await patient.endpoint.close()


# ── our address ──────────────────────────────────────────────────────────────────────────────────────────


async def _address(settings: Settings, endpoint: SipEndpoint) -> AsyncIterator[Finding]:
    sip = settings.sip
    if sip.advertised_address and not _is_usable(sip.advertised_address):
        yield fault(
            "address",
            f"sip.advertised_address {sip.advertised_address} is no address that others can send to",
            why="answers and audio of peers outside go nowhere: silent calls that drop after 32 s",
            fix="set it to the public address of this machine or its translator, or use sip.stun_server",
        )
    if not sip.stun_server:
        return
    try:
        await endpoint.discover(stun_hop(sip.stun_server))
    except OffhookError as error:
        yield fault(
            "address",
            f"sip.stun_server: {error}",
            why="our public address stays unknown: peers outside send audio to a private address",
            fix="name a STUN server that answers, let UDP through to it, or set sip.advertised_address",
        )
        return
    seen = endpoint.advertised.seen_by_stun
    if sip.advertised_address and seen and sip.advertised_address not in seen:
        yield fault(
            "address",
            f"sip.advertised_address is {sip.advertised_address}, but STUN sees us as {', '.join(sorted(seen))}",
            why="answers and audio of peers outside go to the wrong machine",
            fix=f"set it to {min(seen)}, or leave it empty and let STUN find it",
        )
    else:
        yield Finding(area="address", what=f"STUN sees us as {', '.join(sorted(seen))}")


def _is_usable(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local)


# ── each trunk ───────────────────────────────────────────────────────────────────────────────────────────


async def _examine_trunk(
    settings: Settings, patient: Patient, trunk: Trunk, serving: Mapping[str, TrunkChanged] | None
) -> AsyncIterator[Finding]:
    area = f"trunk {trunk.trunk_id}"
    match trunk:
        case OpenTrunk():
            yield Finding(area=area, what="lets anyone dial the numbers served")
        case RegisterTrunk():
            async for finding in _examine_target(
                settings, patient, trunk, address_of_record(trunk), registrar_of(trunk)
            ):
                yield finding
            state = serving.get(trunk.trunk_id) if serving is not None else await patient.register(trunk)
            yield _registration(area, state)
        case GatewayTrunk():
            for text in trunk.targets:
                target = SipUri.parse(text)
                async for finding in _examine_target(settings, patient, trunk, target, hop_of(target)):
                    yield finding
            if not trunk.targets:
                yield Finding(area=area, what=f"lets in {', '.join(trunk.peers) or 'who proves itself'}")


async def _examine_target(
    settings: Settings, patient: Patient, trunk: Trunk, target: SipUri, way: tuple[Hop, tuple[Transport, ...]]
) -> AsyncIterator[Finding]:
    area = f"trunk {trunk.trunk_id}"
    hop, choices = way
    try:
        ways = await patient.endpoint.ways_to(hop, choices)
    except (OSError, UnreachableError, OffhookError) as error:
        yield _unreachable(area, hop, str(error), patient.endpoint)
        return
    if hop.host != ways[0][1].host:
        yield Finding(area=area, what=f"{hop.host} leads to {', '.join(shown(one) for _, one in ways)}")
    flow, first = ways[0]
    response = await patient.options(target, flow, first, trunk)
    if response is None:
        yield fault(
            area,
            f"{shown(first)} does not answer OPTIONS",
            why="calls by this trunk reach nobody, or only after a time-out",
            fix="check its host, port and transport, and the firewalls there and here; is it running?",
        )
        return
    yield Finding(area=area, what=f"{shown(first)} answers OPTIONS with {response.status} {response.reason}")
    seen = seen_as(response, flow)
    advertised = settings.sip.advertised_address
    if seen is not None and advertised and flow.local.host == advertised and seen.host != advertised:
        yield fault(
            area,
            f"{shown(first)} sees us as {seen.host}, but sip.advertised_address is {advertised}",
            why="its audio goes to the wrong address: the caller hears us, we hear nothing",
            fix=f"set sip.advertised_address to {seen.host}",
        )
    elif seen is not None and isinstance(trunk, GatewayTrunk) and not advertised and not settings.sip.stun_server:
        yield fault(
            area,
            f"{shown(first)} sees us as {seen.host}, we call ourselves {flow.local.host}",
            why="a translator is between: audio is sent to an address that does not lead here",
            fix=f"set sip.advertised_address to {seen.host} and forward the SIP port and the RTP range to this machine",
        )


def _unreachable(area: str, hop: Hop, problem: str, endpoint: SipEndpoint) -> Finding:
    asked = "; ".join(f"{one.kind} {one.name}: {one.answer}" for one in endpoint.names_asked if hop.host in one.name)
    detail = f" (asked: {asked})" if asked else ""
    return fault(
        area,
        f"no way to {hop.host}: {problem}{detail}",
        why="calls by this trunk cannot be placed, and its own are taken for a stranger's",
        fix="correct the name, its SRV or A records, or sip.nameservers",
    )


def _registration(area: str, state: TrunkChanged | None) -> Finding:
    if state is None or state.phase == "registering":
        return fault(
            area,
            "is still registering",
            why="the server has not answered yet: calls to this extension do not reach us",
            fix="wait some seconds and ask again",
        )
    if state.phase in {"online", "stopped"}:
        return Finding(area=area, what=f"is registered at {state.server}" if state.server else "is registered")
    code = f"{state.sip_code} " if state.sip_code is not None else ""
    return fault(
        area,
        f"REGISTER failed: {code}{state.reason}",
        why="calls to this extension do not reach us",
        fix=state.fix or "check server, port and transport of this trunk",
    )
