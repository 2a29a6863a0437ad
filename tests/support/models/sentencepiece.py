"""A tokenizer as exports of SentencePiece are: spaces as characters, bytes to fall back on."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

_SPACE = "\u2581"
_SPECIAL = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{number:02X}>" for number in range(256)]
_LESSON = ["the quick brown fox runs over the lazy dog", "hello world, be brief", "[INST] [/INST]"]


def sentencepiece_tokenizer() -> dict[str, Any]:
    """A `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=_SPECIAL + _BYTES, show_progress=False
    )
    tokenizer.train_from_iterator(_LESSON * 20, trainer)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][: len(_SPECIAL)]
    return content


def sentencepiece_settings(**fields: object) -> dict[str, Any]:
    """A `tokenizer_config.json` beside it."""
    template = (
        "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]</s> x{% endfor %}"
    )
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return {**named, "add_bos_token": True, "chat_template": template, **fields}
