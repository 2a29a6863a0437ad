"""GGUF files as the format's own library writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter

Array = npt.NDArray[Any]


def quantised(numbers: Array, kind: str) -> tuple[Array, GGMLQuantizationType]:
    """float32 numbers as the library rounds them to a type; it can do so for some types only."""
    from gguf.quants import quantize

    of_kind = GGMLQuantizationType[kind]
    return quantize(numbers.astype(np.float32), of_kind), of_kind


def write_gguf(
    path: Path,
    architecture: str,
    fields: Mapping[str, Any],
    tensors: Mapping[str, Array | tuple[Array, GGMLQuantizationType]],
    **options: Any,  # noqa: ANN401 - the library's own
) -> Path:
    """Field values are written by their Python type; numbers of arrays by NumPy's."""
    writer = GGUFWriter(path, architecture, **options)
    for key, value in fields.items():
        _add_field(writer, key, value)
    for name, tensor in tensors.items():
        data, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_field(writer: GGUFWriter, key: str, value: Any) -> None:  # noqa: ANN401
    if key == "general.alignment":
        writer.add_custom_alignment(value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
