"""What no single key of config.json shows, and what its types say, as ``ConfigError``s: all of them, in file order."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from offhook.config.settings import DELIVERIES_DAYS_MIN, DEMO_AGENT_ID, Section, Settings
from offhook.model.errors import ConfigError
from offhook.store.forms import (
    TRUNK_KINDS,
    Form,
    Known,
    check_agent,
    check_networks,
    check_number,
    check_squad,
    check_tool,
    check_trunk,
    check_url,
    check_webhook,
)

LISTS = ("trunks", "tools", "agents", "numbers", "squads", "webhooks")
"""Keys of config.json that hold forms, in the order they are checked."""


def convert(document: Mapping[str, Any]) -> Settings:
    """The document as settings. Raises ``ConfigError`` for the first value its types forbid."""
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise _type_error(str(error)) from None


def shape_problems(document: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Every value whose type is wrong, every key offhook does not know, every key that is missing."""
    yield from _struct_problems("", Settings, document)


def settings_problems(settings: Settings) -> Iterator[ConfigError]:
    """What no single key shows; a form has one problem at most, the first."""
    for check in (_check_ports, _check_tls, _check_sip, _check_http, *_form_checks(settings)):
        try:
            check(settings)
        except ConfigError as error:
            yield error


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────


def _struct_problems(path: str, kind: Any, value: object) -> Iterator[ConfigError]:
    """The problems of one section or form: of its keys each for itself, and only then of the whole."""
    if not (isinstance(value, dict) and isinstance(kind, type)):
        yield from _value_problems(path, kind, value)
        return
    hints = get_type_hints(kind, include_extras=True)
    found = False
    for key, inner in value.items():
        if key in hints and (nested := _nested(hints[key])) is not None:
            problems = list(nested(f"{path}.{key}" if path else key, inner))
            found = found or bool(problems)
            yield from problems
        elif problem := _key_problem(path, kind, hints, key, inner):
            found = True
            yield problem
    if not found and path:
        yield from _value_problems(path, kind, value)


def _nested(hint: Any) -> Callable[[str, object], Iterator[ConfigError]] | None:
    """How to look into a section, or into a list of forms; None for a plain value."""
    if isinstance(hint, type) and issubclass(hint, Section):
        return lambda path, value: _struct_problems(path, hint, value)
    form = form_of(hint)
    if form is None:
        return None

    def look(path: str, value: object) -> Iterator[ConfigError]:
        if not isinstance(value, list):
            yield from _value_problems(path, hint, value)
            return
        for index, one in enumerate(value):
            yield from _struct_problems(f"{path}[{index}]", _kind_of(form, one), one)

    return look


def form_of(hint: Any) -> Any:
    """The form, or the union of forms, that a list of config.json holds; None for any other type."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is not tuple:
        return None
    inner = get_args(hint)[0]
    forms = get_args(inner) if get_origin(inner) in (Union, types.UnionType) else (inner,)
    return inner if all(isinstance(form, type) and issubclass(form, Form) for form in forms) else None


def _kind_of(form: Any, value: object) -> Any:
    """The member of a union of forms that ``value`` says it is; the form itself where there is no union."""
    if isinstance(form, type) or not isinstance(value, dict):
        return form
    return TRUNK_KINDS.get(str(value.get("kind")), form)


def _key_problem(path: str, kind: Any, hints: Mapping[str, Any], key: str, value: object) -> ConfigError | None:
    here = f"{path}.{key}" if path else key
    if key in hints:
        return next(_value_problems(here, hints[key], value), None)
    if key == kind.__struct_config__.tag_field:
        return None
    return ConfigError(here, "is no key offhook knows", _known_keys(path))


def _value_problems(path: str, kind: Any, value: object) -> Iterator[ConfigError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield _type_error(str(error), path)


def _type_error(message: str, above: str = "") -> ConfigError:
    where = re.search(r" - at `\$\.?(.*)`$", message)
    inner = where.group(1) if where else ""
    key = above + (f".{inner}" if above and inner and not inner.startswith("[") else inner)
    unknown = re.search(r"unknown field `(.*?)`", message)
    if unknown:
        return ConfigError(
            f"{key}.{unknown.group(1)}" if key else unknown.group(1), "is no key offhook knows", _known_keys(key)
        )
    if key.endswith(".kind") or "`kind`" in message:
        return ConfigError(key, problem_of(message), f"Set kind to one of: {', '.join(TRUNK_KINDS)}")
    return ConfigError(key or "config.json", problem_of(message), "Correct the value in config.json")


def problem_of(message: str) -> str:
    """msgspec's message without the place, to go on after a colon."""
    text = re.sub(r" - at `.*`$", "", message)
    return text[:1].lower() + text[1:]


def _known_keys(path: str) -> str:
    """What to write instead, in the section or form at that path."""
    top = re.sub(r"[.\[].*", "", path)
    if top == "trunks":
        return "Remove it. " + "; ".join(f"{kind}: {_names(section)}" for kind, section in TRUNK_KINDS.items())
    kind: Any = Settings
    for name in re.findall(r"[a-z_]+", path):
        hint = get_type_hints(kind, include_extras=True)[name]
        kind = form_of(hint) or hint
    return f"Remove it, or use one of: {_names(kind)}"


def _names(section: type[msgspec.Struct]) -> str:
    return ", ".join(sorted(field.name for field in msgspec.structs.fields(section)))


# ── what no single key shows ─────────────────────────────────────────────────────────────────────────────


def _form_checks(settings: Settings) -> Iterator[Callable[[Settings], None]]:
    """One check for each form, and one for the ids of each list."""
    known = Known(
        agents=[agent.id for agent in settings.agents] or [DEMO_AGENT_ID],
        trunks=[trunk.id for trunk in settings.trunks],
        tools=[tool.id for tool in settings.tools],
    )
    checks: Mapping[str, Callable[[str, Any], None]] = {
        "trunks": check_trunk,
        "tools": check_tool,
        "agents": partial(check_agent, known=known),
        "numbers": partial(check_number, known=known),
        "squads": partial(check_squad, known=known),
        "webhooks": check_webhook,
    }
    for name in LISTS:
        yield partial(_check_ids, name)
        for index in range(len(getattr(settings, name))):
            yield partial(_check_form, name, index, checks[name])


def _check_form(name: str, index: int, check: Callable[[str, Any], None], settings: Settings) -> None:
    check(f"{name}[{index}]", getattr(settings, name)[index])


def _check_ids(name: str, settings: Settings) -> None:
    ids = [form.id for form in getattr(settings, name)]
    for index, one in enumerate(ids):
        if one in ids[:index]:
            key, fix = (
                ("user", "Keep one of them") if name == "numbers" else ("id", f"Give each {name[:-1]} its own id")
            )
            raise ConfigError(f"{name}[{index}].{key}", f"{one!r} is used twice", fix)


def _check_ports(settings: Settings) -> None:
    rtp = settings.rtp
    if rtp.port_max <= rtp.port_min + rtp.port_min % 2:
        fix = "Widen the range: a call takes an even port and the odd one above"
        raise ConfigError("rtp.port_max", "leaves no pair of ports above rtp.port_min", fix)


def _check_tls(settings: Settings) -> None:
    if "tls" in settings.sip.transports and not (settings.tls.certificate and settings.tls.private_key):
        raise ConfigError("tls.certificate", "is needed for transport tls", "Name the PEM files of certificate and key")


def _check_sip(settings: Settings) -> None:
    sip = settings.sip
    check_networks("sip.local_networks", sip.local_networks)
    if sip.advertised_address:
        _check_address("sip.advertised_address", sip.advertised_address)
    for index, server in enumerate(sip.nameservers):
        _check_address(f"sip.nameservers[{index}]", _host(server))
    if not sip.transports:
        raise ConfigError("sip.transports", "is empty", 'Name at least one: ["udp", "tcp"]')
    if len(set(sip.transports)) < len(sip.transports):
        raise ConfigError("sip.transports", "names one transport twice", "Name each once")


def _host(address: str) -> str:
    """Without the port, where there is one: an IPv6 address without brackets has none."""
    if "[" in address:
        return address.partition("]")[0].lstrip("[")
    return address.partition(":")[0] if address.count(":") == 1 else address


def _check_address(key: str, text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise ConfigError(key, f"{text!r} is not an IP address", "Write it as 192.0.2.1 or 2001:db8::1") from None


def _check_http(settings: Settings) -> None:
    check_networks("security.allowed_targets", settings.security.allowed_targets)
    if settings.telemetry.otlp_endpoint:
        check_url("telemetry.otlp_endpoint", settings.telemetry.otlp_endpoint)
    if 0 < settings.retention.deliveries_days < DELIVERIES_DAYS_MIN:
        fix = f"Set it to {DELIVERIES_DAYS_MIN} or more, or to 0 for ever"
        raise ConfigError("retention.deliveries_days", "is too short to find out and replay what was lost", fix)
