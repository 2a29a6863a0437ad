"""The HTTP side: what consumers and providers connect to. Each dialect has a folder of its own."""

from __future__ import annotations

from tandem.coordinator.api.app import build_app, closing_response

__all__ = ["build_app", "closing_response"]
