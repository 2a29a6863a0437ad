"""PyTorch as a row of `tandem.engine.backends`: its devices, what suits them, and its stages."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import psutil
import torch

from tandem.engine.backends.backend import DeviceFacts, ModelSetup
from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.backends.pytorch.layers.attention import BatchBuilder, KVCache
from tandem.engine.backends.pytorch.models.transformer import LoadContext, Transformer
from tandem.engine.backends.pytorch.speed import decode_bytes_per_s
from tandem.engine.backends.pytorch.stage import TorchStage
from tandem.engine.backends.pytorch.tensors import TorchTensors
from tandem.engine.checkpoint.layout import tensor_shapes
from tandem.engine.checkpoint.safetensors import Checkpoint
from tandem.engine.checkpoint.sharding import Shard
from tandem.engine.core.communicator import Communicator


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
        config, options = setup.config, setup.options
        dtype, device = DTYPES[setup.dtype], torch.device(setup.device)
        with Checkpoint(options.directory, tensor_shapes(config)) as checkpoint:
            context = LoadContext(config, shard, checkpoint, dtype, device, options.quantize)
            model = Transformer(context, group, on_progress)
        _give_back_memory()
        size = options.block_size
        cache = KVCache(config, shard, blocks=blocks, block_size=size, dtype=dtype, device=device)
        return TorchStage(model, cache, BatchBuilder(config, shard, size, dtype, device))


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
