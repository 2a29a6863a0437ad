"""Who is paired with this machine, while a node runs: `tandem pair` is another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Never

import structlog

from tandem.errors import ConfigurationError
from tandem.security import PairedNode, PairedNodes

log = structlog.get_logger(__name__)

#: One `stat` each time.
_INTERVAL_S = 1.0


async def follow_pairings(
    pairings: PairedNodes, on_change: Callable[[list[PairedNode]], None]
) -> Never:
    """Until cancelled: what is paired now, once and after each change of the file."""
    seen: tuple[int, int] | None = None
    while True:
        revision = pairings.revision
        if revision != seen:
            seen = revision
            try:
                on_change(pairings.all())
            except (ConfigurationError, OSError) as error:  # what was known before still holds
                log.warning("pairings_unreadable", reason=str(error))
        await asyncio.sleep(_INTERVAL_S)
