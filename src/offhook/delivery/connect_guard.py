"""Judges where tenants' URLs of AI providers lead, by the policy that webhooks and tools have (``targets_allowed``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offhook.bridge.guard import RefusedTargetError
from offhook.delivery.lookup import FindAddresses, JudgingResolver, Lookup, system_addresses
from offhook.delivery.targets_allowed import TargetPolicy, url_problem
from offhook.model.errors import OutboundError


class ConnectGuard:
    """Implements the bridge's ``Guard``; needs ``close``. ``policy``: asked each time, since it may change."""

    def __init__(self, policy: Callable[[], TargetPolicy], *, find: FindAddresses = system_addresses) -> None:
        self._policy = policy
        self._lookup = Lookup(find)

    def check(self, url: str) -> None:
        """See ``Guard``."""
        problem = url_problem(url, self._policy())
        if problem:
            raise RefusedTargetError(problem)

    async def addresses(self, host: str, port: int, *, secure: bool) -> Sequence[str]:
        """See ``Guard``."""
        resolver = JudgingResolver(self._lookup, "https" if secure else "http", self._policy())
        try:
            return [found["host"] for found in await resolver.resolve(host, port)]
        except OutboundError as error:
            kind = RefusedTargetError if error.kind == "refused_target" else OSError
            raise kind(error.problem) from None

    def close(self) -> None:
        """Gives up on what is under way."""
        self._lookup.close()
