"""Every endpoint of the native API."""

from __future__ import annotations

from offhook.api.endpoints import Endpoint
from offhook.api.native import (
    account,
    call_commands,
    calls,
    keys,
    new_calls,
    resources,
    service,
    status,
    traces,
    trunk_states,
    webhooks,
)

_OTHERS: tuple[Endpoint, ...] = (
    *service.ENDPOINTS,
    *status.ENDPOINTS,
    *resources.ENDPOINTS,
    *trunk_states.ENDPOINTS,
    *webhooks.ENDPOINTS,
    *new_calls.ENDPOINTS,
    *calls.ENDPOINTS,
    *call_commands.ENDPOINTS,
    *traces.ENDPOINTS,
    *keys.ENDPOINTS,
    *account.ENDPOINTS,
)

NATIVE: tuple[Endpoint, ...] = (*_OTHERS, service.document_endpoint(_OTHERS))
