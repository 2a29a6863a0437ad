"""The schemes by which weights in safetensors are quantised, by what a `config.json` calls them."""

from __future__ import annotations

from collections.abc import Callable

from tandem.engine.checkpoint.schemes.awq import Awq
from tandem.engine.checkpoint.schemes.gptq import Gptq
from tandem.engine.checkpoint.schemes.mlx import Mlx
from tandem.engine.checkpoint.schemes.parts import Scheme
from tandem.engine.checkpoint.schemes.settings import MLX_FIELD, Settings

#: By `quant_method`.
SCHEMES: dict[str, Callable[[Settings], Scheme]] = {
    "awq": Awq,
    "gptq": Gptq,
    "mlx": Mlx,
}


def find_scheme(settings: Settings) -> Scheme:
    """Raises CheckpointError for an unknown one, and for a kind of it that is not supported."""
    method = settings.values.get("quant_method")
    if settings.field == MLX_FIELD:
        method = "mlx"
    if not isinstance(method, str) or method not in SCHEMES:
        raise settings.unsupported("quant_method", method, f"one of {', '.join(sorted(SCHEMES))}")
    return SCHEMES[method](settings)
