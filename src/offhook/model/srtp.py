"""What SRTP is agreed in: cipher suites and keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class CryptoSuite(Enum):
    """How packets are encrypted and authenticated. The value is the name in SDP (RFC 4568 §6.2, RFC 7714 §14.2)."""

    AEAD_AES_256_GCM = "AEAD_AES_256_GCM"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"
    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"

    @property
    def master_bytes(self) -> int:
        """Length of the master key and the master salt together."""
        return _MASTER_BYTES[self]


_MASTER_BYTES = {
    CryptoSuite.AEAD_AES_256_GCM: 32 + 12,  # RFC 7714 §12
    CryptoSuite.AEAD_AES_128_GCM: 16 + 12,
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: 16 + 14,  # RFC 4568 §6.2
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: 16 + 14,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MasterKey:
    """One direction's secret: master key, then master salt; never shown.

    ``mki`` is what each packet carries to name the key (RFC 3711 §3.1), as on the wire; "" where it carries none.
    """

    secret: bytes = field(repr=False)
    mki: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crypto:
    """What both directions of one stream are protected by."""

    suite: CryptoSuite
    send: MasterKey
    receive: MasterKey
