"""A `tokenizer.json` and a text, in one JSON object: loaded, and there and back again.

Replacements that multiply a text a thousand times are passed over: the kernel ends the process that
tokenises for them, and nothing could interrupt the library here.
"""

from __future__ import annotations

import math
from contextlib import suppress

import msgspec

from fuzz.folders import new_folder
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import TandemError

PREFIX, CODEC = 0, "json"
TOKENS = (
    *("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"),
    *("post_processor", "decoder", "model", "type", "vocab", "merges", "unk_token", "BPE"),
    *("WordLevel", "WordPiece", "Unigram", "ByteLevel", "Metaspace", "Whitespace", "Split"),
    *("Sequence", "normalizers", "pretokenizers", "decoders", "Replace", "pattern", "String"),
    *("Regex", "content", "behavior", "Isolated", "Removed", "NFC", "NFKC", "Lowercase"),
    *("Prepend", "Strip", "TemplateProcessing", "single", "pair", "special_tokens", "ByteFallback"),
    *("Fuse", "byte_fallback", "fuse_unk", "special", "single_word", "lstrip", "rstrip", "id"),
    *(
        "max_length",
        "stride",
        "pad_id",
        "strategy",
        "Fixed",
        "text",
        "tokenizer",
        "add_prefix_space",
    ),
)
_FOLDER = new_folder()
_MOST_GROWTH = 1000


class _Input(msgspec.Struct, frozen=True):
    tokenizer: msgspec.Raw
    text: str


def run(data: bytes) -> None:
    try:
        given = msgspec.json.decode(data, type=_Input)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if _growth(msgspec.json.decode(given.tokenizer)) > _MOST_GROWTH:
            return
    (_FOLDER / "tokenizer.json").write_bytes(bytes(given.tokenizer))
    try:
        tokenizer = Tokenizer(_FOLDER)
        ids = tokenizer.encode(given.text, 512)
        tokenizer.decode(ids)
        for token_id in (*ids[:4], 2**31):
            tokenizer.token_bytes(token_id)
    except TandemError:
        return


def _growth(steps: object) -> float:
    """How many times longer all replacements of a tokenizer can make a text."""
    if isinstance(steps, list):
        return math.prod(map(_growth, steps))
    if not isinstance(steps, dict):
        return 1.0
    own = 1.0
    content, pattern = steps.get("content"), steps.get("pattern")
    if isinstance(content, str) and isinstance(pattern, dict):
        found = pattern.get("String")
        least = len(found) if isinstance(found, str) else 0
        own = max(1.0, len(content) / least) if least else 1.0 + len(content)
    return own * math.prod(map(_growth, steps.values()))
