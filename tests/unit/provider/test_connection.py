"""What waits for a coordinator that does not read."""

from __future__ import annotations

import asyncio

import pytest

from tandem import protocol
from tandem.provider.connection import _Lost, _Outgoing


def test_one_message_too_many_ends_the_connection_and_not_whoever_sends_it() -> None:
    async def main() -> None:
        outgoing = _Outgoing(2)
        watching = asyncio.ensure_future(outgoing.watch())
        for _ in range(2):
            outgoing.put(protocol.Draining())
        await asyncio.sleep(0)
        assert not watching.done()
        outgoing.put(protocol.Draining())
        with pytest.raises(_Lost, match="full"):
            await watching

    asyncio.run(main())
