"""The harness against itself: the clients call each other, so that a failure in another file is offhook's."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from tests.interop.baresip import Baresip
from tests.interop.linphone import Linphone
from tests.interop.network import impaired_network, socket_in
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import (
    RATE_HZ,
    assert_heard_in_full,
    find,
    flite_wav,
    read_wav,
    silence,
    tone,
    tone_db,
    trimmed,
    write_wav,
)
from tests.interop.trunks import python_phone

Sipp = Callable[..., Awaitable[SippRun]]
BaresipStarter = Callable[..., Awaitable[Baresip]]
LinphoneStarter = Callable[..., Awaitable[Linphone]]
Phones = Callable[..., RtpPhone]
CALLER_HZ, TARGET_HZ = 900, 1500
transports = pytest.mark.parametrize("transport", ["udp", "tcp"])


@pytest.fixture
async def question(tmp_path: Path) -> Path:
    """A spoken sentence, with a second before and ten after it."""
    return await flite_wav(tmp_path / "q.wav", "slt", "what time is it", before_ms=1000, after_ms=10_000)


# ── comparison ───────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_heard_in_full_is_told_from_what_is_cut(question: Path) -> None:
    spoken = trimmed(read_wav(question))
    noise = np.random.default_rng(1).normal(0, 20, len(spoken) + 4000)
    heard = noise.copy()
    heard[4000:] += 0.7 * spoken
    assert assert_heard_in_full(spoken, heard) == pytest.approx(500, abs=1)
    for lost_ms in (60, 100):
        cut = noise.copy()
        cut[4000:] += 0.7 * spoken
        cut[: 4000 + 8 * lost_ms] = 0
        with pytest.raises(AssertionError, match="the beginning was not heard"):
            assert_heard_in_full(spoken, cut)
    shortened = np.concatenate([heard[:6000], heard[6400:]])  # 50 ms out of the middle
    with pytest.raises(AssertionError, match="ms heard"):
        assert_heard_in_full(spoken, shortened)


def test_another_sentence_is_not_found() -> None:
    generator = np.random.default_rng(2)
    assert find(generator.normal(0, 1000, 1600), generator.normal(0, 1000, 80_000)).similarity < 0.3


# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────


@transports
@pytest.mark.parametrize(
    ("caller", "callee"), [("uac", "uas"), ("uac_waits_for_bye", "uas_bye"), ("uac_cancel", "uas_never_answers")]
)
async def test_sipp_calls_sipp(sipp: Sipp, transport: str, caller: str, callee: str) -> None:
    serving = await sipp(callee, transport=transport, stay_ms=300)
    calling = await sipp(caller, to=(serving.host, serving.port), transport=transport, stay_ms=300)
    result = await calling.result()
    result.assert_all_went_well()
    (await serving.result()).assert_all_went_well()
    assert abs(result.first("INVITE", sent=True).at - time.time()) < 60
    assert result.retransmissions == 0


async def test_sipp_tells_of_a_call_that_fails(sipp: Sipp) -> None:
    serving = await sipp("uas_never_answers")
    calling = await sipp("uac", to=(serving.host, serving.port), timeout_s=2)
    assert (await calling.result()).exit_code != 0


@transports
async def test_baresip_speaks_hears_dials_and_is_hung_up(
    sipp: Sipp,
    baresip: Callable[..., Awaitable[Baresip]],
    rtp_phone: Callable[..., RtpPhone],
    question: Path,
    transport: str,
) -> None:
    media = rtp_phone()
    serving = await sipp("uas_bye", transport=transport, audio_port=media.port, stay_ms=6000)
    client = await baresip(speaks=question, transport=transport)
    await client.dial(f"sip:demo@{serving.host}:{serving.port};transport={transport}")
    await client.event("CALL_RINGING")
    await client.event("CALL_ESTABLISHED")
    await media.say(read_wav(question)[:32_000])
    await client.send_digits("5")
    await media.hears_ms(5000)
    await client.event("CALL_CLOSED")
    (await serving.result()).assert_all_went_well()
    assert_heard_in_full(read_wav(question), media.heard())
    assert_heard_in_full(read_wav(question), client.heard())
    assert media.digits() == "5"


@transports
async def test_linphone_speaks_hears_dials_and_hangs_up(
    sipp: Sipp,
    linphone: Callable[..., Awaitable[Linphone]],
    rtp_phone: Callable[..., RtpPhone],
    question: Path,
    transport: str,
) -> None:
    media = rtp_phone()
    serving = await sipp("uas", transport=transport, audio_port=media.port)
    client = await linphone(speaks=question, transport=transport)
    await client.dial(f"sip:demo@{serving.host}:{serving.port};transport={transport}")
    await client.ringing()
    await client.established()
    await media.say(read_wav(question)[:32_000])
    await client.send_digits("5")
    await media.hears_ms(5000)
    await client.hang_up()
    await client.closed()
    (await serving.result()).assert_all_went_well()
    assert_heard_in_full(read_wav(question), media.heard(), drift_ms=40)
    assert_heard_in_full(read_wav(question), client.heard(), drift_ms=60)
    assert media.digits() == "5"


@transports
async def test_baresip_answers_linphone(
    baresip: BaresipStarter, linphone: LinphoneStarter, question: Path, transport: str
) -> None:
    callee = await baresip(speaks=question, transport=transport)
    caller = await linphone(speaks=question, transport=transport)
    await caller.dial(callee.uri)
    await callee.event("CALL_ESTABLISHED")
    await caller.established()
    await callee.hang_up()
    await caller.closed()


@pytest.mark.parametrize("peer", ["baresip", "linphone", "baresip-python"])
async def test_a_phone_calls_whom_it_is_referred_to(
    *, sipp: Sipp, baresip: BaresipStarter, linphone: LinphoneStarter, rtp_phone: Phones, tmp_path: Path, peer: str
) -> None:
    """SIPp refers it, and hangs up when it has told that the target answered: the phones themselves do not."""
    target, caller_wav = rtp_phone(), write_wav(tmp_path / "caller.wav", tone(CALLER_HZ, 30_000))
    target.begin_to_say(tone(TARGET_HZ, 20_000))
    answering = await sipp("uas_bye", audio_port=target.port, stay_ms=1500)
    to = f"sip:there@{answering.host}:{answering.port}"
    referring = await sipp("uas_refers", stay_ms=1200, keys={"to": to})
    uri = f"sip:here@{referring.host}:{referring.port}"
    if peer == "baresip":
        phone: Baresip = await baresip(speaks=caller_wav)
        await phone.dial(uri)
        await phone.event("CALL_CLOSED", 15, number=2)
        heard = phone.heard(2)
    elif peer == "linphone":
        console: Linphone = await linphone(speaks=caller_wav)
        await console.dial(uri)
        await console.established()
        await console.record("there.wav")
        await console.closed(15, number=2)
        heard = console.heard("there.wav")
    else:
        wav = tmp_path / "heard.wav"
        await python_phone(tmp_path, domain=uri[9:], dial=uri, plan="be_transferred", tone_hz=CALLER_HZ, heard=str(wav))
        heard = read_wav(wav)
    (await referring.result()).assert_all_went_well()
    (await answering.result()).assert_all_went_well()
    assert tone_db(target.heard()[-RATE_HZ:], CALLER_HZ) > -25
    assert tone_db(heard[-RATE_HZ:], TARGET_HZ) > -25


# ── network ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_impaired_network_delays_and_loses() -> None:
    loop = asyncio.get_running_loop()
    async with impaired_network(delay_ms=40, loss_percent=10) as network:
        with (
            socket_in(network.client, socket.SOCK_DGRAM) as client,
            socket_in(network.server, socket.SOCK_DGRAM) as server,
        ):
            server.bind((network.server_host, 7000))
            server.setblocking(False)
            client.connect((network.server_host, 7000))
            for number in range(200):
                client.send(b"%d" % number)
                await asyncio.sleep(0.001)
            received = 0
            while True:
                try:
                    await asyncio.wait_for(loop.sock_recv(server, 100), 0.3)
                except TimeoutError:
                    break
                received += 1
            assert 160 <= received <= 195
            started = loop.time()
            for _ in range(20):  # one of them gets through
                client.send(b"echo")
            await asyncio.wait_for(loop.sock_recv(server, 100), 1)
            assert 0.035 <= loop.time() - started < 0.15
        namespaces = (network.client, network.server)
    left = await asyncio.create_subprocess_exec("ip", "netns", "list", stdout=asyncio.subprocess.PIPE)
    listed, _ = await left.communicate()
    assert not any(name.encode() in listed for name in namespaces)


async def test_the_rtp_phone_speaks_and_dials_to_its_like(rtp_phone: Callable[..., RtpPhone], tmp_path: Path) -> None:
    one, other = rtp_phone(), rtp_phone()
    other.remote = ("127.0.0.1", one.port)
    rising = np.sin(2 * np.pi * np.linspace(200, 1200, 6400).cumsum() / RATE_HZ) * 8000
    beep = np.concatenate([silence(200), rising, silence(200)])
    await other.say(read_wav(write_wav(tmp_path / "beep.wav", beep)))
    await other.dial("12#")
    await one.hears_ms(1000)
    assert one.digits() == "12#"
    assert_heard_in_full(beep, one.heard(), drift_ms=1)
