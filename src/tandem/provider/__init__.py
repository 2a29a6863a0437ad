"""A provider: one machine that joins a coordinator and serves a model."""

from __future__ import annotations

from tandem.provider.config import ProviderConfig
from tandem.provider.service import serve

__all__ = ["ProviderConfig", "serve"]
