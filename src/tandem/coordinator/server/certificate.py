"""The certificate in use, read again when its file has changed: renewing needs no restart."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 30.0


class Certificate:
    """Two files of PEM, in a context that has been given them."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._context = context
        self._files = certificate, key
        self._seen = self._stamp()

    def renew(self) -> bool:
        """Takes the files in if they have changed; whether new connections get another one.

        Files that do not fit, as while one is being replaced, leave things as they are.
        """
        now = self._stamp()
        if now == self._seen:
            return False
        try:
            self._context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_not_renewed", reason=str(error))
            return False
        self._seen = now
        log.info("certificate_renewed", certificate=str(self._files[0]))
        return True

    async def watch(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await asyncio.to_thread(self.renew)

    def _stamp(self) -> tuple[int, ...]:
        """Changes with the files."""
        try:
            return tuple(
                number
                for status in (path.stat() for path in self._files)
                for number in (status.st_mtime_ns, status.st_ino, status.st_size)
            )
        except OSError:
            return ()
