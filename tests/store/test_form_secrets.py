"""Which fields of which forms are secret, kept apart and put back."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import pytest

from offhook.store import form_secrets
from offhook.store.form_secrets import FORMS, Kind, form_of, is_secret, joined, kept, secret_fields, split


def test_the_secrets_of_every_kind() -> None:
    assert {kind: dict(secret_fields(kind)) for kind in FORMS} == {
        "agent": {},
        "trunk": {"password": False},
        "number": {"ask_secret": False},
        "tool": {"headers": True, "secret": False},
        "squad": {},
        "webhook": {"secret": False, "previous_secret": False},
    }


@pytest.mark.parametrize("kind", FORMS)
def test_no_secret_lies_deeper_than_a_form_where_it_would_be_stored_as_it_is(kind: Kind) -> None:
    for form in form_secrets._STRUCTS[kind]:
        for field in msgspec.structs.fields(form):
            assert list(secrets_below(field.type)) == []


def secrets_below(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (tuple, Union, types.UnionType):
        for inner in get_args(hint):
            yield from ([inner] if is_secret(inner) else secrets_below(inner))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        for field in msgspec.structs.fields(hint):
            yield from ([field] if is_secret(field.type) else secrets_below(field.type))


VALUES: dict[Kind, dict[str, Any]] = {
    "trunk": {"kind": "gateway", "id": "t", "peers": ["192.0.2.1"], "username": "u", "password": "hidden"},
    "number": {"user": "1", "ask_url": "https://x.test", "ask_secret": "hidden"},
    "tool": {"id": "t", "name": "t", "url": "https://x.test", "headers": {"X.Key": "hidden"}, "secret": "hidden"},
    "webhook": {"id": "w", "url": "https://x.test", "secret": "hidden", "previous_secret": "hidden"},
    "agent": {
        "id": "a",
        "destinations": [{"name": "d", "target": "sip:x@y.test"}],
        "options": {"api_key": "hidden", "model": "m", "keyboard": "k"},
    },
    "squad": {"id": "s", "members": [{"agent": "a"}]},
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_comes_back_whole_and_its_shown_part_hides(kind: Kind) -> None:
    form = form_of(kind, VALUES[kind])
    shown, secrets = split(kind, form)
    assert "hidden" not in str(shown)
    assert set(secrets.values()) == ({"hidden"} if kind != "squad" else set())
    assert form_of(kind, joined(kind, shown, secrets)) == form


def test_an_option_is_a_secret_by_its_name() -> None:
    keys = ("api_key", "API_KEY", "apikey", "x-api-key", "token", "client_secret", "password")
    others = ("script", "keyboard", "max_tokens", "monkey", "model")
    shown, secrets = split("agent", form_of("agent", {"id": "a", "options": dict.fromkeys((*keys, *others), "x")}))
    assert secrets == {f"options.{name}": "x" for name in keys}
    assert shown["options"] == dict.fromkeys(others, "x")


def test_a_replacement_keeps_the_secrets_that_it_leaves_out() -> None:
    whole = {"id": "a", "options": {"api_key": "hidden", "model": "m"}}
    assert kept("agent", whole, {"id": "a"})["options"] == {"api_key": "hidden"}
    assert kept("agent", whole, {"id": "a", "options": {"model": "n"}})["options"] == {
        "api_key": "hidden",
        "model": "n",
    }
    assert kept("agent", whole, {"id": "a", "options": {"api_key": ""}})["options"] == {"api_key": ""}
    assert kept("agent", whole, {"id": "a", "options": 7}) == {"id": "a", "options": 7}  # which is refused later


def test_an_empty_secret_is_none() -> None:
    tool = form_of("tool", VALUES["tool"] | {"headers": {"A": ""}, "secret": ""})
    assert split("tool", tool)[1] == {}
