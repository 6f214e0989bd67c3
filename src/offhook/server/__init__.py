"""The composition root: the only place that builds one thing from another."""

from offhook.server.network import listen_everywhere, stun_hop, tls_contexts
from offhook.server.phone import Phone, Surroundings, build_phone
from offhook.server.providers import PROVIDERS
from offhook.server.service import Server, add_hold_audio

__all__ = [
    "PROVIDERS",
    "Phone",
    "Server",
    "Surroundings",
    "add_hold_audio",
    "build_phone",
    "listen_everywhere",
    "stun_hop",
    "tls_contexts",
]
