"""A process that renders and tokenises, as seen from the one that serves.

Jobs are run one at a time, in order, on a process that is started again after it has died: what a
job does to it is that job's failure, and those that wait are run by the next one. A process may be
killed for what is no job's doing, as by a system short of memory: a job has two to die of.
Everything here may be called from any thread.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import msgspec
import structlog

from tandem.engine.text.jobs import (
    HEADER_BYTES,
    Answer,
    Job,
    Ready,
    Refused,
    Tokenised,
    decode_answer,
    frame,
)
from tandem.engine.text.limits import TextLimits
from tandem.errors import (
    InternalError,
    InvalidRequest,
    NoProviderAvailable,
    Overloaded,
    ServiceStopping,
    TandemError,
)

log = structlog.get_logger(__name__)

_MODULE = "tandem.engine.text.worker_process"
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_START_TIMEOUT_S = 60.0
_READ_BYTES = 1 << 20
#: Of an answer beside its tokens.
_NOTICE_BYTES = 1 << 16

Tokens = Future[list[list[int]]]


class _Died(InternalError):
    """A process ended under a job, perhaps because of it."""


class TextWorker:
    """One process and the thread that talks to it. `close` ends both."""

    def __init__(self, directory: Path, limits: TextLimits) -> None:
        """Returns at once: the process starts meanwhile."""
        self._directory = directory
        self._limits = limits
        self._jobs: queue.Queue[tuple[Job, Tokens] | None] = queue.Queue(limits.waiting)
        self._process: _Process | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tokenising", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Tokens:
        """Ids of the job's prompts.

        The future's errors: InvalidRequest and those below it, InternalError, and what is raised
        here too: Overloaded when too many wait, ServiceStopping after `close`; NoProviderAvailable
        while there can be no process.
        """
        if self._closing.is_set():
            raise _stopping()
        answer: Tokens = Future()
        try:
            self._jobs.put_nowait((job, answer))
        except queue.Full:
            raise Overloaded("too many texts wait to be tokenised; retry later") from None
        return answer

    def close(self) -> None:
        """Fails what waits with ServiceStopping, and ends the process."""
        self._closing.set()
        if process := self._process:
            process.kill()
        self._fail_all_waiting()
        self._jobs.put(None)
        self._thread.join()

    # From here on: the worker's thread only.

    def _run(self) -> None:
        self._start_ahead()
        while (entry := self._jobs.get()) is not None:
            job, answer = entry
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(self._ask(job))
            except TandemError as error:
                answer.set_exception(error)
            # A process that cannot be started, say: the next job tries again.
            except Exception as error:
                log.exception("tokenising_failed", error=type(error).__name__)
                self._end()
                answer.set_exception(_not_here())
        self._end()
        self._fail_all_waiting()

    def _start_ahead(self) -> None:
        """So that the first request does not wait for it; a failure shows with that one."""
        try:
            self._live_process()
        except ServiceStopping:
            return
        except (OSError, TandemError) as error:
            log.error("tokenising_process_failed", error=str(error))  # noqa: TRY400 - it is known

    def _ask(self, job: Job) -> list[list[int]]:
        try:
            answer = self._exchange(job)
        except _Died:
            answer = self._exchange(job)
        if isinstance(answer, Tokenised):
            return answer.prompts()
        assert isinstance(answer, Refused), "a process says that it is ready once"
        if answer.defect is not None:
            log.error("text_broke_tokenising", error=answer.defect)
        raise answer.to_error()

    def _exchange(self, job: Job) -> Answer:
        """Raises _Died when it is not known of what, or what the end of the process means."""
        if self._closing.is_set():
            raise _stopping()
        process = self._live_process()
        limit_s = self._limits.processor_s(job)
        try:
            return process.ask(job, limit_s + self._limits.wall_s)
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            self._end()
            raise self._meaning(process, error, limit_s) from error

    def _live_process(self) -> _Process:
        """The one that there is, or another where that one has died while nobody asked it."""
        if self._process is not None and self._process.is_alive:
            return self._process
        self._end()
        self._process = process = _Process(self._directory, self._limits)
        # `close` ends it from now on; one that came before has found none to end.
        try:
            if self._closing.is_set():
                raise _stopping()
            process.wait_ready()
        except TandemError:
            self._end()
            if self._closing.is_set():
                raise _stopping() from None
            raise
        return process

    def _meaning(self, process: _Process, error: Exception, limit_s: float) -> TandemError:
        """What the death of a process says of the job that it had."""
        if self._closing.is_set():
            return _stopping()
        if process.died_of == signal.SIGPROF:
            return InvalidRequest(
                "rendering and tokenising this prompt took more than the "
                f"{limit_s:.3g} s of processor time that it may; send less, or other text",
                param="prompt",
            )
        log.error("tokenising_process_died", status=process.died_of, error=type(error).__name__)
        if isinstance(error, TimeoutError):
            return Overloaded("this machine is too busy to tokenise; retry later")
        return _Died("the process that tokenises died of this prompt")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _fail_all_waiting(self) -> None:
        while True:
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                return
            if entry is not None and entry[1].set_running_or_notify_cancel():
                entry[1].set_exception(_stopping())


def _stopping() -> ServiceStopping:
    return ServiceStopping("the provider is stopping; retry elsewhere")


def _not_here() -> NoProviderAvailable:
    """No fault of the request: it may be tokenised elsewhere."""
    return NoProviderAvailable("this provider cannot tokenise just now; its log has the reason")


class _Process:
    """The process and its two pipes. `died_of` is its signal, once it has ended."""

    def __init__(self, directory: Path, limits: TextLimits) -> None:
        """Raises OSError."""
        self.died_of = 0
        arguments = [str(directory.absolute()), msgspec.json.encode(limits).decode()]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Panics print what they were given: nothing of a prompt goes to a log.
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)

    def wait_ready(self) -> None:
        """Until the tokenizer is loaded. Raises NoProviderAvailable, or why it is not."""
        try:
            answer = self._receive(time.monotonic() + _START_TIMEOUT_S, _NOTICE_BYTES)
        except (EOFError, TimeoutError):
            raise _not_here() from None
        if isinstance(answer, Refused):
            raise answer.to_error()
        assert isinstance(answer, Ready), "it first says that it is ready"

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: Job, timeout_s: float) -> Answer:
        """Raises EOFError or BrokenPipeError when the process has died, and TimeoutError."""
        deadline = time.monotonic() + timeout_s
        rest = memoryview(frame(job))
        while rest:
            _wait(self._input, select.POLLOUT, deadline)
            rest = rest[os.write(self._input, rest) :]
        return self._receive(deadline, _NOTICE_BYTES + job.most_answer_bytes)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Ends the process, whatever it does, and closes the pipes."""
        self._process.kill()
        with self._process:  # closes the pipes and waits
            pass
        self.died_of = -self._process.returncode

    def _receive(self, deadline: float, most_bytes: int) -> Answer:
        size = int.from_bytes(self._read(HEADER_BYTES, deadline), "big")
        if size > most_bytes:
            raise EOFError("what it begins is no answer: nothing else is read of it")
        return decode_answer(self._read(size, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < size:
            _wait(self._output, select.POLLIN, deadline)
            piece = os.read(self._output, min(_READ_BYTES, size - len(found)))
            if not piece:
                raise EOFError
            found += piece
        return bytes(found)


def _environment() -> dict[str, str]:
    """What finding libraries and telling the time needs: no secret that was handed down."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _wait(descriptor: int, what: int, deadline: float) -> None:
    """Until it can be read or written, or is broken. Raises TimeoutError at the deadline."""
    poller = select.poll()
    poller.register(descriptor, what)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
