"""The client's side of 401 and 407 (RFC 3261 §22): the request once more, with credentials.

A challenge is answered only where the application gave credentials for that very request or dialog: a peer that can
make us sign for anybody's challenge has our digest to guess on ("SIP digest leak").
"""

from __future__ import annotations

from dataclasses import dataclass

from offhook.sip.dialog import Dialog
from offhook.sip.digest import Challenge, DigestClient, parse_challenges, strongest
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.transaction_layer import ClientTransaction, ClientUser

ANSWER_TO = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
"""§22.2, §22.3: where the challenge stands, and where its answer does."""

CHALLENGES_A_REQUEST = 5
"""Proxies in a row, each with its realm, and a stale nonce or two; a peer that asks on for ever is given up."""


@dataclass(kw_only=True, slots=True, eq=False)
class Proof:
    """What one request of ours can prove, through all its attempts: credentials, and the challenges met so far."""

    client: DigestClient
    met: dict[tuple[str, str], Challenge]
    answered: int = 0

    @classmethod
    def of(cls, client: DigestClient | None) -> Proof | None:
        return None if client is None else cls(client=client, met={})


def answer_challenge(
    parts: Parts,
    asked: ClientTransaction | None,
    response: Response,
    *,
    proof: Proof | None,
    user: ClientUser,
    now: float,
    dialog: Dialog | None = None,
) -> ClientTransaction | None:
    """Send the request again with credentials; None where that cannot help, and the response stands.

    It cannot without credentials, for a realm they are not for, with an algorithm we do not have, or when the same
    challenge comes again without ``stale``: the password is wrong (RFC 7616 §3.5).
    """
    if response.status not in ANSWER_TO or proof is None or asked is None or not _note(proof, response):
        return None
    request = _again(parts, asked, proof, dialog)
    return parts.transactions.request(request, flow=asked.flow, next_hop=asked.next_hop, user=user, now=now)


def _note(proof: Proof, response: Response) -> bool:
    """Take the challenge of ``response`` among those met; False where it cannot be answered."""
    challenge_header, answer_header = ANSWER_TO[response.status]
    challenge = strongest(parse_challenges(response.headers.get_all(challenge_header)), proof.client.credentials.realm)
    if challenge is None or proof.answered >= CHALLENGES_A_REQUEST:
        return False
    key = (answer_header, challenge.realm)
    if key in proof.met and not challenge.stale:
        return False
    proof.met[key] = challenge
    proof.answered += 1
    return True


def _again(parts: Parts, asked: ClientTransaction, proof: Proof, dialog: Dialog | None) -> Request:
    """§22.2: the same request with a new branch and "the UAC MUST increment the CSeq header field value"."""
    old = asked.request
    number = old.cseq.number + 1
    if dialog is not None:
        number = dialog.local_cseq = max(number, dialog.local_cseq + 1)
    headers = old.headers.copy()
    for name in ("Via", "CSeq", "Authorization", "Proxy-Authorization"):
        headers.remove(name)
    headers.prepend("Via", parts.transactions.new_via(asked.flow))
    headers.add("CSeq", f"{number} {old.method}")
    for (name, _), challenge in proof.met.items():
        value = proof.client.authorization(challenge, method=old.method, uri=old.uri, cnonce=parts.new_token())
        headers.add(name, value)
    return Request(method=old.method, uri=old.uri, headers=headers, body=old.body)
