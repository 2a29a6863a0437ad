"""Secrets and identities: made, kept, compared. No sockets."""

from __future__ import annotations

from tandem.security.attestation import (
    AttestationVerifier,
    ChainVerifier,
    DeviceKey,
    Prover,
    SoftwareKeyVerifier,
    load_roots,
)
from tandem.security.identity import (
    Identity,
    NodeId,
    issue_certificate,
    load_node_key,
    load_or_create_identity,
    node_id_of,
    pem_of,
)
from tandem.security.pairing import (
    NONCE_BYTES,
    PairedNode,
    PairedNodes,
    commitment,
    pairing_code,
)
from tandem.security.provider_keys import ProviderKeys
from tandem.security.sealing import (
    RecipientKey,
    ReplyChannel,
    SealingKey,
    new_reply_key,
    request_context,
)
from tandem.security.service_certificate import (
    PinnedContext,
    ServiceCertificate,
    certificate_in,
    is_pin,
    load_or_create_service_certificate,
    pin_in,
)
from tandem.security.tokens import (
    hash_secret,
    new_api_key,
    new_join_token,
    same_secret,
    split_pin,
    with_pin,
)

__all__ = [
    "NONCE_BYTES",
    "AttestationVerifier",
    "ChainVerifier",
    "DeviceKey",
    "Identity",
    "NodeId",
    "PairedNode",
    "PairedNodes",
    "PinnedContext",
    "Prover",
    "ProviderKeys",
    "RecipientKey",
    "ReplyChannel",
    "SealingKey",
    "ServiceCertificate",
    "SoftwareKeyVerifier",
    "certificate_in",
    "commitment",
    "hash_secret",
    "is_pin",
    "issue_certificate",
    "load_node_key",
    "load_or_create_identity",
    "load_or_create_service_certificate",
    "load_roots",
    "new_api_key",
    "new_join_token",
    "new_reply_key",
    "node_id_of",
    "pairing_code",
    "pem_of",
    "pin_in",
    "request_context",
    "same_secret",
    "split_pin",
    "with_pin",
]
