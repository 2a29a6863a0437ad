"""Builds an engine from a model directory: config, weights, cache, tokenizer, thread."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil
import torch

from tandem.engine.backends.pytorch.layers.attention import BatchBuilder, KVCache
from tandem.engine.backends.pytorch.models.transformer import LoadContext, Transformer
from tandem.engine.backends.pytorch.stage import TorchStage
from tandem.engine.checkpoint.config import ModelConfig, read_config
from tandem.engine.checkpoint.layout import parameter_count, tensor_shapes
from tandem.engine.checkpoint.safetensors import Checkpoint
from tandem.engine.checkpoint.sharding import Shard, whole
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.communicator import Communicator, Solo
from tandem.engine.core.executor import Executor, LocalExecutor
from tandem.engine.core.scheduler import SchedulerLimits
from tandem.engine.engine import Engine, EngineLimits
from tandem.engine.generation import EngineEvent
from tandem.engine.text.tokenizer import Tokenizer
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


class ModelSetup(msgspec.Struct, frozen=True):
    """A model directory read as far as planning needs: the weights come with `load_stage`."""

    options: EngineOptions
    config: ModelConfig
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype


def prepare(options: EngineOptions) -> ModelSetup:
    """Reads config and tokenizer. Raises CheckpointError or ConfigurationError."""
    if options.quantize not in {None, "int8"}:
        raise ConfigurationError(f"quantize is {options.quantize!r}; expected 'int8' or nothing")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    config = read_config(options.directory)
    device = torch.device(options.device)
    dtype = choose_dtype(options.dtype, config, device)
    return ModelSetup(options, config, Tokenizer(options.directory), device, dtype)


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
    stage = load_stage(setup, whole(setup.config), Solo(), blocks, on_progress)
    return start_engine(setup, LocalExecutor(stage), blocks, on_events)


def load_stage(
    setup: ModelSetup,
    shard: Shard,
    group: Communicator[torch.Tensor],
    blocks: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> TorchStage:
    """One rank's weights, read from disk slice by slice, and a cache of `blocks` blocks."""
    config, options = setup.config, setup.options
    with Checkpoint(options.directory, tensor_shapes(config)) as checkpoint:
        context = LoadContext(
            config, shard, checkpoint, setup.dtype, setup.device, options.quantize
        )
        model = Transformer(context, group, on_progress)
    _give_back_memory()
    cache = KVCache(
        config,
        shard,
        blocks=blocks,
        block_size=options.block_size,
        dtype=setup.dtype,
        device=setup.device,
    )
    builder = BatchBuilder(config, shard, options.block_size, setup.dtype, setup.device)
    return TorchStage(model, cache, builder)


def _give_back_memory() -> None:
    """What loading has freed goes back to the system; glibc would keep it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
            eos_token_ids=config.eos_token_ids,
        ),
        scheduling=options.scheduling,
        on_events=on_events,
    )
    return LoadedModel(
        engine,
        config.architecture,
        parameter_count(config),
        config.context_length,
        capacity,
        str(setup.dtype).removeprefix("torch."),
        options.quantize,
    )


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


def default_kv_tokens(setup: ModelSetup) -> int:
    """Every sequence at full context, or a share of the free memory, whichever is less."""
    config, options = setup.config, setup.options
    if options.device.startswith("cuda"):
        free_bytes, _ = torch.cuda.mem_get_info(torch.device(options.device))
    else:
        free_bytes = psutil.virtual_memory().available
    budget = int(free_bytes * _CACHE_SHARE_OF_FREE_MEMORY)
    wanted = config.context_length * options.scheduling.max_sequences
    return max(options.block_size, min(wanted, budget // kv_bytes_per_token(config, setup.dtype)))
