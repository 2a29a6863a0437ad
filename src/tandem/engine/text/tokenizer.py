"""A model's tokenizer and chat template, from `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.engine.checkpoint.files import is_there, read_bounded
from tandem.engine.text.bounds import max_token_bytes
from tandem.engine.text.byte_alphabet import BYTE_OF
from tandem.engine.text.chat_template import ChatTemplate, Message, template_source
from tandem.engine.text.failures import is_panic, no_panic, reason
from tandem.engine.text.special_tokens import add_special_tokens, read_settings
from tandem.engine.text.tokenizer_class import apply_tokenizer_class
from tandem.errors import CheckpointError, ContextLengthExceeded, InvalidRequest

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

#: The largest vocabularies of today take 40 MiB.
_MAX_TOKENIZER_BYTES = 128 * 2**20


#: Text that fits has seldom more a token; what has more is first looked at by pieces.
_USUAL_CHARACTERS = 8
_PIECE_CHARACTERS = 16 * 1024


class Tokenizer:
    """Text ↔ token ids. Safe to call from several threads."""

    def __init__(self, directory: Path) -> None:
        """Raises CheckpointError naming the file that is missing or malformed."""
        self._tokenizer = _load(directory / "tokenizer.json")
        settings = read_settings(directory)
        apply_tokenizer_class(self._tokenizer, directory, settings)
        special = add_special_tokens(self._tokenizer, directory, settings)
        _forget_training(self._tokenizer)
        self._tokenizer.encode_special_tokens = settings.get("split_special_tokens") is True
        source = template_source(directory, settings)
        self._template = None if source is None else ChatTemplate(source, special, directory)
        self._byte_level = "ByteLevel" in repr(self._tokenizer.decoder)
        #: The most bytes of text that one token stands for; 0 where there is no saying.
        self.max_token_bytes = max_token_bytes(self._tokenizer)
        self._shown: dict[int, tuple[str, bytes]] = {}
        #: What ends a text by the tokenizer's own word.
        self.eos_token_id = self._tokenizer.token_to_id(special.get("eos_token", ""))

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str, most_tokens: int | None = None) -> list[int]:
        """Ids of a plain prompt, with the special tokens that the model expects around it.

        Raises InvalidRequest for text that has no tokens, as lone surrogates have none, and
        ContextLengthExceeded for more than `most_tokens`: before it is tokenised, where its bytes
        say so.
        """
        return self._ids(text, most_tokens, special=True)

    def encode_chat(self, messages: Sequence[Message], most_tokens: int | None = None) -> list[int]:
        """Ids of a conversation, rendered up to where the assistant answers.

        Raises as `encode` does, and InvalidRequest when there is no template or the template
        refuses the messages.
        """
        if self._template is None:
            raise InvalidRequest(
                "this model has no chat template; use /v1/completions", param="messages"
            )
        text = self._template.render(messages, self._most_bytes(most_tokens))
        return self._ids(text, most_tokens, special=False)

    def _most_bytes(self, most_tokens: int | None) -> int | None:
        return (most_tokens or 0) * self.max_token_bytes or None

    def _ids(self, text: str, most_tokens: int | None, *, special: bool) -> list[int]:
        most_bytes = self._most_bytes(most_tokens)
        if most_bytes is not None and len(text.encode("utf-8", "surrogatepass")) > most_bytes:
            raise ContextLengthExceeded(
                f"more than {most_bytes} bytes do not fit this model's {most_tokens} tokens, "
                "however they are tokenised; shorten the prompt",
                param="prompt",
            )
        if most_tokens is not None and len(text) > _USUAL_CHARACTERS * most_tokens:
            self._refuse_by_pieces(text, most_tokens)
        ids = self._tokenised(text, special=special)
        if most_tokens is not None and len(ids) > most_tokens:
            raise ContextLengthExceeded(
                f"{len(ids)} prompt tokens exceed this model's {most_tokens} tokens; "
                "shorten the prompt",
                param="prompt",
            )
        return ids

    def _refuse_by_pieces(self, text: str, most_tokens: int) -> None:
        """Raises ContextLengthExceeded as soon as pieces have far more tokens than may be.

        So a book costs no more than what would fit. Cuts change some tokens beside them, which is
        why twice as many must have been seen.
        """
        seen = 0
        for start in range(0, len(text), _PIECE_CHARACTERS):
            seen += len(self._tokenised(text[start : start + _PIECE_CHARACTERS], special=False))
            if seen > 2 * most_tokens:
                raise ContextLengthExceeded(
                    f"the prompt's beginning alone has {seen} tokens, and this model takes "
                    f"{most_tokens}; shorten the prompt",
                    param="prompt",
                )

    @no_panic
    def _tokenised(self, text: str, *, special: bool) -> list[int]:
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
        if self._byte_level and all(character in BYTE_OF for character in piece):
            return bytes(BYTE_OF[character] for character in piece)
        return self.token_text(token_id).encode()

    @no_panic
    def disagreement(self, other: Tokenizer) -> int | None:
        """The first id that stands for another token there; None if both mean the same by all."""
        own, others = self._tokens(), other._tokens()
        shared = own.keys() & others.keys()
        return min((one for one in shared if own[one] != others[one]), default=None)

    def _tokens(self) -> dict[int, str]:
        return {number: token for token, number in self._tokenizer.get_vocab().items()}

    def shown(self, token_id: int) -> tuple[str, bytes]:
        """Text and bytes of a token that the vocabulary has, made once.

        With log probabilities every token is shown with twenty others.
        """
        if (found := self._shown.get(token_id)) is None:
            found = self._shown[token_id] = self.token_text(token_id), self.token_bytes(token_id)
        return found


def _load(path: Path) -> HFTokenizer:
    from tokenizers import Tokenizer as HFTokenizer

    if not is_there(path):
        raise CheckpointError(f"{path}: missing; a model needs its fast tokenizer in this file")
    content = read_bounded(path, _MAX_TOKENIZER_BYTES)
    try:
        return HFTokenizer.from_buffer(content)
    # The library raises plain Exception, and nothing narrower, for every malformed file; or panics.
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise CheckpointError(f"{path}: not a tokenizer: {reason(error)}") from error


def _forget_training(tokenizer: HFTokenizer) -> None:
    """Cuts and fills prompts no longer to the length of a training script's batches."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
