"""Between text and tokens: tokenizer, chat template, streaming detokenizer."""

from __future__ import annotations
