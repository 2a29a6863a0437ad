"""The messages by which two machines are paired, on TLS that nobody vouches for yet.

    1. dialler  → Offer         name, certificate, commitment to a random number
    2. listener → CounterOffer  name, certificate, its random number
    3. dialler  → Reveal        the number that it was committed to
    4. both     → Verdict       what the person in front of the machine said about the code

Unknown fields are refused. There is no version: a machine that sends anything else does not pair.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

_Name = Annotated[str, msgspec.Meta(max_length=256)]
_Certificate = Annotated[str, msgspec.Meta(max_length=4096)]
#: A random number, and a SHA-256.
_Bytes32 = Annotated[bytes, msgspec.Meta(max_length=32)]


class Offer(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`certificate` is PEM."""

    name: _Name
    certificate: _Certificate
    commitment: _Bytes32


class CounterOffer(msgspec.Struct, frozen=True, tag="Answer", forbid_unknown_fields=True):
    """`certificate` is PEM."""

    name: _Name
    certificate: _Certificate
    nonce: _Bytes32


class Reveal(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    nonce: _Bytes32


class Verdict(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    accepted: bool


PairingMessage = Offer | CounterOffer | Reveal | Verdict
