"""What every backend offers, and what it is given; devices and dtypes go by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import CacheFormat
from tandem.engine.checkpoint.generation_config import SamplingDefaults
from tandem.engine.checkpoint.sharding import Shard
from tandem.engine.core.communicator import Communicator
from tandem.engine.core.executor import Stage
from tandem.engine.core.tensors import Tensor, TensorOps
from tandem.engine.options import EngineOptions
from tandem.engine.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor


class ModelSetup(msgspec.Struct, frozen=True, kw_only=True):
    """A model directory read as far as planning needs: weights come with `load_stage`.

    `device` is one of the machine's (`cpu`, `cuda:0`, `mps`), `dtype` that of states and weights,
    `kv_cache` how keys and values are kept where it is not that. Not to be `exact`, products of
    float32 states by weights in few bits may keep 16 bits of each.
    `draft` is the smaller model that guesses tokens ahead, where there is one.
    """

    options: EngineOptions
    config: ModelConfig
    sampling: SamplingDefaults
    parameters: int
    tokenizer: Tokenizer
    backend: Backend[Any]
    device: str
    dtype: str
    kv_cache: CacheFormat | None = None
    exact: bool = True
    draft: ModelSetup | None = None


class DeviceFacts(msgspec.Struct, frozen=True):
    """A device for people: its name here and its maker's, `cuda:0 NVIDIA H100`, and its memory."""

    label: str
    memory_bytes: int


class Backend(Protocol[Tensor]):
    """A library that computes models, on the devices that it finds in this machine."""

    @property
    def tensors(self) -> TensorOps[Tensor]:
        """What a link does with tensors of this library."""
        ...

    def devices(self) -> list[str]:
        """The names of the devices that can be used here, the best first; `cpu` is always there."""
        ...

    def describe(self, device: str) -> DeviceFacts:
        """What there is to say about one of `devices`."""
        ...

    def compute_dtype(self, stored: str, device: str) -> str:
        """In what a device computes best a model whose weights are `stored` so."""
        ...

    def use_threads(self, count: int) -> None:
        """How many threads of the CPU compute, from now on and in the whole process."""
        ...

    def free_bytes(self, device: str) -> int:
        """Memory that weights and cache could take there now."""
        ...

    def keeps(self, weight: QuantizedTensor, device: str) -> bool:
        """Whether such weights stay in few bits there, not in numbers of the model's dtype."""
        ...

    def decode_bytes_per_s(self, setup: ModelSetup) -> float:
        """How many bytes of weights one sequence reads a second. Measures for a moment."""
        ...

    def load_stage(
        self,
        setup: ModelSetup,
        shard: Shard,
        group: Communicator[Tensor],
        blocks: int,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Stage[Tensor]:
        """One rank's weights, and a cache of `blocks` blocks. Blocks while it reads.

        `on_progress(layers loaded, layers)` is called after each layer. Raises CheckpointError.
        """
        ...
