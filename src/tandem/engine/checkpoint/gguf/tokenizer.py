"""A GGUF's vocabulary as Hugging Face's `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.engine.checkpoint.gguf.splits import BEGINS, SPLITS, WHOLE_PIECES, pre_tokenizer
from tandem.errors import CheckpointError

_PREFIX = "tokenizer.ggml."
_SPACE = "\u2581"  # how SentencePiece writes one
_NAMED = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
#: Characters of a token: all of its divisions in two are tried. Longest runs of blanks have 128.
_MOST_CHARACTERS = 1024
#: Kinds of tokens, as files number them.
_NORMAL, _CONTROL, _STATED = 1, 3, 4


def tokenizer_of(model: GgufModel) -> dict[str, Any]:
    """Raises CheckpointError for a kind that is not known, naming the field."""
    kind = model.needed(_PREFIX + "model", str)
    if kind not in _MAKERS:
        raise CheckpointError(
            f"{model.path}: {_PREFIX}model {kind!r} is not supported; "
            f"expected one of {', '.join(_MAKERS)}"
        )
    tokens = _tokens(model)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, _kinds(model, tokens)),
        **_MAKERS[kind](model, tokens),
        "post_processor": _surroundings(model, tokens),
    }


def tokenizer_config_of(model: GgufModel) -> dict[str, Any]:
    """Raises CheckpointError."""
    tokens = _tokens(model)
    named = {
        f"{name}_token": tokens[number]
        for field, name in _NAMED.items()
        if (number := _id(model, field, tokens)) is not None
    }
    template = model.stated("tokenizer.chat_template", str)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **named,
        **({} if template is None else {"chat_template": template}),
    }


def _tokens(model: GgufModel) -> list[str]:
    tokens = model.texts(_PREFIX + "tokens")
    if not tokens:
        raise CheckpointError(f"{model.path}: {_PREFIX}tokens is missing; expected texts")
    if len(set(tokens)) != len(tokens):
        (twice, _), *_ = Counter(tokens).most_common(1)
        raise CheckpointError(f"{model.path}: {_PREFIX}tokens has {twice!r} twice")
    longest = max(tokens, key=len)
    if len(longest) > _MOST_CHARACTERS:
        raise CheckpointError(
            f"{model.path}: {_PREFIX}tokens has one of {len(longest)} characters, "
            f"{longest[:20]!r}...; expected at most {_MOST_CHARACTERS}"
        )
    return tokens


def _kinds(model: GgufModel, tokens: list[str]) -> list[int]:
    kinds = model.numbers(_PREFIX + "token_type")
    if kinds is None:
        return [_NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise CheckpointError(
            f"{model.path}: {_PREFIX}token_type has {len(kinds)} entries, and there are "
            f"{len(tokens)} tokens"
        )
    found: list[int] = kinds.tolist()
    return found


def _id(model: GgufModel, name: str, tokens: list[str]) -> int | None:
    key = f"{_PREFIX}{name}_token_id"
    number = model.stated(key, int)
    if number is not None and not 0 <= number < len(tokens):
        raise CheckpointError(f"{model.path}: {key} is {number}; there are {len(tokens)} tokens")
    return number


def _added(tokens: list[str], kinds: list[int]) -> list[dict[str, Any]]:
    """Tokens that are found in a text before it is split."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": number, "content": token, **flags, "special": kind == _CONTROL}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _STATED) and token
    ]


def _surroundings(model: GgufModel, tokens: list[str]) -> dict[str, Any] | None:
    """What goes before and after every text."""
    begins = model.stated(_PREFIX + "add_bos_token", bool)
    if begins is None:
        way = model.stated(_PREFIX + "pre", str)
        begins = model.fields[_PREFIX + "model"] == "llama" or way in BEGINS
    ends = bool(model.stated(_PREFIX + "add_eos_token", bool))
    parts: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {}
    for wanted, name, at in ((begins, "bos", 0), (ends, "eos", 2)):
        number = _id(model, name, tokens)
        if wanted and number is not None:
            token = tokens[number]
            parts.insert(at, {"SpecialToken": {"id": token, "type_id": 0}})
            special[token] = {"id": token, "ids": [number], "tokens": [token]}
    pair = [*parts, {"Sequence": {"id": "B", "type_id": 1}}]
    if not special:
        return None
    return {"type": "TemplateProcessing", "single": parts, "pair": pair, "special_tokens": special}


def _byte_pairs(model: GgufModel, tokens: list[str]) -> dict[str, Any]:
    way = model.stated(_PREFIX + "pre", str)
    if way not in SPLITS:
        raise CheckpointError(
            f"{model.path}: {_PREFIX}pre is {'missing' if way is None else repr(way)}; expected "
            f"one of {', '.join(SPLITS)}: without it a text's tokens would be others than the "
            "model knows; convert the model again, or use its folder as it was published"
        )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer(way),
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "byte_fallback": False,
            "ignore_merges": way in WHOLE_PIECES,
            "vocab": vocabulary,
            "merges": _stated_merges(model, vocabulary),
        },
    }


def _stated_merges(model: GgufModel, vocabulary: dict[str, int]) -> list[list[str]]:
    key = _PREFIX + "merges"
    stated = model.texts(key)
    if stated is None:
        raise CheckpointError(f"{model.path}: {key} is missing; expected texts")
    pairs = [merge.split(" ") for merge in stated]
    for pair in pairs:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise CheckpointError(
                f"{model.path}: {key} has {' '.join(pair)!r}: not two tokens that are one together"
            )
    return pairs


def _pieces(model: GgufModel, tokens: list[str]) -> dict[str, Any]:
    """SentencePiece's pairs: of two neighbours those that make the token of the best score."""
    prefixed = model.stated(_PREFIX + "add_space_prefix", bool) is not False
    unknown = _id(model, "unknown", tokens)
    space = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    first = {"type": "Prepend", "prepend": _SPACE}
    back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    stripped = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [first, space] if prefixed else [space]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [*decoders, stripped] if prefixed else decoders,
        },
        "model": {
            "type": "BPE",
            "unk_token": None if unknown is None else tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": _merges_by_score(model, tokens),
        },
    }


def _merges_by_score(model: GgufModel, tokens: list[str]) -> list[list[str]]:
    key = _PREFIX + "scores"
    scores = model.numbers(key)
    if scores is None or len(scores) != len(tokens):
        raise CheckpointError(f"{model.path}: {key} has not one number for each of the tokens")
    kinds = _kinds(model, tokens)
    known = {
        token: number
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_NORMAL, _STATED)
    }
    merges = [
        (-score, known[token[:cut]], known[token[cut:]])
        for token, score in zip(known, scores[list(known.values())].tolist(), strict=True)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    return [[tokens[left], tokens[right]] for _, left, right in sorted(merges)]


_MAKERS = {"gpt2": _byte_pairs, "llama": _pieces}
