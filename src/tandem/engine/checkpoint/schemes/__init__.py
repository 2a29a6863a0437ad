"""How weights in safetensors are quantised: what stores a matrix, and how to read it."""

from __future__ import annotations
