"""Short words for the store's tests: a vault, and records made in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.store.accounts import Account, create_account
from offhook.store.config_forms import ConfigForms
from offhook.store.config_rows import ConfigChange, sync_config
from offhook.store.database import Database
from offhook.store.directory import DirectoryState, load_directory
from offhook.store.form_secrets import Kind
from offhook.store.resources import Resource, ResourcePage, ResourceQuery, Resources
from offhook.store.vault import MasterKey, Vault

VAULT = Vault([MasterKey(key_id="test", key=b"k" * 32)])
OTHER = "other"
"""A second account; ``World`` makes it."""


class World:
    """``database`` with two accounts, ``default`` and ``other``; every word is a transaction of its own."""

    def __init__(self, database: Database, now: Callable[[], float] = lambda: 1000.0) -> None:
        self.database = database
        self.resources = Resources(vault=VAULT, config_file="/etc/offhook/config.json", now=now)
        with database.write() as connection:
            create_account(connection, Account(account_id=OTHER))

    def create(self, kind: Kind, /, *, account: str = DEFAULT_ACCOUNT, **values: Any) -> Resource:
        with self.database.write() as connection:
            return self.resources.create(connection, account, kind, values)

    def patch(self, kind: Kind, name: str, patch: dict[str, Any], **options: Any) -> Resource:
        with self.database.write() as connection:
            return self.resources.patch(connection, DEFAULT_ACCOUNT, kind, name, patch, **options)

    def replace(self, kind: Kind, name: str, values: dict[str, Any], **options: Any) -> Resource:
        with self.database.write() as connection:
            return self.resources.replace(connection, DEFAULT_ACCOUNT, kind, name, values, **options)

    def delete(self, kind: Kind, name: str, *, account: str = DEFAULT_ACCOUNT, **options: Any) -> None:
        with self.database.write() as connection:
            self.resources.delete(connection, account, kind, name, **options)

    def get(self, kind: Kind, name: str, *, account: str = DEFAULT_ACCOUNT) -> Resource:
        with self.database.read() as connection:
            return self.resources.get(connection, account, kind, name)

    def secrets(self, kind: Kind, name: str) -> dict[str, str]:
        with self.database.read() as connection:
            return self.resources.secrets_of(connection, DEFAULT_ACCOUNT, kind, name)

    def ids(self, kind: Kind, *, account: str = DEFAULT_ACCOUNT, **query: Any) -> tuple[list[str], int]:
        page = self.page(kind, account=account, **query)
        return [one.id for one in page.records], page.total

    def page(self, kind: Kind, *, account: str = DEFAULT_ACCOUNT, **query: Any) -> ResourcePage:
        with self.database.read() as connection:
            return self.resources.page(connection, account, kind, ResourceQuery(**query))

    def sync(self, forms: ConfigForms) -> ConfigChange:
        with self.database.write() as connection:
            return sync_config(connection, self.resources, forms)

    def directory(self) -> DirectoryState:
        with self.database.read() as connection:
            return load_directory(connection, VAULT)
