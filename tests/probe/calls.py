"""Whole calls of a peer to a live server, in one line each."""

from __future__ import annotations

from tests.probe.drafts import Dialog, Draft, new_request
from tests.probe.wire import Message, Peer, StreamPeer

from offhook.sip.events import Address


def answered(peer: Peer | StreamPeer, target: Address, invite: Draft | None = None, *, user: str = "demo") -> Dialog:
    """INVITE, 200, ACK: a call that is up."""
    invite = invite or new_request(peer, target, user=user)
    peer.send(target, str(invite))
    answer = peer.final()
    assert answer.status == 200, answer
    dialog = Dialog(peer, invite, answer)
    peer.send(target, str(dialog.ack()))
    return dialog


def hung_up(peer: Peer | StreamPeer, target: Address, dialog: Dialog) -> Message:
    """BYE and its answer."""
    peer.send(target, str(dialog.next("BYE")))
    farewell = peer.final("BYE")
    assert farewell.status == 200, farewell
    return farewell


def whole_call(peer: Peer | StreamPeer, target: Address, *, user: str = "demo") -> None:
    """An ordinary call from INVITE to the answered BYE."""
    hung_up(peer, target, answered(peer, target, user=user))
