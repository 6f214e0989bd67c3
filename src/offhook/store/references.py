"""Who names whom: numbers, agents and squads refer to agents, trunks and tools by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, NamedTuple

import sqlalchemy as sa

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import ConfigError
from offhook.store.form_secrets import Kind
from offhook.store.forms import (
    AgentForm,
    AnyForm,
    Known,
    NumberForm,
    SquadForm,
    ToolForm,
    WebhookForm,
    check_agent,
    check_number,
    check_squad,
    check_tool,
    check_webhook,
)
from offhook.store.schema import resources
from offhook.store.trunk_forms import GatewayForm, check_trunk


class Reference(NamedTuple):
    """``kind`` and ``record_id`` are those of the record that refers; ``to`` is the other one."""

    account_id: str
    kind: Kind
    record_id: str
    field: str
    to: tuple[Kind, str]


def known_to(connection: sa.Connection, account_id: str) -> Known:
    """What an account's forms may refer to: its own, and the trunks of config.json, which all accounts share."""
    shared = (resources.c.kind == "trunk") & is_shared()
    query = sa.select(resources.c.kind, resources.c.id).where((resources.c.account_id == account_id) | shared)
    ids: dict[str, set[str]] = {"agent": set(), "trunk": set(), "tool": set()}
    for kind, record_id in connection.execute(query.where(resources.c.kind.in_(ids))):
        ids[kind].add(record_id)
    return Known(agents=ids["agent"], trunks=ids["trunk"], tools=ids["tool"])


def is_shared() -> sa.ColumnElement[bool]:
    return (resources.c.account_id == DEFAULT_ACCOUNT) & (resources.c.source == "config")


def check_form(form: AnyForm, known: Known, key: str = "") -> None:
    """What no single field shows. Raises ``ConfigError``."""
    match form:
        case AgentForm():
            check_agent(key, form, known)
        case NumberForm():
            check_number(key, form, known)
        case ToolForm():
            check_tool(key, form)
        case SquadForm():
            check_squad(key, form, known)
        case WebhookForm():
            check_webhook(key, form)
        case _:
            check_trunk(key, form)


def check_peers(connection: sa.Connection, account_id: str, form: AnyForm) -> None:
    """Who calls from an address comes by one trunk, the one that names it most closely: a tenant's must not be one that
    takes another account's calls. Raises ``ConfigError``."""
    if not isinstance(form, GatewayForm) or account_id == DEFAULT_ACCOUNT:
        return
    others = (resources.c.kind == "trunk") & (resources.c.account_id != account_id)
    forms = connection.execute(sa.select(resources.c.form).where(others)).scalars()
    taken = [ip_network(peer) for other in forms for peer in other.get("peers", ())]
    for index, peer in enumerate(form.peers):
        wanted = ip_network(peer)
        if any(one.version == wanted.version and one.overlaps(wanted) for one in taken):
            fix = "Name the addresses of your own system alone, or ask the operator"
            raise ConfigError(f"peers[{index}]", f"{peer} is a peer of another account's trunk", fix)


def references(connection: sa.Connection, account_id: str | None = None) -> Iterator[Reference]:
    """Of one account, or of all."""
    query = sa.select(resources.c.account_id, resources.c.kind, resources.c.id, resources.c.form)
    query = query.where(resources.c.kind.in_(("agent", "number", "squad"))).order_by(resources.c.kind, resources.c.id)
    if account_id is not None:
        query = query.where(resources.c.account_id == account_id)
    for account, kind, record_id, form in connection.execute(query):
        for field, to in _named_in(kind, form):
            yield Reference(account, kind, record_id, field, to)


def dangling(connection: sa.Connection) -> tuple[str, ...]:
    """A sentence for each reference of an API-made record to what is gone; config.json can take away what they name."""
    accounts = connection.execute(sa.select(resources.c.account_id).distinct()).scalars().all()
    known = {account: known_to(connection, account) for account in accounts}
    return tuple(
        f"The {one.kind} {one.record_id!r} of account {one.account_id!r} names the {one.to[0]} {one.to[1]!r} "
        f"({one.field}), and there is none"
        for one in references(connection)
        if one.to[1] not in _ids(known[one.account_id], one.to[0])
    )


def _ids(known: Known, kind: Kind) -> Iterable[str]:
    return {"agent": known.agents, "trunk": known.trunks, "tool": known.tools}[kind]


def _named_in(kind: Kind, form: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Kind, str]]]:
    """Fields and what they name; empty ones name nobody."""
    found: list[tuple[str, Kind, str]] = []
    match kind:
        case "number":
            found = [("agent", "agent", form["agent"]), ("trunk", "trunk", form["trunk"])]
        case "squad":
            found = [(f"members[{at}].agent", "agent", one["agent"]) for at, one in enumerate(form["members"])]
        case "agent":
            found = [(f"tools[{at}]", "tool", one) for at, one in enumerate(form["tools"])]
            for at, one in enumerate(form["destinations"]):
                found += [
                    (f"destinations[{at}].briefing_agent", "agent", one["briefing_agent"]),
                    (f"destinations[{at}].trunk", "trunk", one["trunk"]),
                ]
        case _:
            pass
    return ((field, (to, name)) for field, to, name in found if name)
