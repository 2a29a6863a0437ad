"""Who asks: API keys.

A key is looked up once, and remembered until any key changes.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

from tandem.coordinator.accounts.lookups import lookup
from tandem.coordinator.accounts.ports import Keys
from tandem.coordinator.accounts.records import KeyRecord, KeyRole
from tandem.errors import AuthenticationFailed, PermissionRefused

#: A store may see another process's change a moment late: this bounds how late.
_REMEMBERED_S = 1.0
_MAX_REMEMBERED = 4096
_MAX_KEY_LENGTH = 256
_KEY_PREFIX = "sk-tandem-"
_HOW = "send it as `Authorization: Bearer sk-tandem-...`"


class Authenticator:
    def __init__(self, keys: Keys, *, required: bool) -> None:
        self._keys = keys
        self._required = required
        self._remembered: dict[str, tuple[float, KeyRecord]] = {}
        self._revision: Hashable = None

    async def authenticate(self, authorization: str | None) -> KeyRecord | None:
        """The key of a request with this `Authorization` header; None where none is required.

        Raises AuthenticationFailed, or InternalError when keys cannot be looked up.
        """
        if not self._required:
            return None
        secret = _bearer(authorization)
        now, revision = time.monotonic(), self._keys.revision()
        if revision != self._revision or len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
            self._revision = revision
        remembered = self._remembered.get(secret)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        with lookup("API keys"):
            record = await self._keys.find(secret)
        if record is None:
            raise AuthenticationFailed("the API key is unknown or was revoked")
        if revision == self._revision:
            self._remembered[secret] = (now + _REMEMBERED_S, record)
        return record

    async def authenticate_operator(self, authorization: str | None) -> KeyRecord | None:
        """As `authenticate`, for what is an operator's to see or to do.

        Raises AuthenticationFailed, or PermissionRefused for a user's key.
        """
        key = await self.authenticate(authorization)
        if key is not None and key.role is not KeyRole.OPERATOR:
            raise PermissionRefused(
                "this needs an operator's key, and yours is a user's: whoever runs the service"
                " makes one with `tandem keys create NAME --operator`"
            )
        return key


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
