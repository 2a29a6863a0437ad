"""The inference engine: scheduler, executor, model, tokenizer. It knows no wire and no network.

Importing it imports no library that computes: a backend is found by its name when it is needed.
"""

from __future__ import annotations

from tandem.engine.backends import Backend, DeviceFacts, ModelSetup, find_backend
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import (
    ITEM_BYTES,
    CacheFormat,
    Quantization,
    weight_item_bytes,
)
from tandem.engine.checkpoint.formats import has_few_bits, quantization_settings, weight_files
from tandem.engine.checkpoint.generation_config import SamplingDefaults
from tandem.engine.checkpoint.hub import DEMO_MODEL, model_name, resolve_model
from tandem.engine.checkpoint.sharding import Shard, Span, pipeline_stage, tensor_parallel, whole
from tandem.engine.core.communicator import Communicator, Neighbours, RankGroup, Solo
from tandem.engine.core.executor import Executor, LocalExecutor, Stage, StageRun
from tandem.engine.core.sampling import LogitBias, SamplingOptions
from tandem.engine.core.scheduler import SchedulerLimits
from tandem.engine.core.sequence import SamplingParams
from tandem.engine.core.step import StepPlan, StepResult
from tandem.engine.core.tensors import RawTensor, Tensor, TensorOps
from tandem.engine.engine import Engine, EngineStats
from tandem.engine.families import (
    end_bytes,
    kv_bytes_per_token,
    layer_bytes,
    read_bytes,
    read_config,
    tensor_shapes,
    weigh,
)
from tandem.engine.generation import (
    Aborted,
    ChoiceDelta,
    Completed,
    EngineEvent,
    Finish,
    GenerationRequest,
    LogprobEntry,
    Prefilling,
    Progress,
)
from tandem.engine.inspect import CheckpointSummary, inspect_checkpoint
from tandem.engine.limits import EngineLimits
from tandem.engine.load import (
    CACHE_SHARE,
    LoadedModel,
    default_kv_tokens,
    draft_bytes,
    load_engine,
    prepare,
    speculate_from,
    start_engine,
)
from tandem.engine.options import EngineOptions, Speculate
from tandem.engine.random_checkpoint import SIZES, create_checkpoint
from tandem.engine.text.chat_template import Message
from tandem.engine.text.encoder import PromptEncoder
from tandem.engine.text.limits import TextLimits
from tandem.engine.text.tokenizer import Tokenizer

__all__ = [
    "CACHE_SHARE",
    "DEMO_MODEL",
    "ITEM_BYTES",
    "SIZES",
    "Aborted",
    "Backend",
    "CacheFormat",
    "CheckpointSummary",
    "ChoiceDelta",
    "Communicator",
    "Completed",
    "DeviceFacts",
    "Engine",
    "EngineEvent",
    "EngineLimits",
    "EngineOptions",
    "EngineStats",
    "Executor",
    "Finish",
    "GenerationRequest",
    "LoadedModel",
    "LocalExecutor",
    "LogitBias",
    "LogprobEntry",
    "Message",
    "ModelConfig",
    "ModelSetup",
    "Neighbours",
    "Prefilling",
    "Progress",
    "PromptEncoder",
    "Quantization",
    "RankGroup",
    "RawTensor",
    "SamplingDefaults",
    "SamplingOptions",
    "SamplingParams",
    "SchedulerLimits",
    "Shard",
    "Solo",
    "Span",
    "Speculate",
    "Stage",
    "StageRun",
    "StepPlan",
    "StepResult",
    "Tensor",
    "TensorOps",
    "TextLimits",
    "Tokenizer",
    "create_checkpoint",
    "default_kv_tokens",
    "draft_bytes",
    "end_bytes",
    "find_backend",
    "has_few_bits",
    "inspect_checkpoint",
    "kv_bytes_per_token",
    "layer_bytes",
    "load_engine",
    "model_name",
    "pipeline_stage",
    "prepare",
    "quantization_settings",
    "read_bytes",
    "read_config",
    "resolve_model",
    "speculate_from",
    "start_engine",
    "tensor_parallel",
    "tensor_shapes",
    "weigh",
    "weight_files",
    "weight_item_bytes",
    "whole",
]
