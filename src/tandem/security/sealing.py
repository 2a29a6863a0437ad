"""Requests sealed to one provider's key, and the answers sealed back.

A request is one HPKE message (RFC 9180, base mode) with the hybrid KEM X-Wing: X25519 and
ML-KEM-768, so that what is recorded today stays closed to a quantum computer. The answer key
travels inside it; answers are AES-256-GCM under that key, numbered from 0. What surrounds a
message (the connection, its place there, its request) is bound to it, so that an altered,
repeated, reordered or crossed message does not open.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tandem.errors import ProtocolError

REPLY_KEY_BYTES = 32
_KEM_BYTES, _CURVE_BYTES = 1184, 32
#: Larger than any answer is long; the nonce holds 96 bits.
_MAX_NUMBER = 2**62
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SealingKey:
    """A provider's key pair for one run of its process: yesterday's requests stay closed."""

    def __init__(self) -> None:
        kem, curve = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self.public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        self._private = hpke.MLKEM768X25519PrivateKey(kem, curve)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises ProtocolError for what was not sealed to this key in this context."""
        try:
            return _SUITE.decrypt(sealed, self._private, info=context)
        except (InvalidTag, ValueError) as error:
            raise ProtocolError("the request does not open: altered, or out of place") from error


class RecipientKey:
    """The public half, at the side that seals."""

    def __init__(self, public: bytes) -> None:
        """Raises ProtocolError for what is no such key."""
        if len(public) != _KEM_BYTES + _CURVE_BYTES:
            raise ProtocolError(f"a sealing key has {_KEM_BYTES + _CURVE_BYTES} bytes")
        try:
            kem = MLKEM768PublicKey.from_public_bytes(public[:_KEM_BYTES])
        except ValueError as error:
            raise ProtocolError("that is not an ML-KEM-768 key") from error
        curve = X25519PublicKey.from_public_bytes(public[_KEM_BYTES:])
        self._public = hpke.MLKEM768X25519PublicKey(kem, curve)

    def seal(self, content: bytes, context: bytes) -> bytes:
        return _SUITE.encrypt(content, self._public, info=context)


class ReplyChannel:
    """One end of a request's answers: each is sealed or opened once, in order."""

    def __init__(self, key: bytes, request_id: str) -> None:
        """Raises ProtocolError for a key of another length."""
        if len(key) != REPLY_KEY_BYTES:
            raise ProtocolError(f"a reply key has {REPLY_KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)
        self._request = request_id.encode()
        self.number = 0

    def seal(self, content: bytes) -> bytes:
        return self._cipher.encrypt(self._next(), content, self._request)

    def open(self, sealed: bytes) -> bytes:
        """Raises ProtocolError unless this is the next answer to the request."""
        try:
            return self._cipher.decrypt(self._next(), sealed, self._request)
        except InvalidTag as error:
            raise ProtocolError("an answer does not open: altered, or out of place") from error

    def _next(self) -> bytes:
        assert self.number < _MAX_NUMBER
        nonce = self.number.to_bytes(12, "big")
        self.number += 1
        return nonce


def new_reply_key() -> bytes:
    return secrets.token_bytes(REPLY_KEY_BYTES)


def request_context(connection: bytes, number: int, request_id: str) -> bytes:
    """Where a request stands: the connection's nonce, its number there, its id."""
    return b"tandem request" + connection + number.to_bytes(8, "big") + request_id.encode()
