"""Standard streams as a process may find them: closed, for ASCII only, fed with what is no text."""

from __future__ import annotations

import io
import os
import sys

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


def prepare_standard_streams() -> None:
    """Makes all three usable, before anything else is opened.

    A closed one becomes the null device, for else the next file or socket would take its number,
    and what is meant for the stream would go there. What comes in and is no text is read as U+FFFD;
    what the other side's alphabet lacks is written as an escape sequence.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERRORS):
        _open_if_closed(descriptor)
    # Python has None in place of a stream that it found closed.
    sys.stdin = sys.stdin or _text_stream(_INPUT, "r")
    sys.stdout = sys.stdout or _text_stream(_OUTPUT, "w")
    sys.stderr = sys.stderr or _text_stream(_ERRORS, "w")
    for stream, errors in (
        (sys.stdin, "replace"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _text_stream(descriptor: int, mode: str) -> io.TextIOWrapper:
    stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays
    assert isinstance(stream, io.TextIOWrapper)
    return stream
