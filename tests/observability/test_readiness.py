"""Readiness, part by part."""

from __future__ import annotations

import pytest

from offhook.observability.readiness import (
    DISK_FULL_BYTES,
    DISK_LOW_BYTES,
    Part,
    Readiness,
    ReadinessFacts,
    Status,
    readiness,
)

LISTENS = ("192.0.2.1:5060/UDP",)


def part(judged: Readiness, name: str) -> Part:
    return next(one for one in judged.parts if one.name == name)


def test_a_server_that_is_well_is_ready_in_every_part() -> None:
    judged = readiness(ReadinessFacts(sip=LISTENS, registrations={"pbx": "online"}, lags_s=(0.001,) * 100))
    assert judged.ready
    assert {one.name: one.status for one in judged.parts} == dict.fromkeys(
        ("sip", "trunks", "store", "loop", "draining", "disk"), "ok"
    )


@pytest.mark.parametrize(
    ("facts", "name", "status", "says"),
    [
        (ReadinessFacts(), "sip", "failed", "no SIP socket"),
        (
            ReadinessFacts(sip=LISTENS, registrations={"a": "online", "b": "failed", "c": "registering"}),
            "trunks",
            "degraded",
            "1 of 3",
        ),
        (ReadinessFacts(sip=LISTENS, registrations={"a": "failed"}), "trunks", "degraded", "0 of 1"),
        (ReadinessFacts(sip=LISTENS, registrations={"a": "failed"}, other_ways=False), "trunks", "failed", "0 of 1"),
        (ReadinessFacts(sip=LISTENS, registrations={"a": "online"}, other_ways=False), "trunks", "ok", "1 of 1"),
        (ReadinessFacts(sip=LISTENS, store_problem="no route"), "store", "degraded", "spool"),
        (ReadinessFacts(sip=LISTENS, spooled=7), "store", "degraded", "7 events"),
        (ReadinessFacts(sip=LISTENS, journal_full=True), "store", "failed", "no more are taken"),
        (ReadinessFacts(sip=LISTENS, lags_s=(0.06, *[0.0] * 99)), "loop", "degraded", "60 ms"),
        (ReadinessFacts(sip=LISTENS, lags_s=(0.2,)), "loop", "degraded", "200 ms"),
        (ReadinessFacts(sip=LISTENS, lags_s=(*[0.06] * 10, *[0.0] * 90)), "loop", "failed", "too slow"),
        (ReadinessFacts(sip=LISTENS, draining=True), "draining", "failed", "takes no new ones"),
        (ReadinessFacts(sip=LISTENS, disk_free_bytes=DISK_FULL_BYTES - 1), "disk", "failed", "99 MiB"),
        (ReadinessFacts(sip=LISTENS, disk_free_bytes=DISK_LOW_BYTES - 1), "disk", "degraded", "1023 MiB"),
        (ReadinessFacts(sip=LISTENS, disk_free_bytes=DISK_LOW_BYTES), "disk", "ok", "1024 MiB"),
    ],
)
def test_only_what_has_failed_makes_it_unready(facts: ReadinessFacts, name: str, status: Status, says: str) -> None:
    judged = readiness(facts)
    assert part(judged, name).status == status
    assert says in part(judged, name).sentence
    assert judged.ready == (status != "failed")


def test_names_and_reasons_are_told_beside_the_sentence() -> None:
    facts = ReadinessFacts(sip=LISTENS, registrations={"b": "failed", "a": "online"}, store_problem="10.0.0.7 refused")
    judged = readiness(facts)
    assert part(judged, "sip").about == LISTENS
    assert part(judged, "trunks").about == ("b: failed",)
    assert part(judged, "store").about == ("10.0.0.7 refused",)
    assert not any("10.0.0.7" in one.sentence or "192.0.2.1" in one.sentence for one in judged.parts)
