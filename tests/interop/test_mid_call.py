"""What a peer does to a running call by re-INVITE: hold in four forms, codec, address, no offer, an offer too early."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from tests.interop.cells import Cell
from tests.interop.offhook_server import OffhookServer, Record, described_directions, events, scripted
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import channel, tone, tone_db
from tests.interop.trunks import Start, version

from offhook.model.audio import Encoding

AGENT_HZ, LATER_HZ, CALLER_HZ = 500, 700, 900
HEARD_DB, UNHEARD_DB = -25, -60
STAY_MS = 900
SETTLED_S = 0.2
"""After each change: packets that were under way, a jitter buffer, our tick."""

AGENT = scripted("200", steps=[{"on": "ready", "do": [{"do": "speak", "tone_hz": AGENT_HZ, "ms": 12_000}]}])
AGENT["record"] = True

SENTENCE_MS = 1700
TWO_SENTENCES = scripted(
    "200",
    steps=[
        {
            "on": "ready",
            "do": [
                {"do": "speak", "tone_hz": AGENT_HZ, "ms": SENTENCE_MS},
                {"do": "speak", "tone_hz": LATER_HZ, "ms": 6000},
            ],
        }
    ],
)
"""The first one takes longer than it is until the caller holds."""

Phones = Callable[..., RtpPhone]
Reinvites = Callable[..., Awaitable[SippRun]]

# What SIPp says when it holds, by form, and the direction of our answer (RFC 3264 §6.1, §8.4).
HOLDS = {
    "a=sendonly": ({"attribute": "sendonly"}, "recvonly"),
    "a=inactive": ({"attribute": "inactive"}, "inactive"),
    "c=0.0.0.0": ({"attribute": "sendrecv", "address": "0.0.0.0"}, "recvonly"),
}


def changed(prefix: str, phone: RtpPhone, host: str = "127.0.0.1", **different: str) -> dict[str, str]:
    """Keys of the scenario ``uac_reinvites``: the session as it is, apart from what is ``different``."""
    usual = {"address": host, "port": str(phone.port), "formats": "0 8 101", "attribute": "sendrecv"}
    return {f"{prefix}_{name}": value for name, value in (usual | different).items()}


@pytest.fixture
def reinvites(sipp: Start) -> Reinvites:
    """``await reinvites(server, phone, first_formats, keys)``: SIPp, that changes its session twice; ``-d`` apart."""

    async def start(server: OffhookServer, phone: RtpPhone, first_formats: str, keys: Mapping[str, str]) -> SippRun:
        run: SippRun = await sipp(
            "uac_reinvites",
            to=(server.host, server.port),
            host=server.host,
            user="200",
            audio_port=phone.port,
            stay_ms=STAY_MS,
            keys={"first_formats": first_formats, **keys},
        )
        return run

    return start


def moments(run: SippRun) -> list[float]:
    """When each ACK left, in monotonic seconds."""
    since_start = time.monotonic() - time.time()
    return [one.at + since_start for one in run.messages() if one.sent and one.start_line.startswith("ACK")]


def stages(run: SippRun) -> list[tuple[float, float]]:
    """The time before, while changed, and after, without their edges."""
    starts = moments(run)
    ends = [*starts[1:], starts[-1] + STAY_MS / 1000]
    return [(start + SETTLED_S, end - SETTLED_S / 2) for start, end in zip(starts, ends, strict=True)]


def levels(phone: RtpPhone, run: SippRun, hz: float = AGENT_HZ) -> list[float]:
    """How loud the phone heard that tone in each stage, in dB."""
    return [tone_db(phone.heard_between(start, end), hz) for start, end in stages(run)]


async def caller_levels(server: OffhookServer, record: Record, run: SippRun, where: Path) -> list[float]:
    """How loud we heard the caller in each stage."""
    heard = await channel(server.recordings.parent / record["recording"], 1, where / "caller.wav")
    begin = moments(run)[0]
    windows = [(round(8000 * (start - begin)), round(8000 * (end - begin))) for start, end in stages(run)]
    return [tone_db(heard[start:end], CALLER_HZ) for start, end in windows]


# ── hold ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("form", HOLDS)
async def test_sipp_holds_in_each_form_and_resumes(
    *, offhook: Start, reinvites: Reinvites, rtp_phone: Phones, cell: Cell, form: str, host: str
) -> None:
    cell.fills("SIPp", "holds and resumes", *(["IPv6"] if ":" in host else []))
    cell.note("UDP", version(host))
    said, answer = HOLDS[form]
    if ":" in host and "address" in said:
        said = said | {"address": "::"}  # RFC 6157 §5
    server: OffhookServer = await offhook(agents=[AGENT], host=host)
    phone = rtp_phone(host)
    phone.begin_to_say(tone(CALLER_HZ, 10_000))
    keys = changed("changed", phone, host, **said) | changed("restored", phone, host)
    run = await reinvites(server, phone, "0 8 101", keys)
    (await run.result()).assert_all_went_well()
    before, held, after = levels(phone, run)
    assert before > HEARD_DB
    assert held < UNHEARD_DB
    assert after > HEARD_DB
    (start, end) = stages(run)[1]
    assert not [at for at in phone.arrivals if start <= at < end]  # not even silence
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    assert described_directions(await server.trace(record)) == ["sendrecv", answer, "sendrecv"]


async def test_the_agent_goes_on_where_it_was_when_it_was_held(
    offhook: Start, reinvites: Reinvites, rtp_phone: Phones
) -> None:
    server: OffhookServer = await offhook(agents=[TWO_SENTENCES])
    phone = rtp_phone()
    keys = changed("changed", phone, attribute="inactive") | changed("restored", phone)
    run = await reinvites(server, phone, "0 8 101", keys)
    (await run.result()).assert_all_went_well()
    _, _, (resumed, _) = stages(run)
    first, later = (tone_db(phone.heard_between(resumed, resumed + 0.3), hz) for hz in (AGENT_HZ, LATER_HZ))
    assert first > HEARD_DB > later
    record = await server.ended_call()
    assert [event["held"] for event in events(record, "HoldChanged")] == [True, False]


async def test_a_peer_that_only_listens_hears_the_agent(
    offhook: Start, reinvites: Reinvites, rtp_phone: Phones
) -> None:
    """a=recvonly: it takes our media and sends none (RFC 3264 §5.1); §6.1 makes our answer sendonly."""
    server: OffhookServer = await offhook(agents=[AGENT])
    phone = rtp_phone()
    keys = changed("changed", phone, attribute="recvonly") | changed("restored", phone)
    run = await reinvites(server, phone, "0 8 101", keys)
    (await run.result()).assert_all_went_well()
    assert min(levels(phone, run)) > HEARD_DB
    record = await server.ended_call()
    assert described_directions(await server.trace(record)) == ["sendrecv", "sendonly", "sendrecv"]


# ── codec and address ────────────────────────────────────────────────────────────────────────────────────


async def test_sipp_changes_the_codec_and_back(
    *, offhook: Start, reinvites: Reinvites, rtp_phone: Phones, cell: Cell, tmp_path: Path
) -> None:
    cell.fills("SIPp", "changes codec and address")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[AGENT])
    phone = rtp_phone()
    phone.begin_to_say(tone(CALLER_HZ, 10_000))
    keys = changed("changed", phone, formats="8 101") | changed("restored", phone, formats="0 101")
    run = await reinvites(server, phone, "0 101", keys)
    for encoding in (Encoding.PCMA, Encoding.PCMU):
        await ack(run, 2 if encoding is Encoding.PCMA else 3)
        phone.falls_silent()
        phone.encoding = encoding
        phone.begin_to_say(tone(CALLER_HZ, 10_000))
    (await run.result()).assert_all_went_well()
    record = await server.ended_call()
    assert min(levels(phone, run)) > HEARD_DB
    assert min(await caller_levels(server, record, run, tmp_path)) > HEARD_DB
    assert [types_between(phone, *stage) for stage in stages(run)] == [{0}, {8}, {0}]


async def test_sipp_moves_to_another_address_and_back(
    *, offhook: Start, reinvites: Reinvites, rtp_phone: Phones, cell: Cell, tmp_path: Path
) -> None:
    cell.fills("SIPp", "changes codec and address")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[AGENT])
    here, there = rtp_phone(), rtp_phone("127.0.0.2")
    for phone in (here, there):
        phone.begin_to_say(tone(CALLER_HZ, 10_000))
    keys = changed("changed", there, "127.0.0.2") | changed("restored", here)
    run = await reinvites(server, here, "0 101", keys)
    await ack(run, 2)
    here.remote, there.remote, ours = None, here.remote, here.remote
    await ack(run, 3)
    there.remote, here.remote = None, ours
    (await run.result()).assert_all_went_well()
    record = await server.ended_call()
    assert [level > HEARD_DB for level in levels(here, run)] == [True, False, True]
    assert [level > HEARD_DB for level in levels(there, run)] == [False, True, False]
    assert min(await caller_levels(server, record, run, tmp_path)) > HEARD_DB


async def ack(run: SippRun, count: int) -> None:
    """Wait until that many INVITEs were acknowledged."""
    await run.message("ACK", sent=True, number=count)


def types_between(phone: RtpPhone, start: float, end: float) -> set[int]:
    came = zip(phone.arrivals, phone.payload_types, strict=True)
    return {payload_type for at, payload_type in came if start <= at < end}


# ── no offer, and one too early ──────────────────────────────────────────────────────────────────────────


async def test_a_reinvite_without_an_offer_gets_ours_and_its_ack_settles_the_codec(
    *, offhook: Start, sipp: Start, rtp_phone: Phones, cell: Cell
) -> None:
    cell.fills("SIPp", "late offer")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[AGENT])
    phone = rtp_phone()
    run: SippRun = await sipp(
        "uac_late_reinvite", to=(server.host, server.port), user="200", audio_port=phone.port, stay_ms=STAY_MS
    )
    (await run.result()).assert_all_went_well()
    assert min(levels(phone, run)) > HEARD_DB
    assert [types_between(phone, *stage) for stage in stages(run)] == [{0}, {8}]
    assert (await server.ended_call())["cause"] == "hangup"


async def test_an_offer_that_meets_ours_is_refused_with_491_and_taken_afterwards(
    *, offhook: Start, sipp: Start, rtp_phone: Phones, cell: Cell
) -> None:
    cell.fills("SIPp", "glare")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[AGENT])
    phone = rtp_phone()
    run: SippRun = await sipp(
        "uac_glare", to=(server.host, server.port), user="200", audio_port=phone.port, stay_ms=STAY_MS
    )
    result = await run.result()
    result.assert_all_went_well()
    result.first("SIP/2.0 491", sent=False)
    record = await server.ended_call()
    assert record["cause"] == "hangup"
    before, after = stages(run)[-2:]  # the first ACK is the 491's
    assert tone_db(phone.heard_between(*before), AGENT_HZ) > HEARD_DB
    assert types_between(phone, *before) == {0}
    assert types_between(phone, *after) == {8}
