"""Makes layers of a checkpoint's tensors: each is read as the slice that this rank holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tandem.engine.backends.pytorch.layers.linear import (
    Embedding,
    JoinedLinear,
    Linear,
    make_embedding,
    make_linear,
    make_quantized_linear,
    make_quantized_tied,
    make_tied,
)
from tandem.engine.backends.pytorch.layers.quantized import QuantizedEmbedding
from tandem.engine.backends.pytorch.layers.rotary import Rotary
from tandem.engine.backends.pytorch.layers.vocabulary import Vocabulary
from tandem.engine.checkpoint.dtypes import Quantization
from tandem.engine.checkpoint.layout import DecoderTensors, Layer, Place, Projection, TensorSpec
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor, stacked
from tandem.engine.checkpoint.sharding import Shard
from tandem.engine.checkpoint.weights import WeightSource
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.rope import Rope

MakeLinear = Callable[[torch.Tensor, torch.Tensor | None, Quantization | None], Linear]


@dataclass(frozen=True)
class ShardLoader:
    """What every layer needs to load its part.

    `context` is what sequences may reach, prompt and output, in tokens. Products by weights in few
    bits keep all of float32 states if they are to be `exact`.
    """

    shard: Shard
    weights: WeightSource[torch.Tensor]
    dtype: torch.dtype
    device: torch.device
    quantization: Quantization | None
    context: int
    exact: bool = True

    def read(self, spec: TensorSpec, dtype: torch.dtype | None = None) -> torch.Tensor:
        """What the rank holds of it, in the model's dtype if no other one is asked for."""
        rows, columns = self.shard.part(spec)
        place = spec.place or Place(spec.shape)
        if place.transposed:
            tensor = self.weights.read(spec.name, columns, rows, spec.entry).T
        else:
            tensor = self.weights.read(spec.name, rows, columns, spec.entry)
        tensor = tensor[:: place.every]
        if spec.pairs is not None:
            axis = spec.pairs.axis
            order = torch.tensor(spec.pairs.halved(tensor.shape[axis]))
            tensor = tensor.index_select(axis, order)
        # A copy: a view would keep the whole file mapped, and every page of it that was touched.
        return tensor.to(dtype or self.dtype, copy=True).contiguous().to(self.device)

    def linear(self, *projections: Projection, make: MakeLinear | None = None) -> Linear:
        """One linear map that stacks the outputs of the projections, in this order.

        What a file has in few bits stays that, whatever `quantization` says.
        """
        if len({projection.bias is None for projection in projections}) > 1:
            return JoinedLinear([self.linear(projection) for projection in projections])
        stored = [self._quantized(projection.weight) for projection in projections]
        if all(part is None for part in stored):
            # No part is kept beside what they are stacked to: packing it takes memory enough.
            weight = _stacked([self.read(projection.weight) for projection in projections])
            make = make or make_linear
            return make(weight, self._biases(projections), self.quantization)
        whole = stacked([part for part in stored if part is not None])
        if whole is not None and None not in stored:
            return make_quantized_linear(
                whole, self._biases(projections), self.dtype, self.device, exact=self.exact
            )
        parts = [self.linear(projection, make=make) for projection in projections]
        return JoinedLinear(parts)

    def rotary(self, ropes: Sequence[Rope | None]) -> Rotary:
        """Of the shard's layers; `ropes` are those of all."""
        layers = self.shard.layers
        own = ropes[layers.start : layers.stop]
        return Rotary(own, self.context, self.dtype, self.device)

    def vocabulary(
        self, tensors: DecoderTensors[Layer], group: Communicator[torch.Tensor]
    ) -> Vocabulary:
        """What the shard has of the embedding and the head."""
        embedding, head = self._ends(tensors)
        return Vocabulary(embedding, head, self.shard.vocabulary, group)

    def _quantized(self, spec: TensorSpec) -> QuantizedTensor | None:
        stored = self.weights.quantized(spec.name, *self.shard.part(spec), spec.entry)
        if stored is not None and spec.place is not None and spec.place.every > 1:
            stored = stored.rows(slice(None, None, spec.place.every))
        if stored is None or spec.pairs is None:
            return stored
        return stored.rows(np.array(spec.pairs.halved(stored.shape[0])))

    def _biases(self, projections: Sequence[Projection]) -> torch.Tensor | None:
        biases = [bias for one in projections if (bias := self._bias(one)) is not None]
        return _stacked(biases) if biases else None

    def _bias(self, projection: Projection) -> torch.Tensor | None:
        """Where ranks divide the inputs the first one adds the bias: the sum has it once."""
        _, inputs = self.shard.part(projection.weight)
        if projection.bias is None or (inputs is not None and inputs.start > 0):
            return None
        return self.read(projection.bias)

    def _ends(self, tensors: DecoderTensors[Layer]) -> tuple[Embedding | None, Linear | None]:
        embeds, has_head = self.shard.embeds, self.shard.has_head
        tied = tensors.head is None and embeds and has_head
        if tied and (stored := self._quantized(tensors.embedding)) is not None:
            return make_quantized_tied(stored, self.dtype, self.device, exact=self.exact)
        if tied:
            return make_tied(self.read(tensors.embedding), self._of_head.quantization)
        head = Projection(tensors.head or tensors.embedding, None)
        return (
            self._embedding(tensors.embedding) if embeds else None,
            self._of_head.linear(head) if has_head else None,
        )

    @property
    def _of_head(self) -> ShardLoader:
        """Of the head, which may be kept in more bits than other linear maps."""
        quantization = None if self.quantization is None else self.quantization.of_head
        return replace(self, quantization=quantization)

    def _embedding(self, spec: TensorSpec) -> Embedding:
        stored = self._quantized(spec)
        if stored is not None:
            return QuantizedEmbedding(stored, self.dtype, self.device)
        return make_embedding(self.read(spec))


def _stacked(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
