"""Secrets and identities: made, kept, compared. No sockets."""

from __future__ import annotations

from tandem.security.identity import (
    Identity,
    NodeId,
    issue_certificate,
    load_or_create_identity,
    node_id_of,
)
from tandem.security.pairing import (
    NONCE_BYTES,
    PairedNode,
    PairedNodes,
    commitment,
    pairing_code,
)
from tandem.security.tokens import hash_secret, new_api_key, new_join_token, same_secret

__all__ = [
    "NONCE_BYTES",
    "Identity",
    "NodeId",
    "PairedNode",
    "PairedNodes",
    "commitment",
    "hash_secret",
    "issue_certificate",
    "load_or_create_identity",
    "new_api_key",
    "new_join_token",
    "node_id_of",
    "pairing_code",
    "same_secret",
]
