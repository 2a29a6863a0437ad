"""The `tandem` command."""

from __future__ import annotations

from tandem.cli.main import app, main

__all__ = ["app", "main"]
