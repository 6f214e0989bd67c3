"""SDP security descriptions (RFC 4568): ``a=crypto`` lines, and when a stream is encrypted.

An ``RTP/SAVP`` stream is encrypted or refused. ``RTP/AVP`` with ``a=crypto`` means "encrypted, if you can": RFC 4568
does not know it, but baresip, linphone, Asterisk and most telephones do, and a peer without SRTP passes the lines over.
So an ``optional`` leg offers that, takes both, and answers in the protocol of the offer. A ``required`` leg offers and
takes RTP/SAVP alone: there, nobody can mistake the lines for a wish.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple

from offhook.model.errors import LocalProtocolError
from offhook.model.srtp import Crypto, CryptoSuite, MasterKey
from offhook.model.trunks import SrtpPolicy
from offhook.sdp.description import Attribute, MediaDescription, numeral

CLEAR_PROTOCOLS = ("RTP/AVP", "RTP/AVPF")
SECURE_PROTOCOLS = ("RTP/SAVP", "RTP/SAVPF")
"""The F differs in the timing of RTCP alone, and both may be mixed in one session (RFC 4585 §4, RFC 5124 §2)."""

SEED_BYTES = 32
"""As strong as the strongest suite."""

MAX_LINES = 16
"""Of one stream: the suites registered are fewer than that."""

_MAX_TAG = 999_999_999  # RFC 4568 §9.1: 1*9DIGIT
_MAX_MKI_BYTES = 128  # §6.1
_MAX_LIFETIME_LOG = 48  # §6.1: 2^48 packets of SRTP
_PROBLEMS_SHOWN = 3

_SUITES = {suite.value: suite for suite in CryptoSuite}
_SUITE_NAME = re.compile(r"(AES|AEAD|ARIA|SEED|F8|NULL)(_[A-Z0-9]{1,9}){0,5}")
_PARAMETER_NAMES = frozenset(
    {"KDR", "UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP", "FEC_ORDER", "FEC_KEY", "WSH"}
)
"""RFC 4568 §6.3. Nothing else of a line is ever shown: in one that is ill made, a key may stand anywhere."""

_UNKNOWN = "of no known name"

_HARMLESS = ("WSH=", "KDR=0")
"""Session parameters that change nothing: a hint at the window's size (§6.3.6), and the default (§6.3.1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SrtpTerms:
    """Whether a leg's media is encrypted, and what its keys are made of.

    ``seed``: ``SEED_BYTES`` random bytes, of this leg alone. ``exposed``: the signalling is readable on its way, and
    keys are not to be trusted to it (RFC 4568 §8.3): then none is sent or taken. Raises ``ValueError`` without a seed.
    """

    policy: SrtpPolicy = "off"
    seed: bytes = field(default=b"", repr=False)
    exposed: bool = False

    def __post_init__(self) -> None:
        if self.policy != "off" and len(self.seed) < SEED_BYTES:
            raise ValueError(f"SRTP keys need a seed of {SEED_BYTES} random bytes")

    @property
    def hindrance(self) -> str:
        """Why no call at all is possible; "" where one is."""
        if self.policy == "required" and self.exposed:
            return f"SRTP is required, {_EXPOSED}"
        return ""

    @property
    def takes(self) -> str:
        """The protocols a peer may offer, in words."""
        return _TAKES["off" if self.exposed and self.policy == "optional" else self.policy]


CLEAR_ONLY = SrtpTerms()

_TAKES: Mapping[SrtpPolicy, str] = {
    "off": "RTP/AVP",
    "optional": "RTP/AVP or RTP/SAVP",
    "required": "RTP/SAVP with a=crypto",
}

_EXPOSED = "and its keys would be readable on the way here: the signalling is not TLS"


class Secured(NamedTuple):
    """An encrypted stream: its keys, and the tag of its line (RFC 4568 §4.1)."""

    tag: int
    crypto: Crypto


class Insecure(NamedTuple):
    """Why a stream is not taken; ASCII without quotes and without keys."""

    why: str


class CryptoLine(NamedTuple):
    """One usable ``a=crypto``."""

    tag: int
    suite: CryptoSuite
    key: MasterKey

    def attribute(self) -> Attribute:
        encoded = base64.b64encode(self.key.secret).decode()
        return Attribute("crypto", f"{self.tag} {self.suite.value} inline:{encoded}")


class CryptoLines(NamedTuple):
    """A stream's lines in their order: those that can be used, and what is wrong with the others."""

    usable: tuple[CryptoLine, ...]
    problems: tuple[str, ...]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def read_lines(media: MediaDescription) -> CryptoLines:
    """The ``a=crypto`` lines of a stream; never raises. More than ``MAX_LINES`` are not looked at."""
    read = [_read(value) for value, _ in zip(media.attributes_named("crypto"), range(MAX_LINES), strict=False)]
    return CryptoLines(
        usable=tuple(line for line in read if isinstance(line, CryptoLine)),
        problems=tuple(line for line in read if isinstance(line, str)),
    )


def _read(value: str) -> CryptoLine | str:
    """A line, or what is wrong with it (RFC 4568 §9.1: tag, suite, key parameters, session parameters)."""
    words = [word for word in value.split(" ") if word]
    if len(words) < 3:
        return "a line of fewer than three fields"
    tag, suite = numeral(words[0], _MAX_TAG), _SUITES.get(words[1].upper())
    if tag is None:
        return "a tag that is no number"
    if suite is None:
        return f"suite {_suite_name(words[1])}"
    key = _read_key(words[2], suite)
    if isinstance(key, str):
        return key
    # §6.3.7: a line with a session parameter that is not understood is not taken.
    foreign = next((word for word in words[3:] if not _is_harmless(word)), None)
    if foreign is not None:
        return f"session parameter {_parameter_name(foreign)}"
    return CryptoLine(tag, suite, key)


def _read_key(text: str, suite: CryptoSuite) -> MasterKey | str:
    """``inline:<key||salt>["|" lifetime]["|" MKI ":" length]`` (§6.1); only its faults are told, never the key."""
    if ";" in text:
        return "several keys in one line"  # of which MKIs choose: we keep one key for each direction
    method, _, parts = text.partition(":")
    secret_text, *options = parts.split("|")
    if method.lower() != "inline":
        return "a key that is not inline"
    secret = _decoded(secret_text)
    if secret is None or len(secret) != suite.master_bytes:
        return f"a key that is not {suite.master_bytes} bytes in base64"
    if options and ":" not in options[0] and _is_lifetime(options[0]):
        options = options[1:]  # when it is over the peer offers another: we never send 2^31 packets
    if not options:
        return MasterKey(secret=secret)
    mki = _read_mki(options[0]) if len(options) == 1 else None
    return "a lifetime or MKI that is none" if mki is None else MasterKey(secret=secret, mki=mki)


def _decoded(text: str) -> bytes | None:
    """§6.1: padding is dropped before decoding, so it may be absent."""
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_lifetime(text: str) -> bool:
    """A number of packets, or a power of two (§6.1)."""
    if text.startswith("2^"):
        return numeral(text[2:], _MAX_LIFETIME_LOG) is not None
    return numeral(text, 2**_MAX_LIFETIME_LOG) is not None


def _read_mki(text: str) -> bytes | None:
    value_text, _, length_text = text.partition(":")
    length = numeral(length_text, _MAX_MKI_BYTES)
    value = numeral(value_text, 10**10 - 1)  # §9.2: 1*10DIGIT
    if not length or value is None or value >= 1 << 8 * length:
        return None
    return value.to_bytes(length, "big")


def _is_harmless(parameter: str) -> bool:
    # §6.3.7: "-" before an extension: who does not know it goes on without it
    return parameter.startswith("-") or parameter.upper().startswith(_HARMLESS[0]) or parameter.upper() == _HARMLESS[1]


def _parameter_name(parameter: str) -> str:
    name = parameter.partition("=")[0].upper()
    return name if name in _PARAMETER_NAMES else _UNKNOWN


def _suite_name(name: str) -> str:
    return name.upper() if _SUITE_NAME.fullmatch(name.upper()) else _UNKNOWN


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────

_Fate = Literal["secure", "clear", "refuse"]

_OF_AN_OFFER: Mapping[tuple[SrtpPolicy, bool, bool], _Fate] = {
    # policy, its protocol is a secure one, it has a line we can use
    ("off", False, False): "clear",
    ("off", False, True): "clear",
    ("off", True, False): "refuse",
    ("off", True, True): "refuse",
    ("optional", False, False): "clear",
    ("optional", False, True): "secure",
    ("optional", True, False): "refuse",
    ("optional", True, True): "secure",
    ("required", False, False): "refuse",
    ("required", False, True): "refuse",
    ("required", True, False): "refuse",
    ("required", True, True): "secure",
}

_Wish = Literal["none", "wished", "demanded"]
_Key = Literal["none", "matching", "other"]

_OF_AN_ANSWER: Mapping[tuple[_Wish, bool, _Key], _Fate] = {
    # what our offer had, the answer's protocol is a secure one, its line
    ("none", False, "none"): "clear",
    ("none", False, "matching"): "clear",
    ("none", False, "other"): "clear",
    ("none", True, "none"): "refuse",
    ("none", True, "matching"): "refuse",
    ("none", True, "other"): "refuse",
    ("wished", False, "none"): "clear",
    ("wished", False, "matching"): "secure",
    ("wished", False, "other"): "refuse",
    ("wished", True, "none"): "refuse",
    ("wished", True, "matching"): "secure",
    ("wished", True, "other"): "refuse",
    ("demanded", False, "none"): "refuse",
    ("demanded", False, "matching"): "refuse",  # RFC 3264 §6: the answer's protocol is the offer's
    ("demanded", False, "other"): "refuse",
    ("demanded", True, "none"): "refuse",
    ("demanded", True, "matching"): "secure",
    ("demanded", True, "other"): "refuse",
}


def judge_offer(
    media: MediaDescription, terms: SrtpTerms, *, version: int, standing: Crypto | None
) -> Secured | Insecure | None:
    """How to answer an offered stream: encrypted so, not at all, or (None) in clear.

    The offer's first usable line decides (RFC 4568 §5.1.2). Our key stays where the peer's has stayed the
    ``standing`` one, and is new where it changed; ``version`` is that of the description it goes into.
    """
    if terms.hindrance:
        return Insecure(terms.hindrance)
    lines = read_lines(media)
    secure = is_secure(media)
    fate = _OF_AN_OFFER["off" if terms.exposed else terms.policy, secure, bool(lines.usable)]
    if fate == "refuse":
        return Insecure(_why_not(media, terms, lines))
    if fate == "clear":
        return None
    tag, suite, theirs = lines.usable[0]
    if standing is not None and (standing.suite, standing.receive) == (suite, theirs):
        return Secured(tag, standing)
    ours = _made_key(terms, suite, version, theirs.secret)
    return Secured(tag, Crypto(suite=suite, send=ours, receive=theirs))


def judge_answer(offered: MediaDescription, answer: MediaDescription) -> Secured | Insecure | None:
    """What the answer to our offered stream settles: encrypted so, nothing we could use, or (None) clear."""
    ours, theirs = read_lines(offered), read_lines(answer)
    wish: _Wish = "none" if not ours.usable else "demanded" if is_secure(offered) else "wished"
    matching = _matching(ours.usable, theirs)
    key: _Key = "matching" if matching else "other" if theirs.usable or theirs.problems else "none"
    fate = _OF_AN_ANSWER[wish, is_secure(answer), key]
    if fate == "secure" and matching is not None:
        return matching
    return None if fate == "clear" else Insecure(_why_no_answer(wish, answer, theirs))


def _matching(ours: Sequence[CryptoLine], theirs: CryptoLines) -> Secured | None:
    """§5.1.3: the answer has exactly one line, with the tag and the suite of one that was offered."""
    if len(theirs.usable) != 1 or theirs.problems:
        return None
    tag, suite, key = theirs.usable[0]
    for line in ours:
        if (line.tag, line.suite) == (tag, suite):
            return Secured(tag, Crypto(suite=suite, send=line.key, receive=key))
    return None


def is_secure(media: MediaDescription) -> bool:
    return media.protocol.upper() in SECURE_PROTOCOLS


def _why_not(media: MediaDescription, terms: SrtpTerms, lines: CryptoLines) -> str:
    protocol = media.protocol.upper()
    if terms.policy == "off":
        return f"audio over {protocol}; we take {terms.takes}"
    if terms.exposed:
        return f"audio over {protocol}, {_EXPOSED}; we take {terms.takes}"
    if not is_secure(media):
        return f"audio over {protocol} is not encrypted for certain; we take {terms.takes}"
    ours = ", ".join(suite.value for suite in CryptoSuite)
    return f"{protocol} without a key we can use: {_faults(lines)}; we take {ours}"


def _why_no_answer(wish: _Wish, answer: MediaDescription, lines: CryptoLines) -> str:
    protocol = answer.protocol.upper()
    if wish == "none":
        return f"the answer is over {protocol}, and we offered RTP/AVP"
    if not is_secure(answer) and not lines.usable and not lines.problems:
        return f"the answer is in clear: {protocol} without a=crypto"
    if len(lines.usable) > 1:
        return f"the answer over {protocol} has several a=crypto lines"
    faults = "it is not the one line that was offered" if lines.usable and not lines.problems else _faults(lines)
    return f"the answer over {protocol} does not take our a=crypto: {faults}"


def _faults(lines: CryptoLines) -> str:
    return ", ".join(lines.problems[:_PROBLEMS_SHOWN]) or "no a=crypto line"


# ── offering ─────────────────────────────────────────────────────────────────────────────────────────────


class SecurityOffer(NamedTuple):
    """What the ``m=`` line says, and the lines under it."""

    protocol: str
    attributes: tuple[Attribute, ...]


def offer_security(
    terms: SrtpTerms, *, version: int, standing: Crypto | None, previous: MediaDescription | None
) -> SecurityOffer:
    """How to offer a stream: every suite with a key of its own, or the ``standing`` one with the key it has.

    ``previous`` is the stream as we described it last. Raises ``LocalProtocolError`` where ``terms.hindrance`` says
    that no call is possible: nothing is offered in clear instead.
    """
    if terms.hindrance:
        raise LocalProtocolError(terms.hindrance)
    if terms.policy == "off" or terms.exposed:
        return SecurityOffer("RTP/AVP", ())
    if standing is not None and previous is not None:
        line = CryptoLine(1, standing.suite, standing.send)
        return SecurityOffer(previous.protocol, (line.attribute(),))
    protocol = "RTP/SAVP" if terms.policy == "required" else "RTP/AVP"
    suites = enumerate(CryptoSuite, start=1)
    lines = (CryptoLine(tag, suite, _made_key(terms, suite, version, b"")) for tag, suite in suites)
    return SecurityOffer(protocol, tuple(line.attribute() for line in lines))


def _made_key(terms: SrtpTerms, suite: CryptoSuite, version: int, theirs: bytes) -> MasterKey:
    """A key of ours: another one in every description, for every suite and for every key of the peer.

    A keyed hash of the leg's random seed is as good as random to all who do not know the seed, and lets this room do
    without a source of chance.
    """
    made = blake2b(key=terms.seed, digest_size=suite.master_bytes, person=b"offhook srtp")
    made.update(f"{version} {suite.value} ".encode() + theirs)
    return MasterKey(secret=made.digest())
