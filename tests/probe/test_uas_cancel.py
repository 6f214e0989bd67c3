"""CANCEL as the server obeys it (RFC 3261 §9.2)."""

from __future__ import annotations

from tests.probe.calls import answered, hung_up
from tests.probe.drafts import Dialog, Draft, new_request
from tests.probe.programs import Server
from tests.probe.wire import Message, Peer


def ringing(server: Server, peer: Peer) -> tuple[Draft, Message]:
    """A call that rings until it is cancelled, and its 180."""
    invite = new_request(peer, server.address, user="slow")
    peer.send(server.address, str(invite))
    while (message := peer.response("INVITE")).status != 180:
        assert message.status == 100
    return invite, message


def test_cancel_gets_200_and_the_invite_487(server: Server, peer: Peer) -> None:
    invite, rings = ringing(server, peer)
    peer.send(server.address, str(invite.companion("CANCEL")))
    responses = {message.method: message for message in (peer.receive(), peer.receive())}
    assert (responses["CANCEL"].status, responses["INVITE"].status) == (200, 487)
    # §9.2: "the To tag of the response to the CANCEL and the To tag in the response to the original request SHOULD be
    # the same"
    assert {message.to_tag for message in responses.values()} == {rings.to_tag}
    peer.send(server.address, str(invite.companion("ACK").with_(to=responses["INVITE"].get("to"))))
    assert peer.messages(for_s=0.7) == []


def test_a_copy_of_the_cancel_gets_the_same_200(server: Server, peer: Peer) -> None:
    invite, _ = ringing(server, peer)
    peer.send(server.address, str(invite.companion("CANCEL")))
    first = peer.final("CANCEL")
    refusal = peer.final()
    peer.send(server.address, str(invite.companion("CANCEL")))
    assert peer.final("CANCEL") == first
    peer.send(server.address, str(invite.companion("ACK").with_(to=refusal.get("to"))))


def test_cancel_of_an_unknown_invite_gets_481(server: Server, peer: Peer) -> None:
    peer.send(server.address, str(new_request(peer, server.address).companion("CANCEL")))
    assert peer.final("CANCEL").status == 481


def test_cancel_with_another_branch_does_not_reach_the_call(server: Server, peer: Peer) -> None:
    invite, _ = ringing(server, peer)
    stranger = new_request(peer, server.address)
    peer.send(server.address, str(invite.companion("CANCEL").with_(via=stranger.via)))
    assert peer.final("CANCEL").status == 481
    peer.send(server.address, str(invite.companion("CANCEL")))
    assert peer.final("CANCEL").status == 200
    refusal = peer.final()
    peer.send(server.address, str(invite.companion("ACK").with_(to=refusal.get("to"))))


def test_cancel_after_the_200_changes_nothing(server: Server, peer: Peer) -> None:
    """§9.2: "it has no effect on the processing of the original request"; the answer is 200 all the same."""
    dialog = answered(peer, server.address)
    peer.send(server.address, str(dialog.invite.companion("CANCEL")))
    assert peer.final("CANCEL").status == 200
    assert peer.messages(for_s=0.3) == []
    hung_up(peer, server.address, dialog)


def test_cancel_that_crosses_the_200_leaves_a_call_to_be_ended_with_bye(server: Server, peer: Peer) -> None:
    """Before the ACK: the 2xx stands."""
    invite = new_request(peer, server.address)
    peer.send(server.address, str(invite))
    answer = peer.final()
    assert answer.status == 200
    peer.send(server.address, str(invite.companion("CANCEL")))
    assert peer.final("CANCEL").status == 200
    dialog = Dialog(peer, invite, answer)
    peer.send(server.address, str(dialog.ack()))
    hung_up(peer, server.address, dialog)
