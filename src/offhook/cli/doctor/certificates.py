"""The certificate that callers by TLS get to see: the pair, its dates, its chain."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offhook.cli.doctor.finding import Finding, fault
from offhook.config import Settings
from offhook.model.errors import ConfigError
from offhook.server.network import tls_contexts
from offhook.signaling.tls import EXPIRED, NOT_YET_VALID

SOON_DAYS = 14
"""Let's Encrypt renews at thirty days: what is left after that is somebody's mistake."""

_DAY_S = 86_400


def examine_certificates(settings: Settings) -> Iterator[Finding]:
    files = settings.tls
    try:
        contexts = tls_contexts(settings)
    except ConfigError as error:
        yield fault("tls", f"{error.key} {error.problem}", why="offhook will not start with it", fix=error.fix)
        return
    if not files.certificate or contexts.server is None:
        if "tls" in settings.sip.transports:
            yield fault("tls", "there is no certificate", why="TLS cannot be listened for", fix="set tls.certificate")
        return
    certificate = Path(files.certificate).expanduser()
    dated, code = _dates(contexts.server, certificate)
    if dated is None:
        yield _invalid(certificate, code)
        return
    left_s = ssl.cert_time_to_seconds(dated["notAfter"]) - time.time()
    names = ", ".join(value for _, value in dated.get("subjectAltName", ())) or "no name"
    if left_s < SOON_DAYS * _DAY_S:
        yield fault(
            "tls",
            f"tls.certificate expires in {left_s / _DAY_S:.0f} days",
            why="from then on every TLS call is refused by its peer",
            fix="renew it, then `kill -HUP` the server: it reads the files again and drops no call",
        )
    else:
        yield Finding(area="tls", what=f"the certificate is for {names} and holds {left_s / _DAY_S:.0f} days more")
    if not dated.get("subjectAltName"):
        yield fault(
            "tls",
            "tls.certificate names no host (subjectAltName)",
            why="peers that verify names refuse it",
            fix="have it issued for the name that callers dial",
        )
    yield _chain(contexts.server, contexts.client)


def _invalid(certificate: Path, code: int) -> Finding:
    if code == EXPIRED:
        return fault(
            "tls",
            f"tls.certificate {certificate} has expired",
            why="every TLS call to us is refused by its peer",
            fix="renew it, then `kill -HUP` the server: it reads the files again and drops no call",
        )
    if code == NOT_YET_VALID:
        return fault(
            "tls",
            f"tls.certificate {certificate} is not valid yet",
            why="every TLS call to us is refused by its peer",
            fix="set this machine's clock, or wait until it is valid",
        )
    return fault(
        "tls",
        f"tls.certificate {certificate} does not verify (OpenSSL code {code})",
        why="every TLS call to us is refused by its peer",
        fix="have it issued anew",
    )


def _dates(server: ssl.SSLContext, certificate: Path) -> tuple[dict[str, Any] | None, int]:
    """(what the certificate says, 0), or (None, why it does not verify even when it is trusted itself)."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    return _handshake(server, client)


def _chain(server: ssl.SSLContext, client: ssl.SSLContext) -> Finding:
    """Whether somebody who trusts the system's authorities and ``tls.ca_file`` accepts it."""
    client.check_hostname = False
    dated, code = _handshake(server, client)
    if dated is not None:
        return Finding(area="tls", what="its chain leads to an authority that is trusted here")
    return fault(
        "tls",
        f"the chain of tls.certificate leads to no authority that is trusted here (OpenSSL code {code})",
        why="peers that verify certificates refuse our TLS",
        fix="put the intermediate certificates into tls.certificate after the first one; "
        "with an authority of your own name it in tls.ca_file, here and at the peers",
    )


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[dict[str, Any] | None, int]:
    """A TLS handshake in memory: (what the client saw, 0) or (None, verification code)."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    before, server.verify_mode = server.verify_mode, ssl.CERT_NONE
    calling = client.wrap_bio(to_client, to_server, server_hostname=None)
    called = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(10):
            done = 0
            for side in (calling, called):
                try:
                    side.do_handshake()
                    done += 1
                except ssl.SSLWantReadError:
                    pass
            if done == 2:
                seen: dict[str, Any] = dict(calling.getpeercert() or {})
                return seen, 0
    except ssl.SSLCertVerificationError as error:
        return None, error.verify_code
    except ssl.SSLError:
        return None, -1
    finally:
        server.verify_mode = before
    return None, -1
