"""The JSON Schema of config.json: what offhook takes it takes, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import json5
import jsonschema_rs
import pytest

from offhook.config import config_schema, load_settings
from offhook.model.errors import ConfigError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(block.split("```", 1)[0], id=f"{document.name}-{index}")
    for document in DOCUMENTS
    for index, block in enumerate(document.read_text().split("```json5\n")[1:])
]


@pytest.fixture(scope="module")
def schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(config_schema())


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_documents_is_valid_and_accepted(
    example: str, schema: jsonschema_rs.Draft202012Validator, tmp_path: Path
) -> None:
    assert [error.message for error in schema.iter_errors(json5.loads(example))] == []
    file = tmp_path / "config.json"
    file.write_text(example)
    load_settings(file, {})


@pytest.mark.parametrize(
    "document",
    [
        {"sip": {"prot": 1}},
        {"sip": {"port": 70000}},
        {"trunks": [{"id": "a", "kind": "pbx"}]},
        {"trunks": [{"id": "a", "kind": "open", "srtp": "yes"}]},
        {"agents": [{"id": "a b"}]},
        {"retention": {"calls_days": -1}},
        {"squads": [{"id": "s", "members": []}]},
    ],
)
def test_what_offhook_refuses_by_its_shape_is_invalid(
    document: dict[str, Any], schema: jsonschema_rs.Draft202012Validator, tmp_path: Path
) -> None:
    assert not schema.is_valid(document)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError):
        load_settings(file, {})


def test_the_schema_is_a_schema() -> None:
    jsonschema_rs.meta.validate(config_schema())
    assert config_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_file_may_name_its_schema(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"$schema": "./offhook.schema.json", "max_calls": 3}')
    assert load_settings(file, {}).max_calls == 3
    assert jsonschema_rs.Draft202012Validator(config_schema()).is_valid({"$schema": "./offhook.schema.json"})


def test_keys_are_described_by_the_sentences_of_our_docstrings() -> None:
    definitions = config_schema()["$defs"]
    described = {name: {key: shape.get("description", "") for key, shape in one["properties"].items()}
                 for name, one in definitions.items()}  # fmt: skip
    assert "1:1 NAT" in described["SipSettings"]["advertised_address"]
    assert described["RegisterForm"]["refer"] == "`refer`: whether its peers may transfer us to others."
    assert described["NumberForm"]["trunk"] == "`trunk`: only for calls by that trunk."
    assert not any("``" in text or "; see " in text for keys in described.values() for text in keys.values())
    assert definitions["RegisterForm"]["properties"]["password"]["writeOnly"] is True
