"""Lookups for somebody outside: what is wrong with a database is for the operator alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from tandem.errors import ConfigurationError, InternalError

log = structlog.get_logger(__name__)


@contextmanager
def lookup(of: str) -> Iterator[None]:
    """Raises InternalError in place of what names files; the log has that."""
    try:
        yield
    except ConfigurationError as error:
        log.error("lookup_failed", of=of, reason=error.message)  # noqa: TRY400 - the reason is enough
        raise InternalError(f"{of} cannot be looked up now: the service's log says why") from None
