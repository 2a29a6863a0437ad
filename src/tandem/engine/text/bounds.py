"""How much text one token can stand for, so that text too long for any tokenisation is refused.

A tokenizer that may drop or join text without a limit (an unknown-token for whole words, stripped
spaces) has no such bound, and is said to have none rather than a wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tandem.engine.text.byte_alphabet import BYTE_OF

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

#: How many times its bytes a text may have had before, in UTF-8: 9 bytes of Hangul letters are one
#: syllable of 3 in NFC; bold and accented Greek, and bold Latin, shrink to a quarter in NFKC.
_SHRINKS = {"NFC": 3, "NFD": 3, "NFKC": 4, "NFKD": 4, "Lowercase": 3, "Prepend": 1}
#: Those that keep every character, unless they are told to remove what they find.
_KEEPING = {"ByteLevel", "Metaspace", "Digits", "UnicodeScripts", "Split", "Punctuation"}


def max_token_bytes(tokenizer: HFTokenizer) -> int:
    """The most bytes of UTF-8 text that become one token; 0 where there is no such bound."""
    longest = _longest_piece(tokenizer)
    return longest * _shrinking(_state(tokenizer.normalizer)) if _keeps_all(tokenizer) else 0


def _longest_piece(tokenizer: HFTokenizer) -> int:
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    pieces = tokenizer.get_vocab(with_added_tokens=False)
    byte_level = "ByteLevel" in _types(_state(tokenizer.pre_tokenizer))
    sizes = map(len, pieces) if byte_level else (len(piece.encode()) for piece in pieces)
    return max([*sizes, *(len(text.encode()) for text in added)], default=0)


def _keeps_all(tokenizer: HFTokenizer) -> bool:
    """Whether every byte of a normalised text is in some token."""
    steps = _state(tokenizer.pre_tokenizer)
    if not _types(steps) <= _KEEPING or "Removed" in _values(steps, "behavior"):
        return False
    if any(t.lstrip or t.rstrip for t in tokenizer.get_added_tokens_decoder().values()):
        return False
    model, pieces = tokenizer.model, tokenizer.get_vocab(with_added_tokens=False)
    if type(model).__name__ != "BPE":
        return False
    if "ByteLevel" in _types(steps):
        return BYTE_OF.keys() <= pieces.keys()
    return model.byte_fallback and all(f"<0x{byte:02X}>" in pieces for byte in range(256))


def _shrinking(normalizer: list[dict[str, Any]]) -> int:
    """How many times shorter text may get; 0 where there is no saying."""
    factor = 1
    for step in normalizer:
        pattern = step.get("pattern", {}).get("String", "")
        lasts = pattern and len(step["content"].encode()) >= len(pattern.encode())
        factor *= 1 if step["type"] == "Replace" and lasts else _SHRINKS.get(step["type"], 0)
    return factor


def _state(component: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - of any type of the library's
    """The steps of a normaliser or pre-tokenizer, as `tokenizer.json` has them."""
    if component is None:
        return []
    return list(_flat(json.loads(component.__getstate__())))


def _flat(step: dict[str, Any]) -> Iterable[dict[str, Any]]:
    inner = step.get("normalizers", step.get("pretokenizers"))
    if inner is None:
        yield step
        return
    for one in inner:
        yield from _flat(one)


def _types(steps: list[dict[str, Any]]) -> set[str]:
    return _values(steps, "type")


def _values(steps: list[dict[str, Any]], field: str) -> set[str]:
    return {str(step[field]) for step in steps if field in step}
