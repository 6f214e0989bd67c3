"""``offhook trace`` on a data folder: whose messages are shown, and what is said when there are none."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.cli.data_folders import database_in
from tests.signaling.wire import request
from tests.store.databases import write
from tests.store.stories import kept

from offhook.cli.trace import trace
from offhook.model.call_events import CallArrived, CallEnded, CallEvent, CallFact, CallRefused, WayTaken
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow
from offhook.store.calls import delete_call
from offhook.store.traces import TraceStore

FLOW = Flow(transport="UDP", local=Address("10.0.0.1", 5060), remote=Address("10.0.0.2", 5070))
REFUSED = CallRefused(status=488, rule="RFC 3264 offer/answer", evidence="m=audio 4000 RTP/SAVP 0", fix="offer RTP/AVP")
ENDED = CallEnded(by="system", phase="arrived", cause="refused", sip_code=488)


def arrived(sip_call_id: str) -> CallArrived:
    return CallArrived(
        direction="inbound", from_uri="a", to_uri="b", sip_call_id=sip_call_id, transport="UDP", remote_address="r"
    )


def happened(folder: Path, call_id: str, *facts: CallFact) -> None:
    """A call of these facts, and one message under each Call-ID they name."""
    traces = TraceStore(folder)
    events = [
        CallEvent(call_id=call_id, leg_id="", seq=seq, at=100.0 + seq, fact=fact) for seq, fact in enumerate(facts, 1)
    ]
    with database_in(folder) as database:
        kept(database, events)
    for event in events:
        traces.note(event)
        if isinstance(event.fact, CallArrived | WayTaken) and event.fact.sip_call_id:
            call_id = event.fact.sip_call_id.encode("utf-8", "surrogateescape").decode("latin-1")
            data = request("INVITE", call_id=call_id).decode().encode("latin-1")
            traces.record(TraceRecord(at=event.at, direction="sent", flow=FLOW, data=data))
    traces.close()


def shown(folder: Path, *arguments: str) -> str:
    """What it prints; raises what it would exit with."""
    return CliRunner().invoke(trace, [*arguments, "--data", str(folder)], standalone_mode=False).output


def refused(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(trace, [*arguments, "--data", str(folder)], standalone_mode=False)
    assert isinstance(result.exception, click.ClickException)
    return result.exception.format_message()


@pytest.mark.parametrize("call_id", ["4f2a-whole", "4f2a", "sip@caller"])
def test_a_refusal_is_explained_among_the_messages(tmp_path: Path, call_id: str) -> None:
    happened(tmp_path, "4f2a-whole", arrived("sip@caller"), REFUSED, ENDED)
    text = shown(tmp_path, call_id)
    assert " INVITE " in text.splitlines()[3]
    assert "call.refused: status 488, rule RFC 3264 offer/answer, evidence m=audio 4000 RTP/SAVP 0, fix offer" in text
    assert "call.ended: by system, phase arrived, cause refused, sip_code 488" in text


@pytest.mark.parametrize("call_id", ["9b1c", "second"])
def test_every_way_of_an_outbound_call_is_shown(tmp_path: Path, call_id: str) -> None:
    first, second = WayTaken(sip_call_id="first", server="a"), WayTaken(sip_call_id="second", server="b", problem="503")
    happened(tmp_path, "9b1c", arrived(""), first, second)
    text = shown(tmp_path, call_id)
    assert [text.count(f"Call-ID: {one}\n") for one in ("first", "second")] == [1, 1]
    assert "call.way_taken: server b, problem 503" in text


def test_the_messages_are_shown_without_a_record_too(tmp_path: Path) -> None:
    happened(tmp_path, "call", arrived("lost"))
    with database_in(tmp_path) as database:
        write(database, delete_call, "default", "call")
    assert "Call-ID: lost\n" in shown(tmp_path, "lost")


@pytest.mark.parametrize("sip_call_id", ["..", "*", "[a]", 'a"b\\c', "grün", "\udcff"])
def test_a_call_id_of_any_letters_is_found(tmp_path: Path, sip_call_id: str) -> None:
    happened(tmp_path, "call", arrived(sip_call_id), ENDED)
    for call_id in (sip_call_id, "call"):
        assert "call.ended" in shown(tmp_path, call_id)


def test_an_id_of_several_calls_is_refused_with_theirs(tmp_path: Path) -> None:
    for call_id in ("aa1", "aa2"):
        happened(tmp_path, call_id, arrived(call_id))
    assert "2 calls begin with 'aa': aa1, aa2 …; give more of the id" in refused(tmp_path, "aa")


def test_an_unknown_id_is_refused_with_the_fix(tmp_path: Path) -> None:
    happened(tmp_path, "call", arrived("x"))
    said = refused(tmp_path, "4711")
    assert "no SIP messages are kept of a call '4711'" in said
    assert "offhook calls list" in said
    assert "sip.trace" not in said
    config = tmp_path / "config.json"
    config.write_text('{"sip": {"trace": false}}')
    assert "sip.trace is false in config.json: set it to true" in refused(tmp_path, "4711", "--config", str(config))


def test_a_pcap_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    happened(tmp_path, "call", arrived("x"))
    assert "cannot be written (No such file" in refused(tmp_path, "call", "--pcap", str(tmp_path / "no" / "x.pcap"))
    written = tmp_path / "x.pcap"
    assert shown(tmp_path, "call", "--pcap", str(written)) == f"1 messages written to {written}\n"
    assert written.read_bytes().endswith(b"\r\n\r\n")
