"""A call to ourselves, on this machine's own address and RTP range: does audio pass both ways?"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.call.dialling import PlaceCall
from offhook.call.ports import EventSink
from offhook.cli.doctor.finding import Finding, fault
from offhook.config import Settings
from offhook.media.ports import PortPool
from offhook.model.call_events import CallEnded, CallEvent, MediaReported
from offhook.model.errors import OffhookError
from offhook.model.records import Agent, Number
from offhook.server.phone import Phone, build_phone
from offhook.signaling.datagrams import local_host_towards
from offhook.sip.events import Address
from offhook.sip.uri import SipUri
from offhook.store.directory import InMemoryDirectory

CALL_S = 2
PATIENCE_S = 15.0
LEAST_PACKETS = CALL_S * 50 // 2
"""Half of what two seconds bring: less is no audio."""

MOST_LOSS_PERCENT = 5.0
"""On one machine nothing should be lost; a limit that a busy one keeps."""

_SOMEWHERE = Address("192.0.2.1", 5060)
"""RFC 5737: a route to the outside shows our main address; no packet is sent."""


class _Side(EventSink):
    """One phone, and what its call reported."""

    def __init__(self, settings: Settings, agent: Agent, folder: Path) -> None:
        self.media: MediaReported | None = None
        self.ended: asyncio.Future[CallEnded] = asyncio.get_running_loop().create_future()
        self.phone: Phone = build_phone(
            bridges=BridgeRegistry({"scripted": SCRIPTED}),
            directory=InMemoryDirectory([agent], [Number(user="*", agent_id=agent.agent_id)]),
            events=self,
            max_calls=2,
            ports=PortPool(settings.rtp.port_min, settings.rtp.port_max),
            recordings_folder=folder,
            media_timeout_s=PATIENCE_S,
        )

    def append(self, event: CallEvent) -> None:
        if isinstance(event.fact, MediaReported):
            self.media = event.fact
        elif isinstance(event.fact, CallEnded) and not self.ended.done():
            self.ended.set_result(event.fact)


async def examine_loopback(settings: Settings) -> Finding:
    """Two phones of ours: one calls the other, both speak."""
    host = settings.sip.host or _main_address()
    speaking = _agent({"greeting_tone_hz": 440, "greeting_ms": CALL_S * 1000})
    with tempfile.TemporaryDirectory(prefix="offhook-doctor-") as folder:
        called, calling = (_Side(settings, speaking, Path(folder)) for _ in range(2))
        try:
            address = await called.phone.endpoint.listen("UDP", host, 0)
            await calling.phone.endpoint.listen("UDP", host, 0)
            target = SipUri(user="doctor", host=address.host, port=address.port)
            calling.phone.manager.place(PlaceCall(target=target, agent=speaking, no_answer_s=5.0))
            ended = await asyncio.wait_for(calling.ended, PATIENCE_S)
            await asyncio.wait_for(called.ended, PATIENCE_S)
        except (OffhookError, OSError, TimeoutError) as error:
            return _failed(host, str(error) or "it did not end in time")
        finally:
            await calling.phone.close()
            await called.phone.close()
    return _judge(host, ended, called.media, calling.media)


def _agent(script: dict[str, object]) -> Agent:
    options = {"script": json.dumps(script)}
    return Agent(agent_id="doctor", provider="scripted", record=False, max_call_s=CALL_S, options=options)


def _judge(host: str, ended: CallEnded, called: MediaReported | None, calling: MediaReported | None) -> Finding:
    if ended.phase != "up" or called is None or calling is None:
        return _failed(host, f"{ended.cause} {ended.sip_code or ''} {ended.reason}".strip())
    for side, media in (("callee", called), ("caller", calling)):
        if media.packets_received < LEAST_PACKETS:
            return fault(
                "loopback",
                f"the {side} of a call on {host} received {media.packets_received} RTP packets",
                why="audio does not pass even on this machine: calls will be silent one way",
                fix="let UDP of rtp.port_min to rtp.port_max through the firewall of this machine (nft list ruleset)",
            )
        if media.loss_percent > MOST_LOSS_PERCENT:
            return fault(
                "loopback",
                f"the {side} of a call on {host} lost {media.loss_percent:.0f} % of its packets",
                why="audio will be chopped",
                fix="look for a firewall with a rate limit, or a machine that is out of CPU",
            )
    return Finding(area="loopback", what=f"a call on {host} had audio both ways")


def _failed(host: str, problem: str) -> Finding:
    return fault(
        "loopback",
        f"a call on {host} failed: {problem}",
        why="what does not work on one machine will not work from outside",
        fix="let UDP through the firewall of this machine, and free ports of the RTP range",
    )


def _main_address() -> str:
    try:
        return local_host_towards(_SOMEWHERE)
    except OSError:  # no route to the outside
        return "127.0.0.1"
