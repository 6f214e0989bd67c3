"""The table of endpoints as OpenAPI 3.1. Every schema comes from the type that reads or checks it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from http import HTTPStatus
from typing import Any

import msgspec

from offhook.api.endpoints import IDEMPOTENCY_KEY, JSON, MERGE_PATCH, REPLAYED, Body, Endpoint, Form, Page, Query
from offhook.api.problems import MEANINGS, Code, ErrorAnswer

REF = "#/components/schemas/{name}"

Schema = dict[str, Any]

DESCRIPTION = """\
Lists are paged: `limit` (1 to 100) and `offset` choose, `total` says how many there are.

What can be changed has a `revision`, which is also its `ETag`: send it back as `If-Match`, and nobody's change in
between is overwritten (412). PUT replaces everything; write-only fields that are left out keep their value. PATCH is a
JSON merge patch (RFC 7396).

Every error has the same shape: `error` (a sentence), `code`, and where it is known `field` and `hint`.

Times are ISO 8601 in UTC."""

_KEY_HEADER: Schema = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "description": "A key of yours, such as a UUID: what is sent again with it within 24 h is not done again, but "
    "answered as it was",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
}

_REPLAYED_TEXT = "`true`: it was done before, and this is what was answered then"


def openapi(endpoints: Sequence[Endpoint], version: str) -> Schema:
    """The whole document, ready for JSON."""
    schemas = _Schemas(endpoints)
    paths: dict[str, Schema] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "offhook",
            "version": version,
            "summary": "AI voice agents on the phone over SIP",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {code: _problem(code, schemas) for code in MEANINGS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; none while none was made"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


class _Schemas:
    """The components, and how each type is referred to."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        types = list(dict.fromkeys(_types(endpoints)))
        found, components = msgspec.json.schema_components(types, ref_template=REF)
        self._refs = dict(zip(types, found, strict=True))
        self.components: dict[str, Schema] = {name: _tidied(schema) for name, schema in components.items()}

    def of(self, kind: Any) -> Schema:
        schema: Schema = self._refs[kind]
        return schema

    def answer(self, form: Form) -> Schema:
        if not isinstance(form.type, Page):
            return self.of(form.type)
        count = {"type": "integer", "minimum": 0}
        properties = {
            form.type.key: {"type": "array", "items": self.of(form.type.of)},
            "total": count,
            "limit": count,
            "offset": count,
        }
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    def body(self, body: Body) -> Schema:
        """Of the type, with fewer fields required; a patch has none, and null takes a field away."""
        schema = self.of(body.type)
        if body.patch:
            return self._derived(schema, "Patch", _as_patch)
        if body.optional:
            return self._derived(schema, "Body", lambda found: _without(found, body.optional))
        return schema

    def _derived(self, schema: Schema, suffix: str, change: Any) -> Schema:
        """A component beside the one that ``schema`` refers to, or beside each of its kinds."""
        if "anyOf" in schema:
            kinds = [self._derived(each, suffix, change) for each in schema["anyOf"]]
            return {"anyOf": kinds}
        name = schema["$ref"].rpartition("/")[2]
        derived = name.removesuffix("Form") + suffix
        if derived not in self.components:
            self.components[derived] = {**change(deepcopy(self.components[name])), "title": derived}
        return {"$ref": REF.format(name=derived)}


def _types(endpoints: Iterable[Endpoint]) -> Iterable[Any]:
    yield ErrorAnswer
    for endpoint in endpoints:
        if endpoint.body is not None:
            yield endpoint.body.type
        for form in endpoint.answers:
            kind = form.type.of if isinstance(form.type, Page) else form.type
            if kind is not None:
                yield kind


def _tidied(schema: Schema) -> Schema:
    if "description" in schema:
        text = re.sub(r"\s*\n\s*", " ", schema["description"]).replace("``", "`")
        schema["description"] = re.sub(r"; see `\w+`\.", ".", text)  # says it to us
    return schema


def _without(schema: Schema, optional: Sequence[str]) -> Schema:
    schema["required"] = [name for name in schema.get("required", ()) if name not in optional]
    return schema


def _as_patch(schema: Schema) -> Schema:
    schema.pop("required", None)
    for name, value in schema["properties"].items():
        value.pop("default", None)
        schema["properties"][name] = {"anyOf": [value, {"type": "null"}]}
    return schema


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Schema:
    operation: Schema = {
        "operationId": endpoint.operation,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "parameters": list(_parameters(endpoint)),
        "responses": _responses(endpoint, schemas),
        "security": _security(endpoint),
    }
    if endpoint.scope:
        operation["description"] = f"Scope: `{endpoint.scope}`."
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint.body, schemas)
    return operation


def _security(endpoint: Endpoint) -> list[Schema]:
    if not endpoint.scope:
        return []
    keys: list[Schema] = [{"bearer": []}, {"apiKey": []}]
    return [*keys, {}] if endpoint.free_on_loopback else keys


def _parameters(endpoint: Endpoint) -> Iterable[Schema]:
    for name in endpoint.path_parameters:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for query in endpoint.query:
        yield _query(query)
    for name, summary in endpoint.headers.items():
        yield {"name": name, "in": "header", "description": summary, "schema": {"type": "string"}}
    if endpoint.idempotent:
        yield _KEY_HEADER


def _query(query: Query) -> Schema:
    schema = msgspec.json.schema(query.type)
    if query.default is not None:
        schema["default"] = query.default
    return {"name": query.name, "in": "query", "description": query.summary, "schema": schema}


def _request_body(body: Body, schemas: _Schemas) -> Schema:
    content: Schema = {"schema": schemas.body(body), "example": body.example}
    media = (MERGE_PATCH, JSON) if body.patch else (JSON,)
    return {"required": body.required, "content": dict.fromkeys(media, content)}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Schema:
    described = "; ".join(form.summary for form in endpoint.answers if form.summary)
    content: Schema = {}
    for form in endpoint.answers:
        described_form: Schema = {"schema": {"type": "string"} if form.type is None else schemas.answer(form)}
        if form.example is not None:
            described_form["example"] = form.example
        content[form.media] = described_form
    success: Schema = {"description": described or HTTPStatus(endpoint.status).phrase, "content": content}
    told = {**endpoint.answer_headers, **({REPLAYED: _REPLAYED_TEXT} if endpoint.idempotent else {})}
    if told:
        success["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in told.items()}
    responses: Schema = {str(endpoint.status): success}
    for status, text in endpoint.other_statuses.items():
        responses[str(status)] = {**success, "description": text} if status == 503 else {"description": text}
    by_status: dict[int, list[Code]] = {}
    for code in endpoint.problems():
        by_status.setdefault(MEANINGS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        responses.setdefault(str(status), _either(codes, schemas))
    return responses


def _either(codes: Sequence[Code], schemas: _Schemas) -> Schema:
    if len(codes) == 1:
        return {"$ref": f"#/components/responses/{codes[0]}"}
    text = "; or: ".join(MEANINGS[code].text for code in codes)
    return {**_problem(codes[0], schemas), "description": text}


def _problem(code: Code, schemas: _Schemas) -> Schema:
    meaning = MEANINGS[code]
    answer: Schema = {
        "description": meaning.text,
        "content": {JSON: {"schema": schemas.of(ErrorAnswer), "example": _EXAMPLES[code]}},
    }
    headers = {"TOO_MANY_REQUESTS": "Retry-After", "UNAVAILABLE": "Retry-After", "UNAUTHORIZED": "WWW-Authenticate"}
    if code in headers:
        answer["headers"] = {headers[code]: {"schema": {"type": "string"}, "required": True}}
    return answer


_SAID: tuple[tuple[Code, str, Mapping[str, str]], ...] = (
    ("BAD_REQUEST", "The body is no JSON: trailing comma in object, at line 3, column 1", {}),
    ("UNAUTHORIZED", "An API key is needed", {"hint": "Send Authorization: Bearer <key>"}),
    ("FORBIDDEN", "This key lacks the scope agents:write", {"hint": "Use a key that has agents:write, or *"}),
    ("NOT_FOUND", "There is no agent 'sales'", {}),
    ("METHOD_NOT_ALLOWED", "/api/agents does not take PATCH", {"hint": "It takes GET, POST"}),
    ("REQUEST_TIMEOUT", "The body did not come within 10 s", {}),
    ("CONFLICT", "There is an agent 'sales' already", {"field": "id", "hint": "Choose another id"}),
    ("READ_ONLY", "The agent 'demo' is defined in config.json", {"hint": "Change agents[0] there"}),
    ("REVISION_MISMATCH", "The agent 'sales' is at revision 4", {"hint": "Read it again, then change it"}),
    ("TOO_LARGE", "The body is larger than 64 KB", {}),
    ("UNSUPPORTED_MEDIA_TYPE", "The body must be JSON in UTF-8; its Content-Type is text/plain", {}),
    ("RANGE_NOT_SATISFIABLE", "The recording ends before that range", {}),
    ("INVALID", "max_call_s: expected `int`, got `str`", {"field": "max_call_s"}),
    ("TOO_MANY_REQUESTS", "Too many requests with this key", {}),
    ("INTERNAL_ERROR", "offhook failed at this", {"hint": "Its log tells more under 5f2c19d07a3b"}),
    ("UNAVAILABLE", "The database cannot be reached now", {}),
)

_EXAMPLES: Mapping[Code, Mapping[str, str]] = {
    code: {"error": error, "code": code, **more} for code, error, more in _SAID
}
