"""Where an outbound call goes: target and trunk -> destinations -> DNS -> plans to try in order (RFC 3263 §4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from offhook.call.leg import DialPlan
from offhook.call.numbers import e164_of, read_target, region_of
from offhook.model.errors import OffhookError, SipParseError, UnreachableError
from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk
from offhook.signaling.endpoint import SipEndpoint
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import Hop, Transport
from offhook.sip.headers import NameAddr
from offhook.sip.routing import DEFAULT_PORTS, is_address
from offhook.sip.uri import SipUri

TRANSPORTS: Mapping[str, Transport] = {"udp": "UDP", "tcp": "TCP", "tls": "TLS"}

ANY_TRANSPORT: tuple[Transport, ...] = ("UDP", "TCP", "TLS")
"""What DNS may choose from where a URI names neither transport nor port (RFC 3263 §4.1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """One place an INVITE may go, before DNS. ``from_`` None: the caller's user part at our own address."""

    target: SipUri
    hop: Hop
    choices: tuple[Transport, ...] = ()
    from_: NameAddr | None = None


def target_of(text: str, trunk: Trunk | None) -> SipUri:
    """What was dialled as a URI: a SIP URI as it is; a tel URI, a number or a name by the trunk's domain.

    A number of the trunk's region is dialled as E.164. What a URI wants to have in the headers of an INVITE is left
    out: its writer would speak for us (RFC 3261 §19.1.5). Raises ``SipParseError``.
    """
    target = read_target(text, "" if trunk is None else region_of(trunk.rules))
    if isinstance(target, SipUri):
        return replace(target, headers="")
    match trunk:
        case RegisterTrunk():
            return SipUri(user=target, host=trunk.domain or trunk.server)
        case GatewayTrunk() if trunk.targets:
            return replace(SipUri.parse(trunk.targets[0]), user=target)
        case GatewayTrunk() | OpenTrunk() | None:
            raise SipParseError("target", f"{text!r} is no SIP URI, and there is no trunk to dial it by")
        case _:
            assert_never(trunk)


def trunk_towards(text: str, trunk: Trunk | None) -> Trunk | None:
    """The trunk by which a second party is called: ``trunk``, unless ``text`` is a URI that leads elsewhere.

    Raises ``SipParseError``.
    """
    target = read_target(text)
    if isinstance(target, str):
        return trunk
    match trunk:
        case RegisterTrunk():
            places = {(host.strip("[]").lower(), trunk.port) for host in (trunk.domain, trunk.server)}
        case GatewayTrunk():
            places = {(one.host, one.port or 0) for one in map(SipUri.parse, trunk.targets)}
        case OpenTrunk() | None:
            return trunk
        case _:
            assert_never(trunk)
    return trunk if any(_is_there(target, host, port) for host, port in places) else None


def _is_there(target: SipUri, host: str, port: int) -> bool:
    """Another port of the same host is another system; a URI without one names the host. ``port`` 0: any may be its."""
    return target.host == host and (not port or target.port in (None, port))


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who calls, as the called side is told: the user part of From, and headers."""

    user: str
    headers: tuple[tuple[str, str], ...] = ()


def caller_id_of(trunk: Trunk, asked: str) -> str:
    """``asked``, in whatever writing, as the trunk has it verified; "" where it has not.

    A register trunk's own user name is verified by its password.
    """
    number = e164_of(asked, region_of(trunk.rules)) or asked.strip()
    return next((one for one in caller_ids_of(trunk) if one.removeprefix("+") == number.removeprefix("+")), "")


def caller_ids_of(trunk: Trunk) -> tuple[str, ...]:
    own = (trunk.username,) if isinstance(trunk, RegisterTrunk) else ()
    return (*trunk.rules.caller_ids, *own)


def identity_of(trunk: Trunk | None, user: str, caller_id: str = "") -> Identity:
    """``caller_id``, else ``user``, where the trunk has it verified; else its first caller id; without any, ``user``.

    A gateway knows us by our address and is shown the number in From. A registrar knows us by the address in From, and
    may refuse another one: there the number is what we would be known by, P-Preferred-Identity, as RFC 3325 §9.2 has it
    of a user agent; and P-Asserted-Identity, for that is the only one that many a PBX reads. A server that does not
    trust us takes it away (§5).
    """
    if not isinstance(trunk, RegisterTrunk | GatewayTrunk):
        return Identity(user=caller_id or user)
    shown = caller_id_of(trunk, caller_id or user) or next(iter(trunk.rules.caller_ids), "")
    if isinstance(trunk, GatewayTrunk):
        return Identity(user=shown or user)
    if shown in ("", trunk.username):
        return Identity(user=trunk.username)
    uri = f"<{replace(address_of_record(trunk), user=shown)}>"
    return Identity(user=trunk.username, headers=(("P-Preferred-Identity", uri), ("P-Asserted-Identity", uri)))


def destinations(target: SipUri, trunk: Trunk | None) -> tuple[Destination, ...]:
    """Where to send an INVITE for ``target``, best first. Raises ``UnreachableError``."""
    match trunk:
        case RegisterTrunk():
            hop, choices = registrar_of(trunk)
            from_ = NameAddr(uri=str(address_of_record(trunk)))
            return (Destination(target=target, hop=hop, choices=choices, from_=from_),)
        case GatewayTrunk():
            gateways = [SipUri.parse(text) for text in trunk.targets]
            if not gateways:
                raise UnreachableError(f"trunk {trunk.trunk_id} has no targets: nothing can be called by it")
            return tuple(_by_gateway(target, gateway) for gateway in gateways)
        case OpenTrunk() | None:
            hop, choices = hop_of(target)
            return (Destination(target=target, hop=hop, choices=choices),)
        case _:
            assert_never(trunk)


def _by_gateway(target: SipUri, gateway: SipUri) -> Destination:
    hop, choices = hop_of(gateway)
    at_gateway = replace(target, scheme=gateway.scheme, host=gateway.host, port=gateway.port, params=gateway.params)
    return Destination(target=at_gateway, hop=hop, choices=choices)


async def find_ways(
    endpoint: SipEndpoint,
    wanted: tuple[Destination, ...],
    *,
    from_user: str,
    credentials: DigestClient | None,
    headers: tuple[tuple[str, str], ...] = (),
    trunk_id: str = "",
) -> tuple[DialPlan, ...]:
    """The plans, best first; ``headers`` go with each INVITE.

    Raises ``UnreachableError`` where there is none: the last destination's problem.
    """
    plans: list[DialPlan] = []
    problem = "no destination"
    for one in wanted:
        try:
            ways = await endpoint.ways_to(one.hop, one.choices)
        except (OSError, OffhookError) as error:
            problem = str(error)
            continue
        plans += [
            DialPlan(
                target=one.target,
                from_=one.from_ or NameAddr(uri=str(SipUri(user=from_user, host=flow.local.host))),
                flow=flow,
                next_hop=hop,
                credentials=credentials,
                headers=headers,
                trunk_id=trunk_id,
            )
            for flow, hop in ways
        ]
    if not plans:
        raise UnreachableError(problem)
    return tuple(plans)


def credentials_of(trunk: Trunk | None) -> DigestClient | None:
    """What answers the challenges of a trunk's servers; None where it has no password."""
    if not isinstance(trunk, RegisterTrunk | GatewayTrunk) or not trunk.username or not trunk.password:
        return None
    return DigestClient(Credentials(username=trunk.auth_id or trunk.username, password=trunk.password))


def address_of_record(trunk: RegisterTrunk) -> SipUri:
    return SipUri.parse(f"sip:{trunk.username}@{_bracketed(trunk.domain or trunk.server)}")


def registrar_of(trunk: RegisterTrunk) -> tuple[Hop, tuple[Transport, ...]]:
    """Where REGISTER and INVITE of this trunk go: its outbound proxy, else its server. Raises ``UnreachableError``."""
    if trunk.outbound_proxy:
        proxy = trunk.outbound_proxy
        try:
            return hop_of(SipUri.parse(proxy if proxy.lower().startswith(("sip:", "sips:")) else f"sip:{proxy}"))
        except SipParseError as error:
            raise UnreachableError(f"outbound_proxy of trunk {trunk.trunk_id}: {error.problem}") from None
    transport = TRANSPORTS.get(trunk.transport, "UDP")
    host = trunk.server.strip("[]")
    port = trunk.port or (DEFAULT_PORTS[transport] if is_address(host) else 0)
    choices = ANY_TRANSPORT if not trunk.transport and not port else ()
    return Hop(transport=transport, host=host, port=port), choices


def hop_of(uri: SipUri) -> tuple[Hop, tuple[Transport, ...]]:
    """Where a URI's first request goes, and the transports DNS may choose from (RFC 3263 §4.1).

    Raises ``UnreachableError`` for a transport we do not have.
    """
    named = (uri.param("transport") or "").lower()
    wanted = "tls" if uri.scheme == "sips" else named or "udp"
    if wanted not in TRANSPORTS:
        raise UnreachableError(f"{uri}: transport {wanted} is not supported; use udp, tcp or tls")
    transport = TRANSPORTS[wanted]
    host = uri.param("maddr") or uri.host
    port = uri.port or (DEFAULT_PORTS[transport] if is_address(host) else 0)
    choices = ANY_TRANSPORT if not named and uri.scheme == "sip" and not port else ()
    return Hop(transport=transport, host=host, port=port), choices


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
