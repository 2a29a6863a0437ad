"""The demonstration model's own byte-level BPE tokenizer and chat template.

A word and the same word after a space are cut alike: merges are learnt on words alone, and a space
joins the first token last. So the model has one spelling to learn for each word, and the
space-led twin of a token can start with the token's own embedding (see `twins`).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import short_conversation

VOCABULARY = 2048
#: How many tokens have a twin that starts with a space.
TWINS = 640
BEGIN, END, ENDOFTEXT = "<|begin|>", "<|end|>", "<|endoftext|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (ENDOFTEXT, BEGIN, END, SYSTEM, USER, ASSISTANT)

#: A turn is its role's token, the text, and the end token; nothing is added or trimmed.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message.role) }}{% endif %}"
    "{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

#: Words with their space, numbers whole (up to three digits), the comma of a list of numbers with
#: its space, runs of marks, other space.
_PIECES = r" ?\p{L}+|\p{N}{1,3}|, (?=\p{N})| ?[^\s\p{L}\p{N}]+|\s+"
#: How byte-level BPE writes a space.
_SPACE = "Ġ"


def train_tokenizer(seed: int) -> Tokenizer:
    random = Random(seed)
    pieces: Counter[str] = Counter()
    splitter = _pre_tokenizer()
    for _ in range(20_000):
        sample = short_conversation(random)
        texts = [text for turn in sample.turns for text in (turn.question, turn.answer)]
        for text in (sample.system or "", *texts):
            pieces.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    merges = _merges_of_words(pieces)
    return _tokenizer([*merges, *_merges_of_twins(pieces, merges)])


def token_id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


def twins(tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """The ids of each token and of its twin that starts with a space."""
    ids = tokenizer.get_vocab()
    return [
        (ids[token[1:]], ids[token]) for token in ids if token[0] == _SPACE and token[1:] in ids
    ]


def _merges_of_words(pieces: Counter[str]) -> list[tuple[str, str]]:
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - TWINS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    words = Counter[str]()
    for piece, times in pieces.items():
        words[piece.lstrip(_SPACE)] += times
    # The pieces are in byte-level letters already, so no pre-tokenizer may encode them again.
    tokenizer.train_from_iterator((w for w, n in sorted(words.items()) for _ in range(n)), trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def _merges_of_twins(pieces: Counter[str], merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A space joins the tokens that most often follow one."""
    tokenizer = _tokenizer(merges)
    after_space: Counter[str] = Counter()
    for piece, times in sorted(pieces.items()):
        if piece[0] == _SPACE and piece.strip(_SPACE):
            after_space[tokenizer.model.tokenize(piece[1:])[0].value] += times
    return [(_SPACE, token) for token, _ in after_space.most_common(TWINS)]


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    return pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, *(first + second for first, second in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, context_length: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": ENDOFTEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        "chat_template": CHAT_TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
