"""Agents, trunks, numbers, tools, squads, webhooks: all six are made, read, changed and deleted alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.api.served import Headers, Said, Served

from offhook.api.native.resources import FAMILIES, WEBHOOKS, Family
from offhook.store.database import Database
from offhook.store.forms import AgentForm
from offhook.store.resources import Resources
from offhook.store.rights import Rights

EVERY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.plural)

PLAIN: Mapping[str, Mapping[str, Any]] = {
    "agent": {"name": "Reception", "greeting": "Hello", "options": {"speed": "1.2"}},
    "trunk": {"kind": "register", "server": "sip.example.com", "username": "200", "password": "planted-1"},
    "number": {"user": "+493012345", "agent": "known", "ask_secret": "whsec_" + "planted0" * 4},
    "tool": {"name": "hours", "url": "https://bakery.example.com/hours", "headers": {"X-Key": "planted-3"}},
    "squad": {"name": "Bakery", "members": [{"agent": "known"}]},
    "webhook": {"url": "https://crm.example.com/offhook", "events": ["call.ended"]},
}
"""A form of each kind that refers to nothing but the agent "known"."""

CHANGED: Mapping[str, tuple[str, Any]] = {
    "agent": ("greeting", "Good evening"),
    "trunk": ("username", "201"),
    "number": ("ask_url", "https://bakery.example.com/who"),
    "tool": ("description", "When it is open"),
    "squad": ("name", "Bakery and café"),
    "webhook": ("enabled", False),
}


async def made(served: Served, family: Family, headers: Headers | None = None) -> Said:
    """One of that kind, and the agent that some refer to."""
    known = {"id": "known", "name": "Known"}
    await served.ask("POST", "/api/agents", json=known, headers=headers)
    said = await served.ask("POST", family.path, json=PLAIN[family.kind], headers=headers)
    assert said.status == 201, said.data
    return said


@EVERY
async def test_one_is_made_read_changed_replaced_and_deleted(served: Served, family: Family) -> None:
    new = await made(served, family)
    where = new.headers["Location"]
    field, value = CHANGED[family.kind]
    assert (new.headers["ETag"], new.json["revision"], new.json["source"]) == ('"1"', 1, "api")

    read = await served.get(where)
    assert read.json == {key: item for key, item in new.json.items() if key != "secret"}

    patched = await served.ask("PATCH", where, json={field: value})
    assert (patched.status, patched.json[field], patched.headers["ETag"]) == (200, value, '"2"')
    assert patched.json["created_at"] == new.json["created_at"]

    replaced = await served.ask("PUT", where, json=PLAIN[family.kind])
    assert (replaced.status, replaced.json["revision"]) == (200, 3)
    assert replaced.json[field] == read.json[field]

    gone = await served.ask("DELETE", where)
    assert (gone.status, gone.json) == (200, {"id": new.json["id"], "deleted": True})
    assert (await served.get(where)).status == 404


@EVERY
async def test_an_id_is_chosen_or_made(served: Served, family: Family) -> None:
    new = await made(served, family)
    if family.kind == "number":
        assert new.json["id"] == "+493012345"
        assert new.headers["Location"] == "/api/numbers/%2B493012345"
        return
    assert re.fullmatch(rf"{family.kind}_[a-z0-9]{{16}}", new.json["id"])

    chosen = {**PLAIN[family.kind], "id": "mine"}
    assert (await served.ask("POST", family.path, json=chosen)).json["id"] == "mine"
    again = await served.ask("POST", family.path, json=chosen)
    assert (again.status, again.code, again.json["field"]) == (409, "CONFLICT", "id")
    for wrong in ("", "a b", "a/b", None, 7):
        said = await served.ask("POST", family.path, json={**chosen, "id": wrong})
        assert (said.status, said.json["field"]) == (422, "id")


@EVERY
async def test_secrets_are_never_given_back(served: Served, family: Family) -> None:
    new = await made(served, family)
    where = new.headers["Location"]

    shown = [new, await served.get(where), await served.get(family.path), await served.ask("PATCH", where, json={})]

    assert not any(b"planted" in said.data for said in shown)
    assert new.json["secrets"] == {
        "trunk": ["password"],
        "number": ["ask_secret"],
        "tool": ["headers.X-Key"],
        "webhook": ["secret"],
    }.get(family.kind, [])


async def test_a_webhooks_made_secret_is_shown_once(served: Served) -> None:
    new = await made(served, WEBHOOKS)

    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", new.json["secret"])
    assert "secret" not in (await served.get(new.headers["Location"])).json
    given = await served.ask("POST", "/api/webhooks", json={**PLAIN["webhook"], "secret": "whsec_" + "A" * 32})
    assert "secret" not in given.json


async def test_secrets_that_a_put_leaves_out_are_kept(served: Served) -> None:
    new = await made(served, FAMILIES[1])
    without = {key: value for key, value in PLAIN["trunk"].items() if key != "password"}

    kept = await served.ask("PUT", new.headers["Location"], json={**without, "username": "201"})
    cleared = await served.ask("PUT", new.headers["Location"], json={**without, "password": ""})

    assert (kept.json["secrets"], cleared.json["secrets"]) == (["password"], [])


@EVERY
async def test_nobody_overwrites_a_change_he_has_not_seen(served: Served, family: Family) -> None:
    where = (await made(served, family)).headers["Location"]
    field, value = CHANGED[family.kind]
    stale, now = {"If-Match": '"7"'}, {"If-Match": 'W/"1", "9"'}

    for method, body in (("PATCH", {field: value}), ("PUT", PLAIN[family.kind]), ("DELETE", None)):
        said = await served.ask(method, where, json=body, headers=stale)
        assert (said.status, said.code) == (412, "REVISION_MISMATCH")
    assert (await served.ask("PATCH", where, json={field: value}, headers=now)).status == 200
    assert (await served.ask("PATCH", where, json={field: value}, headers={"If-Match": '"none"'})).status == 412
    assert (await served.ask("DELETE", where, headers={"If-Match": "*"})).status == 200


@EVERY
async def test_what_config_json_defines_cannot_be_changed(served: Served, family: Family) -> None:
    new = await made(served, family)
    records = Resources(vault=served.vault)

    def define(connection: Any) -> None:
        form = records.form(connection, "default", family.kind, new.json["id"])
        records.remove(connection, "default", family.kind, form.id)
        key = f"{family.plural}[3]"
        records.put_new(connection, "default", family.kind, form, source="config", config_key=key)

    await served.database.run(define)
    where = new.headers["Location"]

    assert (await served.get(where)).json["source"] == "config"
    for method, body in (("PATCH", {}), ("PUT", PLAIN[family.kind]), ("DELETE", None)):
        said = await served.ask(method, where, json=body)
        assert (said.status, said.code) == (409, "READ_ONLY")
        assert f"config.json, {family.plural}[3]" in said.json["hint"]


@EVERY
async def test_a_list_is_paged_searched_and_counted(served: Served, family: Family) -> None:
    await made(served, family)
    for number in range(4):
        body = {**PLAIN[family.kind], "id": f"no-{number}"}
        if family.kind == "number":
            body = {"user": f"no-{number}", "agent": "known"}
        assert (await served.ask("POST", family.path, json=body)).status == 201

    found = (await served.get(f"{family.path}?q=NO-&limit=3&offset=2")).json

    assert [one["id"] for one in found[family.plural]] == ["no-2", "no-3"]
    assert (found["total"], found["limit"], found["offset"]) == (4, 3, 2)
    assert (await served.get(f"{family.path}?source=config")).json["total"] == 0
    assert (await served.get(f"{family.path}?source=api&q=no-")).json["total"] == 4
    assert (await served.get(f"{family.path}?source=file")).json["field"] == "source"
    for wrong in ("limit=0", "limit=101", "limit=1.5", "offset=-1"):
        assert (await served.get(f"{family.path}?{wrong}")).status == 400


@EVERY
async def test_the_records_of_another_account_do_not_exist(served: Served, family: Family) -> None:
    mine, theirs = await served.key(), await served.account("other")
    where = (await made(served, family, theirs)).headers["Location"]
    field, value = CHANGED[family.kind]

    for method, body in (("GET", None), ("PATCH", {field: value}), ("PUT", PLAIN[family.kind]), ("DELETE", None)):
        said = await served.ask(method, where, json=body, headers=mine)
        assert (said.status, said.code) == (404, "NOT_FOUND")
    assert (await served.get(family.path, headers=mine)).json["total"] == 0
    assert (await served.get(where, headers=theirs)).status == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/agents", {"tools": ["none"]}, "tools[0]"),
        ("/api/agents", {"max_call_s": 0}, "max_call_s"),
        ("/api/agents", {"spam": 1}, "spam"),
        ("/api/trunks", {"kind": "gateway"}, "peers"),
        ("/api/trunks", {"kind": "carrier"}, "kind"),
        ("/api/trunks", {}, "kind"),
        ("/api/numbers", {"user": "1", "agent": "none"}, "agent"),
        ("/api/tools", {"name": "end_call", "url": "https://x.example.com"}, "name"),
        ("/api/squads", {"members": [{"agent": "none"}]}, "members[0].agent"),
        ("/api/webhooks", {"url": "ftp://x.example.com"}, "url"),
        ("/api/webhooks", {"url": "https://x.example.com", "secret": "short"}, "secret"),
    ],
)
async def test_what_cannot_be_used_is_told_with_its_field(served: Served, path: str, body: Any, field: str) -> None:
    said = await served.ask("POST", path, json=body)

    assert (said.status, said.code, said.json["field"]) == (422, "INVALID", field)


async def test_what_others_use_is_not_deleted(served: Served) -> None:
    await made(served, FAMILIES[2])

    said = await served.ask("DELETE", "/api/agents/known")

    assert (said.status, said.json["error"]) == (409, "The agent 'known' is used by number '+493012345'")


async def test_the_next_call_sees_what_was_written(served: Served) -> None:
    await made(served, FAMILIES[2])

    (number,) = served.directory.state.account("default").numbers

    assert (number.user, number.agent_id) == ("+493012345", "known")


async def test_a_merge_patch_has_a_media_type_of_its_own(served: Served) -> None:
    await served.ask("POST", "/api/agents", json={"id": "a1", "greeting": "Hello", "options": {"x": "1", "y": "2"}})
    media = {"Content-Type": "application/merge-patch+json"}

    said = await served.ask(
        "PATCH", "/api/agents/a1", data=b'{"greeting": null, "options": {"x": null}}', headers=media
    )

    assert (said.json["greeting"], said.json["options"]) == (AgentForm(id="a").greeting, {"y": "2"})


async def test_a_misspelt_field_of_a_patch_is_told_though_it_is_null(served: Served) -> None:
    await served.ask("POST", "/api/agents", json={"id": "a1"})

    said = await served.ask("PATCH", "/api/agents/a1", json={"greting": None})

    assert (said.status, said.json["field"]) == (422, "greting")


async def test_an_agent_with_a_key_of_its_own_may_be_led_elsewhere_later(database: Database, tmp_path: Path) -> None:
    """The key is kept apart, and need not be sent again."""
    rights = Rights(url_problem=lambda url: "is inside" if "127." in url else "")
    async with Served(database, tmp_path, rights=rights) as served:
        agent = {"id": "a", "provider": "openai", "options": {"base_url": "https://mine.example"}}
        refused = await served.ask("POST", "/api/agents", json=agent)
        assert (refused.status, refused.json["field"]) == (422, "options.base_url")
        agent["options"] = {"base_url": "https://mine.example", "api_key": "k"}
        assert (await served.ask("POST", "/api/agents", json=agent)).status == 201
        patch = {"options": {"base_url": "https://other.example"}}
        headers = {"Content-Type": "application/merge-patch+json"}
        assert (await served.ask("PATCH", "/api/agents/a", json=patch, headers=headers)).status == 200
        patch = {"options": {"base_url": "wss://127.0.0.1/"}}
        refused = await served.ask("PATCH", "/api/agents/a", json=patch, headers=headers)
        assert (refused.status, refused.json["field"]) == (422, "options.base_url")
