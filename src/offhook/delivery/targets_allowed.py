"""Where offhook may send an HTTP request: URLs and addresses judged, without a socket (guards against SSRF).

Two steps, so that a name cannot mean one thing when it is judged and another when it is connected to:
``read_target`` takes a URL apart by one strict grammar; ``why_refused`` judges one address the name led to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from offhook.model.errors import ConfigError, OutboundError

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Scheme = Literal["https", "http"]

DEFAULT_PORTS = frozenset({80, 443, 8080, 8443})
"""Where web servers listen. The rest of a public host (SMTP, Redis, SSH) is no business of a webhook."""

_SCHEME_PORTS: dict[Scheme, int] = {"https": 443, "http": 80}

URL_CHARACTERS = 2048
"""Longer ones are cut by proxies and servers on the way anyway."""

_NAME_CHARACTERS = 253
"""RFC 1035 §2.3.4, without the last dot."""

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(?P<fragment>#.*)?", re.S
)
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_REST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]|-]|%[0-9A-Fa-f]{2})*")
"""RFC 3986 §3.3, §3.4, and the brackets and bars that many queries carry."""


def _nets(*texts: str) -> tuple[IpNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


_LOOPBACK = _nets("127.0.0.0/8", "::1/128")

_NEVER: tuple[tuple[str, tuple[IpNetwork, ...]], ...] = (
    ("unspecified", _nets("0.0.0.0/8", "::/128")),
    ("multicast", _nets("224.0.0.0/4", "ff00::/8")),
    ("broadcast", _nets("255.255.255.255/32")),
)
"""No address of one server; 0.0.0.0 reaches the machine itself. Not even ``allowed_targets`` opens them."""
_NEVER_KINDS = frozenset(name for name, _ in _NEVER)

_METADATA = _nets(
    "169.254.169.254/32",  # AWS, Google, Azure, DigitalOcean, Oracle, OpenStack
    "fd00:ec2::254/128",  # AWS
    "169.254.170.2/32",  # AWS ECS: credentials of a task
    "169.254.170.23/32",  # AWS EKS: credentials of a pod
    "fd00:ec2::23/128",
    "fd20:ce::254/128",  # Google
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's wire server, a public address
    "192.0.0.192/32",  # Oracle, older
)
"""Where clouds hand out a machine's credentials. Opened by an entry for just that address, never by a wider one."""

_SPECIAL: tuple[tuple[str, tuple[IpNetwork, ...]], ...] = (
    ("loopback", _LOOPBACK),
    ("private", _nets("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    ("link-local", _nets("169.254.0.0/16", "fe80::/10")),
    ("carrier-grade NAT", _nets("100.64.0.0/10")),
    ("unique local", _nets("fc00::/7")),
    ("site-local", _nets("fec0::/10")),
    ("documentation", _nets("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")),
    ("6to4", _nets("192.88.99.0/24", "2002::/16")),
    ("Teredo", _nets("2001::/32")),
    (
        "reserved",
        _nets(
            "192.0.0.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "240.0.0.0/4",
            "2001::/23",
            "2620:4f:8000::/48",
        ),
    ),
)
"""IANA's special-purpose address registries (RFC 6890). 6to4 and Teredo carry an IPv4 address to whoever translates
them; both are long withdrawn, so nothing good is lost. First match names the reason."""

_GLOBAL_V6 = IPv6Network("2000::/3")
"""All global unicast there is (RFC 4291 §2.4); the rest of IPv6 is refused without a name."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv6-only host reaches IPv4 by it, so it is judged by the IPv4 address inside."""

_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""RFC 5214 §6.1: the interface identifiers that carry an IPv4 address in their last 32 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetPolicy:
    """What the operator permits beyond https to public addresses.

    ``allowed_targets``: networks that are permitted as well, at any port. ``allow_http``: plain http.
    ``allowed_ports``: at public addresses. ``dev``: loopback is permitted, by http too; for as long as no
    API key exists.
    """

    allowed_targets: tuple[IpNetwork, ...] = ()
    allow_http: bool = False
    allowed_ports: frozenset[int] = DEFAULT_PORTS
    dev: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL in its parts. ``host`` in lower case, IPv6 without brackets; ``address`` where the host is one; ``path``
    with the query, as it will stand in the request line."""

    scheme: Scheme
    host: str
    port: int
    path: str
    address: IpAddress | None = None

    @property
    def origin(self) -> str:
        """For messages: the path may hold a secret."""
        return origin(self.scheme, self.host, self.port)


def origin(scheme: Scheme, host: str, port: int) -> str:
    """``https://host`` or ``https://host:8443``."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == _SCHEME_PORTS[scheme] else f":{port}")


def networks(key: str, entries: Iterable[str]) -> tuple[IpNetwork, ...]:
    """``allowed_targets`` from text: "10.1.0.0/16", "192.168.7.3", "fd12::/32". Raises ConfigError under ``key[n]``."""
    return tuple(_network(f"{key}[{n}]", entry) for n, entry in enumerate(entries))


def _network(key: str, entry: str) -> IpNetwork:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise ConfigError(key, str(error), 'Write a network such as "10.1.0.0/16", or one address') from None


def read_target(url: str, policy: TargetPolicy) -> Target:
    """Takes a URL apart and judges all of it that needs no name to be looked up.

    Raises OutboundError: ``bad_url`` for what is no plain http(s) URL, ``refused_target`` for what may not be reached.
    """
    scheme, authority, path = _split(url)
    if scheme == "http" and not (policy.allow_http or policy.dev):
        raise OutboundError("refused_target", "plain http is not allowed. Use https, or set security.allow_http")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _bad_url(_authority_problem(authority))
    host, address = _host(parts["v6"], parts["name"])
    port = _SCHEME_PORTS[scheme] if parts["port"] is None else int(parts["port"])
    if not 0 < port < 65536:
        raise _bad_url("its port is not between 1 and 65535. Correct the port")
    target = Target(scheme=scheme, host=host, port=port, path=path, address=address)
    if address is not None:
        judge(address, scheme, host, port, policy)
    return target


def url_problem(url: str, policy: TargetPolicy) -> str:
    """Why a web address or a websocket's may not be reached, as far as no name is looked up; "" where it may."""
    scheme, separator, rest = url.partition("://")
    plain = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme)
    try:
        target = read_target(f"{plain}{separator}{rest}", policy)
    except OutboundError as error:
        return error.problem
    if target.address is None and target.port not in policy.allowed_ports and not _may_lead_inside(policy):
        return f"port {target.port} may not be reached. Use 443"
    return ""


def _may_lead_inside(policy: TargetPolicy) -> bool:
    """Whether a name may lead to an address that is open at any port: known only when it is connected to."""
    return policy.dev or bool(policy.allowed_targets)


def _split(url: str) -> tuple[Scheme, str, str]:
    if len(url) > URL_CHARACTERS:
        raise _bad_url(f"it is longer than {URL_CHARACTERS} characters. Shorten it")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _bad_url(
            'it holds a space, a backslash, a control character or one that is not ASCII. Write a name as "xn--…", '
            "and percent-encode the path"
        )
    parts = _URL.fullmatch(url)
    scheme = parts["scheme"].lower() if parts else ""
    if parts is None or scheme not in ("http", "https"):
        raise _bad_url("it does not begin with https://. Give the whole URL")
    if parts["fragment"] is not None:
        raise _bad_url('it has a fragment, which is never sent. Leave out "#" and all after it')
    if _REST.fullmatch(parts["rest"]) is None:
        raise _bad_url("its path or query holds a character that must be percent-encoded. Encode it")
    rest = parts["rest"]
    return "https" if scheme == "https" else "http", parts["authority"], rest if rest.startswith("/") else "/" + rest


def _authority_problem(authority: str) -> str:
    if "@" in authority:
        return "it holds a user name or password. Put credentials into a header"
    return "its host or port is not plainly written. Write a host name, or an address in its usual form"


def _host(v6: str | None, name: str | None) -> tuple[str, IpAddress | None]:
    if v6 is not None:
        return _v6_host(v6)
    text = (name or "").lower()
    labels = text.split(".")
    if len(text) > _NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad_url("its host is no host name: an empty, too long or ill-formed part. Correct the name")
    # Resolvers read 127.1, 0x7f.1, 017700000001 and 2130706433 as addresses; so does the URL standard, which calls
    # any host an IPv4 address whose last part is a number.
    if _NUMBER.fullmatch(labels[-1]) is None:
        return text, None
    try:
        address = IPv4Address(text)
    except ValueError:
        raise _bad_url("its host is a number, but no address in the form 192.0.2.1. Write four decimal parts") from None
    return text, address


def _v6_host(text: str) -> tuple[str, IpAddress]:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise _bad_url("what stands in the brackets is no IPv6 address. Correct it") from None
    return str(address), address


def judge_answers(answers: Iterable[str], scheme: Scheme, host: str, port: int, policy: TargetPolicy) -> None:
    """Judges every address a name led to: one bad answer refuses all. Raises OutboundError ``refused_target``."""
    for answer in answers:
        try:
            address = ip_address(answer)
        except ValueError:
            problem = f"{origin(scheme, host, port)} leads to something that is no address. Check this machine's DNS"
            raise OutboundError("refused_target", problem) from None
        judge(address, scheme, host, port, policy)


def judge_unresolved(target: Target, policy: TargetPolicy) -> None:
    """For a name that a forward proxy looks up: what can be said without its address. Raises OutboundError."""
    if target.scheme == "http" and not policy.allow_http:
        problem = "may not be reached by plain http. Use https, or set security.allow_http"
    elif target.port not in policy.allowed_ports:
        problem = f"may not be reached at port {target.port}. Use 443"
    else:
        return
    raise OutboundError("refused_target", f"{target.origin} {problem}")


def judge(address: IpAddress, scheme: Scheme, host: str, port: int, policy: TargetPolicy) -> None:
    """Raises OutboundError ``refused_target`` where ``host`` may not be reached at ``address``."""
    why = why_refused(address, scheme, port, policy)
    if why is None:
        return
    leads = "" if host == str(address) else f" leads to {address}, which"
    raise OutboundError("refused_target", f"{origin(scheme, host, port)}{leads} {why}")


def why_refused(address: IpAddress, scheme: Scheme, port: int, policy: TargetPolicy) -> str | None:
    """Why a request may not go to this address, with what to do about it; None where it may."""
    real = carried(address)
    kind = _kind(real)
    if kind is not None and kind in _NEVER_KINDS:
        return f"is {_article(kind)} address, which no server has. Use the server's own address"
    if _in(real, _METADATA) and not _listed_alone(real, policy):
        return f"is where a cloud hands out credentials. If you mean it, list {real} itself in security.allowed_targets"
    loopback = _in(real, _LOOPBACK)
    if scheme == "http" and not (policy.allow_http or (policy.dev and loopback)):
        return "may not be reached by plain http. Use https, or set security.allow_http"
    if _in(real, policy.allowed_targets) or (policy.dev and loopback):
        return None
    if kind is not None:
        return f"is {_article(kind)} address. Use a public one, or list {real} in security.allowed_targets"
    if port not in policy.allowed_ports:
        return f"may not be reached at port {port}. Use 443, or list {real} in security.allowed_targets"
    return None


def carried(address: IpAddress) -> IpAddress:
    """The IPv4 address that is meant by an IPv6 one: v4-mapped, NAT64, or ISATAP that leads inwards."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    inwards = int(address) >> 32 & 0xFFFF_FFFF in _ISATAP and (_kind(low) is not None or _in(low, _METADATA))
    return low if inwards or address in _NAT64 else address


def _kind(address: IpAddress) -> str | None:
    for name, nets in (*_NEVER, *_SPECIAL):
        if _in(address, nets):
            return name
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return "reserved"
    return None


def _in(address: IpAddress, nets: Iterable[IpNetwork]) -> bool:
    return any(address.version == net.version and address in net for net in nets)


def _listed_alone(address: IpAddress, policy: TargetPolicy) -> bool:
    return _in(address, (net for net in policy.allowed_targets if net.num_addresses == 1))


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" or kind == "unspecified" else f"a {kind}"


def _bad_url(problem: str) -> OutboundError:
    return OutboundError("bad_url", f"the URL cannot be used: {problem}")
