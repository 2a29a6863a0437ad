"""A family is added by its description, its model, and a row: here Gemma, as if there were none.

It differs from Llama by more than switches: another activation, norms of 1 + weight, and an
embedding that is scaled. transformers knows it too, so its logits can be compared.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.links import TIMEOUT_S
from tests.support.ranks import running
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tandem.engine import (
    EngineOptions,
    GenerationRequest,
    SamplingParams,
    Solo,
    StepPlan,
    families,
    prepare,
    whole,
)
from tandem.engine.backends.pytorch import models
from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.mlp import GatedMLP
from tandem.engine.backends.pytorch.layers.norm import RMSNorm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.backends.pytorch.models.llama import make_attention
from tandem.engine.backends.pytorch.models.stack import Stack
from tandem.engine.checkpoint.config import CONFIG_FILE, RawConfig, common_fields
from tandem.engine.checkpoint.files import read_json
from tandem.engine.checkpoint.layout import Norm, WeightBytes
from tandem.engine.core.communicator import Communicator
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import Size
from tandem.engine.families.llama import LlamaConfig, LlamaFamily, LlamaLayer
from tandem.engine.families.mlp import MLPTensors
from tandem.engine.families.rope import Rope
from tandem.engine.random_checkpoint import create_checkpoint

# What `families/gemma.py` would be.


class _RawGemma(RawConfig, frozen=True, kw_only=True):
    rms_norm_eps: float


class GemmaFamily(LlamaFamily):
    """Its tensors are called as Llama's are."""

    def read_config(self, architecture: str, directory: Path) -> LlamaConfig:
        raw = read_json(directory / CONFIG_FILE, _RawGemma)
        return LlamaConfig(
            architecture=architecture,
            **common_fields(raw, directory),
            norm_eps=raw.rms_norm_eps,
            ropes=(Rope(theta=1e4, dim=raw.head_dim or 0),) * raw.num_hidden_layers,
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            qk_norm=False,
            embedding_scale=math.sqrt(raw.hidden_size),
            sliding_windows=(None,) * raw.num_hidden_layers,
        )

    def example_config(self, size: Size) -> dict[str, Any]:  # noqa: ARG002
        return {
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e4,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
        }


# What `backends/pytorch/models/gemma.py` would be.


def _gelu(states: torch.Tensor) -> torch.Tensor:
    return functional.gelu(states, approximate="tanh")


class _Block:
    def __init__(
        self,
        config: LlamaConfig,
        layer: LlamaLayer,
        number: int,
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
    ) -> None:
        assert layer.attention_norm is not None
        assert layer.mlp_norm is not None
        self._attention_norm = _norm(config, layer.attention_norm, loader)
        self._attention = make_attention(config, layer.attention, number, loader, group)
        self._mlp_norm = _norm(config, layer.mlp_norm, loader)
        assert isinstance(layer.mlp, MLPTensors)
        gate_up, down = loader.linear(layer.mlp.gate, layer.mlp.up), loader.linear(layer.mlp.down)
        self._mlp = GatedMLP(gate_up, down, group, activation=_gelu)

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        states = states + self._attention(self._attention_norm(states), batch, step, cache)
        return states + self._mlp(self._mlp_norm(states))


def _norm(config: LlamaConfig, norm: Norm, loader: ShardLoader) -> RMSNorm:
    return RMSNorm(1.0 + loader.read(norm.weight), config.norm_eps)


Model = partial(Stack, block=_Block, norm=_norm)


# The test.


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    family = GemmaFamily(name="gemma", model="gemma")
    monkeypatch.setitem(families.FAMILIES, "GemmaForCausalLM", family)
    monkeypatch.setitem(models.MODELS, "gemma", Model)
    shape = Size(4, 48, 80, 8, 4, 16, 389, 256)
    create_checkpoint(tmp_path / "m", family="gemma", size=shape, seed=5, dtype="float32")
    return tmp_path / "m"


@torch.inference_mode()
def test_its_logits_are_those_of_transformers(checkpoint: Path) -> None:
    setup = prepare(EngineOptions(directory=checkpoint, dtype="float32", device="cpu"))
    stage = setup.backend.load_stage(setup, whole(setup.config), Solo(), 8)
    tokens = [3 + number * 7 % 300 for number in range(40)]
    run = stage.begin(StepPlan(1, [SequenceStep(0, tokens, 0, [0, 1, 2], SampleSpec(40))]))
    oracle = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    expected = oracle(torch.tensor([tokens])).logits[0, -1]
    logits = run.logits(run.forward())
    assert logits is not None
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-4)


def _request(name: str, length: int) -> GenerationRequest:
    return GenerationRequest(
        request_id=name,
        prompts=[[3 + (number * 7 + length) % 200 for number in range(length)]],
        samples=1,
        params=SamplingParams(max_tokens=12, temperature=0.0),
        stop=[],
        ignore_eos=True,
        deadline=time.monotonic() + TIMEOUT_S * 3,
    )


def test_it_runs_in_an_engine_and_over_two_ranks(checkpoint: Path, tmp_path: Path) -> None:
    requests = [_request("short", 5), _request("long", 90)]
    with running(checkpoint, "local", 1, tmp_path) as ranks:
        alone = ranks.generate(requests)
    for strategy in ("tp", "pp"):
        with running(checkpoint, strategy, 2, tmp_path / strategy) as ranks:
            assert ranks.generate(requests) == alone, strategy


def test_its_cost_is_known_without_its_weights(checkpoint: Path) -> None:
    config = families.read_config(checkpoint)
    hidden, columns, width, kv_width = 48, 80, 8 * 16, 4 * 16
    layer = hidden * (2 * width + 2 * kv_width + 3 * columns + 2)
    assert families.layer_bytes(config, WeightBytes(2)) == [2 * layer] * 4
    assert families.parameter_count(config) == 4 * layer + 389 * hidden + hidden
    assert families.kv_bytes_per_token(config, "bfloat16") == 2 * 2 * 4 * kv_width
