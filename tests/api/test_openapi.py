"""The document says what the server does: every example is what its schema allows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from tests.api.served import Served

from offhook.api.endpoints import Endpoint
from offhook.api.native.resources import FAMILIES
from offhook.api.native.table import NATIVE
from offhook.api.openapi import openapi
from offhook.api.problems import MEANINGS

DOCUMENT = openapi(NATIVE, "1.2.3")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def check(schema: dict[str, Any], example: Any) -> None:
    """Raises ``jsonschema_rs.ValidationError``."""
    whole = {**schema, "$schema": DIALECT, "components": DOCUMENT["components"]}
    jsonschema_rs.validator_for(whole, validate_formats=True).validate(example)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def examples() -> list[Any]:
    """Of bodies, answers and errors, each once."""
    found: dict[str, Any] = {}
    for name, operation in operations():
        described = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for where, one in described.items():
            for media, form in one.get("content", {}).items():
                if "example" in form:
                    found.setdefault(
                        repr(form), pytest.param(form["schema"], form["example"], id=f"{name} {where} {media}")
                    )
    for code, response in DOCUMENT["components"]["responses"].items():
        form = response["content"]["application/json"]
        found.setdefault(repr(form), pytest.param(form["schema"], form["example"], id=code))
    return list(found.values())


@pytest.mark.parametrize(("schema", "example"), examples())
def test_every_example_is_what_its_schema_allows(schema: dict[str, Any], example: Any) -> None:
    check(schema, example)


def test_every_json_body_and_answer_has_an_example() -> None:
    without = [
        endpoint.operation
        for endpoint in NATIVE
        for form in endpoint.answers
        if form.media == "application/json" and form.example is None
    ]
    assert without == ["getOpenApi"]  # it would be the document in itself


def test_every_operation_has_its_own_name_and_a_summary() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(names) == len(set(names)) == len(NATIVE)
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)
    assert all(operation["summary"] for _, operation in operations())


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (target for key, target in value.items() if key == "$ref")
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    for reference in references(DOCUMENT):
        _, _, *steps = reference.split("/")
        found = DOCUMENT["components"]
        for step in steps[0:] if steps[0] != "components" else steps[1:]:
            found = found[step]


def test_secrets_are_written_and_never_read() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for form, field in (
        ("RegisterForm", "password"),
        ("GatewayForm", "password"),
        ("NumberForm", "ask_secret"),
        ("ToolForm", "headers"),
        ("ToolForm", "secret"),
        ("WebhookForm", "secret"),
    ):
        assert schemas[form]["properties"][field]["writeOnly"] is True
    shown = {name: schema for name, schema in schemas.items() if "revision" in schema.get("properties", {})}
    assert set(shown) == {"Agent", "RegisterTrunk", "GatewayTrunk", "OpenTrunk", "Number", "Tool", "Squad", "Webhook"}
    assert not any("password" in schema["properties"] for schema in shown.values())


@pytest.mark.parametrize("endpoint", NATIVE, ids=lambda endpoint: endpoint.operation)
def test_an_endpoint_names_every_error_that_follows_from_it(endpoint: Endpoint) -> None:
    statuses = {MEANINGS[code].status for code in endpoint.problems()}
    documented = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]["responses"]

    assert {str(status) for status in statuses} <= set(documented)
    assert ("401" in documented) == ("403" in documented) == bool(endpoint.scope)
    assert ("404" in documented) == bool(endpoint.path_parameters)


def test_every_error_code_is_explained_with_an_example() -> None:
    assert set(DOCUMENT["components"]["responses"]) == set(MEANINGS)


async def test_it_is_served_to_everybody(served: Served) -> None:
    await served.key()
    said = await served.get("/api/openapi.json")

    assert (said.status, said.json["openapi"]) == (200, "3.1.0")
    assert said.json["paths"].keys() == DOCUMENT["paths"].keys()


async def test_what_is_asked_as_an_example_is_answered_as_documented(served: Served) -> None:
    """The bodies of all POSTs, in an order in which each finds what it names."""
    await served.ask("POST", "/api/agents", json={"id": "orders"})
    await served.ask("POST", "/api/tools", json={"id": "known", **FAMILIES[3].example})
    for family in FAMILIES:
        body = dict(family.example) if family.kind == "number" else {"id": family.example_id, **family.example}
        said = await served.ask("POST", family.path, json=body)
        assert said.status == 201, said.data
        check(
            DOCUMENT["paths"][family.path]["post"]["responses"]["201"]["content"]["application/json"]["schema"],
            said.json,
        )
        expected = {**family.answered(), **family.made}
        assert said.json.keys() == expected.keys()
        volatile = ("created_at", "updated_at", "secret")
        assert {key: said.json[key] for key in said.json if key not in volatile} == {
            key: value for key, value in expected.items() if key not in volatile
        }
