"""The schemes by which weights in safetensors are quantised, by what a `config.json` calls them."""

from __future__ import annotations

from collections.abc import Callable

from tandem.engine.checkpoint.schemes.awq import Awq
from tandem.engine.checkpoint.schemes.bitsandbytes import bitsandbytes
from tandem.engine.checkpoint.schemes.compressed_tensors import CompressedTensors
from tandem.engine.checkpoint.schemes.fp8 import Fp8
from tandem.engine.checkpoint.schemes.gptq import Gptq
from tandem.engine.checkpoint.schemes.mlx import Mlx
from tandem.engine.checkpoint.schemes.mxfp4 import Mxfp4
from tandem.engine.checkpoint.schemes.parts import Scheme
from tandem.engine.checkpoint.schemes.settings import MLX_FIELD, Settings

#: By `quant_method`.
SCHEMES: dict[str, Callable[[Settings], Scheme]] = {
    "awq": Awq,
    "bitsandbytes": bitsandbytes,
    "compressed-tensors": CompressedTensors,
    "fbgemm_fp8": Fp8,
    "fp8": Fp8,
    "gptq": Gptq,
    "mlx": Mlx,
    "modelopt": Fp8,
    "mxfp4": Mxfp4,
}


def find_scheme(settings: Settings) -> Scheme:
    """Raises CheckpointError for an unknown one, and for a kind of it that is not supported."""
    method = settings.values.get("quant_method")
    if settings.field == MLX_FIELD:
        method = "mlx"
    elif method is None and "config_groups" in settings.values:
        method = "compressed-tensors"
    if not isinstance(method, str) or method not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        wanted = f"one of {known}; or use an unquantised checkpoint and --quantize"
        raise settings.unsupported("quant_method", method, wanted)
    return SCHEMES[method](settings)
