"""Turns conversations into training rows: token ids, and how much each next token counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import torch
from tokenizers import Tokenizer

from corpus import Conversation, long_conversation, short_conversation
from tokenizer import ASSISTANT, BEGIN, END, SYSTEM, USER, token_id

#: Rows and their length. Most steps see short conversations; every fifth sees a long context.
SHORT_ROWS, SHORT_LENGTH = 24, 256
LONG_ROWS, LONG_LENGTH = 5, 1280
LONG_EVERY = 5
#: For the last mark of an answer, and for its end.
LEAST_END_WEIGHT = 0.3

Batch = tuple[torch.Tensor, torch.Tensor]


def encode(tokenizer: Tokenizer, conversation: Conversation) -> tuple[list[int], list[float]]:
    """Token ids as the chat template writes them, and their weights in the loss.

    Only the assistant's answers count. A long answer is mostly easy tokens, so an answer of n
    tokens weighs as much as the square root of n; but where it ends is never easy.
    """
    ids, weights = [token_id(tokenizer, BEGIN)], [0.0]
    end = token_id(tokenizer, END)

    def put(role: str, text: str, *, learnt: bool = False) -> None:
        words = [*tokenizer.encode(text, add_special_tokens=False).ids, end]
        weight = len(words) ** -0.5 if learnt else 0.0
        last = max(weight, LEAST_END_WEIGHT) if learnt else 0.0
        ids.extend((token_id(tokenizer, role), *words))
        weights.extend((0.0, *[weight] * (len(words) - 2), *[last] * min(2, len(words))))

    if conversation.system is not None:
        put(SYSTEM, conversation.system)
    for turn in conversation.turns:
        put(USER, turn.question)
        put(ASSISTANT, turn.answer, learnt=turn.learnt)
    return ids, weights


def pack(
    tokenizer: Tokenizer,
    draw: Callable[[Random], Conversation],
    random: Random,
    count: int,
    length: int,
) -> Batch:
    """Each row starts with a whole conversation; later ones see what came before them."""
    rows: list[list[int]] = []
    weights: list[list[float]] = []
    for _ in range(count):
        row: list[int] = []
        row_weights: list[float] = []
        while len(row) < length:
            more, more_weights = encode(tokenizer, draw(random))
            row += more
            row_weights += more_weights
        rows.append(row[:length])
        weights.append(row_weights[:length])
    return torch.tensor(rows), torch.tensor(weights)


def batches(tokenizer: Tokenizer, seed: int) -> Iterator[Batch]:
    random = Random(seed)
    step = 0
    while True:
        step += 1
        if step % LONG_EVERY == 0:
            yield pack(tokenizer, long_conversation, random, LONG_ROWS, LONG_LENGTH)
        else:
            yield pack(tokenizer, short_conversation, random, SHORT_ROWS, SHORT_LENGTH)
