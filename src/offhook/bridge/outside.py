"""What a provider is made with: how its vendors are reached, and by what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from offhook.bridge.options import ProviderAccess
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.audio import AudioFormat

_NO_ACCESS = ProviderAccess()


class Spoken(Protocol):
    """``word_ms``: where each blank-separated word of the text begins in ``audio``."""

    @property
    def audio(self) -> bytes: ...

    @property
    def word_ms(self) -> tuple[int, ...]: ...


LocalVoice = Callable[[str, AudioFormat], Awaitable[Spoken]]
"""Says a text without any vendor. Raises ``BridgeError``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """``accesses``: by the vendor's name, as the configuration and the environment have them.

    ``local_voice``: None where there is none. ``guarded``: by which tenants' URLs are reached; None where nobody
    is a tenant.
    """

    http: ProviderHttp
    guarded: ProviderHttp | None = None
    accesses: Mapping[str, ProviderAccess] = field(default_factory=dict, repr=False)
    local_voice: LocalVoice | None = None

    def client(self, *, judged: bool) -> ProviderHttp:
        """``judged``: as ``ProviderAccess`` and the like have it."""
        return self.guarded if judged and self.guarded is not None else self.http

    def access(self, vendor: str) -> ProviderAccess:
        return self.accesses.get(vendor, _NO_ACCESS)
