"""Our address as others see it (RFC 3261 §18.1.1, RFC 3581): behind 1:1 NAT or in Docker it is not the machine's own.

Each peer is told an address it can reach: who shares a private network with us the machine's own, everybody else the
one that is advertised. The address is fixed by configuration, found by STUN, or learned from a server that saw us.

A fixed address promises that the translator forwards our SIP ports and the whole RTP range one to one, as
``docker run --publish 16384-32767:16384-32767/udp`` does: ports are advertised as they are. STUN asks for the UDP port
of SIP alone; RTP ports are then told as bound, and media comes back because the peer answers where ours came from.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from offhook.sip.events import Address, Transport

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fe80::/10",
    "fc00::/7",
)
"""RFC 1918, RFC 6598 (shared by a carrier's customers), loopback, link-local, RFC 4193: never across a translator."""

_LOOPBACK = ("127.0.0.0/8", "::1/128")

LEARNED = 64
"""Servers that told us how they see us: one for each registration."""

CACHED_HOSTS = 4096


class AdvertisedAddresses:
    """What to say in Via, Contact and SDP towards each peer.

    ``local_networks`` are CIDRs whose peers reach the machine's own address; empty: the private ones, or, where the
    advertised address is itself private (a translator inside a private network), the /24 or /64 of our interface.
    """

    def __init__(self, fixed: str = "", local_networks: Sequence[str] = ()) -> None:
        self.fixed = fixed
        self._networks = [ipaddress.ip_network(one) for one in local_networks]
        self._mapped: dict[Address, Address] = {}
        self._learned: OrderedDict[tuple[Transport, str], tuple[Address, Address]] = OrderedDict()
        self._near: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def set_mapped(self, local: Address, mapped: Address) -> bool:
        """STUN saw our UDP socket ``local`` as ``mapped``; True when that is news."""
        known = self._mapped.get(local)
        self._mapped[local] = mapped
        self._near.clear()
        return known != mapped

    @property
    def seen_by_stun(self) -> frozenset[str]:
        """Our hosts as STUN saw them."""
        return frozenset(one.host for one in self._mapped.values())

    def learn(self, remote_host: str, local: Address, seen_as: Address, transport: Transport = "UDP") -> None:
        """The server at ``remote_host`` sees what we send from ``local`` as ``seen_as``; it alone is told so.

        By that transport: UDP and TCP have the same port of ours, but a translator gives each its own.
        """
        self.forget(remote_host, transport)
        while len(self._learned) >= LEARNED:
            self._learned.popitem(last=False)
        self._learned[transport, remote_host] = (local, seen_as)

    def forget(self, remote_host: str, transport: Transport = "UDP") -> None:
        self._learned.pop((transport, remote_host), None)

    def towards(self, local: Address, remote_host: str, transport: Transport = "UDP") -> Address:
        """What to call ourselves when ``remote_host`` is the peer and ``local`` our address on this machine."""
        if self._learned:
            learned = self._learned.get((transport, remote_host))
            # All that goes to one server by TCP or TLS shares a connection; where we only dial we have no port.
            if learned is not None and (transport != "UDP" or learned[0].port == local.port):
                return learned[1]
        mapped = self._public(local, transport)
        if mapped is None or self._is_near(local.host, remote_host, mapped.host):
            return local
        return mapped

    def _public(self, local: Address, transport: Transport) -> Address | None:
        """Of the same address family only; None where nothing is advertised."""
        if self.fixed:
            return Address(self.fixed, local.port) if (":" in self.fixed) == (":" in local.host) else None
        wildcard = Address("::" if ":" in local.host else "0.0.0.0", local.port)
        mapped = self._mapped.get(local) or self._mapped.get(wildcard)
        if mapped is not None and transport == "UDP":
            return mapped
        # STUN asked by UDP: of a TCP or TLS port it tells the host, and the port is as it is.
        same = (one for at, one in self._mapped.items() if (":" in at.host) == (":" in local.host))
        nearest = mapped or next(same, None)
        return None if nearest is None else Address(nearest.host, local.port)

    def _is_near(self, local_host: str, remote_host: str, public_host: str) -> bool:
        key = (local_host, remote_host)
        near = self._near.get(key)
        if near is None:
            while len(self._near) >= CACHED_HOSTS:
                self._near.popitem(last=False)
            near = self._near[key] = _within(remote_host, self._networks or _default(local_host, public_host))
        return near


def _default(local_host: str, public_host: str) -> list[Network]:
    private = [ipaddress.ip_network(one) for one in PRIVATE_NETWORKS]
    if not _within(public_host, private):
        return private
    bare = local_host.partition("%")[0]
    own = ipaddress.ip_network((bare, 64 if ":" in bare else 24), strict=False)
    return [own, *(ipaddress.ip_network(one) for one in _LOOPBACK)]


def _within(host: str, networks: Iterable[Network]) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
