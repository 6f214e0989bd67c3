"""The client's side of 401 and 407 (RFC 3261 §22): the request once more, with credentials.

A challenge is answered only where the application gave credentials for that very request or dialog, and in a dialog
only to the hosts it was made with: a callee whose Contact leads our BYE to itself could else have our digest to guess
on ("SIP digest leak", ES2021-05).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from offhook.sip.dialog import Dialog
from offhook.sip.digest import Challenge, DigestClient, parse_challenges, strongest
from offhook.sip.events import Flow, Hop
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.transaction_layer import ClientTransaction, ClientUser

ANSWER_TO = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
"""§22.2, §22.3: where the challenge stands, and where its answer does."""

CHALLENGES_A_REQUEST = 5
"""Proxies in a row, each with its realm, and a stale nonce or two; a peer that asks on for ever is given up."""

_CREDENTIALS = ("Authorization", "Proxy-Authorization")


@dataclass(kw_only=True, slots=True, eq=False)
class Proof:
    """What one request of ours can prove, through all its attempts: credentials, and the challenges met so far.

    ``hosts`` may challenge it; None: whoever answers, for the application itself chose where it goes.
    """

    client: DigestClient
    hosts: Collection[str] | None
    met: dict[tuple[str, str], Challenge]
    answered: int = 0

    @classmethod
    def of(cls, client: DigestClient | None, hosts: Collection[str] | None = None) -> Proof | None:
        return None if client is None else cls(client=client, hosts=hosts, met={})

    def knows(self, host: str) -> bool:
        return self.hosts is None or host in self.hosts

    def lines(self, request: Request, new_token: Callable[[], str]) -> list[tuple[str, str]]:
        """The credential headers of ``request``, for every challenge met."""
        answered = []
        for (name, _), challenge in self.met.items():
            cnonce = new_token()
            value = self.client.authorization(challenge, method=request.method, uri=request.uri, cnonce=cnonce)
            answered.append((name, value))
        return answered


def answer_challenge(
    parts: Parts,
    asked: ClientTransaction | None,
    response: Response,
    flow: Flow,
    *,
    proof: Proof | None,
    user: ClientUser,
    now: float,
    dialog: Dialog | None = None,
) -> ClientTransaction | None:
    """Send the request again with credentials; None where that cannot help, and ``response`` stands.

    It cannot without credentials, for a realm they are not for, with an algorithm we do not have, or when the same
    challenge comes again without ``stale``: the password is wrong (RFC 7616 §3.3). ``flow``: how the response came.
    """
    if response.status not in ANSWER_TO or proof is None or asked is None:
        return None
    way = _way_to_prove(proof, asked, flow)
    if way is None or not _note(proof, response):
        return None
    request = once_more(parts, asked, proof=proof, dialog=dialog)
    return parts.transactions.request(request, flow=way[0], next_hop=way[1], user=user, now=now)


def proofs_in(request: Request) -> tuple[tuple[str, str], ...]:
    """The credential headers of a request."""
    return tuple((name, value) for name in _CREDENTIALS for value in request.headers.get_all(name))


def _way_to_prove(proof: Proof, asked: ClientTransaction, flow: Flow) -> tuple[Flow, Hop | None] | None:
    """Where the answer goes: the request's way, or back by ``flow`` where only that is known; None: neither is."""
    if proof.knows((asked.next_hop or asked.flow.remote).host):
        return asked.flow, asked.next_hop
    return (flow, None) if proof.knows(flow.remote.host) else None


def _note(proof: Proof, response: Response) -> bool:
    """Take the new challenges of ``response`` among those met; False: there is none that can be answered."""
    challenge_header, answer_header = ANSWER_TO[response.status]
    challenges = parse_challenges(response.headers.get_all(challenge_header))
    ours = [one for one in challenges if proof.client.credentials.realm in ("", one.realm)]
    new: dict[tuple[str, str], Challenge] = {}
    # §22.3: a proxy that forked gathers the challenges of its branches, one realm each.
    for realm in dict.fromkeys(one.realm for one in ours):
        challenge = strongest([one for one in ours if one.realm == realm])
        key = (answer_header, realm)
        if challenge is not None and (key not in proof.met or challenge.stale):
            new[key] = challenge
    if not new or proof.answered + len(new) > CHALLENGES_A_REQUEST:
        return False
    proof.met.update(new)
    proof.answered += len(new)
    return True


def once_more(
    parts: Parts,
    asked: ClientTransaction,
    *,
    proof: Proof | None,
    dialog: Dialog | None = None,
    instead: Iterable[tuple[str, str]] = (),
) -> Request:
    """§22.2: the same request with a new branch and "the UAC MUST increment the CSeq header field value".

    It proves what ``proof`` was asked for so far; the lines ``instead`` take the place of those of their names.
    """
    changed = tuple(instead)
    old = asked.request
    number = (old.cseq.number if dialog is None else dialog.local_cseq) + 1
    if dialog is not None:
        dialog.local_cseq = number
    headers = old.headers.copy()
    for name in ("Via", "CSeq", *_CREDENTIALS, *(name for name, _ in changed)):
        headers.remove(name)
    headers.prepend("Via", parts.transactions.new_via(asked.flow))
    for name, value in (("CSeq", f"{number} {old.method}"), *changed):
        headers.add(name, value)
    for name, value in () if proof is None else proof.lines(old, parts.new_token):
        headers.add(name, value)
    return Request(method=old.method, uri=old.uri, headers=headers, body=old.body)
