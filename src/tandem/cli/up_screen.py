"""What `tandem up` shows: progress and events on stderr, the result on stdout."""

from __future__ import annotations

import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tandem.cli.output import note, print_json, print_plain, printable, stderr
from tandem.runtime import default_data_dir
from tandem.up import UpOptions, UpReady

if TYPE_CHECKING:
    from rich.status import Status


class TerminalScreen:
    """`tandem.up`'s screen. On a terminal what is waited for spins; elsewhere it is a line.

    A terminal may go away (SIGHUP) while there is still something to stop: writing to it then
    fails, and must not keep anybody from stopping it.
    """

    def __init__(self, options: UpOptions, *, as_json: bool) -> None:
        self._options = options
        self._as_json = as_json
        self._status: Status | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.settle()

    def progress(self, text: str) -> None:
        with suppress(OSError):
            if not stderr().is_terminal:
                note(f"{text} ...")
            elif self._status is None:
                self._status = stderr().status(text)
                self._status.start()
            else:
                self._status.update(text)

    def settle(self) -> None:
        """Nothing is waited for any more."""
        status, self._status = self._status, None
        if status is not None:
            with suppress(OSError):
                status.stop()

    def note(self, text: str) -> None:
        with suppress(OSError):
            note(text)

    def echo(self, name: str, line: str) -> None:
        with suppress(OSError):
            stderr().print(f"[{name}] {printable(line)}", markup=False, soft_wrap=True)

    def ready(self, ready: UpReady) -> None:
        self.settle()
        if self._as_json:
            print_json(ready)
        else:
            print_plain(_banner(ready, self._options))


def _banner(ready: UpReady, options: UpOptions) -> str:
    model = ready.models[0]
    providers = ", ".join(map(str, ready.processes.providers))
    trusted, authority, python = "", "", "pip install openai"
    if ready.certificate is not None:
        quoted = shlex.quote(ready.certificate)
        trusted = f"\n  Trust      {ready.certificate}, in clients that are not Tandem's"
        authority, python = f" --cacert {quoted}", f"{python}; export SSL_CERT_FILE={quoted}"
    return f"""
Tandem serves {", ".join(ready.models)}.

  Console    {ready.base_url.removesuffix("/v1")}/console/#key={ready.operator_key}
  Base URL   {ready.base_url}
  API key    {ready.api_key}
  Processes  coordinator {ready.processes.coordinator}, providers {providers}
  Logs       {options.log_dir}{trusted}

Try it in another terminal:

  {_command("chat", options)}

  curl{authority} {ready.base_url}/chat/completions \\
    -H "Authorization: Bearer {ready.api_key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Or in Python ({python}):

  from openai import OpenAI
  client = OpenAI(base_url="{ready.base_url}", api_key="{ready.api_key}")
  answer = client.chat.completions.create(
      model="{model}", messages=[{{"role": "user", "content": "Hello"}}]
  )
  print(answer.choices[0].message.content)

Ctrl-C stops everything."""


def _command(name: str, options: UpOptions) -> str:
    """A command that finds this session, as the user has to type it."""
    program = sys.argv[0]
    if Path(program).name != "tandem" or shutil.which("tandem") == program:
        program = "tandem"
    command = [program, name]
    if options.data_dir != default_data_dir():
        command += ["--data-dir", str(options.data_dir)]
    return shlex.join(command)
