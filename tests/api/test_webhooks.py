"""Deliveries are listed and sent again; a webhook is tried, and its secret changed without a gap."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from tests.api.served import Served

from offhook.store import outbox
from offhook.store.outbox import Delivery, Endpoint, NewDelivery


async def endpoint(served: Served, name: str = "crm", **more: Any) -> Any:
    body = {"id": name, "url": "https://crm.example.com/offhook"}
    return (await served.ask("POST", "/api/webhooks", json=body, **more)).json


async def delivered(served: Served, *ids: str, webhook_id: str = "crm", account_id: str = "default") -> None:
    """Deliveries that arrived, made at 1000, 1001, …; each of a call of its own id."""

    def work(connection: Any) -> None:
        for at, name in enumerate(ids, 1000):
            made = NewDelivery(
                delivery_id=name,
                account_id=account_id,
                webhook_id=webhook_id,
                event="call.ended",
                body=b"{}",
                created_at=float(at),
                call_id=f"call-{name}",
                seq=1,
            )
            outbox.add(connection, [made])
            (taken,) = outbox.take_due(connection, 2000.0, {Endpoint(account_id, webhook_id): 1})
            outbox.mark_delivered(connection, taken, 2000.0, status=200)

    await served.database.run(work)


async def pending(served: Served, account_id: str = "default") -> list[Delivery]:
    chosen = outbox.DeliveryFilter(states=("pending",))
    return list((await served.database.look(outbox.list_deliveries, account_id, chosen, limit=100))[0])


async def test_deliveries_are_listed_with_what_became_of_them(served: Served) -> None:
    await endpoint(served)
    await delivered(served, "m1", "m2")
    await served.ask("POST", "/api/webhooks/crm/test")

    every = (await served.get("/api/webhooks/crm/deliveries")).json
    done = (await served.get("/api/webhooks/crm/deliveries?state=delivered&limit=1")).json
    of_call = (await served.get("/api/webhooks/crm/deliveries?call_id=call-m1")).json

    assert (every["total"], [one["state"] for one in every["deliveries"]]) == (3, ["pending", "delivered", "delivered"])
    assert (done["total"], [one["id"] for one in done["deliveries"]]) == (2, ["m2"])
    assert of_call["deliveries"] == [
        {
            "id": "m1",
            "webhook_id": "crm",
            "call_id": "call-m1",
            "seq": 1,
            "event": "call.ended",
            "state": "delivered",
            "attempts": 1,
            "created_at": "1970-01-01T00:16:40Z",
            "due_at": of_call["deliveries"][0]["due_at"],
            "delivered_at": "1970-01-01T00:33:20Z",
            "last_status": 200,
            "last_problem": "",
        }
    ]


@pytest.mark.parametrize(
    ("body", "again"),
    [
        ({"delivery_id": "m2"}, ["m2"]),
        ({"call_id": "call-m3"}, ["m3"]),
        ({"since": "1970-01-01T00:16:41Z"}, ["m2", "m3"]),
        ({"until": "1970-01-01T00:16:41Z"}, ["m1"]),
        ({"since": "1970-01-01T00:16:41Z", "until": "1970-01-01T00:16:42Z"}, ["m2"]),
        ({"call_id": "call-none"}, []),
    ],
)
async def test_what_is_chosen_is_sent_again(served: Served, body: Any, again: list[str]) -> None:
    await endpoint(served)
    await delivered(served, "m1", "m2", "m3")

    said = await served.ask("POST", "/api/webhooks/crm/replay", json=body)

    assert (said.status, said.json) == (200, {"replayed": len(again)})
    assert sorted(one.delivery_id for one in await pending(served)) == again
    assert served.woken == 1


@pytest.mark.parametrize(
    "body",
    [{}, {"delivery_id": "m1", "call_id": "c"}, {"call_id": ""}, {"call_id": "c", "since": "1970-01-01T00:00:00Z"}],
)
async def test_it_must_be_clear_what_is_sent_again(served: Served, body: Any) -> None:
    await endpoint(served)

    said = await served.ask("POST", "/api/webhooks/crm/replay", json=body)

    assert (said.status, said.code) == (422, "INVALID")


async def test_a_delivery_of_another_endpoint_is_not_found(served: Served) -> None:
    await endpoint(served)
    await endpoint(served, "other")
    await delivered(served, "m1", webhook_id="other")

    said = await served.ask("POST", "/api/webhooks/crm/replay", json={"delivery_id": "m1"})

    assert (said.status, said.json["error"]) == (404, "There is no delivery 'm1'")


async def test_a_test_is_a_delivery_like_any_other(served: Served) -> None:
    await endpoint(served)

    said = await served.ask("POST", "/api/webhooks/crm/test")

    (made,) = await pending(served)
    assert (said.status, said.json) == (202, {"delivery_id": made.delivery_id})
    body = msgspec.json.decode(made.body)
    assert (made.event, body["event"], body["id"]) == ("webhook.test", "webhook.test", made.delivery_id)
    assert served.woken == 1


async def test_a_new_secret_signs_beside_the_one_before(served: Served) -> None:
    first = await endpoint(served)

    stale = await served.ask("POST", "/api/webhooks/crm/rotate-secret", headers={"If-Match": '"9"'})
    second = await served.ask("POST", "/api/webhooks/crm/rotate-secret", headers={"If-Match": '"1"'})
    third = await served.ask("POST", "/api/webhooks/crm/rotate-secret")

    assert (stale.status, second.status, second.json["revision"]) == (412, 200, 2)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", second.json["secret"])
    assert len({first["secret"], second.json["secret"], third.json["secret"]}) == 3
    known = served.directory.state.account("default").webhooks["crm"].secrets
    assert known == (third.json["secret"], second.json["secret"])
    assert third.json["secrets"] == ["previous_secret", "secret"]
    assert b"whsec" not in (await served.get("/api/webhooks/crm")).data


async def test_the_webhooks_of_another_account_do_not_exist(served: Served) -> None:
    mine, theirs = await served.key(), await served.account("other")
    await endpoint(served, headers=theirs)
    await delivered(served, "m1", account_id="other")

    for method, rest, body in (
        ("GET", "deliveries", None),
        ("POST", "replay", {"delivery_id": "m1"}),
        ("POST", "test", None),
        ("POST", "rotate-secret", None),
    ):
        said = await served.ask(method, f"/api/webhooks/crm/{rest}", json=body, headers=mine)
        assert (said.status, said.code) == (404, "NOT_FOUND"), rest
    await endpoint(served, headers=mine)  # an id of one's own
    assert (await served.get("/api/webhooks/crm/deliveries", headers=mine)).json["total"] == 0
    again = await served.ask("POST", "/api/webhooks/crm/replay", json={"delivery_id": "m1"}, headers=mine)
    every = await served.ask("POST", "/api/webhooks/crm/replay", json={"since": "1970-01-01T00:00:00Z"}, headers=mine)
    assert (again.status, every.json, await pending(served, "other")) == (404, {"replayed": 0}, [])
