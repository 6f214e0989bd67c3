"""Trunks as JSON has them; what ``forms`` says of forms holds for these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from phonenumbers import SUPPORTED_REGIONS

from offhook.audio.opus import opus_problem
from offhook.model.audio import Encoding
from offhook.model.errors import ConfigError, SipParseError
from offhook.model.trunks import (
    MIN_SE_S,
    REGISTRATION_S,
    SESSION_EXPIRES_S,
    CallRules,
    DigestAlgorithm,
    DtmfMethod,
    GatewayTrunk,
    OpenTrunk,
    ReferPolicy,
    RegisterTrunk,
    ReliableProvisional,
    SrtpPolicy,
    Trunk,
)
from offhook.sip.uri import SipUri, host_uri
from offhook.store.form_parts import (
    Form,
    FormId,
    Port,
    Secret,
    at,
    check_headers,
    check_networks,
)

CodecName = Literal["G722", "PCMU", "PCMA", "opus"]
"""As SDP writes them (RFC 3551 §6, RFC 7587)."""


class _TrunkForm(Form, frozen=True, tag_field="kind"):
    """What every kind of trunk has; see ``CallRules``."""

    id: FormId
    codecs: Annotated[tuple[CodecName, ...], msgspec.Meta(min_length=1)] = ("G722", "PCMU", "PCMA")
    srtp: SrtpPolicy = "off"
    srtp_without_tls: bool = False
    dtmf: DtmfMethod = "auto"
    refer: ReferPolicy = "refuse"
    session_expires_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = SESSION_EXPIRES_S
    min_se_s: Annotated[int, msgspec.Meta(ge=MIN_SE_S, le=86400)] = MIN_SE_S
    reliable_provisional: ReliableProvisional = "supported"
    early_media: bool = False
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    price_per_min: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    caller_ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)] = ()
    region: Annotated[str, msgspec.Meta(pattern="^([A-Z]{2})?$")] = ""
    max_calls: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 0


class RegisterForm(_TrunkForm, frozen=True, kw_only=True, tag="register"):
    """We are an extension of ``server``; see ``RegisterTrunk``."""

    server: Annotated[str, msgspec.Meta(min_length=1)]
    username: Annotated[str, msgspec.Meta(min_length=1)]
    password: Secret = ""
    port: Port = 0
    transport: Literal["", "udp", "tcp", "tls"] = ""
    domain: str = ""
    auth_id: str = ""
    outbound_proxy: str = ""
    expires_s: Annotated[int, msgspec.Meta(ge=30, le=86400)] = REGISTRATION_S


class GatewayForm(_TrunkForm, frozen=True, tag="gateway"):
    """Peers known by address; see ``GatewayTrunk``."""

    peers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    username: str = ""
    auth_id: str = ""
    password: Secret = ""
    require_digest: bool = False
    digest_algorithms: Annotated[tuple[DigestAlgorithm, ...], msgspec.Meta(min_length=1)] = ("SHA-256", "MD5")


class OpenForm(_TrunkForm, frozen=True, tag="open"):
    """Anyone may dial the numbers served; see ``OpenTrunk``."""

    calls_per_s: Annotated[float, msgspec.Meta(gt=0, le=10000)] = 10.0


TrunkForm = RegisterForm | GatewayForm | OpenForm

TRUNK_KINDS: Mapping[str, type[msgspec.Struct]] = {
    "register": RegisterForm,
    "gateway": GatewayForm,
    "open": OpenForm,
}


def check_trunk(key: str, trunk: TrunkForm) -> None:
    """Raises ``ConfigError``."""
    check_headers(at(key, "headers"), trunk.headers)
    _check_numbers(key, trunk)
    if "opus" in trunk.codecs and (remedy := opus_problem()):
        raise ConfigError(at(key, "codecs"), "opus cannot be used here", remedy)
    if trunk.session_expires_s and trunk.session_expires_s < trunk.min_se_s:
        fix = f"Set it to {trunk.min_se_s} or more, or to 0 for none"
        raise ConfigError(at(key, "session_expires_s"), "is less than min_se_s", fix)
    if isinstance(trunk, GatewayForm):
        _check_gateway(key, trunk)
    elif isinstance(trunk, RegisterForm):
        _check_register(key, trunk)


def _check_numbers(key: str, trunk: TrunkForm) -> None:
    for index, number in enumerate(trunk.caller_ids):
        if not re.fullmatch(r"\+[1-9][0-9]{1,19}|[A-Za-z0-9_.-]{1,64}", number):
            fix = "Write it as +4930123456, or the digits or name that the system behind the trunk knows, as 200"
            raise ConfigError(at(key, f"caller_ids[{index}]"), f"{number[:40]!r} is no number", fix)
    if trunk.region and trunk.region not in SUPPORTED_REGIONS:
        fix = "Use the two letters of ISO 3166, as DE, GB or US"
        raise ConfigError(at(key, "region"), f"{trunk.region!r} is no country with numbers of its own", fix)


def _check_register(key: str, trunk: RegisterForm) -> None:
    for name, value in (("server", trunk.server), ("domain", trunk.domain)):
        try:
            uri = host_uri(value or "none")
        except SipParseError:
            fix = "Give a name or an IP address alone"
            raise ConfigError(at(key, name), f"{value!r} is no host", fix) from None
        if uri.user is not None or uri.params or uri.port is not None:
            fix = "Put its parts into username, port, transport"
            raise ConfigError(at(key, name), f"{value!r} is more than a host", fix)


def _check_gateway(key: str, trunk: GatewayForm) -> None:
    check_networks(at(key, "peers"), trunk.peers)
    for index, target in enumerate(trunk.targets):
        try:
            SipUri.parse(target)
        except SipParseError as error:
            fix = "Write it as sip:host, sip:host:port or sip:host;transport=tcp"
            raise ConfigError(at(key, f"targets[{index}]"), error.problem, fix) from None
    if not trunk.peers and not trunk.targets and not trunk.require_digest:
        raise ConfigError(key or "peers", "neither lets anyone in nor leads anywhere", "Name peers, targets, or both")
    if trunk.require_digest and not (trunk.username and trunk.password):
        raise ConfigError(at(key, "password"), "is needed with require_digest", "Give username and password")


def trunk_record(trunk: TrunkForm) -> Trunk:
    values = msgspec.structs.asdict(trunk)
    values["trunk_id"] = values.pop("id")
    rules = {name: values.pop(name) for name in CallRules.__slots__}
    rules["codecs"] = tuple(Encoding(name) for name in trunk.codecs)
    rules["headers"] = tuple(trunk.headers.items())
    values["rules"] = CallRules(**rules)
    kinds = {RegisterForm: RegisterTrunk, GatewayForm: GatewayTrunk, OpenForm: OpenTrunk}
    record: Trunk = kinds[type(trunk)](**values)
    return record
