"""Passwords and keys that must be used again: encrypted where they are stored, AES-256-GCM under a master key.

The master key comes from the environment, a file, or is made in the data folder. Several can be given, so that one can
follow another: the first encrypts, all decrypt, and ``rotate_batch`` brings every row to the first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from offhook.model.errors import ConfigError
from offhook.store.schema import secrets as table

VARIABLE = "OFFHOOK_MASTER_KEY"
FILE = "master.key"

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random (NIST SP 800-38D §8.2.2): safe for 2**32 rows under one key, and each secret written takes one."""

ROTATE_ROWS = 500
"""In one transaction: a few milliseconds in which nobody else writes."""

_FIX = f"Write {VARIABLE} as id:base64 of 32 octets, several with commas between; or as /path/of/a/file that holds that"


class SecretPlace(NamedTuple):
    """Where a secret belongs. It is authenticated with it: a ciphertext moved to another place does not decrypt."""

    account_id: str
    kind: str
    record_id: str
    path: str

    @property
    def bound(self) -> bytes:
        return msgspec.json.encode(tuple(self))


class Sealed(NamedTuple):
    """What the database keeps of a secret."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class MasterKey:
    key_id: str
    key: bytes = field(repr=False)


class Vault:
    """``key_id`` is that of the key that encrypts. ``file``: where it lies in the data folder, beside what it protects,
    and should not stay; None where it came from elsewhere. Thread-safe.
    """

    def __init__(self, keys: Iterable[MasterKey], *, file: Path | None = None) -> None:
        """Raises ``ConfigError`` for two keys of one id, or none."""
        self._keys: dict[str, bytes] = {}
        for one in keys:
            if self._keys.setdefault(one.key_id, one.key) != one.key:
                raise ConfigError(VARIABLE, f"two different keys have the id {one.key_id!r}", "Give each its own id")
        if not self._keys:
            raise ConfigError(VARIABLE, "holds no key", _FIX)
        self.key_id = next(iter(self._keys))
        self.file = file

    @classmethod
    def open(cls, data_dir: Path, variable: str = "") -> Vault:
        """``variable`` is what OFFHOOK_MASTER_KEY holds; without it the key of ``data_dir``, made where there is none.

        With it, a key in the data folder still decrypts, so that it can be moved or replaced. Blocks for the disk.
        Raises ``ConfigError``.
        """
        file = data_dir / FILE
        if not variable.strip():
            return cls(_read(file) or _make(file), file=file)
        given = _read(Path(variable.strip())) if variable.strip().startswith("/") else parse_keys(variable)
        if not given:  # a file that was not mounted: nothing may be encrypted with whatever else is there
            raise ConfigError(VARIABLE, "holds no key, or names a file that is missing", _FIX)
        return cls((*given, *_read(file)))

    def seal(self, place: SecretPlace, secret: str) -> Sealed:
        """Encrypt with the first key."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = AESGCM(self._keys[self.key_id]).encrypt(nonce, secret.encode(), place.bound)
        return Sealed(self.key_id, nonce, ciphertext)

    def unseal(self, place: SecretPlace, sealed: Sealed) -> str:
        """Raises ``ConfigError`` naming the master key that is missing or wrong."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise _lost(sealed.key_id, f"the keys here are {', '.join(self._keys)}")
        try:
            return AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, place.bound).decode()
        except InvalidTag:
            raise _lost(sealed.key_id, "the key of that id is another one, or the row was changed") from None

    def check(self, connection: sa.Connection) -> None:
        """Try one row of each master key. Raises ``ConfigError`` for a key that is missing or wrong."""
        for (key_id,) in connection.execute(sa.select(table.c.key_id).distinct()):
            row = connection.execute(sa.select(table).where(table.c.key_id == key_id).limit(1)).one()
            self.unseal(*_read_row(row))


def parse_keys(text: str) -> tuple[MasterKey, ...]:
    """``id:base64``, with commas or line ends between; a key without id is called by its digest.

    Raises ``ConfigError``, which shows nothing of a key.
    """
    parts = [part.strip() for part in re.split(r"[,\n]", text)]
    return tuple(_parse_key(part) for part in parts if part and not part.startswith("#"))


def rotate_batch(connection: sa.Connection, vault: Vault, rows: int = ROTATE_ROWS) -> int:
    """Bring some secrets to the vault's first key, in the caller's transaction; how many. 0: all are.

    Can be broken off and taken up at any time. Raises ``ConfigError`` when a key is missing.
    """
    query = sa.select(table).where(table.c.key_id != vault.key_id).limit(rows).with_for_update()
    found = connection.execute(query).all()
    for row in found:
        place, sealed = _read_row(row)
        fresh = vault.seal(place, vault.unseal(place, sealed))
        connection.execute(sa.update(table).where(*_at(place)).values(fresh._asdict()))
    return len(found)


def secrets_by_key(connection: sa.Connection) -> Mapping[str, int]:
    """How many secrets each master key protects, by its id."""
    counted = connection.execute(sa.select(table.c.key_id, sa.func.count()).group_by(table.c.key_id))
    return {row[0]: row[1] for row in counted}


def _read_row(row: sa.Row[tuple[object, ...]]) -> tuple[SecretPlace, Sealed]:
    return (
        SecretPlace(row.account_id, row.kind, row.id, row.path),
        Sealed(row.key_id, bytes(row.nonce), bytes(row.ciphertext)),
    )


def _at(place: SecretPlace) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.account_id == place.account_id,
        table.c.kind == place.kind,
        table.c.id == place.record_id,
        table.c.path == place.path,
    )


def _lost(key_id: str, problem: str) -> ConfigError:
    fix = f"Put the key back, into {VARIABLE} or {FILE} of the data folder; without it the secrets must be set anew"
    return ConfigError(VARIABLE, f"secrets are encrypted with the master key {key_id!r}, and {problem}", fix)


def _parse_key(text: str) -> MasterKey:
    named, colon, encoded = text.partition(":")
    if not colon:
        named, encoded = "", text
    try:
        key = base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), altchars=b"-_" if {*"-_"} & {*encoded} else b"+/", validate=True
        )
    except (binascii.Error, ValueError):
        raise ConfigError(VARIABLE, "holds a key that is no base64", _FIX) from None
    if len(key) != KEY_BYTES:
        raise ConfigError(VARIABLE, f"holds a key of {len(key)} octets", _FIX)
    if colon and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", named):
        raise ConfigError(VARIABLE, "holds a key whose id is not made of letters, digits, dots and hyphens", _FIX)
    return MasterKey(key_id=named or _name(key), key=key)


def _name(key: bytes) -> str:
    """Two keys that were made have different ids, so that the wrong one is told from the right one."""
    return "k" + hashlib.sha256(key).hexdigest()[:12]


def _read(file: Path) -> tuple[MasterKey, ...]:
    try:
        return parse_keys(file.read_text())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(VARIABLE, f"{file} cannot be read ({error})", "Let offhook read the file") from None


def _make(file: Path) -> tuple[MasterKey, ...]:
    """A new key on disk, readable by its owner alone; or the one another process just made: none is overwritten."""
    key = secrets.token_bytes(KEY_BYTES)
    text = f"{_name(key)}:{base64.b64encode(key).decode()}\n"
    fresh = file.with_name(f"{FILE}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(fresh, text.encode())
        try:
            os.link(fresh, file)  # fails where there is a file, unlike rename
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        _sync_folder(file.parent)
    except OSError as error:
        raise ConfigError(VARIABLE, f"{file} cannot be made ({error})", f"Set {VARIABLE}, or data_dir") from None
    return _read(file)


def _write_durably(file: Path, data: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    """A new name survives a power cut only with its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
