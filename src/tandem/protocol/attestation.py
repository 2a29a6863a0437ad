"""What a provider shows for itself: the key of its machine, and perhaps a maker's word for it."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated

import msgspec

from tandem.protocol.bounds import LongBytes, Name, ShortBytes

NONCE_BYTES = 32


class Trust(StrEnum):
    """How much is known of a machine: nothing, that it holds its key, or that hardware does."""

    NONE = "none"
    SELF_SIGNED = "self_signed"
    HARDWARE = "hardware"

    def reaches(self, wanted: Trust) -> bool:
        return _ORDER.index(self) >= _ORDER.index(wanted)


_ORDER = (Trust.NONE, Trust.SELF_SIGNED, Trust.HARDWARE)


class ChainEvidence(msgspec.Struct, frozen=True):
    """A device's certificate chain (DER, leaf first) and the device key's signature."""

    chain: Annotated[list[LongBytes], msgspec.Meta(max_length=8)]
    device_id: Name
    signature: ShortBytes


class Evidence(msgspec.Struct, frozen=True):
    """Signatures over one statement: by the node's key, and by its device's if it has one.

    An empty signature proves nothing.
    """

    signature: ShortBytes = b""
    hardware: ChainEvidence | None = None


def statement(nonce: bytes, registration: bytes) -> bytes:
    """What is signed: that this registration is mine, now that you have drawn this nonce."""
    return b"tandem registration" + nonce + hashlib.sha256(registration).digest()
