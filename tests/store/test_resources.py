"""Records written, read and found: revisions, secrets, references, accounts, and what config.json defines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.store.world import OTHER, World

from offhook.model.errors import (
    ConfigError,
    ReadOnlyRecordError,
    RecordConflictError,
    RecordNotFoundError,
    RevisionMismatchError,
)
from offhook.store.config_forms import ConfigForms
from offhook.store.database import Database
from offhook.store.form_secrets import Kind
from offhook.store.forms import AgentForm, NumberForm, ToolForm, WebhookForm
from offhook.store.resources import DialectDocument, Resource
from offhook.store.revision import current_revision
from offhook.store.schema import resources, secrets
from offhook.store.trunk_forms import OpenForm, RegisterForm, TrunkForm

TRUNK: dict[str, Any] = {"kind": "register", "server": "pbx.test", "username": "100"}
TOOL: dict[str, Any] = {"name": "look_up", "url": "https://tools.test/x"}

SIGNING = "whsec_" + "planted0" * 4


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def changes(world: World, change: Callable[[], object]) -> bool:
    """Whether directories will follow it."""
    with world.database.read() as connection:
        before = current_revision(connection)
    change()
    with world.database.read() as connection:
        return current_revision(connection) > before


# ── create, get, find ──


def test_a_record_is_as_its_form_with_defaults(world: World) -> None:
    made = world.create("agent", id="anna", name="Anna")
    assert made == world.get("agent", "anna")
    assert (made.form["name"], made.form["max_call_s"], made.revision, made.source) == ("Anna", 3600, 1, "api")
    assert (made.created_at, made.updated_at) == (1000.0, 1000.0)


def test_a_record_without_id_gets_one(world: World) -> None:
    first, second = world.create("tool", **TOOL), world.create("tool", **TOOL)
    assert first.id != second.id
    assert first.id.startswith("tool_")
    assert first.form["id"] == first.id


def test_every_write_reaches_the_directories(world: World) -> None:
    assert changes(world, lambda: world.create("agent", id="a"))
    assert changes(world, lambda: world.patch("agent", "a", {"name": "x"}))
    assert changes(world, lambda: world.replace("agent", "a", {"name": "y"}))
    assert changes(world, lambda: world.delete("agent", "a"))


@pytest.mark.parametrize(
    ("kind", "values", "error", "said"),
    [
        ("agent", {"id": "a", "max_call_s": "x"}, msgspec.ValidationError, r"\$\.max_call_s"),
        ("agent", {"id": "a", "nonsense": 1}, msgspec.ValidationError, "nonsense"),
        ("agent", {"id": "a b"}, msgspec.ValidationError, r"\$\.id"),
        ("agent", {"id": "a", "tools": ["none"]}, ConfigError, r"tools\[0\]: there is no tool 'none'"),
        ("number", {"user": "1", "agent": "none"}, ConfigError, "agent: there is no agent 'none'"),
        ("squad", {"id": "s", "members": [{"agent": "none"}]}, ConfigError, "there is no agent 'none'"),
        ("trunk", {"id": "t", "kind": "fax"}, msgspec.ValidationError, "fax"),
        ("tool", {**TOOL, "url": "ftp://x"}, ConfigError, "url: is no web address"),
    ],
)
def test_a_form_that_cannot_be_used_leaves_nothing(
    world: World, kind: Kind, values: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        world.create(kind, **values)
    assert world.ids(kind) == ([], 0)


def test_an_id_is_taken_once(world: World) -> None:
    world.create("agent", id="a")
    with pytest.raises(RecordConflictError, match="The agent 'a' is there already"):
        world.create("agent", id="a")


def test_records_are_listed_in_pages_and_found_by_id_and_name(world: World) -> None:
    for name in ("dora", "anna", "Carl"):
        world.create("agent", id=name, name={"dora": "100% sales"}.get(name, ""))
    assert world.ids("agent", limit=2) == (["Carl", "anna"], 3)
    assert world.ids("agent", limit=2, offset=2) == (["dora"], 3)
    assert world.ids("agent", text="ARL") == (["Carl"], 1)
    assert world.ids("agent", text="100% S") == (["dora"], 1)
    assert world.ids("agent", text="1_0") == ([], 0)
    assert world.ids("agent", source="config") == ([], 0)
    assert world.ids("tool") == ([], 0)


# ── change ──


def test_a_patch_changes_what_it_names(world: World) -> None:
    world.create("agent", id="a", name="A", greeting="Hello", options={"x": "1", "y": "2"})
    patched = world.patch("agent", "a", {"greeting": None, "options": {"x": None, "z": "3"}, "record": False})
    form = patched.form
    assert (form["name"], form["greeting"], form["options"], form["record"]) == ("A", "", {"y": "2", "z": "3"}, False)
    assert patched.revision == 2


def test_replacing_puts_all_else_back_to_defaults(world: World) -> None:
    world.create("agent", id="a", name="A", greeting="Hello")
    assert world.replace("agent", "a", {"name": "B"}).form["greeting"] == ""


def test_a_revision_that_is_not_the_current_one_is_told(world: World) -> None:
    world.create("agent", id="a")
    world.patch("agent", "a", {"name": "x"}, revisions={1, 7})
    for change in (
        lambda: world.patch("agent", "a", {"name": "y"}, revisions={1}),
        lambda: world.replace("agent", "a", {}, revisions={1}),
        lambda: world.delete("agent", "a", revisions=set()),
    ):
        with pytest.raises(RevisionMismatchError, match="is at revision 2") as mismatch:
            change()
        assert mismatch.value.revision == 2
    world.delete("agent", "a", revisions={2})


@pytest.mark.parametrize(("kind", "patch"), [("agent", {"id": "b"}), ("number", {"user": "2"})])
def test_an_id_does_not_change(world: World, kind: Kind, patch: dict[str, Any]) -> None:
    world.create("agent", id="a")
    world.create("number", user="a", agent="a")
    with pytest.raises(RecordConflictError, match="cannot change") as conflict:
        world.patch(kind, "a", patch)
    assert conflict.value.field == next(iter(patch))


def test_a_dialects_document_lies_beside_its_record(world: World) -> None:
    world.create("agent", id="a")
    document = DialectDocument(dialect="vapi", document={"model": {"provider": "x"}, "n": [1]})
    first = world.patch("agent", "a", {"name": "x"}, document=document)
    second = world.patch("agent", "a", {"name": "y"})
    assert [(one.dialect, one.document) for one in (first, second)] == [("vapi", document.document)] * 2


# ── secrets ──


def test_secrets_are_never_shown_nor_stored_as_they_are(world: World) -> None:
    made = world.create("trunk", id="t", password="planted-1", **TRUNK)
    tool = world.create("tool", id="l", headers={"Authorization": "planted-2"}, secret=SIGNING, **TOOL)
    assert (made.secret_paths, tool.secret_paths) == (("password",), ("headers.Authorization", "secret"))
    assert world.secrets("tool", "l") == {"headers.Authorization": "planted-2", "secret": SIGNING}
    with world.database.read() as connection:
        stored = [*connection.execute(sa.select(resources)), *connection.execute(sa.select(secrets))]
    assert "planted" not in repr((made, tool, stored, world.page("tool")))


def test_a_secret_stays_until_it_is_changed_or_cleared(world: World) -> None:
    world.create("trunk", id="t", password="first", **TRUNK)
    world.patch("trunk", "t", {"port": 5070})
    world.replace("trunk", "t", TRUNK)
    assert world.secrets("trunk", "t") == {"password": "first"}
    world.patch("trunk", "t", {"password": "second"})
    assert world.secrets("trunk", "t") == {"password": "second"}
    assert world.patch("trunk", "t", {"password": ""}).secret_paths == ()


def test_headers_are_changed_one_by_one_or_all(world: World) -> None:
    world.create("tool", id="l", headers={"A": "1", "B": "2", "C": "3"}, **TOOL)
    world.patch("tool", "l", {"headers": {"A": "", "B": None, "D": "4"}})
    assert world.secrets("tool", "l") == {"headers.C": "3", "headers.D": "4"}
    world.replace("tool", "l", {**TOOL, "headers": {"E": "5"}})
    assert world.secrets("tool", "l") == {"headers.E": "5"}
    assert world.patch("tool", "l", {"headers": None}).secret_paths == ()


def test_the_secrets_go_with_their_record(world: World) -> None:
    world.create("trunk", id="t", password="x", **TRUNK)
    world.delete("trunk", "t")
    assert world.create("trunk", id="t", **TRUNK).secret_paths == ()


def test_a_webhook_without_secret_gets_one_that_is_shown_once(world: World) -> None:
    made = world.create("webhook", id="w", url="https://x.test")
    assert made.made_secret.startswith("whsec_")
    assert made.made_secret not in repr(made)
    assert world.secrets("webhook", "w") == {"secret": made.made_secret}
    assert world.get("webhook", "w").made_secret == ""
    assert world.patch("webhook", "w", {"description": "d"}).made_secret == ""
    again = world.patch("webhook", "w", {"secret": ""}).made_secret
    assert world.secrets("webhook", "w") == {"secret": again}
    assert again != made.made_secret


# ── references ──


@pytest.mark.parametrize(
    ("kind", "user_kind", "values"),
    [
        ("agent", "number", {"user": "1", "agent": "it"}),
        ("agent", "squad", {"id": "s", "members": [{"agent": "it"}]}),
        (
            "agent",
            "agent",
            {
                "id": "b",
                "destinations": [{"name": "d", "target": "sip:x@y.test", "mode": "warm", "briefing_agent": "it"}],
            },
        ),
        ("tool", "agent", {"id": "b", "tools": ["it"]}),
        ("trunk", "agent", {"id": "b", "destinations": [{"name": "d", "target": "sip:x@y.test", "trunk": "it"}]}),
        ("trunk", "number", {"user": "1", "ask_url": "https://x.test", "trunk": "it"}),
    ],
)
def test_what_others_name_is_not_deleted(world: World, kind: Kind, user_kind: Kind, values: dict[str, Any]) -> None:
    world.create(kind, id="it", **{"trunk": TRUNK, "tool": TOOL}.get(kind, {}))
    user = world.create(user_kind, **values)
    with pytest.raises(RecordConflictError, match=f"The {kind} 'it' is used by {user_kind} '{user.id}'"):
        world.delete(kind, "it")
    world.delete(user_kind, user.id)
    world.delete(kind, "it")


def test_who_names_himself_can_be_deleted(world: World) -> None:
    world.create("agent", id="a")
    world.patch("agent", "a", {"destinations": [{"name": "d", "target": "sip:x@y.test", "briefing_agent": "a"}]})
    world.delete("agent", "a")


# ── accounts ──


@pytest.mark.parametrize("peer", ["203.0.113.5", "203.0.113.0/25", "0.0.0.0/0", "2001:db8:7::1"])
def test_no_tenant_takes_the_calls_of_another_accounts_peers(world: World, peer: str) -> None:
    peers = ["203.0.113.0/24", "2001:db8:7::/48"]
    world.create("trunk", id="carrier", kind="gateway", peers=peers)
    with pytest.raises(ConfigError, match=r"peers\[1\]: .* is a peer of another account's trunk"):
        world.create("trunk", account=OTHER, id="mine", kind="gateway", peers=["192.0.2.1", peer])
    world.create("trunk", account=OTHER, id="mine", kind="gateway", peers=["192.0.2.1"])
    with pytest.raises(ConfigError, match=r"peers\[0\]"), world.database.write() as connection:
        world.resources.patch(connection, OTHER, "trunk", "mine", {"peers": [peer]})
    world.create("trunk", id="also", kind="gateway", peers=[peer, "192.0.2.1"])  # the operator knows what he does


def test_another_accounts_records_are_not_there(world: World) -> None:
    world.create("agent", id="a", account=OTHER)
    with pytest.raises(RecordNotFoundError, match="There is no agent 'a'"):
        world.get("agent", "a")
    with pytest.raises(RecordNotFoundError):
        world.patch("agent", "a", {})
    with pytest.raises(RecordNotFoundError):
        world.delete("agent", "a")
    with pytest.raises(ConfigError, match="there is no agent 'a'"):
        world.create("number", user="1", agent="a")
    assert world.ids("agent") == ([], 0)
    world.create("agent", id="a")
    assert world.ids("agent", account=OTHER) == (["a"], 1)


def test_a_number_and_a_trunk_belong_to_one_account(world: World) -> None:
    world.create("trunk", id="pbx", account=OTHER, **TRUNK)
    with pytest.raises(RecordConflictError, match="Choose another id"):
        world.create("trunk", id="pbx", **TRUNK)
    world.create("number", user="1", ask_url="https://x.test", account=OTHER)
    with pytest.raises(RecordConflictError, match="Name the trunk it comes by"):
        world.create("number", user="1", ask_url="https://x.test")
    world.create("trunk", id="mine", **TRUNK)
    assert world.create("number", user="1", trunk="mine", ask_url="https://x.test").id == "1@mine"


# ── at the same time ──


def test_who_comes_first_has_the_number(world: World) -> None:
    def made(account: str) -> bool:
        try:
            world.create("number", user="1", ask_url="https://x.test", account=account)
        except RecordConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(made, ("default", OTHER) * 4)) == 1


def test_an_agent_is_not_deleted_while_a_number_comes_to_name_it(world: World) -> None:
    for name in ("a", "b", "c", "d", "e"):
        world.create("agent", id=name)
        with ThreadPoolExecutor(2) as threads:
            named = threads.submit(world.create, "number", user=name, agent=name)
            gone = threads.submit(world.delete, "agent", name)
        problems = [done.exception() for done in (named, gone)]
        assert {type(problem) for problem in problems} in (
            {type(None), RecordConflictError},
            {ConfigError, type(None)},
        )


def test_no_change_is_lost_where_two_are_made_at_once(world: World) -> None:
    world.create("agent", id="a")
    with ThreadPoolExecutor(4) as threads:
        options = [{"options": {str(number): "x"}} for number in range(12)]
        list(threads.map(lambda patch: world.patch("agent", "a", patch), options))
    agent = world.get("agent", "a")
    assert (len(agent.form["options"]), agent.revision) == (12, 13)


# ── config.json ──

OPEN = OpenForm(id="open")
CONFIG = ConfigForms(
    agents=(AgentForm(id="a"), AgentForm(id="b", tools=("t",))),
    numbers=(NumberForm(user="*", agent="a", ask_url="https://x.test", ask_secret=SIGNING),),
    trunks=(OPEN, RegisterForm(id="pbx", server="pbx.test", username="u", password="planted")),
    tools=(ToolForm(id="t", name="t", url="https://x.test"),),
    webhooks=(WebhookForm(id="w", url="https://x.test"),),
)


def test_config_becomes_rows_and_says_where_they_come_from(world: World) -> None:
    change = world.sync(CONFIG)
    assert len(change.added) == 7
    row = world.get("agent", "b")
    assert (row.source, row.config_key, row.form["tools"]) == ("config", "agents[1]", ["t"])
    assert world.secrets("trunk", "pbx") == {"password": "planted"}
    assert world.ids("agent", source="config") == (["a", "b"], 2)


def test_the_api_does_not_write_what_config_defines(world: World) -> None:
    world.sync(CONFIG)
    for change in (
        lambda: world.patch("agent", "b", {"name": "x"}),
        lambda: world.replace("agent", "b", {}),
        lambda: world.delete("agent", "b"),
    ):
        with pytest.raises(ReadOnlyRecordError, match=r"defined by agents\[1\] of /etc/offhook/config\.json"):
            change()


def test_rows_follow_the_file(world: World) -> None:
    world.sync(CONFIG)
    assert not changes(world, lambda: world.sync(CONFIG))
    secret = world.secrets("webhook", "w")
    moved = ConfigForms(
        agents=(AgentForm(id="c"), AgentForm(id="a", name="Anna")),
        trunks=(RegisterForm(id="pbx", server="pbx.test", username="u", password="changed"),),
        webhooks=(WebhookForm(id="w", url="https://x.test"),),
    )
    change = world.sync(moved)
    assert change.added == (("agent", "c"),)
    assert change.changed == (("agent", "a"), ("trunk", "pbx"))
    assert set(change.removed) == {("agent", "b"), ("number", "*"), ("trunk", "open"), ("tool", "t")}
    assert (world.get("agent", "a").revision, world.get("agent", "a").config_key) == (2, "agents[1]")
    assert world.secrets("trunk", "pbx") == {"password": "changed"}
    assert world.secrets("webhook", "w") == secret


def test_only_the_place_in_the_file_changed(world: World) -> None:
    world.sync(ConfigForms(agents=(AgentForm(id="a"), AgentForm(id="b"))))
    change = world.sync(ConfigForms(agents=(AgentForm(id="b"), AgentForm(id="a"))))
    assert change.changed == ()
    assert (world.get("agent", "a").config_key, world.get("agent", "a").revision) == ("agents[1]", 1)


@pytest.mark.parametrize(
    ("kind", "values", "account", "said"),
    [
        ("agent", {"id": "a"}, "default", r"agents\[0\]\.id: 'a' is also the agent 'a' of account 'default'"),
        ("trunk", {"id": "open", **TRUNK}, OTHER, r"trunks\[0\]\.id: 'open' is also the trunk"),
        ("number", {"user": "*", "ask_url": "https://x.test"}, "default", r"numbers\[0\]\.user: '\*' is also"),
    ],
)
def test_an_id_of_both_is_told_naming_both(
    world: World, kind: Kind, values: dict[str, Any], account: str, said: str
) -> None:
    world.create(kind, account=account, **values)
    with pytest.raises(ConfigError, match=said):
        world.sync(CONFIG)
    assert world.ids("tool") == ([], 0)


def test_a_collision_of_what_is_in_no_list_is_named_by_its_place(world: World) -> None:
    world.create("agent", id="b")
    with pytest.raises(ConfigError) as refused:
        world.sync(replace(CONFIG, places={("agent", "b"): "provider"}))
    assert refused.value.key == "provider"


def test_another_accounts_agent_is_no_collision(world: World) -> None:
    world.create("agent", id="a", account=OTHER)
    world.sync(CONFIG)


def test_records_of_the_api_that_name_what_the_file_took_away_are_told(world: World) -> None:
    world.sync(CONFIG)
    world.create("number", user="1", agent="b")
    change = world.sync(ConfigForms(agents=CONFIG.agents[:1]))
    assert change.dangling == ("The number '1' of account 'default' names the agent 'b' (agent), and there is none",)


def test_the_trunks_of_config_are_everybodys_and_its_agents_are_not(world: World) -> None:
    world.sync(CONFIG)
    number: Resource = world.create("number", user="1", trunk="open", ask_url="https://x.test", account=OTHER)
    assert number.id == "1@open"
    with pytest.raises(ConfigError, match="there is no agent 'a'"):
        world.create("number", user="2", agent="a", account=OTHER)


def test_a_trunk_of_each_kind_comes_back_as_it_was(world: World) -> None:
    forms: tuple[TrunkForm, ...] = CONFIG.trunks
    world.sync(CONFIG)
    with world.database.read() as connection:
        assert tuple(world.resources.form(connection, "default", "trunk", form.id) for form in forms) == forms
