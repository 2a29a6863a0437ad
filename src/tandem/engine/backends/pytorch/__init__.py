"""PyTorch on CPUs and GPUs."""

from __future__ import annotations
