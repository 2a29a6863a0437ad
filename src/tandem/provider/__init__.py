"""A provider: one machine that joins a coordinator and serves a model.

`ProviderConfig` is light; `serve` brings the engine with it when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tandem.provider.config import ProviderConfig

if TYPE_CHECKING:
    from tandem.provider.service import serve

__all__ = ["ProviderConfig", "serve"]


def __getattr__(name: str) -> object:
    if name == "serve":
        from tandem.provider.service import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
