"""Keys are made, listed and revoked, and none gives what it has not."""

from __future__ import annotations

import pytest
from tests.api.served import Served


async def test_the_first_key_locks_the_door(served: Served) -> None:
    made = await served.ask("POST", "/api/keys", json={"name": "first"})
    key = {"Authorization": f"Bearer {made.json['key']}"}

    assert (made.status, made.json["scopes"]) == (201, ["*"])
    assert (await served.get("/api/keys")).status == 401
    (listed,) = (await served.get("/api/keys", headers=key)).json["keys"]
    assert listed == {name: value for name, value in made.json.items() if name != "key"}
    one = await served.get(made.headers["Location"], headers=key)
    assert one.json == listed
    assert made.json["key"].encode() not in one.data


async def test_a_revoked_key_is_still_listed(served: Served) -> None:
    key = await served.key()
    made = (await served.ask("POST", "/api/keys", json={}, headers=key)).json

    gone = await served.ask("DELETE", f"/api/keys/{made['id']}", headers=key)

    assert gone.json == {"id": made["id"], "deleted": True}
    assert (await served.get("/api/account", headers={"X-API-Key": made["key"]})).status == 401
    listed = {one["id"]: one for one in (await served.get("/api/keys", headers=key)).json["keys"]}
    assert listed[made["id"]]["revoked_at"] is not None


@pytest.mark.parametrize(
    ("own", "wanted", "status"),
    [
        (("keys:write", "calls:read"), ["calls:read"], 201),
        (("keys:write", "calls:*"), ["calls:read", "calls:*"], 201),
        (("keys:write", "calls:read"), ["calls:*"], 403),
        (("keys:write", "calls:read"), ["calls:read", "agents:read"], 403),
        (("keys:write",), ["*"], 403),
        (("*",), ["*", "keys:write"], 201),
    ],
)
async def test_a_key_gives_no_scope_that_it_lacks(
    served: Served, own: tuple[str, ...], wanted: list[str], status: int
) -> None:
    said = await served.ask("POST", "/api/keys", json={"scopes": wanted}, headers=await served.key(*own))

    assert said.status == status
    if status == 403:
        assert said.json["field"].startswith("scopes[")


async def test_without_scopes_a_key_gets_those_of_its_maker(served: Served) -> None:
    said = await served.ask("POST", "/api/keys", json={}, headers=await served.key("keys:write", "calls:read"))

    assert said.json["scopes"] == ["keys:write", "calls:read"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes[0]"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59.9999Z"}, "expires_at"),
    ],
)
async def test_what_no_key_can_be_is_refused(served: Served, body: object, field: str) -> None:
    said = await served.ask("POST", "/api/keys", json=body)

    assert (said.status, said.json["field"]) == (422, field)


async def test_the_keys_of_another_account_do_not_exist(served: Served) -> None:
    mine, theirs = await served.key(), await served.account("other")
    (key,) = (await served.get("/api/keys", headers=theirs)).json["keys"]

    for method in ("GET", "DELETE"):
        assert (await served.ask(method, f"/api/keys/{key['id']}", headers=mine)).status == 404
    assert (await served.get("/api/account", headers=theirs)).status == 200
