"""A tokenizer's special tokens, from every file that may hold them, as `transformers` reads them.

`tokenizer_config.json` names them; in older folders `special_tokens_map.json` does, and
`added_tokens.json` has those that were added later. What `tokenizer.json` lacks is added to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tandem.engine.checkpoint.files import convert, is_there, read_json

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as HFTokenizer

SETTINGS_FILE = "tokenizer_config.json"
_MAP_FILE = "special_tokens_map.json"
_ADDED_FILE = "added_tokens.json"

_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_EXTRA = ("extra_special_tokens", "additional_special_tokens")

Settings = Mapping[str, Any]


class _Token(msgspec.Struct, frozen=True):
    """A token as both libraries write it; None: as the library has it by default."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool | None = None


class _Decoder(msgspec.Struct, frozen=True):
    added_tokens_decoder: dict[int, _Token]


class _Declared(NamedTuple):
    """What the files say: tokens by their name, those without, and what is added by id."""

    named: dict[str, _Token]
    extra: list[_Token]
    by_id: dict[int, AddedToken]


def read_settings(directory: Path) -> Settings:
    """`tokenizer_config.json`, or nothing where it is not there. Raises CheckpointError."""
    path = directory / SETTINGS_FILE
    return read_json(path, dict[str, Any]) if is_there(path) else {}


def add_special_tokens(
    tokenizer: HFTokenizer, directory: Path, settings: Settings
) -> dict[str, str]:
    """Completes the tokenizer; returns the special tokens by their names, as templates know them.

    Raises CheckpointError naming the file and the field.
    """
    if tokenizer.padding is not None:
        settings = {"pad_token": tokenizer.padding["pad_token"], **settings}
    declared = _declared(tokenizer, directory, settings)
    tokenizer.add_tokens(_additions(tokenizer, declared))
    return {name: token.content for name, token in declared.named.items()}


def _declared(tokenizer: HFTokenizer, directory: Path, settings: Settings) -> _Declared:
    path = directory / SETTINGS_FILE
    if "added_tokens_decoder" in settings:
        by_id = convert(settings, _Decoder, path).added_tokens_decoder
        named, extra = _by_name(settings, path)
        return _Declared(named, extra, {number: _made(token) for number, token in by_id.items()})
    beside = directory / _MAP_FILE
    if is_there(beside):
        path, settings = beside, {**settings, **_as_special(read_json(beside, dict[str, Any]))}
    named, extra = _by_name(settings, path)
    later = _added_later(directory, [*named.values(), *extra])
    return _Declared(named, extra, later | tokenizer.get_added_tokens_decoder())


def _as_special(stated: dict[str, Any]) -> dict[str, Any]:
    """Whatever the map has as an object is special; it does not say so itself."""
    return {
        name: value | {"special": True} if isinstance(value, dict) and "content" in value else value
        for name, value in stated.items()
    }


def _by_name(settings: Settings, path: Path) -> tuple[dict[str, _Token], list[_Token]]:
    """The named tokens in `_NAMES`' order, a model's own after them, and those without a name."""
    stated = {name: settings.get(name) for name in _NAMES}
    stated |= {
        name: value
        for name, value in settings.items()
        if name.endswith("_token") and name not in _NAMES and isinstance(value, str)
    }
    extra: Any = next((settings[field] for field in _EXTRA if settings.get(field)), [])
    if isinstance(extra, dict):
        stated, extra = stated | extra, []
    given = {name: value for name, value in stated.items() if value is not None}
    tokens = convert(given, dict[str, str | _Token], path)
    named = {name: _as_token(token) for name, token in tokens.items()}
    return named, [_as_token(token) for token in convert(extra, list[str | _Token], path)]


def _as_token(token: str | _Token) -> _Token:
    return _Token(token) if isinstance(token, str) else token


def _added_later(directory: Path, special: Iterable[_Token]) -> dict[int, AddedToken]:
    """Of `added_tokens.json`, in which a token is its text and id alone."""
    path = directory / _ADDED_FILE
    if not is_there(path):
        return {}
    known = {token.content for token in special}
    return {
        number: _made(_Token(text, special=text in known))
        for text, number in read_json(path, dict[str, int]).items()
    }


def _additions(tokenizer: HFTokenizer, declared: _Declared) -> list[AddedToken]:
    """In the order of their ids, then of their names; what is there takes these flags."""
    named = {token.content for token in declared.named.values()}
    found = [token for _, token in sorted(declared.by_id.items())]
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    known |= {token.content for token in found}
    stated = [*declared.named.values(), *declared.extra]
    found += [_made(token, special=True) for token in stated if token.content not in known]
    for token in found:
        token.special = token.special or token.content in named
    return found


def _made(token: _Token, *, special: bool = False) -> AddedToken:
    from tokenizers import AddedToken

    is_special = special if token.special is None else token.special
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=not is_special if token.normalized is None else token.normalized,
        special=is_special,
    )
