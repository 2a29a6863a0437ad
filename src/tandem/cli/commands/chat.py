"""`tandem chat`: a conversation at the terminal."""

from __future__ import annotations

import sys
from enum import Enum, auto
from typing import TYPE_CHECKING

from tandem.cli.discovery import Section
from tandem.cli.options import AnswerOptions, ClientTimeout, ServiceOptions
from tandem.cli.output import note
from tandem.coordinator import DEFAULT_REQUEST_TIMEOUT_S
from tandem.errors import TandemError

if TYPE_CHECKING:
    from tandem.client import ChatRequest, Client

SECTION = Section.USE

_PROMPT = "> "
_HELP = """/help   this text
/clear  forget the conversation
/exit   leave (Ctrl-D does too)
Ctrl-C stops the answer."""


def chat(
    answer: AnswerOptions,
    service: ServiceOptions,
    timeout: ClientTimeout = DEFAULT_REQUEST_TIMEOUT_S,
) -> None:
    """Talks with a model, at the terminal.

    \b
    Examples:
      tandem chat
      tandem chat --system "You are a pirate" --temperature 0.7
      TANDEM_API_KEY=... tandem chat --base-url https://llm.example.org/v1
    """
    from tandem.client import Client

    with Client(service.endpoint(), timeout_s=timeout) as client:
        settings = answer.request(client, [])
        _enable_line_editing()
        note(f"Talking to {settings.model}. /help shows the commands, Ctrl-D leaves.")
        Conversation(client, settings, answer.system).run()


class _Next(Enum):
    """What follows a line that was typed."""

    GO_ON = auto()
    LEAVE = auto()


class Conversation:
    """The messages so far, and the loop that grows them."""

    def __init__(self, client: Client, settings: ChatRequest, system: str | None) -> None:
        from tandem.cli.failures import as_text
        from tandem.client import Message

        self._client = client
        self._settings = settings
        self._opening = [Message("system", as_text(system))] if system else []
        self._messages = list(self._opening)

    def run(self) -> None:
        while True:
            try:
                line = input(_PROMPT if sys.stdin.isatty() else "").strip()
            except EOFError:
                if sys.stdin.isatty():
                    sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                note("/exit or Ctrl-D leaves.")
                continue
            if self.take(line) is _Next.LEAVE:
                return

    def take(self, line: str) -> _Next:
        """Runs a command, or asks the model."""
        match line:
            case "":
                pass
            case "/exit" | "/quit":
                return _Next.LEAVE
            case "/help":
                note(_HELP)
            case "/clear":
                self._messages = list(self._opening)
                note("The conversation is forgotten.")
            case _ if line.startswith("/"):
                note(f"There is no command {line.split(maxsplit=1)[0]}: /help shows them.")
            case _:
                self._ask(line)
        return _Next.GO_ON

    def _ask(self, question: str) -> None:
        """An answer that was stopped half-way stays in the conversation; one that failed does not.

        A failure ends neither the chat nor the conversation: it is shown, and the question can be
        asked again.
        """
        import msgspec

        from tandem.cli.failures import report
        from tandem.cli.output import write_text
        from tandem.client import Message, receive

        asked = [*self._messages, Message("user", question)]
        request = msgspec.structs.replace(self._settings, messages=asked)
        try:
            answer = receive(self._client, request, on_text=write_text)
        except TandemError as error:
            write_text("\n")
            report(error)
            return
        write_text("\n")
        if answer.interrupted:
            note("(stopped)")
        if answer.text:
            self._messages = [*asked, Message("assistant", answer.text)]


def _enable_line_editing() -> None:
    """Arrow keys and a history for `input`, where Python was built with readline."""
    try:
        import readline  # noqa: F401 - importing it is what enables it
    except ImportError:
        return
