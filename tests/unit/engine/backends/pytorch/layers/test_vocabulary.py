"""Both ends of a decoder: what the head gives away."""

from __future__ import annotations

import pytest
import torch
from tests.support.tensors import random_tensor

from tandem.engine import Solo
from tandem.engine.backends.pytorch.layers.linear import make_linear, make_tied
from tandem.engine.backends.pytorch.layers.vocabulary import Vocabulary
from tandem.engine.checkpoint.dtypes import Quantization
from tandem.engine.checkpoint.sharding import Span

VOCABULARY, HIDDEN = 128, 64


class Ranks(Solo[torch.Tensor]):
    """The first of two ranks; the other one's logits are its own."""

    size = 2
    gathered: torch.Tensor

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        self.gathered = tensor
        return torch.cat([tensor, tensor], dim=-1)


@pytest.mark.parametrize("quantization", [None, *{one.of_head for one in Quantization}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_logits_that_differ_in_float32_differ(
    dtype: torch.dtype, rows: int, quantization: Quantization | None
) -> None:
    """Two tokens whose weights differ in one number by a unit of the last place, as int8 has it."""
    weight = random_tensor(VOCABULARY, HIDDEN, seed=1, dtype=dtype).clamp(-1, 1)
    weight[5, 0] = weight[5, 1] = 1.0
    weight[6] = weight[5]
    weight[6, 1] = 126 / 127
    states = torch.zeros(rows, HIDDEN, dtype=dtype)
    states[:, 0], states[:, 1] = 1.0, 2**-7
    for head in (make_linear(weight, None, quantization), make_tied(weight, quantization)[1]):
        logits = Vocabulary(None, head, Span(0, VOCABULARY), Solo()).logits(states)
        assert logits is not None
        assert logits.dtype == torch.float32
        assert (logits[:, 5] > logits[:, 6]).all()


def test_ranks_gather_logits_in_float32() -> None:
    weight = random_tensor(VOCABULARY, HIDDEN, dtype=torch.bfloat16)
    group = Ranks()
    head = make_linear(weight, None, None)
    vocabulary = Vocabulary(None, head, Span(0, VOCABULARY), group)
    logits = vocabulary.logits(random_tensor(2, HIDDEN, dtype=torch.bfloat16))
    assert group.gathered.dtype == torch.float32
    assert logits is not None
    assert logits.shape == (2, 2 * VOCABULARY)
