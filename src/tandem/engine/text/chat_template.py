"""Chat templates as `transformers` reads and renders them, from the files that may hold them.

A template comes with the model, from whoever made it: it runs in Jinja's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import jinja2
import msgspec
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tandem.engine.checkpoint.files import convert, is_there, read_json, read_text, reading
from tandem.engine.text.failures import reason
from tandem.engine.text.special_tokens import SETTINGS_FILE, Settings
from tandem.errors import CheckpointError, ContextLengthExceeded, InvalidRequest, TandemError

_TEMPLATE_FILE = "chat_template.jinja"
_TEMPLATE_FOLDER = "additional_chat_templates"
#: Written for processors of images and sounds; taken where nothing else has a template.
_PROCESSOR_FILE = "chat_template.json"
_DEFAULT = "default"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    name: str | None = None


class _NamedTemplate(msgspec.Struct, frozen=True):
    name: str
    template: str


class _Stated(msgspec.Struct, frozen=True):
    """What a file's `chat_template` may be."""

    chat_template: str | dict[str, str] | list[_NamedTemplate] | None = None

    def by_name(self) -> dict[str, str]:
        stated = self.chat_template
        if stated is None or isinstance(stated, str):
            return {} if stated is None else {_DEFAULT: stated}
        if isinstance(stated, list):
            return {entry.name: entry.template for entry in stated}
        return stated


class ChatTemplate:
    """A compiled template, and the special tokens that it knows by name."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], directory: Path) -> None:
        """Raises CheckpointError when the template does not parse."""
        self._special_tokens = special_tokens
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateSyntaxError, RecursionError, SyntaxError) as error:
            raise CheckpointError(
                f"{directory}: the chat template does not parse: {error}"
            ) from error

    def render(self, messages: Sequence[Message], most_bytes: int | None = None) -> str:
        """The conversation up to where the assistant answers.

        Raises InvalidRequest when the template refuses the messages, or fails on them, and
        ContextLengthExceeded once it is sure that there are more than `most_bytes`.
        """
        variables = {
            **self._special_tokens,
            "messages": [msgspec.to_builtins(message) for message in messages],
            # Templates ask whether they are None, which what is undefined is not.
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
        }
        try:
            return _joined(self._template.generate(variables), most_bytes)
        except TandemError:
            raise
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {reason(error)}",
                param="messages",
            ) from error
        # A template is a program that came with the model: it may raise anything.
        except Exception as error:
            raise InvalidRequest(
                "the model's chat template fails on these messages: "
                f"{type(error).__name__}: {reason(error)}",
                param="messages",
            ) from error


def _joined(pieces: Iterable[str], most_bytes: int | None) -> str:
    """A character has a byte at least: what is counted here is never too much."""
    found, size = [], 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if most_bytes is not None and size > most_bytes:
            raise ContextLengthExceeded(
                f"the chat template makes more than {most_bytes} bytes of these messages, which no "
                "tokenisation fits into this model's context; shorten them",
                param="messages",
            )
    return "".join(found)


def template_source(directory: Path, settings: Settings) -> str | None:
    """The template for a plain conversation; `settings` are those of `tokenizer_config.json`.

    Files of their own come before it, all together. Raises CheckpointError.
    """
    processor = directory / _PROCESSOR_FILE
    sources = _files_of_their_own(directory)
    if not sources:
        sources = convert(settings, _Stated, directory / SETTINGS_FILE).by_name()
    if not sources and is_there(processor):
        sources = read_json(processor, _Stated).by_name()
    return sources.get(_DEFAULT)


def _files_of_their_own(directory: Path) -> dict[str, str]:
    folder = directory / _TEMPLATE_FOLDER
    with reading(folder):
        files = sorted(folder.glob("*.jinja"))
    sources = {path.stem: read_text(path) for path in files}
    if is_there(directory / _TEMPLATE_FILE):
        sources.setdefault(_DEFAULT, read_text(directory / _TEMPLATE_FILE))
    return sources


class _Generation(Extension):
    """`{% generation %}` marks for training what the assistant says; here it is what it holds."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own attribute

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Scope:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
        # Nothing is computed while it is compiled, where no limit holds: no `9 ** (9 ** 9)`.
        optimized=False,
        finalize=_as_it_is,
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


@jinja2.pass_context
def _as_it_is(_context: jinja2.runtime.Context, value: object) -> object:
    """Asks for the context, which there is none of before a template is rendered."""
    return value


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(format_string: str) -> str:
    """The machine's own time, of which `%Z` says nothing."""
    return datetime.now().astimezone().replace(tzinfo=None).strftime(format_string)
