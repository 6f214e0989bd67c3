"""``offhook secrets``: under which master key passwords and keys are encrypted, and how they come to another."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from pathlib import Path
from secrets import token_bytes as random_bytes
from secrets import token_hex

import click

from offhook.cli.storage import Place, opened, place_options, print_json
from offhook.store.vault import KEY_BYTES, VARIABLE, Vault, rotate_batch, secrets_by_key


@click.group()
def secrets() -> None:
    """Show how secrets are encrypted, and bring them to a new master key."""


@secrets.command()
@place_options
def status(*, place: Place) -> None:
    """Show how many secrets each master key protects, and where the key comes from."""
    with opened(place) as database, database.read() as connection:
        vault = _vault(place)
        counts = secrets_by_key(connection)
        vault.check(connection)
    _show(place, vault, counts)


@secrets.command("new-key")
def new_key() -> None:
    """Print a new master key, to be put first into OFFHOOK_MASTER_KEY or the file of keys."""
    key = base64.b64encode(random_bytes(KEY_BYTES)).decode()
    click.echo(f"{time.strftime('%Y-%m-%d')}-{token_hex(2)}:{key}")


@secrets.command()
@place_options
def rotate(*, place: Place) -> None:
    """Encrypt every secret anew under the first master key; may be broken off and taken up again.

    Put the new key first and the old one after it: OFFHOOK_MASTER_KEY=new:…,old:… When nothing is left under the old
    one, take it out. Restart every server between the steps.
    """
    with opened(place) as database:
        vault, moved = _vault(place), 0
        while True:
            with database.write() as connection:
                batch = rotate_batch(connection, vault)
            if not batch:
                break
            moved += batch
        with database.read() as connection:
            counts = secrets_by_key(connection)
    if not place.as_json:
        click.echo(f"{moved} secrets were encrypted anew under {vault.key_id}")
    _show(place, vault, counts, moved=moved)


def _vault(place: Place) -> Vault:
    return Vault.open(place.settings().data_folder, os.environ.get(VARIABLE, ""))


def _show(place: Place, vault: Vault, counts: Mapping[str, int], **more: int) -> None:
    if place.as_json:
        file = None if vault.file is None else str(vault.file)
        told = {"key": vault.key_id, "file": file, "secrets_by_key": counts, **more}
        print_json(told)
        return
    for key_id, count in sorted(counts.items()):
        now = "the key that encrypts" if key_id == vault.key_id else "an earlier key: `offhook secrets rotate`"
        click.echo(f"{click.style(key_id, bold=True)}: {count} secrets, {now}")
    if not counts:
        click.echo(f"no secret is kept; {vault.key_id} would encrypt it")
    if vault.file is not None:
        click.secho(master_key_advice(vault.file), fg="yellow")


def master_key_advice(file: Path) -> str:
    """For a master key that lies in the data folder."""
    hint = f"move it out of the data folder, and name it in {VARIABLE}"
    return f"the master key lies in {file}, beside what it protects: {hint}"
