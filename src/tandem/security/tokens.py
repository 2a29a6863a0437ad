"""API keys and join tokens: 256 random bits, so a plain SHA-256 is enough to store them safely."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from tandem.errors import ConfigurationError
from tandem.security.service_certificate import is_pin

_ENTROPY_BYTES = 32
#: No token has it.
_PIN_SIGN = "@"


def new_api_key() -> str:
    return "sk-tandem-" + secrets.token_urlsafe(_ENTROPY_BYTES)


def new_join_token() -> str:
    return "join-" + secrets.token_urlsafe(_ENTROPY_BYTES)


def with_pin(token: str, pin: str | None) -> str:
    """A join token as it is handed out: it says by which key the coordinator is known."""
    return token if pin is None else f"{token}{_PIN_SIGN}{pin}"


def split_pin(token: str) -> tuple[str, str | None]:
    """The token itself, and its pin if it has one. Raises ConfigurationError for a damaged one."""
    secret, sign, pin = token.strip().partition(_PIN_SIGN)
    if not sign:
        return secret, None
    if not is_pin(pin):
        raise ConfigurationError(
            f"the join token is not whole: after {_PIN_SIGN!r} come 64 digits of a key's hash"
        )
    return secret, pin


def hash_secret(secret: str) -> str:
    """Hex SHA-256 of a secret; what is stored and looked up in place of the secret itself."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_secret(one: str, other: str) -> bool:
    """Compares two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_secret(one), hash_secret(other))
