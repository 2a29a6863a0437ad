"""From a model directory to an engine that runs: config, tokenizer, device, weights, thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tandem.engine.backends import Backend, ModelSetup, find_backend
from tandem.engine.checkpoint.dtypes import ITEM_BYTES, Quantization
from tandem.engine.checkpoint.generation_config import read_sampling_defaults
from tandem.engine.checkpoint.sharding import whole
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.communicator import Solo
from tandem.engine.core.executor import Executor, LocalExecutor
from tandem.engine.core.scheduler import Guesser
from tandem.engine.engine import Engine
from tandem.engine.families import kv_bytes_per_token, parameter_count, read_config
from tandem.engine.generation import EngineEvent
from tandem.engine.limits import EngineLimits, end_tokens
from tandem.engine.options import EngineOptions, Speculate
from tandem.engine.speculation import AdaptiveGuesser, Lookup
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import ConfigurationError

#: Below this size float32 costs nothing that anybody notices, and is exact.
_SMALL_MODEL_PARAMETERS = 100_000_000
#: Of the memory that is free, or that weights leave free, what the KV cache may take.
CACHE_SHARE = 0.3


class LoadedModel(msgspec.Struct, frozen=True):
    """An engine that runs, and what there is to say about its model."""

    engine: Engine
    architecture: str
    parameters: int
    context_length: int
    kv_tokens: int
    dtype: str
    quantization: Quantization | None


def prepare(options: EngineOptions) -> ModelSetup:
    """Reads config and tokenizer, chooses device and dtype.

    Raises CheckpointError or ConfigurationError.
    """
    backend = find_backend(options.backend)
    if options.threads is not None:
        backend.use_threads(options.threads)
    config = read_config(options.directory)
    device = choose_device(options.device, backend.devices())
    parameters = parameter_count(config)
    small = parameters < _SMALL_MODEL_PARAMETERS
    dtype = choose_dtype(options.dtype, config.dtype, device, backend, small=small)
    return ModelSetup(
        options=options,
        config=config,
        sampling=read_sampling_defaults(options.directory),
        parameters=parameters,
        tokenizer=Tokenizer(options.directory),
        backend=backend,
        device=device,
        dtype=dtype,
    )


def load_engine(
    options: EngineOptions,
    on_events: Callable[[Sequence[EngineEvent]], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> LoadedModel:
    """The whole model in this process. Blocks while the weights are read.

    Raises CheckpointError or ConfigurationError.
    """
    setup = prepare(options)
    kv_tokens = options.kv_tokens or default_kv_tokens(setup)
    blocks = max(1, kv_tokens // options.block_size)
    shard = whole(setup.config)
    stage = setup.backend.load_stage(setup, shard, Solo(), blocks, on_progress)
    return start_engine(setup, LocalExecutor(stage), blocks, on_events)


def start_engine(
    setup: ModelSetup,
    executor: Executor,
    blocks: int,
    on_events: Callable[[Sequence[EngineEvent]], None],
) -> LoadedModel:
    """The engine's thread over an executor whose ranks all hold `blocks` blocks."""
    config, options = setup.config, setup.options
    capacity = blocks * options.block_size
    engine = Engine(
        executor,
        setup.tokenizer,
        BlockManager(blocks, options.block_size),
        limits=EngineLimits(
            context_length=config.context_length,
            kv_tokens=capacity,
            vocabulary_size=config.vocab_size,
            eos_token_ids=end_tokens(config, setup.tokenizer),
        ),
        scheduling=options.scheduling,
        guesser=make_guesser(options),
        on_events=on_events,
    )
    return LoadedModel(
        engine,
        config.architecture,
        setup.parameters,
        config.context_length,
        capacity,
        setup.dtype,
        options.quantization,
    )


def make_guesser(options: EngineOptions) -> Guesser | None:
    """Whoever guesses tokens ahead, as the options say."""
    return None if options.speculate is Speculate.OFF else AdaptiveGuesser(Lookup())


def choose_device(wanted: str, available: Sequence[str]) -> str:
    """`wanted` as one of `available`, best first: `auto` is the best one, `cuda` the best of CUDA.

    Raises ConfigurationError that names what is available.
    """
    for device in available:
        if wanted in {"auto", device, device.partition(":")[0]}:
            return device
    raise ConfigurationError(
        f"device is {wanted!r}; available here: {', '.join(['auto', *available])}"
    )


def choose_dtype(
    wanted: str, stored: str, device: str, backend: Backend[Any], *, small: bool
) -> str:
    """`auto`: float32 for a small model, else what suits the stored dtype and the device.

    Raises ConfigurationError for an unknown name.
    """
    if wanted == "auto":
        return "float32" if small else backend.compute_dtype(stored, device)
    if wanted not in ITEM_BYTES:
        raise ConfigurationError(f"dtype is {wanted!r}; expected auto or one of {list(ITEM_BYTES)}")
    return wanted


def default_kv_tokens(setup: ModelSetup) -> int:
    """Every sequence at full context, or a share of the free memory, whichever is less."""
    config, options = setup.config, setup.options
    free_bytes = setup.backend.free_bytes(setup.device)
    fits = int(free_bytes * CACHE_SHARE) // kv_bytes_per_token(config, setup.dtype)
    wanted = config.context_length * options.scheduling.max_sequences
    return max(options.block_size, min(wanted, fits))
