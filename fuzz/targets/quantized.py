"""Quantised weights: JSON of what a `config.json` says, and of a file's tensors.

Each tensor has a dtype and a shape, and may have the bytes that it begins with; the rest of them
are made up.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from typing import Any

import msgspec

from fuzz.folders import new_folder
from tandem.engine.checkpoint.formats import FORMATS
from tandem.engine.checkpoint.sharding import Span
from tandem.errors import TandemError

PREFIX, CODEC = 0, "json"
TOKENS = (
    *("settings", "tensors", "quantization_config", "quantization", "compression_config"),
    *("quant_method", "awq", "gptq", "mlx", "fp8", "fbgemm_fp8", "modelopt", "mxfp4"),
    *("compressed-tensors", "bitsandbytes", "bits", "group_size", "checkpoint_format", "gptq_v2"),
    *("desc_act", "sym", "mode", "affine", "mxfp8", "nvfp4", "weight_block_size", "config_groups"),
    *("format", "pack-quantized", "num_bits", "block_structure", "load_in_8bit", "dynamic"),
    *("m.qweight", "m.qzeros", "m.scales", "m.g_idx", "m.weight", "m.biases", "m.weight_scale"),
    *("m.weight_packed", "m.weight_shape", "m.weight_zero_point", "m.weight_g_idx", "m_blocks"),
    *("m.weight_scale_inv", "m.weight_global_scale", "m_scales", "m.weight.absmax", "m.SCB"),
    *("m.weight.quant_map", "m.weight.nested_absmax", "m.weight.quant_state.bitsandbytes__nf4"),
    *("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I64", "I32", "I8", "U32", "U8"),
)
_WIDTHS = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
}
_MOST_BYTES = 2**16
_FOLDER = new_folder()


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    begins: list[int] = []

    def data(self) -> bytes:
        """Raises ValueError for what is no byte."""
        size = math.prod(self.shape) * _WIDTHS.get(self.dtype, 1)
        made_up = bytes(place * 37 % 251 for place in range(min(max(size, 0), _MOST_BYTES)))
        begins = bytes(self.begins)[: len(made_up)]
        return begins + made_up[len(begins) :]


class _Input(msgspec.Struct, frozen=True):
    settings: dict[str, Any]
    tensors: dict[str, _Tensor]


def run(data: bytes) -> None:
    try:
        drawn = msgspec.json.decode(data, type=_Input)
        parts = {name: tensor.data() for name, tensor in drawn.tensors.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return
    (_FOLDER / "config.json").write_text(json.dumps(drawn.settings), encoding="ascii")
    (_FOLDER / "model.safetensors").write_bytes(_file(drawn, parts))
    try:
        _read_all()
    except TandemError:
        return


def _file(drawn: _Input, parts: dict[str, bytes]) -> bytes:
    ends = list(itertools.accumulate(map(len, parts.values())))
    header = {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
        for (name, tensor), start, end in zip(drawn.tensors.items(), [0, *ends], ends, strict=False)
    }
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + b"".join(parts.values())


def _read_all() -> None:
    source = FORMATS["safetensors"].open(_FOLDER, "numpy")
    try:
        for name in source.files:
            stored = source.stored(name)
            if not stored.quantized:
                continue
            *stack, rows, columns = stored.shape
            part = source.quantized(
                name, Span(rows // 2, rows), Span(columns // 3, columns), 0 if stack else None
            )
            assert part is not None
            assert part.dequantize().shape == (rows - rows // 2, columns - columns // 3)
    finally:
        source.close()
