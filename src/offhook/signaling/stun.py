"""STUN binding requests (RFC 8489): asking a server how it sees our socket. Sans-IO; our own, as it is one packet.

Servers of RFC 3489 answer with attributes that RFC 8489 does not know any more (SOURCE-ADDRESS, CHANGED-ADDRESS), and
§6.3.3 would discard their answers. What tells our address is read, all else is passed over.
"""

from __future__ import annotations

import ipaddress
import struct

from offhook.sip.events import Address

MAGIC_COOKIE = 0x2112A442
TRANSACTION_ID_BYTES = 12

DEFAULT_PORT = 3478

SCHEDULE_S = (0.5, 1.0, 1.5, 2.0)
"""Pauses after each sending, the last one before giving up; §6.2.1 doubles to 39.5 s, too long for a start."""

_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")
_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_MAPPED_ADDRESS = 0x0001
_XOR_MAPPED_ADDRESS = 0x0020
_FAMILY_BYTES = {1: 4, 2: 16}


def binding_request(transaction_id: bytes) -> bytes:
    """A request without attributes; ``transaction_id``: 12 random bytes."""
    return _HEADER.pack(_BINDING_REQUEST, 0, MAGIC_COOKIE, transaction_id)


def is_stun(datagram: bytes) -> bool:
    """§6: two zero bits and the magic cookie; no SIP message begins so."""
    return len(datagram) >= _HEADER.size and datagram[0] < 4 and datagram[4:8] == MAGIC_COOKIE.to_bytes(4, "big")


def mapped_address(datagram: bytes, transaction_id: bytes) -> Address | None:
    """How the server sees us, from its success response to that transaction; None for anything else.

    XOR-MAPPED-ADDRESS counts more than MAPPED-ADDRESS: some translators rewrite what looks like an address (§14.2).
    """
    if not is_stun(datagram):
        return None
    kind, length, _, answered = _HEADER.unpack_from(datagram)
    if kind != _BINDING_SUCCESS or answered != transaction_id or length > len(datagram) - _HEADER.size:
        return None
    plain: Address | None = None
    position, end = _HEADER.size, _HEADER.size + length
    while position + _ATTRIBUTE.size <= end:
        attribute, size = _ATTRIBUTE.unpack_from(datagram, position)
        value = datagram[position + _ATTRIBUTE.size : min(position + _ATTRIBUTE.size + size, end)]
        if attribute == _XOR_MAPPED_ADDRESS:
            return _address(value, MAGIC_COOKIE.to_bytes(4, "big") + transaction_id)
        if attribute == _MAPPED_ADDRESS:
            plain = _address(value, bytes(16))
        position += _ATTRIBUTE.size + (size + 3) // 4 * 4
    return plain


def _address(value: bytes, mask: bytes) -> Address | None:
    """§14.1, §14.2: family, port and address, each xored with ``mask``; None where nobody could send to it."""
    if len(value) < 4 or len(value) != 4 + _FAMILY_BYTES.get(value[1], -1):
        return None
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(mask[:2], "big")
    host = ipaddress.ip_address(bytes(one ^ other for one, other in zip(value[4:], mask, strict=False)))
    return None if port == 0 or host.is_unspecified or host.is_multicast else Address(str(host), port)
