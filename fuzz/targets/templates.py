"""A chat template, a zero byte, and what a user says to it.

What takes too much processor time is ended here as the process that renders is ended by the kernel.
"""

from __future__ import annotations

import signal
from pathlib import Path

from tandem.engine.text.chat_template import ChatTemplate, Message
from tandem.errors import CheckpointError, InvalidRequest

PREFIX, CODEC = 0, None
TOKENS = (
    *("{{", "}}", "{%", "%}", "{#", "#}", "{%- ", " -%}", "for", "endfor", "if", "elif", "else"),
    *("endif", "set", "endset", "macro", "endmacro", "generation", "endgeneration", "break"),
    *("continue", "messages", "message", "role", "content", "tools", "documents", "loop.index0"),
    *("loop.first", "loop.last", "namespace", "raise_exception", "strftime_now", "bos_token"),
    *("add_generation_prompt", "is defined", "is string", "is none", "| tojson", "| trim"),
    *("| length", "| join", "| upper", "| items", "| selectattr", ".split(", ".startswith("),
    *("range(", "[::-1]", "not", "and", "in", "~", "+", "*", "//", "%", "==", "'user'", "call"),
    *("include", "import", "extends", "block", "__class__", "self", "filter", "with", "recursive"),
)
_SECONDS = 0.2
_NOWHERE = Path("templates")


class _Spent(BaseException):
    """The time is up; nothing of ours may take this for an error of the template."""


def _stop(*_: object) -> None:
    raise _Spent


signal.signal(signal.SIGVTALRM, _stop)


def run(data: bytes) -> None:
    source, _, said = data.decode("utf-8", "replace").partition("\0")
    messages = [
        Message("system", "Be brief."),
        Message("user", said),
        Message("assistant", "4", name="a"),
        Message("user", said[::-1]),
    ]
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    try:
        template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}, _NOWHERE)
        template.render(messages, 65536)
    except (CheckpointError, InvalidRequest, _Spent):
        return
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
