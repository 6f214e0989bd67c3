"""TLS for SIP (RFC 3261 §26.2, RFC 5922): contexts made from PEM files, read again on demand; failures in words."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from offhook.model.errors import ConfigError

HANDSHAKE_S = 5.0
"""For the TLS handshake, either role: three round trips on the slowest line, and no shelter for who never ends it."""

ClientCertificate = Literal["none", "optional", "required"]

_VERIFY_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsSettings:
    """PEM files. ``certificate`` may hold its chain; ``ca_file``: authorities to trust beside the system's.

    ``client_certificate``: what is asked of those who connect to us.
    """

    certificate: Path | None = None
    private_key: Path | None = None
    ca_file: Path | None = None
    client_certificate: ClientCertificate = "none"


class TlsContexts:
    """The contexts that new connections use. ``reload`` leaves open connections alone."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises ``ConfigError`` naming the file that cannot be used."""
        self._settings = settings
        self._server = _server_context(settings)
        self._client = _client_context(settings)

    @property
    def server(self) -> ssl.SSLContext | None:
        """None without a certificate: we can connect by TLS, and not be connected to."""
        return self._server

    @property
    def client(self) -> ssl.SSLContext:
        return self._client

    def reload(self) -> None:
        """Read the files again. Raises ``ConfigError``; the old contexts then stay."""
        server, client = _server_context(self._settings), _client_context(self._settings)
        self._server, self._client = server, client


def _server_context(settings: TlsSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, settings)
    _trust(context, settings)
    context.verify_mode = _VERIFY_MODES[settings.client_certificate]
    return context


def _client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Names are verified (RFC 5922 §7.3), against the system's authorities and ``ca_file``."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    _prepare(context, settings)
    _trust(context, settings)
    return context


def _prepare(context: ssl.SSLContext, settings: TlsSettings) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; those of 1.3 are all of this kind
    if settings.certificate is None:
        return
    for key, path in (("tls.certificate", settings.certificate), ("tls.private_key", settings.private_key)):
        _readable(key, path)
    try:
        context.load_cert_chain(settings.certificate, settings.private_key, password=_refuse_to_decrypt)
    except ssl.SSLError as error:
        pair = f"{settings.certificate} and tls.private_key {settings.private_key}"
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        problem = f"{pair} are not a pair" if mismatch else f"{pair} are not both PEM files ({error.reason or error})"
        raise ConfigError("tls.certificate", problem, "Give the PEM chain and the PEM key made for it") from None


def _refuse_to_decrypt() -> str:
    """OpenSSL would ask at the terminal, and the event loop wait, when the files are read again."""
    fix = "Decrypt it (openssl pkey -in key.pem -out plain.pem) into a file that only offhook may read"
    raise ConfigError("tls.private_key", "is encrypted, and there is nobody to ask for the passphrase", fix)


def _trust(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.ca_file is None:
        return
    _readable("tls.ca_file", settings.ca_file)
    try:
        context.load_verify_locations(settings.ca_file)
    except ssl.SSLError as error:
        fix = "Give a PEM file of certificates"
        raise ConfigError("tls.ca_file", f"{settings.ca_file} holds none ({error.reason})", fix) from None


def _readable(key: str, path: Path | None) -> None:
    if path is None:
        raise ConfigError(key, "is not set", "Name the PEM file")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        fix = "Name a PEM file this user may read"
        raise ConfigError(key, f"{path} cannot be read ({error.strerror})", fix) from None


TLS_LOST_UNHEARD = (
    "the peer closed the TLS connection before it answered: "
    "it may want a client certificate, or does not accept ours (tls.certificate)"
)
"""TLS 1.3 has the client done before the server looks at its certificate; asyncio and uvloop swallow the alert."""


def explain_handshake(error: Exception, name: str) -> str:
    """Why a handshake failed, and what to do about it. ``name``: whom we wanted to reach; "" for who came to us."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error, f"the certificate of {name}" if name else "the client's certificate", name)
    if isinstance(error, TimeoutError) or "taking longer" in str(error):  # the words of asyncio and uvloop
        return f"no TLS handshake in {HANDSHAKE_S:g} s" + (": does the port speak TLS?" if name else "")
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", f"TLS failed: {error.reason or error}")
    hint = "does the port speak TLS?" if name else "it may not trust our certificate: run `offhook doctor`"
    detail = f" ({error})" if str(error) else ""
    return f"the peer closed the connection during the TLS handshake{detail}: {hint}"


def _explain_verification(error: ssl.SSLCertVerificationError, subject: str, name: str) -> str:
    if error.verify_code == EXPIRED:
        return f"{subject} has expired: its owner must renew it"
    if error.verify_code == NOT_YET_VALID:
        return f"{subject} is not valid yet: compare the clocks of both machines"
    if error.verify_code in _UNKNOWN_ISSUER:
        return f"{subject} is by an authority we do not trust: add that authority to tls.ca_file"
    if error.verify_code in _MISMATCH:
        return f"the certificate is not for {name}: use the name that it is for"
    return f"{subject} does not hold: {error.verify_message}"


NOT_YET_VALID = 9
EXPIRED = 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_MISMATCH = frozenset({62, 64})  # a host name, an IP address
"""Verification codes of OpenSSL (x509_vfy.h)."""

_REASONS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS on this port",
    "HTTP_REQUEST": "the peer speaks HTTP, not TLS",
    "UNSUPPORTED_PROTOCOL": "the peer has no TLS 1.2 or later",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer and we have no version of TLS in common",
    "NO_SHARED_CIPHER": "the peer and we have no cipher in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer and we have no cipher in common, or it wants a client certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer gave no certificate, and tls.client_certificate requires one",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a client certificate: set tls.certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired: renew tls.certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "UNEXPECTED_EOF_WHILE_READING": "the peer closed the connection during the TLS handshake",
}
"""By ``SSLError.reason``."""
