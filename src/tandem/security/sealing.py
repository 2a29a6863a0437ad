"""Requests sealed to one provider's key, and the answers sealed back.

A request has a key of its own, sealed with HPKE (RFC 9180, base mode) and the hybrid KEM X-Wing:
X25519 and ML-KEM-768, so that what is recorded today stays closed to a quantum computer. The
request follows under AES-256-GCM, with the answers' key inside it; answers are AES-256-GCM too,
numbered from 0. What surrounds a message (the connection, its place there, its request) is bound
to it, so that an altered, repeated, reordered or crossed message does not open.

The costly half, the sealed key, depends on nothing but the provider: it can be made and opened
ahead, before there is a request.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tandem.errors import ProtocolError

REPLY_KEY_BYTES = 32
_KEY_BYTES = 32
_KEM_BYTES, _CURVE_BYTES = 1184, 32
#: A sealed key: X-Wing's ciphertext, the key, the tag.
_SEALED_KEY_BYTES = 1088 + 32 + _KEY_BYTES + 16
_KEY_CONTEXT = b"tandem request key"
#: A request's key seals nothing else.
_ONCE = bytes(12)
#: Larger than any answer is long; the nonce holds 96 bits.
_MAX_NUMBER = 2**62
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SealingKey:
    """A provider's key pair for one run of its process: yesterday's requests stay closed."""

    def __init__(self) -> None:
        kem, curve = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self.public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        self._private = hpke.MLKEM768X25519PrivateKey(kem, curve)
        self._ahead: tuple[bytes, bytes] | None = None

    def open_ahead(self, sealed_key: bytes) -> None:
        """Opens a request's key that was announced, now that nobody waits for it.

        Raises ProtocolError.
        """
        self._ahead = sealed_key, self._open_key(sealed_key)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises ProtocolError for what was not sealed to this key in this context."""
        sealed_key, content = sealed[:_SEALED_KEY_BYTES], sealed[_SEALED_KEY_BYTES:]
        if self._ahead is not None and sealed_key == self._ahead[0]:
            key, self._ahead = self._ahead[1], None
        else:
            key = self._open_key(sealed_key)
        try:
            return AESGCM(key).decrypt(_ONCE, content, context)
        except InvalidTag as error:
            raise ProtocolError("the request does not open: altered, or out of place") from error

    def _open_key(self, sealed_key: bytes) -> bytes:
        try:
            key = _SUITE.decrypt(sealed_key, self._private, info=_KEY_CONTEXT)
        except (InvalidTag, ValueError) as error:
            raise ProtocolError("the request's key does not open") from error
        if len(key) != _KEY_BYTES:
            raise ProtocolError(f"a request's key has {_KEY_BYTES} bytes, not {len(key)}")
        return key


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
        self._ahead: tuple[bytes, bytes] | None = None

    def make_ahead(self) -> bytes | None:
        """Makes the next request's key, now that nobody waits for it, and returns it sealed.

        None when there is one already.
        """
        if self._ahead is not None:
            return None
        self._ahead = self._new_key()
        return self._ahead[1]

    def seal(self, content: bytes, context: bytes) -> bytes:
        (key, sealed_key), self._ahead = self._ahead or self._new_key(), None
        return sealed_key + AESGCM(key).encrypt(_ONCE, content, context)

    def _new_key(self) -> tuple[bytes, bytes]:
        """A fresh key, and that key sealed."""
        key = AESGCM.generate_key(256)
        return key, _SUITE.encrypt(key, self._public, info=_KEY_CONTEXT)


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
    return AESGCM.generate_key(8 * REPLY_KEY_BYTES)


def request_context(connection: bytes, number: int, request_id: str) -> bytes:
    """Where a request stands: the connection's nonce, its number there, its id."""
    return b"tandem request" + connection + number.to_bytes(8, "big") + request_id.encode()
