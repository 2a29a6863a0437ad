"""What a model directory holds: config, tensors, how they are divided, where it comes from."""

from __future__ import annotations
