"""The engine's processes, from outside: what they leave behind, when they die, what they load."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
import uvloop
from tests.bridge.local.caller import shipped

from offhook.bridge.local.engine import LocalEngine
from offhook.model.audio import PCMU_8K


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_works_on_either_loop_and_leaves_no_descriptor(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> str:
        engine = LocalEngine(recognisers=1)
        await engine.start()
        text = await engine.recognise(shipped("goodbye"), PCMU_8K)
        await engine.close()
        await asyncio.sleep(0)
        return text

    before = psutil.Process().num_fds()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(run()) == "goodbye"
    assert psutil.Process().num_fds() == before


SERVER = """
import asyncio
from offhook.bridge.local.engine import LocalEngine

async def main():
    engine = LocalEngine(recognisers=1)
    await engine.start()
    print(*engine.pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_workers_die_with_a_server_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in server.stdout.readline().split()]
        assert len(workers) == 2
        server.kill()
        server.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def test_espeak_is_loaded_in_the_voice_process_alone() -> None:
    code = "import sys, offhook.bridge.local.provider; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "offhook.bridge.local.engine" in loaded.split()
    assert not {"espeakng_loader", "pocketsphinx"} & set(loaded.split())
