"""The provider's side of a coordinator's link, without a socket: it opens and answers requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.registered import SEALING

from tandem import protocol
from tandem.coordinator.fleet.link import ProviderLink
from tandem.security import ProviderKeys

_KEYS = ProviderKeys(SEALING)


@dataclass
class LinkPlayed:
    """Reads what waits to be sent on `link`, whose nonce is empty, and answers it."""

    link: ProviderLink
    cancelled: list[protocol.RequestId] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)
    request: protocol.Request | None = None
    _seals: dict[protocol.RequestId, Callable[[bytes], bytes]] = field(default_factory=dict)

    async def work(self) -> protocol.Work:
        """The next request, opened; what follows is answered to it."""
        while True:
            message = await self.link.next_outgoing()
            if isinstance(message, protocol.Request):
                break
            self._note(message)
        work = protocol.decode_work(_KEYS.open(message, b""))
        self.request = message
        self._seals[message.request_id] = _KEYS.replies(work.reply_key, message.request_id)
        return work

    async def generate(self) -> protocol.Generate:
        work = await self.work()
        assert isinstance(work, protocol.Generate)
        return work

    async def note(self) -> None:
        """Reads one message that is no request."""
        self._note(await self.link.next_outgoing())

    def answer(self, *parts: protocol.AnswerPart) -> None:
        """To the latest request. Raises ProtocolError when the rules are broken."""
        assert self.request is not None
        request_id = self.request.request_id
        for part in parts:
            sealed = self._seals[request_id](protocol.encode(part))
            self.link.deliver(protocol.Reply(request_id, sealed))

    def _note(self, message: protocol.ToProvider) -> None:
        if isinstance(message, protocol.Cancel):
            self.cancelled.append(message.request_id)
        elif isinstance(message, protocol.Grant):
            self.granted.append(message.chunks)
