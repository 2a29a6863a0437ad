"""Scheduling as plain rules and data: no tensors, no threads, no I/O."""

from __future__ import annotations
