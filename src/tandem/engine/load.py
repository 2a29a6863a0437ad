"""From a model directory to an engine that runs: config, tokenizer, device, weights, thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.backends import Backend, ModelSetup, find_backend
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import (
    ITEM_BYTES,
    CacheFormat,
    Quantization,
    weight_item_bytes,
)
from tandem.engine.checkpoint.formats import has_few_bits
from tandem.engine.checkpoint.generation_config import read_sampling_defaults
from tandem.engine.checkpoint.hub import resolve_model
from tandem.engine.checkpoint.sharding import whole
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.communicator import Solo
from tandem.engine.core.executor import Executor, LocalExecutor
from tandem.engine.core.scheduler import Guesser
from tandem.engine.engine import Engine
from tandem.engine.families import (
    end_bytes,
    kv_bytes_per_token,
    layer_bytes,
    parameter_count,
    read_config,
    weigh,
)
from tandem.engine.generation import EngineEvent
from tandem.engine.limits import EngineLimits, end_tokens
from tandem.engine.options import EngineOptions, Speculate
from tandem.engine.speculation import AdaptiveGuesser, DraftLimits, DraftModel, Lookup
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
    kv_cache = options.kv_cache
    wide = (
        options.dtype == "auto" and dtype != "float32" and _computes_wide(config, options, device)
    )
    if wide:
        dtype, kv_cache = "float32", kv_cache or CacheFormat.BFLOAT16
    if config.latent is not None and kv_cache is CacheFormat.INT8:
        raise ConfigurationError(
            f"kv_cache is int8, which {config.architecture} can't have: one scale would be for a "
            "latent and for a rotated key of other sizes; expected bfloat16 or none"
        )
    tokenizer = Tokenizer(options.directory)
    return ModelSetup(
        options=options,
        config=config,
        sampling=read_sampling_defaults(options.directory),
        parameters=parameters,
        tokenizer=tokenizer,
        backend=backend,
        device=device,
        dtype=dtype,
        kv_cache=kv_cache,
        exact=not wide,
        draft=_prepare_draft(options, dtype, kv_cache, tokenizer),
    )


def _computes_wide(config: ModelConfig, options: EngineOptions, device: str) -> bool:
    """Whether states are float32 though weights are not: where a CPU has them in few bits.

    There products keep 16 bits of each state, of whatever it is rounded from; bfloat16 would have
    eight of them. Experts in one call are for bfloat16.
    """
    return device == "cpu" and not config.num_experts and has_few_bits(options.directory)


def _prepare_draft(
    options: EngineOptions, dtype: str, kv_cache: CacheFormat | None, tokenizer: Tokenizer
) -> ModelSetup | None:
    """The model that guesses tokens ahead, if one is named. Raises as `prepare` does.

    It computes in the other's formats, small as it may be: guesses need not be exact.
    """
    if isinstance(options.speculate, Speculate):
        return None
    directory = options.speculate
    draft = prepare(
        msgspec.structs.replace(
            options,
            directory=directory,
            dtype=dtype,
            kv_cache=kv_cache,
            speculate=Speculate.OFF,
        )
    )
    token = tokenizer.disagreement(draft.tokenizer)
    if token is not None:
        raise ConfigurationError(
            f"{directory} cannot guess for {options.directory}: token {token} is "
            f"{draft.tokenizer.token_text(token)!r} in the one and "
            f"{tokenizer.token_text(token)!r} in the other; name a draft model of the same "
            "vocabulary, or --speculate lookup"
        )
    return msgspec.structs.replace(draft, exact=False)


def speculate_from(text: str) -> Speculate | Path:
    """What an operator says: `off`, `lookup`, or a draft model as `resolve_model` takes it."""
    names = [kind.value for kind in Speculate]
    return Speculate(text) if text in names else resolve_model(text)


def load_engine(
    options: EngineOptions,
    on_events: Callable[[Sequence[EngineEvent]], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> LoadedModel:
    """The whole model in this process. Blocks while the weights are read.

    Raises CheckpointError or ConfigurationError.
    """
    setup = prepare(options)
    blocks = max(1, _kv_tokens(setup) // options.block_size)
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
        guesser=make_guesser(setup, blocks),
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


def make_guesser(setup: ModelSetup, blocks: int) -> Guesser | None:
    """Whoever guesses tokens ahead, as the options say; reads a draft model's weights.

    Its cache has as many blocks as the model's, if they fit. Raises CheckpointError.
    """
    if setup.draft is not None:
        return AdaptiveGuesser(_draft_model(setup, setup.draft, blocks))
    return None if setup.options.speculate is Speculate.OFF else AdaptiveGuesser(Lookup())


def _draft_model(setup: ModelSetup, draft: ModelSetup, blocks: int) -> DraftModel:
    size = setup.options.block_size
    blocks = max(1, min(blocks, _kv_tokens(setup) // size))
    stage = draft.backend.load_stage(draft, whole(draft.config), Solo(), blocks)
    limits = DraftLimits(
        vocabulary=draft.config.vocab_size,
        guessable=setup.config.vocab_size,
        context_length=draft.config.context_length,
    )
    return DraftModel(LocalExecutor(stage), BlockManager(blocks, size), limits)


def draft_bytes(setup: ModelSetup) -> int:
    """What a draft model's weights and cache take on this machine; 0 without one."""
    draft = setup.draft
    if draft is None:
        return 0
    config, quantization = draft.config, draft.options.quantization
    each = weight_item_bytes(draft.dtype, quantization)
    keeps = partial(draft.backend.keeps, device=draft.device)
    layers = weigh(config, draft.options.directory, each, keeps)
    ends = msgspec.structs.replace(layers, each=ITEM_BYTES[draft.dtype])
    # Rounded, the head is beside the embedding, which stays as it is.
    tied = config.tie_word_embeddings and quantization is None
    weights = sum(layer_bytes(config, layers)) + end_bytes(config, ends) * (1 if tied else 2)
    return weights + _kv_tokens(setup) * _kv_bytes(draft)


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


def _kv_bytes(setup: ModelSetup) -> int:
    """Of a token."""
    return kv_bytes_per_token(setup.config, setup.dtype, setup.kv_cache)


def _kv_tokens(setup: ModelSetup) -> int:
    return setup.options.kv_tokens or default_kv_tokens(setup)


def default_kv_tokens(setup: ModelSetup) -> int:
    """Every sequence at full context, or a share of the free memory, whichever is less.

    A draft model keeps as many tokens as the model itself, of the same share.
    """
    config, options = setup.config, setup.options
    free_bytes = setup.backend.free_bytes(setup.device)
    token_bytes = sum(_kv_bytes(one) for one in (setup, setup.draft) if one is not None)
    fits = int(free_bytes * CACHE_SHARE) // token_bytes
    wanted = config.context_length * options.scheduling.max_sequences
    return max(options.block_size, min(wanted, fits))
