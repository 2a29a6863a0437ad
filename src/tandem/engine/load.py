"""Builds an engine from a model directory: config, weights, cache, tokenizer, thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil
import torch

from tandem.engine.block_manager import BlockManager
from tandem.engine.communicator import Solo
from tandem.engine.engine import Engine, EngineLimits
from tandem.engine.executor import LocalExecutor
from tandem.engine.generation import EngineEvent
from tandem.engine.model.attention import BatchBuilder, KVCache
from tandem.engine.model.config import ModelConfig, read_config
from tandem.engine.model.layout import parameter_count, tensor_shapes
from tandem.engine.model.sharding import whole
from tandem.engine.model.transformer import LoadContext, Transformer
from tandem.engine.model.weights import Checkpoint
from tandem.engine.scheduler import SchedulerLimits
from tandem.engine.tokenizer import Tokenizer
from tandem.errors import ConfigurationError

#: Below this size float32 costs nothing that anybody notices, and is exact.
_SMALL_MODEL_PARAMETERS = 100_000_000
_CACHE_SHARE_OF_FREE_MEMORY = 0.3

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`dtype` "auto": see `choose_dtype`. `kv_tokens` None: from the free memory."""

    directory: Path
    dtype: str = "auto"
    quantize: str | None = None
    device: str = "cpu"
    threads: int | None = None
    kv_tokens: int | None = None
    block_size: int = 16
    scheduling: SchedulerLimits = SchedulerLimits()


class LoadedModel(msgspec.Struct, frozen=True):
    """An engine that runs, and what there is to say about its model."""

    engine: Engine
    architecture: str
    parameters: int
    context_length: int
    kv_tokens: int
    dtype: str
    quantization: str | None


def load_engine(
    options: EngineOptions,
    on_events: Callable[[Sequence[EngineEvent]], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> LoadedModel:
    """Blocks while the weights are read. Raises CheckpointError or ConfigurationError."""
    if options.quantize not in {None, "int8"}:
        raise ConfigurationError(f"quantize is {options.quantize!r}; expected 'int8' or nothing")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    config = read_config(options.directory)
    tokenizer = Tokenizer(options.directory)
    device = torch.device(options.device)
    dtype = choose_dtype(options.dtype, config, device)
    kv_tokens = options.kv_tokens or default_kv_tokens(config, dtype, options)
    blocks = BlockManager(max(1, kv_tokens // options.block_size), options.block_size)
    executor = load_executor(config, options, blocks, dtype, device, on_progress)
    capacity = blocks.total * options.block_size
    limits = EngineLimits(
        context_length=config.context_length,
        kv_tokens=capacity,
        vocabulary_size=config.vocab_size,
        eos_token_ids=config.eos_token_ids,
    )
    engine = Engine(
        executor,
        tokenizer,
        blocks,
        limits=limits,
        scheduling=options.scheduling,
        on_events=on_events,
    )
    return LoadedModel(
        engine,
        config.architecture,
        parameter_count(config),
        config.context_length,
        capacity,
        str(dtype).removeprefix("torch."),
        options.quantize,
    )


def load_executor(
    config: ModelConfig,
    options: EngineOptions,
    blocks: BlockManager,
    dtype: torch.dtype,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> LocalExecutor:
    shard = whole(config)
    with Checkpoint(options.directory, tensor_shapes(config)) as checkpoint:
        context = LoadContext(config, shard, checkpoint, dtype, device, options.quantize)
        model = Transformer(context, Solo(), on_progress)
    cache = KVCache(
        config,
        shard,
        blocks=blocks.total,
        block_size=blocks.block_size,
        dtype=dtype,
        device=device,
    )
    builder = BatchBuilder(config, shard, blocks.block_size, dtype, device)
    return LocalExecutor(model, cache, builder)


def choose_dtype(name: str, config: ModelConfig, device: torch.device) -> torch.dtype:
    """`auto`: float32 for a small model, else the checkpoint's dtype where the device computes it.

    Raises ConfigurationError for an unknown name.
    """
    if name != "auto":
        if name not in _DTYPES:
            raise ConfigurationError(f"dtype is {name!r}; expected auto or one of {list(_DTYPES)}")
        return _DTYPES[name]
    if parameter_count(config) < _SMALL_MODEL_PARAMETERS:
        return torch.float32
    if device.type == "cpu" and not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return torch.float32
    # float16 is emulated on CPUs and slow there.
    if device.type == "cpu" and config.dtype == "float16":
        return torch.float32
    return _DTYPES[config.dtype]


def kv_bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one token of context takes, in all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize


def default_kv_tokens(config: ModelConfig, dtype: torch.dtype, options: EngineOptions) -> int:
    """Every sequence at full context, or a share of the free memory, whichever is less."""
    if options.device.startswith("cuda"):
        free_bytes, _ = torch.cuda.mem_get_info(torch.device(options.device))
    else:
        free_bytes = psutil.virtual_memory().available
    budget = int(free_bytes * _CACHE_SHARE_OF_FREE_MEMORY)
    wanted = config.context_length * options.scheduling.max_sequences
    return max(options.block_size, min(wanted, budget // kv_bytes_per_token(config, dtype)))
