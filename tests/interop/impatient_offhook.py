"""``offhook`` whose webhooks are tried again after a second; everything else is as it is.

The schedule of Standard Webhooks waits five minutes after the second attempt: nobody tests for so long.
"""

from __future__ import annotations

import os
from functools import partial
from unittest import mock

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from offhook.cli.main import main
from offhook.delivery.webhooks import Tempo, WebhookSender
from offhook.server import ground

TEMPO = Tempo(schedule_s=(1.0,) * 200, deadline_s=2.0)

if __name__ == "__main__":
    with mock.patch.object(ground, "WebhookSender", partial(WebhookSender, tempo=TEMPO)):
        main()
