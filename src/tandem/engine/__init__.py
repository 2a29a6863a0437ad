"""The inference engine: scheduler, executor, model, tokenizer. It knows no wire and no network."""

from __future__ import annotations

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
from tandem.engine.hub import DEMO_MODEL, model_name, resolve_model
from tandem.engine.load import EngineOptions, LoadedModel, load_engine
from tandem.engine.scheduler import SchedulerLimits
from tandem.engine.sequence import SamplingParams
from tandem.engine.tokenizer import Message, Tokenizer

__all__ = [
    "DEMO_MODEL",
    "Aborted",
    "ChoiceDelta",
    "Completed",
    "Engine",
    "EngineEvent",
    "EngineLimits",
    "EngineLoad",
    "EngineOptions",
    "Finish",
    "GenerationRequest",
    "LoadedModel",
    "LogprobEntry",
    "Message",
    "Progress",
    "SamplingParams",
    "SchedulerLimits",
    "Tokenizer",
    "load_engine",
    "model_name",
    "resolve_model",
]
