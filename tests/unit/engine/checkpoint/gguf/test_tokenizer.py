"""Texts become the tokens that llama.cpp and `transformers` make of them by the same file.

`llama_cpp_tokens.json` has what llama.cpp answered (`/tokenize` of its server, with special tokens)
for the vocabulary of SmolLM2, by the name of each way to split.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.models.gguf_files import write_gguf
from tests.support.models.smollm2 import smollm2_file
from tokenizers import Tokenizer as HFTokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.engine.checkpoint.gguf.splits import SPLITS
from tandem.engine.checkpoint.gguf.tokenizer import tokenizer_config_of, tokenizer_of
from tandem.errors import CheckpointError

GOLDEN: dict[str, dict[str, list[int]]] = json.loads(
    Path(__file__).with_name("llama_cpp_tokens.json").read_text()
)
#: One of the names for each way, but for those that the library knows no pattern of.
KNOWN_TO_TRANSFORMERS = ("llama-bpe", "qwen2", "gpt-4o", "tekken", "gpt-2")
TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("abAB 019\n\t'sltre.,-_/(){}"),
    ),
    max_size=60,
)


@cache
def vocabulary() -> dict[str, Any]:
    """SmolLM2's fields, without what it says of the beginning of texts."""
    with GgufModel(smollm2_file()) as model:
        return {
            key: value
            for key, value in model.fields.items()
            if key.startswith("tokenizer.") and not key.endswith("add_bos_token")
        }


class Fields(GgufModel):
    """A model that has fields alone."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.path = Path("m.gguf")
        self.fields = fields


@cache
def ours(way: str) -> HFTokenizer:
    made = tokenizer_of(Fields(vocabulary() | {"tokenizer.ggml.pre": way}))
    return HFTokenizer.from_str(json.dumps(made))


@cache
def theirs(way: str) -> HFTokenizer:
    fields = vocabulary()
    stated = {
        "tokenizer_type": "gpt2",
        "pre_tokenizer_type": way,
        "tokens": fields["tokenizer.ggml.tokens"],
        "merges": fields["tokenizer.ggml.merges"],
        "token_type": fields["tokenizer.ggml.token_type"].tolist(),
    }
    made: HFTokenizer = convert_gguf_tokenizer("llama", stated)[0]
    return made


@pytest.mark.parametrize("way", next(iter(GOLDEN.values())))
def test_tokens_are_those_of_llama_cpp(way: str) -> None:
    for text, expected in GOLDEN.items():
        assert ours(way).encode(text).ids == expected[way], text


def test_ways_of_one_pattern_are_known_by_one_that_was_compared() -> None:
    compared = {SPLITS[way] for way in next(iter(GOLDEN.values()))}
    assert set(SPLITS.values()) == compared


@settings(max_examples=60)
@given(text=TEXTS, way=st.sampled_from(KNOWN_TO_TRANSFORMERS))
def test_tokens_are_those_of_transformers(text: str, way: str) -> None:
    expected = theirs(way).encode(text, add_special_tokens=False).ids
    found = ours(way).encode(text, add_special_tokens=False).ids
    if ours(way).model.ignore_merges:  # as llama.cpp and the models' own files have it
        assert ours(way).decode(found) == theirs(way).decode(expected)
    else:
        assert found == expected


@settings(max_examples=60)
@given(
    text=st.text(
        st.characters(categories=("L", "N", "P", "Zs"), max_codepoint=0xD7FF), max_size=40
    ),
    way=st.sampled_from(sorted(next(iter(GOLDEN.values())))),
)
def test_texts_come_back(text: str, way: str) -> None:
    """Of what this vocabulary has: bytes of rare characters are not in it."""
    ids = ours(way).encode(text, add_special_tokens=False).ids
    assert ours(way).decode(ids, skip_special_tokens=False) == text


def pieces(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - of any type
    """A small vocabulary with scores, as SentencePiece learns one from these words."""
    words = Counter(["a", "banana", "and", "a", "bandana", "can", "ban", "an", "anagram"])
    spelled = {word: ["\u2581", *word] for word in words}
    learned: list[str] = []
    for _ in range(12):
        pairs: Counter[str] = Counter()
        for word, count in words.items():
            for pair in zip(spelled[word], spelled[word][1:], strict=False):
                pairs["".join(pair)] += count
        best = pairs.most_common(1)[0][0]
        learned.append(best)
        spelled = {word: _joined(parts, best) for word, parts in spelled.items()}
    characters = sorted({character for word in words for character in word} | {"\u2581"})
    normal = [*learned, *characters]
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "<|user|>"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": special + normal,
        "tokenizer.ggml.scores": np.array(
            [0.0] * len(special) + [-1.0 * n for n in range(len(normal))]
        ),
        "tokenizer.ggml.token_type": np.array([2, 3, 3, *[6] * 256, 3, *[1] * len(normal)]),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **{f"tokenizer.ggml.{key}": value for key, value in changed.items()},
    }


def _joined(parts: list[str], whole: str) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and found[-1] + part == whole:
            found[-1] = whole
        else:
            found.append(part)
    return found


def of_pieces(**changed: Any) -> HFTokenizer:  # noqa: ANN401
    return HFTokenizer.from_str(json.dumps(tokenizer_of(Fields(pieces(**changed)))))


@cache
def their_pieces() -> HFTokenizer:
    fields = pieces()
    stated = {
        "tokenizer_type": "llama",
        "tokens": fields["tokenizer.ggml.tokens"],
        "scores": fields["tokenizer.ggml.scores"].tolist(),
        "token_type": fields["tokenizer.ggml.token_type"].tolist(),
    }
    made: HFTokenizer = convert_gguf_tokenizer("llama", stated)[0]
    return made


WORDS = st.lists(st.sampled_from(["banana", "ban", "anagram", "b", " ", "  ", "é", "x", "🙂"]))


@settings(max_examples=60)
@given(parts=WORDS, text=TEXTS)
def test_pieces_are_those_of_transformers(parts: list[str], text: str) -> None:
    """Theirs puts no space before a text that begins with one; llama.cpp does, as we do."""
    text = ("a" + "".join(parts) + text).replace("\u2581", "")
    expected = their_pieces().encode(text, add_special_tokens=False).ids
    assert of_pieces().encode(text, add_special_tokens=False).ids == expected


@settings(max_examples=60)
@given(parts=WORDS, text=TEXTS)
def test_pieces_come_back(parts: list[str], text: str) -> None:
    text = ("".join(parts) + text).replace("\u2581", "")
    tokenizer = of_pieces()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def shown(tokenizer: HFTokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text).tokens
    return tokens


def test_spaces_and_special_tokens_of_pieces() -> None:
    """As llama.cpp has them: a space before each text between special tokens."""
    assert shown(of_pieces(), "ban")[:2] == ["<s>", "\u2581ban"]
    assert shown(of_pieces(), " a") == ["<s>", "\u2581", "\u2581a"]
    assert shown(of_pieces(), "<|user|>a") == ["<s>", "<|user|>", "\u2581a"]
    plain = of_pieces(add_space_prefix=False, add_bos_token=False, add_eos_token=True)
    assert shown(plain, "a") == ["a", "</s>"]


def test_what_begins_a_text_is_as_the_file_says_or_as_its_kind_has_it() -> None:
    first = vocabulary()["tokenizer.ggml.bos_token_id"]
    for way, stated, expected in (
        ("llama-bpe", None, [first]),
        ("llama-bpe", False, []),
        ("qwen2", None, []),
        ("qwen2", True, [first]),
    ):
        fields = vocabulary() | {"tokenizer.ggml.pre": way, "tokenizer.ggml.add_bos_token": stated}
        tokenizer = HFTokenizer.from_str(json.dumps(tokenizer_of(Fields(fields))))
        assert tokenizer.encode("").ids == expected


def test_settings_name_the_special_tokens_and_the_template() -> None:
    stated = tokenizer_config_of(Fields(vocabulary()))
    assert stated["bos_token"] == "<|im_start|>"
    assert stated["eos_token"] == "<|im_end|>"
    assert "add_generation_prompt" in stated["chat_template"]
    assert "chat_template" not in tokenizer_config_of(Fields(pieces()))


SMALL = {
    "model": "gpt2",
    "pre": "gpt-2",
    "tokens": ["a", "b", "ab"],
    "merges": ["a b"],
    "token_type": [1, 1, 1],
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"model": "rwkv"},
            r"tokenizer\.ggml\.model 'rwkv' is not supported; expected one of gpt2",
        ),
        ({"pre": "new-way"}, r"tokenizer\.ggml\.pre is 'new-way'; expected one of gpt-2"),
        ({"pre": None}, r"tokenizer\.ggml\.pre is missing"),
        ({"tokens": ["a", "b", "a"]}, r"tokens has 'a' twice"),
        (
            {"tokens": [1, 2]},
            r"tokenizer\.ggml\.tokens is an array of 2; expected an array of texts",
        ),
        ({"tokens": ["a", "b", "a" * 1025]}, r"tokens has one of 1025 characters, 'aaaaaaa"),
        ({"token_type": [1]}, r"token_type has 1 entries, and there are 3 tokens"),
        ({"merges": ["a c"]}, r"merges has 'a c': not two tokens that are one together"),
        ({"merges": ["a b c"]}, r"merges has 'a b c'"),
        ({"merges": None}, r"merges is missing"),
        ({"bos_token_id": 3, "add_bos_token": True}, r"bos_token_id is 3; there are 3 tokens"),
        ({"model": "llama"}, r"scores has not one number for each of the tokens"),
    ],
)
def test_a_vocabulary_that_is_none_is_named(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    fields = {
        f"tokenizer.ggml.{key}": value
        for key, value in (SMALL | changed).items()
        if value is not None
    }
    file = write_gguf(tmp_path / "m.gguf", "llama", fields, {})
    with GgufModel(file) as model, pytest.raises(CheckpointError, match=words):
        tokenizer_of(model)
