"""Who may come in, judged before any state is made: trunks by address, strangers by rate, everybody else by silence.

A scanner that is answered comes back with its whole list; one that is not takes the address for dead. So a source that
no trunk knows gets nothing at all, unless an open trunk lets strangers dial the numbers served.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk
from offhook.sip.challenges import Accepted, Authenticator
from offhook.sip.inspection import Refusal
from offhook.sip.message import Request

BURST_S = 5.0
"""A source may send what it may send in five seconds at once: call centres dial in waves."""

NETWORK_SHARE = 4
"""What a /24 (IPv6 /48) of sources may send, as a multiple of one source: a botnet sits in one network."""

WARNED_SHARE = 2.0
"""Beyond its rate a stranger is told 503 up to twice its rate, and beyond that nothing: an answer is work too."""

BUCKETS = 65_536
"""Sources remembered, about 12 MB; the longest unseen goes first, and its allowance is full again."""

CACHED_SOURCES = 4096
"""Sources whose trunk is remembered, so that a peer's network is not searched for at each call."""

RETRY_AFTER_S = 5

FORMER_TRUNKS = 1000
"""Trunks with digest remembered that were removed: far more than have calls up by then."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """``trunk_id`` "": no trunks are configured, and anybody near may come in."""

    trunk_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """Not a word goes back."""

    rule: str
    evidence: str
    fix: str


Verdict = Admitted | Ignored | Refusal


class Admission:
    """The door. ``serves`` tells whether a Request-URI is one that strangers may dial by an open trunk.

    Without ``trunks`` everybody near is admitted, which is what a first run on a desk needs: this machine and private
    networks. ``use`` changes them at any time.
    """

    def __init__(
        self, trunks: Sequence[Trunk] = (), *, authenticator: Authenticator | None = None, serves: Serves | None = None
    ) -> None:
        self._authenticator = authenticator
        self._serves = serves
        self._found: OrderedDict[str, str | None] = OrderedDict()
        self._trunks: dict[str, Trunk] = {}
        self._trusted: dict[str, frozenset[str]] = {}
        self._former: OrderedDict[str, GatewayTrunk] = OrderedDict()
        self._open: OpenTrunk | None = None
        self._allowance = _Allowance(OpenTrunk(trunk_id="").calls_per_s)
        self.use(trunks)

    def use(self, trunks: Sequence[Trunk]) -> None:
        """Judge by these from now on, and by the old ones for the calls that came by them."""
        before, self._trunks = self._trunks, {trunk.trunk_id: trunk for trunk in trunks}
        self._everybody = not trunks
        self._gateways = {trunk.trunk_id: trunk for trunk in trunks if isinstance(trunk, GatewayTrunk)}
        self._remember(before)
        self._networks = _by_length(self._gateways.values())
        self._at_large = next((one for one in self._gateways.values() if one.require_digest and not one.peers), None)
        registered = [trunk for trunk in trunks if isinstance(trunk, RegisterTrunk)]
        known = {one.trunk_id for one in registered if _same_place(before.get(one.trunk_id), one)}
        self._trusted = {
            one.trunk_id: self._trusted[one.trunk_id] if one.trunk_id in known else frozenset() for one in registered
        }
        self._found.clear()
        self._use_open(next((trunk for trunk in trunks if isinstance(trunk, OpenTrunk)), None))

    def _remember(self, before: Mapping[str, Trunk]) -> None:
        """Keep the trunks that are gone and wanted a proof: without them the calls that go on would need none."""
        for trunk_id in self._gateways:
            self._former.pop(trunk_id, None)
        for trunk_id, trunk in before.items():
            if trunk_id not in self._gateways and isinstance(trunk, GatewayTrunk) and trunk.require_digest:
                self._former[trunk_id] = trunk
        while len(self._former) > FORMER_TRUNKS:
            self._former.popitem(last=False)

    def _use_open(self, trunk: OpenTrunk | None) -> None:
        """What sources have used up of their allowance stays used up, unless they may send more or less now."""
        if trunk is not None and (self._open is None or self._open.calls_per_s != trunk.calls_per_s):
            self._allowance = _Allowance(trunk.calls_per_s)
        self._open = trunk

    def trust(self, trunk_id: str, hosts: Iterable[str]) -> None:
        """The addresses a register trunk's servers have now, by DNS: what comes from there comes by that trunk."""
        if trunk_id in self._trusted:
            self._trusted[trunk_id] = frozenset(hosts)
            self._found.clear()

    def trunk_of(self, host: str) -> str | None:
        """The trunk whose peer has this address; None: a stranger."""
        if host in self._found:
            return self._found[host]
        found = self._search(host)
        while len(self._found) >= CACHED_SOURCES:
            self._found.popitem(last=False)
        self._found[host] = found
        return found

    def judge_source(self, host: str) -> Verdict:
        """For what is no usable request: who sent it decides whether it is worth an answer."""
        if self._everybody:
            return _judge_distance(host)
        trunk_id = self.trunk_of(host)
        if trunk_id is None and self._open is not None:
            trunk_id = self._open.trunk_id
        return _stranger(host) if trunk_id is None else Admitted(trunk_id=trunk_id)

    def judge(self, request: Request, host: str, now: float, salt: str) -> Verdict:
        """For a request outside any dialog of ours, from ``host``. ``salt``: fresh random text for a challenge."""
        if self._everybody:
            return _judge_distance(host)
        trunk_id = self.trunk_of(host)
        gateway = self._at_large if trunk_id is None else self._gateways.get(trunk_id)
        if gateway is not None and gateway.require_digest:
            return self._judge_proof(gateway, request, host, now, salt, stranger=trunk_id is None)
        if trunk_id is not None:
            return Admitted(trunk_id=trunk_id)
        if self._open is None:
            return _stranger(host)
        trunk_id = self._open.trunk_id
        return self._judge_rate(host, now) or self._judge_number(request, trunk_id) or Admitted(trunk_id=trunk_id)

    def judge_in_dialog(self, request: Request, host: str, trunk_id: str, now: float, salt: str) -> Verdict:
        """For a request in a dialog, from another host than the dialog's: proved anew where the trunk wants proof."""
        gateway = self._gateways.get(trunk_id) or self._former.get(trunk_id)
        if gateway is None or not gateway.require_digest or request.method in ("ACK", "CANCEL"):
            return Admitted(trunk_id=trunk_id)
        return self._judge_proof(gateway, request, host, now, salt, stranger=False)

    # ── rules ────────────────────────────────────────────────────────────────────────────────────────────

    def _judge_proof(
        self, gateway: GatewayTrunk, request: Request, host: str, now: float, salt: str, *, stranger: bool
    ) -> Verdict:
        """RFC 3261 §22.2: 401 until the request carries credentials that hold."""
        if self._authenticator is None:
            raise ValueError("a trunk with require_digest needs an authenticator")
        if stranger and (limited := self._judge_rate(host, now)) is not None:
            return limited
        why, stale = "no credentials", False
        for value in request.headers.get_all("Authorization"):
            verdict = self._authenticator.verify(
                value,
                method=request.method,
                uri=request.uri,
                source_host=host,
                now=now,
                algorithms=gateway.digest_algorithms,
                password_of=lambda name: gateway.password if name == (gateway.auth_id or gateway.username) else None,
            )
            if isinstance(verdict, Accepted):
                return Admitted(trunk_id=gateway.trunk_id)
            why, stale = verdict.why, stale or verdict.stale
        challenges = self._authenticator.challenges(host, now, salt, stale=stale, algorithms=gateway.digest_algorithms)
        return Refusal(
            status=401,
            rule=f"trunk {gateway.trunk_id} requires digest",
            evidence=f"Authorization: {why}",
            fix="give the peer this trunk's username and password; an answer to the challenge must follow",
            headers=tuple(("WWW-Authenticate", value) for value in challenges),
        )

    def _judge_rate(self, host: str, now: float) -> Refusal | Ignored | None:
        rate = self._allowance.take(host, now)
        if rate <= 1.0:
            return None
        rule = "rate of a source that no trunk knows"
        evidence = f"{host} sends {rate:.1f} times what it may"
        fix = "raise calls_per_s of the open trunk, or make the source a peer of a gateway trunk"
        if rate > WARNED_SHARE:
            return Ignored(rule=rule, evidence=evidence, fix=fix)
        headers = (("Retry-After", str(RETRY_AFTER_S)),)
        return Refusal(status=503, rule=rule, evidence=evidence, fix=fix, headers=headers)

    def _judge_number(self, request: Request, trunk_id: str) -> Refusal | None:
        """404 for a number we do not serve, before a call is made of it (RFC 3261 §21.4.5)."""
        if request.method != "INVITE" or self._serves is None or self._serves(request.uri, trunk_id):
            return None
        return Refusal(
            status=404,
            rule="no number of this server matches the dialled user part",
            evidence=f"Request-URI: {request.uri[:80]}",
            fix='add the number to "numbers" in config.json, or dial one that it lists',
        )

    def _search(self, host: str) -> str | None:
        for trunk_id, hosts in self._trusted.items():
            if host in hosts:
                return trunk_id
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return None
        return next((trunk_id for network, trunk_id in self._networks if address in network), None)


Serves = Callable[[str, str], bool]
"""(Request-URI, trunk_id) -> whether a stranger may dial it by that open trunk."""


class _Allowance:
    """Token buckets for sources and their networks, bounded."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, host: str, now: float) -> float:
        """Count one request; how much of its allowance the source (or its network) has used up: above 1 is too much."""
        used = self._count(host, self._per_s, now)
        network = _network_of(host)
        return max(used, self._count(network, NETWORK_SHARE * self._per_s, now))

    def _count(self, key: str, per_s: float, now: float) -> float:
        room = max(1.0, per_s * BURST_S)
        level, at = self._used.pop(key, (0.0, now))
        level = max(0.0, level - (now - at) * per_s)
        # What is refused fills the bucket further, up to a bound, so that a flood is told from a wave.
        level = min(level + 1.0, (WARNED_SHARE + 1.0) * room)
        while len(self._used) >= BUCKETS:
            self._used.popitem(last=False)
        self._used[key] = (level, now)
        return level / room


def _network_of(host: str) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 one, as a key."""
    if ":" in host:
        try:
            return str(ip_network((host.partition("%")[0], 48), strict=False))
        except ValueError:
            return "IPv6"
    return host.rpartition(".")[0]


def _by_length(gateways: Iterable[GatewayTrunk]) -> tuple[tuple[Network, str], ...]:
    """(network, trunk_id), the longest prefix first: a host of its own beats the network around it."""
    found: list[tuple[Network, str]] = [
        (ip_network(peer), trunk.trunk_id) for trunk in gateways for peer in trunk.peers
    ]
    return tuple(sorted(found, key=lambda one: -one[0].prefixlen))


def _same_place(old: Trunk | None, new: RegisterTrunk) -> bool:
    """Whether a trunk's servers have the addresses that they had: what was learned of them still holds."""
    if not isinstance(old, RegisterTrunk):
        return False
    places = [(one.server, one.port, one.transport, one.outbound_proxy) for one in (old, new)]
    return places[0] == places[1]


def _judge_distance(host: str) -> Verdict:
    """Without trunks: a scanner of the internet must not talk to an agent that somebody pays for."""
    address = ip_address(host.partition("%")[0])
    near = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    if near.is_private or near.is_loopback or near.is_link_local:
        return Admitted(trunk_id="")
    fix = 'add a trunk for it; or, to let anyone dial your numbers, {"id": "anyone", "kind": "open"} to trunks'
    return Ignored(rule="no trunk, and no private network", evidence=f"from {host}", fix=fix)


def _stranger(host: str) -> Ignored:
    return Ignored(
        rule="source that no trunk knows",
        evidence=host,
        fix=f'add "{host}" to the peers of a gateway trunk, or add an open trunk, if this source is yours',
    )
