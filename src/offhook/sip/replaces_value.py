"""The value of Replaces (RFC 3891 §6.1): the name of a dialog, as whoever receives it knows that."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.model.errors import SipParseError
from offhook.sip.grammar import BLANK, Params, is_token, param_value, parse_params


@dataclass(frozen=True, kw_only=True, slots=True)
class Replaces:
    """A dialog as the receiver of the INVITE sees it: ``to_tag`` is the receiver's own tag, ``from_tag`` its peer's."""

    sip_call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str, field: str = "Replaces") -> Replaces:
        """Raises SipParseError: not ``call-id;to-tag=…;from-tag=…``, or a tag more than once."""
        sip_call_id, semicolon, rest = text.partition(";")
        sip_call_id = sip_call_id.strip(BLANK)
        if not sip_call_id or any(character in sip_call_id for character in ' \t,"'):
            raise SipParseError(field, f"no Call-ID in Replaces {text[:80]!r}")
        params = parse_params(semicolon + rest, field)
        return cls(
            sip_call_id=sip_call_id,
            to_tag=_only_tag(params, "to-tag", field),
            from_tag=_only_tag(params, "from-tag", field),
            early_only=param_value(params, "early-only") is not None,
        )

    def __str__(self) -> str:
        early_only = ";early-only" if self.early_only else ""
        return f"{self.sip_call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early_only}"


def _only_tag(params: Params, name: str, field: str) -> str:
    values = [value for key, value in params if key.lower() == name]
    if len(values) != 1 or values[0] is None or not is_token(values[0]):
        raise SipParseError(field, f"Replaces needs one {name}")
    return values[0]
