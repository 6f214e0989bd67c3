"""SRTP written down once more from the RFCs, slowly, on bare AES: what the vectors (which give session keys) can check.

The library takes master keys alone, so it is compared with this, and this with the vectors.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

HEADER_BYTES = 12
CONTROL_HEADER_BYTES = 8
ENCRYPTED = 0x80000000
"""The E flag in front of an SRTCP index."""


@dataclass(frozen=True, kw_only=True)
class SessionKeys:
    """Of one direction, of RTP or of RTCP."""

    cipher: bytes
    salt: bytes
    auth: bytes = b""


def key_stream(key: bytes, salt: bytes, *, shift_in: int, length: int) -> bytes:
    """RFC 3711 §4.1.1: AES in counter mode from (salt * 2^16) XOR ``shift_in``."""
    counter = int.from_bytes(salt, "big") << 16 ^ shift_in
    return Cipher(AES(key), CTR(counter.to_bytes(16, "big"))).encryptor().update(bytes(length))


def derived(master_key: bytes, master_salt: bytes, *, label: int, length: int) -> bytes:
    """RFC 3711 §4.3 with a key derivation rate of 0; RFC 6188 §3 for 256 bits; a salt of 96 bits ends in zeros."""
    return key_stream(master_key, master_salt.ljust(14, b"\0"), shift_in=label << 64, length=length)


def session_keys(master_key: bytes, master_salt: bytes, *, control: bool) -> SessionKeys:
    first = 3 if control else 0
    return SessionKeys(
        cipher=derived(master_key, master_salt, label=first, length=len(master_key)),
        auth=derived(master_key, master_salt, label=first + 1, length=20),
        salt=derived(master_key, master_salt, label=first + 2, length=len(master_salt)),
    )


def protect_cm(packet: bytes, keys: SessionKeys, *, roll_over: int, tag_bytes: int) -> bytes:
    """RFC 3711 §3.3."""
    index = roll_over << 16 | int.from_bytes(packet[2:4], "big")
    body = _mixed(packet[HEADER_BYTES:], keys, packet[8:12], index)
    covered = packet[:HEADER_BYTES] + body
    return covered + _tag(covered + roll_over.to_bytes(4, "big"), keys)[:tag_bytes]


def protect_control_cm(packet: bytes, keys: SessionKeys, *, index: int) -> bytes:
    """RFC 3711 §3.4."""
    body = _mixed(packet[CONTROL_HEADER_BYTES:], keys, packet[4:8], index)
    covered = packet[:CONTROL_HEADER_BYTES] + body + (ENCRYPTED | index).to_bytes(4, "big")
    return covered + _tag(covered, keys)[:10]


def protect_gcm(packet: bytes, keys: SessionKeys, *, roll_over: int) -> bytes:
    """RFC 7714 §8."""
    vector = bytes(2) + packet[8:12] + roll_over.to_bytes(4, "big") + packet[2:4]
    header = packet[:HEADER_BYTES]
    return header + AESGCM(keys.cipher).encrypt(_xor(vector, keys.salt), packet[HEADER_BYTES:], header)


def protect_control_gcm(packet: bytes, keys: SessionKeys, *, index: int) -> bytes:
    """RFC 7714 §9."""
    vector = bytes(2) + packet[4:8] + bytes(2) + index.to_bytes(4, "big")
    header, word = packet[:CONTROL_HEADER_BYTES], (ENCRYPTED | index).to_bytes(4, "big")
    sealed = AESGCM(keys.cipher).encrypt(_xor(vector, keys.salt), packet[CONTROL_HEADER_BYTES:], header + word)
    return header + sealed + word


def _mixed(body: bytes, keys: SessionKeys, ssrc: bytes, index: int) -> bytes:
    shift_in = int.from_bytes(ssrc, "big") << 64 ^ index << 16
    return _xor(body, key_stream(keys.cipher, keys.salt, shift_in=shift_in, length=len(body)))


def _tag(covered: bytes, keys: SessionKeys) -> bytes:
    return hmac.digest(keys.auth, covered, "sha1")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
