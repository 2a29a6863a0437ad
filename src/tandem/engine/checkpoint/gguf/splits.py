"""How texts are split before pairs of bytes are merged, by the names that GGUF has for the ways.

A vocabulary's merges were learned within such pieces: another way gives other tokens.
"""

from __future__ import annotations

from typing import Any

#: English contractions, with what may stand before letters, and at most so many digits together.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_THREE_DIGITS = _WORDS.format(digits="{1,3}")
_ONE_DIGIT = _WORDS.format(digits="")
#: Words that change from small to capital letters come apart.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


def _cased(endings: str, digits: str) -> str:
    before = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{before}{_UPPER}*{_LOWER}+{endings}|{before}{_UPPER}+{_LOWER}*{endings}"
        rf"|\p{{N}}{digits}{_SIGNS}"
    )


_GPT_4O = _cased(_ENDINGS, "{1,3}")
_TEKKEN = _cased("", "")
_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_CHINESE = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

#: By `tokenizer.ggml.pre`: patterns that are applied one after the other.
SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt"), (_GPT_2,)),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), (_DIGIT, _GPT_2)
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "pixtral", "falcon3"),
        (_THREE_DIGITS,),
    ),
    **dict.fromkeys(("chatglm-bpe", "glm4"), (_THREE_DIGITS,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"), (_ONE_DIGIT,)),
    **dict.fromkeys(("gpt-4o", "llama4"), (_GPT_4O,)),
    "tekken": (_TEKKEN,),
    "deepseek-v3": (r"\p{N}{1,3}", _CHINESE, _DEEPSEEK_3),
}
#: Ways whose vocabularies take a piece that is a token as it is, whatever its merges.
WHOLE_PIECES = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken"}
#: Ways whose models expect a token before a text where the file does not say.
BEGINS = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken"}


def pre_tokenizer(name: str) -> dict[str, Any]:
    """In the form of `tokenizer.json`. Raises KeyError for a name that is not known."""
    splits = [
        {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        for pattern in SPLITS[name]
    ]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*splits, {**bytes_of, "trim_offsets": True}]}
