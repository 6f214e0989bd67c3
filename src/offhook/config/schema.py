"""The JSON Schema (2020-12) of config.json, for editors: shapes from the types, descriptions from the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from offhook.config.settings import Settings
from offhook.model.records import Agent, Number, Squad, Tool, TransferDestination, WebhookEndpoint
from offhook.model.trunks import CallRules, GatewayTrunk, OpenTrunk, RegisterTrunk

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_KEY = "$schema"
"""Where editors look for a file's schema; config.json may have it, and offhook does not read it."""

_RECORDS: Mapping[str, tuple[type, ...]] = {
    "AgentForm": (Agent,),
    "DestinationForm": (TransferDestination,),
    "NumberForm": (Number,),
    "ToolForm": (Tool,),
    "FunctionForm": (Tool,),
    "SquadForm": (Squad,),
    "WebhookForm": (WebhookEndpoint,),
    "RegisterForm": (RegisterTrunk, CallRules),
    "GatewayForm": (GatewayTrunk, CallRules),
    "OpenForm": (OpenTrunk, CallRules),
}
"""What each form becomes: its docstring says more about the keys."""


def config_schema() -> dict[str, Any]:
    """The schema as a document; ``$defs`` has one entry for each section and form."""
    (_,), definitions = msgspec.json.schema_components([Settings], ref_template="#/$defs/{name}")
    for name, definition in definitions.items():
        _describe(definition, [definition.get("description", ""), *(_text(one) for one in _RECORDS.get(name, ()))])
    settings = definitions.pop("Settings")
    settings["properties"] = {SCHEMA_KEY: {"type": "string"}, **settings["properties"]}
    settings["title"] = "config.json of offhook"
    return {SCHEMA_KEY: DIALECT, **settings, "$defs": definitions}


def _text(record: type) -> str:
    return inspect.getdoc(record) or ""


def _describe(definition: dict[str, Any], texts: list[str]) -> None:
    """Give the section its first text, and each key the sentences that name it, of the first text that has some."""
    whole = [re.sub(r"\s+", " ", text) for text in texts]
    if whole[0]:
        definition["description"] = _plain(whole[0])
    for key, shape in definition["properties"].items():
        said = next(filter(None, (_sentences_on(key, text) for text in whole)), "")
        if said:
            shape["description"] = _plain(said)


def _sentences_on(key: str, text: str) -> str:
    """The sentences that name ``key``; a record's own name for it (``trunk_id``) becomes the form's."""
    sentences = re.split(r"(?<=[.;]) (?=[A-Z`])", text.replace(f"``{key}_id``", f"``{key}``"))
    return " ".join(sentence for sentence in sentences if f"``{key}``" in sentence)


def _plain(text: str) -> str:
    """Without the marks of our docstrings, and without names of our code."""
    return re.sub(r"; see ``[A-Z]\w*``", "", text).replace("``", "`").rstrip(";")
