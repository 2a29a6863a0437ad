"""A model's tokenizer and chat template, from `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.engine.checkpoint.files import read_bounded
from tandem.engine.text.chat_template import ChatTemplate, Message, template_source
from tandem.engine.text.failures import no_panic, reason
from tandem.engine.text.special_tokens import add_special_tokens, read_settings
from tandem.errors import CheckpointError, InvalidRequest

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

#: The largest vocabularies of today take 40 MiB.
_MAX_TOKENIZER_BYTES = 128 * 2**20


class Tokenizer:
    """Text ↔ token ids. Safe to call from several threads."""

    def __init__(self, directory: Path) -> None:
        """Raises CheckpointError naming the file that is missing or malformed."""
        self._tokenizer = _load(directory / "tokenizer.json")
        settings = read_settings(directory)
        special = add_special_tokens(self._tokenizer, directory, settings)
        _forget_training(self._tokenizer)
        self._tokenizer.encode_special_tokens = settings.get("split_special_tokens") is True
        source = template_source(directory, settings)
        self._template = None if source is None else ChatTemplate(source, special, directory)
        self._byte_level = "ByteLevel" in repr(self._tokenizer.decoder)
        #: What ends a text by the tokenizer's own word.
        self.eos_token_id = self._tokenizer.token_to_id(special.get("eos_token", ""))

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt, with the special tokens that the model expects around it.

        Raises InvalidRequest for text that has no tokens, as lone surrogates have none.
        """
        return self._ids(text, special=True)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, rendered up to where the assistant answers.

        Raises InvalidRequest when there is no template or the template refuses the messages.
        """
        if self._template is None:
            raise InvalidRequest(
                "this model has no chat template; use /v1/completions", param="messages"
            )
        return self._ids(self._template.render(messages), special=False)

    @no_panic
    def _ids(self, text: str, *, special: bool) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=special).ids)
        # The library raises plain Exception, TypeError, UnicodeError: all of them for the text.
        except Exception as error:
            raise InvalidRequest(
                f"this text cannot be tokenised: {reason(error)}", param="prompt"
            ) from error

    @no_panic
    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True)

    @no_panic
    def token_text(self, token_id: int) -> str:
        """One token by itself, as logprobs show it; special tokens by their name."""
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    @no_panic
    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: exact where `token_text` can only show U+FFFD."""
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:
            return b""
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        if self._byte_level and all(character in _BYTE_OF for character in piece):
            return bytes(_BYTE_OF[character] for character in piece)
        return self.token_text(token_id).encode()


def _load(path: Path) -> HFTokenizer:
    from tokenizers import Tokenizer as HFTokenizer

    if not path.exists():
        raise CheckpointError(f"{path}: missing; a model needs its fast tokenizer in this file")
    content = read_bounded(path, _MAX_TOKENIZER_BYTES)
    try:
        return HFTokenizer.from_buffer(content)
    # The library raises plain Exception, and nothing narrower, for every malformed file.
    except Exception as error:
        raise CheckpointError(f"{path}: not a tokenizer: {error}") from error


def _forget_training(tokenizer: HFTokenizer) -> None:
    """Cuts and fills prompts no longer to the length of a training script's batches."""
    tokenizer.no_truncation()
    tokenizer.no_padding()


def _byte_alphabet() -> dict[str, int]:
    """The printable characters that byte-level BPE writes bytes as (GPT-2, 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    mapping = {chr(byte): byte for byte in printable}
    return mapping | {chr(256 + offset): byte for offset, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
