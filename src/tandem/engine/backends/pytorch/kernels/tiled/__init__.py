"""Weights in tiles of our own, which stay narrow in memory, and products by them on CPUs."""

from __future__ import annotations
