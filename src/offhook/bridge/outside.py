"""What a provider is made with: how its vendors are reached, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from offhook.bridge.options import ProviderAccess
from offhook.bridge.provider_http import ProviderHttp

_NO_ACCESS = ProviderAccess()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """``accesses``: by the vendor's name, as the configuration and the environment have them."""

    http: ProviderHttp
    accesses: Mapping[str, ProviderAccess] = field(default_factory=dict, repr=False)

    def access(self, vendor: str) -> ProviderAccess:
        return self.accesses.get(vendor, _NO_ACCESS)
