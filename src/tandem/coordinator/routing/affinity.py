"""Which provider has seen the beginning of a prompt: the next turn of a conversation goes there.

Only keyed digests are remembered, of every prefix that ends with a message or a block of text.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from tandem.protocol import ChatPrompt, ModelName, Prompt, ProviderId, TextPrompt

_MAX_REMEMBERED = 65_536
_MAX_PREFIXES = 64
_BLOCK = 512
#: Characters or token ids of a prompt that are looked at: who has seen so much may well have seen
#: more, and to digest megabytes would hold up everybody's tokens.
_MOST = 256 * 1024
#: What a message counts beside its text.
_AROUND = 16
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

        The shortest first, and none longer than `_MOST`. Another account's digests of the same
        prompt are others.
        """
        whole = _length(prompt)
        whose = account.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(whose, key=self._key, digest_size=_DIGEST_BYTES)
        digest.update(len(whose).to_bytes(8, "big") + model.encode())
        prefixes: Prefixes = []
        length = 0
        for characters, piece in _pieces(prompt):
            digest.update(len(piece).to_bytes(8, "big") + piece)
            length += characters
            prefixes.append((digest.digest(), length / whole if whole else 0.0))
            if length >= _MOST:
                break
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


def _length(prompt: Prompt) -> int:
    """In characters or token ids."""
    if isinstance(prompt, ChatPrompt):
        return sum(_AROUND + len(message.content) for message in prompt.messages)
    return len(prompt.text if isinstance(prompt, TextPrompt) else prompt.token_ids)


def _pieces(prompt: Prompt) -> Iterator[tuple[int, bytes]]:
    """Messages or blocks, each with its share of `_length`; of a long message the beginning."""
    if isinstance(prompt, ChatPrompt):
        for message in prompt.messages:
            text = message.content[:_MOST]
            whole = f"{message.role}\0{message.name}\0{text}"
            yield _AROUND + len(text), whole.encode("utf-8", "surrogatepass")
    elif isinstance(prompt, TextPrompt):
        for start in range(0, len(prompt.text), _BLOCK):
            text = prompt.text[start : start + _BLOCK]
            yield len(text), text.encode("utf-8", "surrogatepass")
    else:
        for start in range(0, len(prompt.token_ids), _BLOCK // 4):
            ids = prompt.token_ids[start : start + _BLOCK // 4]
            yield len(ids), b"".join(token.to_bytes(4, "big") for token in ids)
