"""FP8 weights: in blocks as DeepSeek and Qwen have them, by rows or tensors as others do."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.schemes.parts import Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.scaled import ACTIVATIONS, read_scaled, scaled_layout
from tandem.engine.checkpoint.schemes.settings import Settings

#: Of blocks where settings do not say, as `transformers` has it.
_BLOCK = (128, 128)


class _Stated(msgspec.Struct, frozen=True):
    weight_block_size: tuple[int, int] | None = None
    quant_algo: str | None = None


class Fp8(Scheme):
    """Also of `fbgemm_fp8`, and of ModelOpt where its algorithm is FP8."""

    suffixes: Mapping[str, str] = {
        "weight": ".weight",
        "inverse": ".weight_scale_inv",
        "scale": ".weight_scale",
    }
    markers = ("inverse", "scale")
    ignored = ACTIVATIONS

    def __init__(self, settings: Settings) -> None:
        stated = settings.read(_Stated)
        block = stated.weight_block_size
        if block is not None and min(block) < 1:
            raise settings.unsupported("weight_block_size", list(block), "numbers above 0")
        if stated.quant_algo not in (None, "FP8"):
            raise settings.unsupported("quant_algo", stated.quant_algo, "'FP8'")
        self._blocks = [block or _BLOCK]

    def layout(self, parts: Parts) -> Layout:
        return scaled_layout(parts, _role(parts), self._blocks, "FP8")

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        return read_scaled(parts, _role(parts), self._blocks, part)


def _role(parts: Parts) -> str:
    """Both are what codes are multiplied by: the inverse is that of what weights were."""
    return "inverse" if "inverse" in parts else "scale"
