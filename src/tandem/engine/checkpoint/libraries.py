"""Arrays of what has been decoded here, as tensors of the library that reads a checkpoint."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

#: What makes a tensor of an array, by the names that safetensors has for libraries. They are
#: imported when they are asked for: nothing in this package needs one.
_MAKERS = {"pt": ("torch", "from_numpy"), "mlx": ("mlx.core", "array")}


def as_tensor(numbers: npt.NDArray[np.generic], library: str) -> Any:  # noqa: ANN401 - a library's
    """The same numbers; it may share their memory. `library` is one of `pt`, `mlx`, `numpy`."""
    if library == "numpy":
        return numbers
    module, maker = _MAKERS[library]
    return getattr(import_module(module), maker)(numbers)
