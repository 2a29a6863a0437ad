"""A layer's experts as a shard holds them, read from a checkpoint."""

from __future__ import annotations

import torch

from tandem.engine.backends.pytorch.layers.experts import (
    ExpertMLP,
    SharedExpert,
    make_experts,
)
from tandem.engine.backends.pytorch.layers.linear import make_expert_linear
from tandem.engine.backends.pytorch.layers.mlp import Expert, Gating
from tandem.engine.backends.pytorch.layers.router import Float32Linear, Router
from tandem.engine.backends.pytorch.loader import MakeLinear, ShardLoader
from tandem.engine.checkpoint.layout import TensorSpec
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.mlp import ExpertTensors, MLPTensors, Routing


def load_experts(
    tensors: ExpertTensors,
    routing: Routing,
    gating: Gating,
    loader: ShardLoader,
    group: Communicator[torch.Tensor],
) -> ExpertMLP:
    """The whole experts that are this rank's. Raises CheckpointError."""

    def load(mlp: MLPTensors, make: MakeLinear | None = None) -> Expert:
        gate_up = loader.linear(mlp.gate, mlp.up, make=make)
        return Expert(gate_up, loader.linear(mlp.down, make=make), gating)

    held, shared = loader.shard.experts, tensors.shared
    experts = [
        load(expert, make_expert_linear) for expert in tensors.experts[held.start : held.stop]
    ]
    return ExpertMLP(
        _router(tensors, routing, loader),
        make_experts(experts, held.start),
        None if shared is None else _shared(load(shared), tensors, loader),
        group,
    )


def _router(tensors: ExpertTensors, routing: Routing, loader: ShardLoader) -> Router:
    weight, bias, correction = tensors.router.weight, tensors.router.bias, tensors.correction
    return Router(
        _float32_linear(weight, bias, loader),
        routing,
        None if correction is None else loader.read(correction, torch.float32),
    )


def _shared(mlp: Expert, tensors: ExpertTensors, loader: ShardLoader) -> SharedExpert:
    gate = tensors.shared_gate
    return SharedExpert(mlp, None if gate is None else _float32_linear(gate, None, loader))


def _float32_linear(
    weight: TensorSpec, bias: TensorSpec | None, loader: ShardLoader
) -> Float32Linear:
    return Float32Linear(
        loader.read(weight, torch.float32),
        None if bias is None else loader.read(bias, torch.float32),
        loader.dtype,
    )
