"""The decoder: config, layout, sharding, weights, layers."""

from __future__ import annotations
