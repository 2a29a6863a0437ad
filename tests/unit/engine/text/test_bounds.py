"""No text has fewer tokens than its bytes say, whatever the tokenizer does to it."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tandem.engine import DEMO_MODEL, resolve_model
from tandem.engine.text.bounds import max_token_bytes
from tandem.engine.text.byte_alphabet import BYTE_OF

DEMO = Tokenizer.from_file(str(resolve_model(DEMO_MODEL) / "tokenizer.json"))
#: Beyond are characters that no form changes: private ones, tags, and those yet to come.
_ASSIGNED = 0x32000
LETTERS = {"a": 256, "aa": 257, "aaaa": 258}
FALLBACK = {f"<0x{byte:02X}>": byte for byte in range(256)}


def byte_level(pieces: dict[str, int] | None = None, **parts: Any) -> Any:  # noqa: ANN401 - untyped
    vocabulary = {letter: number for number, letter in enumerate(BYTE_OF)} | {"aa": 256}
    tokenizer: Any = Tokenizer(models.BPE(pieces or vocabulary, [("a", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def with_fallback(**options: Any) -> Any:  # noqa: ANN401 - untyped
    pieces = FALLBACK | LETTERS
    return Tokenizer(models.BPE(pieces, [("a", "a"), ("aa", "aa")], **options))


BOUNDED = {
    "the demonstration model": (DEMO, None),
    "bytes": (byte_level(), 2),
    "bytes in NFC": (byte_level(normalizer=normalizers.NFC()), 6),
    "bytes in NFKC": (byte_level(normalizer=normalizers.NFKC()), 8),
    "bytes of pieces": (
        byte_level(
            pre_tokenizer=pre_tokenizers.Sequence(
                [pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
            )
        ),
        2,
    ),
    "fallback to bytes": (with_fallback(byte_fallback=True), 6),
}
UNBOUNDED = {
    "unknown words": Tokenizer(models.WordLevel({"[UNK]": 0}, "[UNK]")),
    "unknown pieces": with_fallback(unk_token="a", fuse_unk=True),
    "a byte without a token": byte_level({"a": 0, "aa": 1}),
    "stripped spaces": byte_level(normalizer=normalizers.Strip()),
    "stripped accents": byte_level(normalizer=normalizers.StripAccents()),
    "runs that are replaced": byte_level(normalizer=normalizers.Replace("  ", " ")),
    "removed spaces": byte_level(
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(use_regex=False)]
        )
    ),
    "words between spaces": byte_level(pre_tokenizer=pre_tokenizers.Whitespace()),
}


@pytest.mark.parametrize("case", BOUNDED)
@given(text=st.text(max_size=200) | st.text(alphabet="a \u1100\u1161\u11a8\u0301", max_size=200))
@settings(deadline=None, max_examples=60)
def test_no_text_has_fewer_tokens_than_the_bound_says(case: str, text: str) -> None:
    tokenizer, expected = BOUNDED[case]
    most = max_token_bytes(tokenizer)
    assert expected is None or most == expected
    tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    assert tokens * most >= len(text.encode())


@pytest.mark.parametrize("case", UNBOUNDED)
def test_what_may_lose_text_has_no_bound(case: str) -> None:
    assert max_token_bytes(UNBOUNDED[case]) == 0


def test_a_special_token_that_swallows_spaces_has_no_bound() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    assert max_token_bytes(tokenizer) == 0


@pytest.mark.parametrize(("form", "factor"), [("NFC", 3), ("NFD", 3), ("NFKC", 4), ("NFKD", 4)])
def test_characters_shrink_by_no_more_than_is_reckoned_with(form: Any, factor: int) -> None:  # noqa: ANN401 - of four names
    for code in range(_ASSIGNED):
        if 0xD800 <= code < 0xE000:
            continue
        character = chr(code)
        shortest = len(unicodedata.normalize(form, character).encode())
        longest = len(unicodedata.normalize("NFD", character).encode())
        assert max(len(character.encode()), longest) <= factor * shortest
    assert len("\u1100\u1161\u11a8".encode()) == 3 * len("\uac01".encode())


def test_lower_case_shrinks_by_no_more_than_is_reckoned_with() -> None:
    for code in range(_ASSIGNED):
        if not 0xD800 <= code < 0xE000:
            assert len(chr(code).encode()) <= 3 * len(chr(code).lower().encode())
