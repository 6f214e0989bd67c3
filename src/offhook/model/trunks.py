"""Trunks: the ways to and from other telephone systems; their states; and what is said about each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from offhook.model.audio import Encoding

TrunkPhase = Literal["registering", "online", "failed", "stopped"]
"""``registering``: no answer yet. ``failed``: refused or unreachable; tried again after a while."""

DigestAlgorithm = Literal["SHA-256", "MD5"]
TransportName = Literal["udp", "tcp", "tls"]

SrtpPolicy = Literal["off", "optional", "required"]
"""``optional``: offered on top, and taken where it is offered. ``required``: no call without it, ever."""

DtmfMethod = Literal["auto", "rfc4733", "info", "inband"]
"""How digits are sent. ``auto``: as RFC 4733 where it was agreed, else INFO where the peer allows that, else in-band.
Digits are understood by all three, whatever is set."""

ReferPolicy = Literal["refuse", "accept"]
ReliableProvisional = Literal["off", "supported", "required"]

SESSION_EXPIRES_S = 1800
"""RFC 4028 §4.2: "1800 seconds (30 minutes) is RECOMMENDED"."""
MIN_SE_S = 90
"""RFC 4028 §5: nobody may ask for less."""

DEFAULT_CODECS = (Encoding.G722, Encoding.PCMU, Encoding.PCMA)

REGISTRATION_S = 300
"""Short enough that a PBX which restarted is found again soon; most PBXs take anything from 60 s to an hour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRules:
    """What the calls of a trunk may and must do.

    ``codecs``: best first; only these are offered and taken. ``refer``: whether its peers may transfer us to others.
    ``session_expires_s``: after which a session without refresh is over (RFC 4028); 0: we ask for none. ``min_se_s``:
    the least we take. ``reliable_provisional``: whether our 18x are repeated until a PRACK comes (RFC 3262):
    where the peer supports it, or only with it. ``early_media``: callers hear our ringing tone by a 183.
    ``headers``: sent with every INVITE of ours by this trunk. ``srtp_without_tls``: keys may be sent and taken by
    signalling that others can read (RFC 4568 §8.3): for a network that nobody listens to, or while trying things out.
    ``price_per_min``: what its outbound calls cost, in whatever currency the account's limits are counted.
    ``caller_ids``: numbers that may be shown as the caller, E.164, or as the system behind it knows them; the first
    is shown where a call names none. ``region``: the country (ISO 3166, ``DE``) whose national numbers are
    dialled by it; "": that of the first of ``caller_ids``, else E.164 only.
    ``max_calls``: outbound, at once; 0 is no limit.
    """

    codecs: tuple[Encoding, ...] = DEFAULT_CODECS
    srtp: SrtpPolicy = "off"
    dtmf: DtmfMethod = "auto"
    refer: ReferPolicy = "refuse"
    session_expires_s: int = SESSION_EXPIRES_S
    min_se_s: int = MIN_SE_S
    reliable_provisional: ReliableProvisional = "supported"
    early_media: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    srtp_without_tls: bool = False
    price_per_min: float = 0.0
    caller_ids: tuple[str, ...] = ()
    region: str = ""
    max_calls: int = 0


DEFAULT_RULES = CallRules()


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisterTrunk:
    """We are an extension: we register at ``server`` and take what it sends us.

    ``port`` 0: found by DNS, else the transport's own. ``transport`` "": found by DNS, else UDP. ``domain`` is the
    right side of our address, ``server`` where empty. ``auth_id`` is the name in the digest, ``username`` where
    empty. ``outbound_proxy`` is a host, ``host:port`` or SIP URI that everything is sent through.
    """

    trunk_id: str
    server: str
    username: str
    password: str = field(default="", repr=False)
    port: int = 0
    transport: TransportName | Literal[""] = ""
    domain: str = ""
    auth_id: str = ""
    outbound_proxy: str = ""
    expires_s: int = REGISTRATION_S
    rules: CallRules = DEFAULT_RULES


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayTrunk:
    """Peers known by address: who calls from ``peers`` (CIDRs) is let in, who we call is reached by ``targets``.

    ``targets`` are SIP URIs tried in order. ``username`` and ``password`` answer their challenges; with
    ``require_digest`` the peers must give the same. ``digest_algorithms`` are offered to them in that order; older
    phones (SIPp, baresip 1, linphone 5.1) give up when they see another than MD5.
    """

    trunk_id: str
    peers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    username: str = ""
    auth_id: str = ""
    password: str = field(default="", repr=False)
    require_digest: bool = False
    digest_algorithms: tuple[DigestAlgorithm, ...] = ("SHA-256", "MD5")
    rules: CallRules = DEFAULT_RULES


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTrunk:
    """Anyone may dial the numbers served, ``calls_per_s`` times a second from one source."""

    trunk_id: str
    calls_per_s: float = 10.0
    rules: CallRules = DEFAULT_RULES


Trunk = RegisterTrunk | GatewayTrunk | OpenTrunk


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkChanged:
    """The state of a registration, told when any of it changes; times are Unix seconds.

    ``sip_code`` None: nobody answered, or all is well. ``fix`` says what to change where ``phase`` is failed.
    ``server`` is the address that answered last, as ``host:port/TRANSPORT``.
    """

    trunk_id: str
    phase: TrunkPhase
    at: float
    sip_code: int | None = None
    reason: str = ""
    fix: str = ""
    refreshed_at: float | None = None
    expires_at: float | None = None
    retry_at: float | None = None
    server: str = ""
