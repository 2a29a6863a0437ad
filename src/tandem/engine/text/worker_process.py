"""The process that renders and tokenises: `python -m` this module, with a model's directory and
`TextLimits` as JSON.

Jobs come on standard input and answers go to what was standard output, one at a time, until the
input ends. The kernel ends the process when a job takes more processor time than it may, whatever
the job does; so a template that never ends is stopped even when nobody is left to watch. Nothing of
a prompt is logged, printed or dumped.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from tandem.engine.text.jobs import (
    HEADER_BYTES,
    Answer,
    Job,
    Ready,
    Refused,
    Tokenised,
    decode_job,
    frame,
)
from tandem.engine.text.limits import TextLimits
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import InternalError, TandemError


def main(arguments: list[str]) -> None:
    """Serves until its input ends."""
    directory, limits = Path(arguments[0]), msgspec.json.decode(arguments[1], type=TextLimits)
    answers = _own_output()
    for asked in (signal.SIGINT, signal.SIGTERM):  # perhaps of the whole group
        signal.signal(asked, signal.SIG_IGN)  # the parent says when it is over
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # whatever was inherited
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    try:
        tokenizer = Tokenizer(directory)
    except TandemError as error:
        _send(answers, Refused(error.code, error.message))
        return
    _confine(limits.memory_bytes)
    _send(answers, Ready())
    for job in _jobs(sys.stdin.buffer):
        _send(answers, _answer(tokenizer, job, limits))


def _answer(tokenizer: Tokenizer, job: Job, limits: TextLimits) -> Answer:
    try:
        with _processor_time(limits.processor_s(job)):
            return Tokenised.of([_ids(tokenizer, prompt, job) for prompt in job.prompts])
    except TandemError as error:
        return Refused(error.code, error.message, error.param)
    # Whatever a text does to us is its own request's failure.
    except Exception as error:  # noqa: BLE001
        return Refused(
            InternalError.code, "this text could not be tokenised", defect=type(error).__name__
        )


def _ids(tokenizer: Tokenizer, prompt: object, job: Job) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer.encode(prompt, job.most_tokens)
    assert isinstance(prompt, list), "a prompt is a text or a conversation"
    return tokenizer.encode_chat(prompt, job.most_tokens)


@contextmanager
def _processor_time(limit_s: float) -> Iterator[None]:
    """SIGPROF ends the process after so much of its own time, in Python and in libraries alike."""
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _confine(more_bytes: int) -> None:
    """No file is written, a dump neither, and what is allocated beyond what is loaded fails.

    Where the system keeps no limit of memory there is none.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _own_output() -> BinaryIO:
    """Standard output is the parent's to read: what a library prints goes where errors go."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _send(answers: BinaryIO, answer: Answer) -> None:
    answers.write(frame(answer))
    answers.flush()


def _jobs(source: BinaryIO) -> Iterator[Job]:
    while header := source.read(HEADER_BYTES):
        yield decode_job(source.read(int.from_bytes(header, "big")))


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # nobody waits for the answer
        main(sys.argv[1:])
