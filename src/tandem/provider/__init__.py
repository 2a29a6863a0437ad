"""A provider: one machine that joins a coordinator and serves a model.

Its configuration is light; `serve` brings the engine with it when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tandem.provider.config import DEFAULT_MAX_SEQUENCES, DEFAULT_SPECULATE, ProviderConfig
from tandem.runtime import on_demand

if TYPE_CHECKING:
    from tandem.provider.service import serve

__all__ = ["DEFAULT_MAX_SEQUENCES", "DEFAULT_SPECULATE", "ProviderConfig", "serve"]

if not TYPE_CHECKING:  # to a type checker a name that is not imported above does not exist
    __getattr__ = on_demand(__name__, {"service": ("serve",)})
