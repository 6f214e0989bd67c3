"""Every route of the table asks for a key with its scope; without any key only programs of this machine are served."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.api.served import Headers, Served

from offhook.api.auth import check_browser
from offhook.api.endpoints import Endpoint
from offhook.api.native.table import NATIVE
from offhook.api.parts import ApiLimits
from offhook.api.problems import ApiError
from offhook.api.rates import Rate
from offhook.store.database import Database
from offhook.store.keys import list_keys

CLOSED = [endpoint for endpoint in NATIVE if endpoint.scope]
OPEN = [endpoint for endpoint in NATIVE if not endpoint.scope]


def path(endpoint: Endpoint) -> str:
    return endpoint.path.replace("{id}", "x1")


def name(endpoint: Endpoint) -> str:
    return endpoint.operation


def test_what_needs_no_key_is_known() -> None:
    assert {endpoint.path for endpoint in OPEN} == {"/health", "/ready", "/api/openapi.json"}
    assert {endpoint.path for endpoint in CLOSED if endpoint.free_on_loopback} == {"/metrics"}


@pytest.fixture
async def locked(served: Served) -> Served:
    """Somebody made a key."""
    await served.key("nothing:read")
    return served


async def test_no_route_does_anything_without_a_key(locked: Served) -> None:
    elsewhere = {"X-Forwarded-For": "192.0.2.7"}  # /metrics is open to this machine
    for endpoint in CLOSED:
        for headers in (
            {},
            {"Authorization": "Bearer ohk_wrong"},
            {"X-API-Key": "ohk_wrong"},
            {"Authorization": "Basic eDp5"},
        ):
            said = await locked.ask(endpoint.method, path(endpoint), headers={**elsewhere, **headers})
            assert (said.status, said.code) == (401, "UNAUTHORIZED"), endpoint.operation
            assert said.headers["WWW-Authenticate"].startswith("Bearer")


async def test_no_route_does_anything_without_its_scope(served: Served) -> None:
    scopes = sorted({endpoint.scope for endpoint in CLOSED})
    for endpoint in CLOSED:
        others = [scope for scope in scopes if scope != endpoint.scope]
        headers = await served.key(*others)
        said = await served.ask(endpoint.method, path(endpoint), headers=headers)
        assert (said.status, said.code) == (403, "FORBIDDEN"), endpoint.operation
        assert endpoint.scope in said.json["error"]


async def test_with_its_scope_alone_every_route_gets_further(served: Served) -> None:
    keys: dict[str, Headers] = {}
    for endpoint in CLOSED:
        if endpoint.stream:
            continue
        for scope in (endpoint.scope, f"{endpoint.scope.partition(':')[0]}:*", "*"):
            keys[scope] = keys.get(scope) or await served.key(scope)
            said = await served.ask(endpoint.method, path(endpoint), headers=keys[scope])
            assert said.status not in (401, 403), endpoint.operation


@pytest.mark.parametrize("endpoint", OPEN, ids=name)
async def test_what_is_open_is_so_with_keys_as_well(locked: Served, endpoint: Endpoint) -> None:
    assert (await locked.get(endpoint.path)).status == 200


async def test_a_key_comes_as_bearer_or_by_itself(served: Served) -> None:
    bearer = await served.key("account:read")
    key = bearer["Authorization"].removeprefix("Bearer ")

    for headers in (bearer, {"Authorization": f"bearer {key}"}, {"X-API-Key": key}):
        assert (await served.get("/api/account", headers=headers)).status == 200


async def test_an_expired_key_and_a_revoked_one_open_nothing(database: Database, tmp_path: Path) -> None:
    async with Served(database, tmp_path, now=lambda: 1000.0) as served:
        good = await served.key("*", expires_at=1000.5)
        expired = await served.key("*", expires_at=1000.0)
        assert (await served.get("/api/account", headers=good)).status == 200
        assert "expired" in (await served.get("/api/account", headers=expired)).json["error"]

        keys = (await served.get("/api/keys", headers=good)).json["keys"]
        for key in keys:
            await served.ask("DELETE", f"/api/keys/{key['id']}", headers=good)
        gone = await served.get("/api/account", headers=good)

        assert (gone.status, gone.json["error"]) == (401, "This API key is not known")


async def test_a_door_once_locked_is_not_open_again_when_its_last_key_is_revoked(served: Served) -> None:
    good = await served.key()
    (key,) = (await served.get("/api/keys", headers=good)).json["keys"]

    await served.ask("DELETE", f"/api/keys/{key['id']}", headers=good)

    assert (await served.get("/api/account")).status == 401


async def test_each_key_has_its_rate(database: Database, tmp_path: Path) -> None:
    limits = ApiLimits(key_rate=Rate(per_s=2, burst=3))
    async with Served(database, tmp_path, limits=limits) as served:
        one, other = await served.key(), await served.key()

        said = [await served.get("/api/account", headers=one) for _ in range(4)]

        assert [each.status for each in said] == [200, 200, 200, 429]
        assert said[3].headers["Retry-After"] == "1"
        assert (await served.get("/api/account", headers=other)).status == 200
        served.clock.at += 0.5
        assert (await served.get("/api/account", headers=one)).status == 200


async def test_who_tries_keys_is_slowed_down_and_who_has_one_is_not(database: Database, tmp_path: Path) -> None:
    limits = ApiLimits(failure_rate=Rate(per_s=1, burst=5))
    async with Served(database, tmp_path, limits=limits) as served:
        good = await served.key()

        tries = [await served.get("/api/account", headers={"X-API-Key": f"ohk_{guess}"}) for guess in range(6)]

        assert [said.status for said in tries] == [401] * 5 + [429]
        assert (await served.get("/api/account", headers=good)).status == 200


async def test_when_a_key_was_used_is_noted(served: Served) -> None:
    headers = await served.key()
    before, _ = await served.database.look(list_keys)

    await served.get("/api/account", headers=headers)
    await served.listener.close()  # at the latest

    after, _ = await served.database.look(list_keys)
    assert before[0].last_used_at is None
    assert after[0].last_used_at == pytest.approx(time.time(), abs=60)


# ── while nobody has made a key ──


async def test_without_keys_any_key_or_none_may_do_anything(served: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer sk_live_whatever"}):
        said = await served.get("/api/account", headers=headers)
        assert (said.status, said.json["id"], said.json["scopes"]) == (200, "default", ["*"])


@pytest.mark.parametrize("forwarded", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_what_a_proxy_of_this_machine_passes_on_is_not_of_this_machine(served: Served, forwarded: str) -> None:
    said = await served.get("/api/account", headers={forwarded: "192.0.2.7"})

    assert (said.status, "offhook keys create" in said.json["hint"]) == (401, True)


async def test_anonymous_access_from_elsewhere_must_be_allowed(database: Database, tmp_path: Path) -> None:
    async with Served(database, tmp_path, allow_anonymous=True) as served:
        assert (await served.get("/api/account", headers={"X-Forwarded-For": "192.0.2.7"})).status == 200


@dataclass(frozen=True)
class Page:
    """A page in a browser that sends a request."""

    host: str
    origin: str | None = None
    site: str | None = None

    @property
    def headers(self) -> Headers:
        values = {"Host": self.host, "Origin": self.origin, "Sec-Fetch-Site": self.site}
        return {key: value for key, value in values.items() if value is not None}


HARMLESS = (
    Page("localhost:8080"),
    Page("127.0.0.1:8080"),
    Page("[::1]:8080"),
    Page("192.168.1.4:8080"),
    Page("offhook:8080"),
    Page("box.local"),
    Page("office.example.com"),
    Page("localhost:8080", "http://localhost:8080", "same-origin"),
    Page("localhost:8080", "http://localhost:3000", "same-site"),
    Page("192.168.1.4:8080", "http://192.168.1.4:8080", "same-origin"),
    Page("localhost:8080", None, "none"),
)

FOREIGN = (
    Page("evil.example"),
    Page("localhost.evil.example:8080"),
    Page("127.0.0.1.nip.io:8080"),
    Page("localhost:8080", "https://evil.example"),
    Page("localhost:8080", "null"),
    Page("localhost:8080", "http://192.0.2.66"),
    Page("localhost:8080", None, "cross-site"),
    Page("192.168.1.4:8080", "http://192.168.1.5:8080"),
    Page("localhost:8080", "http://[broken"),
    Page("[broken:8080"),
)


@pytest.mark.parametrize("page", HARMLESS)
def test_our_own_pages_and_programs_are_served(page: Page) -> None:
    check_browser(page.headers, frozenset({"office.example.com"}))


@pytest.mark.parametrize("page", FOREIGN)
def test_pages_of_other_sites_are_not(page: Page) -> None:
    with pytest.raises(ApiError, match="Without an API key"):
        check_browser(page.headers, frozenset({"office.example.com"}))


async def test_a_page_that_rebinds_its_name_gets_nothing(served: Served) -> None:
    for route in ("/api/account", "/metrics"):
        assert (await served.get(route, headers={"Host": "evil.example"})).status == 403


async def test_metrics_are_for_this_machine_or_a_key_with_their_scope(locked: Served) -> None:
    elsewhere = {"X-Forwarded-For": "192.0.2.7"}
    assert (await locked.get("/metrics")).data == b"offhook_calls 0\n"
    assert (await locked.get("/metrics", headers=elsewhere)).status == 401
    assert (await locked.get("/metrics", headers={**elsewhere, **await locked.key("metrics:read")})).status == 200
    assert (await locked.get("/metrics", headers={"Host": "evil.example"})).status == 403


async def test_metrics_are_the_operators(locked: Served) -> None:
    """They name every account's trunks."""
    assert (await locked.get("/metrics", headers=await locked.account("other"))).status == 403


async def test_a_wrong_key_for_metrics_is_refused_on_this_machine_too(locked: Served) -> None:
    assert (await locked.get("/metrics", headers={"X-API-Key": "ohk_wrong"})).status == 401
