"""The HTTP side: OpenAI's requests and answers, in and out. It knows no provider and no wire."""

from __future__ import annotations

from tandem.coordinator.api.app import build_app

__all__ = ["build_app"]
