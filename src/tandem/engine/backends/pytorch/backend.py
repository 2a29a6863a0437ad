"""PyTorch as a row of `tandem.engine.backends`: its devices, what suits them, and its stages."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable

import psutil
import torch

from tandem.engine.backends.backend import DeviceFacts, ModelSetup
from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.backends.pytorch.layers.batch import BatchBuilder
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache
from tandem.engine.backends.pytorch.layers.linear import keeps_codes
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.backends.pytorch.models import Decoder, find_model
from tandem.engine.backends.pytorch.speed import decode_bytes_per_s
from tandem.engine.backends.pytorch.stage import TorchStage
from tandem.engine.backends.pytorch.tensors import TorchTensors
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.sharding import Shard
from tandem.engine.core.communicator import Communicator
from tandem.engine.families import family_of, tensor_shapes


class TorchBackend:
    """`tandem.engine.backends.Backend` over CPUs, CUDA and Apple's GPUs."""

    tensors = TorchTensors()

    def devices(self) -> list[str]:
        """CUDA's come in CUDA's own order, which is fastest first."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        apple = ["mps"] if torch.backends.mps.is_available() else []
        return [*(f"cuda:{number}" for number in range(count)), *apple, "cpu"]

    def describe(self, device: str) -> DeviceFacts:
        kind = torch.device(device).type
        if kind == "cuda":
            found = torch.cuda.get_device_properties(device)
            return DeviceFacts(f"{device} {found.name}", int(found.total_memory))
        if kind == "mps":
            return DeviceFacts(device, int(torch.mps.recommended_max_memory()))
        return DeviceFacts(device, int(psutil.virtual_memory().total))

    def compute_dtype(self, stored: str, device: str) -> str:
        kind = torch.device(device).type
        if kind == "cpu":
            packs = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
            # float16 is emulated on CPUs and slow there.
            return stored if packs and stored != "float16" else "float32"
        if stored == "bfloat16" and not _has_bfloat16(kind):
            return "float16"
        return stored

    def use_threads(self, count: int) -> None:
        torch.set_num_threads(count)

    def free_bytes(self, device: str) -> int:
        kind = torch.device(device).type
        if kind == "cuda":
            return int(torch.cuda.mem_get_info(device)[0])
        available = int(psutil.virtual_memory().available)
        if kind == "mps":  # the same memory as the CPU's, of which the GPU may have a part
            limit = torch.mps.recommended_max_memory()
            return min(available, limit - torch.mps.driver_allocated_memory())
        return available

    def keeps(self, weight: QuantizedTensor, device: str) -> bool:
        return keeps_codes(weight, torch.device(device))

    def decode_bytes_per_s(self, setup: ModelSetup) -> float:
        return decode_bytes_per_s(setup)

    def load_stage(
        self,
        setup: ModelSetup,
        shard: Shard,
        group: Communicator[torch.Tensor],
        blocks: int,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> TorchStage:
        config, size = setup.config, setup.options.block_size
        dtype, device = DTYPES[setup.dtype], torch.device(setup.device)
        context = min(config.context_length, blocks * size)
        model = load_model(setup, shard, group, context, on_progress)
        _give_back_memory()
        cache = KVCache(
            config,
            shard,
            blocks=blocks,
            block_size=size,
            dtype=dtype,
            device=device,
            kept=setup.kv_cache,
        )
        builder = BatchBuilder(config, shard, size, dtype, device)
        state = torch.empty(1, config.hidden_size, dtype=dtype, device=device)
        return TorchStage(model, cache, builder, state)


def load_model(
    setup: ModelSetup,
    shard: Shard,
    group: Communicator[torch.Tensor],
    context: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Decoder:
    """One rank's weights, read from disk slice by slice. Raises CheckpointError.

    `context` is what sequences may reach, prompt and output, in tokens.
    """
    config, options = setup.config, setup.options
    family, loaded = family_of(config), itertools.count(1)

    def on_layer() -> None:
        if on_progress is not None:
            on_progress(next(loaded), len(shard.layers))

    names = (tensor_shapes(config), family.ignored(config), family.renamed)
    with open_weights(options.directory, "pt", *names) as weights:
        dtype, device = DTYPES[setup.dtype], torch.device(setup.device)
        loader = ShardLoader(
            shard, weights, dtype, device, options.quantization, context, setup.exact
        )
        make = find_model(family.model)
        return make(config, family.tensors(config), loader, group, on_layer)


def _has_bfloat16(kind: str) -> bool:
    """Whether such GPUs compute it themselves."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mps.is_macos_or_newer(14, 0))


def _give_back_memory() -> None:
    """What loading has freed goes back to the system; glibc would keep it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
