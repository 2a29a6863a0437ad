"""Secrets: how they are made, shown once, and recognised by their hash. No sockets."""

from __future__ import annotations

from tandem.security.tokens import hash_secret, new_api_key, new_join_token, same_secret

__all__ = ["hash_secret", "new_api_key", "new_join_token", "same_secret"]
