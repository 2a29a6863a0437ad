"""Prompts to tokens, outside of the process that serves.

A tokenizer holds the interpreter for seconds over some megabytes, and a chat template is a program
from elsewhere that may never end or want all memory: neither can be bounded in a process that has
streams to keep. So both run in a process of their own (`text.worker`). Large texts have another one
than small ones, so that nobody's question waits for somebody's book.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from tandem.engine.text.chat_template import Message
from tandem.engine.text.jobs import Job
from tandem.engine.text.limits import TextLimits
from tandem.engine.text.worker import TextWorker, Tokens


class PromptEncoder:
    """Safe to call from any thread. `close` ends its processes, which start when needed."""

    def __init__(self, directory: Path, limits: TextLimits | None = None) -> None:
        """`directory` is the model's."""
        self._directory = directory
        self._limits = limits or TextLimits()
        self._workers: dict[bool, TextWorker] = {}  # by whether they are for large texts
        self._changing = threading.Lock()

    def start(self) -> None:
        """Starts the process for small texts now, so that the first of them need not wait."""
        self._worker(large=False)

    def encode(self, texts: list[str | list[Message]], most_tokens: int) -> Tokens:
        """The ids of each text. Raises, or the future does, as `TextWorker.submit` says."""
        if not texts:
            nothing: Tokens = Future()
            nothing.set_result([])
            return nothing
        job = Job(texts, most_tokens)
        return self._worker(large=job.size > self._limits.small_bytes).submit(job)

    def close(self) -> None:
        with self._changing:
            for worker in self._workers.values():
                worker.close()

    def _worker(self, *, large: bool) -> TextWorker:
        with self._changing:
            if large not in self._workers:
                self._workers[large] = TextWorker(self._directory, self._limits)
            return self._workers[large]
