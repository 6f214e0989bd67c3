"""A dialog (RFC 3261 §12): what two user agents remember of each other between requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import Flow, Hop
from offhook.sip.headers import Headers
from offhook.sip.message import Request, Response
from offhook.sip.routing import MAX_FORWARDS, Path, contact_uri, hop_to, path_to


class DialogState(Enum):
    EARLY = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


class DialogInput(Enum):
    SUCCESS = auto()  # a 2xx to the INVITE, sent or received
    FAILURE = auto()  # a 3xx-6xx to the INVITE, sent or received
    BYE = auto()  # sent or received


DIALOG: Mapping[tuple[DialogState, DialogInput], DialogState] = {  # §12.1, §12.3, §15
    (DialogState.EARLY, DialogInput.SUCCESS): DialogState.CONFIRMED,
    (DialogState.EARLY, DialogInput.FAILURE): DialogState.TERMINATED,
    (DialogState.EARLY, DialogInput.BYE): DialogState.TERMINATED,
    (DialogState.CONFIRMED, DialogInput.BYE): DialogState.TERMINATED,
}


@dataclass(kw_only=True, slots=True, eq=False)
class Dialog:
    """Both sides named: ``local`` and ``remote`` are the values of From or To, tags included.

    ``remote_tag`` is "" for a peer of RFC 2543 that gave none. ``remote_target`` and ``route_set`` are raw URIs
    and Route values. ``nat_source``: the peer stands behind an address translator and its Contact leads nowhere.
    """

    sip_call_id: str
    local: str
    remote: str
    local_tag: str
    remote_tag: str
    local_cseq: int
    remote_cseq: int | None
    remote_target: str
    route_set: tuple[str, ...]
    flow: Flow
    contact_user: str | None
    owns_call_id: bool
    nat_source: bool = False
    state: DialogState = DialogState.EARLY

    def advance(self, given: DialogInput) -> None:
        """Raises ``LocalProtocolError`` where the table has no row."""
        state = DIALOG.get((self.state, given))
        if state is None:
            raise LocalProtocolError(f"a dialog that is {self.state.name} takes no {given.name}")
        self.state = state

    @property
    def contact(self) -> str:
        """The value of our Contact."""
        return f"<{contact_uri(self.flow, self.contact_user)}>"

    @property
    def path(self) -> Path:
        return path_to(self.remote_target, self.route_set)

    def request(self, method: str, *, number: int | None = None) -> Request:
        """A request in this dialog (§12.2.1.1), without Via. ``number``: the INVITE's CSeq, for its ACK."""
        if number is None:
            self.local_cseq += 1
            number = self.local_cseq
        path = self.path
        headers = Headers([("Max-Forwards", str(MAX_FORWARDS))])
        for value in path.route:
            headers.add("Route", value)
        headers.add("From", self.local)
        headers.add("To", self.remote)
        headers.add("Call-ID", self.sip_call_id)
        headers.add("CSeq", f"{number} {method}")
        return Request(method=method, uri=path.request_uri, headers=headers)

    def way(self, live_connections: Iterable[int]) -> tuple[Flow, Hop | None]:
        """Where the next request of this dialog goes."""
        hop = hop_to(self.path.next_uri)
        if hop is None or self.nat_source:
            return self.flow, None
        if self.flow.connection in live_connections and hop.host == self.flow.remote.host:
            return self.flow, None  # RFC 3261 §18: a connection to that host is open; firewalls let no second one in
        return replace(self.flow, transport=hop.transport, connection=0), hop

    def in_order(self, request: Request) -> bool:
        """§12.2.2: whether a request's CSeq is not lower than the last one's; it is then noted as the last.

        But for a BYE's: what it ends is over, and to a NOTIFY of another usage that it overtook it means nothing
        (RFC 5057 §4.1). A PBX sends both at once, and where the NOTIFY is lost, its second copy comes after the BYE.
        """
        number = request.cseq.number
        if self.remote_cseq is not None and number < self.remote_cseq:
            return False
        if request.method != "BYE":
            self.remote_cseq = number
        return True

    def refresh_target(self, message: Request | Response, flow: Flow) -> None:
        """§12.2.1.2, §12.2.2: a re-INVITE or its 2xx moves the remote target; the route set stays."""
        if message.contact is not None:
            self.remote_target = message.contact.uri
        self.flow = flow


def dialog_of_server(request: Request, flow: Flow, local_tag: str) -> Dialog:
    """§12.1.1: the dialog of an INVITE we received, with ``local_tag`` for our To."""
    contact = request.contact
    return Dialog(
        sip_call_id=request.sip_call_id,
        local=f"{_raw(request, 'To')};tag={local_tag}",
        remote=_raw(request, "From"),
        local_tag=local_tag,
        remote_tag=request.from_.tag or "",
        local_cseq=0,
        remote_cseq=request.cseq.number,
        # A request without Contact is RFC 2543's: its From is all we have.
        remote_target=request.from_.uri if contact is None else contact.uri,
        route_set=tuple(request.headers.values("Record-Route")),
        flow=flow,
        contact_user=request.sip_uri.user,
        owns_call_id=False,
        nat_source=_behind_nat(request, flow),
    )


def dialog_of_client(request: Request, response: Response, flow: Flow, contact_user: str | None) -> Dialog:
    """§12.1.2: the dialog a response to our INVITE made."""
    contact = response.contact
    return Dialog(
        sip_call_id=request.sip_call_id,
        local=_raw(request, "From"),
        remote=_raw(response, "To"),
        local_tag=request.from_.tag or "",
        remote_tag=response.to.tag or "",
        local_cseq=request.cseq.number,
        remote_cseq=None,
        remote_target=request.uri if contact is None else contact.uri,
        route_set=tuple(reversed(response.headers.values("Record-Route"))),
        flow=flow,
        contact_user=contact_user,
        owns_call_id=True,
    )


def _raw(message: Request | Response, name: str) -> str:
    """The text of From or To, which the parser has seen: peers of RFC 2543 compare all of it."""
    return message.headers.get(name) or ""


def _behind_nat(request: Request, flow: Flow) -> bool:
    """Whether the sender believes in an address that is not the one it comes from.

    One Via, so nobody stands between; the Contact names the Via's host; the message came from another. Then what
    RFC 3581 does for responses must be done for requests too, or our BYE is lost.
    """
    if flow.transport == "UDP" and request.via_top.rport is None:
        return False
    hop = None if request.contact is None else hop_to(request.contact.uri)
    if hop is None or "Record-Route" in request.headers or len(request.headers.values("Via")) != 1:
        return False
    return hop.host == request.via_top.host != flow.remote.host
