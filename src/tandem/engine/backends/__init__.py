"""What computes: one folder a library."""

from __future__ import annotations
