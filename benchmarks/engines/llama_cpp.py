"""llama.cpp on the same weights, through llama-cpp-python's C interface."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.engines.gguf_files import converted
from tandem.bench import CONTEXT, MAX_BATCH, Generator, Job, Times
from tandem.errors import ConfigurationError

_PREFILL_ROWS = 512

Row = tuple[int, int, int, bool]
Floats = npt.NDArray[np.float32]


def bf16(job: Job) -> Generator:
    return LlamaCpp(converted(job, "BF16"), job.threads)


def q8_0(job: Job) -> Generator:
    return LlamaCpp(converted(job, "Q8_0"), job.threads)


def q4_k_m(job: Job) -> Generator:
    return LlamaCpp(mixed_four_bits(job), job.threads)


def mixed_four_bits(job: Job) -> Path:
    """The checkpoint as llama.cpp itself makes Q4_K_M of it. Raises ConfigurationError."""
    from llama_cpp import llama_cpp as api

    quiet = api.llama_log_callback(lambda *_: None)
    api.llama_log_set(quiet, None)
    source, path = converted(job, "BF16"), job.scratch / "Q4_K_M.gguf"
    wanted = api.llama_model_quantize_default_params()
    wanted.ftype, wanted.nthread = api.LLAMA_FTYPE_MOSTLY_Q4_K_M, job.threads
    if api.llama_model_quantize(str(source).encode(), str(path).encode(), wanted) != 0:
        raise ConfigurationError(f"llama.cpp cannot make four bits of {source}")
    return path


class LlamaCpp:
    def __init__(self, path: Path, threads: int) -> None:
        from llama_cpp import llama_cpp as api

        self._api = api
        self._quiet = api.llama_log_callback(lambda *_: None)  # kept, or it would be freed
        api.llama_log_set(self._quiet, None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        # Its AMX buffers crash on the first step of some builds; they hold no bf16 anyway.
        options.use_extra_bufts = path.stem != "Q8_0"
        self._model = api.llama_model_load_from_file(str(path).encode(), options)
        settings = api.llama_context_default_params()
        settings.n_ctx = MAX_BATCH * CONTEXT
        settings.n_batch = settings.n_ubatch = _PREFILL_ROWS
        settings.n_seq_max = MAX_BATCH
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self._context = api.llama_init_from_model(self._model, settings)
        if not self._model or not self._context:
            raise ConfigurationError(f"llama.cpp cannot load {path}")
        self._batch = api.llama_batch_init(_PREFILL_ROWS, 0, MAX_BATCH)
        self._vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        self.forget()
        began = time.perf_counter()
        rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        newest: list[int] = []
        for start in range(0, len(rows), _PREFILL_ROWS):
            newest += self._likeliest(rows[start : start + _PREFILL_ROWS])
        first_at = time.perf_counter()
        position = len(prompts[0])
        for step in range(tokens - 1):
            newest = self._likeliest(
                [(token, position + step, index, True) for index, token in enumerate(newest)]
            )
        return Times(first_at - began, time.perf_counter() - first_at)

    def forget(self) -> None:
        """Empties the cache."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)

    def decode(self, rows: Sequence[Row]) -> Iterator[Floats]:
        """Runs rows of (token, position, sequence, wanted); the logits of the wanted.

        Each stands until the next one, (vocabulary,).
        """
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted
        if self._api.llama_decode(self._context, batch) != 0:
            raise ConfigurationError("llama.cpp failed on a step")
        for index, row in enumerate(rows):
            if row[3]:
                logits = self._api.llama_get_logits_ith(self._context, index)
                yield np.ctypeslib.as_array(logits, (self._vocabulary,))

    def _likeliest(self, rows: Sequence[Row]) -> list[int]:
        return [int(np.argmax(logits)) for logits in self.decode(rows)]
