"""Tandem: machines that people own, joined into one private LLM service."""

from __future__ import annotations

__version__ = "0.1.0"
