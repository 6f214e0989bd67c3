"""SRTP and SRTCP (RFC 3711, RFC 7714) over libsrtp: packets in, packets out. Nothing a peer sends is raised.

The sender's and the receiver's numbering (roll-over counters, replay windows) live as long as their key: new keys
begin anew, a re-INVITE that keeps them changes nothing.
"""

from __future__ import annotations

from pylibsrtp import Error, Policy, Session

from offhook.model.srtp import Crypto, CryptoSuite, MasterKey

REPLAY_WINDOW = 128
"""Packets: 2.5 s of reordering, twice what RFC 3711 §3.3.2 asks for."""

MAX_SOURCES = 256
"""SSRCs taken under one key, each costs libsrtp some KB. A PBX takes a new one with each hold; who knows the key could
take four billion. The oldest cannot be forgotten: its packets could be replayed."""

OLD_KEY_S = 2.0
"""What was on its way when the peer changed its key is still heard: longer than signalling and media take."""

_MAX_BYTES = 1500
"""pylibsrtp's buffer; and no packet of a telephone is longer than an Ethernet frame."""

_LONGEST_TAIL = 144
"""What pylibsrtp keeps free in that buffer for tag and MKI."""

_LONGEST_CONTROL_TAIL = 148

_PROFILES = {
    CryptoSuite.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    CryptoSuite.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}

_BEHIND_MKI = {
    CryptoSuite.AEAD_AES_256_GCM: (0, 0),  # RFC 7714 §8.2, §9.2: the tag is part of the cipher, the MKI is last
    CryptoSuite.AEAD_AES_128_GCM: (0, 0),
    CryptoSuite.AES_CM_128_HMAC_SHA1_80: (10, 10),  # RFC 3711 §3.1: before the tag
    CryptoSuite.AES_CM_128_HMAC_SHA1_32: (4, 10),  # RFC 4568 §6.2.2: reports keep the long tag
}
"""Bytes that follow the MKI in an SRTP and in an SRTCP packet."""

_SSRC = slice(8, 12)
_CONTROL_SSRC = slice(4, 8)

_REPLAYED = "replay check failed"  # how both of libsrtp's errors begin


class SrtpSender:
    """Protects one stream and its reports."""

    def __init__(self, crypto: Crypto) -> None:
        self._session = _session(crypto.suite, crypto.send, Policy.SSRC_ANY_OUTBOUND)

    def protect(self, packet: bytes) -> bytes | None:
        """An RTP packet as it may leave; None where it may not: too long, or a number that was used (RFC 3711 §9.1)."""
        if len(packet) > _MAX_BYTES - _LONGEST_TAIL:
            return None
        try:
            return self._session.protect(packet)
        except Error:
            return None

    def protect_control(self, packet: bytes) -> bytes | None:
        """A compound RTCP packet as it may leave; None where it may not."""
        if len(packet) > _MAX_BYTES - _LONGEST_CONTROL_TAIL:
            return None
        try:
            return self._session.protect_rtcp(packet)
        except Error:
            return None


class SrtpReceiver:
    """Opens what the peer protected. Counts what was not (``unauthentic``) and what came twice (``replayed``)."""

    def __init__(self, crypto: Crypto) -> None:
        self._key = _ReceivingKey(crypto)
        self._old: _ReceivingKey | None = None
        self._old_until = 0.0
        self.unauthentic = 0
        self.replayed = 0

    def rekey(self, crypto: Crypto, now: float) -> None:
        """The peer has another key; the old one is good for ``OLD_KEY_S`` more."""
        self._old, self._old_until = self._key, now + OLD_KEY_S
        self._key = _ReceivingKey(crypto)

    def unprotect(self, datagram: bytes, now: float) -> bytes | None:
        """The RTP packet in a datagram that came at ``now``; None where it proves nothing."""
        try:
            return self._key.open(datagram)
        except Error as error:
            packet = self._open_late(datagram, now)
            if packet is None:
                self._count(error)
            return packet

    def unprotect_control(self, datagram: bytes) -> bytes | None:
        """The compound RTCP packet in a datagram; None where it proves nothing."""
        try:
            return self._key.open_control(datagram)
        except Error as error:
            self._count(error)
            return None

    def _open_late(self, datagram: bytes, now: float) -> bytes | None:
        if self._old is None:
            return None
        if now >= self._old_until:
            self._old = None
            return None
        try:
            return self._old.open(datagram)
        except Error:
            return None

    def _count(self, error: Error) -> None:
        if str(error).startswith(_REPLAYED):
            self.replayed += 1
        else:
            self.unauthentic += 1


class _ReceivingKey:
    """A peer's key and all that came under it. Both methods raise pylibsrtp's ``Error``, and nothing else."""

    def __init__(self, crypto: Crypto) -> None:
        self._session = _session(crypto.suite, crypto.receive, Policy.SSRC_ANY_INBOUND)
        self._mki = crypto.receive.mki
        self._behind_mki, self._behind_control_mki = _BEHIND_MKI[crypto.suite]
        self._sources: set[bytes] = set()

    def open(self, datagram: bytes) -> bytes:
        source = self._admit(datagram, _SSRC)
        if self._mki:
            datagram = self._without_mki(datagram, self._behind_mki)
        packet = self._session.unprotect(datagram)
        self._sources.add(source)
        return packet

    def open_control(self, datagram: bytes) -> bytes:
        source = self._admit(datagram, _CONTROL_SSRC)
        if self._mki:
            datagram = self._without_mki(datagram, self._behind_control_mki)
        packet = self._session.unprotect_rtcp(datagram)
        self._sources.add(source)
        return packet

    def _admit(self, datagram: bytes, ssrc: slice) -> bytes:
        if len(datagram) > _MAX_BYTES:
            raise Error("longer than any packet")
        source = datagram[ssrc]
        if len(self._sources) >= MAX_SOURCES and source not in self._sources:
            raise Error("one source too many")
        return source

    def _without_mki(self, datagram: bytes, behind: int) -> bytes:
        end = len(datagram) - behind
        start = end - len(self._mki)
        if start < 0 or datagram[start:end] != self._mki:
            raise Error("the packet names another key")
        return datagram[:start] + datagram[end:]


def _session(suite: CryptoSuite, key: MasterKey, sources: int) -> Session:
    policy = Policy(key=key.secret, ssrc_type=sources, srtp_profile=_PROFILES[suite])
    policy.window_size = REPLAY_WINDOW
    return Session(policy)
