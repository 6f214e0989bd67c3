"""Schemathesis tries every operation with values its schema allows, and with values it does not: no 5xx, no broken
promise. A few of each here, thousands in `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from tests.api.background import serving
from tests.api.served import Served
from tests.store.stories import ARRIVED, WHOLE, happened

from offhook.api.native.resources import FAMILIES
from offhook.api.native.table import NATIVE
from offhook.api.openapi import openapi

QUICK = 3
MANY = 100

REFUSED = ["2xx", "401", "403", "404", "409", "412", "416", "422"]
"""What a request may be answered that its schema allows."""

STREAMS = "|".join(endpoint.path for endpoint in NATIVE if endpoint.stream)


def document(*, thorough: bool) -> Any:
    """What Schemathesis tries; ``thorough``: every boundary of every value as well, which takes two minutes."""
    config: dict[str, Any] = {
        "generation": {"allow-x00": False},  # no schema can say that U+0000 is not taken
        "phases": {"coverage": {"enabled": thorough}, "examples": {"enabled": thorough}},
        "checks": {
            # What no schema says: ids that nobody has, URLs that are none, names of codecs that are not installed.
            "positive_data_acceptance": {"expected-statuses": REFUSED},
            # A revision that is not the current one is found before the body is looked at.
            "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "409", "412", "415", "422"]},
        },
        # SIP4AI answers 400 to what no schema says: a call that is over, two names that contradict each other.
        "operations": [
            {
                "include-path-regex": r"^/(call|calls/.*|api/calls(/.*)?)$",
                "checks": {"positive_data_acceptance": {"expected-statuses": [*REFUSED, "400"]}},
            }
        ],
    }
    schema = schemathesis.openapi.from_dict(openapi(NATIVE, "0"), config=SchemathesisConfig.from_dict(config))
    schema.hook("map_path_parameters")(find_something)
    return schema.exclude(path_regex=f"^({STREAMS})$")


def find_something(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of random ids none is there: every other one is made one that is."""
    if path_parameters and len(str(path_parameters.get("id", ""))) % 2:
        return {**path_parameters, "id": "x1"}
    return path_parameters


async def prepare(served: Served) -> None:
    """Something to find, and a key that may do everything."""
    happened(served.database, *WHOLE, call_id="x1")
    happened(served.database, ARRIVED, call_id="x2")
    await served.ask("POST", "/api/agents", json={"id": "x1"})
    await served.ask("POST", "/api/tools", json={"id": "x1", **FAMILIES[3].example})
    await served.ask("POST", "/api/webhooks", json={"id": "x1", **FAMILIES[5].example})
    served.everything = await served.key()


FEW = document(thorough=False)
EVERY = document(thorough=True)


def tried(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("contract"), prepare) as one:
        yield one


@FEW.parametrize()  # type: ignore[untyped-decorator]
@tried(QUICK)
def test_the_server_does_what_its_document_says(case: schemathesis.Case[Any], api: Served) -> None:
    case.call_and_validate(base_url=api.url, headers=dict(api.everything))


@pytest.mark.soak
@EVERY.parametrize()  # type: ignore[untyped-decorator]
@tried(MANY)
def test_it_does_so_at_every_boundary(case: schemathesis.Case[Any], api: Served) -> None:
    case.call_and_validate(base_url=api.url, headers=dict(api.everything))
