"""A worker without speech: does what the text of a ``Synthesise`` says. Run by the tests of the pool."""

from __future__ import annotations

import os
import sys
import time

from offhook.bridge.local.messages import Answer, Recognised, Request, Synthesise
from offhook.bridge.local.worker import Task, serve


def load() -> Task:
    if "TOY_WORKER_BROKEN" in os.environ:
        sys.exit("broken on purpose")

    def task(request: Request) -> Answer:
        assert isinstance(request, Synthesise)
        match request.text:
            case "die":
                os._exit(3)
            case "hang":
                time.sleep(3600)
            case "print":
                print("a library talks", flush=True)
            case "fail":
                raise ValueError("on purpose")
        return Recognised(text=f"{os.getpid()} {request.text}")

    return task


if __name__ == "__main__":
    serve(load)
