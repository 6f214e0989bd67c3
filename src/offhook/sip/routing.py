"""Where messages go: responses back (RFC 3261 §18.2, RFC 3581), requests on (§8.1.2, §12.2.1.1, RFC 3263 §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from offhook.model.errors import SipParseError
from offhook.sip.events import Address, Flow, Hop, Transport
from offhook.sip.grammar import format_host, split_list
from offhook.sip.headers import Headers, NameAddr, Via
from offhook.sip.message import Request
from offhook.sip.uri import SipUri

MAX_FORWARDS = 70
"""RFC 3261 §8.1.1.6."""

DEFAULT_PORTS: Mapping[Transport, int] = {"UDP": 5060, "TCP": 5060, "TLS": 5061}
"""RFC 3261 §19.1.2."""

_TRANSPORTS: Mapping[str, Transport] = {"udp": "UDP", "tcp": "TCP", "tls": "TLS"}


# ── back ─────────────────────────────────────────────────────────────────────────────────────────────────


def note_source(request: Request, flow: Flow) -> None:
    """Write where a request came from into its top Via: ``received`` (§18.2.1) and ``rport`` (RFC 3581 §4).

    What the sender itself wrote there is overwritten, so that nobody can have our answers sent to a third party.
    """
    via = request.via_top
    asked = via.rport is not None
    noted = replace(
        via,
        received=flow.remote.host if asked or via.host != flow.remote.host else None,
        rport=str(flow.remote.port) if asked else None,
    )
    if noted != via:
        request.headers = _with_top_via(request.headers, noted)


def _with_top_via(headers: Headers, via: Via) -> Headers:
    changed = headers.copy()
    lines = changed.get_all("Via")
    changed.remove("Via")
    rest = split_list(lines[0])[1:]
    for line in reversed([", ".join([str(via), *rest]), *lines[1:]]):
        changed.prepend("Via", line)
    return changed


def reply_flow(request: Request, flow: Flow) -> Flow:
    """Where the responses to a request that came by ``flow`` go (§18.2.2, RFC 3581 §4).

    ``maddr`` is not obeyed: it would let a datagram send our answer to any third party.
    """
    via = request.via_top
    if flow.transport != "UDP" or via.rport is not None:
        return flow
    port = via.port or DEFAULT_PORTS[flow.transport]
    return replace(flow, remote=Address(flow.remote.host, port))


# ── on ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """How a request in a dialog is addressed: Request-URI, Route values, and the URI whose host is the next hop."""

    request_uri: str
    route: tuple[str, ...]
    next_uri: str


def path_to(remote_target: str, route_set: Sequence[str]) -> Path:
    """RFC 3261 §12.2.1.1: the way through a route set to a remote target."""
    request_uri = as_request_uri(remote_target)
    if not route_set:
        return Path(request_uri=request_uri, route=(), next_uri=remote_target)
    first = NameAddr.parse(route_set[0]).uri
    if _is_loose(first):
        return Path(request_uri=request_uri, route=tuple(route_set), next_uri=first)
    # "If the route set is not empty, and its first URI does not contain the lr parameter, the UAC MUST place the
    # first URI from the route set into the Request-URI, stripping any parameters that are not allowed in a
    # Request-URI. [...] The UAC MUST then place the remote target URI into the Route header field as the last value."
    route = (*route_set[1:], str(NameAddr(uri=remote_target)))
    return Path(request_uri=as_request_uri(first), route=route, next_uri=first)


def _is_loose(uri: str) -> bool:
    try:
        return SipUri.parse(uri).param("lr") is not None
    except SipParseError:
        return False


def as_request_uri(uri: str) -> str:
    """RFC 3261 §19.1.1, table 1: no ``method`` parameter and no headers in a Request-URI."""
    try:
        parsed = SipUri.parse(uri)
    except SipParseError:
        return uri
    params = tuple(pair for pair in parsed.params if pair[0].lower() != "method")
    return str(replace(parsed, params=params, headers=""))


def hop_to(uri: str) -> Hop | None:
    """The next hop a URI names (RFC 3263 §4); None: not a SIP URI. Port 0: a name whose port DNS may tell."""
    try:
        parsed = SipUri.parse(uri)
    except SipParseError:
        return None
    named = _TRANSPORTS.get((parsed.param("transport") or "").lower(), "UDP")
    transport: Transport = "TLS" if parsed.scheme == "sips" else named
    host = parsed.param("maddr") or parsed.host
    port = parsed.port or (DEFAULT_PORTS[transport] if is_address(host) else 0)
    return Hop(transport=transport, host=host, port=port)


def is_address(host: str) -> bool:
    """An IP address, by its looks: no name ends in a number (RFC 3696 §2)."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def contact_uri(flow: Flow, user: str | None) -> SipUri:
    """Our address for requests of the peer (§8.1.1.8): where this flow reaches us.

    Without a port where we listen nowhere and only dial.
    """
    params = () if flow.transport == "UDP" else (("transport", flow.transport.lower()),)
    return SipUri(user=user, host=flow.local.host, port=flow.local.port or None, params=params)


def via_for(flow: Flow, branch: str) -> str:
    """The Via of a request of ours, asking for ``rport`` (RFC 3581 §3)."""
    host = format_host(flow.local.host, flow.local.port or None)
    return f"SIP/2.0/{flow.transport} {host};rport;branch={branch}"
