"""What an operator sees: logs, metrics, spans, readiness, the loop's lag; and the machine's limits taken at start.

Privacy rule: what is said and which digits are pressed never enters a log record, a metric or a span; the live log
of ``serve`` shows them only when ``log.speech`` asks for it.
"""

from offhook.observability.logs import configure_logging
from offhook.observability.loop_lag import STALL_S, LoopLag
from offhook.observability.process import notify_systemd, raise_descriptor_limit, settle_memory, share_interpreter

__all__ = [
    "STALL_S",
    "LoopLag",
    "configure_logging",
    "notify_systemd",
    "raise_descriptor_limit",
    "settle_memory",
    "share_interpreter",
]
