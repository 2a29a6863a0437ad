"""The certificate in use, read again when its file has changed: renewing needs no restart."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 30.0


class Certificate:
    """Two files of PEM, and the context for new connections that was made of them.

    Raises OSError when they cannot be read or do not fit.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._seen = self._stamp()
        self.context = self._load()

    def renew(self) -> bool:
        """Takes the files in if they have changed; whether new connections get another one.

        Files that do not fit, as while one is being replaced, leave things as they are.
        """
        now = self._stamp()
        if now == self._seen:
            return False
        try:
            # Another context: files that do not fit leave the one that reads them without a key.
            self.context = self._load()
        except OSError as error:
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

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        return context

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
