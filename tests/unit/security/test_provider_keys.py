"""A provider's keys against the coordinator's half: what opens, and what does not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tandem.errors import ProtocolError
from tandem.protocol import Evidence, ModelName, Request, RequestId
from tandem.security import (
    Prover,
    ProviderKeys,
    RecipientKey,
    ReplyChannel,
    SealingKey,
    new_reply_key,
    request_context,
)

RID = RequestId("r")
CONNECTION = b"n" * 32


def sealed(keys: ProviderKeys, content: bytes, *, hint: bool = False) -> Request:
    recipient = RecipientKey(keys.public)
    if hint and (sealed_key := recipient.make_ahead()) is not None:
        keys.open_ahead(sealed_key)
    context = request_context(CONNECTION, 3, RID)
    return Request(RID, 3, ModelName("m"), 1.0, 32, recipient.seal(content, context))


@pytest.mark.parametrize("hint", [False, True])
def test_a_request_opens_in_its_place(hint: bool) -> None:
    keys = ProviderKeys(SealingKey())
    assert keys.open(sealed(keys, b"secret", hint=hint), CONNECTION) == b"secret"


def test_a_request_does_not_open_on_another_connection() -> None:
    keys = ProviderKeys(SealingKey())
    with pytest.raises(ProtocolError):
        keys.open(sealed(keys, b"secret"), b"m" * 32)


def test_answers_open_one_after_the_other() -> None:
    key = new_reply_key()
    seal, channel = ProviderKeys(SealingKey()).replies(key, RID), ReplyChannel(key, RID)
    assert [channel.open(seal(part)) for part in (b"a", b"b")] == [b"a", b"b"]


def test_what_is_no_reply_key_is_refused() -> None:
    with pytest.raises(ProtocolError):
        ProviderKeys(SealingKey()).replies(b"short", RID)


def test_only_a_machine_with_a_certificate_proves_anything() -> None:
    prover = Prover(Ed25519PrivateKey.generate())
    assert ProviderKeys(SealingKey()).prove(b"statement") == Evidence()
    assert ProviderKeys(SealingKey(), prover).prove(b"statement") == prover.prove(b"statement")
