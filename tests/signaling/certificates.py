"""Certificates for tests: an authority, and files of what it issued."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme

from offhook.signaling.tls import ClientCertificate, TlsContexts, TlsSettings


class Authority:
    """A CA of its own, with its files in ``folder``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, expired: bool = False, into: str = "") -> tuple[Path, Path]:
        """Write certificate chain and key for ``names`` (DNS names or IP addresses); returns their paths."""
        until = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1) if expired else None
        leaf = self._ca.issue_cert(*names, not_after=until)
        stem = into or f"{self._name}-{names[0].replace(':', '_')}{'-expired' if expired else ''}"
        certificate, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        certificate.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return certificate, key

    def contexts(
        self,
        *names: str,
        expired: bool = False,
        trust: Authority | None = None,
        client_certificate: ClientCertificate = "none",
    ) -> TlsContexts:
        """For an endpoint that is ``names`` (none: no certificate) and trusts ``trust`` (this authority)."""
        certificate, key = self.issue(*names, expired=expired) if names else (None, None)
        return TlsContexts(
            TlsSettings(
                certificate=certificate,
                private_key=key,
                ca_file=(trust or self).file,
                client_certificate=client_certificate,
            )
        )
