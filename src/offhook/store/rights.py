"""What a record made by the API may say, where config.json may say more: its writer is a tenant, not the operator."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import ConfigError
from offhook.store.forms import AgentForm, AnyForm, NumberForm, OpenForm


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """``providers``: names that agents may have; empty: any."""

    providers: Collection[str] = ()

    def check(self, account_id: str, form: AnyForm) -> None:
        """Raises ``ConfigError`` naming the field."""
        match form:
            case AgentForm():
                self._check_agent(form)
            case NumberForm(user="*", trunk="") if account_id != DEFAULT_ACCOUNT:
                fix = "Name a trunk of this account, or list the numbers"
                raise ConfigError("user", "every number of trunks that all accounts share is the operator's", fix)
            case OpenForm() if account_id != DEFAULT_ACCOUNT:
                fix = "Make a register or a gateway trunk, or ask the operator"
                raise ConfigError("kind", "only the operator may let anyone call this server", fix)
            case _:
                pass

    def _check_agent(self, agent: AgentForm) -> None:
        if self.providers and agent.provider not in self.providers:
            fix = f"Use one of: {', '.join(sorted(self.providers))}"
            raise ConfigError("provider", f"there is no {agent.provider!r}", fix)
        if agent.hold_audio:
            fix = "Name it for an agent of config.json, or leave it out for our melody"
            raise ConfigError("hold_audio", "is a file of the server, which the API cannot name", fix)
