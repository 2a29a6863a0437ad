"""API keys and join tokens: 256 random bits, so a plain SHA-256 is enough to store them safely."""

from __future__ import annotations

import hashlib
import hmac
import secrets

_ENTROPY_BYTES = 32


def new_api_key() -> str:
    return "sk-tandem-" + secrets.token_urlsafe(_ENTROPY_BYTES)


def new_join_token() -> str:
    return "join-" + secrets.token_urlsafe(_ENTROPY_BYTES)


def hash_secret(secret: str) -> str:
    """Hex SHA-256 of a secret; what is stored and looked up in place of the secret itself."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_secret(one: str, other: str) -> bool:
    """Compares two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_secret(one), hash_secret(other))
