"""A leg's side of offer and answer (RFC 3264): our origin line, our standing offer, what was agreed.

Bytes in, bytes out; joins ``sdp`` to the bodies of SIP messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from offhook.model.errors import SdpError
from offhook.model.srtp import Crypto
from offhook.sdp.crypto import is_secure
from offhook.sdp.description import SessionDescription, parse, serialize
from offhook.sdp.offer_answer import Agreement, Capabilities, NoCommonCodec, accept_answer, negotiate, offer

_WARN_MISCELLANEOUS = 399


@dataclass(frozen=True, kw_only=True, slots=True)
class Unacceptable:
    """No media can flow: the status to refuse with, the Warning that says why (RFC 3261 §20.43), and what helps."""

    status: int
    warning: int
    why: str
    fix: str = ""

    def warning_header(self, host: str) -> tuple[str, str]:
        text = self.why.replace("\\", "\\\\").replace('"', "'")
        agent = f"[{host}]" if ":" in host else host
        return ("Warning", f'{self.warning} {agent} "{text}"')


class Negotiation:
    """One leg's session: the o= line keeps its id, its version rises by one with each description we send."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._offer: SessionDescription | None = None
        self._sent: SessionDescription | None = None
        self.agreement: Agreement | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def offering(self) -> bool:
        """Our offer stands and its answer has not come."""
        return self._offer is not None

    @property
    def takes(self) -> str:
        """What a peer may offer or answer, in words."""
        codecs = ", ".join(encoding.value for encoding in self._capabilities.codecs)
        return f"{codecs} over {self._capabilities.srtp.takes}"

    @property
    def hindrance(self) -> Unacceptable | None:
        """Why there can be no media whatever the peer offers or answers; ask before ``offer``."""
        why = self._capabilities.srtp.hindrance
        return self._refusal(_WARN_MISCELLANEOUS, why) if why else None

    @property
    def secure(self) -> bool:
        """What was agreed is encrypted, over a protocol that knows nothing else."""
        return self._standing is not None and self._sent is not None and any(map(is_secure, self._sent.media))

    @property
    def _standing(self) -> Crypto | None:
        return None if self.agreement is None else self.agreement.crypto

    def send_only(self, wanted: bool) -> None:
        """What our next offer says: the party is to listen only (hold), or to talk as well."""
        self._capabilities = replace(self._capabilities, direction="sendonly" if wanted else "sendrecv")

    def offer(self) -> bytes:
        """Our offer, to send; its answer goes to ``accept``. Raises ``LocalProtocolError`` where one is hindered."""
        self._offer = offer(self._capabilities, previous=self._sent, standing=self._standing)
        return self._described(self._offer)

    def answer(self, body: bytes) -> bytes | Unacceptable:
        """The answer to a peer's offer; what was agreed is in ``agreement`` afterwards."""
        try:
            result = negotiate(parse(body), self._capabilities, standing=self._standing)
        except SdpError as error:
            return self._unreadable(error)
        if isinstance(result, NoCommonCodec):
            return self._refusal(result.warning, result.why)
        description, self.agreement = result
        return self._described(description)

    def accept(self, body: bytes) -> Agreement | Unacceptable:
        """What the peer's answer to our standing offer agrees on."""
        result = self._agreed(body)
        return result if isinstance(result, Unacceptable) else self.adopt(result)

    def preview(self, body: bytes) -> Agreement | None:
        """What an answer before the 2xx agrees on; our offer stands, for other early dialogs may answer it too."""
        result = self._agreed(body)
        return None if isinstance(result, Unacceptable) else result

    def adopt(self, agreement: Agreement) -> Agreement:
        """Take what an early answer agreed on as the answer."""
        self.agreement = agreement
        self._offer = None
        return agreement

    def _agreed(self, body: bytes) -> Agreement | Unacceptable:
        if self._offer is None:
            return self._refusal(_WARN_MISCELLANEOUS, "an answer came without an offer of ours")
        if not body:
            return self._refusal(_WARN_MISCELLANEOUS, "the answer carries no session description")
        try:
            result = accept_answer(self._offer, parse(body), self._capabilities)
        except SdpError as error:
            return self._unreadable(error)
        return self._refusal(result.warning, result.why) if isinstance(result, NoCommonCodec) else result

    def _described(self, description: SessionDescription) -> bytes:
        self._sent = description  # RFC 3264 §8: a later offer keeps its m-lines and payload types
        self._capabilities = replace(self._capabilities, version=self._capabilities.version + 1)
        return serialize(description)

    def _unreadable(self, error: SdpError) -> Unacceptable:
        return self._refusal(_WARN_MISCELLANEOUS, f"the session description cannot be used: {error}")

    def _refusal(self, warning: int, why: str) -> Unacceptable:
        srtp = self._capabilities.srtp
        fixes = [] if srtp.hindrance else [f"let the other side offer or answer with {self.takes}"]
        if srtp.policy != "off" and srtp.exposed:
            fixes.append("for SRTP let it signal over TLS, or set trunks[].srtp_without_tls to true")
        return Unacceptable(status=488, warning=warning, why=why, fix="; ".join(fixes))
