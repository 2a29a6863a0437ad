"""Which provider has seen the beginning of a prompt: the next turn of a conversation goes there.

Only keyed digests are remembered, of every prefix that ends with a message or a block of text.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

import msgspec

from tandem.protocol import ChatPrompt, ModelName, Prompt, ProviderId, TextPrompt

_MAX_REMEMBERED = 65_536
_MAX_PREFIXES = 64
_BLOCK = 512
_DIGEST_BYTES = 16

Prefixes = list[tuple[bytes, float]]


class Cached(msgspec.Struct, frozen=True):
    """Who has seen the beginning of a prompt, and how much of the prompt that is (0 to 1)."""

    provider: ProviderId
    share: float


class Affinity:
    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._seen: OrderedDict[bytes, ProviderId] = OrderedDict()

    def prefixes(self, model: ModelName, prompt: Prompt, account: str) -> Prefixes:
        """Digests of what an account's prompt begins with, and how much of it that is.

        The shortest first. Another account's digests of the same prompt are others.
        """
        pieces = _pieces(prompt)
        whole = sum(map(len, pieces))
        whose = account.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(whose, key=self._key, digest_size=_DIGEST_BYTES)
        digest.update(len(whose).to_bytes(8, "big") + model.encode())
        prefixes: Prefixes = []
        length = 0
        for piece in pieces:
            digest.update(len(piece).to_bytes(8, "big") + piece)
            length += len(piece)
            prefixes.append((digest.digest(), length / whole if whole else 0.0))
        return prefixes[-_MAX_PREFIXES:]

    def cached(self, prefixes: Prefixes) -> Cached | None:
        """Who has seen the longest of these prefixes."""
        for digest, share in reversed(prefixes):
            provider = self._seen.get(digest)
            if provider is not None:
                return Cached(provider, share)
        return None

    def remember(self, prefixes: Prefixes, provider: ProviderId) -> None:
        for digest, _ in prefixes:
            self._seen[digest] = provider
            self._seen.move_to_end(digest)
        while len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)


def _pieces(prompt: Prompt) -> list[bytes]:
    if isinstance(prompt, ChatPrompt):
        return [
            f"{m.role}\0{m.name}\0{m.content}".encode("utf-8", "surrogatepass")
            for m in prompt.messages
        ]
    if isinstance(prompt, TextPrompt):
        data = prompt.text.encode("utf-8", "surrogatepass")
    else:
        data = b"".join(token.to_bytes(4, "big") for token in prompt.token_ids)
    return [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)]
