"""`tandem run`: one question, one answer, streamed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tandem.cli.discovery import Section
from tandem.cli.failures import ExitCode, as_text
from tandem.cli.options import AnswerOptions, ClientTimeout, Json, ServiceOptions
from tandem.cli.output import note, print_json
from tandem.coordinator import DEFAULT_REQUEST_TIMEOUT_S
from tandem.errors import ConfigurationError

SECTION = Section.USE


def run(
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    options: AnswerOptions,
    service: ServiceOptions,
    json: Json = False,
    timeout: ClientTimeout = DEFAULT_REQUEST_TIMEOUT_S,
) -> None:
    """Asks one question and streams the answer to stdout.

    \b
    Examples:
      tandem run "Tell me a story about a fox"
      tandem run --temperature 0 --max-tokens 50 "Once upon a time"
      git diff | tandem run --system "Summarise this change" -
      tandem run --json "Hello" | jq -r .text
    """
    from tandem.cli.output import write_text
    from tandem.client import Client, Message, receive

    question = sys.stdin.read() if prompt == "-" else as_text(prompt)
    if not question.strip():
        raise ConfigurationError("the prompt is empty: give one, or pipe one in with `-`")
    messages = [Message("system", as_text(options.system))] if options.system else []
    messages.append(Message("user", question))
    with Client(service.endpoint(), timeout_s=timeout) as client:
        request = options.request(client, messages)
        answer = receive(client, request, on_text=_discard if json else write_text)
    if json:
        print_json({"model": request.model, **_fields(answer)})
    else:
        write_text("\n")
    if answer.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if answer.finish_reason == "length" and not json:
        note("(cut off at the longest answer allowed: raise --max-tokens for more)")


def _discard(text: str) -> None:
    """JSON shows the answer when it is whole."""


def _fields(answer: object) -> dict[str, object]:
    import msgspec

    fields = msgspec.to_builtins(answer)
    assert isinstance(fields, dict)
    return fields
