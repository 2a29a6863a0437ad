"""Who asks: API keys, looked up off the event loop and remembered until any key changes."""

from __future__ import annotations

import asyncio
import time

from tandem.coordinator.accounts.sqlite.keys import KeyRecord, KeyStore
from tandem.errors import AuthenticationFailed

#: The change mark has the file system's granularity: this bounds what slips through.
_REMEMBERED_S = 1.0
_MAX_REMEMBERED = 4096
_MAX_KEY_LENGTH = 256
_KEY_PREFIX = "sk-tandem-"
_HOW = "send it as `Authorization: Bearer sk-tandem-...`"


class Authenticator:
    def __init__(self, store: KeyStore, *, required: bool) -> None:
        self._store = store
        self._required = required
        self._known: dict[str, tuple[float, KeyRecord]] = {}
        self._mark = (0, 0)

    async def authenticate(self, authorization: str | None) -> KeyRecord | None:
        """The key of a request with this `Authorization` header; None where none is required.

        Raises AuthenticationFailed.
        """
        if not self._required:
            return None
        secret = _bearer(authorization)
        now, mark = time.monotonic(), self._store.change_mark()
        if mark != self._mark or len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
            self._mark = mark
        remembered = self._known.get(secret)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        record = await asyncio.to_thread(self._store.find, secret)
        if record is None:
            raise AuthenticationFailed("the API key is unknown or was revoked")
        if mark == self._mark:
            self._known[secret] = (now + _REMEMBERED_S, record)
        return record


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise AuthenticationFailed(f"an API key is required: {_HOW}")
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise AuthenticationFailed(f"the Authorization header is no bearer token: {_HOW}")
    if len(secret) > _MAX_KEY_LENGTH or not secret.startswith(_KEY_PREFIX):
        raise AuthenticationFailed("that is not an API key of this service")
    return secret
