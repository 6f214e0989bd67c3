"""Webhooks as their sender sees and changes them."""

from __future__ import annotations

from tests.store.databases import read, write
from tests.store.world import World

from offhook.store import outbox
from offhook.store.config_forms import ConfigForms
from offhook.store.database import Database
from offhook.store.forms import WebhookForm
from offhook.store.outbox import Endpoint, NewDelivery
from offhook.store.webhook_records import disable_webhook, webhook_enabled, webhook_states

CRM = Endpoint("default", "crm")
URL = "https://crm.example/"


def test_a_webhook_is_disabled_once_and_keeps_the_rest_of_its_record(database: Database) -> None:
    world = World(database)
    secret = world.create("webhook", id="crm", url=URL).made_secret
    world.create("webhook", id="crm", url=URL, account="other")
    theirs = world.get("webhook", "crm", account="other")
    before = world.directory()
    assert read(database, webhook_enabled, CRM)
    assert write(database, disable_webhook, CRM, 2000.0)
    assert not write(database, disable_webhook, CRM, 3000.0)
    record, after = world.get("webhook", "crm"), world.directory()
    assert (record.form["enabled"], record.form["url"], record.revision, record.updated_at) == (False, URL, 2, 2000.0)
    assert world.secrets("webhook", "crm") == {"secret": secret}
    assert world.get("webhook", "crm", account="other") == theirs
    assert after.revision == before.revision + 1
    assert (set(before.account("default").webhooks), set(after.account("default").webhooks)) == ({"crm"}, set())


def test_one_of_the_configuration_file_is_enabled_again_by_the_file(database: Database) -> None:
    world = World(database)
    forms = ConfigForms(webhooks=(WebhookForm(id="crm", url=URL),))
    world.sync(forms)
    assert write(database, disable_webhook, CRM, 2000.0)
    assert not read(database, webhook_enabled, CRM)
    assert world.sync(forms).changed == (("webhook", "crm"),)
    assert read(database, webhook_enabled, CRM)


def test_what_is_gone_is_not_enabled(database: Database) -> None:
    assert not read(database, webhook_enabled, CRM)
    assert not write(database, disable_webhook, CRM, 2000.0)


def test_states_tell_what_waits_for_each(database: Database) -> None:
    world = World(database)
    world.create("webhook", id="crm", url=URL)
    world.create("webhook", id="b", url=URL, events=["call.ended"], enabled=False)
    for name, account in (("m1", "default"), ("m2", "default"), ("m3", "other")):
        one = NewDelivery(delivery_id=name, account_id=account, webhook_id="crm", event="x.y", body=b"", created_at=1.0)
        write(database, outbox.add, [one])
    b, crm = read(database, webhook_states, "default")
    assert (b.webhook_id, b.enabled, b.events, b.deliveries) == ("b", False, ("call.ended",), {})
    assert (crm.webhook_id, crm.enabled, crm.events, crm.deliveries) == ("crm", True, ("*",), {"pending": 2})
