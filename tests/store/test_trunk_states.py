"""The states of trunks, for other processes to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offhook.model.trunks import TrunkChanged
from offhook.store.trunk_states import FILE, TrunkReport, TrunkStates, read_trunk_states

ONLINE = TrunkChanged(trunk_id="pbx", phase="online", at=1.0, server="192.0.2.1:5060/UDP")
FAILED = TrunkChanged(trunk_id="pbx", phase="failed", at=2.0, sip_code=403, reason="Forbidden", fix="ask")


async def test_the_latest_state_of_each_is_read_by_others(tmp_path: Path) -> None:
    states = TrunkStates(tmp_path)
    states.start()
    assert read_trunk_states(tmp_path) == TrunkReport(pid=os.getpid(), trunks=())
    for state in (ONLINE, FAILED):
        states.put(state)
    await states.stop()
    assert read_trunk_states(tmp_path) == TrunkReport(pid=os.getpid(), trunks=(FAILED,))


async def test_a_removed_trunk_is_shown_no_more(tmp_path: Path) -> None:
    states = TrunkStates(tmp_path)
    states.start()
    states.put(ONLINE)
    states.drop("pbx")
    states.drop("unheard of")
    await states.stop()
    assert read_trunk_states(tmp_path) == TrunkReport(pid=os.getpid(), trunks=())


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"pid": "x"}'])
def test_what_is_missing_or_spoilt_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    assert read_trunk_states(tmp_path) is None


async def test_a_folder_that_is_gone_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    states = TrunkStates(tmp_path / "gone")
    states.start()
    states.put(ONLINE)
    await states.stop()
    assert len(caplog.records) == 1
