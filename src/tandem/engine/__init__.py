"""The inference engine: scheduler, executor, model, tokenizer. It knows no wire and no network."""

from __future__ import annotations

from tandem.engine.backends.pytorch.load import (
    EngineOptions,
    LoadedModel,
    ModelSetup,
    default_kv_tokens,
    kv_bytes_per_token,
    load_engine,
    load_stage,
    prepare,
    start_engine,
)
from tandem.engine.backends.pytorch.speed import decode_bytes_per_s
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.hub import DEMO_MODEL, model_name, resolve_model
from tandem.engine.checkpoint.layout import layer_prefix, parameter_count, tensor_shapes
from tandem.engine.checkpoint.sharding import Shard, Span, pipeline_stage, tensor_parallel, whole
from tandem.engine.core.communicator import Communicator, Solo
from tandem.engine.core.executor import Executor, LocalExecutor, Stage
from tandem.engine.core.scheduler import SchedulerLimits
from tandem.engine.core.sequence import SamplingParams
from tandem.engine.core.step import StepPlan, StepResult
from tandem.engine.engine import Engine, EngineLimits, EngineLoad
from tandem.engine.generation import (
    Aborted,
    ChoiceDelta,
    Completed,
    EngineEvent,
    Finish,
    GenerationRequest,
    LogprobEntry,
    Progress,
)
from tandem.engine.text.tokenizer import Message, Tokenizer

__all__ = [
    "DEMO_MODEL",
    "Aborted",
    "ChoiceDelta",
    "Communicator",
    "Completed",
    "Engine",
    "EngineEvent",
    "EngineLimits",
    "EngineLoad",
    "EngineOptions",
    "Executor",
    "Finish",
    "GenerationRequest",
    "LoadedModel",
    "LocalExecutor",
    "LogprobEntry",
    "Message",
    "ModelConfig",
    "ModelSetup",
    "Progress",
    "SamplingParams",
    "SchedulerLimits",
    "Shard",
    "Solo",
    "Span",
    "Stage",
    "StepPlan",
    "StepResult",
    "Tokenizer",
    "decode_bytes_per_s",
    "default_kv_tokens",
    "kv_bytes_per_token",
    "layer_prefix",
    "load_engine",
    "load_stage",
    "model_name",
    "parameter_count",
    "pipeline_stage",
    "prepare",
    "resolve_model",
    "start_engine",
    "tensor_parallel",
    "tensor_shapes",
    "whole",
]
