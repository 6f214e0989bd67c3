"""The secrets of a form: found by their types, kept apart from it, and put back for the engine.

Each has a path: ``password``, or ``headers.Authorization`` for one of a map. An empty one is none. Of some maps only
what its name says is secret: ``options.api_key`` of an agent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from offhook.store.form_parts import SECRET_OPTIONS, Form
from offhook.store.forms import AgentForm, AnyForm, NumberForm, SquadForm, ToolForm, WebhookForm
from offhook.store.trunk_forms import GatewayForm, OpenForm, RegisterForm, TrunkForm

Kind = Literal["agent", "trunk", "number", "tool", "squad", "webhook"]

FORMS: Mapping[Kind, Any] = {
    "agent": AgentForm,
    "trunk": TrunkForm,
    "number": NumberForm,
    "tool": ToolForm,
    "squad": SquadForm,
    "webhook": WebhookForm,
}

_STRUCTS: Mapping[Kind, tuple[type[Form], ...]] = {
    **{kind: (form,) for kind, form in FORMS.items() if isinstance(form, type)},
    "trunk": (RegisterForm, GatewayForm, OpenForm),
}


@cache
def secret_fields(kind: Kind) -> Mapping[str, bool]:
    """The names of a kind's secret fields, and whether each is a map of several."""
    fields = (field for form in _STRUCTS[kind] for field in msgspec.structs.fields(form))
    return {field.name: _is_map(field.type) for field in fields if is_secret(field.type)}


@cache
def partly_secret_fields(kind: Kind) -> frozenset[str]:
    """The names of a kind's maps that hold secrets beside what may be shown (``forms.OptionMap``)."""
    fields = (field for form in _STRUCTS[kind] for field in msgspec.structs.fields(form))
    return frozenset(field.name for field in fields if "x-write-only-names" in _schema_of(field.type))


def is_secret_option(name: str) -> bool:
    return re.search(SECRET_OPTIONS, name) is not None


def is_secret(hint: Any) -> bool:
    """Whether a type says ``writeOnly`` (``forms.Secret``, ``forms.SecretMap``)."""
    return bool(_schema_of(hint).get("writeOnly"))


def _schema_of(hint: Any) -> Mapping[str, Any]:
    """What a type says beyond what it is."""
    if get_origin(hint) is not Annotated:
        return {}
    metas = (meta for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta))
    return {name: value for meta in metas for name, value in (meta.extra_json_schema or {}).items()}


def form_of(kind: Kind, values: Mapping[str, Any]) -> AnyForm:
    """Raises ``msgspec.ValidationError`` for a value that its type forbids, and for a field that no form has."""
    form: AnyForm = msgspec.convert(values, FORMS[kind])
    return form


def split(kind: Kind, form: AnyForm) -> tuple[dict[str, Any], dict[str, str]]:
    """What may be shown, as JSON-able values, and the secrets by path."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(form))  # lists, as the database gives them back
    secrets: dict[str, str] = {}
    for name, is_map in secret_fields(kind).items():
        held = values.pop(name, "")
        found = {f"{name}.{key}": value for key, value in held.items()} if is_map else {name: held}
        secrets.update((path, value) for path, value in found.items() if value)
    for name in partly_secret_fields(kind):
        held = values[name]
        secrets.update((f"{name}.{key}", value) for key, value in held.items() if is_secret_option(key) and value)
        values[name] = {key: value for key, value in held.items() if not is_secret_option(key)}
    return values, secrets


def joined(kind: Kind, values: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The reverse of ``split``; the input of ``form_of``."""
    whole = dict(values)
    fields = secret_fields(kind)
    for path, secret in secrets.items():
        name, _, key = path.partition(".")
        if fields.get(name) or name in partly_secret_fields(kind):
            whole[name] = {**whole.get(name, {}), key: secret}
        else:
            whole[name] = secret
    return whole


def kept(kind: Kind, whole: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``values``, which are to replace those of ``whole``, with the secrets that they leave out."""
    left_out = {name: whole[name] for name in secret_fields(kind) if name in whole and name not in values}
    for name in partly_secret_fields(kind):
        secrets = {key: value for key, value in whole.get(name, {}).items() if is_secret_option(key)}
        given = values.get(name, {})
        if secrets and isinstance(given, Mapping):
            left_out[name] = {**secrets, **given}
    return {**values, **left_out}


def _is_map(hint: Any) -> bool:
    return get_origin(get_args(hint)[0]) is dict
