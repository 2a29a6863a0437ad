"""Tandem's engine beside others, and what its tokens depend on."""

from __future__ import annotations
