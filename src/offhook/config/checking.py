"""What no single key of config.json shows, and what its types say, as ``ConfigError``s: all of them, in file order."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from offhook.config.definitions import forms_of
from offhook.config.section import Section, instead_of
from offhook.config.settings import DELIVERIES_DAYS_MIN, HOURS, Settings
from offhook.config.sip4ai import sip4ai_checks
from offhook.config.sip4ai_keys import ALL_WORDS, ProviderSection
from offhook.model.errors import ConfigError
from offhook.model.written_values import how_written
from offhook.store.form_parts import Form, check_networks, check_url
from offhook.store.forms import Known, check_agent, check_number, check_squad, check_tool, check_webhook
from offhook.store.trunk_forms import TRUNK_KINDS, check_trunk

LISTS = ("trunks", "tools", "agents", "numbers", "squads", "webhooks")
"""Keys of config.json that hold forms, in the order they are checked."""


def convert(document: Mapping[str, Any]) -> Settings:
    """The document as settings. Raises ``ConfigError`` for the first value its types forbid."""
    for problem in shape_problems(document):
        raise problem
    return msgspec.convert(document, Settings)


def shape_problems(document: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Every value whose type is wrong, every key offhook does not know, every key that is missing."""
    yield from _problems_at("", Settings, document)


def settings_problems(settings: Settings) -> Iterator[ConfigError]:
    """What no single key shows; a form has one problem at most, the first."""
    checks = (_check_ports, _check_tls, _check_sip, _check_http, _check_dialling)
    for check in (*checks, *sip4ai_checks(settings), *_form_checks(settings)):
        try:
            check(settings)
        except ConfigError as error:
            yield error


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────


def _problems_at(path: str, hint: Any, value: object) -> Iterator[ConfigError]:
    """Sections and forms key by key, lists of forms one by one, anything else as msgspec judges it.

    Of what providers are told only the words are judged that are the same for all.
    """
    if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, (Section, Form)):
        yield from _struct_problems(path, hint, value)
    elif isinstance(value, list) and value and (form := form_of(hint)) is not None:
        for index, one in enumerate(value):
            yield from _problems_at(f"{path}[{index}]", _kind_of(form, one), one)
    elif isinstance(value, dict) and hint is ProviderSection:
        for word in (word for word in value if word in ALL_WORDS):
            yield from _problems_at(f"{path}.{word}", str, value[word])
    else:
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            yield _type_error(path, str(error))


def _struct_problems(path: str, kind: type[msgspec.Struct], value: Mapping[str, Any]) -> Iterator[ConfigError]:
    hints = get_type_hints(kind, include_extras=True)
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        if key in hints:
            yield from _problems_at(here, hints[key], inner)
        elif key != kind.__struct_config__.tag_field:
            yield ConfigError(here, "is no key offhook knows", _known_keys(path, key))
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in value:
            yield ConfigError(f"{path}.{field.name}", "is missing", f"Needed are: {_names(kind, required=True)}")


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


def _type_error(path: str, message: str) -> ConfigError:
    """msgspec's message about the value at ``path``; it names the place inside."""
    where = re.search(r" - at `\$\.?(.*)`$", message)
    inner = where.group(1) if where else ""
    key = path + (f".{inner}" if inner and not inner.startswith("[") else inner)
    if key.endswith(".kind") or "`kind`" in message:
        return ConfigError(key, problem_of(message), f"Set kind to one of: {', '.join(TRUNK_KINDS)}")
    return ConfigError(key, problem_of(message), _fix(key, message))


def _fix(key: str, message: str) -> str:
    if "enum value" not in message:
        wanted = how_written(message)
        return f"Correct the value in config.json{f': write {wanted}' if wanted else ''}"
    hint = _hint_at(key)
    while get_origin(hint) is not Literal:
        hint = get_args(hint)[0]
    return f"Use one of: {', '.join(str(choice) for choice in get_args(hint) if choice)}"


def problem_of(message: str) -> str:
    """msgspec's message without the place, to go on after a colon."""
    text = re.sub(r" - at `.*`$", "", message)
    return text[:1].lower() + text[1:]


def _known_keys(path: str, key: str) -> str:
    """What to write instead of ``key``, in the section or form at that path."""
    hint = _hint_at(path)
    form = form_of(hint) or hint
    if isinstance(form, type):
        return instead_of(key.lower(), _names(form).split(", "))
    return "Remove it. " + "; ".join(f"{kind}: {_names(section)}" for kind, section in TRUNK_KINDS.items())


def _hint_at(path: str) -> Any:
    """The type of the value at a path such as ``agents[0].destinations[1]``."""
    hint: Any = Settings
    for name in re.findall(r"[a-z]\w*", path):
        form = form_of(hint) or hint
        kinds = (form,) if isinstance(form, type) else get_args(form)
        hint = next(hints[name] for kind in kinds if name in (hints := get_type_hints(kind, include_extras=True)))
    return hint


def _names(section: type[msgspec.Struct], *, required: bool = False) -> str:
    return ", ".join(sorted(field.name for field in msgspec.structs.fields(section) if field.required or not required))


# ── what no single key shows ─────────────────────────────────────────────────────────────────────────────


def _form_checks(settings: Settings) -> Iterator[Callable[[Settings], None]]:
    """One check for each form, and one for the ids of each list."""
    forms = forms_of(settings)
    known = Known(
        agents=[agent.id for agent in forms.agents],
        trunks=[trunk.id for trunk in forms.trunks],
        tools=[tool.id for tool in forms.tools],
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


def _check_dialling(settings: Settings) -> None:
    dialling = settings.dialling
    for name in ("allow", "deny"):
        for index, prefix in enumerate(getattr(dialling, name)):
            if not re.fullmatch(r"\+[1-9][0-9]{0,14}|[0-9x]{1,6}", prefix):
                fix = "Write how the numbers begin, as +49 or +4930; an extension whole, as 200 or 2xx"
                raise ConfigError(f"dialling.{name}[{index}]", f"{prefix!r} begins no number", fix)
    begin, _, end = dialling.hours.partition("-")
    if dialling.hours and (begin == end or not re.fullmatch(HOURS, dialling.hours, re.ASCII)):
        fix = "Write it as 08:00-20:30; leave it out for the whole day"
        raise ConfigError("dialling.hours", f"{dialling.hours!r} is no part of a day", fix)
    if dialling.time_zone and not _is_time_zone(dialling.time_zone):
        fix = "Write it as Europe/Berlin; where no zone is known, install tzdata"
        raise ConfigError("dialling.time_zone", f"{dialling.time_zone!r} is no time zone known here", fix)


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True
