"""A model's tokenizer and chat template, from `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tandem.engine.checkpoint.files import read_json
from tandem.errors import CheckpointError, InvalidRequest

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    name: str | None = None


class _SpecialToken(msgspec.Struct, frozen=True):
    content: str


class _NamedTemplate(msgspec.Struct, frozen=True):
    name: str
    template: str


class _Settings(msgspec.Struct, frozen=True):
    chat_template: str | list[_NamedTemplate] | None = None
    bos_token: str | _SpecialToken | None = None
    eos_token: str | _SpecialToken | None = None


class Tokenizer:
    """Text ↔ token ids. Safe to call from several threads."""

    def __init__(self, directory: Path) -> None:
        """Raises CheckpointError naming the file that is missing or malformed."""
        self._tokenizer = _load(directory / "tokenizer.json")
        settings_path = directory / "tokenizer_config.json"
        settings = read_json(settings_path, _Settings) if settings_path.exists() else _Settings()
        self._special = {
            "bos_token": _text(settings.bos_token),
            "eos_token": _text(settings.eos_token),
        }
        self._template = _compile(_template_source(directory, settings), directory)
        self._byte_level = "ByteLevel" in repr(self._tokenizer.decoder)

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt, with the special tokens that the model expects around it."""
        return list(self._tokenizer.encode(text).ids)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, rendered up to where the assistant answers.

        Raises InvalidRequest when there is no template or the template refuses the messages.
        """
        if self._template is None:
            raise InvalidRequest(
                "this model has no chat template; use /v1/completions", param="messages"
            )
        try:
            text = self._template.render(
                messages=[msgspec.to_builtins(message) for message in messages],
                add_generation_prompt=True,
                **self._special,
            )
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def token_text(self, token_id: int) -> str:
        """One token by itself, as logprobs show it; special tokens by their name."""
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

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
    try:
        return HFTokenizer.from_file(str(path))
    # The library raises plain Exception, and nothing narrower, for every malformed file.
    except Exception as error:
        raise CheckpointError(f"{path}: not a tokenizer: {error}") from error


def _text(token: str | _SpecialToken | None) -> str:
    if token is None:
        return ""
    return token if isinstance(token, str) else token.content


def _template_source(directory: Path, settings: _Settings) -> str | None:
    beside = directory / "chat_template.jinja"
    if beside.exists():
        return beside.read_text(encoding="utf-8")
    if isinstance(settings.chat_template, list):
        named = {entry.name: entry.template for entry in settings.chat_template}
        return named.get("default")
    return settings.chat_template


def _compile(source: str | None, directory: Path) -> jinja2.Template | None:
    """Templates come with the model: they run in Jinja's sandbox."""
    if source is None:
        return None
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise CheckpointError(f"{directory}: the chat template does not parse: {error}") from error


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(format_string: str) -> str:
    return datetime.now().astimezone().strftime(format_string)


def _byte_alphabet() -> dict[str, int]:
    """The printable characters that byte-level BPE writes bytes as (GPT-2, 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    mapping = {chr(byte): byte for byte in printable}
    return mapping | {chr(256 + offset): byte for offset, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
