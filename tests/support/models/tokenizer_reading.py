"""A model folder as Tandem reads it, and as `transformers` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from transformers import AutoTokenizer

from tandem.engine import Message, Tokenizer
from tandem.errors import InvalidRequest

TEXTS = ["", "the <new> fox<|end|> and <tool call>", " <|begin|> the né the<|endoftext|>\n\n x"]
CHATS = [
    [Message("user", "Hello! What is 3 + 4?")],
    [
        Message("system", "Be brief <|end|> "),
        Message("user", "the quick brown fox runs over the lazy dog and sleeps", name="ann"),
        Message("assistant", "né"),
        Message("user", "more"),
    ],
]


#: Ids on both sides of the shipped vocabulary's ends.
IDS = [*range(6), *range(2040, 2056)]


class TokenizerRead(NamedTuple):
    """What came of a folder; None for a chat that is refused."""

    texts: list[list[int]]
    chats: list[list[int] | None]
    shown: list[str]
    end: int | None


def ours(folder: Path) -> TokenizerRead:
    tokenizer = Tokenizer(folder)

    def chat(messages: list[Message]) -> list[int] | None:
        try:
            return tokenizer.encode_chat(messages)
        except InvalidRequest:
            return None

    return TokenizerRead(
        [tokenizer.encode(text) for text in TEXTS],
        [chat(messages) for messages in CHATS],
        [tokenizer.decode([number]) for number in IDS],
        tokenizer.eos_token_id,
    )


def theirs(folder: Path) -> TokenizerRead:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def chat(messages: list[Message]) -> list[int] | None:
        plain = [{"role": m.role, "content": m.content, "name": m.name} for m in messages]
        try:
            ids: list[int] = tokenizer.apply_chat_template(
                plain, add_generation_prompt=True, return_dict=False
            )
        except (jinja2.TemplateError, ValueError):
            return None
        return ids

    return TokenizerRead(
        [tokenizer(text)["input_ids"] for text in TEXTS],
        [chat(messages) for messages in CHATS],
        [tokenizer.decode([number], skip_special_tokens=True) for number in IDS],
        tokenizer.eos_token_id,
    )
