"""Names to addresses for the outgoing HTTP client, off the loop, and judged before anybody connects to one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

from offhook.delivery.targets_allowed import Scheme, TargetPolicy, judge_answers, origin
from offhook.model.errors import OutboundError

FindAddresses = Callable[[str], Sequence[str]]
"""From a name to addresses as text; may block. Raises OSError."""

LOOKUPS = 32
"""At once; each blocks a thread of its own while a nameserver is silent. Further ones wait within their deadline."""

ANSWERS_TRIED = 8
"""All are judged. More than these are not tried: a name with hundreds of addresses would make us a port scanner."""


def system_addresses(name: str) -> list[str]:
    """What this machine calls by that name: hosts file, DNS, as it is set up."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Lookup:
    """Asks once for a name however many wait for it. Remembers nothing: the system's resolver does.

    Each question gets a thread that nobody waits for at exit, because getaddrinfo cannot be interrupted.
    """

    def __init__(self, find: FindAddresses = system_addresses) -> None:
        self._find = find
        self._places = asyncio.Semaphore(LOOKUPS)
        self._under_way: dict[str, asyncio.Task[Sequence[str]]] = {}

    async def addresses(self, name: str) -> Sequence[str]:
        """All addresses of a name. Raises OSError."""
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(name))
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._forget(name, done))
        return await asyncio.shield(task)

    def _forget(self, name: str, done: asyncio.Task[Sequence[str]]) -> None:
        del self._under_way[name]
        if not done.cancelled():
            done.exception()  # whoever asked may have given up; then nobody reads it

    async def _ask(self, name: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        try:
            async with self._places:
                asked = threading.Thread(target=self._block, args=(name, loop, answer), daemon=True)
                asked.start()
                return await answer
        except asyncio.CancelledError:
            # Not those who wait are cancelled, but what they wait for.
            raise OSError("the look-up was given up") from None

    def _block(self, name: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Sequence[str]]) -> None:
        result: Sequence[str] | Exception
        try:
            result = self._find(name)
        except Exception as error:  # UnicodeError too: whatever it is, the name leads nowhere
            result = error
        try:
            loop.call_soon_threadsafe(_settle, answer, result)
        except RuntimeError:
            return  # the loop is closed, the process ends

    def close(self) -> None:
        """Gives up on what is under way."""
        for task in list(self._under_way.values()):
            task.cancel()


def _settle(answer: asyncio.Future[Sequence[str]], result: Sequence[str] | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result if isinstance(result, OSError) else OSError(str(result)))
    else:
        answer.set_result(result)


class JudgingResolver(AbstractResolver):
    """What aiohttp asks when it opens a connection: the judged answers are the very addresses it connects to.

    ``policy`` None: no judgement, for the operator's own forward proxy, the only one then to be resolved.
    """

    def __init__(self, lookup: Lookup, scheme: Scheme, policy: TargetPolicy | None) -> None:
        self._lookup = lookup
        self._scheme: Scheme = scheme
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OutboundError ``unresolvable``, ``refused_target``."""
        try:
            answers = await self._lookup.addresses(host)
            if not answers:
                raise OSError("no address")
        except OSError as error:
            where = origin(self._scheme, host, port)
            problem = f"{where} leads nowhere: the name {host} has no address ({error.strerror or error})"
            raise OutboundError("unresolvable", f"{problem}. Check the name and this machine's DNS") from None
        if self._policy is not None:
            judge_answers(answers, self._scheme, host, port, self._policy)
        return [_result(host, port, answer) for answer in answers[:ANSWERS_TRIED]]

    async def close(self) -> None:
        """Nothing is held."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
