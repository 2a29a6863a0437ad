"""One module a family of models."""

from __future__ import annotations
